//! The outbox in, its rows and the WAL position that all of them lie below out.

use std::pin::pin;

use futures_util::TryStreamExt as _;
use tokio_postgres::binary_copy::BinaryCopyOutStream;
use tokio_postgres::types::Type;

use super::audit::Rows;
use super::live::{AuditError, Counters, Target, Window};
use crate::lsn::Lsn;
use crate::wal::quote_identifier;

/// A page of WAL, and the longest header of one.
const PAGE_BYTES: u64 = 8_192;
const PAGE_HEADER_BYTES: u64 = 40;

/// Takes all rows of the window that are committed now, and says where the WAL ended then.
///
/// Cancellation-safe: it changes nothing.
pub(super) async fn take(
    session: &tokio_postgres::Client,
    target: &Target<'_>,
    rows: &mut Rows,
    counters: &Counters,
) -> Result<Lsn, AuditError> {
    let known = columns(session, target.table).await?;
    let seq = known.iter().any(|name| name == "seq");
    let sql = select(target, &known)?;
    session.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    // The first statement takes the snapshot: what is visible in it was inserted before this.
    let now = "SELECT pg_catalog.pg_current_wal_insert_lsn()::text";
    let end: String = session.query_one(now, &[]).await?.get(0);
    let copy = format!("COPY ({sql}) TO STDOUT (FORMAT binary)");
    let stream = session.copy_out(&copy).await?;
    let mut types = vec![Type::TEXT, Type::TEXT, Type::TEXT];
    types.extend(seq.then_some(Type::INT8));
    let mut stream = pin!(BinaryCopyOutStream::new(stream, &types));
    while let Some(row) = stream.try_next().await? {
        let text = |at: usize| row.try_get::<Option<&str>>(at).map(Option::unwrap_or_default);
        let number = match seq {
            true => row.try_get::<Option<i64>>(3)?,
            false => None,
        };
        match row.try_get::<Option<&str>>(0)? {
            Some(id) => rows.row(id.as_bytes(), (text(1)?, text(2)?), number)?,
            None => rows.unnamed(),
        }
        counters.add_row();
    }
    session.batch_execute("COMMIT").await?;
    Ok(last_byte(end.parse().unwrap_or(Lsn::ZERO)))
}

/// The insert position at the beginning of a page already counts the header of the page, which is
/// written with the next record: nobody has come past it, and nothing is there.
fn last_byte(end: Lsn) -> Lsn {
    let within = end.0 % PAGE_BYTES;
    if within <= PAGE_HEADER_BYTES { Lsn(end.0 - within) } else { end }
}

async fn columns(session: &tokio_postgres::Client, table: &str) -> Result<Vec<String>, AuditError> {
    let sql = "SELECT attname::text FROM pg_catalog.pg_attribute \
               WHERE attrelid = to_regclass($1::text) AND attnum > 0 AND NOT attisdropped";
    let rows = session.query(sql, &[&table]).await?;
    if rows.is_empty() {
        return Err(AuditError::NoTable { table: table.to_owned() });
    }
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn select(target: &Target<'_>, known: &[String]) -> Result<String, AuditError> {
    let names = target.columns;
    let has = |name: &str| known.iter().any(|known| known == name);
    let mut wanted: Vec<String> = [&names.id, &names.aggregate_type, &names.aggregate_id]
        .map(|name| format!("{}::text", quote_identifier(name)))
        .to_vec();
    wanted.extend(has("seq").then(|| "seq::bigint".to_owned()));
    let mut conditions: Vec<String> = Vec::new();
    let Window { seq, times, .. } = &target.window;
    let absent = |name: &str| AuditError::NoColumn {
        table: target.table.to_owned(),
        column: name.to_owned(),
    };
    conditions.extend(seq.0.map(|from| format!("seq >= {from}")));
    conditions.extend(seq.1.map(|to| format!("seq <= {to}")));
    if !conditions.is_empty() && !has("seq") {
        return Err(absent("seq"));
    }
    let created_at = &names.created_at.name;
    let micros = |ms: i64| format!("'epoch'::timestamptz + {ms} * interval '1 millisecond'");
    let column = quote_identifier(created_at);
    let times = [
        times.0.map(|from| format!("{column} >= {}", micros(from))),
        times.1.map(|to| format!("{column} <= {}", micros(to))),
    ];
    if times.iter().any(Option::is_some) && !has(created_at) {
        return Err(absent(created_at));
    }
    conditions.extend(times.into_iter().flatten());
    let filter = match conditions.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", conditions.join(" AND ")),
    };
    Ok(format!("SELECT {} FROM {}{filter}", wanted.join(", "), target.table))
}

/// The parking tables, where there are any: whoever is in them is not lost.
pub(super) async fn parked(
    session: &tokio_postgres::Client,
    source: &str,
    rows: &mut Rows,
) -> Result<(), AuditError> {
    // What was released is in Kafka, or lost: having been parked excuses nothing.
    let tables = [
        ("walpost.parked", "SELECT event_id, 'parked' FROM walpost.parked WHERE source = $1"),
        (
            "walpost.parked_done",
            "SELECT event_id, state FROM walpost.parked_done \
             WHERE source = $1 AND state <> 'released'",
        ),
    ];
    for (table, sql) in tables {
        let there = "SELECT to_regclass($1) IS NOT NULL";
        if !session.query_one(there, &[&table]).await?.get::<_, bool>(0) {
            continue;
        }
        let parameters: [&str; 1] = [source];
        let mut events = pin!(session.query_raw(sql, parameters).await?);
        while let Some(event) = events.try_next().await? {
            if let Some(id) = event.get::<_, Option<&str>>(0) {
                rows.parked(id.as_bytes(), event.get::<_, &str>(1))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_page_that_has_no_record_yet_is_not_waited_for() {
        let page = 0x0300_0000;
        for (end, expected) in [(page, page), (page + 24, page), (page + 40, page)] {
            assert_eq!(last_byte(Lsn(end)), Lsn(expected));
        }
        assert_eq!(last_byte(Lsn(page + 48)), Lsn(page + 48));
    }
}
