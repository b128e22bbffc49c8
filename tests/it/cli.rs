//! The verbs: answers on stdout, everything else on stderr, exit codes and JSON as promised.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use walpost_tests::oracle::hex;
use walpost_tests::relay::verb;
use walpost_tests::{CANARY, Database, Relay, World, stack, unique, wait_for, wait_within};

/// stdout as JSON lines.
fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect()
}

#[test]
fn init_makes_everything_a_relay_needs_and_is_safe_to_run_again() {
    let mut world = World::json("init");
    world.database = Database::empty(&stack().postgres, "init");
    world.url = world.database.url();
    let config = world.config();
    let dry = verb(&["init", "--dry-run"], Some(&config), "");
    assert_eq!(dry.code, Some(0), "{}", dry.log);
    for part in ["CREATE TABLE", "CREATE PUBLICATION", "pg_create_logical_replication_slot"] {
        assert!(dry.stdout.contains(part), "no {part} in\n{}", dry.stdout);
    }
    assert_eq!(
        world.database.ask("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"),
        "0"
    );
    let made = verb(&["init", "--output", "json"], Some(&config), "");
    assert_eq!(made.code, Some(0), "{}", made.log);
    let again = verb(&["init"], Some(&config), "");
    assert_eq!((again.code, again.stdout.contains("made ")), (Some(0), false), "{}", again.stdout);
    let relay = world.streaming();
    let emit = ["emit", "order", "42", "test.Placed", "{\"total\": \"12.50\"}", "--output", "json"];
    let emitted = verb(&emit, Some(&config), "");
    assert_eq!(emitted.code, Some(0), "{}", emitted.log);
    let emitted = lines(&emitted.stdout).remove(0);
    assert!(
        emitted["sql"].as_str().is_some_and(|sql| sql.starts_with("INSERT INTO ")),
        "{emitted}"
    );
    let tombstone = ["emit", "order", "42", "test.Deleted", "null", "--headers", "{\"a\": \"b\"}"];
    assert_eq!(verb(&tombstone, Some(&config), "").code, Some(0));
    world.drained(&relay);
    let records = world.records();
    assert_eq!(
        (records[0].header("id"), records[0].key()),
        (emitted["id"].as_str().expect("an id"), "42")
    );
    assert_eq!((&records[1].value, records[1].header("a")), (&None, "b"));
    assert!(!records[0].header_names().contains(&"created_at"), "emit makes ids with a time");
}

