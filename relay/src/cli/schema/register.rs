//! `walpost schema register`: schema files in, versions of the registry out. The whole plan is made
//! and checked before the first of it is done; what is registered already stays as it is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};
use walpost_schema::compat::{Level, Severity};
use walpost_schema::registry::{
    HttpRegistry, Normalize, Proposal, Reference, Registry, RegistryError,
};

use super::check::{FailOn, block_on, judge, registered, working_files};
use super::files::Set;
use super::forms::{self, check_json};
use super::judged::{Outcome, Source, Unjudged};
use super::subjects::{self, Naming, registry_fault};
use crate::cli::output::{print, print_json, printable, table};
use crate::cli::{Answer, ConfigSource, Exit, Form};

const EXAMPLES: &str = "\
Examples:
  walpost schema register --dry-run                   show what would be registered
  walpost schema register                             every schema under [schemas].dir
  walpost schema register --topic events.order        for a topic that no subject exists of yet

Nothing is registered when anything is refused. Run again, it finds everything registered.";

/// Registers schema files: checked at the subject's level first, referenced schemas first.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Arguments {
    /// The folder of schema files, instead of [schemas].dir.
    #[arg(long, value_name = "PATH")]
    dir: Option<PathBuf>,
    /// Show the plan and stop before the effect.
    #[arg(long)]
    dry_run: bool,
    /// The topics whose subjects new types get; again for each. Without it: routes whose topic is
    /// always the same.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Let the registry ignore the order of properties that Avro does not define.
    #[arg(long)]
    normalize: bool,
    /// Findings of this severity and graver refuse a schema.
    #[arg(long, value_enum, default_value_t)]
    fail_on: FailOn,
}

/// One file in one subject.
struct Step {
    file: String,
    subject: String,
    source: Arc<Source>,
    references: Vec<(String, String)>,
    action: Action,
    level: Option<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// The registry has it already.
    Unchanged {
        version: u32,
        id: u32,
    },
    /// The subject gets a version.
    Register,
    Registered {
        version: u32,
        id: u32,
    },
    Refused,
}

impl Action {
    fn word(&self) -> &'static str {
        match self {
            Self::Unchanged { .. } => "unchanged",
            Self::Register => "register",
            Self::Registered { .. } => "registered",
            Self::Refused => "refused",
        }
    }
}

pub(super) fn run(arguments: &Arguments, config: &ConfigSource, form: Form) -> Answer {
    let output = form.plain()?;
    let settings = config.load_contract()?;
    let registry = subjects::registry(&settings)?;
    let naming = Naming::of(&settings, &arguments.topic);
    let dir = arguments.dir.clone().unwrap_or_else(|| settings.schemas.dir.clone());
    let mut plan = Plan {
        registry: &registry,
        fail_on: arguments.fail_on.severity(),
        normalize: if arguments.normalize { Normalize::Yes } else { Normalize::No },
        steps: Vec::new(),
        outcome: Outcome::default(),
    };
    block_on(async {
        if let Err(one) = plan.make(&dir, &naming).await {
            plan.outcome.unjudged.push(one);
        }
        if !arguments.dry_run && plan.exit() == Exit::Fine {
            plan.perform().await;
        }
    })?;
    match output {
        crate::cli::Output::Json => print_json(&plan.json(arguments.dry_run))?,
        crate::cli::Output::Text => {
            if plan.exit() != Exit::Fine {
                forms::show("walpost schema register", &plan.outcome, form)?;
            }
            print(&plan.text(arguments.dry_run))?;
        }
    }
    Ok(plan.exit())
}

struct Plan<'a> {
    registry: &'a HttpRegistry,
    fail_on: Severity,
    normalize: Normalize,
    steps: Vec<Step>,
    outcome: Outcome,
}

