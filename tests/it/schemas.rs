//! Which schema an event is written with: the latest that fits, the one that is named, the one that
//! was registered a moment ago.

use serde_json::{Value, json};
use walpost_tests::World;
use walpost_tests::avro::Decoder;
use walpost_tests::oracle::Form;

fn versioned(fields: Value) -> Value {
    json!({"type": "record", "name": "V", "namespace": "test", "fields": fields})
}

fn first() -> Value {
    versioned(json!([{"name": "n", "type": "long"}]))
}

fn second() -> Value {
    versioned(json!([{"name": "n", "type": "long"},
        {"name": "extra", "type": ["null", "string"], "default": null}]))
}

fn third() -> Value {
    versioned(json!([{"name": "n", "type": "long"}, {"name": "must", "type": "string"}]))
}

/// The schema id of each record, in the order of its one partition.
fn ids(world: &World) -> Vec<u32> {
    let records = world.records();
    records.iter().filter_map(|record| Decoder::id(record.value.as_deref()?)).collect()
}

#[test]
fn a_payload_that_does_not_fit_the_latest_version_takes_the_newest_that_fits() {
    let world = World::avro("fallback");
    let subject = world.subject("v", "test.V");
    let one = world.registry.register(&subject, &first());
    let two = world.registry.register(&subject, &second());
    let three = world.registry.register(&subject, &third());
    let relay = world.streaming();
    world.write(("v", "1"), "test.V", "'{\"must\": \"new\"}'");
    world.write(("v", "1"), "test.V", "'{}'");
    world.write(("v", "1"), "test.V", "'{\"extra\": \"x\"}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Avro(&world.decoder())).assert_exact();
    assert_eq!(ids(&world), [three, two, two], "never {one}: a newer one fits");
}

#[test]
fn a_version_registered_a_moment_ago_is_used_for_a_payload_that_needs_it() {
    let mut world = World::avro("fresh");
    // An hour would pass before the next refresh.
    world.general = "[schemas]\nversions = {}\n".to_owned();
    let subject = world.subject("v", "test.V");
    let one = world.registry.register(&subject, &first());
    let config = world.config().replace("refresh_interval = \"1s\"", "refresh_interval = \"1h\"");
    world.init();
    let relay = walpost_tests::Relay::start(&config);
    world.write(("v", "1"), "test.V", "'{}'");
    world.drained(&relay);
    let two = world.registry.register(&subject, &second());
    world.write(("v", "1"), "test.V", "'{\"extra\": \"x\"}'");
    world.drained(&relay);
    drop(relay);
    assert_eq!(ids(&world), [one, two]);
    world.judge(&Form::Avro(&world.decoder())).assert_exact();
}

#[test]
fn the_latest_version_is_taken_after_the_refresh_interval() {
    let world = World::avro("refresh");
    let subject = world.subject("v", "test.V");
    world.registry.register(&subject, &first());
    let relay = world.streaming();
    world.write(("v", "1"), "test.V", "'{}'");
    world.drained(&relay);
    let two = world.registry.register(&subject, &second());
    walpost_tests::wait_for("the second version", || {
        world.write(("v", "1"), "test.V", "'{}'");
        world.drained(&relay);
        ids(&world).contains(&two).then_some(())
    });
}

#[test]
fn a_row_pins_the_version_it_names_and_one_that_does_not_exist_stops() {
    let world = World::avro("pinned");
    let subject = world.subject("v", "test.V");
    let one = world.registry.register(&subject, &first());
    world.registry.register(&subject, &second());
    let relay = world.streaming();
    let pinned = |version: u32| {
        format!(
            "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload,
               schema_version)
             VALUES (gen_random_uuid(), 'v', '1', 'test.V', '{{\"n\": 1}}', {version})"
        )
    };
    world.database.run(&pinned(1));
    world.drained(&relay);
    assert_eq!(ids(&world), [one]);
    world.database.run(&pinned(9));
    let text = relay.wait_stop("schema_version_missing");
    assert!(text.contains(&subject) && text.contains("version 9"), "{text}");
}