#[test]
fn init_without_the_rights_says_where_they_are_listed() {
    let mut world = World::json("initrights");
    world.database = Database::empty(&stack().postgres, "initrights");
    let role = unique("role");
    world.database.run(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{CANARY}'"));
    world.url = world.database.url_as(Some((&role, CANARY)));
    let refused = verb(&["init"], Some(&world.config()), "");
    world.database.run(&format!("DROP ROLE {role}"));
    assert_eq!(refused.code, Some(3), "{}", refused.log);
    for part in ["permission denied", "more rights", "docs/operations.md"] {
        assert!(refused.log.contains(part), "no {part} in {}", refused.log);
    }
    assert!(!refused.log.contains(CANARY));
}

#[test]
fn init_names_a_replication_factor_that_the_cluster_cannot_hold() {
    let mut world = World::json("initreplicas");
    world.database = Database::empty(&stack().postgres, "initreplicas");
    world.url = world.database.url();
    world.replication_factor = 3;
    let refused = verb(&["init"], Some(&world.config()), "");
    assert_eq!(refused.code, Some(3), "{}", refused.log);
    let told = "the cluster cannot hold 3 replicas (kafka.replication_factor)";
    assert!(refused.log.contains(told), "{}", refused.log);
    world.replication_factor = 1;
    assert_eq!(verb(&["init"], Some(&world.config()), "").code, Some(0));
}

#[test]
fn init_never_makes_a_slot_anew_that_existed_and_says_what_is_lost() {
    let mut world = World::json("initgap");
    world.database = Database::empty(&stack().postgres, "initgap");
    world.url = world.database.url();
    let config = world.config();
    assert_eq!(verb(&["init"], Some(&config), "").code, Some(0));
    let slot = &world.database.slot;
    world.database.run(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    let refused = verb(&["init"], Some(&config), "");
    assert_ne!(refused.code, Some(0));
    assert!(refused.log.contains(slot) && refused.log.contains("--accept-gap"), "{}", refused.log);
    assert_eq!(verb(&["init", "--accept-gap"], Some(&config), "").code, Some(0));
    assert!(world.database.confirmed() > 0);
}

#[test]
fn init_refuses_a_source_that_nobody_configured() {
    let world = World::json("initname");
    let ended = verb(&["init", "--source", "nobody"], Some(&world.config()), "");
    assert_eq!(ended.code, Some(2), "{}{}", ended.stdout, ended.log);
    assert!(ended.log.contains("nobody") && ended.log.contains(&world.name), "{}", ended.log);
}

#[test]
fn a_server_that_is_away_is_exit_code_three() {
    let port = xtask::machine::free_port().expect("a port");
    let mut world = World::json("away");
    world.url = format!("postgres://someone:{CANARY}@127.0.0.1:{port}/shop");
    let config = world.config().replace("127.0.0.1:0", &format!("127.0.0.1:{port}"));
    for arguments in [
        &["init"][..],
        &["emit", "a", "1", "t", "{}"],
        &["status"],
        &["health"],
        &["health", "--live"],
    ] {
        let ended = verb(arguments, Some(&config), "");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(3), ""),
            "{arguments:?} {}",
            ended.log
        );
        assert!(ended.log.contains(&port.to_string()), "{arguments:?}: {}", ended.log);
        assert!(!ended.log.contains(CANARY), "{}", ended.log);
    }
}

#[test]
fn usage_errors_are_exit_code_two() {
    for arguments in [
        &["emit", "a", "1", "t", "no json"][..],
        &["nothing"],
        &["run", "--nonsense"],
        &["schema", "encode"],
    ] {
        let world = World::json("usage");
        let ended = verb(arguments, Some(&world.config()), "");
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (Some(2), ""),
            "{arguments:?} {}",
            ended.log
        );
    }
}

#[test]
fn tail_shows_avro_json_and_tombstones_one_line_each() {
    let mut world = World::avro("tail");
    let schema = json!({"type": "record", "name": "T", "namespace": "test", "fields": [
        {"name": "n", "type": "long"}, {"name": "text", "type": "string"}]});
    world.registry.register(&world.subject("avro", "test.T"), &schema);
    let plain = world
        .source
        .replacen("[[source.route]]", "[[source.route]]\nmatch = { aggregate_type = \"plain\" }", 1)
        .replace("payload = \"avro\"", "payload = \"json\"");
    world.source = plain + &world.source;
    let relay = world.streaming();
    world.write(("avro", "k1"), "test.T", "'{\"text\": \"line\\nbreak\"}'");
    world.write(("avro", "k2"), "test.T", "NULL");
    world.write(("plain", "k1"), "test.P", "'{\"a\": 1}'");
    world.drained(&relay);
    let config = world.config();
    let tail = |topic: &str, more: &[&str]| {
        let arguments = [&["tail", topic, "--from", "beginning", "--no-follow"][..], more].concat();
        verb(&arguments, Some(&config), "")
    };
    let avro = tail(&world.topic("avro"), &["--output", "json"]);
    assert_eq!(avro.code, Some(0), "{}", avro.log);
    let mut shown = lines(&avro.stdout);
    shown.sort_by_key(|line| line["key"].to_string());
    assert_eq!(shown[0]["value"], json!({"n": 1, "text": "line\nbreak"}));
    assert_eq!((&shown[0]["key"], &shown[0]["headers"]["type"]), (&json!("k1"), &json!("test.T")));
    assert!(shown[0]["schema_id"].is_u64() && shown[0]["error"].is_null());
    assert_eq!((&shown[1]["key"], &shown[1]["value"]), (&json!("k2"), &Value::Null));
    let text = tail(&world.topic("avro"), &["--key", "k1"]);
    assert_eq!((text.code, text.stdout.lines().count()), (Some(0), 1), "{}", text.stdout);
    let plain = tail(&world.topic("plain"), &["--output", "json", "-n", "1"]);
    assert_eq!(lines(&plain.stdout)[0]["value"], json!({"a": 1, "n": 1}));
    let missing = tail(&world.topic("nothing"), &[]);
    assert_eq!(missing.code, Some(3), "{}", missing.log);
    assert!(missing.log.contains(&world.topic("nothing")), "{}", missing.log);
}

