//! Who is spoken to, and how: every sslmode against servers with and without TLS, SCRAM with
//! channel binding, unix sockets.

use std::path::PathBuf;

use walpost_tests::certificates::authority;
use walpost_tests::oracle::Form;
use walpost_tests::postgres::PayloadType;
use walpost_tests::{CANARY, Cluster, Database, World, stack};
use xtask::stack::{Postgres, PostgresOptions, Tls};

fn server(tls: Option<Tls>) -> (Postgres, World) {
    let options = PostgresOptions { tls, ..PostgresOptions::default() };
    let postgres = Postgres::start(options).expect("a server");
    let database = Database::new(&postgres.url(), "tls", PayloadType::Jsonb);
    let world = World::with(database, Cluster::new(&stack().kafka), "json");
    (postgres, world)
}

/// Whether the walsender's connection is encrypted, as the server sees it.
fn is_encrypted(world: &World) -> bool {
    let pid = world.database.walsender().expect("a walsender");
    world.database.ask(&format!("SELECT ssl FROM pg_stat_ssl WHERE pid = {pid}")) == "t"
}

fn with_mode(world: &mut World, route: &str, mode: &str, authority: Option<&PathBuf>) {
    let file = authority.map_or_else(String::new, |file| format!("tls_ca_file = {file:?}\n"));
    world.source = format!("tls = \"{mode}\"\n{file}{route}");
}

#[test]
fn every_mode_against_a_server_with_tls() {
    let authority = authority("IP:127.0.0.1");
    let (postgres, mut world) = server(Some(authority.tls.clone()));
    let route = world.source.clone();
    for (mode, file, encrypted) in [
        ("disable", None, false),
        ("prefer", None, true),
        ("require", None, true),
        ("verify-ca", Some(&authority.file), true),
        ("verify-full", Some(&authority.file), true),
    ] {
        with_mode(&mut world, &route, mode, file);
        let relay = world.streaming();
        assert_eq!(is_encrypted(&world), encrypted, "{mode}");
        world.write(("t", mode), "test.T", "'{}'");
        world.drained(&relay);
        assert_eq!(relay.terminate().code, Some(0));
    }
    for (mode, file) in [
        ("verify-ca", Some(&authority.other)),
        ("verify-full", Some(&authority.other)),
        ("verify-full", None),
    ] {
        with_mode(&mut world, &route, mode, file);
        let relay = world.start();
        let status = relay.wait_fault(&world.name, "postgres_tls");
        let text = status["fault"]["text"].as_str().expect("a text");
        assert!(text.contains(&format!("127.0.0.1:{}", postgres.port())), "{text}");
        assert!(text.to_lowercase().contains("certificate"), "{mode}: {text}");
    }
    world.judge(&Form::Json).assert_exact();
}

#[test]
fn a_certificate_of_another_host_is_refused_by_verify_full_alone() {
    let authority = authority("DNS:elsewhere.example");
    let (_postgres, mut world) = server(Some(authority.tls.clone()));
    let route = world.source.clone();
    with_mode(&mut world, &route, "verify-ca", Some(&authority.file));
    world.streaming();
    walpost_tests::relay::wait_released(&world.database);
    with_mode(&mut world, &route, "verify-full", Some(&authority.file));
    world.start().wait_fault(&world.name, "postgres_tls");
}

#[test]
fn a_server_without_tls_is_refused_where_the_mode_demands_it() {
    let (_postgres, mut world) = server(None);
    let route = world.source.clone();
    with_mode(&mut world, &route, "require", None);
    let status = world.start().wait_fault(&world.name, "postgres_tls");
    let text = status["fault"]["text"].as_str().expect("a text");
    assert!(text.contains("does not offer tls"), "{text}");
    with_mode(&mut world, &route, "prefer", None);
    let relay = world.streaming();
    assert!(!is_encrypted(&world));
    drop(relay);
}

/// The length of the first SASL message of a relay's connections, as the server logs it.
fn first_sasl_length(postgres: &Postgres, world: &World) -> u64 {
    let before = std::fs::read_to_string(postgres.log()).expect("a log").len();
    drop(world.streaming());
    walpost_tests::relay::wait_released(&world.database);
    let log = std::fs::read_to_string(postgres.log()).expect("a log");
    let mut lines = log[before..].lines().filter(|line| line.contains("as=bound "));
    let found = lines.find_map(|line| line.split("SASL response of length ").nth(1)?.parse().ok());
    found.unwrap_or_else(|| panic!("no SASL in the log:\n{}", &log[before..]))
}

/// The server does not log the mechanism, but the first message holds its name and the header of
/// the binding: `SCRAM-SHA-256-PLUS` and `p=tls-server-end-point,,` against `SCRAM-SHA-256` and
/// `n,,`.
#[test]
fn scram_binds_the_channel_where_there_is_tls() {
    let authority = authority("IP:127.0.0.1");
    let (postgres, mut world) = server(Some(authority.tls.clone()));
    let route = world.source.clone();
    world.database.run(&format!("CREATE ROLE bound LOGIN SUPERUSER PASSWORD '{CANARY}'"));
    world.url = world.database.url_as(Some(("bound", CANARY)));
    world.database.run("ALTER SYSTEM SET log_line_prefix = 'as=%u '");
    world.database.run("ALTER SYSTEM SET log_min_messages = debug4");
    world.database.run("SELECT pg_reload_conf()");
    with_mode(&mut world, &route, "disable", None);
    let plain = first_sasl_length(&postgres, &world);
    with_mode(&mut world, &route, "require", None);
    let bound = first_sasl_length(&postgres, &world);
    let longer = "-PLUS".len() + "p=tls-server-end-point,,".len() - "n,,".len();
    assert_eq!(bound, plain + longer as u64);
}

#[test]
fn a_unix_socket_works_without_a_password() {
    let (postgres, mut world) = server(None);
    let folder = postgres.sockets().display().to_string().replace('/', "%2F");
    world.url = format!("postgres://postgres@{folder}:{}/{}", postgres.port(), world.database.name);
    let relay = world.streaming();
    world.write(("u", "1"), "test.U", "'{}'");
    world.drained(&relay);
    drop(relay);
    world.judge(&Form::Json).assert_exact();
}
