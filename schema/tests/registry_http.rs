//! The HTTP client against the in-process server on a loopback port, and against a server that
//! answers rubbish.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use walpost_schema::compat::Level;
use walpost_schema::registry::{
    Credentials, HttpRegistry, HttpSettings, MemoryRegistry, Normalize, Proposal, Reference,
    Registry, RegistryError, SchemaId, dev_server,
};

const MONEY: &str =
    r#"{"type":"record","name":"m.Money","fields":[{"name":"cents","type":"long"}]}"#;
const LINE: &str =
    r#"{"type":"record","name":"s.Line","fields":[{"name":"price","type":"m.Money"}]}"#;
const ORDER: &str = r#"{"type":"record","name":"s.Order","fields":[
    {"name":"line","type":"s.Line"},{"name":"total","type":"m.Money"}]}"#;

async fn served() -> (Arc<MemoryRegistry>, HttpRegistry, String) {
    let memory = Arc::new(MemoryRegistry::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = dev_server::router(Arc::clone(&memory));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let client = HttpRegistry::try_new(&HttpSettings::new(url.clone())).unwrap();
    (memory, client, url)
}

fn reference(name: &str, subject: &str) -> Reference {
    Reference { name: name.to_owned(), subject: subject.to_owned(), version: 1 }
}

#[tokio::test]
async fn what_is_registered_is_found_in_every_way() {
    let (_, registry, _) = served().await;
    let subject = "events.order/v1:über 100%-s.Money";
    let id = registry.register(subject, MONEY, &[]).await.unwrap();
    assert_eq!(registry.register(subject, MONEY, &[]).await.unwrap(), id);
    assert_eq!(registry.register("other", MONEY, &[]).await.unwrap(), id);
    let wider = MONEY.replace("\"long\"", "\"double\"");
    let second = registry.register(subject, &wider, &[]).await.unwrap();
    assert_ne!(second, id);

    assert_eq!(registry.versions(subject).await.unwrap(), [1, 2]);
    let latest = registry.latest(subject).await.unwrap();
    assert_eq!((latest.version, latest.id, &*latest.text), (2, second, wider.as_str()));
    assert_eq!(latest.subject, subject);
    let first = registry.version(subject, 1).await.unwrap();
    assert_eq!((first.id, first.schema.name().unwrap().full()), (id, "m.Money"));
    assert_eq!(&*registry.by_id(id).await.unwrap().text, MONEY);
    assert_eq!(registry.lookup(subject, MONEY).await.unwrap().version, 1);
    let spaced = MONEY.replace(':', " : ");
    assert_eq!(registry.lookup(subject, &spaced).await.unwrap().version, 1);
    let places = registry.subjects_of(id).await.unwrap();
    assert_eq!(places, [(subject.to_owned(), 1), ("other".to_owned(), 1)]);
    assert_eq!(registry.subjects().await.unwrap(), [subject, "other"]);
}

#[tokio::test]
async fn what_is_absent_is_named() {
    let (_, registry, _) = served().await;
    registry.register("s", MONEY, &[]).await.unwrap();
    let subject = || "none".to_owned();
    let absent = [
        registry.latest("none").await.unwrap_err(),
        registry.versions("none").await.unwrap_err(),
        registry.version("none", 1).await.unwrap_err(),
        registry.lookup("none", MONEY).await.unwrap_err(),
        registry.version("s", 9).await.unwrap_err(),
        registry.by_id(SchemaId(77)).await.unwrap_err(),
        registry.subjects_of(SchemaId(77)).await.unwrap_err(),
        registry.lookup("s", "\"int\"").await.unwrap_err(),
    ];
    let expected = [
        RegistryError::SubjectNotFound { subject: subject() },
        RegistryError::SubjectNotFound { subject: subject() },
        RegistryError::SubjectNotFound { subject: subject() },
        RegistryError::SubjectNotFound { subject: subject() },
        RegistryError::VersionNotFound { subject: "s".to_owned(), version: 9 },
        RegistryError::IdNotFound { id: SchemaId(77) },
        RegistryError::IdNotFound { id: SchemaId(77) },
        RegistryError::SchemaNotFound { subject: "s".to_owned() },
    ];
    for (absent, expected) in absent.into_iter().zip(expected) {
        assert!(absent.is_absent() && !absent.is_retriable(), "{absent}");
        assert_eq!(absent, expected);
    }
    let bad = registry.register("s", "{", &[]).await.unwrap_err();
    assert!(
        matches!(bad, RegistryError::Rejected { status: 422, error_code: 42_201, .. }),
        "{bad}"
    );
    assert!(!bad.is_absent() && !bad.is_retriable());
}

#[tokio::test]
async fn references_are_followed_through_levels_and_shared_ones_are_fetched_once() {
    let (_, registry, _) = served().await;
    registry.register("money", MONEY, &[]).await.unwrap();
    let line = [reference("m.Money", "money")];
    registry.register("line", LINE, &line).await.unwrap();
    let order = [reference("s.Line", "line"), reference("m.Money", "money")];
    let id = registry.register("order", ORDER, &order).await.unwrap();
    let found = registry.latest("order").await.unwrap();
    assert!(found.schema.canonical_form().contains("cents"));
    assert!(registry.by_id(id).await.unwrap().schema.named("s.Line").is_some());
    assert_eq!(registry.lookup_with("order", ORDER, &order).await.unwrap().version, 1);
    assert!(registry.lookup("order", ORDER).await.is_err());
}

/// Answers every request with the same bytes and keeps what was asked.
async fn rubbish(answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let len = stream.read(&mut request).await.unwrap_or(0);
            kept.lock().unwrap().push(String::from_utf8_lossy(&request[..len]).into_owned());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, asked)
}