#[test]
fn status_and_health_ask_a_running_relay() {
    let world = World::json("status");
    let relay = world.streaming();
    let config = world.config().replace("127.0.0.1:0", &relay.admin());
    let status = verb(&["status", "--wait", "ready", "--output", "json"], Some(&config), "");
    assert_eq!(status.code, Some(0), "{}", status.log);
    let status: Value = serde_json::from_str(&status.stdout).expect("one document");
    let source = &status["sources"][0];
    assert_eq!((&source["source"], &source["state"]), (&json!(world.name), &json!("streaming")));
    for field in [
        "lag_seconds",
        "confirmed_lsn",
        "confirmed_lsn_bytes",
        "pending_events",
        "events_per_second",
        "published_events",
        "retained_wal_bytes",
        "fault",
    ] {
        assert!(source.get(field).is_some(), "no {field} in {source}");
    }
    let text = verb(&["status"], Some(&config), "");
    assert!(text.code == Some(0) && text.stdout.contains(&world.name), "{}", text.stdout);
    assert_eq!(verb(&["health"], Some(&config), "").code, Some(0));
    assert_eq!(verb(&["status", "--check"], Some(&config), "").code, Some(0));
    let mut server = walpost_tests::postgres::connect(&stack().postgres);
    let mut doors = |open: bool| {
        let sql = format!("ALTER DATABASE {} ALLOW_CONNECTIONS {open}", world.database.name);
        server.batch_execute(&sql).expect("altered");
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
        server.execute(sql, &[&world.database.name]).expect("ended");
    };
    doors(false);
    relay.wait_state(&world.name, "waiting_database");
    assert_eq!(verb(&["health"], Some(&config), "").code, Some(1));
    assert_eq!(verb(&["health", "--live"], Some(&config), "").code, Some(0));
    assert_eq!(verb(&["status", "--check"], Some(&config), "").code, Some(1));
    assert_eq!(verb(&["status"], Some(&config), "").code, Some(0));
    doors(true);
}

fn schema_file() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("s.avsc");
    let schema = json!({"type": "record", "name": "S", "fields": [
        {"name": "x", "type": "int"}, {"name": "s", "type": "string", "default": "d"}]});
    std::fs::write(&path, schema.to_string()).expect("a file");
    let path = path.display().to_string();
    (dir, path)
}

#[test]
fn schema_encode_answers_each_line_and_decode_is_its_inverse() {
    let (_dir, path) = schema_file();
    let input = "{\"x\": 1, \"s\": \"a\"}\n{\"x\": 3000000000}\n{\"x\": -1}\nno json\n";
    let encoded = verb(&["schema", "encode", "--schema", &path, "--output", "json"], None, input);
    assert_eq!(encoded.code, Some(1), "one line failed");
    let answers = lines(&encoded.stdout);
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0], json!({"ok": true, "hex": "020261"}));
    assert_eq!(answers[2], json!({"ok": true, "hex": "010264"}));
    let error = &answers[1]["errors"][0];
    assert_eq!((&error["kind"], &error["pointer"]), (&json!("out_of_range"), &json!("/x")));
    assert!(error.get("expected").is_some() && error.get("actual").is_some(), "{error}");
    assert_eq!(answers[3]["ok"], false);
    let framed =
        verb(&["schema", "encode", "--schema", &path, "--framed", "7"], None, "{\"x\": 1}\n");
    assert_eq!((framed.code, framed.stdout.as_str()), (Some(0), "0000000007020264\n"));
    let decode = ["schema", "decode", "--schema", &path, "--output", "json"];
    let decoded = verb(&decode, None, "020261\n010264\nzz\n02\n");
    assert_eq!(decoded.code, Some(1));
    let answers = lines(&decoded.stdout);
    assert_eq!(answers[0], json!({"ok": true, "json": {"x": 1, "s": "a"}}));
    assert_eq!(answers[1]["json"], json!({"x": -1, "s": "d"}));
    assert_eq!((&answers[2]["ok"], &answers[3]["ok"]), (&json!(false), &json!(false)));
}