impl Plan<'_> {
    fn exit(&self) -> Exit {
        self.outcome.exit(self.fail_on)
    }

    async fn make(&mut self, dir: &std::path::Path, naming: &Naming) -> Result<(), Unjudged> {
        let (mut set, unjudged) = working_files(dir)?;
        self.outcome.unjudged.extend(unjudged);
        let known = self.registry.subjects().await.map_err(|error| registry_fault(&error))?;
        let mut ordered = Vec::new();
        for name in set.names() {
            match set.get(&name) {
                Ok(_) => references_first(&set, &name, &mut ordered),
                Err(one) => self.outcome.unjudged.push(one),
            }
        }
        let mut subjects: HashMap<String, Vec<String>> = HashMap::new();
        for name in &ordered {
            let source = set.get(name)?;
            let Some(full_name) = source.schema.name() else {
                let reason = "has no name of its own, so no subject";
                self.outcome.unjudged.push(Unjudged::unusable(reason).of_file(name.clone()));
                continue;
            };
            let found = naming.subjects(full_name.full(), &known);
            if found.is_empty() {
                let reason = format!("no subject is known for {}", full_name.full());
                let help = "name its topic with --topic, or give its route a topic that is always \
                            the same";
                let one = Unjudged::unusable(reason).of_file(name.clone()).with_help(help);
                self.outcome.unjudged.push(one);
            }
            subjects.insert(name.clone(), found);
        }
        for name in &ordered {
            for subject in subjects.get(name).cloned().unwrap_or_default() {
                if let Err(one) = self.plan_one(&mut set, name, &subject, &subjects).await {
                    self.outcome.unjudged.push(one);
                }
            }
        }
        Ok(())
    }

    async fn plan_one(
        &mut self,
        set: &mut Set,
        name: &str,
        subject: &str,
        subjects: &HashMap<String, Vec<String>>,
    ) -> Result<(), Unjudged> {
        let source = set.get(name)?;
        let fault = |error: RegistryError| Unjudged {
            subject: Some(subject.to_owned()),
            ..registry_fault(&error)
        };
        let mut references = Vec::new();
        for used in set.uses_of(name).to_vec() {
            let full_name = set.get(&used)?.schema.name().map(|name| name.full().to_owned());
            let place = subjects.get(&used).and_then(|found| found.first()).cloned();
            if let (Some(full_name), Some(place)) = (full_name, place) {
                references.push((full_name, place));
            }
        }
        let mut step = Step {
            file: name.to_owned(),
            subject: subject.to_owned(),
            source,
            references,
            action: Action::Register,
            level: None,
        };
        if let Some((version, id)) = self.find(&step).await.map_err(fault)? {
            step.action = Action::Unchanged { version, id };
        } else {
            let level = self.registry.level_in_force(subject).await.map_err(fault)?;
            step.level = Some(level);
            let mut versions = Vec::new();
            let numbers = match self.registry.versions(subject).await {
                Err(error) if error.is_absent() => Vec::new(),
                numbers => numbers.map_err(fault)?,
            };
            let from = if level.is_transitive() { 0 } else { numbers.len().saturating_sub(1) };
            for number in numbers.into_iter().skip(from) {
                let one = self.registry.version(subject, number).await.map_err(fault)?;
                versions.push(registered(&one));
            }
            let judged = judge(Some(subject), level, &versions, &step.source, false);
            let checked = Outcome { judged, unjudged: Vec::new() };
            if checked.exit(self.fail_on) != Exit::Fine {
                step.action = Action::Refused;
            }
            self.outcome.judged.extend(checked.judged);
        }
        self.steps.push(step);
        Ok(())
    }

    /// The version that the text has already.
    async fn find(&self, step: &Step) -> Result<Option<(u32, u32)>, RegistryError> {
        let Some(references) = self.references(step).await? else {
            return Ok(None);
        };
        let text = step.text();
        match self.registry.lookup_with(&step.subject, &text, &references).await {
            Ok(found) => Ok(Some((found.version, found.id.0))),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// References by version. None while one of them is not registered.
    async fn references(&self, step: &Step) -> Result<Option<Vec<Reference>>, RegistryError> {
        let mut references = Vec::new();
        for (name, subject) in &step.references {
            match self.registry.latest(subject).await {
                Ok(latest) => references.push(Reference {
                    name: name.clone(),
                    subject: subject.clone(),
                    version: latest.version,
                }),
                Err(error) if error.is_absent() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(references))
    }

    async fn perform(&mut self) {
        for at in 0..self.steps.len() {
            let Some(step) = self.steps.get(at) else { break };
            let result = match step.action {
                Action::Unchanged { .. } => self.moved(step).await,
                _ => self.register(step).await.map(Some),
            };
            match result {
                Ok(None) => {}
                Ok(Some(action)) => {
                    if let Some(step) = self.steps.get_mut(at) {
                        step.action = action;
                    }
                }
                Err(error) => {
                    let subject = Some(step.subject.clone());
                    let one = match error {
                        RegistryError::Incompatible { .. } => Unjudged {
                            exit: Exit::Findings,
                            ..Unjudged::unusable(error.to_string()).of_file(step.file.clone())
                        },
                        error => registry_fault(&error),
                    };
                    self.outcome.unjudged.push(Unjudged { subject, ..one });
                    // What depends on it could not be registered either.
                    return;
                }
            }
        }
    }

    /// A schema whose text is registered gets a version all the same when what it refers to has a
    /// new one.
    async fn moved(&self, step: &Step) -> Result<Option<Action>, RegistryError> {
        if step.references.is_empty() || self.find(step).await?.is_some() {
            return Ok(None);
        }
        self.register(step).await.map(Some)
    }

    async fn register(&self, step: &Step) -> Result<Action, RegistryError> {
        let references = self.references(step).await?.unwrap_or_default();
        let text = step.text();
        let of = Proposal { subject: &step.subject, text: &text, references: &references };
        let id = self.registry.register_as(of, self.normalize).await?;
        let found = self.registry.lookup_with(&step.subject, &text, &references).await?;
        Ok(Action::Registered { version: found.version, id: id.0 })
    }

    fn json(&self, dry_run: bool) -> Value {
        let steps: Vec<Value> = self.steps.iter().map(Step::json).collect();
        let errors = self.outcome.unjudged.iter();
        let errors: Vec<Value> = errors
            .map(|one| json!({"subject": one.subject, "file": one.file, "error": one.text()}))
            .collect();
        json!({
            "dry_run": dry_run,
            "ok": self.exit() == Exit::Fine,
            "plan": steps,
            "checks": self.outcome.judged.iter().map(check_json).collect::<Vec<_>>(),
            "errors": errors,
        })
    }

    fn text(&self, dry_run: bool) -> String {
        let rows: Vec<Vec<String>> = self.steps.iter().map(Step::line).collect();
        let end = match (self.exit(), dry_run) {
            (Exit::Fine, true) => "dry run: nothing was registered\n",
            (Exit::Fine, false) => "",
            _ => "not everything was registered; see above\n",
        };
        format!("{}{end}", table(&rows))
    }
}

impl Step {
    fn text(&self) -> String {
        self.source.documents.first().map(|one| one.text.to_string()).unwrap_or_default()
    }

    fn place(&self) -> Option<(u32, u32)> {
        match self.action {
            Action::Unchanged { version, id } | Action::Registered { version, id } => {
                Some((version, id))
            }
            Action::Register | Action::Refused => None,
        }
    }

    fn json(&self) -> Value {
        json!({
            "file": self.file,
            "subject": self.subject,
            "action": self.action.word(),
            "version": self.place().map(|place| place.0),
            "id": self.place().map(|place| place.1),
            "level": self.level.map(Level::as_str),
            "references": self.references.iter().map(|(_, subject)| subject).collect::<Vec<_>>(),
        })
    }

    fn line(&self) -> Vec<String> {
        let place = match self.place() {
            Some((version, id)) => format!("version {version}, id {id}"),
            None => self.level.map_or_else(String::new, |level| format!("checked at {level}")),
        };
        vec![self.action.word().to_owned(), printable(&self.subject), printable(&self.file), place]
    }
}

/// Appends a file behind those it uses. A cycle was refused when they were parsed.
fn references_first(set: &Set, name: &str, ordered: &mut Vec<String>) {
    let mut todo = vec![(name.to_owned(), false)];
    while let Some((name, is_ready)) = todo.pop() {
        if ordered.contains(&name) {
            continue;
        }
        if is_ready {
            ordered.push(name);
            continue;
        }
        let uses = set.uses_of(&name).to_vec();
        todo.push((name, true));
        todo.extend(uses.into_iter().rev().map(|used| (used, false)));
    }
}
