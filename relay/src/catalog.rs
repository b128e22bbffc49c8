//! What the catalog says about the outbox table and the publication: asked on the replication
//! connection before each stream, refused by name when rows would be missed or not understood.

use uuid::Uuid;

use crate::decode::Oid;
use crate::event::{ColumnNames, EventError, OutboxTable, check_column_type};
use crate::position::SourceOids;
use crate::wal::{Connection, WalError, quote_literal};

/// Table or publication are not what the source needs.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The name resolves to nothing.
    #[error("outbox table {table} does not exist in database \"{database}\"")]
    TableMissing {
        /// The name as configured.
        table: String,
        /// The database.
        database: String,
    },
    /// A view, a foreign table, or a table whose rows are not written to the WAL.
    #[error("{table} is {kind}, an outbox must be an ordinary logged table")]
    NotATable {
        /// The name as configured.
        table: String,
        /// What it is.
        kind: &'static str,
    },
    /// A column is missing or of the wrong type.
    #[error(transparent)]
    Column(EventError),
    /// The publication does not exist.
    #[error("publication \"{publication}\" does not exist in database \"{database}\"")]
    PublicationMissing {
        /// Its name.
        publication: String,
        /// The database.
        database: String,
    },
    /// The publication does not contain the table.
    #[error("publication \"{publication}\" does not contain outbox table {table}")]
    PublicationWithoutTable {
        /// Its name.
        publication: String,
        /// The table.
        table: String,
    },
    /// The publication leaves inserts out.
    #[error("publication \"{publication}\" does not publish inserts")]
    PublicationWithoutInsert {
        /// Its name.
        publication: String,
    },
    /// The publication holds rows back.
    #[error("publication \"{publication}\" filters the rows of outbox table {table}")]
    PublicationFiltered {
        /// Its name.
        publication: String,
        /// The table.
        table: String,
    },
    /// A column that the relay reads does not come with its row.
    #[error(
        "publication \"{publication}\" leaves column \"{column}\" of outbox table {table} out (a \
         list of columns, or a generated column)"
    )]
    PublicationWithoutColumn {
        /// Its name.
        publication: String,
        /// The table.
        table: String,
        /// The column.
        column: String,
    },
    /// Rows of a partitioned table would arrive under their partitions' names.
    #[error(
        "publication \"{publication}\" does not publish partitioned outbox table {table} via its \
         root"
    )]
    PublicationNotViaRoot {
        /// Its name.
        publication: String,
        /// The table.
        table: String,
    },
    /// The server counts the relay among the standbys that commits wait for.
    #[error(
        "synchronous_standby_names of database \"{database}\" names the relay: commits would wait \
         for kafka instead of a standby"
    )]
    SynchronousStandby {
        /// The database.
        database: String,
    },
    /// The server replays another server's WAL.
    #[error("database \"{database}\" is a standby; the relay reads from the primary")]
    Standby {
        /// The database.
        database: String,
    },
}

/// What is looked for.
#[derive(Debug, Clone)]
pub struct CatalogQuery<'a> {
    /// The database, for error texts.
    pub database: &'a str,
    /// The table's name as `to_regclass` reads it.
    pub table: &'a str,
    /// The publication.
    pub publication: &'a str,
    /// What the columns are called.
    pub columns: &'a ColumnNames,
    /// `server_version_num`.
    pub version_num: u32,
}

/// A refusal by the catalog or a failure to ask.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The catalog answered, and it will not do.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog did not answer.
    #[error(transparent)]
    Wal(#[from] WalError),
}

/// Refuses a standby: looked at before the slot, which a standby may lack in good order.
///
/// Not cancellation-safe, as [`Connection::query`].
pub async fn refuse_standby(connection: &mut Connection, database: &str) -> Result<(), LookError> {
    let recovery = ask(connection, "SELECT pg_catalog.pg_is_in_recovery()").await?;
    if first_cell(&recovery) == "t" {
        return Err(CatalogError::Standby { database: database.to_owned() }.into());
    }
    Ok(())
}

/// Finds the table and checks it and the publication.
///
/// Not cancellation-safe, as [`Connection::query`].
pub async fn look(
    connection: &mut Connection,
    query: &CatalogQuery<'_>,
) -> Result<OutboxTable, LookError> {
    let table = find_table(connection, query).await?;
    check_columns(connection, &table).await?;
    check_publication(connection, query, &table).await?;
    check_published_columns(connection, query, &table).await?;
    Ok(table)
}

