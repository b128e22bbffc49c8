//! An event in, its [`Destination`] out: the topic and the form of its value. Pure.
//!
//! Rules are tried in the order of the file; the first that matches decides. The answer depends on
//! the aggregate type and the event type alone and is remembered.

use std::sync::Arc;

use foldhash::HashMap;

use crate::limits;

/// A `[[source.route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteRule {
    /// The aggregate type it is for; `None` is any.
    pub aggregate_type: Option<String>,
    /// The event type it is for; `None` is any.
    pub event_type: Option<String>,
    /// The topic.
    pub topic: TopicTemplate,
    /// The form of the value.
    pub payload: PayloadForm,
    /// What becomes of an event that can never be published.
    pub on_unpublishable: Unpublishable<TopicTemplate>,
}

/// What becomes of an event that can never be published as things are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Unpublishable<T> {
    /// It is kept in the parking lot, and later events of its aggregate behind it.
    #[default]
    Park,
    /// Its source stops.
    Stop,
    /// It goes to this topic as it came, and its aggregate goes on without it.
    DeadLetter(T),
}

/// The form of a record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PayloadForm {
    /// JSON in the row, framed Avro in the record, by the registered schema.
    #[default]
    Avro,
    /// The row holds framed Avro already; id and body are checked.
    AvroPassthrough,
    /// The JSON text as it is.
    Json,
    /// The bytes as they are.
    Bytes,
}

impl PayloadForm {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::AvroPassthrough => "avro-passthrough",
            Self::Json => "json",
            Self::Bytes => "bytes",
        }
    }
}

/// A topic's name with `{aggregate_type}` and `{event_type}` in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    AggregateType,
    EventType,
}

/// The template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A `{` without its `}`.
    #[error("topic \"{template}\" has a {{ without a }}")]
    Unclosed {
        /// The template.
        template: String,
    },
    /// Something else than the two known names in braces.
    #[error("topic \"{template}\": use {{aggregate_type}} or {{event_type}}, not {{{found}}}")]
    UnknownName {
        /// The template.
        template: String,
        /// The name found.
        found: String,
    },
}

/// The event has no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No rule matches.
    #[error("no route matches aggregate type \"{aggregate_type}\", event type \"{event_type}\"")]
    NoRoute {
        /// The event's aggregate type.
        aggregate_type: String,
        /// The event's type.
        event_type: String,
    },
    /// The template gives a name that Kafka does not allow.
    #[error("\"{topic}\" is no topic name: {reason}")]
    TopicName {
        /// The name.
        topic: String,
        /// The rule it breaks.
        reason: &'static str,
    },
}

/// Where an event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The topic.
    pub topic: Arc<str>,
    /// The form of the value.
    pub payload: PayloadForm,
    /// What becomes of the event if it can never go there.
    pub on_unpublishable: Unpublishable<Arc<str>>,
}

/// The rules, and what was decided by them so far.
#[derive(Debug)]
pub struct Router {
    rules: Vec<RouteRule>,
    decided: HashMap<String, HashMap<String, Destination>>,
    decided_count: usize,
}

impl Router {
    /// Routes by `rules`, in their order.
    pub fn new(rules: Vec<RouteRule>) -> Self {
        Self { rules, decided: HashMap::default(), decided_count: 0 }
    }

    /// The destination of an event of these types.
    pub fn route(
        &mut self,
        aggregate_type: &str,
        event_type: &str,
    ) -> Result<Destination, RouteError> {
        let known = self.decided.get(aggregate_type).and_then(|types| types.get(event_type));
        if let Some(destination) = known {
            return Ok(destination.clone());
        }
        let destination = self.decide(aggregate_type, event_type)?;
        // Types come from rows: a writer that invents a new one each time must not fill the memory.
        if self.decided_count >= limits::DESTINATIONS_MAX {
            self.decided.clear();
            self.decided_count = 0;
        }
        let types = self.decided.entry(aggregate_type.to_owned()).or_default();
        types.insert(event_type.to_owned(), destination.clone());
        self.decided_count += 1;
        Ok(destination)
    }

    /// What becomes of an event of these types that can never be published. Without a route of its
    /// own it is parked, unless every route says that its source stops.
    pub fn policy(
        &mut self,
        aggregate_type: Option<&str>,
        event_type: Option<&str>,
    ) -> Unpublishable<Arc<str>> {
        if let (Some(aggregate_type), Some(event_type)) = (aggregate_type, event_type)
            && let Ok(destination) = self.route(aggregate_type, event_type)
        {
            return destination.on_unpublishable;
        }
        let stops = |rule: &RouteRule| rule.on_unpublishable == Unpublishable::Stop;
        let all_stop = !self.rules.is_empty() && self.rules.iter().all(stops);
        if all_stop { Unpublishable::Stop } else { Unpublishable::Park }
    }

    fn decide(&self, aggregate_type: &str, event_type: &str) -> Result<Destination, RouteError> {
        let fits = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let rule = self.rules.iter().find(|rule| {
            fits(&rule.aggregate_type, aggregate_type) && fits(&rule.event_type, event_type)
        });
        let rule = rule.ok_or_else(|| RouteError::NoRoute {
            aggregate_type: aggregate_type.to_owned(),
            event_type: event_type.to_owned(),
        })?;
        let topic = rule.topic.fill(aggregate_type, event_type);
        check_topic_name(&topic)?;
        let on_unpublishable = match &rule.on_unpublishable {
            Unpublishable::Park => Unpublishable::Park,
            Unpublishable::Stop => Unpublishable::Stop,
            Unpublishable::DeadLetter(template) => {
                let topic = template.fill(aggregate_type, event_type);
                check_topic_name(&topic)?;
                Unpublishable::DeadLetter(topic.into())
            }
        };
        Ok(Destination { topic: topic.into(), payload: rule.payload, on_unpublishable })
    }
}

