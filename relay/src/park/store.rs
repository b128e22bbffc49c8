//! The statements of the lot: orders in, rows of the parking tables changed, what came of it out.
//!
//! Each order is one transaction with `synchronous_commit = on`: what is answered is on disk. An
//! order that was interrupted is carried out again; none changes anything the second time.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio_postgres::types::{PgLsn, ToSql};
use tokio_postgres::{Client, Error, Row};
use walpost_schema::envelope::EventPosition;

use super::event::{Identity, ParkedEvent, RawPayload, RawRow, Reason, SequenceId};
use super::lot::LotContents;
use super::orders::{LotReply, Moved, Request, RequestId, Settlement};
use crate::confirm::EventSeq;
use crate::decode::PostgresMicros;
use crate::lsn::Lsn;
use crate::position::Mark;

/// Rows of one batch of releases, and their bytes.
const BATCH_ROWS: i64 = 500;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// Sequences of one batch.
const BATCH_SEQUENCES: i64 = 200;
/// Requests that are looked at together.
const REQUESTS_MAX: i64 = 100;
/// Faults that mend themselves: what is missing may appear.
const WAITING_CODES: [&str; 4] =
    ["schema_not_registered", "schema_version_missing", "topic_missing", "route_missing"];

/// What a request is about: every condition that is set must hold. Without any it is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Events of this aggregate type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_type: Option<String>,
    /// Events of this aggregate id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate_id: Option<String>,
    /// The event with this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The event at this place, as `walpost parked list` prints it: `1/0/16B3748:3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Events with this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Selection {
    /// Whether it is everything.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// The condition of a selection on `walpost.parked p`, given as jsonb.
fn selected(selection: &str) -> String {
    let field = |name: &str, column: &str| {
        format!("({selection}->>'{name}' IS NULL OR {column} = {selection}->>'{name}')")
    };
    let identity = "p.timeline || '/' || p.commit_lsn || ':' || p.ordinal";
    [
        field("aggregate_type", "p.aggregate_type"),
        field("aggregate_id", "p.aggregate_id"),
        field("event_id", "p.event_id"),
        field("identity", identity),
        field("code", "p.code"),
    ]
    .join(" AND ")
}

/// A parked event as people look at it.
#[derive(Debug, Clone)]
pub struct ParkedRow {
    /// The event.
    pub event: ParkedEvent,
    /// How often it failed again.
    pub attempts: i32,
    /// When it was parked.
    pub parked_at: SystemTime,
    /// When it was last tried.
    pub tried_at: SystemTime,
}

/// The parking tables of one source, on a session.
#[derive(Debug, Clone, Copy)]
pub struct Store<'a> {
    /// The session.
    pub client: &'a Client,
    /// The source.
    pub source: &'a str,
}

const COLUMNS: &str = "p.timeline, p.commit_lsn, p.ordinal, p.committed_at, p.event_id, \
    p.aggregate_type, p.aggregate_id, p.event_type, p.payload_kind, p.payload, p.headers, \
    p.schema_version, p.created_at, p.unreadable, p.code, p.detail, p.attempts, p.parked_at, \
    p.tried_at";