/// What `walpost init` wrote about a source into its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRow {
    /// The id that the position topic's birth record has too.
    pub birth: Uuid,
    /// Whether a position was written: if it is gone now, it was lost.
    pub is_positioned: bool,
}

/// Reads the source's row of `walpost.source`: `None` where `init` was never run.
///
/// Not cancellation-safe, as [`Connection::query`].
pub async fn source_row(
    connection: &mut Connection,
    source: &str,
) -> Result<Option<SourceRow>, WalError> {
    let exists = "SELECT pg_catalog.to_regclass('walpost.source') IS NOT NULL";
    if first_cell(&ask(connection, exists).await?) != "t" {
        return Ok(None);
    }
    let sql = format!(
        "SELECT birth, positioned_at IS NOT NULL FROM walpost.source WHERE name = {}",
        quote_literal(source)
    );
    let rows = ask(connection, &sql).await?;
    let read = |row: &Vec<Option<String>>| {
        let birth = Uuid::parse_str(cell(row, 0)).ok()?;
        Some(SourceRow { birth, is_positioned: cell(row, 1) == "t" })
    };
    Ok(rows.first().and_then(read))
}

/// The catalog's numbers for what is read from. A publication of all tables has no entry for one
/// of them.
///
/// Not cancellation-safe, as [`Connection::query`].
pub async fn source_oids(
    connection: &mut Connection,
    publication: &str,
    table: Oid,
) -> Result<SourceOids, WalError> {
    let sql = format!(
        "SELECT p.oid, coalesce(r.oid, 0) FROM pg_catalog.pg_publication p \
         LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = {} \
         WHERE p.pubname = {}",
        table.0,
        quote_literal(publication)
    );
    let rows = ask(connection, &sql).await?;
    let number = |index| rows.first().and_then(|row| cell(row, index).parse().ok());
    Ok(SourceOids {
        publication: number(0).unwrap_or_default(),
        publication_rel: number(1).unwrap_or_default(),
        table: table.0,
    })
}

type Rows = Vec<Vec<Option<String>>>;

async fn ask(connection: &mut Connection, sql: &str) -> Result<Rows, WalError> {
    connection.query("the look at the catalog", sql).await
}

fn cell(row: &[Option<String>], index: usize) -> &str {
    row.get(index).and_then(Option::as_deref).unwrap_or_default()
}

fn first_cell(rows: &Rows) -> &str {
    rows.first().map_or("", |row| cell(row, 0))
}

async fn find_table(
    connection: &mut Connection,
    query: &CatalogQuery<'_>,
) -> Result<OutboxTable, LookError> {
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid = pg_catalog.to_regclass({})",
        quote_literal(query.table)
    );
    let rows = ask(connection, &sql).await?;
    let Some(row) = rows.first() else {
        let (table, database) = (query.table.to_owned(), query.database.to_owned());
        return Err(CatalogError::TableMissing { table, database }.into());
    };
    let kind = match (cell(row, 3), cell(row, 4)) {
        ("r" | "p", "p") => None,
        ("r" | "p", "u") => Some("an unlogged table"),
        ("r" | "p", _) => Some("a temporary table"),
        ("v", _) => Some("a view"),
        ("m", _) => Some("a materialized view"),
        ("f", _) => Some("a foreign table"),
        _ => Some("no table"),
    };
    if let Some(kind) = kind {
        return Err(CatalogError::NotATable { table: query.table.to_owned(), kind }.into());
    }
    let oid = cell(row, 0).parse().unwrap_or_default();
    let is_partitioned = cell(row, 3) == "p";
    let mut table = OutboxTable {
        oid: Oid(oid),
        namespace: cell(row, 1).to_owned(),
        name: cell(row, 2).to_owned(),
        partitions: Default::default(),
        is_partitioned,
        columns: query.columns.clone(),
    };
    if is_partitioned {
        let sql =
            format!("SELECT relid::oid FROM pg_catalog.pg_partition_tree({oid}) WHERE level > 0");
        let rows = ask(connection, &sql).await?;
        table.partitions =
            rows.iter().filter_map(|row| cell(row, 0).parse().ok().map(Oid)).collect();
    }
    Ok(table)
}