#[test]
fn a_version_that_the_file_names_is_used_although_a_later_one_exists() {
    let mut world = World::avro("filepin");
    let subject = world.subject("v", "test.V");
    let one = world.registry.register(&subject, &first());
    world.registry.register(&subject, &second());
    world.general = "[schemas.versions]\n\"test.V\" = 1\n".to_owned();
    let relay = world.streaming();
    world.write(("v", "1"), "test.V", "'{}'");
    world.drained(&relay);
    assert_eq!(ids(&world), [one]);
}

#[test]
fn schemas_that_refer_to_others_are_resolved() {
    let world = World::avro("references");
    let money = json!({"type": "record", "name": "Money", "namespace": "test.ref", "fields": [
        {"name": "cents", "type": "long"}, {"name": "currency", "type": "string"}]});
    let of_money = format!("{}-money", world.prefix);
    world.registry.register(&of_money, &money);
    let order = json!({"type": "record", "name": "Paid", "namespace": "test", "fields": [
        {"name": "n", "type": "long"}, {"name": "price", "type": "test.ref.Money"}]});
    let subject = world.subject("v", "test.Paid");
    let references = [("test.ref.Money", of_money.as_str(), 1)];
    let id = world.registry.register_with(&subject, &order, &references);
    let relay = world.streaming();
    let body = "'{\"price\": {\"cents\": 5, \"currency\": \"EUR\"}}'";
    world.write(("v", "1"), "test.Paid", body);
    world.drained(&relay);
    drop(relay);
    let decoder = world.decoder();
    let mut whole = order.clone();
    whole["fields"][1]["type"] = money;
    decoder.know(id, apache_avro::Schema::parse(&whole).expect("a schema"));
    world.judge(&Form::Avro(&decoder)).assert_exact();
    assert_eq!(ids(&world), [id]);
}

#[test]
fn short_names_are_completed_and_types_mapped_and_subjects_follow_the_strategy() {
    for (strategy, subject_of) in [
        (
            "record",
            Box::new(|_: &World, name: &str| name.to_owned())
                as Box<dyn Fn(&World, &str) -> String>,
        ),
        ("topic", Box::new(|world: &World, _: &str| format!("{}-value", world.topic("v")))),
    ] {
        let mut world = World::avro("strategy");
        let namespace = format!("ns{}", walpost_tests::unique("x"));
        world.general = format!(
            "[schemas]\nnamespace = \"{namespace}\"\nsubject_strategy = \"{strategy}\"\n\
             types = {{ \"order_placed\" = \"{namespace}.Placed\" }}\n"
        );
        let schema = json!({"type": "record", "name": "Placed", "namespace": namespace,
            "fields": [{"name": "n", "type": "long"}]});
        let subject = subject_of(&world, &format!("{namespace}.Placed"));
        world.registry.register(&subject, &schema);
        let relay = world.streaming();
        world.write(("v", "1"), "Placed", "'{}'");
        world.write(("v", "1"), "order_placed", "'{}'");
        world.drained(&relay);
        drop(relay);
        world.judge(&Form::Avro(&world.decoder())).assert_exact();
    }
}

#[test]
fn auto_register_takes_missing_schemas_from_the_folder_and_warns() {
    let mut world = World::avro("autoreg");
    let dir = tempfile::tempdir().expect("a folder");
    let nested = dir.path().join("shop");
    std::fs::create_dir(&nested).expect("a folder");
    std::fs::write(nested.join("v.avsc"), first().to_string()).expect("a file");
    world.general = format!("[schemas]\nauto_register = true\ndir = {:?}\n", dir.path());
    let relay = world.streaming();
    world.write(("v", "1"), "test.V", "'{}'");
    world.drained(&relay);
    assert!(relay.log().contains("schemas.auto_register is on"), "{}", relay.log());
    drop(relay);
    world.judge(&Form::Avro(&world.decoder())).assert_exact();
}

