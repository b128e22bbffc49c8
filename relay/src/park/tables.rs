//! The tables of the lot, made by `walpost init` in the source's database and owned by the relay's
//! role. People may read them; only the relay writes them, and asks for the rest by requests.

/// Each table with the statements that make it, in order.
pub const PARKING_TABLES: [(&str, &str); 3] = [
    ("walpost.parked", PARKED),
    ("walpost.parked_done", PARKED_DONE),
    ("walpost.requests", REQUESTS),
];

/// Their names.
pub const TABLES: [&str; 3] = ["walpost.parked", "walpost.parked_done", "walpost.requests"];

const PARKED: &str = "CREATE TABLE walpost.parked (
    source         text NOT NULL,
    timeline       bigint NOT NULL,
    commit_lsn     pg_lsn NOT NULL,
    ordinal        bigint NOT NULL,
    sequence       text NOT NULL,
    event_id       text,
    aggregate_type text,
    aggregate_id   text,
    event_type     text,
    payload_kind   text NOT NULL,
    payload        bytea,
    headers        text,
    schema_version text,
    created_at     text,
    unreadable     text,
    committed_at   timestamptz NOT NULL,
    bytes          bigint NOT NULL,
    code           text NOT NULL,
    detail         text NOT NULL,
    attempts       int NOT NULL DEFAULT 0,
    parked_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    tried_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, timeline, commit_lsn, ordinal)
);
CREATE INDEX parked_sequence ON walpost.parked (source, sequence, commit_lsn, ordinal)";

const PARKED_DONE: &str = "CREATE TABLE walpost.parked_done (
    LIKE walpost.parked,
    state          text NOT NULL,
    reason         text,
    done_by        text,
    done_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, timeline, commit_lsn, ordinal)
)";

const REQUESTS: &str = "CREATE TABLE walpost.requests (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source         text NOT NULL,
    verb           text NOT NULL,
    selection      jsonb NOT NULL,
    reason         text,
    asked_by       text NOT NULL DEFAULT session_user,
    asked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    answer         text,
    answered_at    timestamptz
);
CREATE INDEX requests_open ON walpost.requests (source, id) WHERE answered_at IS NULL";
