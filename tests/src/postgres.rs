//! A database of one test: outbox, publication, slot, and the truth that the oracle judges by.
//!
//! Each event is written twice in one transaction: into `outbox`, which the relay reads, and into
//! `truth`, which it never sees. A writer holds the row of its aggregate in `aggregate` until it
//! commits, so `n` counts the committed events of an aggregate in commit order, without gaps.

use std::time::Duration;

use postgres::{Client, NoTls};
use xtask::wait;

use crate::oracle::Truth;
use crate::{CANARY, unique};

/// Whom relays connect as, with no more rights than `docs/operations.md` writes out.
const RELAY: &str = "walpost_relay";

/// A database of its own on some server; dropped with its slot at the end.
#[derive(Debug)]
pub struct Database {
    server: String,
    pub name: String,
    pub slot: String,
    pub publication: String,
}

/// The type of the outbox's payload column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadType {
    Jsonb,
    Json,
    Text,
    Bytea,
}

impl PayloadType {
    fn name(self) -> &'static str {
        match self {
            Self::Jsonb => "jsonb",
            Self::Json => "json",
            Self::Text => "text",
            Self::Bytea => "bytea",
        }
    }
}

impl Database {
    /// An empty database on the server of `url`.
    pub fn empty(url: &str, label: &str) -> Self {
        let database = Self::in_existing(url, &unique(label));
        let mut client = connect(url);
        client.batch_execute(&format!("CREATE DATABASE {}", database.name)).expect("a database");
        client.batch_execute(&relay_role()).expect("a role for relays");
        database
    }

    /// A database that was made elsewhere.
    pub fn in_existing(url: &str, name: &str) -> Self {
        Self {
            server: url.to_owned(),
            name: name.to_owned(),
            slot: format!("walpost_{name}"),
            publication: format!("walpost_{name}"),
        }
    }

    /// A database with everything that a relay needs.
    pub fn new(url: &str, label: &str, payload: PayloadType) -> Self {
        let database = Self::empty(url, label);
        database.prepare(payload);
        database
    }

    /// Outbox, truth, publication and slot.
    pub fn prepare(&self, payload: PayloadType) {
        self.run(&tables(payload));
        self.publish_and_create_slot();
    }

    /// The same database, publication and slot on another server at the same address.
    pub fn make_again(&self, payload: PayloadType) {
        let sql = format!("CREATE DATABASE {}", self.name);
        let mut client = connect(&self.server);
        client.batch_execute(&sql).expect("a database");
        client.batch_execute(&relay_role()).expect("a role for relays");
        self.prepare(payload);
    }

