//! Questions in, HTTP calls to a Confluent-compatible registry out, answers parsed.
//!
//! `schema_registry_converter` makes the calls it knows; its caches, which keep errors and a
//! `latest` for ever, and its encoders are not used. References are followed here, by subject and
//! version: its own way substitutes text. Several servers are asked in turn, the next one only when
//! the one before cannot be reached or is broken, not when it says no.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_all_versions, perform_sr_call,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, RawRegisteredSchema, SrCall};
use secrecy::{ExposeSecret, SecretString};

use crate::avro::Schema;
use crate::registry::error::{Asked, RegistryError, refused, shortened};
use crate::registry::{Answer, Reference, Registered, Registry, SchemaId};

/// References that one schema may have, through all levels.
const REFERENCES_MAX: usize = 500;
/// How deep references may refer.
const REFERENCE_DEPTH_MAX: usize = 32;

/// How to reach a registry.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpSettings {
    /// One address or several, separated by commas, such as `http://registry:8081`.
    pub url: String,
    /// How to say who we are.
    pub credentials: Credentials,
    /// For a whole call. Default 10 s.
    pub timeout: Duration,
    /// The authorities that a server's certificate must come from, as PEM texts. Default: the
    /// system's.
    pub authorities: Option<Vec<u8>>,
}

impl HttpSettings {
    /// No credentials, the default timeout.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        HttpSettings {
            url: url.into(),
            credentials: Credentials::None,
            timeout: Duration::from_secs(10),
            authorities: None,
        }
    }

    /// A client that trusts the authorities.
    fn client(&self) -> Result<reqwest::ClientBuilder, RegistryError> {
        let builder = reqwest::Client::builder().timeout(self.timeout);
        let Some(pem) = &self.authorities else { return Ok(builder) };
        let bad = |reason: String| RegistryError::BadAuthorities { reason };
        let trusted = reqwest::Certificate::from_pem_bundle(pem);
        let trusted = trusted.map_err(|error| bad(root_cause(&error)))?;
        if trusted.is_empty() {
            return Err(bad("there is no certificate in PEM".to_owned()));
        }
        Ok(builder.tls_certs_only(trusted))
    }
}

/// Who we are to the registry. Debug does not show secrets.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Credentials {
    None,
    Basic { user: String, password: SecretString },
    Bearer(SecretString),
}

/// What every body is.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A call with its body.
#[derive(Debug)]
pub(super) enum Method {
    Get,
    Delete,
    Post(String),
    Put(String),
}

/// A registry behind HTTP.
pub struct HttpRegistry {
    servers: Vec<Server>,
    credentials: Credentials,
    /// For the calls that the transport does not know.
    client: reqwest::Client,
}

struct Server {
    base: String,
    transport: SrSettings,
}

impl fmt::Debug for HttpRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bases: Vec<&str> = self.servers.iter().map(|server| server.base.as_str()).collect();
        f.debug_struct("HttpRegistry").field("servers", &bases).finish_non_exhaustive()
    }
}

