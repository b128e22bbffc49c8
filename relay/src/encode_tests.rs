//! Records are built as the wire form says, or refused with a reason.

use std::num::NonZeroU32;

use walpost_schema::avro::Schema;
use walpost_schema::envelope::EventPosition;
use walpost_schema::registry::Registered;

use super::*;
use crate::decode::PostgresMicros;
use crate::position::Offsets;
use crate::route::Unpublishable;

const SCHEMA: &str = r#"{"type":"record","name":"P","fields":[{"name":"a","type":"int"}]}"#;

fn encoder() -> Encoder {
    let source = SourceId::try_new("shop", 3).expect("source");
    Encoder::new(source, SchemaNaming::default(), Duration::from_secs(30))
}

fn event(payload: Payload<'static>) -> OutboxEvent<'static> {
    OutboxEvent {
        position: EventPosition { commit_lsn: 0x10, ordinal: 1 },
        commit_time: PostgresMicros(0),
        id: "018f3e2a-7b4c-7d1e-8a2b-3c4d5e6f7a8b".into(),
        aggregate_type: "order".into(),
        aggregate_id: "foobar".into(),
        event_type: "P".into(),
        payload,
        headers: None,
        schema_version: None,
        created_at: None,
    }
}

fn to(payload: PayloadForm) -> Destination {
    Destination { topic: Arc::from("t"), payload, on_unpublishable: Unpublishable::Park }
}

fn answer(question: &Question) -> Answer {
    let registered = || {
        Arc::new(Registered {
            subject: "t-P".to_owned(),
            version: 1,
            id: SchemaId(7),
            text: SCHEMA.into(),
            schema: Arc::new(Schema::parse(SCHEMA, &[]).expect("schema")),
        })
    };
    match question {
        Question::Latest { subject, .. } if &**subject == "t-P" => Answer::Schema(registered()),
        Question::SchemaOfId { id: SchemaId(7), .. } => Answer::Schema(registered()),
        Question::History { .. } => Answer::Schemas(vec![registered()]),
        _ => Answer::Missing,
    }
}

fn facts(partitions: u32, message_bytes_max: usize) -> TopicFacts {
    let partitions = NonZeroU32::new(partitions).expect("partitions");
    TopicFacts { partitions, message_bytes_max }
}

/// Answers a question as the world would.
fn learn(encoder: &mut Encoder, question: &Question) {
    if let Question::Topic { topic } = question {
        let id = Offsets::default().enter(topic, &[]);
        encoder.learn_topic(topic, Some((id, facts(6, 1_000))), Duration::ZERO);
    } else {
        encoder.learn(question, answer(question), Duration::ZERO);
    }
}

/// Encodes after answering whatever is asked: value and partition.
fn encode(
    payload: Payload<'static>,
    form: PayloadForm,
) -> Result<(Option<Vec<u8>>, u32), EncodeError> {
    let mut encoder = encoder();
    let (event, destination) = (event(payload), to(form));
    loop {
        let question = match encoder.encode(&event, &destination, Duration::ZERO) {
            Ok(record) => {
                assert_eq!((record.topic, record.key), ("t", &b"foobar"[..]));
                assert_eq!(record.timestamp_ms, 946_684_800_000);
                return Ok((record.value.map(<[u8]>::to_vec), record.place.partition));
            }
            Err(Obstacle::Refuse(error)) => return Err(error),
            Err(Obstacle::Ask(question)) => question,
        };
        learn(&mut encoder, &question);
    }
}

#[test]
fn json_becomes_framed_avro_on_the_partition_of_java() {
    let (value, partition) =
        encode(Payload::Text(r#"{"a":1}"#.into()), PayloadForm::Avro).expect("record");
    assert_eq!(value.as_deref(), Some(&[0, 0, 0, 0, 7, 2][..]));
    // murmur2("foobar") is -790332482; with the sign bit cleared 1357151166, modulo 6.
    assert_eq!(partition, 1_357_151_166 % 6);
}

#[test]
fn a_tombstone_has_no_value_in_any_form() {
    for form in [PayloadForm::Avro, PayloadForm::AvroPassthrough, PayloadForm::Json] {
        assert_eq!(encode(Payload::Tombstone, form).expect("record").0, None);
    }
}

#[test]
fn json_and_bytes_pass_as_they_are() {
    let text = || Payload::Text(" {\"a\": 1e2}".into());
    assert_eq!(
        encode(text(), PayloadForm::Json).expect("json").0.as_deref(),
        Some(&b" {\"a\": 1e2}"[..])
    );
    let broken = encode(Payload::Text("{".into()), PayloadForm::Json);
    assert_eq!(broken, Err(EncodeError::NotJson { line: 1, column: 1 }));
    let hex = encode(Payload::Hex("\\x00fF"), PayloadForm::Bytes).expect("bytes");
    assert_eq!(hex.0.as_deref(), Some(&[0, 255][..]));
    let empty = encode(Payload::Hex("\\x"), PayloadForm::Bytes).expect("bytes");
    assert_eq!(empty.0.as_deref(), Some(&[][..]), "empty is not a tombstone");
}

#[test]
fn framed_payloads_are_checked_to_their_last_byte() {
    let form = PayloadForm::AvroPassthrough;
    let fine = encode(Payload::Hex("\\x000000000702"), form).expect("framed");
    assert_eq!(fine.0.as_deref(), Some(&[0, 0, 0, 0, 7, 2][..]));
    let refused = |hex| encode(Payload::Hex(hex), form).expect_err(hex);
    assert!(matches!(refused("\\x0102"), EncodeError::NotFramed(_)));
    assert!(matches!(refused("\\x0000000008"), EncodeError::ForeignId { id: 8, .. }));
    assert!(matches!(refused("\\x0000000007"), EncodeError::BrokenBody { id: 7, .. }));
    assert!(matches!(refused("\\x00000000070202"), EncodeError::BrokenBody { id: 7, .. }));
    assert!(matches!(refused("00"), EncodeError::NotHex));
}

#[test]
fn a_payload_of_the_wrong_form_is_refused() {
    let hex = || Payload::Hex("\\x00");
    assert!(matches!(encode(hex(), PayloadForm::Avro), Err(EncodeError::PayloadIsBytes { .. })));
    assert!(matches!(encode(hex(), PayloadForm::Json), Err(EncodeError::PayloadIsBytes { .. })));
    let text = Payload::Text("{}".into());
    assert!(matches!(encode(text, PayloadForm::AvroPassthrough), Err(EncodeError::PayloadIsText)));
}

#[test]
fn a_record_larger_than_its_topic_takes_is_refused_with_both_sizes() {
    let large = Payload::Text(format!("{{\"x\":\"{}\"}}", "x".repeat(1_000)).into());
    let error = encode(large, PayloadForm::Json).expect_err("too large");
    assert!(matches!(error, EncodeError::TooLarge { limit: 1_000, .. }), "{error}");
}

#[test]
fn a_limit_that_was_raised_meanwhile_is_asked_for_before_a_refusal() {
    let mut encoder = encoder();
    let large = Payload::Json(format!("{{\"x\":\"{}\"}}", "x".repeat(1_000)).into());
    let (event, destination) = (event(large), to(PayloadForm::Json));
    let question = Question::Topic { topic: Arc::from("t") };
    learn(&mut encoder, &question);
    let later = NEGATIVE_TTL;
    let asked = encoder.encode(&event, &destination, later).expect_err("too large so far");
    assert_eq!(asked, Obstacle::Ask(question.clone()));
    let before = encoder.encode(&self::event(Payload::Tombstone), &destination, later);
    let before = before.expect("small").place;
    let id = before.topic;
    encoder.learn_topic(&Arc::from("t"), Some((id, facts(7, 2_000))), later);
    let record = encoder.encode(&event, &destination, later).expect("record");
    assert_eq!(record.place, before, "the count of partitions is kept");
}

#[test]
fn a_missing_topic_is_waited_for_once_and_then_refused() {
    let mut encoder = encoder();
    let (event, destination) = (event(Payload::Tombstone), to(PayloadForm::Json));
    let mut ask = |at: u64| {
        let at = Duration::from_secs(at);
        let question = match encoder.encode(&event, &destination, at) {
            Ok(_) => panic!("there is no topic"),
            Err(Obstacle::Refuse(error)) => return Some(error),
            Err(Obstacle::Ask(question)) => question,
        };
        let Question::Topic { topic } = question else { panic!("not about a topic") };
        encoder.learn_topic(&topic, None, at);
        None
    };
    for at in [0, 10, 29] {
        assert_eq!(ask(at), None, "at {at}");
    }
    assert_eq!(ask(31), Some(EncodeError::TopicMissing { topic: "t".to_owned() }));
}

#[test]
fn subjects_are_named_by_topic_and_record() {
    let mut naming = SchemaNaming { namespace: Some("shop".to_owned()), ..SchemaNaming::default() };
    naming.types.insert("placed".to_owned(), "shop.v2.Placed".to_owned());
    assert_eq!(naming.full_name("Placed"), "shop.Placed");
    assert_eq!(naming.full_name("other.Placed"), "other.Placed");
    assert_eq!(naming.full_name("placed"), "shop.v2.Placed");
    assert_eq!(naming.subject("t", "shop.Placed"), "t-shop.Placed");
    naming.subject_strategy = SubjectStrategy::Record;
    assert_eq!(naming.subject("t", "shop.Placed"), "shop.Placed");
    naming.subject_strategy = SubjectStrategy::Topic;
    assert_eq!(naming.subject("t", "shop.Placed"), "t-value");
}

#[test]
fn the_source_header_names_the_timeline_of_the_commit() {
    let mut encoder = encoder();
    learn(&mut encoder, &Question::Topic { topic: Arc::from("t") });
    let (event, destination) = (event(Payload::Tombstone), to(PayloadForm::Json));
    for (timeline, header) in [(3, "shop/3"), (2, "shop/2"), (3, "shop/3")] {
        encoder.set_timeline(timeline);
        let record = encoder.encode(&event, &destination, Duration::ZERO).expect("record");
        let source = record.headers.iter().find(|(name, _)| *name == "source");
        assert_eq!(source, Some(("source", Some(header))));
    }
}
