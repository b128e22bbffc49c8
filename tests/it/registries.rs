//! One dialogue with two registries: the real Apicurio Registry and the one of `walpost dev`. Both
//! must answer the same, through our client and on the wire; where Apicurio goes its own way the
//! step says so.

use std::net::TcpListener;
use std::sync::Arc;

use serde_json::{Value, json};
use walpost_schema::compat::Level;
use walpost_schema::registry::{
    Deleted, Deletion, HttpRegistry, HttpSettings, MemoryRegistry, Normalize, Proposal, Reference,
    Registry, RegistryError, dev_server,
};
use walpost_tests::{stack, unique};

/// Runs a dialogue against the real registry, then against the in-process one.
fn with_both<F: Future<Output = ()>>(dialogue: impl Fn(HttpRegistry, bool) -> F) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let client = |url: String| HttpRegistry::try_new(&HttpSettings::new(url)).expect("an address");
    runtime.block_on(async {
        dialogue(client(stack().registry.clone()), true).await;
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let router = dev_server::router(Arc::new(MemoryRegistry::new()));
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        dialogue(client(url), false).await;
        server.abort();
    });
}

fn record(name: &str, fields: Value) -> String {
    json!({"type": "record", "name": name, "namespace": "conformance", "fields": fields})
        .to_string()
}

fn id_only() -> Value {
    json!([{"name": "id", "type": "string"}])
}

fn of<'a>(subject: &'a str, text: &'a str) -> Proposal<'a> {
    Proposal { subject, text, references: &[] }
}

async fn put(registry: &HttpRegistry, subject: &str, text: &str) -> Result<u32, RegistryError> {
    registry.register_as(of(subject, text), Normalize::No).await.map(|id| id.0)
}

#[test]
fn both_refuse_what_is_incompatible_at_each_level() {
    with_both(|registry, _| async move {
        let old = record(
            "A",
            json!([{"name": "id", "type": "string"},
            {"name": "q", "type": "int", "default": 0}]),
        );
        let rows = [
            // name, new schema, levels that refuse it
            (
                "added without default",
                json!([{"name": "id", "type": "string"},
                {"name": "q", "type": "int", "default": 0}, {"name": "n", "type": "int"}]),
                vec![Level::Backward, Level::Full],
            ),
            (
                "dropped without default",
                json!([{"name": "q", "type": "int", "default": 0}]),
                vec![Level::Forward, Level::Full],
            ),
            ("dropped with default", id_only(), vec![]),
            (
                "wider",
                json!([{"name": "id", "type": "string"},
                {"name": "q", "type": "long", "default": 0}]),
                vec![Level::Forward, Level::Full],
            ),
            (
                "narrower",
                json!([{"name": "id", "type": "string"},
                {"name": "q", "type": "boolean", "default": false}]),
                vec![Level::Backward, Level::Forward, Level::Full],
            ),
        ];
        for (name, fields, refusing) in rows {
            let new = record("A", fields);
            for level in [Level::None, Level::Backward, Level::Forward, Level::Full] {
                let subject = unique("level");
                put(&registry, &subject, &old).await.expect("the first version");
                registry.set_level(Some(&subject), level).await.expect("a level");
                assert_eq!(registry.level_in_force(&subject).await, Ok(level));
                let expected = !refusing.contains(&level);
                let verdict = registry.would_take(of(&subject, &new)).await.expect("a verdict");
                assert_eq!(verdict.is_compatible, expected, "{name} at {level}: {verdict:?}");
                let taken = put(&registry, &subject, &new).await;
                match taken {
                    Ok(_) => assert!(expected, "{name} at {level} was taken"),
                    Err(RegistryError::Incompatible { .. }) => {
                        assert!(!expected, "{name} at {level} was refused");
                    }
                    Err(other) => panic!("{name} at {level}: {other}"),
                }
            }
        }
    });
}