#[test]
fn a_replay_says_which_rows_a_candidate_and_its_readers_could_not_take() {
    let world = World::json("replay");
    // The harness adds the number "n".
    for payload in ["{}", "{\"extra\": \"x\"}", "{\"extra\": [\"many\"]}", "{}"] {
        world.write(("v", "1"), "test.V", &format!("'{payload}'"));
    }
    world.write(("v", "1"), "test.V", "NULL");
    world.write(("v", "1"), "test.Unknown", "'{}'");
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        std::fs::write(path, text).expect("a file");
    };
    write("schemas/V.avsc", &second().to_string());
    write("contracts/V.avsc", &third().to_string());
    write(
        "contracts/stock.toml",
        "name = \"stock\"\nversion = \"3\"\n[[reads]]\ntype = \"test.V\"\nschema = \"V.avsc\"\n",
    );
    let (schemas, contracts) = (folder.path().join("schemas"), folder.path().join("contracts"));
    let (schemas, contracts) = (schemas.display().to_string(), contracts.display().to_string());
    let replay = |more: &[&str]| {
        let words = ["schema", "check", "--replay", &world.name, "--dir", &schemas, "--contracts"];
        let words = [&words[..], &[&contracts, "--output", "json"], more].concat();
        let ended = walpost_tests::relay::verb(&words, Some(&world.config()), "");
        let answer: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.log));
        assert!(!ended.stdout.contains("many"), "no payload is shown: {}", ended.stdout);
        (ended.code, answer)
    };
    let (code, answer) = replay(&[]);
    assert_eq!(code, Some(1), "{answer}");
    let counts = &answer["replay"];
    assert_eq!(
        (&counts["rows"], &counts["encoded"], &counts["tombstones"], &counts["reads"]),
        (&json!(6), &json!(3), &json!(1), &json!(0))
    );
    assert_eq!(counts["without_schema"], json!({"test.Unknown": 1}));
    let failed = counts["failed"].as_array().expect("failures");
    let unfit = failed.iter().find(|one| one["reader"].is_null()).expect("the row that is unfit");
    assert_eq!((&unfit["place"], &unfit["rows"]), (&json!("/extra"), &json!(1)));
    let unread = failed.iter().find(|one| !one["reader"].is_null()).expect("the reader that fails");
    assert_eq!(
        (&unread["reader"], &unread["place"], &unread["rows"]),
        (&json!("consumer stock 3"), &json!("must"), &json!(3))
    );
    let (_, newest) = replay(&["--last", "2"]);
    assert_eq!(newest["replay"]["rows"], 2);
    assert_eq!(newest["replay"]["tombstones"], 1, "the newest rows: {newest}");
    write("contracts/V.avsc", &first().to_string());
    let (code, fine) = replay(&["--last", "2"]);
    assert_eq!((code, &fine["compatible"]), (Some(0), &json!(true)), "{fine}");
}

#[test]
fn a_replay_reads_with_every_version_of_the_registry() {
    let mut world = World::json("replayed");
    // The name is this run's own: subjects of all topics that end with it are looked at.
    let name = format!("R_{}", world.prefix.replace('-', "_"));
    let full_name = format!("test.{name}");
    let of = |fields: Value| {
        let (name, namespace) = (&name, "test");
        json!({"type": "record", "name": name, "namespace": namespace, "fields": fields})
    };
    let n = json!({"name": "n", "type": "long"});
    let must = json!({"name": "must", "type": "string"});
    let subject = world.subject("v", &full_name);
    world.registry.register(&subject, &of(json!([n, must])));
    world.registry.register(&subject, &of(json!([n])));
    world.registry_url = Some(walpost_tests::stack().registry.clone());
    world.write(("v", "1"), &full_name, "'{}'");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("Replayed.avsc");
    std::fs::write(path, of(json!([n])).to_string()).expect("a file");
    let dir = folder.path().display().to_string();
    let replay = |config: &str| {
        let words = ["schema", "check", "--replay", &world.name, "--dir", &dir, "--output", "json"];
        let ended = walpost_tests::relay::verb(&words, Some(config), "");
        let answer: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.log));
        (ended.code, answer)
    };
    let (code, answer) = replay(&world.config());
    assert_eq!((code, &answer["replay"]["reads"]), (Some(1), &json!(1)), "{answer}");
    let failed = answer["replay"]["failed"].as_array().expect("failures").clone();
    assert_eq!(failed.len(), 1, "{answer}");
    let reader = format!("consumers with {subject} version 1");
    assert_eq!((&failed[0]["reader"], &failed[0]["place"]), (&json!(reader), &json!("must")));
    // A registry that is away leaves it open.
    let away = world.config().replace(&walpost_tests::stack().registry, "http://127.0.0.1:1");
    let (code, answer) = replay(&away);
    assert_eq!((code, &answer["compatible"]), (Some(3), &json!(false)), "{answer}");
}
