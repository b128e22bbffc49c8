//! Rows of an outbox in, what would fail if the schema files of this checkout were in force out:
//! each row is encoded with the candidate of its type, and read with every reader that is known.
//!
//! Known readers: those of the consumer contracts, and the schemas that consumers may still have:
//! with `--against git:REF` those of the revision, else all versions that the configured registry
//! has. Nothing is written, in the database or elsewhere.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt;
use serde_json::{Value, json};
use walpost_schema::compat::Reader;
use walpost_schema::encode::Plan;
use walpost_schema::registry::{HttpRegistry, Registry as _};

use super::directory::{self, since};
use super::{TITLE, block_on};
use crate::cli::output::print;
use crate::cli::schema::files::Set;
use crate::cli::schema::judged::{Outcome, Source, Unjudged};
use crate::cli::schema::subjects::{self, Naming, registry_fault};
use crate::cli::schema::{compile, contracts, forms};
use crate::cli::{Answer, ConfigSource, Exit, Failure, Form};
use crate::settings::{Settings, SourceSettings};
use crate::wal::quote_identifier;

/// What the command line says.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) source: &'a str,
    pub(super) last: u32,
    pub(super) dir: Option<&'a Path>,
    pub(super) contracts: &'a Path,
    pub(super) against: Option<&'a str>,
}

/// Somebody who reads a type.
struct Known {
    name: String,
    schema: Arc<Source>,
}

/// A type's candidate.
struct Candidate {
    source: Arc<Source>,
    plan: Plan,
    readers: Vec<Known>,
}

/// What failed in the same way.
#[derive(Debug)]
struct Failed {
    file: String,
    /// None: it could not even be encoded.
    reader: Option<String>,
    place: String,
    reason: String,
    rows: u64,
    first_row: String,
}

#[derive(Debug, Default)]
struct Tally {
    rows: u64,
    tombstones: u64,
    without_schema: BTreeMap<String, u64>,
    encoded: u64,
    /// Rows read, over all readers.
    reads: u64,
    failed: BTreeMap<(String, Option<String>, String, String), Failed>,
}

pub(super) fn run(asked: &Asked<'_>, config: &ConfigSource, form: Form) -> Answer {
    let settings = config.load()?;
    let source = crate::cli::address::pick_source(&settings, Some(asked.source))?;
    let dir = asked.dir.map_or_else(|| settings.schemas.dir.clone(), Path::to_owned);
    let mut outcome = Outcome::default();
    let mut tally = Tally::default();
    match known_candidates(&dir, asked, config)? {
        Ok(candidates) => {
            let replayed =
                block_on(replay(source, &settings, asked.last, &candidates, &mut tally))?;
            replayed.map_err(|error| {
                let reason = format!("the rows of source {} cannot be read", asked.source);
                Failure::could_not_tell(anyhow::Error::new(error).context(reason))
            })?;
        }
        Err(one) => outcome.unjudged.push(one),
    }
    outcome.unjudged.extend(tally.failed.values().map(Failed::finding));
    let exit = outcome.exit(walpost_schema::compat::Severity::Decode);
    if form == Form::Json {
        let mut answer = forms::outcome_json(&outcome);
        if let Some(members) = answer.as_object_mut() {
            members.insert("compatible".to_owned(), json!(exit == Exit::Fine));
            members.insert("replay".to_owned(), tally.json());
        }
        print(&format!("{answer}\n"))?;
        return Ok(exit);
    }
    if form == Form::Text {
        print(&tally.text())?;
    }
    forms::show(TITLE, &outcome, form)?;
    Ok(exit)
}

fn known_candidates(
    dir: &Path,
    asked: &Asked<'_>,
    config: &ConfigSource,
) -> Result<Result<HashMap<String, Candidate>, Unjudged>, Failure> {
    let mut candidates = match candidates(dir, asked) {
        Ok(candidates) => candidates,
        Err(one) => return Ok(Err(one)),
    };
    let settings = config.load_contract()?;
    if asked.against.is_some() || settings.registry.is_none() {
        return Ok(Ok(candidates));
    }
    let registry = subjects::registry(&settings)?;
    let naming = Naming::of(&settings, &[]);
    let added = block_on(registered_readers(&registry, &naming, &mut candidates))?;
    Ok(added.map(|()| candidates))
}