#[test]
fn schema_encode_writes_what_the_reference_reader_reads() {
    let (_dir, path) = schema_file();
    let text = std::fs::read_to_string(&path).expect("a schema");
    let schema = apache_avro::Schema::parse_str(&text).expect("a schema");
    let input: String =
        (-50..50).map(|x| format!("{{\"x\": {}, \"s\": \"é{x}\"}}\n", x * 40_000_000)).collect();
    let encoded = verb(&["schema", "encode", "--schema", &path], None, &input);
    assert_eq!(encoded.code, Some(0), "{}", encoded.log);
    assert_eq!(encoded.stdout.lines().count(), 100);
    for (line, json) in encoded.stdout.lines().zip(input.lines()) {
        let bytes = walpost_tests::oracle::unhex(line);
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build();
        let value = reader.expect("a reader").read_value(&mut bytes.as_slice()).expect("a datum");
        let json = serde_json::from_str(json).expect("json");
        walpost_tests::avro::same(&value, &json, "")
            .unwrap_or_else(|why| panic!("{}: {why}", hex(&bytes)));
    }
}

#[test]
fn batch_lines_are_answered_one_each_with_their_id() {
    let good = json!({"id": 7, "schema": {"type": "array", "items": "int"}, "json_text": "[1, 2]"});
    let bad = json!({"id": "b", "schema": "int", "json_text": "2147483648"});
    let unusable = json!({"id": "c", "schema": {"type": "nothing"}, "json_text": "1"});
    let lacking = json!({"id": "d", "schema": "int"});
    let input = format!("{good}\n{bad}\n{unusable}\n{lacking}\n");
    let answered = verb(&["schema", "encode", "--batch"], None, &input);
    assert_eq!(answered.code, Some(1));
    let answers = lines(&answered.stdout);
    assert_eq!(answers[0], json!({"id": 7, "ok": true, "hex": "04020400"}));
    assert_eq!(
        (&answers[1]["id"], &answers[1]["errors"][0]["kind"]),
        (&json!("b"), &json!("out_of_range"))
    );
    for (answer, id) in answers[2..].iter().zip(["c", "d"]) {
        assert_eq!((&answer["id"], &answer["ok"]), (&json!(id), &json!(false)), "{answer}");
        assert!(answer["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{answer}");
    }
    let decode = json!({"id": 1, "schema": {"type": "array", "items": "int"}, "hex": "04020400"});
    let answered = verb(&["schema", "decode", "--batch"], None, &format!("{decode}\n"));
    assert_eq!(lines(&answered.stdout), [json!({"id": 1, "ok": true, "json": [1, 2]})]);
}

/// A program that shows something again and again, started; what it printed by now.
struct Watched {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watched {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("runs");
        let mut output = child.stdout.take().expect("a pipe");
        let said = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..count]);
                into.lock().expect("no panic").push_str(&text);
            }
        });
        Self { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().expect("no panic").clone()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A configuration file that leads to a running relay.
fn watched_config(world: &World, relay: &Relay) -> (String, tempfile::NamedTempFile) {
    let config = world.config().replace("127.0.0.1:0", &relay.admin());
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &config).expect("written");
    (config, file)
}

