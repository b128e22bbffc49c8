//! HTTP requests of the Confluent API in, answers of a [`MemoryRegistry`] out.
//!
//! For `walpost dev` and tests; it keeps nothing and asks nobody who they are.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use crate::registry::memory::{Deleted, MemoryRegistry, Normalize, Refusal, VersionAsked};
use crate::registry::{Reference, Registered, SchemaId};

/// What every answer is.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

type Shared = State<Arc<MemoryRegistry>>;
type Reply = Result<Json, Refusal>;

struct Json(Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, CONTENT_TYPE)], self.0.to_string()).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({"error_code": self.code, "message": self.message});
        (status, Json(body)).into_response()
    }
}

/// The routes, to be served by the caller.
pub fn router(registry: Arc<MemoryRegistry>) -> Router {
    Router::new()
        .route("/", get(|| async { Json(json!({})) }))
        .route("/schemas/types", get(|| async { Json(json!(["AVRO"])) }))
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(lookup).delete(delete_subject))
        .route("/subjects/{subject}/versions", get(versions).post(register))
        .route("/subjects/{subject}/versions/{version}", get(version).delete(delete_version))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/schemas/ids/{id}/versions", get(places))
        .route("/config", get(global_level).put(set_global_level))
        .route("/config/{subject}", get(level).put(set_level).delete(delete_level))
        .route("/mode", get(global_mode).put(set_global_mode))
        .route("/mode/{subject}", get(mode).put(set_mode))
        .route("/subjects/{subject}/versions/{version}/schema", get(text))
        .route("/subjects/{subject}/versions/{version}/referencedby", get(referenced_by))
        .route("/compatibility/subjects/{subject}/versions", post(compatible))
        .route("/compatibility/subjects/{subject}/versions/{version}", post(compatible_with))
        .fallback(|| async {
            Refusal { status: 404, code: 404, message: "HTTP 404 Not Found".into() }
        })
        .with_state(registry)
}

#[derive(serde::Deserialize)]
struct SchemaBody {
    schema: String,
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Vec<ReferenceBody>,
}

#[derive(serde::Deserialize)]
struct ReferenceBody {
    name: String,
    subject: String,
    version: u32,
}

#[derive(serde::Deserialize, Default)]
struct Flags {
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    permanent: bool,
    #[serde(default)]
    verbose: bool,
    #[serde(default, rename = "defaultToGlobal")]
    default_to_global: bool,
    #[serde(default)]
    normalize: bool,
}

impl Flags {
    fn shown(&self) -> Deleted {
        if self.deleted { Deleted::Shown } else { Deleted::Hidden }
    }
}

fn schema_of(body: &Bytes) -> Result<(String, Vec<Reference>), Refusal> {
    let refuse = |message: String| Refusal { status: 422, code: 42_201, message };
    let body: SchemaBody = serde_json::from_slice(body)
        .map_err(|error| refuse(format!("Invalid request: {error}")))?;
    if let Some(other) = body.schema_type.filter(|schema_type| schema_type != "AVRO") {
        return Err(refuse(format!("Invalid schema type {other}: only AVRO is served here")));
    }
    let references = body.references.into_iter().map(|one| Reference {
        name: one.name,
        subject: one.subject,
        version: one.version,
    });
    Ok((body.schema, references.collect()))
}

fn version_of(text: &str) -> Result<VersionAsked, Refusal> {
    match text {
        "latest" | "-1" => Ok(VersionAsked::Latest),
        _ => match text.parse() {
            Ok(number @ 1..=0x7FFF_FFFF) => Ok(VersionAsked::Number(number)),
            _ => {
                let message = format!(
                    "The specified version '{text}' is not a valid version id. Allowed values are \
                     between [1, 2^31-1] and the string \"latest\""
                );
                Err(Refusal { status: 422, code: 42_202, message })
            }
        },
    }
}

fn id_of(text: &str) -> Result<SchemaId, Refusal> {
    let refuse = || Refusal { status: 404, code: 404, message: "HTTP 404 Not Found".into() };
    text.parse().map(SchemaId).map_err(|_| refuse())
}

fn shown(registered: &Registered, references: &[Reference], keys: &[&str]) -> Json {
    let mut body = json!({
        "subject": registered.subject,
        "version": registered.version,
        "id": registered.id.0,
        "schema": &*registered.text,
    });
    if let Some(object) = body.as_object_mut() {
        object.retain(|key, _| keys.contains(&key.as_str()));
        if !references.is_empty() {
            let references = references.iter().map(
                |one| json!({"name": one.name, "subject": one.subject, "version": one.version}),
            );
            object.insert("references".to_owned(), references.collect());
        }
    }
    Json(body)
}

const ALL: [&str; 4] = ["subject", "version", "id", "schema"];

async fn subjects(State(registry): Shared, Query(flags): Query<Flags>) -> Reply {
    Ok(Json(json!(registry.list(flags.shown()))))
}

