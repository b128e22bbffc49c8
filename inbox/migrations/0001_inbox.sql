-- The inbox: what a consumer has handled, where it may skip by position, and what it put aside.
-- Run it with any migration tool; `docs/inbox-sql.md` says how to use it from any language.
-- Names are unqualified: tables and functions live in one schema of the search path.

-- A consumer is a name that people choose and keep; rows elsewhere carry its number.
CREATE TABLE inbox_consumer (
    number smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name   text NOT NULL UNIQUE CHECK (name <> '')
);

-- One row for each event that a consumer has handled, parked or ignored on purpose.
CREATE TABLE inbox_claim (
    consumer   smallint NOT NULL,
    -- Fixed by whoever made the id: the time in a UUID of version 7, else the header created_at, else
    -- -infinity. Never the time of the claim: a second copy would land in another partition.
    day        date NOT NULL,
    id         uuid NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT now(),
    -- The id first: it alone tells most rows apart. A partition's index must hold the day.
    PRIMARY KEY (id, consumer, day)
) PARTITION BY RANGE (day);

-- Ids without a time, ids older than the window, and ids of days that have no partition yet.
CREATE TABLE inbox_claim_other PARTITION OF inbox_claim DEFAULT;
-- Pruned by age, in batches.
CREATE INDEX inbox_claim_other_age ON inbox_claim_other (claimed_at);

-- Ids of this day and later are decided by the id alone; earlier ones by the floor too.
CREATE TABLE inbox_window (
    the_one boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    oldest  date NOT NULL
);
INSERT INTO inbox_window (oldest) VALUES ('-infinity');

-- Offsets [from_offset, to_offset) that a consumer has handled without a hole; only ever widened.
CREATE TABLE inbox_floor (
    consumer    smallint NOT NULL REFERENCES inbox_consumer,
    cluster     text NOT NULL,
    topic       text NOT NULL,
    partition   int NOT NULL,
    from_offset bigint NOT NULL,
    to_offset   bigint NOT NULL CHECK (to_offset >= from_offset),
    -- A record by which the topic is known again: the first that was read, and a digest of it.
    landmark_offset bigint,
    landmark_digest bigint,
    PRIMARY KEY (consumer, cluster, topic, partition)
);

-- The sequences (record keys) that are put aside. Parking, appending and releasing lock this row.
CREATE TABLE inbox_sequence (
    consumer   smallint NOT NULL REFERENCES inbox_consumer,
    topic      text NOT NULL,
    -- 01 and the record key; 02 and its SHA-256 where it is longer than 512 bytes; 00 and the event
    -- id where there is no key.
    sequence   bytea NOT NULL,
    -- Where it was last seen: the owner of this partition releases it.
    partition  int NOT NULL,
    -- Why the first event of it was put aside, or could not be released.
    reason     text NOT NULL,
    attempts   int NOT NULL DEFAULT 0,
    parked_at  timestamptz NOT NULL DEFAULT now(),
    -- From when on it may be released; NULL waits for a person.
    release_at timestamptz,
    -- Who releases its first event now, and how many died of it.
    runner     uuid,
    deaths     int NOT NULL DEFAULT 0,
    -- Of its events.
    bytes      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (consumer, topic, sequence)
);

-- The events of parked sequences, in the order of n.
CREATE TABLE inbox_parked (
    n             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer      smallint NOT NULL,
    topic         text NOT NULL,
    sequence      bytea NOT NULL,
    id            uuid NOT NULL,
    partition     int NOT NULL,
    record_offset bigint NOT NULL,
    record_time   bigint,
    key           bytea,
    value         bytea,
    header_names  text[] NOT NULL,
    header_values bytea[] NOT NULL,
    -- Key, value, headers, and what each event costs beside them.
    bytes         int NOT NULL DEFAULT 0,
    parked_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (consumer, id),
    FOREIGN KEY (consumer, topic, sequence) REFERENCES inbox_sequence
);
CREATE INDEX inbox_parked_order ON inbox_parked (consumer, topic, sequence, n);

-- What a person gave up, and why. The record itself is still in its topic.
CREATE TABLE inbox_discarded (
    consumer      smallint NOT NULL REFERENCES inbox_consumer,
    id            uuid NOT NULL,
    topic         text NOT NULL,
    partition     int NOT NULL,
    record_offset bigint NOT NULL,
    key           bytea,
    reason        text NOT NULL,
    discarded_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, id)
);

-- A partition that is read by a runner: one run of an instance, which takes its row away when it gives
-- the partition back or ends in good order. A row that another one finds was left by a death.
CREATE TABLE inbox_tenure (
    consumer  smallint NOT NULL REFERENCES inbox_consumer,
    cluster   text NOT NULL,
    topic     text NOT NULL,
    partition int NOT NULL,
    runner    uuid NOT NULL,
    since     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, cluster, topic, partition)
);

