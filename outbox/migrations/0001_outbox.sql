-- The outbox table: the contract for producers in any language.
-- Run it with any migration tool, or let `walpost init` run it.

CREATE TABLE outbox (
    -- Numbers the rows; replay, retention and polling rest on it. It is not the commit order.
    seq            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The event id, decided by the writer. Time-ordered (version 7) where you can choose.
    id             uuid NOT NULL,
    -- The kind of thing that changed, such as 'order'.
    aggregate_type text NOT NULL,
    -- Which one of them: the key of the Kafka record. Order is kept per aggregate.
    aggregate_id   text NOT NULL,
    -- What happened: names the schema, such as 'shop.OrderPlaced'.
    event_type     text NOT NULL,
    -- The content; NULL is a tombstone.
    payload        jsonb,
    -- Header names and values, such as {"traceparent": "00-..."}.
    headers        jsonb,
    -- The version of the writer's schema; NULL means the latest that fits.
    schema_version int,
    -- The writing transaction, for recovery.
    txid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    -- When the event was made. It orders nothing.
    created_at     timestamptz NOT NULL DEFAULT now()
);
