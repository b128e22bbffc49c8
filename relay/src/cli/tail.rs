//! `walpost tail`: the events of a topic, decoded, one line or one JSON document each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use walpost_schema::encode::{EncodeOptions, Plan};
use walpost_schema::envelope;
use walpost_schema::registry::Registry;
use walpost_schema::wire::{self, SchemaId};

use super::output::{print, printable};
use super::{Answer, ConfigSource, Exit, Failure, Output};
use crate::clock::unix_ms;
use crate::consume::{From, ReadRecord, TopicReader};
use crate::registry;

/// How long one look for the next record takes; Ctrl-C ends the process in between.
const POLL: Duration = Duration::from_millis(100);

/// Shows the events of a topic, decoded by the schema that each record names.
///
/// A record that cannot be decoded is one line with its id and the reason, and does not stop the
/// rest.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The topic.
    topic: String,
    /// Where to start.
    #[arg(long, value_enum, default_value_t = Start::End)]
    from: Start,
    /// Start at the first record of the last so long: 90s, 5m, 1h, 2d.
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    since: Option<String>,
    /// End after so many events.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Only events with this key (aggregate id).
    #[arg(long)]
    key: Option<String>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// End when everything that was there at the start has been shown.
    #[arg(long)]
    no_follow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Start {
    Beginning,
    End,
}

pub(super) async fn run(arguments: Arguments, config: &ConfigSource, output: Output) -> Answer {
    let settings = config.load()?;
    let registry = registry::client(settings.registry.as_ref())
        .map_err(|reason| Failure::usage(anyhow::anyhow!("schema registry: {reason}")))?;
    let from = match (&arguments.since, arguments.from) {
        (Some(text), _) => From::Time { unix_ms: unix_ms() - since_ms(text)? },
        (None, Start::Beginning) => From::Beginning,
        (None, Start::End) => From::End,
    };
    let (kafka, topic) = (settings.kafka.clone(), arguments.topic.clone());
    let opened = tokio::task::spawn_blocking(move || TopicReader::open(&kafka, &[topic], from));
    let opened = opened.await.map_err(Failure::could_not_tell)?;
    let mut reader = opened.map_err(Failure::could_not_tell)?;
    let mut decoder = Decoder::new(registry);
    let mut shown = 0;
    loop {
        if arguments.no_follow && reader.is_at_end() {
            return Ok(Exit::Fine);
        }
        let polled = tokio::task::spawn_blocking(move || {
            let next = reader.next(POLL);
            (reader, next)
        });
        let next;
        (reader, next) = polled.await.map_err(Failure::could_not_tell)?;
        let Some(record) = next.map_err(Failure::could_not_tell)? else { continue };
        if !arguments.wants(&record) {
            continue;
        }
        let event = decoder.decode(&record).await;
        print(&event.line(&record, output))?;
        shown += 1;
        if arguments.count.is_some_and(|count| shown >= count) {
            return Ok(Exit::Fine);
        }
    }
}

impl Arguments {
    fn wants(&self, record: &ReadRecord) -> bool {
        let key = record.key.as_deref();
        let is_key = self.key.as_ref().is_none_or(|wanted| key == Some(wanted.as_bytes()));
        let found = record.header(envelope::HEADER_TYPE);
        is_key && self.event_type.as_ref().is_none_or(|wanted| found == Some(wanted))
    }
}

fn since_ms(text: &str) -> Result<i64, Failure> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let factor = match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let number: i64 = digits.parse().unwrap_or(0);
    match number.checked_mul(factor) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => {
            let hint = "--since wants a time such as 90s, 5m, 1h or 2d";
            Err(Failure::usage(anyhow::anyhow!("\"{text}\" is no time: {hint}")))
        }
    }
}

/// Decodes values by the schemas that they name; each schema is asked for once.
pub(super) struct Decoder {
    registry: Arc<dyn Registry>,
    plans: HashMap<SchemaId, Result<Arc<Plan>, String>>,
}

/// A record's value for people.
#[derive(Debug)]
pub(super) enum Decoded {
    /// JSON text, and the id of the schema where there was one.
    Json(String, Option<SchemaId>),
    /// No value.
    Tombstone,
    /// Why it cannot be shown.
    Undecodable(String),
}

impl Decoder {
    pub(super) fn new(registry: Arc<dyn Registry>) -> Self {
        Self { registry, plans: HashMap::new() }
    }

    pub(super) async fn decode(&mut self, record: &ReadRecord) -> Decoded {
        let Some(value) = &record.value else { return Decoded::Tombstone };
        match wire::decode(value) {
            Ok((id, body)) => match self.plan(id).await {
                Ok(plan) => {
                    let mut text = String::new();
                    match plan.decode(body, &mut text) {
                        Ok(()) => Decoded::Json(text, Some(id)),
                        Err(error) => Decoded::Undecodable(format!("schema id {id}: {error}")),
                    }
                }
                Err(reason) => Decoded::Undecodable(format!("schema id {id}: {reason}")),
            },
            // A topic of plain JSON.
            Err(_) => match std::str::from_utf8(value) {
                Ok(text) if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => {
                    Decoded::Json(text.to_owned(), None)
                }
                _ => Decoded::Undecodable(format!("{} bytes that are no known form", value.len())),
            },
        }
    }

    /// A schema that exists is remembered for ever, and so is one that cannot be used; a registry
    /// that did not answer is asked again for the next record.
    async fn plan(&mut self, id: SchemaId) -> Result<Arc<Plan>, String> {
        if let Some(known) = self.plans.get(&id) {
            return known.clone();
        }
        let registered = self.registry.by_id(id).await.map_err(|error| error.to_string())?;
        let plan = Plan::compile(&registered.schema, &EncodeOptions::default())
            .map(Arc::new)
            .map_err(|error| error.to_string());
        self.plans.insert(id, plan.clone());
        plan
    }
}

impl Decoded {
    /// One line with its line end.
    pub(super) fn line(&self, record: &ReadRecord, output: Output) -> String {
        match output {
            Output::Json => format!("{}\n", self.json(record)),
            Output::Text => format!("{}\n", self.text(record)),
        }
    }

    fn text(&self, record: &ReadRecord) -> String {
        let time = record.timestamp_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let time = time.map_or_else(|| "?".to_owned(), |time| format!("{time:.3}"));
        let key = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let kind = record.header(envelope::HEADER_TYPE).unwrap_or("?");
        let value = match self {
            Self::Json(text, _) => printable(text),
            Self::Tombstone => "(tombstone)".to_owned(),
            Self::Undecodable(reason) => {
                let id = record.header(envelope::HEADER_ID).unwrap_or("without id");
                format!("(event {} cannot be decoded: {})", printable(id), printable(reason))
            }
        };
        format!("{time}  {}  {}  {value}", printable(&key), printable(kind))
    }

    fn json(&self, record: &ReadRecord) -> Value {
        let headers: serde_json::Map<String, Value> = record
            .headers
            .iter()
            .map(|(name, value)| {
                let text =
                    value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned());
                (name.clone(), text.map_or(Value::Null, Value::String))
            })
            .collect();
        let (value, schema_id, error) = match self {
            Self::Json(text, id) => {
                let raw = serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
                (raw, id.map(|id| id.0), None)
            }
            Self::Tombstone => (Value::Null, None, None),
            Self::Undecodable(reason) => (Value::Null, None, Some(reason.clone())),
        };
        json!({
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp_ms": record.timestamp_ms,
            "key": record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()),
            "headers": headers,
            "schema_id": schema_id,
            "value": value,
            "error": error,
        })
    }
}