    /// The publication of `outbox` and the slot, from which point on rows are relayed.
    pub fn publish_and_create_slot(&self) {
        let (publication, slot) = (&self.publication, &self.slot);
        self.run(&format!(
            "CREATE PUBLICATION {publication} FOR TABLE outbox \
             WITH (publish = 'insert', publish_via_partition_root = true)"
        ));
        self.run(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
        self.grant_to_relays();
    }

    /// The address with the harness's own role, a superuser.
    pub fn url(&self) -> String {
        self.url_as(None)
    }

    /// The address for a relay, with a role that may do what a relay must and nothing else.
    pub fn relay_url(&self) -> String {
        self.url_as(Some((RELAY, CANARY)))
    }

    /// Gives the relays' role what `walpost init` made so far, and lets it read the published
    /// tables.
    #[track_caller]
    pub fn grant_to_relays(&self) {
        let grants = format!(
            "DO $$ DECLARE found regclass; space text; BEGIN
               IF to_regnamespace('walpost') IS NOT NULL THEN
                 ALTER SCHEMA walpost OWNER TO {RELAY};
               END IF;
               FOR found IN SELECT oid FROM pg_class
                   WHERE relnamespace = to_regnamespace('walpost') AND relkind = 'r' LOOP
                 EXECUTE format('ALTER TABLE %s OWNER TO {RELAY}', found);
               END LOOP;
               FOR found, space IN
                   SELECT format('%I.%I', schemaname, tablename), schemaname
                   FROM pg_publication_tables LOOP
                 EXECUTE format('GRANT USAGE ON SCHEMA %I TO {RELAY}', space);
                 EXECUTE format('GRANT SELECT ON %s TO {RELAY}', found);
               END LOOP;
             END $$"
        );
        let mut client = self.client();
        // Some tests give their database odd settings.
        client.batch_execute("SET statement_timeout = 0").expect("set");
        client.batch_execute(&grants).expect("granted");
    }

    /// The address with another role and password.
    pub fn url_as(&self, role: Option<(&str, &str)>) -> String {
        let (front, _) = self.server.rsplit_once('/').expect("a url with a database");
        let (_, host) = front.rsplit_once('@').expect("a url with a user");
        let front = match role {
            Some((user, password)) => format!("postgres://{user}:{password}@{host}"),
            None => front.to_owned(),
        };
        format!("{front}/{}", self.name)
    }

    pub fn client(&self) -> Client {
        connect(&self.url())
    }

    /// Runs SQL on a connection of its own.
    #[track_caller]
    pub fn run(&self, sql: &str) {
        if let Err(error) = self.client().batch_execute(sql) {
            panic!("{}: {error:?}\n{sql}", self.name);
        }
    }

    /// Runs statements separated by semicolons on one connection, each in a transaction of its own
    /// unless it says BEGIN.
    #[track_caller]
    pub fn run_each(&self, sql: &str) {
        let mut client = self.client();
        for statement in sql.split(';').filter(|statement| !statement.trim().is_empty()) {
            if let Err(error) = client.batch_execute(statement) {
                panic!("{}: {error:?}\n{statement}", self.name);
            }
        }
    }

    /// The first value of the first row, as text; NULL is empty.
    #[track_caller]
    pub fn ask(&self, sql: &str) -> String {
        match self.try_ask(sql) {
            Ok(answer) => answer,
            Err(error) => panic!("{}: {error:?}\n{sql}", self.name),
        }
    }

    /// As [`Self::ask`], while the server may be away.
    pub fn try_ask(&self, sql: &str) -> Result<String, postgres::Error> {
        let messages = Client::connect(&self.url(), NoTls)?.simple_query(sql)?;
        let row = messages.iter().find_map(|message| match message {
            postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("").to_owned()),
            _ => None,
        });
        Ok(row.unwrap_or_default())
    }

