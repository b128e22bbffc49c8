//! Bad input and faults: each ends in one clear message that names the object, under a stable code.
//! What another party can mend is waited for; what a person must decide stops the source.
//!
//! [`Relay`](walpost_tests::Relay) checks of every log that it holds neither a payload nor a
//! password of these tests.

use walpost_tests::{CANARY, Cluster, Database, Relay, World, stack, unique, wait_for};
use xtask::stack::{Postgres, PostgresOptions};

/// Expects a wait with this code; the text.
#[track_caller]
fn waits(world: &World, code: &str) -> (Relay, String) {
    let relay = world.start();
    let status = relay.wait_fault(&world.name, code);
    assert_eq!(status["state"], "waiting_database");
    let text = status["fault"]["text"].as_str().expect("a text").to_owned();
    (relay, text)
}

#[track_caller]
pub(crate) fn stops(world: &World, code: &str) -> String {
    world.start().wait_stop(code)
}

#[track_caller]
pub(crate) fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no \"{part}\" in: {text}");
    }
}

#[test]
fn no_server_at_the_address() {
    let mut world = World::json("noserver");
    let port = xtask::machine::free_port().expect("a port");
    world.url = format!("postgres://someone:{CANARY}@127.0.0.1:{port}/shop");
    let (_relay, text) = waits(&world, "postgres_unreachable");
    assert_names(&text, &[&format!("127.0.0.1:{port}"), "refused"]);
}