/// Kafka's rule for topic names (`org.apache.kafka.common.internals.Topic`).
pub fn check_topic_name(topic: &str) -> Result<(), RouteError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let reason = if topic.is_empty() {
        "it is empty"
    } else if topic == "." || topic == ".." {
        "it is a dot name"
    } else if topic.len() > 249 {
        "it is longer than 249 characters"
    } else if !topic.bytes().all(legal) {
        "only letters, digits, dot, underscore and hyphen are allowed"
    } else {
        return Ok(());
    };
    Err(RouteError::TopicName { topic: topic.to_owned(), reason })
}

impl TopicTemplate {
    /// Reads a template such as `events.{aggregate_type}`.
    pub fn parse(template: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            let unclosed = || TemplateError::Unclosed { template: template.to_owned() };
            let (name, after) = after.split_once('}').ok_or_else(unclosed)?;
            parts.push(Part::Literal(literal.to_owned()));
            parts.push(match name {
                "aggregate_type" => Part::AggregateType,
                "event_type" => Part::EventType,
                other => {
                    let (template, found) = (template.to_owned(), other.to_owned());
                    return Err(TemplateError::UnknownName { template, found });
                }
            });
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        Ok(Self { parts })
    }

    /// The topic, where it is the same for every event.
    pub fn fixed(&self) -> Option<String> {
        let is_fixed = self.parts.iter().all(|part| matches!(part, Part::Literal(_)));
        is_fixed.then(|| self.fill("", ""))
    }

    fn fill(&self, aggregate_type: &str, event_type: &str) -> String {
        let text = |part: &Part| match part {
            Part::Literal(text) => text.clone(),
            Part::AggregateType => aggregate_type.to_owned(),
            Part::EventType => event_type.to_owned(),
        };
        self.parts.iter().map(text).collect()
    }
}

impl std::fmt::Display for TopicTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.fill("{aggregate_type}", "{event_type}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(aggregate_type: Option<&str>, topic: &str) -> RouteRule {
        RouteRule {
            aggregate_type: aggregate_type.map(str::to_owned),
            event_type: None,
            topic: TopicTemplate::parse(topic).expect("template"),
            payload: PayloadForm::Avro,
            on_unpublishable: Unpublishable::Park,
        }
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let mut router =
            Router::new(vec![rule(Some("order"), "orders"), rule(None, "events.{aggregate_type}")]);
        for _ in 0..2 {
            assert_eq!(&*router.route("order", "Placed").expect("route").topic, "orders");
            assert_eq!(&*router.route("refund", "Made").expect("route").topic, "events.refund");
        }
    }

    #[test]
    fn no_rule_and_no_topic_name_are_named() {
        let mut router = Router::new(vec![rule(Some("order"), "orders")]);
        assert!(matches!(router.route("refund", "Made"), Err(RouteError::NoRoute { .. })));
        let mut router = Router::new(vec![rule(None, "{event_type}")]);
        assert!(matches!(router.route("o", "a b"), Err(RouteError::TopicName { .. })));
        assert!(matches!(router.route("o", ".."), Err(RouteError::TopicName { .. })));
    }

    #[test]
    fn the_policy_is_that_of_the_route_and_without_one_the_careful_one() {
        let with = |kind, policy| RouteRule { on_unpublishable: policy, ..rule(kind, "t") };
        let letters = TopicTemplate::parse("dead.{aggregate_type}").expect("template");
        let mut router = Router::new(vec![
            with(Some("order"), Unpublishable::DeadLetter(letters)),
            with(Some("refund"), Unpublishable::Stop),
        ]);
        let dead = Unpublishable::DeadLetter(Arc::from("dead.order"));
        assert_eq!(router.policy(Some("order"), Some("Placed")), dead);
        assert_eq!(router.policy(Some("refund"), Some("Made")), Unpublishable::Stop);
        assert_eq!(router.policy(Some("other"), Some("Made")), Unpublishable::Park);
        assert_eq!(router.policy(Some("order"), None), Unpublishable::Park);
        let mut strict = Router::new(vec![with(Some("refund"), Unpublishable::Stop)]);
        assert_eq!(strict.policy(None, None), Unpublishable::Stop);
    }

    #[test]
    fn templates_know_two_names() {
        assert!(matches!(TopicTemplate::parse("a{b"), Err(TemplateError::Unclosed { .. })));
        let error = TopicTemplate::parse("a.{type}").expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "topic \"a.{type}\": use {aggregate_type} or {event_type}, not {type}"
        );
        assert_eq!(TopicTemplate::parse("x").expect("t").fixed().as_deref(), Some("x"));
        assert_eq!(TopicTemplate::parse("x.{event_type}").expect("t").fixed(), None);
    }

    #[test]
    fn invented_types_do_not_fill_the_memory() {
        let mut router = Router::new(vec![rule(None, "t")]);
        for number in 0..limits::DESTINATIONS_MAX * 2 {
            router.route("o", &number.to_string()).expect("route");
        }
        assert!(router.decided_count <= limits::DESTINATIONS_MAX);
    }
}
