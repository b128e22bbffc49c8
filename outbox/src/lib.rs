//! The first step of the path: the SQL contract of the outbox table.
//!
//! A service inserts an event into this table inside its business transaction; the relay publishes
//! it once the transaction has committed. The table is the whole contract: any language that can
//! run an INSERT can use it. For Rust services there is `append`, behind the feature
//! `tokio-postgres`.

#[cfg(feature = "tokio-postgres")]
mod append;

#[cfg(feature = "tokio-postgres")]
pub use append::{NewEvent, append, append_all};

/// Makes the table, named `outbox` without a schema: the migration as a file has it.
pub const OUTBOX_SQL: &str = include_str!("../migrations/0001_outbox.sql");

/// The statement of [`OUTBOX_SQL`] for a table of another name, given as SQL reads it.
///
/// Comments are left out, so that a person who is shown the statement sees only what runs.
///
/// ```
/// let sql = walpost_outbox::table_sql("shop.outbox");
/// assert!(sql.starts_with("CREATE TABLE shop.outbox"));
/// ```
pub fn table_sql(table: &str) -> String {
    let code = OUTBOX_SQL.lines().filter(|line| !line.trim_start().starts_with("--"));
    let text: String = code.map(|line| format!("{line}\n")).collect();
    text.trim().trim_end_matches(';').replacen(
        "CREATE TABLE outbox",
        &format!("CREATE TABLE {table}"),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_takes_another_name_and_keeps_its_columns() {
        let sql = table_sql("shop.\"Outbox\"");
        assert!(sql.starts_with("CREATE TABLE shop.\"Outbox\" (\n"), "{sql}");
        assert!(sql.ends_with(')') && !sql.contains("--"), "{sql}");
        assert_eq!(sql.matches("\n    ").count(), 10);
    }
}