impl Store<'_> {
    /// What the tables hold; `frontier` says which events are dealt with anyway.
    pub async fn contents(&self, frontier: Mark) -> Result<LotContents, Error> {
        let sql = "SELECT sequence, count(*), sum(bytes)::bigint FROM walpost.parked \
                   WHERE source = $1 GROUP BY sequence";
        let rows = self.client.query(sql, &[&self.source]).await?;
        let count = |row: &Row, index: usize| row.get::<_, i64>(index).max(0).cast_unsigned();
        let sequences = rows
            .iter()
            .map(|row| (SequenceId::from_text(row.get(0)), count(row, 1), count(row, 2)));
        let sequences = sequences.collect();
        let (commit_lsn, ordinal) = mark_values(frontier);
        let sql = "SELECT commit_lsn, ordinal FROM walpost.parked \
                   WHERE source = $1 AND (commit_lsn, ordinal) > ($2, $3) \
                   UNION ALL SELECT commit_lsn, ordinal FROM walpost.parked_done \
                   WHERE source = $1 AND (commit_lsn, ordinal) > ($2, $3)";
        let rows = self.client.query(sql, &[&self.source, &commit_lsn, &ordinal]).await?;
        let known = rows.iter().map(|row| position(row, 0)).collect();
        Ok(LotContents { sequences, known, as_of: self.end_of_wal().await? })
    }

    /// Puts events into the lot; one that is there already stays as it is.
    pub async fn park(&self, events: &[(EventSeq, Box<ParkedEvent>)]) -> Result<LotReply, Error> {
        let of = |pick: fn(&ParkedEvent) -> Option<&str>| -> Vec<Option<&str>> {
            events.iter().map(|(_, event)| pick(event)).collect()
        };
        let timelines: Vec<i64> =
            events.iter().map(|(_, event)| i64::from(event.identity.timeline)).collect();
        let lsns: Vec<PgLsn> =
            events.iter().map(|(_, event)| event.identity.position.commit_lsn.into()).collect();
        let ordinals: Vec<i64> =
            events.iter().map(|(_, event)| i64::from(event.identity.position.ordinal)).collect();
        let sequences: Vec<String> =
            events.iter().map(|(_, event)| event.sequence().as_str().to_owned()).collect();
        let payloads: Vec<Option<Vec<u8>>> = events
            .iter()
            .map(|(_, event)| event.row.payload.bytes().map(|bytes| bytes.into_owned()))
            .collect();
        let kinds: Vec<&str> = events.iter().map(|(_, event)| event.row.payload.kind()).collect();
        let times: Vec<SystemTime> =
            events.iter().map(|(_, event)| system_time(event.commit_time)).collect();
        let bytes: Vec<i64> = events.iter().map(|(_, event)| event.bytes().cast_signed()).collect();
        let parameters: [&(dyn ToSql + Sync); 18] = [
            &self.source,
            &timelines,
            &lsns,
            &ordinals,
            &sequences,
            &of(|event| event.row.id.as_deref()),
            &of(|event| event.row.aggregate_type.as_deref()),
            &of(|event| event.row.aggregate_id.as_deref()),
            &of(|event| event.row.event_type.as_deref()),
            &kinds,
            &payloads,
            &of(|event| event.row.headers.as_deref()),
            &of(|event| event.row.schema_version.as_deref()),
            &of(|event| event.row.created_at.as_deref()),
            &of(|event| event.row.unreadable.as_deref()),
            &times,
            &bytes,
            &of(|event| Some(&event.reason.code)),
        ];
        let details: Vec<&str> =
            events.iter().map(|(_, event)| event.reason.detail.as_str()).collect();
        let parameters: Vec<_> = parameters.into_iter().chain([&details as _]).collect();
        self.client.execute(PARK_SQL, &parameters).await?;
        let seqs = events.iter().map(|(seq, _)| *seq).collect();
        Ok(LotReply::Parked { seqs, as_of: self.end_of_wal().await? })
    }

    /// Open requests, oldest first.
    pub async fn requests(&self) -> Result<LotReply, Error> {
        let sql = "SELECT id, verb FROM walpost.requests \
                   WHERE source = $1 AND answered_at IS NULL ORDER BY id LIMIT $2";
        let rows = self.client.query(sql, &[&self.source, &REQUESTS_MAX]).await?;
        let request = |row: &Row| {
            let id = RequestId(row.get(0));
            match row.get(1) {
                "retry" => Some(Request::Retry(id)),
                "discard" => Some(Request::Discard(id)),
                // From a later version: left for it.
                _ => None,
            }
        };
        Ok(LotReply::Requests(rows.iter().filter_map(request).collect()))
    }

    /// The next rows for a request to retry.
    pub async fn load(&self, request: RequestId, until: Mark) -> Result<LotReply, Error> {
        let sql = load_sql(&format!(
            "(heads.tried_at < (SELECT asked_at FROM walpost.requests WHERE id = $2) AND EXISTS \
             (SELECT FROM walpost.parked p, walpost.requests r WHERE r.id = $2 \
             AND p.source = $1 AND p.sequence = heads.sequence AND {})) OR {LEFT_BEHIND}",
            selected("r.selection")
        ));
        self.loaded(&sql, &request.0, until).await
    }

    /// The next rows whose head waits for something that may have appeared.
    pub async fn load_waiting(&self, until: Mark) -> Result<LotReply, Error> {
        let sql = load_sql(&format!(
            "(heads.code = ANY ($2) AND heads.tried_at < clock_timestamp() - interval '4 seconds') \
             OR {LEFT_BEHIND}"
        ));
        self.loaded(&sql, &WAITING_CODES.as_slice(), until).await
    }

    async fn loaded(
        &self,
        sql: &str,
        what: &(dyn ToSql + Sync),
        until: Mark,
    ) -> Result<LotReply, Error> {
        let (commit_lsn, ordinal) = mark_values(until);
        let parameters: [&(dyn ToSql + Sync); 7] = [
            &self.source,
            what,
            &BATCH_SEQUENCES,
            &BATCH_ROWS,
            &BATCH_BYTES,
            &commit_lsn,
            &ordinal,
        ];
        let rows = self.client.query(sql, &parameters).await?;
        Ok(LotReply::Loaded(rows.iter().map(|row| parked_row(row).event).collect()))
    }

    /// Moves what was released, and notes what was refused again.
    pub async fn settle(&self, settlement: &Settlement) -> Result<LotReply, Error> {
        let (timelines, lsns, ordinals) = identities(settlement.released.iter());
        let released: [&(dyn ToSql + Sync); 4] = [&self.source, &timelines, &lsns, &ordinals];
        let refused = settlement.refused.iter();
        let (timelines, lsns, ordinals) = identities(refused.clone().map(|(which, _)| which));
        let codes: Vec<&str> = refused.clone().map(|(_, reason)| reason.code.as_ref()).collect();
        let details: Vec<&str> = refused.map(|(_, reason)| reason.detail.as_str()).collect();
        let again: [&(dyn ToSql + Sync); 6] =
            [&self.source, &timelines, &lsns, &ordinals, &codes, &details];
        let moved = self.client.query(RELEASED_SQL, &released).await?;
        self.client.execute(REFUSED_SQL, &again).await?;
        self.moved(&moved).await
    }

    /// Gives up what a request selects.
    pub async fn discard(&self, request: RequestId) -> Result<LotReply, Error> {
        let sql = format!(
            "WITH gone AS (DELETE FROM walpost.parked p USING walpost.requests r \
             WHERE r.id = $2 AND p.source = $1 AND {} RETURNING p.*), \
             kept AS (INSERT INTO walpost.parked_done SELECT gone.*, 'discarded', r.reason, \
             r.asked_by FROM gone, walpost.requests r WHERE r.id = $2 \
             ON CONFLICT DO NOTHING) \
             SELECT sequence, count(*), sum(bytes)::bigint FROM gone GROUP BY sequence",
            selected("r.selection")
        );
        let moved = self.client.query(&sql, &[&self.source, &request.0]).await?;
        self.moved(&moved).await
    }

    /// Notes that a request is carried out.
    pub async fn answer(&self, request: RequestId, text: &str) -> Result<LotReply, Error> {
        let sql = "UPDATE walpost.requests SET answer = $2, answered_at = clock_timestamp() \
                   WHERE id = $1 AND answered_at IS NULL";
        self.client.execute(sql, &[&request.0, &text]).await?;
        Ok(LotReply::Done)
    }

    /// Parked events that a selection takes, heads of sequences first by their time, at most
    /// `limit` after leaving out `skip`.
    pub async fn list(
        &self,
        selection: &Selection,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<ParkedRow>, Error> {
        self.list_where(&selected("$2::jsonb"), selection, skip, limit).await
    }

    /// The same of whole sequences of which a selection takes something: what a retry takes.
    pub async fn list_whole(
        &self,
        selection: &Selection,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<ParkedRow>, Error> {
        let condition = format!(
            "p.sequence IN (SELECT p.sequence FROM walpost.parked p WHERE p.source = $1 AND {})",
            selected("$2::jsonb")
        );
        self.list_where(&condition, selection, skip, limit).await
    }

    async fn list_where(
        &self,
        condition: &str,
        selection: &Selection,
        skip: i64,
        limit: i64,
    ) -> Result<Vec<ParkedRow>, Error> {
        let json = serde_json::to_value(selection).unwrap_or_default();
        let sql = format!(
            "SELECT {COLUMNS} FROM walpost.parked p WHERE p.source = $1 AND {condition} \
             ORDER BY p.commit_lsn, p.ordinal OFFSET $3 LIMIT $4"
        );
        let rows = self.client.query(&sql, &[&self.source, &json, &skip, &limit]).await?;
        Ok(rows.iter().map(parked_row).collect())
    }

    /// How many parked events a selection takes.
    pub async fn count(&self, selection: &Selection) -> Result<i64, Error> {
        let json = serde_json::to_value(selection).unwrap_or_default();
        let sql = format!(
            "SELECT count(*) FROM walpost.parked p WHERE p.source = $1 AND {}",
            selected("$2::jsonb")
        );
        Ok(self.client.query_one(&sql, &[&self.source, &json]).await?.get(0))
    }

    /// Writes down what a person asks of the relay.
    pub async fn request(
        &self,
        verb: &str,
        selection: &Selection,
        reason: Option<&str>,
    ) -> Result<RequestId, Error> {
        let json = serde_json::to_value(selection).unwrap_or_default();
        let sql = "INSERT INTO walpost.requests (source, verb, selection, reason) \
                   VALUES ($1, $2, $3, $4) RETURNING id";
        let row = self.client.query_one(sql, &[&self.source, &verb, &json, &reason]).await?;
        Ok(RequestId(row.get(0)))
    }

    /// The relay's answer, once there is one.
    pub async fn answer_to(&self, request: RequestId) -> Result<Option<String>, Error> {
        let sql = "SELECT answer FROM walpost.requests WHERE id = $1";
        Ok(self.client.query_one(sql, &[&request.0]).await?.get(0))
    }

    async fn moved(&self, rows: &[Row]) -> Result<LotReply, Error> {
        let moved = rows.iter().map(|row| Moved {
            sequence: SequenceId::from_text(row.get(0)),
            rows: row.get::<_, i64>(1).max(0).cast_unsigned(),
            bytes: row.get::<_, i64>(2).max(0).cast_unsigned(),
        });
        Ok(LotReply::Moved { moved: moved.collect(), as_of: self.end_of_wal().await? })
    }

    /// The end of WAL: past every commit that was seen before.
    async fn end_of_wal(&self) -> Result<Lsn, Error> {
        let row = self.client.query_one("SELECT pg_catalog.pg_current_wal_lsn()", &[]).await?;
        Ok(Lsn(u64::from(row.get::<_, PgLsn>(0))))
    }
}

const PARK_SQL: &str = "INSERT INTO walpost.parked (source, timeline, commit_lsn, ordinal, \
    sequence, event_id, aggregate_type, aggregate_id, event_type, payload_kind, payload, headers, \
    schema_version, created_at, unreadable, committed_at, bytes, code, detail) \
    SELECT $1, * FROM unnest($2::bigint[], $3::pg_lsn[], $4::bigint[], $5::text[], $6::text[], \
    $7::text[], $8::text[], $9::text[], $10::text[], $11::bytea[], $12::text[], $13::text[], \
    $14::text[], $15::text[], $16::timestamptz[], $17::bigint[], $18::text[], $19::text[]) \
    ON CONFLICT DO NOTHING";

const RELEASED_SQL: &str = "WITH gone AS (DELETE FROM walpost.parked p \
    USING unnest($2::bigint[], $3::pg_lsn[], $4::bigint[]) AS w (timeline, commit_lsn, ordinal) \
    WHERE p.source = $1 AND p.timeline = w.timeline AND p.commit_lsn = w.commit_lsn \
    AND p.ordinal = w.ordinal RETURNING p.*), \
    kept AS (INSERT INTO walpost.parked_done SELECT gone.*, 'released' FROM gone \
    ON CONFLICT DO NOTHING) \
    SELECT sequence, count(*), sum(bytes)::bigint FROM gone GROUP BY sequence";

const REFUSED_SQL: &str = "UPDATE walpost.parked p SET code = w.code, detail = w.detail, \
    attempts = p.attempts + 1, tried_at = clock_timestamp() \
    FROM unnest($2::bigint[], $3::pg_lsn[], $4::bigint[], $5::text[], $6::text[]) \
    AS w (timeline, commit_lsn, ordinal, code, detail) \
    WHERE p.source = $1 AND p.timeline = w.timeline AND p.commit_lsn = w.commit_lsn \
    AND p.ordinal = w.ordinal";

/// A head that nothing was ever wrong with: what it queued behind was released, so it follows by
/// itself. What queued behind an event that was discarded waits for a person.
const LEFT_BEHIND: &str = "(heads.code = 'behind' AND NOT EXISTS \
    (SELECT FROM walpost.parked_done d WHERE d.source = $1 \
    AND d.sequence = heads.sequence AND d.state = 'discarded' \
    AND d.done_at > heads.parked_at))";

/// Rows of whole sequences whose head fulfils a condition, in commit order, as many as a batch
/// takes; the first always.
fn load_sql(head_condition: &str) -> String {
    format!(
        "WITH heads AS (SELECT DISTINCT ON (h.sequence) h.sequence, h.commit_lsn, h.ordinal, \
         h.code, h.parked_at, h.tried_at FROM walpost.parked h WHERE h.source = $1 \
         AND (h.commit_lsn, h.ordinal) <= ($6, $7) ORDER BY h.sequence, h.commit_lsn, h.ordinal), \
         chosen AS (SELECT heads.sequence FROM heads WHERE {head_condition} \
         ORDER BY heads.tried_at, heads.commit_lsn, heads.ordinal LIMIT $3), \
         ranked AS (SELECT p.*, sum(p.bytes) OVER (ORDER BY p.commit_lsn, p.ordinal) - p.bytes \
         AS before FROM walpost.parked p JOIN chosen USING (sequence) WHERE p.source = $1 \
         AND (p.commit_lsn, p.ordinal) <= ($6, $7) ORDER BY p.commit_lsn, p.ordinal LIMIT $4) \
         SELECT {COLUMNS} FROM ranked p WHERE p.before < $5::bigint \
         ORDER BY p.commit_lsn, p.ordinal"
    )
}

type Identities = (Vec<i64>, Vec<PgLsn>, Vec<i64>);

fn identities<'a>(of: impl Iterator<Item = &'a Identity>) -> Identities {
    let mut columns = Identities::default();
    for identity in of {
        columns.0.push(identity.timeline.into());
        columns.1.push(identity.position.commit_lsn.into());
        columns.2.push(identity.position.ordinal.into());
    }
    columns
}