/// Adds the versions of the registry: a consumer may have generated its code from any of them.
async fn registered_readers(
    registry: &HttpRegistry,
    naming: &Naming,
    candidates: &mut HashMap<String, Candidate>,
) -> Result<(), Unjudged> {
    let known = registry.subjects().await.map_err(|error| registry_fault(&error))?;
    for (name, candidate) in candidates {
        for subject in naming.subjects(name, &known) {
            if !known.contains(&subject) {
                continue;
            }
            let versions = registry.versions(&subject).await;
            for number in versions.map_err(|error| registry_fault(&error))? {
                let version = registry.version(&subject, number).await;
                let version = version.map_err(|error| registry_fault(&error))?;
                let schema = directory::registered(&version);
                let name = format!("consumers with {}", schema.name);
                candidate.readers.push(Known { name, schema });
            }
        }
    }
    Ok(())
}

/// The schema files by the full names of their types, each with its readers.
fn candidates(dir: &Path, asked: &Asked<'_>) -> Result<HashMap<String, Candidate>, Unjudged> {
    let (mut set, unjudged) = directory::working_files(dir)?;
    if let Some(one) = unjudged.into_iter().next() {
        return Err(one);
    }
    let mut readers = contract_readers(asked.contracts)?;
    if let Some(against) = asked.against {
        for (old, new) in since(dir, against)? {
            if let (Some(schema), Some(name)) = (old, new.schema.name()) {
                let name = name.full().to_owned();
                let known = Known { name: format!("consumers with {}", schema.name), schema };
                readers.entry(name).or_default().push(known);
            }
        }
    }
    by_type(&mut set, readers)
}

fn contract_readers(folder: &Path) -> Result<HashMap<String, Vec<Known>>, Unjudged> {
    let mut readers: HashMap<String, Vec<Known>> = HashMap::new();
    if !folder.is_dir() {
        return Ok(readers);
    }
    for path in contracts::under(folder)? {
        let contract = contracts::load(&path)?;
        let name = contract.shown();
        for read in contract.reads {
            let known = Known { name: name.clone(), schema: read.schema };
            readers.entry(read.type_name).or_default().push(known);
        }
    }
    Ok(readers)
}

fn by_type(
    set: &mut Set,
    mut readers: HashMap<String, Vec<Known>>,
) -> Result<HashMap<String, Candidate>, Unjudged> {
    let mut candidates = HashMap::new();
    for file in set.names() {
        let source = set.get(&file)?;
        let Some(name) = source.schema.name().map(|name| name.full().to_owned()) else { continue };
        let plan = compile(&source.schema)
            .map_err(|reason| Unjudged::unusable(reason).of_file(file.clone()))?;
        let readers = readers.remove(&name).unwrap_or_default();
        candidates.insert(name, Candidate { source, plan, readers });
    }
    Ok(candidates)
}