-- The events that are under way in a partition whose last runner died. Of a death only these are
-- suspected; each is then handled alone.
CREATE TABLE inbox_suspect (
    consumer  smallint NOT NULL,
    id        uuid NOT NULL,
    topic     text NOT NULL,
    partition int NOT NULL,
    -- Who handles it alone now.
    runner    uuid,
    -- How many died while they handled it alone.
    deaths    int NOT NULL DEFAULT 0,
    PRIMARY KEY (consumer, id)
);

-- Gives a day a partition of its own; claims of that day that stand elsewhere move into it.
-- One call a transaction; set lock_timeout before. False: it has one already.
CREATE FUNCTION inbox_open_day(of_day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    own text := 'inbox_claim_' || to_char(of_day, 'YYYYMMDD');
BEGIN
    IF of_day < (SELECT oldest FROM inbox_window) OR to_regclass(quote_ident(own)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('walpost inbox_claim'));
    -- Once more: somebody may have opened it, or moved the window, until the lock was free.
    IF of_day < (SELECT oldest FROM inbox_window) OR to_regclass(quote_ident(own)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Nobody adds a claim of this day between the move and the attachment.
    LOCK TABLE inbox_claim_other IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE %I (LIKE inbox_claim INCLUDING ALL)', own);
    EXECUTE format(
        'WITH moved AS (DELETE FROM inbox_claim_other WHERE day = %L
             RETURNING consumer, day, id, claimed_at)
         INSERT INTO %I (consumer, day, id, claimed_at) SELECT * FROM moved', of_day, own);
    EXECUTE format(
        'ALTER TABLE inbox_claim ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        own, of_day, of_day + 1);
    RETURN true;
END $$;

-- Claims ids of one day inside the window, each once and ascending: two batches that meet on several
-- ids then wait for each other in one direction only. NULL when all are fresh, nothing of the consumer
-- is parked, and the window still holds the day: the usual case, which needs no further look. Else
-- the fresh ids.
CREATE FUNCTION inbox_claim_day(of_consumer smallint, of_day date, ids uuid[])
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    fresh uuid[];
BEGIN
    -- The first one alone: reading a topic again writes nothing.
    INSERT INTO inbox_claim (consumer, day, id) VALUES (of_consumer, of_day, ids[1])
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        BEGIN
            -- Nothing is looked up before: half the work where all are fresh. The error of a copy is
            -- caught here and spoils no transaction.
            INSERT INTO inbox_claim (consumer, day, id)
            SELECT of_consumer, of_day, m.id FROM unnest(ids[2:]) AS m (id);
            -- A statement of its own: it sees what the claim may have waited for.
            IF (SELECT of_day >= w.oldest AND NOT EXISTS (
                    SELECT FROM inbox_sequence s WHERE s.consumer = of_consumer)
                FROM inbox_window w)
            THEN
                RETURN NULL;
            END IF;
            RETURN ids;
        EXCEPTION WHEN unique_violation THEN
            fresh := ids[1:1];
        END;
    END IF;
    WITH claimed AS (
        INSERT INTO inbox_claim (consumer, day, id)
        SELECT of_consumer, of_day, m.id FROM unnest(ids[2:]) AS m (id)
        ON CONFLICT DO NOTHING
        RETURNING id)
    SELECT coalesce(fresh, '{}') || coalesce(array_agg(claimed.id), '{}') INTO fresh FROM claimed;
    RETURN fresh;
END $$;

-- Moves the start of the window to a day and drops the partitions before it; how many.
-- Waits for open claims, and new ones wait behind it: set a short lock_timeout and try again.
CREATE FUNCTION inbox_drop_days_before(of_day date) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    own regclass;
    dropped int := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('walpost inbox_claim'));
    IF of_day > (SELECT oldest FROM inbox_window) THEN
        -- A statement that claims has this lock before its snapshot: the window it sees holds until
        -- its transaction ends.
        LOCK TABLE ONLY inbox_claim IN ACCESS EXCLUSIVE MODE;
        UPDATE inbox_window SET oldest = of_day WHERE oldest < of_day;
    END IF;
    FOR own IN
        SELECT inhrelid::regclass FROM pg_inherits
        JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = to_regclass('inbox_claim')
          AND relname ~ '^inbox_claim_[0-9]{8}$'
          AND to_date(right(relname, 8), 'YYYYMMDD') < of_day
    LOOP
        EXECUTE format('DROP TABLE %s', own);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

-- Deletes up to batch_max claims that are outside the window and older than an age; how many.
CREATE FUNCTION inbox_prune_other(age interval, batch_max int) RETURNS int LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM inbox_claim_other WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM inbox_claim_other
            WHERE claimed_at < now() - age AND day < (SELECT oldest FROM inbox_window)
            LIMIT batch_max FOR UPDATE SKIP LOCKED))
        RETURNING 1)
    SELECT count(*)::int FROM gone
$$;
