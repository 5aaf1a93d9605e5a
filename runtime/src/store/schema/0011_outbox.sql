-- Results on their way to destinations: a row for each (result, destination), made in the commit that makes the job done.
CREATE TABLE delivery (
    -- AUTOINCREMENT: within a study, a destination gets results in this order.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES job (id),
    -- Of the job, for the order within a study.
    study_instance_uid TEXT NOT NULL,
    -- As it is called in the configuration.
    destination TEXT NOT NULL,
    -- held, queued, awaiting, sent, dead, dropped or superseded.
    state TEXT NOT NULL,
    -- That of the job; only rises.
    priority INTEGER NOT NULL,
    -- Attempts at which the destination was reached, or that the node did not live to see the end of.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- From then on the age counts: when it was made, or when somebody had it tried again.
    since_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    -- Not tried before; of what is awaited: not asked for again before.
    next_ms INTEGER NOT NULL DEFAULT 0,
    ended_ms INTEGER,
    -- What went wrong last, and what the destination said beside that it took it; no patient data.
    error TEXT,
    detail TEXT NOT NULL DEFAULT '',
    -- Of result.json, which names the digests of everything else.
    result_sha256 BLOB NOT NULL,
    -- Under which storage commitment was asked for last.
    transaction_uid TEXT,
    -- What was asked for then: class, instance and digest of each object, as JSON.
    asked TEXT NOT NULL DEFAULT '',
    UNIQUE (job, destination)
) STRICT;
-- What is next: the most urgent first, then in order. What is over is not in it.
CREATE INDEX delivery_next ON delivery (destination, priority DESC, id) WHERE state = 'queued';
-- How many there are, and how old they are.
CREATE INDEX delivery_open ON delivery (destination, state, since_ms) WHERE state IN ('held', 'queued', 'awaiting', 'dead');
-- The order within a study, and what retention must not delete.
CREATE INDEX delivery_study ON delivery (study_instance_uid, destination, id);
CREATE INDEX delivery_awaiting ON delivery (destination, id) WHERE state = 'awaiting';
CREATE INDEX delivery_transaction ON delivery (transaction_uid) WHERE transaction_uid IS NOT NULL;