#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error(transparent)]
    Connect(#[from] crate::database::SqlError),
    #[error("the database did not answer")]
    Query(#[from] tokio_postgres::Error),
}

/// Cancellation-safe: it changes nothing but the tally.
async fn replay(
    source: &SourceSettings,
    settings: &Settings,
    last: u32,
    candidates: &HashMap<String, Candidate>,
    tally: &mut Tally,
) -> Result<(), ReplayError> {
    let session = source.address.connect_sql("walpost-replay").await?;
    let columns = "SELECT attname::text FROM pg_catalog.pg_attribute \
                   WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped";
    let known = session.query(columns, &[&source.table]).await?;
    let known: Vec<String> = known.iter().map(|row| row.get(0)).collect();
    let sql = recent(source, &known, last);
    let mut readers: HashMap<&str, Vec<(&Known, Reader<'_>)>> = HashMap::new();
    let no_parameters: [&str; 0] = [];
    let mut rows = pin!(session.query_raw(&sql, no_parameters).await?);
    while let Some(row) = rows.try_next().await? {
        let text = |at: usize| row.get::<_, Option<String>>(at);
        let (id, event_type) = (text(0).unwrap_or_default(), text(1).unwrap_or_default());
        tally.rows += 1;
        let Some(payload) = text(2) else {
            tally.tombstones += 1;
            continue;
        };
        let name = settings.schemas.naming.full_name(&event_type);
        let Some((name, candidate)) = candidates.get_key_value(&name) else {
            *tally.without_schema.entry(name).or_default() += 1;
            continue;
        };
        let readers = readers.entry(name).or_insert_with(|| {
            let writer = &candidate.source.schema;
            let one = |known| (known, Reader::new(&Known::schema(known).schema, writer));
            candidate.readers.iter().map(one).collect()
        });
        tally.row(candidate, readers, &id, &payload);
    }
    Ok(())
}

impl Known {
    fn schema(&self) -> &Source {
        &self.schema
    }
}

/// The newest rows, by what the table has to tell them by.
fn recent(source: &SourceSettings, known: &[String], last: u32) -> String {
    let names = &source.columns;
    let by = ["seq", names.created_at.name.as_str()];
    let by = by.into_iter().find(|name| known.iter().any(|known| known == name));
    let by = quote_identifier(by.unwrap_or(&names.id));
    let [id, event_type, payload] =
        [&names.id, &names.event_type, &names.payload].map(|name| quote_identifier(name));
    format!(
        "SELECT {id}::text, {event_type}::text, {payload}::text FROM {} \
         ORDER BY {by} DESC LIMIT {last}",
        source.table
    )
}

impl Tally {
    fn row(
        &mut self,
        candidate: &Candidate,
        readers: &mut [(&Known, Reader<'_>)],
        id: &str,
        payload: &str,
    ) {
        let mut bytes = Vec::new();
        if let Err(errors) = candidate.plan.encode(payload, &mut bytes) {
            let first = errors.as_slice().first();
            let place = first.map(|error| error.pointer.to_string()).unwrap_or_default();
            // Payloads do not go into what CI keeps.
            return self.fail(candidate, None, place, errors.redacted(), id);
        }
        self.encoded += 1;
        for (known, reader) in readers {
            match reader.read(&bytes) {
                Ok(_) => self.reads += 1,
                Err(error) => {
                    let name = Some(known.name.clone());
                    self.fail(candidate, name, error.path, error.reason, id);
                }
            }
        }
    }

    fn fail(
        &mut self,
        candidate: &Candidate,
        reader: Option<String>,
        place: String,
        reason: String,
        id: &str,
    ) {
        let file = candidate.source.name.clone();
        let key = (file.clone(), reader.clone(), place.clone(), reason.clone());
        let failed = self.failed.entry(key).or_insert_with(|| Failed {
            file,
            reader,
            place,
            reason,
            rows: 0,
            first_row: id.to_owned(),
        });
        failed.rows += 1;
    }

    fn json(&self) -> Value {
        json!({
            "rows": self.rows,
            "tombstones": self.tombstones,
            "encoded": self.encoded,
            "reads": self.reads,
            "without_schema": self.without_schema,
            "failed": self.failed.values().map(Failed::json).collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let without: u64 = self.without_schema.values().sum();
        let mut text = format!(
            "{} rows: {} encoded, {} tombstones, {without} without a schema file; {} reads\n",
            self.rows, self.encoded, self.tombstones, self.reads
        );
        for (name, rows) in &self.without_schema {
            text.push_str(&format!("  no schema file defines {name} ({rows} rows)\n"));
        }
        for failed in self.failed.values() {
            text.push_str(&format!("  {}: {}\n", failed.file, failed.sentence()));
        }
        text
    }
}

impl Failed {
    fn sentence(&self) -> String {
        let who = match &self.reader {
            Some(reader) => format!("{reader} could not read"),
            None => "the schema could not encode".to_owned(),
        };
        let place = if self.place.is_empty() { "" } else { " at " };
        format!(
            "{who} {} rows{place}{}: {} (first row {})",
            self.rows, self.place, self.reason, self.first_row
        )
    }

    fn finding(&self) -> Unjudged {
        let help = match &self.reader {
            Some(_) => "keep what readers need in the schema, or let them change first",
            None => "let the schema take what is written, or change the writers first",
        };
        let one = Unjudged::unusable(self.sentence()).of_file(self.file.clone()).with_help(help);
        Unjudged { exit: Exit::Findings, ..one }
    }

    fn json(&self) -> Value {
        json!({"file": self.file, "reader": self.reader, "place": self.place,
            "reason": self.reason, "rows": self.rows, "first_row": self.first_row})
    }
}