async fn versions(
    State(registry): Shared,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Reply {
    Ok(Json(json!(registry.list_versions(&subject, flags.shown())?)))
}

async fn version(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
) -> Reply {
    let (registered, references) = registry.get(&subject, version_of(&version)?)?;
    Ok(shown(&registered, &references, &ALL))
}

async fn by_id(State(registry): Shared, Path(id): Path<String>) -> Reply {
    let (registered, references) = registry.get_by_id(id_of(&id)?)?;
    Ok(shown(&registered, &references, &["schema"]))
}

async fn places(State(registry): Shared, Path(id): Path<String>) -> Reply {
    let places = registry.places(id_of(&id)?)?.into_iter();
    let places = places.map(|(subject, version)| json!({"subject": subject, "version": version}));
    Ok(Json(places.collect()))
}

async fn text(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let (registered, _) = registry.get(&subject, version_of(&version)?)?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], registered.text.to_string()).into_response())
}

async fn referenced_by(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
) -> Reply {
    let ids = registry.referenced_by(&subject, version_of(&version)?)?;
    Ok(Json(ids.into_iter().map(|id| json!(id.0)).collect()))
}

async fn register(
    State(registry): Shared,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Reply {
    let (text, references) = schema_of(&body)?;
    let normalize = if flags.normalize { Normalize::Yes } else { Normalize::No };
    let id = registry.put(&subject, &text, &references, normalize)?;
    Ok(Json(json!({"id": id.0})))
}

async fn lookup(State(registry): Shared, Path(subject): Path<String>, body: Bytes) -> Reply {
    let (text, references) = schema_of(&body)?;
    let (registered, references) = registry.find(&subject, &text, &references)?;
    Ok(shown(&registered, &references, &ALL))
}

async fn delete_subject(
    State(registry): Shared,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Reply {
    Ok(Json(json!(registry.delete_subject(&subject, flags.permanent)?)))
}

async fn delete_version(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
) -> Reply {
    let asked = version_of(&version)?;
    Ok(Json(json!(registry.delete_version(&subject, asked, flags.permanent)?)))
}

async fn global_level(State(registry): Shared) -> Reply {
    Ok(Json(json!({"compatibilityLevel": registry.level(None).unwrap_or_default().as_str()})))
}

async fn level(
    State(registry): Shared,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Reply {
    let own = registry.level(Some(&subject));
    let level = own.or_else(|| registry.level(None).filter(|_| flags.default_to_global));
    let message =
        format!("Subject '{subject}' does not have subject-level compatibility configured");
    let level = level.ok_or(Refusal { status: 404, code: 40_408, message })?;
    Ok(Json(json!({"compatibilityLevel": level.as_str()})))
}

async fn delete_level(State(registry): Shared, Path(subject): Path<String>) -> Reply {
    Ok(Json(json!({"compatibilityLevel": registry.delete_level(&subject)?.as_str()})))
}

async fn global_mode(State(registry): Shared) -> Reply {
    Ok(Json(json!({"mode": registry.mode(None).unwrap_or_default().as_str()})))
}

async fn mode(
    State(registry): Shared,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
) -> Reply {
    let own = registry.mode(Some(&subject));
    let mode = own.or_else(|| registry.mode(None).filter(|_| flags.default_to_global));
    let message = format!("Subject '{subject}' does not have subject-level mode configured");
    let mode = mode.ok_or(Refusal { status: 404, code: 40_409, message })?;
    Ok(Json(json!({"mode": mode.as_str()})))
}

async fn set_global_mode(State(registry): Shared, body: Bytes) -> Reply {
    Ok(Json(json!({"mode": registry.set_mode(None, &word(&body, "mode"))?.as_str()})))
}

async fn set_mode(State(registry): Shared, Path(subject): Path<String>, body: Bytes) -> Reply {
    Ok(Json(json!({"mode": registry.set_mode(Some(&subject), &word(&body, "mode"))?.as_str()})))
}

/// A text of a body; empty, and therefore refused, if it has none.
fn word(body: &Bytes, key: &str) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn set(registry: &MemoryRegistry, subject: Option<&str>, body: &Bytes) -> Reply {
    let level = registry.set_level(subject, &word(body, "compatibility"))?;
    Ok(Json(json!({"compatibility": level.as_str()})))
}

async fn set_global_level(State(registry): Shared, body: Bytes) -> Reply {
    set(&registry, None, &body)
}

async fn set_level(State(registry): Shared, Path(subject): Path<String>, body: Bytes) -> Reply {
    set(&registry, Some(&subject), &body)
}

/// As registration would judge.
async fn compatible(
    State(registry): Shared,
    Path(subject): Path<String>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Reply {
    let (text, references) = schema_of(&body)?;
    judged(registry.check(&subject, &text, &references), flags.verbose)
}

/// Against one version, also when the level is transitive.
async fn compatible_with(
    State(registry): Shared,
    Path((subject, version)): Path<(String, String)>,
    Query(flags): Query<Flags>,
    body: Bytes,
) -> Reply {
    let (text, references) = schema_of(&body)?;
    let asked = version_of(&version)?;
    judged(registry.check_version(&subject, asked, &text, &references), flags.verbose)
}

/// Asked for details, a schema that does not parse is an answer and not a refusal.
fn judged(findings: Result<Vec<String>, Refusal>, verbose: bool) -> Reply {
    let findings = match findings {
        Err(refusal) if verbose && refusal.status == 422 => vec![refusal.message],
        findings => findings?,
    };
    let mut body = json!({"is_compatible": findings.is_empty()});
    if verbose && let Some(object) = body.as_object_mut() {
        object.insert("messages".to_owned(), json!(findings));
    }
    Ok(Json(body))
}