async fn asked_of(answer: &'static str) -> RegistryError {
    let (url, _) = rubbish(answer).await;
    let registry = HttpRegistry::try_new(&HttpSettings::new(url)).unwrap();
    let by_transport = registry.latest("s").await.unwrap_err();
    let by_ourselves = registry.subjects_of(SchemaId(1)).await.unwrap_err();
    assert_eq!(
        by_transport.is_retriable(),
        by_ourselves.is_retriable(),
        "{by_transport} {by_ourselves}"
    );
    by_transport
}

#[tokio::test]
async fn rubbish_answers_are_named_faults() {
    let html =
        asked_of("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 13\r\n\r\n<html></html>")
            .await;
    assert!(matches!(html, RegistryError::NotJson { status: 200, .. }), "{html}");
    let proxy = asked_of(
        "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 13\r\n\r\n<html></html>",
    )
    .await;
    assert!(matches!(proxy, RegistryError::NotJson { status: 502, .. }), "{proxy}");
    let page = asked_of(
        "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 13\r\n\r\n<html></html>",
    )
    .await;
    assert!(
        matches!(page, RegistryError::NotJson { status: 404, .. }) && !page.is_absent(),
        "{page}"
    );
    let torn =
        asked_of("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{\"sch").await;
    assert!(torn.is_retriable(), "{torn}");
    let closed = asked_of("").await;
    assert!(matches!(closed, RegistryError::Unreachable { .. }), "{closed}");
    for (status, body) in
        [("401 Unauthorized", "no"), ("403 Forbidden", "{\"error_code\":40301,\"message\":\"x\"}")]
    {
        let answer = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let refused = asked_of(answer.leak()).await;
        assert!(matches!(refused, RegistryError::Unauthorized { .. }), "{refused}");
    }
    let code = r#"{"error_code":50001,"message":"Error in the backend data store"}"#;
    let answer = format!(
        "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{code}",
        code.len()
    );
    let broken = asked_of(answer.leak()).await;
    assert!(
        matches!(broken, RegistryError::Rejected { status: 500, error_code: 50_001, .. }),
        "{broken}"
    );
    assert!(broken.is_retriable());
    let code = r#"{"error_code":429,"message":"slow down"}"#;
    let answer = format!(
        "HTTP/1.1 429 Slow\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{code}",
        code.len()
    );
    assert!(asked_of(answer.leak()).await.is_retriable());
}