    /// The position up to which the slot was told that everything is done.
    pub fn confirmed(&self) -> u64 {
        let sql = format!(
            "SELECT (confirmed_flush_lsn - '0/0')::bigint FROM pg_replication_slots \
             WHERE slot_name = '{}'",
            self.slot
        );
        self.try_ask(&sql).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Where the next record of the WAL goes.
    #[track_caller]
    pub fn wal_end(&self) -> u64 {
        self.ask("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").parse().expect("an lsn")
    }

    /// WAL that the server keeps for the slot.
    pub fn retained_bytes(&self) -> u64 {
        let sql = format!(
            "SELECT (pg_current_wal_lsn() - restart_lsn)::bigint FROM pg_replication_slots \
             WHERE slot_name = '{}'",
            self.slot
        );
        self.ask(&sql).parse().expect("a number of bytes")
    }

    /// The process that streams from the slot.
    pub fn walsender(&self) -> Option<i32> {
        let sql = format!(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = '{}'",
            self.slot
        );
        self.try_ask(&sql).ok()?.parse().ok()
    }

    /// Every committed event, in the order in which each aggregate's events were committed.
    pub fn truth(&self) -> Vec<Truth> {
        let sql = "SELECT id::text, aggregate_type, aggregate_id, n, event_type, payload, \
                   headers::text FROM truth ORDER BY aggregate_type, aggregate_id, n";
        let rows = self.client().query(sql, &[]).expect("the truth");
        let truth = rows.iter().map(|row| Truth {
            id: row.get(0),
            aggregate: (row.get(1), row.get(2)),
            n: row.get(3),
            event_type: row.get(4),
            payload: row.get(5),
            headers: row.get(6),
        });
        truth.collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // The server may be gone, as some tests want it; then there is nothing to tidy.
        let Ok(mut client) = Client::connect(&self.server, NoTls) else { return };
        let of_database = format!("FROM pg_replication_slots WHERE database = '{}'", self.name);
        wait::until(Duration::from_secs(10), || {
            let end = format!("SELECT pg_terminate_backend(active_pid) {of_database}");
            let drop =
                format!("SELECT pg_drop_replication_slot(slot_name) {of_database} AND NOT active");
            client.batch_execute(&end).ok()?;
            // A walsender may still be on its way out.
            let _ = client.batch_execute(&drop);
            client
                .query_opt(&format!("SELECT 1 {of_database} LIMIT 1"), &[])
                .ok()?
                .is_none()
                .then_some(())
        });
        let _ = client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// Connects as the harness: a server that was just started again may need a moment.
#[track_caller]
pub fn connect(url: &str) -> Client {
    crate::wait_for("a connection to PostgreSQL", || Client::connect(url, NoTls).ok())
}

/// Roles belong to a server, and tests that run side by side make this one at the same time.
fn relay_role() -> String {
    format!(
        "DO $$ BEGIN CREATE ROLE {RELAY} LOGIN REPLICATION PASSWORD '{CANARY}';
         EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
    )
}

/// Outbox, truth and the functions that write both.
fn tables(payload: PayloadType) -> String {
    let column = payload.name();
    let functions = match payload {
        PayloadType::Bytea => BYTES_FUNCTION.to_owned(),
        _ => EVENT_FUNCTION.replace("PAYLOAD", column),
    };
    format!(
        "CREATE TABLE outbox (
           seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
           id uuid NOT NULL, aggregate_type text NOT NULL, aggregate_id text NOT NULL,
           event_type text NOT NULL, payload {column}, headers jsonb, schema_version int,
           txid xid8 DEFAULT pg_current_xact_id(),
           created_at timestamptz NOT NULL DEFAULT clock_timestamp());
         CREATE TABLE aggregate (
           type text NOT NULL, id text NOT NULL, n bigint NOT NULL, PRIMARY KEY (type, id));
         CREATE TABLE truth (
           id uuid PRIMARY KEY, aggregate_type text NOT NULL, aggregate_id text NOT NULL,
           n bigint NOT NULL, event_type text NOT NULL, payload text, headers jsonb);
         CREATE FUNCTION next_of(a_type text, a_id text) RETURNS bigint LANGUAGE sql AS $$
           INSERT INTO aggregate AS a VALUES (a_type, a_id, 1)
           ON CONFLICT (type, id) DO UPDATE SET n = a.n + 1 RETURNING n $$;
         {functions}"
    )
}

/// `body` gets a member `n`; NULL writes a tombstone.
const EVENT_FUNCTION: &str = "
CREATE FUNCTION write_event(
  a_type text, a_id text, e_type text, body jsonb, of_row jsonb DEFAULT NULL,
  event uuid DEFAULT gen_random_uuid()) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE next bigint := next_of(a_type, a_id);
        whole jsonb := body || jsonb_build_object('n', next);
BEGIN
  INSERT INTO truth VALUES (event, a_type, a_id, next, e_type, whole::text, of_row);
  INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, headers)
    VALUES (event, a_type, a_id, e_type, whole::text::PAYLOAD, of_row);
  RETURN event;
END $$;
CREATE PROCEDURE write_backlog(transactions int, per_transaction int, aggregates int)
LANGUAGE plpgsql AS $$
BEGIN
  FOR t IN 0 .. transactions - 1 LOOP
    WITH made AS (
      SELECT gen_random_uuid() AS event, k, k % aggregates AS a, k / aggregates + 1 AS n
      FROM generate_series(t * per_transaction, (t + 1) * per_transaction - 1) AS k),
    kept AS (
      INSERT INTO truth
      SELECT event, 'bulk', a::text, n, 'test.Bulk', jsonb_build_object('n', n, 'k', k)::text,
             NULL FROM made)
    INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
      SELECT event, 'bulk', a::text, 'test.Bulk',
             jsonb_build_object('n', n, 'k', k)::text::PAYLOAD FROM made ORDER BY k;
    COMMIT;
  END LOOP;
END $$;";

const BYTES_FUNCTION: &str = "
CREATE FUNCTION write_bytes(a_type text, a_id text, e_type text, body bytea)
RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE event uuid := gen_random_uuid();
BEGIN
  INSERT INTO truth
    VALUES (event, a_type, a_id, next_of(a_type, a_id), e_type, encode(body, 'hex'), NULL);
  INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload)
    VALUES (event, a_type, a_id, e_type, body);
  RETURN event;
END $$;";
