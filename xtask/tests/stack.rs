//! Goal: a test that starts its own servers can stop, kill, freeze and start them again, and
//! nothing is left when it ends. Method: real servers. Runs under `cargo x test` only, which has
//! fetched what they are made of.

use std::io::Read;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use xtask::process::output;
use xtask::stack::{Kafka, KafkaOptions, Mode, Postgres, PostgresOptions, Tls};

fn has_stack() -> bool {
    let has = std::env::var_os("WALPOST_TEST_KAFKA").is_some();
    if !has {
        eprintln!("left out: run `cargo x test`");
    }
    has
}

fn sql(postgres: &Postgres, more: &str, text: &str) -> Result<String> {
    let mut command = Command::new(postgres.bin().join("psql"));
    command.args(["-XAtq", "-c", text]).arg(format!("{}{more}", postgres.url()));
    output(&mut command).map(|text| text.trim().to_owned())
}

#[test]
fn a_private_postgres_outlives_stop_and_kill_and_leaves_nothing() -> Result<()> {
    if !has_stack() {
        return Ok(());
    }
    let mut postgres = Postgres::start(PostgresOptions {
        settings: vec![("wal_sender_timeout".into(), "3s".into())],
        ..Default::default()
    })?;
    let (identity, data) = (postgres.identity(), postgres.data());
    assert_eq!(sql(&postgres, "", "show wal_sender_timeout")?, "3s");
    sql(&postgres, "", "create table t as select 1 as a")?;

    let took = postgres.stop(Mode::Fast)?;
    ensure!(took < Duration::from_secs(5), "a fast stop took {took:?}");
    assert!(!identity.is_alive() && !postgres.is_running());
    postgres.start_again()?;
    assert_eq!(sql(&postgres, "", "select a from t")?, "1");

    postgres.kill9();
    assert!(!postgres.is_running());
    postgres.start_again()?;
    assert_eq!(sql(&postgres, "", "select a from t")?, "1");

    let identity = postgres.identity();
    drop(postgres);
    assert!(!identity.is_alive());
    assert!(!data.exists());
    Ok(())
}

#[test]
fn a_frozen_postgres_accepts_and_does_not_answer() -> Result<()> {
    if !has_stack() {
        return Ok(());
    }
    let postgres = Postgres::start(PostgresOptions::default())?;
    postgres.freeze();
    let mut stream = TcpStream::connect(("127.0.0.1", postgres.port()))?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    assert!(stream.read(&mut [0]).is_err(), "a frozen server answered");
    postgres.resume();
    assert_eq!(sql(&postgres, "", "select 1")?, "1");
    Ok(())
}

/// A self-signed certificate for 127.0.0.1.
fn certificate(dir: &std::path::Path) -> Result<Tls> {
    let (certificate, key) = (dir.join("crt"), dir.join("key"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=walpost", "-addext", "subjectAltName=IP:127.0.0.1"]);
    command.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    output(&mut command)?;
    Ok(Tls {
        certificate: std::fs::read_to_string(certificate)?,
        key: std::fs::read_to_string(key)?,
        client_authority: None,
    })
}

#[test]
fn a_postgres_with_a_certificate_speaks_tls() -> Result<()> {
    if !has_stack() {
        return Ok(());
    }
    let dir = std::env::temp_dir().join(format!("xtask-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let tls = certificate(&dir)?;
    let postgres = Postgres::start(PostgresOptions { tls: Some(tls), ..Default::default() })?;
    let root = dir.join("crt").display().to_string();
    let more = format!("?sslmode=verify-full&sslrootcert={root}");
    let question = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(sql(&postgres, &more, question)?, "t");
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

#[test]
fn a_killed_kafka_starts_again_with_its_topics() -> Result<()> {
    if !has_stack() {
        return Ok(());
    }
    let mut kafka = Kafka::start(KafkaOptions {
        settings: vec![("message.max.bytes".into(), "2000000".into())],
        ..Default::default()
    })?;
    topics(&kafka, &["--create", "--topic", "orders", "--partitions", "3"])?;
    kafka.kill9();
    assert!(!kafka.is_running());
    kafka.start_again()?;
    assert_eq!(topics(&kafka, &["--list"])?.trim(), "orders");
    let took = kafka.stop()?;
    ensure!(took < Duration::from_secs(20), "a controlled shutdown took {took:?}");
    Ok(())
}

fn topics(kafka: &Kafka, words: &[&str]) -> Result<String> {
    let classes: PathBuf = kafka.libs().join("*");
    let mut command = Command::new(kafka.java());
    command.arg("-cp").arg(classes).arg("org.apache.kafka.tools.TopicCommand");
    command.args(["--bootstrap-server", &kafka.address()]).args(words);
    output(&mut command).context("the topic tool")
}