#[tokio::test]
async fn answers_that_are_no_avro_or_refer_to_themselves_are_refused() {
    let ok = |body: &str| -> &'static str {
        format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .leak()
    };
    let ask = async |body: &str| {
        let (url, _) = rubbish(ok(body)).await;
        HttpRegistry::try_new(&HttpSettings::new(url)).unwrap().latest("s").await.unwrap_err()
    };
    let cycle = ask(r#"{"subject":"s","version":1,"id":1,"schema":"\"X\"",
            "references":[{"name":"X","subject":"s","version":1}]}"#)
    .await;
    let expected = RegistryError::ReferenceCycle { subject: "s".to_owned(), version: 1 };
    assert_eq!(cycle, expected);
    let json = ask(r#"{"subject":"s","version":1,"id":1,"schemaType":"JSON","schema":"{}"}"#).await;
    assert!(matches!(json, RegistryError::NotAvro { .. }), "{json}");
    let bad = ask(r#"{"subject":"s","version":1,"id":1,"schema":"{"}"#).await;
    assert!(matches!(bad, RegistryError::BadSchema { .. }), "{bad}");
    let empty = ask("{}").await;
    assert!(matches!(empty, RegistryError::NotJson { .. }), "{empty}");
    let wide = ask(r#"{"subject":"s","version":1,"id":99999999999,"schema":"\"int\""}"#).await;
    assert!(matches!(wide, RegistryError::NotJson { .. }), "{wide}");
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_broken_and_not_when_it_says_no() {
    let (_, _, good) = served().await;
    let (bad, _) =
        rubbish("HTTP/1.1 503 Away\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let both = HttpRegistry::try_new(&HttpSettings::new(format!("{bad}, {good}/"))).unwrap();
    both.register("s", MONEY, &[]).await.unwrap();
    assert_eq!(both.latest("s").await.unwrap().version, 1);
    assert_eq!(both.subjects_of(SchemaId(1)).await.unwrap(), [("s".to_owned(), 1)]);
    let (second, asked) = rubbish("").await;
    let both = HttpRegistry::try_new(&HttpSettings::new(format!("{good},{second}"))).unwrap();
    assert!(both.latest("none").await.unwrap_err().is_absent());
    assert!(asked.lock().unwrap().is_empty());
    let away = HttpRegistry::try_new(&HttpSettings::new("http://127.0.0.1:1")).unwrap();
    let error = away.latest("s").await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }) && error.is_retriable(), "{error}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = HttpSettings::new(format!("http://{}", listener.local_addr().unwrap()));
    settings.timeout = Duration::from_millis(200);
    let error = HttpRegistry::try_new(&settings).unwrap().latest("s").await.unwrap_err();
    assert!(matches!(error, RegistryError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn authorities_without_a_certificate_are_refused() {
    for pem in ["", "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"] {
        let mut settings = HttpSettings::new("https://127.0.0.1:1");
        settings.authorities = Some(pem.as_bytes().to_vec());
        let error = HttpRegistry::try_new(&settings).unwrap_err();
        assert!(!error.is_retriable(), "{error}");
    }
}

#[tokio::test]
async fn credentials_are_sent_and_never_shown() {
    let (url, asked) =
        rubbish("HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    let basic =
        Credentials::Basic { user: "key".to_owned(), password: "hunter2".to_owned().into() };
    for (credentials, header) in [
        (basic, "basic a2v5omh1bnrlcji="),
        (Credentials::Bearer("hunter2".to_owned().into()), "bearer hunter2"),
    ] {
        let mut settings = HttpSettings::new(url.clone());
        settings.credentials = credentials;
        let registry = HttpRegistry::try_new(&settings).unwrap();
        let first = registry.latest("s").await.unwrap_err();
        let second = registry.subjects_of(SchemaId(1)).await.unwrap_err();
        let requests = std::mem::take(&mut *asked.lock().unwrap());
        assert_eq!(requests.len(), 2);
        assert!(requests.iter().all(|text| text.to_lowercase().contains(header)), "{requests:?}");
        let shown = format!("{settings:?} {registry:?} {first} {first:?} {second} {second:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let error = HttpRegistry::try_new(&HttpSettings::new("http://key:hunter2@host")).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    for url in ["", "host:8081", "ftp://host", "http://"] {
        assert!(HttpRegistry::try_new(&HttpSettings::new(url)).is_err(), "{url}");
    }
}

/// One request in HTTP/1.1 by hand: status and body.
async fn raw(url: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream =
        tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let len = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\
         content-length: {len}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("content-type: application/vnd.schemaregistry.v1+json"), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn the_server_deletes_softly_first_and_gives_confluents_codes() {
    let (memory, registry, url) = served().await;
    // What follows is not about compatibility.
    memory.set_level(None, "NONE").unwrap();
    registry.register("money", MONEY, &[]).await.unwrap();
    registry.register("line", LINE, &[reference("m.Money", "money")]).await.unwrap();
    let wider = MONEY.replace("\"long\"", "\"double\"");
    registry.register("money", &wider, &[]).await.unwrap();
    let code = |answer: (u16, String)| {
        let body: serde_json::Value = serde_json::from_str(&answer.1).unwrap();
        (answer.0, body["error_code"].as_u64())
    };
    let steps = [
        ("DELETE", "/subjects/money/versions/1", (422, Some(42_206))),
        ("DELETE", "/subjects/line?permanent=true", (404, Some(40_405))),
        ("DELETE", "/subjects/line", (200, None)),
        ("DELETE", "/subjects/line", (404, Some(40_404))),
        ("GET", "/subjects/line/versions", (404, Some(40_401))),
        ("GET", "/subjects/line/versions?deleted=true", (200, None)),
        ("GET", "/schemas/ids/2", (200, None)),
        ("DELETE", "/subjects/line?permanent=true", (200, None)),
        ("GET", "/subjects/line/versions?deleted=true", (404, Some(40_401))),
        ("DELETE", "/subjects/money/versions/latest?permanent=true", (404, Some(40_407))),
        ("DELETE", "/subjects/money/versions/2", (200, None)),
        ("DELETE", "/subjects/money/versions/2", (404, Some(40_406))),
        ("GET", "/subjects/money/versions/2", (404, Some(40_402))),
        ("GET", "/subjects/money/versions/0", (422, Some(42_202))),
        ("GET", "/subjects/money/versions/x", (422, Some(42_202))),
        ("GET", "/subjects/money/versions/-1", (200, None)),
        ("GET", "/schemas/ids/99", (404, Some(40_403))),
        ("GET", "/config/money", (404, Some(40_408))),
        ("GET", "/config/money?defaultToGlobal=true", (200, None)),
        ("GET", "/nowhere", (404, Some(404))),
    ];
    for (method, path, expected) in steps {
        assert_eq!(code(raw(&url, method, path, "").await), expected, "{method} {path}");
    }
    assert_eq!(registry.latest("money").await.unwrap().version, 1);
    assert_eq!(registry.register("money", "\"int\"", &[]).await.unwrap(), SchemaId(4));
    assert_eq!(registry.versions("money").await.unwrap(), [1, 3]);
}

#[tokio::test]
async fn the_server_keeps_levels_and_answers_compatibility() {
    let (_, registry, url) = served().await;
    registry.register("s", MONEY, &[]).await.unwrap();
    let set = raw(&url, "PUT", "/config/s", r#"{"compatibility":"full_transitive"}"#).await;
    assert_eq!(set, (200, r#"{"compatibility":"FULL_TRANSITIVE"}"#.to_owned()));
    let got = raw(&url, "GET", "/config/s", "").await;
    assert_eq!(got, (200, r#"{"compatibilityLevel":"FULL_TRANSITIVE"}"#.to_owned()));
    let got = raw(&url, "GET", "/config", "").await;
    assert_eq!(got, (200, r#"{"compatibilityLevel":"BACKWARD"}"#.to_owned()));
    assert_eq!(raw(&url, "PUT", "/config", r#"{"compatibility":"SOME"}"#).await.0, 422);
    let body = serde_json::json!({"schema": MONEY}).to_string();
    for path in [
        "/compatibility/subjects/s/versions",
        "/compatibility/subjects/s/versions/latest",
        "/compatibility/subjects/s/versions/1",
        "/compatibility/subjects/none/versions/latest",
    ] {
        assert_eq!(
            raw(&url, "POST", path, &body).await,
            (200, r#"{"is_compatible":true}"#.to_owned())
        );
    }
    let (status, _) = raw(&url, "POST", "/compatibility/subjects/s/versions/9", &body).await;
    assert_eq!(status, 404);
    let broken = r#"{"schema":"{"}"#;
    let path = "/compatibility/subjects/s/versions/latest";
    assert_eq!(raw(&url, "POST", path, broken).await.0, 422);
    let (status, answer) = raw(&url, "POST", &format!("{path}?verbose=true"), broken).await;
    assert!(status == 200 && answer.contains("\"is_compatible\":false"), "{answer}");
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_by_the_checker_with_javas_reasons() {
    let (_, registry, url) = served().await;
    registry.register("s", MONEY, &[]).await.unwrap();
    let text = MONEY.replace("\"long\"", "\"boolean\"");
    let refused = registry.register("s", &text, &[]).await;
    let Err(RegistryError::Incompatible { subject, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(subject, "s");
    assert!(message.contains("reader type: BOOLEAN not compatible with writer type: LONG"));
    let body = serde_json::json!({"schema": text}).to_string();
    let (status, answer) = raw(&url, "POST", "/subjects/s/versions", &body).await;
    assert_eq!(status, 409);
    assert!(answer.contains("\"error_code\":40901"), "{answer}");
    let of = Proposal { subject: "s", text: &text, references: &[] };
    let verdict = registry.would_take(of).await.unwrap();
    assert!(!verdict.is_compatible);
    assert_eq!(
        verdict.messages,
        [
            "{errorType:'TYPE_MISMATCH', description:'The type (path '/fields/0/type') of a field \
             in the new schema does not match with the old schema', additionalInfo:'reader type: \
             BOOLEAN not compatible with writer type: LONG'}",
            "{oldSchemaVersion: 1}",
            &format!("{{oldSchema: '{MONEY}'}}"),
            "{validateFields: 'false', compatibility: 'BACKWARD'}",
        ]
    );
    registry.set_level(Some("s"), Level::None).await.unwrap();
    registry.register("s", &text, &[]).await.unwrap();
}

#[tokio::test]
async fn an_old_server_without_the_call_is_asked_version_by_version() {
    for answer in [axum::http::StatusCode::NOT_FOUND, axum::http::StatusCode::METHOD_NOT_ALLOWED] {
        let memory = Arc::new(MemoryRegistry::new());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let path = "/compatibility/subjects/{subject}/versions";
        let router = axum::Router::new()
            .route(path, axum::routing::post(move || async move { answer }))
            .fallback_service(dev_server::router(Arc::clone(&memory)));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let registry = HttpRegistry::try_new(&HttpSettings::new(url)).unwrap();
        let text = |fields: &str| format!(r#"{{"type":"record","name":"T","fields":[{fields}]}}"#);
        let (first, second) = (text(""), text(r#"{"name":"a","type":"int","default":1}"#));
        let third = text(r#"{"name":"a","type":"int"}"#);
        let of = Proposal { subject: "t", text: &third, references: &[] };
        assert!(registry.would_take(of).await.unwrap().is_compatible, "a new subject");
        registry.register("t", &first, &[]).await.unwrap();
        registry.register("t", &second, &[]).await.unwrap();
        assert!(registry.would_take(of).await.unwrap().is_compatible, "the newest version");
        registry.set_level(Some("t"), Level::BackwardTransitive).await.unwrap();
        assert!(!registry.would_take(of).await.unwrap().is_compatible, "and the ones before it");
        registry.set_level(Some("t"), Level::None).await.unwrap();
        assert!(registry.would_take(of).await.unwrap().is_compatible);
    }
}

#[tokio::test]
async fn properties_in_another_order_are_the_same_schema_when_normalized() {
    let (_, registry, _) = served().await;
    let text = |properties: &str| format!(r#"{{"type":"fixed","name":"F",{properties},"size":4}}"#);
    let (ab, ba) = (text(r#""a":1,"b":2"#), text(r#""b":2,"a":1"#));
    let of = |text| Proposal { subject: "n", text, references: &[] };
    let id = registry.register_as(of(&ab), Normalize::Yes).await.unwrap();
    assert_eq!(registry.register_as(of(&ba), Normalize::Yes).await.unwrap(), id);
    assert_ne!(registry.register_as(of(&ba), Normalize::No).await.unwrap(), id);
}

#[tokio::test]
async fn a_subject_that_is_read_only_takes_nothing() {
    let (memory, registry, _) = served().await;
    memory.set_mode(Some("s"), "READONLY").unwrap();
    let refused = registry.register("s", MONEY, &[]).await.unwrap_err();
    assert!(matches!(refused, RegistryError::Rejected { status: 422, error_code: 42_205, .. }));
    assert!(memory.set_mode(None, "SIDEWAYS").is_err());
}