async fn check_columns(connection: &mut Connection, table: &OutboxTable) -> Result<(), LookError> {
    let sql = format!(
        "SELECT attname, atttypid, pg_catalog.format_type(atttypid, atttypmod) \
         FROM pg_catalog.pg_attribute \
         WHERE attrelid = {} AND attnum > 0 AND NOT attisdropped",
        table.oid.0
    );
    let rows = ask(connection, &sql).await?;
    for (field, (name, is_demanded)) in table.columns.in_field_order().into_iter().enumerate() {
        let Some(row) = rows.iter().find(|row| cell(row, 0) == name) else {
            if is_demanded {
                let (table, column) = (table.full_name(), name.to_owned());
                return Err(
                    CatalogError::Column(EventError::ColumnMissing { table, column }).into()
                );
            }
            continue;
        };
        let type_oid = Oid(cell(row, 1).parse().unwrap_or_default());
        check_column_type(table, field, type_oid, cell(row, 2)).map_err(CatalogError::Column)?;
    }
    Ok(())
}

async fn check_publication(
    connection: &mut Connection,
    query: &CatalogQuery<'_>,
    table: &OutboxTable,
) -> Result<(), LookError> {
    let publication = || query.publication.to_owned();
    let name = quote_literal(query.publication);
    let sql = format!(
        "SELECT pubinsert, pubviaroot FROM pg_catalog.pg_publication WHERE pubname = {name}"
    );
    let rows = ask(connection, &sql).await?;
    let Some(row) = rows.first() else {
        let database = query.database.to_owned();
        return Err(
            CatalogError::PublicationMissing { publication: publication(), database }.into()
        );
    };
    if cell(row, 0) != "t" {
        return Err(CatalogError::PublicationWithoutInsert { publication: publication() }.into());
    }
    if table.is_partitioned && cell(row, 1) != "t" {
        let (publication, table) = (publication(), table.full_name());
        return Err(CatalogError::PublicationNotViaRoot { publication, table }.into());
    }
    // Row filters exist from version 15 on.
    let filter = if query.version_num >= 150_000 { "rowfilter" } else { "NULL" };
    let sql = format!(
        "SELECT {filter} FROM pg_catalog.pg_publication_tables \
         WHERE pubname = {name} AND schemaname = {} AND tablename = {}",
        quote_literal(&table.namespace),
        quote_literal(&table.name)
    );
    let rows = ask(connection, &sql).await?;
    let (publication, table) = (publication(), table.full_name());
    match rows.first() {
        None => Err(CatalogError::PublicationWithoutTable { publication, table }.into()),
        Some(row) if !cell(row, 0).is_empty() => {
            Err(CatalogError::PublicationFiltered { publication, table }.into())
        }
        Some(_) => Ok(()),
    }
}

/// A column that is there and not published would look like one that is not there: an optional one
/// would be left out of every record in silence.
async fn check_published_columns(
    connection: &mut Connection,
    query: &CatalogQuery<'_>,
    table: &OutboxTable,
) -> Result<(), LookError> {
    // Lists of columns exist from version 15 on; before 18 generated columns are never published,
    // and not every earlier version leaves them out of the list.
    let is_listed = format!(
        "EXISTS (SELECT FROM pg_catalog.pg_publication_tables t \
         WHERE t.pubname = {} AND t.schemaname = {} AND t.tablename = {} \
         AND a.attname = ANY (t.attnames))",
        quote_literal(query.publication),
        quote_literal(&table.namespace),
        quote_literal(&table.name)
    );
    let is_left_out = match query.version_num {
        180_000.. => format!("NOT {is_listed}"),
        150_000.. => format!("(a.attgenerated <> '' OR NOT {is_listed})"),
        _ => "a.attgenerated <> ''".to_owned(),
    };
    let sql = format!(
        "SELECT a.attname FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped AND {is_left_out}",
        table.oid.0
    );
    let left_out = ask(connection, &sql).await?;
    let read = table.columns.in_field_order().into_iter().map(|(name, _)| name);
    match read.into_iter().find(|name| left_out.iter().any(|row| cell(row, 0) == *name)) {
        None => Ok(()),
        Some(column) => {
            let (publication, table) = (query.publication.to_owned(), table.full_name());
            let column = column.to_owned();
            Err(CatalogError::PublicationWithoutColumn { publication, table, column }.into())
        }
    }
}
