-- Each time a study was taken to be complete. Times are milliseconds since 1970 (UTC).
CREATE TABLE study_version (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES study (id) ON DELETE CASCADE,
    -- From 1; the highest is the one that holds.
    version INTEGER NOT NULL,
    closed_ms INTEGER NOT NULL,
    -- What showed it to be complete: the names of completion::Evidence.
    closed_by TEXT NOT NULL,
    instances INTEGER NOT NULL,
    -- study.last_received_ms at that moment: another value means that something came since.
    last_received_ms INTEGER NOT NULL,
    -- What was missing when only the timer closed it; empty when nothing was known to be.
    gap TEXT NOT NULL,
    -- How much earlier than the timer would have.
    saved_ms INTEGER NOT NULL,
    UNIQUE (study, version)
) STRICT;
