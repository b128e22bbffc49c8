//! `walpost verify`: what became of each committed row.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::output::{bytes, is_terminal, print, print_json, printable, table};
use super::{Answer, ConfigSource, Exit, Failure, Output};
use crate::lsn::Lsn;
use crate::settings::{Settings, SourceSettings};
use crate::verify::{Account, AuditError, Audited, Counters, Named, Target, Window, audit};

/// How often a person is told how far it is.
const PROGRESS: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  walpost verify                               every source, all rows
  walpost verify --source orders --since 1h    rows of the last hour
  walpost verify --output json | jq .kept

Lost: a committed row without a record. Out of order: a first copy behind a later one of its
aggregate, by the position that records carry. Late: behind records of commits that are younger by
more than --late, as what left the parking lot is. Parked events count as parked.
Exit codes: 0 kept, 1 lost or out of order, 2 usage, 3 could not tell (a server is away, or the
relay did not come past the rows).";

/// Compares the outbox with the topics: lost, duplicated, out of order.
///
/// Works while the relay runs: it takes the rows that are committed now, waits until the recorded
/// position is past them, and reads the topics that the source has written to. It writes nothing.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only this source.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Only rows made since then (created_at): 90s, 5m, 1h, 2d ago, or 2026-11-26T10:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Only rows made until then.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Only rows from this number on.
    #[arg(long, value_name = "SEQ")]
    from_seq: Option<i64>,
    /// Only rows up to this number.
    #[arg(long, value_name = "SEQ")]
    to_seq: Option<i64>,
    /// Judge order and duplicates only of commits from here on, such as 0/16B3748.
    #[arg(long, value_name = "LSN")]
    from_lsn: Option<Lsn>,
    /// Judge order and duplicates only of commits up to here.
    #[arg(long, value_name = "LSN")]
    to_lsn: Option<Lsn>,
    /// Read this topic too; again for each. Those that the source wrote to are read anyway.
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Name events that came later than this, in seconds: behind records of younger commits.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    late: u64,
    /// How long the relay may take to come past the rows, and a broker to answer, in seconds.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    timeout: u64,
    /// MiB of rows and records that are compared in memory; more goes through a file in TMPDIR.
    #[arg(
        long, default_value_t = 128, value_name = "MIB",
        value_parser = clap::value_parser!(u64).range(1..=65_536)
    )]
    memory: u64,
}

/// So long ago, or at a time.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(0));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let ago = digits.parse::<i64>().ok().and_then(|number| number.checked_mul(seconds));
    ago.filter(|seconds| *seconds > 0)
        .and_then(|seconds| Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok())
        .ok_or_else(|| "it wants 90s, 5m, 1h, 2d, or 2026-11-26T10:00:00Z".to_owned())
}

/// What one source gave.
struct Judged<'a> {
    source: &'a SourceSettings,
    account: Result<Account, AuditError>,
}

pub(super) async fn run(arguments: Arguments, config: &ConfigSource, output: Output) -> Answer {
    let settings = config.load()?;
    let mut judged = Vec::new();
    for source in sources(&settings, arguments.source.as_deref())? {
        let account = one(&arguments, source, output).await;
        if let Err(error @ (AuditError::NoTable { .. } | AuditError::NoColumn { .. })) = account {
            return Err(Failure::usage(error));
        }
        judged.push(Judged { source, account });
    }
    match output {
        Output::Json => print_json(&answer(&arguments, &judged))?,
        Output::Text => print(&text(&arguments, &judged))?,
    }
    for Judged { source, account } in &judged {
        if let Err(error) = account {
            eprintln!("error: {}: {}", source.name, told(error));
        }
    }
    Ok(exit(&judged))
}

fn sources<'a>(
    settings: &'a Settings,
    name: Option<&str>,
) -> Result<Vec<&'a SourceSettings>, Failure> {
    match name {
        Some(name) => Ok(vec![super::address::pick_source(settings, Some(name))?]),
        None => Ok(settings.sources.iter().collect()),
    }
}

