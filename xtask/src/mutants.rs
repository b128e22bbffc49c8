//! `cargo x mutants`: each invariant's code is broken in turn, in a copy of the checkout, and the
//! unit tests and the simulation must notice. A mutant that lives is a claim that nobody checks.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, target};

/// What is broken: the invariant, the file in relay/src, the code as it is, and as it is not.
struct Mutant {
    breaks: &'static str,
    file: &'static str,
    code: &'static str,
    instead: &'static str,
}

const MUTANTS: [Mutant; 15] = [
    Mutant {
        breaks: "I2: the recorded position is confirmed, older or not",
        file: "confirm.rs",
        code: "assert!(confirmed >= self.confirmed, \"I2: the confirmed position never goes \
               backward\");",
        instead: "let confirmed = ConfirmedLsn(Lsn(recorded.end.0.saturating_sub(60)));",
    },
    Mutant {
        breaks: "I3: a commit is done before its last event",
        file: "confirm.rs",
        code: "if until > self.passed {",
        instead: "if until > self.passed + 1 {",
    },
    Mutant {
        breaks: "I3: a parked event counts as parked before its row is committed",
        file: "confirm.rs",
        code: "self.push(event, None);",
        instead: "self.push(event, (event.target == Target::Lot).then_some(Arrived::Lot(Lsn(1))));",
    },
    Mutant {
        breaks: "I4: a keepalive counts while events are in flight",
        file: "confirm.rs",
        code: "if self.is_open || !self.pending.is_empty() || !self.commits.is_empty() {",
        instead: "if self.is_open {",
    },
    Mutant {
        breaks: "I4: the slot is confirmed without the position",
        file: "pipeline.rs",
        code: "self.recorder.written(frontier, generation, events, self.now.elapsed);",
        instead: "self.recorder.written(frontier, generation, events, self.now.elapsed); \
                  self.ledger.record(frontier);",
    },
    Mutant {
        breaks: "I4: a record goes to a place that no position names",
        file: "position/offsets.rs",
        code: "self.get(place).is_some_and(|partition| partition.entered < self.secured)",
        instead: "self.get(place).is_some()",
    },
    Mutant {
        breaks: "I5: what read-back found is sent again",
        file: "pipeline/decide.rs",
        code: "let found = if self.found.is_empty() { None } \
               else { self.found.remove(&position) };",
        instead: "let found: Option<(Place, i64)> = None;",
    },
    Mutant {
        breaks: "I5: what the parking tables know is decided again",
        file: "park/lot.rs",
        code: "!self.known.is_empty() && self.known.remove(&position)",
        instead: "self.known.len() == usize::MAX && self.known.remove(&position)",
    },
    Mutant {
        breaks: "I5: after a lost stream everything is sent again",
        file: "pipeline.rs",
        code: "self.resume = Some(Resume { until, reason: Reason::Enqueued });",
        instead: "let _ = Resume { until, reason: Reason::Enqueued };",
    },
    Mutant {
        breaks: "I6: events overtake the parked ones of their aggregate",
        file: "park/lot.rs",
        code: "self.sequences.contains_key(&self.name)\n",
        instead: "self.sequences.contains_key(&self.name) && self.name.is_empty()\n",
    },
    Mutant {
        breaks: "I6: a head that fails again lets the rows behind it go",
        file: "park/releases.rs",
        code: "self.failed.insert(row.sequence());",
        instead: "",
    },
    Mutant {
        breaks: "I6: an aggregate opens before its rows have left",
        file: "pipeline/lot.rs",
        code: "self.ledger.offsets_mut().released(place);\n",
        instead: "self.ledger.offsets_mut().released(place); \
                  self.lot.open(Default::default());\n",
    },
    Mutant {
        breaks: "I6: rows are released that earlier events may still precede",
        file: "pipeline/lot.rs",
        code: "is_caught_up: dealt_with >= self.lot_horizon,",
        instead: "is_caught_up: true,",
    },
    Mutant {
        breaks: "read-back starts behind a released record whose row is in the lot",
        file: "position/offsets.rs",
        code: "partition.map(|known| known.pinned.unwrap_or(known.lowest).min(known.lowest))",
        instead: "partition.map(|known| known.lowest)",
    },
    Mutant {
        breaks: "read-back starts behind what is in flight",
        file: "position/offsets.rs",
        code: "if let Some(partition) = slot.as_mut().filter(|partition| partition.held == 0) {",
        instead: "if let Some(partition) = slot.as_mut() {",
    },
];

/// What must notice, the quickest first. All of it is in debug builds, so asserts are on.
const WATCHERS: [&[&str]; 2] = [
    &["test", "-p", "walpost", "--lib", "--", "--test-threads", "2"],
    &["test", "-p", "walpost-tests", "--test", "sim"],
];

/// Breaks one thing after the other and tells which watcher noticed.
pub fn mutants(root: &Path) -> Result<ExitCode> {
    let copy = target(root).join("mutants");
    copy_checkout(root, &copy)?;
    if let Some(watcher) = who_notices(root, &copy)? {
        bail!("without a mutant `cargo {}` fails already", watcher.join(" "));
    }
    let mut alive = 0;
    for mutant in &MUTANTS {
        let start = Instant::now();
        let file = copy.join("relay/src").join(mutant.file);
        let text = std::fs::read_to_string(&file).context("the mutant's file")?;
        if text.matches(mutant.code).count() != 1 {
            bail!("{}: its code is not there once: {}", mutant.file, mutant.code);
        }
        std::fs::write(&file, text.replacen(mutant.code, mutant.instead, 1))?;
        let noticed = who_notices(root, &copy)?;
        std::fs::write(&file, text)?;
        let by = match noticed {
            Some(words) if words.contains(&"--lib") => "unit tests",
            Some(_) => "simulation",
            None => {
                alive += 1;
                "NOBODY"
            }
        };
        println!("{by:<11} {:>4} s  {}", start.elapsed().as_secs(), mutant.breaks);
    }
    println!("{} mutants, {alive} alive", MUTANTS.len());
    Ok(if alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Seconds until a build or a watcher is ended. A mutant that makes one run for ever is noticed by
/// that.
const SECONDS_MAX: &str = "900";

/// The first watcher that fails. One that does not compile is no watcher that noticed.
fn who_notices(root: &Path, copy: &Path) -> Result<Option<&'static [&'static str]>> {
    let build = |words: &[&str]| -> Command {
        // Ends the whole group of processes.
        let mut command = Command::new("timeout");
        command.arg(SECONDS_MAX).arg(cargo(copy).get_program()).args(words).current_dir(copy);
        command.env("CARGO_TARGET_DIR", target(root).join("mutants-target"));
        command.env("WALPOST_SIM_SEEDS", "200");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let compiles = ["test", "-p", "walpost", "--lib", "--no-run"];
    if !build(&compiles).status()?.success() {
        bail!("the mutant does not compile");
    }
    for words in WATCHERS {
        if !build(words).status()?.success() {
            return Ok(Some(words));
        }
    }
    Ok(None)
}

/// What git knows of, as it is now.
fn copy_checkout(root: &Path, copy: &Path) -> Result<()> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output()?;
    if copy.exists() {
        std::fs::remove_dir_all(copy)?;
    }
    for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root.join(name), copy.join(name));
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        if from.is_file() {
            std::fs::copy(from, to)?;
        }
    }
    Ok(())
}