#[test]
fn a_transitive_level_looks_behind_the_newest_version() {
    with_both(|registry, _| async move {
        let subject = unique("transitive");
        let texts = [
            record("T", json!([])),
            record("T", json!([{"name": "a", "type": "int", "default": 1}])),
            record("T", json!([{"name": "a", "type": "int"}])),
        ];
        put(&registry, &subject, &texts[0]).await.expect("version 1");
        registry.set_level(Some(&subject), Level::BackwardTransitive).await.expect("a level");
        put(&registry, &subject, &texts[1]).await.expect("version 2");
        let newest =
            registry.would_take_after(of(&subject, &texts[2]), 2).await.expect("a verdict");
        assert!(newest.is_compatible, "the newest alone would do");
        let all = registry.would_take(of(&subject, &texts[2])).await.expect("a verdict");
        assert!(!all.is_compatible);
        let refused = put(&registry, &subject, &texts[2]).await;
        assert!(matches!(refused, Err(RegistryError::Incompatible { .. })), "{refused:?}");
        registry.delete_version(&subject, 1, Deletion::Soft).await.expect("deleted");
        let verdict = registry.would_take(of(&subject, &texts[2])).await.expect("a verdict");
        assert!(verdict.is_compatible, "a deleted version takes no part");
    });
}

#[test]
fn ids_versions_and_lookups_are_the_same() {
    with_both(|registry, is_apicurio| async move {
        let (subject, other) = (unique("ids"), unique("ids"));
        let (one, two) = (record("I", id_only()), record("I", json!([])));
        let first = put(&registry, &subject, &one).await.expect("version 1");
        assert_eq!(put(&registry, &subject, &one).await, Ok(first), "again: the same id");
        assert_eq!(registry.versions(&subject).await, Ok(vec![1]));
        assert!(put(&registry, &other, &one).await.is_ok());
        let second = put(&registry, &subject, &two).await.expect("version 2");
        assert_ne!(first, second);
        let latest = registry.latest(&subject).await.expect("a version");
        assert_eq!((latest.version, latest.id.0), (2, second));
        assert_eq!(registry.lookup(&subject, &one).await.expect("found").version, 1);
        let absent = registry.lookup(&subject, "\"int\"").await;
        assert!(matches!(absent, Err(RegistryError::SchemaNotFound { .. })), "{absent:?}");
        let absent = registry.version(&subject, 9).await.err();
        assert!(matches!(absent, Some(RegistryError::VersionNotFound { version: 9, .. })));
        let nobody = unique("nobody");
        for absent in [
            registry.latest(&nobody).await.err(),
            registry.versions(&nobody).await.err(),
            registry.lookup(&nobody, &one).await.err(),
        ] {
            assert!(matches!(absent, Some(RegistryError::SubjectNotFound { .. })), "{absent:?}");
        }
        let fresh = registry.would_take(of(&nobody, &one)).await.expect("a verdict");
        assert!(fresh.is_compatible, "a subject without versions takes anything");
        if !is_apicurio {
            // Apicurio numbers versions of different subjects apart.
            assert_eq!(registry.latest(&other).await.expect("a version").id.0, first);
        }
    });
}