impl HttpRegistry {
    /// Checks the addresses; no call is made yet.
    pub fn try_new(settings: &HttpSettings) -> Result<Self, RegistryError> {
        let bad = |url: &str, reason: &str| RegistryError::BadAddress {
            url: without_userinfo(url),
            reason: reason.to_owned(),
        };
        let mut servers = Vec::new();
        for url in settings.url.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let parsed = reqwest::Url::parse(url).map_err(|error| bad(url, &error.to_string()))?;
            if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
                return Err(bad(url, "it must start with http:// or https://"));
            }
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(bad(url, "credentials do not belong into the address"));
            }
            let base = url.trim_end_matches('/').to_owned();
            let mut builder = SrSettings::new_builder(base.clone());
            builder.set_timeout(settings.timeout);
            match &settings.credentials {
                Credentials::None => {}
                Credentials::Basic { user, password } => {
                    builder.set_basic_authorization(user, Some(password.expose_secret()));
                }
                Credentials::Bearer(token) => {
                    builder.set_token_authorization(token.expose_secret());
                }
            }
            let transport =
                builder.build_with(settings.client()?).map_err(|error| bad(url, &error.error))?;
            servers.push(Server { base, transport });
        }
        if servers.is_empty() {
            return Err(bad(&settings.url, "it is empty"));
        }
        let client = settings.client()?.build();
        let client = client.map_err(|error| bad(&settings.url, &root_cause(&error)))?;
        Ok(HttpRegistry { servers, credentials: settings.credentials.clone(), client })
    }

    /// Asks one server after the other until one answers, be it with no.
    async fn ask<'a, T, F>(&'a self, call: impl Fn(&'a Server) -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let mut last = RegistryError::Unreachable { reason: "no server is configured".to_owned() };
        for server in &self.servers {
            match call(server).await {
                Err(error) if error.is_retriable() => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }

    async fn call(
        &self,
        call: SrCall<'_>,
        asked: Asked<'_>,
    ) -> Result<RawRegisteredSchema, RegistryError> {
        self.ask(|server| async move {
            let answer = perform_sr_call(&server.transport, call).await;
            answer.map_err(|error| from_transport(&error, asked))
        })
        .await
    }

    /// One call that the transport does not know, asked of one server after the other: status and
    /// body. A server that is broken or busy counts as away.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        path: &str,
    ) -> Result<(u16, Vec<u8>), RegistryError> {
        self.ask(|server| async move {
            let url = format!("{}{path}", server.base);
            let request = match method {
                Method::Get => self.client.get(url),
                Method::Delete => self.client.delete(url),
                Method::Post(body) => self.client.post(url).body(body.clone()),
                Method::Put(body) => self.client.put(url).body(body.clone()),
            };
            let request = match &self.credentials {
                Credentials::None => request,
                Credentials::Basic { user, password } => {
                    request.basic_auth(user, Some(password.expose_secret()))
                }
                Credentials::Bearer(token) => request.bearer_auth(token.expose_secret()),
            };
            let request = request.header("Content-Type", CONTENT_TYPE);
            let response = request.send().await.map_err(|error| from_http(&error, 0))?;
            let status = response.status().as_u16();
            let body = response.bytes().await.map_err(|error| from_http(&error, status))?;
            if status >= 500 || matches!(status, 401 | 403 | 429) {
                return Err(from_body(status, &body, Asked::Subjects));
            }
            Ok((status, body.to_vec()))
        })
        .await
    }

    async fn versions_of_id(&self, id: SchemaId) -> Result<Vec<(String, u32)>, RegistryError> {
        #[derive(serde::Deserialize)]
        struct Place {
            subject: String,
            version: u32,
        }
        let (status, body) =
            self.exchange(&Method::Get, &format!("/schemas/ids/{id}/versions")).await?;
        if status >= 400 {
            return Err(from_body(status, &body, Asked::Id(id)));
        }
        let places: Vec<Place> = serde_json::from_slice(&body)
            .map_err(|error| RegistryError::NotJson { status, detail: error.to_string() })?;
        Ok(places.into_iter().map(|place| (place.subject, place.version)).collect())
    }

    /// Parses an answer with the schemas it refers to.
    async fn registered(
        &self,
        raw: RawRegisteredSchema,
        id: Option<SchemaId>,
        what: String,
    ) -> Result<Registered, RegistryError> {
        let incomplete = |key: &str| RegistryError::NotJson {
            status: 200,
            detail: format!("the answer for {what} has no {key}"),
        };
        if let Some(schema_type) = raw.schema_type.filter(|schema_type| schema_type != "AVRO") {
            return Err(RegistryError::NotAvro { what, schema_type });
        }
        let text = raw.schema.ok_or_else(|| incomplete("schema"))?;
        let id = id.or(raw.id.map(SchemaId)).ok_or_else(|| incomplete("id"))?;
        let references = raw.references.unwrap_or_default();
        let references = references.into_iter().map(|reference| Reference {
            name: reference.name,
            subject: reference.subject,
            version: reference.version,
        });
        let mut closure = Closure::default();
        let references = references.collect();
        let schema = self.resolve(&text, references, &what, &mut closure).await?;
        Ok(Registered {
            subject: raw.subject.unwrap_or_default(),
            version: raw.version.unwrap_or_default(),
            id,
            text: text.into(),
            schema,
        })
    }

    /// Parses a text after what it refers to, each version fetched once.
    fn resolve<'a>(
        &'a self,
        text: &'a str,
        references: Vec<Reference>,
        what: &'a str,
        closure: &'a mut Closure,
    ) -> Answer<'a, Arc<Schema>> {
        Box::pin(async move {
            let mut parsed = Vec::new();
            for reference in references {
                let key = (reference.subject.clone(), reference.version);
                if closure.open.contains(&key) {
                    let (subject, version) = key;
                    return Err(RegistryError::ReferenceCycle { subject, version });
                }
                if let Some(schema) = closure.done.get(&key) {
                    parsed.push(Arc::clone(schema));
                    continue;
                }
                let limit = REFERENCES_MAX;
                if closure.done.len() >= limit || closure.open.len() >= REFERENCE_DEPTH_MAX {
                    return Err(RegistryError::TooManyReferences { what: what.to_owned(), limit });
                }
                closure.open.push(key.clone());
                let subject = escaped(&key.0);
                let call = SrCall::GetBySubjectAndVersion(&subject, key.1);
                let raw = self.call(call, Asked::Version(&key.0, key.1)).await?;
                let text = raw.schema.unwrap_or_default();
                let inner = raw.references.unwrap_or_default().into_iter();
                let inner = inner.map(|inner| Reference {
                    name: inner.name,
                    subject: inner.subject,
                    version: inner.version,
                });
                let name = format!("version {} of subject {}", key.1, key.0);
                let schema = self.resolve(&text, inner.collect(), &name, closure).await?;
                closure.open.pop();
                closure.done.insert(key, Arc::clone(&schema));
                parsed.push(schema);
            }
            let references: Vec<&Schema> = parsed.iter().map(|schema| &**schema).collect();
            let schema = Schema::parse(text, &references);
            let bad = |source| RegistryError::BadSchema { what: what.to_owned(), source };
            schema.map(Arc::new).map_err(bad)
        })
    }
}