/// What could not be told outweighs what was found.
fn exit(judged: &[Judged<'_>]) -> Exit {
    if judged.iter().any(|one| one.account.is_err()) {
        return Exit::CouldNotTell;
    }
    let is_kept = |one: &Judged<'_>| one.account.as_ref().is_ok_and(|a| a.audited.is_kept());
    if judged.iter().all(is_kept) { Exit::Fine } else { Exit::Findings }
}

async fn one(
    arguments: &Arguments,
    source: &SourceSettings,
    output: Output,
) -> Result<Account, AuditError> {
    let lsn = |lsn: Option<Lsn>, default: u64| lsn.map_or(default, |lsn| lsn.0);
    let ms = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
    let target = Target {
        source: &source.name,
        address: &source.address,
        table: &source.table,
        columns: &source.columns,
        kafka: &source.kafka,
        topics: &arguments.topic,
        window: Window {
            seq: (arguments.from_seq, arguments.to_seq),
            times: (ms(arguments.since), ms(arguments.until)),
            lsns: lsn(arguments.from_lsn, 0)..=lsn(arguments.to_lsn, u64::MAX),
        },
        late: Duration::from_secs(arguments.late),
        patience: Duration::from_secs(arguments.timeout),
        memory: usize::try_from(arguments.memory << 20).unwrap_or(usize::MAX),
    };
    let counters = Arc::new(Counters::default());
    let auditing = audit(&target, &counters);
    if output == Output::Json || !is_terminal() {
        return auditing.await;
    }
    let account = tokio::select! {
        account = auditing => account,
        never = progress(&source.name, &counters) => match never {},
    };
    eprint!("\r\x1b[K");
    account
}

/// Says how far it is, without end.
///
/// Cancellation-safe: it only prints.
async fn progress(source: &str, counters: &Counters) -> Infallible {
    let mut ticks = tokio::time::interval(PROGRESS);
    loop {
        ticks.tick().await;
        let (rows, records) = (counters.rows(), counters.records());
        let of = match counters.records_expected() {
            0 => String::new(),
            expected => format!(" of {expected}"),
        };
        eprint!("\r\x1b[K{}: {rows} rows, {records}{of} records", printable(source));
    }
}

fn told(error: &AuditError) -> String {
    let causes: Vec<String> =
        std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source())
            .map(ToString::to_string)
            .collect();
    let help = match error {
        AuditError::NotPast { .. } => "; is the relay running? walpost status shows it",
        AuditError::NoPosition { .. } => "; walpost init prepares it",
        _ => "",
    };
    format!("{}{help}", causes.join(": "))
}

