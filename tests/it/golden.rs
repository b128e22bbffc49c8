//! What PostgreSQL 14 to 18 really send: transcripts recorded from each, kept, and decoded.
//!
//! `WALPOST_BLESS=1 cargo x test --postgres 14,15,16,17,18 golden` records anew; without it the
//! kept files are read and no server is needed.

use std::fmt::Write as _;
use std::path::PathBuf;

use expect_test::expect_file;
use walpost::decode::{Cell, Message, decode};
use walpost_tests::oracle::{hex, unhex};
use walpost_tests::postgres::Database;

const MAJORS: [u16; 5] = [14, 15, 16, 17, 18];

/// Every message that protocol version 1 has.
const SCRIPT: [&str; 9] = [
    "CREATE TYPE mood AS ENUM ('glad', 'sad');
     CREATE TABLE outbox (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id uuid NOT NULL,
       aggregate_type text NOT NULL, aggregate_id text NOT NULL, event_type text NOT NULL,
       payload jsonb, how mood);
     CREATE TABLE other (a int PRIMARY KEY, b text, c bytea) ;
     ALTER TABLE other REPLICA IDENTITY FULL;
     CREATE TABLE keyed (a int PRIMARY KEY, b text);
     CREATE PUBLICATION golden FOR TABLE outbox, other, keyed;
     SELECT pg_create_logical_replication_slot('SLOT', 'pgoutput')",
    "INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type, payload, how) VALUES
       ('01890a5d-ac96-774b-bcce-b302099a8057', 'order', 'ä€', 'shop.Placed', '{\"a\": 1}', 'glad'),
       ('01890a5d-ac96-774b-bcce-b302099a8058', 'order', '2', 'shop.Gone', NULL, NULL)",
    "BEGIN; INSERT INTO other VALUES (1, 'x', '\\x00ff'), (2, NULL, NULL);
     UPDATE other SET b = 'y' WHERE a = 1; DELETE FROM other WHERE a = 2;
     SAVEPOINT s; INSERT INTO other VALUES (3, 'rolled back', NULL); ROLLBACK TO s; COMMIT",
    "BEGIN; INSERT INTO keyed VALUES (1, 'x'); UPDATE keyed SET a = 2; UPDATE keyed SET b = 'y';
     DELETE FROM keyed; COMMIT",
    "SELECT pg_logical_emit_message(true, 'walpost', '{\"id\": \"m1\"}');
     SELECT pg_logical_emit_message(false, 'walpost', 'alone');
     SELECT pg_logical_emit_message(true, 'another', '')",
    "TRUNCATE other, keyed; TRUNCATE outbox RESTART IDENTITY CASCADE",
    "SELECT pg_replication_origin_create('ORIGIN');
     SELECT pg_replication_origin_session_setup('ORIGIN');
     BEGIN; SELECT pg_replication_origin_xact_setup('0/AB', '2026-01-01 00:00:00+00');
     INSERT INTO keyed VALUES (7, 'from elsewhere'); COMMIT;
     SELECT pg_replication_origin_session_reset()",
    "ALTER TABLE outbox ADD extra text DEFAULT 'x'; ALTER TABLE outbox DROP how;
     INSERT INTO outbox (id, aggregate_type, aggregate_id, event_type)
       VALUES ('01890a5d-ac96-774b-bcce-b302099a8059', 'o', '3', 't')",
    "SELECT pg_replication_origin_drop('ORIGIN')",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn record(major: u16) {
    let variable = format!("WALPOST_TEST_POSTGRES_{major}_URL");
    let url = std::env::var(&variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    let database = Database::empty(&url, "golden");
    for sql in SCRIPT {
        let sql = sql.replace("SLOT", &database.slot).replace("ORIGIN", &database.name);
        database.run_each(&sql);
    }
    let options = "'proto_version', '1', 'publication_names', 'golden', 'messages', 'true'";
    let sql = format!(
        "SELECT string_agg(encode(data, 'hex'), E'\\n') FROM \
         pg_logical_slot_peek_binary_changes('{}', NULL, NULL, {options})",
        database.slot
    );
    let transcript = database.ask(&sql) + "\n";
    std::fs::write(folder().join(format!("postgres-{major}.hex")), transcript).expect("a file");
}

#[test]
fn transcripts_of_postgresql_14_to_18_decode_as_recorded() {
    let is_blessed = std::env::var_os("WALPOST_BLESS").is_some();
    for major in MAJORS {
        if is_blessed {
            record(major);
        }
        let file = folder().join(format!("postgres-{major}.hex"));
        let transcript = std::fs::read_to_string(&file).expect("a transcript");
        let shown: String = transcript.lines().map(|line| show(&unhex(line))).collect();
        let kept = folder().join(format!("postgres-{major}.txt"));
        if is_blessed {
            std::fs::write(&kept, &shown).expect("a file");
        }
        expect_file![kept].assert_eq(&shown);
        let kinds = [
            "Begin", "Commit", "Origin", "Relation", "Type", "Insert", "Update", "Delete",
            "Truncate", "Logical",
        ];
        for kind in kinds {
            assert!(shown.contains(kind), "{major} has no {kind}");
        }
    }
}

/// Cut at any byte, or with a byte too many, no message is taken for whole.
#[test]
fn a_message_that_is_cut_short_or_too_long_is_refused() {
    for major in MAJORS {
        let file = folder().join(format!("postgres-{major}.hex"));
        for line in std::fs::read_to_string(file).expect("a transcript").lines() {
            let message = unhex(line);
            for end in 0..message.len() {
                assert!(decode(&message[..end]).is_err(), "{major}: {line} cut at {end}");
            }
            let longer = [message.as_slice(), &[0]].concat();
            assert!(decode(&longer).is_err(), "{major}: {line} and a byte");
        }
    }
}

/// One message without what differs from run to run: positions, times and object ids.
fn show(bytes: &[u8]) -> String {
    let message = decode(bytes).expect("PostgreSQL's own bytes decode");
    let mut text = match message {
        Message::Begin { .. } => "Begin".to_owned(),
        Message::Commit { commit, end, .. } => {
            assert!(end.0 > commit.0, "a commit record has a length");
            "Commit".to_owned()
        }
        Message::Origin { name } => format!("Origin {}", name.split('_').next().unwrap_or("")),
        Message::Type { name: (namespace, name), .. } => format!("Type {namespace}.{name}"),
        Message::Relation(relation) => {
            let name = |column: &walpost::decode::Column<'_>| {
                let is_builtin = column.type_oid.0 < 16_384;
                let oid = if is_builtin { column.type_oid.0.to_string() } else { "own".to_owned() };
                format!("{} {oid}", column.name)
            };
            let columns: Vec<String> = relation.columns.iter().map(name).collect();
            format!("Relation {}.{} ({})", relation.namespace, relation.name, columns.join(", "))
        }
        Message::Insert { row, .. } => {
            let cells: Vec<String> = row.cells().map(cell).collect();
            format!("Insert ({})", cells.join(", "))
        }
        Message::Update { .. } => "Update".to_owned(),
        Message::Delete { .. } => "Delete".to_owned(),
        Message::Truncate { relations } => format!("Truncate {relations}"),
        Message::Logical { is_transactional, prefix, content, .. } => {
            let content = String::from_utf8_lossy(content);
            format!("Logical {prefix:?} {is_transactional} {content}")
        }
    };
    let _ = writeln!(text);
    text
}

fn cell(cell: Cell<'_>) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Unchanged => "unchanged".to_owned(),
        Cell::Text(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Cell::Binary(bytes) => hex(bytes),
    }
}
