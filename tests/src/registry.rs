//! A schema registry as the tests see it: the Confluent API over one request each.

use serde_json::{Value, json};

use crate::http;

/// The registry.
#[derive(Debug, Clone)]
pub struct Registry {
    address: String,
    base: String,
}

impl Registry {
    /// `url` is `http://HOST:PORT/BASE`.
    pub fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an http address");
        let (address, base) = rest.split_once('/').unwrap_or((rest, ""));
        Self { address: address.to_owned(), base: format!("/{base}") }
    }

    /// Registers a version and returns the schema's id.
    #[track_caller]
    pub fn register(&self, subject: &str, schema: &Value) -> u32 {
        self.register_with(subject, schema, &[])
    }

    /// Registers a schema that is not Avro.
    #[track_caller]
    pub fn register_kind(&self, subject: &str, kind: &str, schema: &str) {
        self.post(subject, &json!({"schema": schema, "schemaType": kind}));
    }

    /// Registers a version that refers to others by (name, subject, version).
    #[track_caller]
    pub fn register_with(
        &self,
        subject: &str,
        schema: &Value,
        references: &[(&str, &str, u32)],
    ) -> u32 {
        let references: Vec<Value> = references
            .iter()
            .map(|(name, of, version)| json!({"name": name, "subject": of, "version": version}))
            .collect();
        let mut body = json!({"schema": schema.to_string(), "schemaType": "AVRO"});
        if !references.is_empty() {
            body["references"] = Value::Array(references);
        }
        self.post(subject, &body)
    }

    #[track_caller]
    fn post(&self, subject: &str, body: &Value) -> u32 {
        let path = format!("{}/subjects/{subject}/versions", self.base);
        let kind = [("Content-Type", "application/vnd.schemaregistry.v1+json")];
        let answer = http::request("POST", &self.address, &path, &kind, &body.to_string());
        let answer = answer.expect("the registry answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).expect("json");
        u32::try_from(answer["id"].as_u64().expect("an id")).expect("a small id")
    }

    /// The schema with this id, as it was registered.
    pub fn schema(&self, id: u32) -> String {
        let answer = http::get(&self.address, &format!("{}/schemas/ids/{id}", self.base));
        let answer = answer.expect("the registry answers");
        assert_eq!(answer.status, 200, "schema id {id}: {}", answer.body);
        let answer: Value = serde_json::from_str(&answer.body).expect("json");
        answer["schema"].as_str().expect("a schema").to_owned()
    }
}
