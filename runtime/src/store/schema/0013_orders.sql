-- What others said of studies, by HL7 v2. Times are milliseconds since 1970 (UTC).

-- Orders: by accession number or Study Instance UID they are about a study, whichever comes first.
CREATE TABLE imaging_order (
    id INTEGER PRIMARY KEY,
    -- With its namespace behind ^; empty when none was stated, as the three that follow.
    placer_order_number TEXT NOT NULL,
    filler_order_number TEXT NOT NULL,
    accession_number TEXT NOT NULL,
    study_instance_uid TEXT NOT NULL,
    -- 0 routine, 1 prompt, 2 urgent, 3 critical: the highest that was ever stated. Only rises.
    priority INTEGER NOT NULL,
    -- As it was stated last.
    stated_priority TEXT NOT NULL,
    reason TEXT NOT NULL,
    cancelled INTEGER NOT NULL,
    -- Application and facility, and what they call the message.
    sender TEXT NOT NULL,
    control_id TEXT NOT NULL,
    first_received_ms INTEGER NOT NULL,
    last_received_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX imaging_order_accession ON imaging_order (accession_number);
CREATE INDEX imaging_order_study ON imaging_order (study_instance_uid) WHERE study_instance_uid <> '';
CREATE INDEX imaging_order_placer ON imaging_order (placer_order_number, accession_number);
CREATE INDEX imaging_order_received ON imaging_order (last_received_ms);
-- An order asks for the studies of its accession number.
CREATE INDEX study_accession ON study (accession_number) WHERE accession_number <> '';

-- Identities of patients that were merged into others (ADT^A40): noted, and nothing else is done.
CREATE TABLE patient_merge (
    id INTEGER PRIMARY KEY,
    prior_id TEXT NOT NULL,
    prior_issuer TEXT NOT NULL,
    surviving_id TEXT NOT NULL,
    surviving_issuer TEXT NOT NULL,
    sender TEXT NOT NULL,
    control_id TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    UNIQUE (prior_id, prior_issuer, surviving_id, surviving_issuer)
) STRICT;