#[test]
fn status_is_watched_as_lines_in_a_pipe() {
    let world = World::json("watch");
    let relay = world.streaming();
    let (config, file) = watched_config(&world, &relay);
    let path = file.path().display().to_string();
    let watch = ["status", "--watch", "--interval", "1", "--config", &path];
    let start = |more: &[&str]| {
        Watched::start(Command::new(&stack().walpost).args(watch).args(more).stderr(Stdio::null()))
    };
    let (piped, json) = (start(&[]), start(&["--output", "json"]));
    let line = format!(" {} streaming lag=", world.name);
    let of_shop = |text: &str| text.lines().filter(|l| l.contains(&line)).count();
    wait_for("three lines", || (of_shop(&piped.said()) >= 3).then_some(()));
    assert!(!piped.said().contains('\x1b') && !piped.said().contains("RETAINED"));
    let documents = wait_for("two documents", || {
        let said = json.said();
        let whole = said.rfind('\n').map(|end| lines(&said[..end]))?;
        (whole.len() >= 2).then_some(whole)
    });
    assert_eq!(documents[1]["sources"][0]["state"], "streaming");
    drop(relay);
    let before = of_shop(&piped.said());
    let _relay = Relay::start(&config);
    wait_for("its return", || (of_shop(&piped.said()) > before).then_some(()));
}

#[test]
fn status_is_watched_as_one_table_on_a_terminal() {
    if std::fs::File::options().read(true).write(true).open("/dev/ptmx").is_err() {
        eprintln!("left out: this machine makes no pseudo-terminals (/dev/pts is not mounted)");
        return;
    }
    let world = World::json("painted");
    let relay = world.streaming();
    let (_config, file) = watched_config(&world, &relay);
    // `script` gives a program a terminal.
    let program = stack().walpost.display();
    let path = file.path().display();
    let line = format!("{program} status --watch --interval 1 --config {path}");
    let painted = Watched::start(
        Command::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", "xterm"),
    );
    wait_for("three tables", || {
        (painted.said().matches("\x1b[H\x1b[J").count() >= 3).then_some(())
    });
    assert!(painted.said().contains("RETAINED WAL"), "{}", painted.said());
    drop(relay);
    wait_for("its absence", || painted.said().contains("no relay answers").then_some(()));
}

#[test]
fn whoever_feeds_line_by_line_gets_each_answer_at_once() {
    let mut child = Command::new(&stack().walpost)
        .args(["schema", "encode", "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("walpost starts");
    let mut input = child.stdin.take().expect("a pipe");
    let output = child.stdout.take().expect("a pipe");
    let (sender, answers) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    for id in 0..3 {
        let line = json!({"id": id, "schema": "int", "json_text": "1"});
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("it reads");
        let answer = wait_within(Duration::from_secs(10), "an answer", || answers.try_recv().ok());
        assert_eq!(lines(&answer)[0]["id"], id);
    }
    drop(input);
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn help_and_completions_answer_on_stdout() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["help"],
        &["help", "exit-codes"],
        &["help", "environment"],
        &["help", "output"],
        &["help", "run"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
    ] {
        let ended = verb(arguments, None, "");
        assert_eq!((ended.code, ended.log.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(!ended.stdout.trim().is_empty(), "{arguments:?}");
    }
    assert_eq!(verb(&["help", &unique("x")], None, "").code, Some(2));
}

#[test]
fn an_event_emitted_by_sql_injection_shaped_words_arrives_as_written() {
    let world = World::json("quotes");
    let relay = world.streaming();
    let config = world.config_of_owner();
    for word in ["it's", "back\\slash", "a\"b", "$$; DROP TABLE outbox; --", "ä\u{1F980}"] {
        let body = json!({"text": word}).to_string();
        let ended = verb(&["emit", "q", word, "test.Q", &body], Some(&config), "");
        assert_eq!(ended.code, Some(0), "{word}: {}", ended.log);
    }
    world.drained(&relay);
    let records = world.records();
    assert_eq!(records.len(), 5);
    for record in records {
        let body: Value = serde_json::from_str(record.text()).expect("json");
        assert_eq!(body["text"], record.key());
    }
}
