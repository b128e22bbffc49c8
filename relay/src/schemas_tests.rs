//! Which schema encodes a payload, and what is asked when none is known.

use walpost_schema::avro::Schema;

use super::*;

const V1: &str = r#"{"type":"record","name":"P","fields":[{"name":"a","type":"int"}]}"#;
const V2: &str = r#"{"type":"record","name":"P","fields":[
    {"name":"a","type":"int"},{"name":"b","type":"int"}]}"#;

fn registered(version: u32, text: &str) -> Arc<Registered> {
    let schema = Schema::parse(text, &[]).expect("schema");
    Arc::new(Registered {
        subject: "s".to_owned(),
        version,
        id: SchemaId(100 + version),
        text: text.into(),
        schema: Arc::new(schema),
    })
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Encodes `json` at `at`, answering questions by `answer`; the id used or the refusal, and how
/// many questions were asked.
fn encode(
    schemas: &mut Schemas,
    version: Option<u32>,
    json: &str,
    at: Duration,
    answer: impl Fn(&Question) -> Answer,
) -> (Result<u32, SchemaError>, usize) {
    let (subject, name) = (Arc::from("s"), Arc::from("P"));
    let mut out = Vec::new();
    for asked in 0..10 {
        match schemas.encode(&subject, &name, version, json, at, &mut out) {
            Ok(id) => return (Ok(id.0), asked),
            Err(Obstacle::Refuse(error)) => {
                assert!(out.is_empty(), "a refused payload leaves no bytes");
                return (Err(error), asked);
            }
            Err(Obstacle::Ask(question)) => {
                let answer = answer(&question);
                schemas.learn(&question, answer, at);
            }
        }
    }
    panic!("the same question is asked for ever");
}

fn registry(question: &Question) -> Answer {
    match question {
        Question::Latest { .. } => Answer::Schema(registered(2, V2)),
        Question::Version { version: 1, .. } => Answer::Schema(registered(1, V1)),
        Question::Version { .. } => Answer::Missing,
        Question::History { .. } => Answer::Schemas(vec![registered(2, V2), registered(1, V1)]),
        Question::SchemaOfId { .. } | Question::Topic { .. } | Question::Partitions { .. } => {
            Answer::Missing
        }
    }
}

#[test]
fn the_latest_version_is_asked_for_once() {
    let mut schemas = Schemas::new(seconds(30));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(0), registry), (Ok(102), 1));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(9), registry), (Ok(102), 0));
}

#[test]
fn a_payload_of_an_earlier_version_is_encoded_with_it() {
    let mut schemas = Schemas::new(seconds(30));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1}"#, seconds(0), registry), (Ok(101), 2));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1}"#, seconds(20), registry), (Ok(101), 0));
}

#[test]
fn a_version_registered_a_moment_ago_is_found_before_the_refresh() {
    let mut schemas = Schemas::new(seconds(3600));
    let before = |question: &Question| match question {
        Question::Latest { .. } => Answer::Schema(registered(1, V1)),
        Question::History { .. } => Answer::Schemas(vec![registered(1, V1)]),
        _ => Answer::Missing,
    };
    assert_eq!(encode(&mut schemas, None, r#"{"a":1}"#, seconds(0), before).0, Ok(101));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(1), registry), (Ok(102), 1));
    // From now on the new version is the latest.
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(2), registry), (Ok(102), 0));
}