#[test]
fn what_does_not_parse_is_refused_with_the_same_code() {
    with_both(|registry, _| async move {
        let subject = unique("bad");
        for text in
            ["{nonsense", r#"{"type":"record","name":"U","fields":[{"name":"m","type":"no.M"}]}"#]
        {
            let refused = put(&registry, &subject, text).await;
            let code = match &refused {
                Err(RegistryError::Rejected { status: 422, error_code, .. }) => *error_code,
                other => panic!("{other:?}"),
            };
            assert_eq!(code, 42_201);
        }
    });
}

#[test]
fn references_are_resolved_kept_and_protected() {
    with_both(|registry, _| async move {
        let (money, order) = (unique("money"), unique("order"));
        let text = record("Money", json!([{"name": "cents", "type": "long"}]));
        put(&registry, &money, &text).await.expect("money");
        let references = [Reference {
            name: "conformance.Money".to_owned(),
            subject: money.clone(),
            version: 1,
        }];
        let text = record("Order", json!([{"name": "total", "type": "conformance.Money"}]));
        let of_order = Proposal { subject: &order, text: &text, references: &references };
        assert!(registry.would_take(of_order).await.expect("a verdict").is_compatible);
        let id = registry.register_as(of_order, Normalize::No).await.expect("order");
        let found = registry.latest(&order).await.expect("order");
        assert_eq!(found.schema.name().map(|name| name.full()), Some("conformance.Order"));
        assert_eq!(
            registry.lookup_with(&order, &text, &references).await.expect("order").version,
            1
        );
        assert_eq!(registry.referenced_by(&money, 1).await, Ok(vec![id]));
        let refused = registry.delete_subject(&money, Deletion::Soft).await;
        let is_protected =
            matches!(refused, Err(RegistryError::Rejected { status: 422, error_code: 42_206, .. }));
        assert!(is_protected, "{refused:?}");
    });
}

#[test]
fn deletion_is_soft_first() {
    with_both(|registry, _| async move {
        let subject = unique("deleted");
        put(&registry, &subject, &record("D", id_only())).await.expect("version 1");
        put(&registry, &subject, &record("D", json!([]))).await.expect("version 2");
        assert_eq!(registry.delete_version(&subject, 2, Deletion::Soft).await, Ok(2));
        assert_eq!(registry.versions(&subject).await, Ok(vec![1]));
        assert_eq!(registry.versions_with(&subject, Deleted::Shown).await, Ok(vec![1, 2]));
        assert_eq!(registry.latest(&subject).await.expect("version 1").version, 1);
        assert_eq!(registry.delete_version(&subject, 2, Deletion::Permanent).await, Ok(2));
        assert_eq!(registry.versions_with(&subject, Deleted::Shown).await, Ok(vec![1]));
        assert_eq!(registry.delete_subject(&subject, Deletion::Soft).await, Ok(vec![1]));
        assert!(!registry.subjects().await.expect("subjects").contains(&subject));
        let shown = registry.subjects_with(Deleted::Shown).await.expect("subjects");
        assert!(shown.contains(&subject));
        assert_eq!(registry.delete_subject(&subject, Deletion::Permanent).await, Ok(vec![1]));
        let shown = registry.subjects_with(Deleted::Shown).await.expect("subjects");
        assert!(!shown.contains(&subject));
    });
}

#[test]
fn levels_are_set_read_and_taken_away() {
    with_both(|registry, is_apicurio| async move {
        let subject = unique("config");
        put(&registry, &subject, &record("L", id_only())).await.expect("version 1");
        let global = registry.global_level().await.expect("a level");
        assert_eq!(registry.level_in_force(&subject).await, Ok(global));
        for level in Level::ALL {
            registry.set_level(Some(&subject), level).await.expect("a level");
            assert_eq!(registry.own_level(&subject).await, Ok(Some(level)));
        }
        registry.delete_level(&subject).await.expect("taken away");
        assert_eq!(registry.level_in_force(&subject).await, Ok(global));
        let own = registry.own_level(&subject).await.expect("an answer");
        // Apicurio says NONE where Confluent says that there is none.
        assert_eq!(own, is_apicurio.then_some(Level::None));
    });
}

#[test]
fn normalize_makes_no_difference_of_the_order_of_properties_in_ours() {
    with_both(|registry, is_apicurio| async move {
        let subject = unique("normalize");
        let texts = [r#""b":1,"a":2"#, r#""a":2,"b":1"#].map(|properties| {
            format!(r#"{{"type":"record","name":"conformance.N",{properties},"fields":[]}}"#)
        });
        let mut ids = Vec::new();
        for text in &texts {
            let id = registry.register_as(of(&subject, text), Normalize::Yes).await;
            ids.push(id.expect("registered").0);
        }
        // Confluent finds them the same; Apicurio's canonical form keeps the order.
        assert_eq!(ids[0] == ids[1], !is_apicurio, "{ids:?}");
    });
}