#[test]
fn a_wrong_password_names_the_role_and_is_mended_without_a_restart() {
    let mut world = World::json("password");
    let role = unique("role");
    world.database.run(&format!(
        "CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'other'; \
         GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    ));
    world.init();
    world.database.run(&format!(
        "GRANT USAGE ON SCHEMA walpost TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE \
         ON ALL TABLES IN SCHEMA walpost TO {role}"
    ));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let (relay, text) = waits(&world, "postgres_password");
    assert_names(&text, &[&role, "28P01"]);
    world.database.run(&format!("ALTER ROLE {role} PASSWORD '{CANARY}'"));
    relay.wait_state(&world.name, "streaming");
    drop(relay);
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_role_without_replication() {
    let mut world = World::json("rolerep");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN PASSWORD '{CANARY}'"));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let (relay, text) = waits(&world, "role_no_replication");
    assert_names(&text, &[&role, "replication"]);
    drop(relay);
    world.database.run(&format!("DROP ROLE {role}"));
}

#[test]
fn a_database_that_does_not_exist() {
    let mut world = World::json("nodb");
    world.url = world.url.replace(&world.database.name, "nowhere_at_all");
    let (_relay, text) = waits(&world, "database_missing");
    assert_names(&text, &["nowhere_at_all"]);
}

#[test]
fn a_server_without_logical_wal() {
    let settings = vec![("wal_level".to_owned(), "replica".to_owned())];
    let options = PostgresOptions { settings, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = Database::empty(&postgres.url(), "replica");
    database.run(
        "CREATE TABLE outbox (id uuid, aggregate_type text, aggregate_id text,
                  event_type text, payload jsonb)",
    );
    let publication = &database.publication;
    database.run(&format!("CREATE PUBLICATION {publication} FOR TABLE outbox"));
    let mut world = World::with(database, Cluster::new(&stack().kafka), "json");
    world.url = world.database.url();
    let relay = world.start();
    wait_for("a fault", || relay.status(&world.name)?["fault"]["code"].as_str().map(drop));
    let status = relay.status(&world.name).expect("a status");
    let code = status["fault"]["code"].as_str().expect("a code");
    assert_eq!(code, "wal_level_not_logical", "{status}");
    assert_names(status["fault"]["text"].as_str().expect("a text"), &["wal_level"]);
}

#[test]
fn a_slot_that_is_missing_is_not_made_anew() {
    let world = World::json("noslot");
    world.init();
    let slot = &world.database.slot;
    world.database.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    assert_names(&stops(&world, "slot_missing"), &[slot]);
    assert_eq!(
        world.database.ask(
            "SELECT count(*) FROM pg_replication_slots \
        WHERE database = current_database()"
        ),
        "0"
    );
}

#[test]
fn a_slot_that_somebody_else_holds_is_waited_for_and_named() {
    let world = World::json("active");
    let first = world.streaming();
    let pid = world.database.walsender().expect("a walsender").to_string();
    let (second, text) = waits(&world, "slot_active");
    assert_names(&text, &[&world.database.slot, &pid, &format!("walpost-{}", world.name)]);
    assert_eq!(first.terminate().code, Some(0));
    second.wait_state(&world.name, "streaming");
}

#[test]
fn a_slot_of_another_plugin_or_database() {
    let mut world = World::json("foreign");
    let other = unique("other");
    world
        .database
        .run(&format!("SELECT pg_create_logical_replication_slot('{other}', 'test_decoding')"));
    let own = std::mem::replace(&mut world.database.slot, other.clone());
    assert_names(&stops(&world, "slot_foreign"), &[&other, "test_decoding", "pgoutput"]);

    let neighbour = World::json("neighbour");
    world.database.slot.clone_from(&neighbour.database.slot);
    let text = stops(&world, "slot_foreign");
    assert_names(&text, &[&neighbour.database.name, &world.database.name]);
    world.database.slot = own;
}

#[test]
fn a_publication_that_is_missing_or_lacks_the_table() {
    let world = World::json("publication");
    world.init();
    let name = &world.database.publication;
    world.database.run(&format!("ALTER PUBLICATION {name} DROP TABLE outbox"));
    let text = stops(&world, "publication_without_table");
    assert_names(&text, &[name, "outbox"]);
    world.database.run(&format!("DROP PUBLICATION {name}"));
    assert_names(&stops(&world, "publication_missing"), &[name]);
}

#[test]
fn a_publication_that_leaves_the_table_while_the_relay_runs() {
    let world = World::json("pubgone");
    let name = &world.database.publication;
    let relay = world.streaming();
    world.database.run(&format!("ALTER PUBLICATION {name} DROP TABLE outbox"));
    assert_names(&relay.wait_stop("publication_without_table"), &[name, "outbox"]);
}

#[test]
fn a_publication_that_filters_rows_or_leaves_inserts_out() {
    let world = World::json("filter");
    world.init();
    let name = &world.database.publication;
    world.database.run(&format!("ALTER PUBLICATION {name} SET TABLE outbox WHERE (seq > 5)"));
    assert_names(&stops(&world, "publication_unsuitable"), &[name, "filters"]);
    world.database.run(&format!(
        "ALTER PUBLICATION {name} SET TABLE outbox; \
         ALTER PUBLICATION {name} SET (publish = 'update')"
    ));
    assert_names(&stops(&world, "publication_unsuitable"), &[name, "insert"]);
}

#[test]
fn an_outbox_that_is_missing_or_is_a_view() {
    let mut world = World::json("notable");
    world.init();
    world.source.insert_str(0, "outbox.table = \"public.nothing\"\n");
    assert_names(&stops(&world, "outbox_table_missing"), &["public.nothing"]);
    world.database.run("CREATE VIEW nothing AS SELECT * FROM outbox");
    assert_names(&stops(&world, "outbox_not_a_table"), &["public.nothing", "a view"]);
}

#[test]
fn an_outbox_column_that_is_missing_or_of_another_type() {
    let world = World::json("column");
    world.init();
    world.database.run("ALTER TABLE outbox RENAME aggregate_id TO agg");
    let text = stops(&world, "outbox_column_missing");
    assert_names(&text, &["public.outbox", "aggregate_id"]);
    world.database.run("ALTER TABLE outbox DROP agg, ADD aggregate_id point");
    let text = stops(&world, "outbox_column_type");
    assert_names(&text, &["public.outbox", "aggregate_id", "point"]);
}

#[test]
fn an_unlogged_outbox_is_refused() {
    let world = World::json("unlogged");
    world.init();
    let name = &world.database.publication;
    world.database.run(&format!(
        "ALTER PUBLICATION {name} DROP TABLE outbox;
        ALTER TABLE outbox SET UNLOGGED"
    ));
    assert_names(&stops(&world, "outbox_not_a_table"), &["outbox", "unlogged"]);
}

#[test]
fn a_publication_of_all_tables_works() {
    let world = World::json("alltables");
    let name = &world.database.publication;
    let slot = &world.database.slot;
    world.database.run(&format!(
        "SELECT pg_drop_replication_slot('{slot}');
        DROP PUBLICATION {name}; CREATE PUBLICATION {name} FOR ALL TABLES"
    ));
    world.database.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let relay = world.streaming();
    world.write(("a", "1"), "test.A", "'{}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&walpost_tests::oracle::Form::Json).assert_exact();
}

#[test]
fn a_password_that_is_rotated_in_its_file_is_read_again() {
    let mut world = World::json("rotated");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{CANARY}new'"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{CANARY}old\n")).expect("written");
    world.url = world.database.url_as(Some((&role, ""))).replace(":@", "@");
    world.source.insert_str(0, &format!("password_file = {:?}\n", file.path()));
    let (relay, _) = waits(&world, "postgres_password");
    std::fs::write(file.path(), format!("{CANARY}new\n")).expect("written");
    relay.wait_state(&world.name, "streaming");
    drop(relay);
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn the_most_talkative_log_holds_no_payload_and_no_password() {
    let mut world = World::avro("trace");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{CANARY}'"));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let subject = world.subject("order", "test.Placed");
    world.registry.register(&subject, &crate::delivery::placed("Placed"));
    let relay = world.start_with(&[("WALPOST_LOG", "trace")]);
    relay.wait_state(&world.name, "streaming");
    walpost_tests::Workload { transactions: 20, ..Default::default() }.run(&world.database);
    world.drained(&relay);
    world.write(("order", "1"), "test.Placed", &format!("'{{\"cents\": \"{CANARY}\"}}'"));
    relay.wait_stop("payload_unfit");
    world.database.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