fn text(arguments: &Arguments, judged: &[Judged<'_>]) -> String {
    let head = [
        "SOURCE",
        "COMMITTED",
        "DELIVERED",
        "PARKED",
        "LOST",
        "OUT OF ORDER",
        "SPLIT",
        "DUPLICATED",
        "LATE",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut below = String::new();
    for Judged { source, account } in judged {
        let Ok(account) = account else { continue };
        let Audited { committed, delivered, lost, out_of_order, split, duplicated, late, .. } =
            account.audited;
        let parked = account.audited.parked.values().sum();
        let counts = [committed, delivered, parked, lost, out_of_order, split, duplicated, late];
        let mut row = vec![printable(&source.name)];
        row.extend(counts.map(|count| count.to_string()));
        rows.push(row);
        below.push_str(&details(arguments, source, account));
    }
    if rows.len() == 1 { String::new() } else { table(&rows) + &below }
}

fn details(arguments: &Arguments, source: &SourceSettings, account: &Account) -> String {
    let name = printable(&source.name);
    let audited = &account.audited;
    let mut text = String::new();
    for one in &audited.offenders {
        text.push_str(&format!("{name}: {}\n", sentence(one)));
    }
    let records: u64 = account.topics.values().sum();
    let seconds = account.took.as_secs_f64();
    text.push_str(&format!(
        "{name}: {} rows below {} and {records} records of {} topics compared in {seconds:.1} s \
         ({:.0} events/s, {} on disk); the position is {}\n",
        audited.committed,
        account.snapshot,
        account.topics.len(),
        audited.committed as f64 / seconds.max(0.001),
        bytes(audited.spilled),
        account.position,
    ));
    for (state, count) in &audited.parked {
        text.push_str(&format!("{name}: {count} {}\n", printable(state)));
    }
    for note in notes(arguments, account) {
        text.push_str(&format!("{name}: {note}\n"));
    }
    let verdict = match audited.is_kept() {
        true => "kept: nothing lost, nothing out of order",
        false => "broken",
    };
    text + &format!("{name}: {verdict}\n")
}

fn sentence(one: &Named) -> String {
    let mut text = one.offence.as_str().replace('_', " ");
    for part in [&one.id, &one.lsn, &one.place].into_iter().flatten() {
        text.push_str(&format!(" {}", printable(part)));
    }
    if let Some(against) = &one.against {
        let word = match one.id.is_some() && one.place.is_none() {
            true => "",
            false => "against ",
        };
        text.push_str(&format!(" ({word}{})", printable(against)));
    }
    text
}

/// What the answer does not say, and what it rests on.
fn notes(arguments: &Arguments, account: &Account) -> Vec<String> {
    let audited = &account.audited;
    let mut notes = Vec::new();
    let mut add = |count: u64, note: &str| {
        if count > 0 {
            notes.push(format!("{count} {note}"));
        }
    };
    add(
        audited.others,
        "records of no judged row: of rows that are deleted, younger or outside the \
        window, or of pg_logical_emit_message, which leaves none; whether such events are lost \
        cannot be known",
    );
    add(audited.unreadable, "records without a readable event id or position, of other producers");
    add(audited.replayed, "further copies were replayed");
    add(audited.repeated, "rows have the event id of another row");
    add(audited.unnamed, "rows have no event id and are not judged");
    add(audited.outside, "rows lie outside the LSN window");
    add(
        audited.moved,
        "aggregates went to another partition: order holds per partition across \
        added partitions",
    );
    add(
        audited.seq_inversions,
        "rows were committed in another order than they are numbered, \
        which is no fault",
    );
    add(
        account.cut,
        "partitions do not begin at offset 0: what retention or compaction took counts \
        as lost; --since judges what is younger",
    );
    for topic in &account.missing {
        notes.push(format!(
            "topic {} does not exist: what was in it counts as lost",
            printable(topic)
        ));
    }
    if arguments.since.is_some() {
        notes.push("records from an hour before the window on were read".to_owned());
    }
    notes
}

fn answer(arguments: &Arguments, judged: &[Judged<'_>]) -> Value {
    let one = |Judged { source, account }: &Judged<'_>| match account {
        Ok(account) => account_json(arguments, source, account),
        Err(error) => json!({"source": source.name, "kept": null, "error": told(error)}),
    };
    let kept = match exit(judged) {
        Exit::CouldNotTell => None,
        exit => Some(exit == Exit::Fine),
    };
    json!({"kept": kept, "sources": judged.iter().map(one).collect::<Vec<_>>()})
}

fn account_json(arguments: &Arguments, source: &SourceSettings, account: &Account) -> Value {
    let audited = &account.audited;
    let offenders: Vec<Value> = audited
        .offenders
        .iter()
        .map(|one| {
            json!({"kind": one.offence.as_str(), "id": one.id, "place": one.place,
                "lsn": one.lsn, "against": one.against})
        })
        .collect();
    json!({
        "source": source.name,
        "kept": audited.is_kept(),
        "committed": audited.committed,
        "delivered": audited.delivered,
        "parked": audited.parked,
        "lost": audited.lost,
        "out_of_order": audited.out_of_order,
        "split": audited.split,
        "duplicated": audited.duplicated,
        "late": audited.late,
        "latest_ms": audited.latest_ms,
        "replayed": audited.replayed,
        "moved": audited.moved,
        "repeated": audited.repeated,
        "unnamed": audited.unnamed,
        "outside": audited.outside,
        "seq_inversions": audited.seq_inversions,
        "others": audited.others,
        "unreadable": audited.unreadable,
        "offenders": offenders,
        "snapshot_lsn": account.snapshot.to_string(),
        "position_lsn": account.position.to_string(),
        "topics": account.topics,
        "missing_topics": account.missing,
        "seconds": account.took.as_secs_f64(),
        "spilled_bytes": audited.spilled,
        "notes": notes(arguments, account),
    })
}