#[test]
fn a_payload_that_fits_nothing_is_refused_and_asked_about_every_few_seconds() {
    let mut schemas = Schemas::new(seconds(3600));
    let (refused, asked) = encode(&mut schemas, None, r#"{"x":1}"#, seconds(0), registry);
    assert!(matches!(refused, Err(SchemaError::Unfit { version: 2, .. })), "{refused:?}");
    assert_eq!(asked, 2);
    assert_eq!(encode(&mut schemas, None, r#"{"x":1}"#, seconds(1), registry).1, 0);
    assert_eq!(encode(&mut schemas, None, r#"{"x":1}"#, seconds(6), registry).1, 1);
}

#[test]
fn the_version_a_row_names_is_used_and_no_other() {
    let mut schemas = Schemas::new(seconds(30));
    assert_eq!(encode(&mut schemas, Some(1), r#"{"a":1}"#, seconds(0), registry), (Ok(101), 1));
    let (refused, _) = encode(&mut schemas, Some(1), r#"{"a":1,"b":2}"#, seconds(0), registry);
    assert!(matches!(refused, Err(SchemaError::Unfit { version: 1, .. })), "{refused:?}");
}

#[test]
fn a_missing_subject_is_asked_for_again_for_ten_seconds_and_then_refused_at_once() {
    let mut schemas = Schemas::new(seconds(30));
    let (subject, name): (Arc<str>, Arc<str>) = (Arc::from("s"), Arc::from("P"));
    let mut ask = |at| schemas_encode(&mut schemas, &subject, &name, at);
    for at in 0..10 {
        assert!(matches!(ask(seconds(at)), Err(Obstacle::Ask(_))), "at {at}");
    }
    let refused = ask(seconds(11));
    assert!(matches!(refused, Err(Obstacle::Refuse(SchemaError::NotRegistered { .. }))));
    // Every few seconds it is looked for again, and found when it appears.
    assert!(matches!(ask(seconds(17)), Err(Obstacle::Ask(_))));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(23), registry).0, Ok(102));

    fn schemas_encode(
        schemas: &mut Schemas,
        subject: &Arc<str>,
        name: &Arc<str>,
        at: Duration,
    ) -> Result<SchemaId, Obstacle> {
        let found = schemas.encode(subject, name, None, "{}", at, &mut Vec::new());
        if let Err(Obstacle::Ask(question)) = &found {
            schemas.learn(question, Answer::Missing, at);
        }
        found
    }
}

#[test]
fn a_refresh_is_due_after_its_interval_and_a_failed_one_keeps_the_version() {
    let mut schemas = Schemas::new(seconds(30));
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(0), registry).0, Ok(102));
    assert_eq!(schemas.refresh_due(seconds(29)), None);
    let due = schemas.refresh_due(seconds(30)).expect("due");
    schemas.learn(&due, Answer::Unavailable, seconds(30));
    assert_eq!(schemas.refresh_due(seconds(31)), None);
    assert_eq!(encode(&mut schemas, None, r#"{"a":1,"b":2}"#, seconds(31), registry), (Ok(102), 0));
}

#[test]
fn a_refusal_shows_nothing_of_the_payload() {
    let mut schemas = Schemas::new(seconds(30));
    let payload = r#"{"a":"s3cret","s3cret":1}"#;
    let (refused, _) = encode(&mut schemas, None, payload, seconds(0), registry);
    let text = refused.expect_err("unfit").to_string();
    assert!(!text.contains("s3cret") && text.contains("expected int"), "{text}");
}

#[test]
fn invented_subjects_do_not_fill_the_memory() {
    let mut schemas = Schemas::new(seconds(30));
    for number in 0..=u32::try_from(limits::DESTINATIONS_MAX).expect("small") {
        let subject = Arc::from(format!("s{number}"));
        let question = Question::Latest { subject, full_name: Arc::from("P") };
        schemas.learn(&question, Answer::Missing, seconds(0));
    }
    assert!(schemas.subjects.len() <= limits::DESTINATIONS_MAX);
}

#[test]
fn a_name_that_no_record_can_have_is_never_asked_for() {
    for (name, is_legal) in [
        ("shop.OrderPlaced", true),
        ("_a1.B_2", true),
        ("über.Größe", true),
        ("my_shop.OrderPlaced", true),
        ("my-shop.OrderPlaced", false),
        ("my/shop.OrderPlaced", false),
        ("", false),
        ("a..b", false),
        (".a", false),
        ("1st", false),
        ("order placed", false),
        ("a/b", false),
        ("a\n", false),
    ] {
        assert_eq!(is_record_name(name), is_legal, "{name:?}");
        let text = format!(r#"{{"type":"record","name":{name:?},"fields":[]}}"#);
        assert!(!is_legal || Schema::parse(&text, &[]).is_ok(), "{name:?}");
    }
}