/// Schemas fetched for one answer, and those whose references are being fetched.
#[derive(Default)]
struct Closure {
    done: HashMap<(String, u32), Arc<Schema>>,
    open: Vec<(String, u32)>,
}

impl Registry for HttpRegistry {
    fn by_id(&self, id: SchemaId) -> Answer<'_, Registered> {
        Box::pin(async move {
            let raw = self.call(SrCall::GetById(id.0), Asked::Id(id)).await?;
            self.registered(raw, Some(id), format!("id {id}")).await
        })
    }

    fn latest<'a>(&'a self, subject: &'a str) -> Answer<'a, Registered> {
        Box::pin(async move {
            let name = escaped(subject);
            let raw = self.call(SrCall::GetLatest(&name), Asked::Subject(subject)).await?;
            self.registered(raw, None, format!("the latest version of {subject}")).await
        })
    }

    fn version<'a>(&'a self, subject: &'a str, version: u32) -> Answer<'a, Registered> {
        Box::pin(async move {
            let name = escaped(subject);
            let call = SrCall::GetBySubjectAndVersion(&name, version);
            let raw = self.call(call, Asked::Version(subject, version)).await?;
            self.registered(raw, None, format!("version {version} of subject {subject}")).await
        })
    }

    fn versions<'a>(&'a self, subject: &'a str) -> Answer<'a, Vec<u32>> {
        Box::pin(async move {
            let asked = Asked::Subject(subject);
            self.ask(|server| async move {
                let versions = get_all_versions(&server.transport, escaped(subject)).await;
                versions.map_err(|error| from_transport(&error, asked))
            })
            .await
        })
    }

    fn subjects_of(&self, id: SchemaId) -> Answer<'_, Vec<(String, u32)>> {
        Box::pin(self.versions_of_id(id))
    }

    fn register<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, SchemaId> {
        Box::pin(async move {
            let name = escaped(subject);
            let body = request_body(text, references);
            let call = SrCall::PostNew(&name, &body);
            let raw = self.call(call, Asked::Register(subject)).await?;
            let detail = "the answer to a registration has no id".to_owned();
            raw.id.map(SchemaId).ok_or(RegistryError::NotJson { status: 200, detail })
        })
    }

    fn lookup_with<'a>(
        &'a self,
        subject: &'a str,
        text: &'a str,
        references: &'a [Reference],
    ) -> Answer<'a, Registered> {
        Box::pin(async move {
            let name = escaped(subject);
            let body = request_body(text, references);
            let call = SrCall::PostForVersion(&name, &body);
            let raw = self.call(call, Asked::Lookup(subject)).await?;
            self.registered(raw, None, format!("a schema of subject {subject}")).await
        })
    }

    fn subjects(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            self.ask(|server| async move {
                let subjects = get_all_subjects(&server.transport).await;
                subjects.map_err(|error| from_transport(&error, Asked::Subjects))
            })
            .await
        })
    }
}