/// As the columns have it: an ordinal of -1 stands before the first event of a commit.
pub(super) fn mark_values(mark: Mark) -> (PgLsn, i64) {
    (mark.commit_lsn.0.into(), mark.ordinal.map_or(-1, i64::from))
}

fn position(row: &Row, first: usize) -> EventPosition {
    let commit_lsn = u64::from(row.get::<_, PgLsn>(first));
    let ordinal = u32::try_from(row.get::<_, i64>(first + 1)).unwrap_or(u32::MAX);
    EventPosition { commit_lsn, ordinal }
}

fn parked_row(row: &Row) -> ParkedRow {
    let (kind, kept): (&str, Option<Vec<u8>>) = (row.get(8), row.get(9));
    // A kind of a later version is left to it: its row fails again and stays.
    let payload = RawPayload::from_kept(kind, kept).unwrap_or(RawPayload::Message(Vec::new()));
    let timeline = u32::try_from(row.get::<_, i64>(0)).unwrap_or_default();
    let raw = RawRow {
        id: row.get(4),
        aggregate_type: row.get(5),
        aggregate_id: row.get(6),
        event_type: row.get(7),
        payload,
        headers: row.get(10),
        schema_version: row.get(11),
        created_at: row.get(12),
        unreadable: row.get(13),
    };
    let code: String = row.get(14);
    let event = ParkedEvent {
        identity: Identity { timeline, position: position(row, 1) },
        commit_time: postgres_micros(row.get(3)),
        row: raw,
        reason: Reason { code: code.into(), detail: row.get(15) },
    };
    let (attempts, parked_at, tried_at) = (row.get(16), row.get(17), row.get(18));
    ParkedRow { event, attempts, parked_at, tried_at }
}

/// Seconds from the Unix epoch to PostgreSQL's, 2000-01-01.
const EPOCH_SECONDS: i64 = 946_684_800;

fn system_time(time: PostgresMicros) -> SystemTime {
    let micros = time.0.saturating_add(EPOCH_SECONDS * 1_000_000);
    let distance = Duration::from_micros(micros.unsigned_abs());
    if micros < 0 { SystemTime::UNIX_EPOCH - distance } else { SystemTime::UNIX_EPOCH + distance }
}

fn postgres_micros(time: SystemTime) -> PostgresMicros {
    let micros = |distance: Duration| i64::try_from(distance.as_micros()).unwrap_or(i64::MAX);
    let since_unix = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => micros(after),
        Err(before) => -micros(before.duration()),
    };
    PostgresMicros(since_unix - EPOCH_SECONDS * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back_as_they_were_kept() {
        for micros in [0, 1, -1, -EPOCH_SECONDS * 1_000_000 - 7, 800_000_000_123_456] {
            assert_eq!(postgres_micros(system_time(PostgresMicros(micros))).0, micros);
        }
    }
}