pub(super) fn request_body(text: &str, references: &[Reference]) -> String {
    let references: Vec<serde_json::Value> = references
        .iter()
        .map(|one| {
            serde_json::json!({"name": one.name, "subject": one.subject, "version": one.version})
        })
        .collect();
    let mut body = serde_json::json!({"schema": text, "schemaType": "AVRO"});
    if !references.is_empty()
        && let Some(object) = body.as_object_mut()
    {
        object.insert("references".to_owned(), references.into());
    }
    body.to_string()
}

/// A subject as one segment of a path: it may hold `/`, `:`, `%` and spaces.
pub(super) fn escaped(subject: &str) -> String {
    let mut out = String::new();
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The transport says the status in its text only; code and message are in the error below it.
fn from_transport(error: &SRCError, asked: Asked<'_>) -> RegistryError {
    let source = std::error::Error::source(error);
    if let Some(raw) = source.and_then(|source| source.downcast_ref::<RawError>()) {
        let digits = error.error.split("status ").nth(1).and_then(|rest| rest.get(..3));
        let status = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        // Code 0 is the transport's own, for a body that is no error of a registry.
        if raw.error_code == 0 && !matches!(status, 401 | 403) {
            let detail = "an error without a registry's code".to_owned();
            return RegistryError::NotJson { status, detail };
        }
        return refused(status, raw.error_code, &raw.message, asked);
    }
    match source.and_then(|source| source.downcast_ref::<reqwest::Error>()) {
        Some(http) => from_http(http, 200),
        None => RegistryError::Unreachable { reason: shortened(&error.error) },
    }
}

fn from_body(status: u16, body: &[u8], asked: Asked<'_>) -> RegistryError {
    #[derive(serde::Deserialize)]
    struct Body {
        error_code: u32,
        message: String,
    }
    match serde_json::from_slice::<Body>(body) {
        Ok(body) => refused(status, body.error_code, &body.message, asked),
        Err(_) if matches!(status, 401 | 403) => RegistryError::Unauthorized { status },
        Err(_) => {
            let detail = "an error without a registry's code".to_owned();
            RegistryError::NotJson { status, detail }
        }
    }
}

fn from_http(error: &reqwest::Error, status: u16) -> RegistryError {
    if error.is_timeout() {
        return RegistryError::Unreachable { reason: "no answer within the timeout".to_owned() };
    }
    if error.is_decode() {
        return RegistryError::NotJson { status, detail: root_cause(error) };
    }
    RegistryError::Unreachable { reason: root_cause(error) }
}

/// The innermost error: the outer ones repeat the address.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    shortened(&inner.to_string())
}

fn without_userinfo(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            let (head, tail) = (url.get(..scheme + 3), url.get(at + 1..));
            format!("{}…@{}", head.unwrap_or_default(), tail.unwrap_or_default())
        }
        (None, Some(at)) => format!("…@{}", url.get(at + 1..).unwrap_or_default()),
        _ => url.to_owned(),
    }
}
