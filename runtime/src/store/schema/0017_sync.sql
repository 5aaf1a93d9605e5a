-- What was handed to the cloud, and what is to be. Times are milliseconds since 1970 (UTC).

-- Studies that are to be looked at, or to be looked at again. Triggers put them here, whichever process made the change, so that
-- none is forgotten; a study stays until it was looked at as it is.
CREATE TABLE sync_todo (
    study_instance_uid TEXT PRIMARY KEY,
    -- Another number each time that something changed: what was looked at before is looked at again.
    change INTEGER NOT NULL DEFAULT 1,
    since_ms INTEGER NOT NULL,
    -- Not looked at before; 0 where it was not looked at as it is, which comes first.
    due_ms INTEGER NOT NULL DEFAULT 0,
    -- Since when it waits for something else than a verdict; 0 where it does not.
    waits_since_ms INTEGER NOT NULL DEFAULT 0,
    -- Looks at it that began, one after another, and of which none came to an end: the process was killed or panicked.
    begun INTEGER NOT NULL DEFAULT 0,
    -- What it waits for, as it was last looked at; no patient data.
    waits TEXT NOT NULL DEFAULT ''
) STRICT, WITHOUT ROWID;
-- In the order in which they are looked at.
CREATE INDEX sync_todo_due ON sync_todo (due_ms, since_ms, study_instance_uid);

CREATE TRIGGER sync_closed AFTER INSERT ON study_version BEGIN
    INSERT INTO sync_todo (study_instance_uid, since_ms)
        SELECT study_instance_uid, new.closed_ms FROM study WHERE id = new.study
        ON CONFLICT DO UPDATE SET change = change + 1, due_ms = 0, waits = '';
END;

CREATE TRIGGER sync_result AFTER UPDATE OF state ON job WHEN new.state = 'done' AND old.state <> 'done' BEGIN
    INSERT INTO sync_todo (study_instance_uid, since_ms)
        SELECT study_instance_uid, coalesce(new.ended_ms, new.created_ms) FROM study WHERE study_instance_uid = new.study_instance_uid
        ON CONFLICT DO UPDATE SET change = change + 1, due_ms = 0, waits = '';
END;

CREATE TRIGGER sync_verdict AFTER INSERT ON verdict BEGIN
    INSERT INTO sync_todo (study_instance_uid, since_ms)
        SELECT study.study_instance_uid, new.given_ms FROM study JOIN job USING (study_instance_uid) WHERE job.id = new.job
        ON CONFLICT DO UPDATE SET change = change + 1, due_ms = 0, waits = '';
END;

CREATE TRIGGER sync_released AFTER UPDATE OF state ON sync_quarantine WHEN new.state = 'released' AND old.state <> 'released' BEGIN
    INSERT INTO sync_todo (study_instance_uid, since_ms)
        SELECT study_instance_uid, new.state_ms FROM study WHERE study_instance_uid = new.study_instance_uid
        ON CONFLICT DO UPDATE SET change = change + 1, due_ms = 0, waits = '';
END;

CREATE TRIGGER sync_deleted AFTER DELETE ON study BEGIN
    DELETE FROM sync_todo WHERE study_instance_uid = old.study_instance_uid;
END;

-- What came of each time that a study was looked at: a part of a batch, or why not.
CREATE TABLE sync_part (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study_instance_uid TEXT NOT NULL,
    study_version INTEGER NOT NULL,
    -- That of sync_todo, as it was looked at.
    change INTEGER NOT NULL,
    -- taking, spooled, sent, held (all of it) or skipped.
    state TEXT NOT NULL,
    -- Why it was skipped; no patient data.
    reason TEXT NOT NULL DEFAULT '',
    -- The name under which the spool has it: fixed before the spool gets anything, so that it is there once.
    record TEXT UNIQUE,
    batch TEXT,
    objects INTEGER NOT NULL DEFAULT 0,
    objects_held INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    at_ms INTEGER NOT NULL,
    sent_ms INTEGER
) STRICT;
CREATE INDEX sync_part_study ON sync_part (study_instance_uid);
CREATE INDEX sync_part_open ON sync_part (state) WHERE state IN ('taking', 'spooled');

-- One row.
CREATE TABLE sync_state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    -- Since when nothing is handed on, and why, by whom.
    paused_ms INTEGER,
    paused_by TEXT NOT NULL DEFAULT '',
    paused_reason TEXT NOT NULL DEFAULT '',
    -- What the process that hands on does, or why it does nothing, and since when.
    doing TEXT NOT NULL DEFAULT '',
    doing_ms INTEGER,
    -- Bytes that were sent in the last day, as the policy's ledger has them: JSON; empty before the first.
    ledger TEXT NOT NULL DEFAULT '',
    -- Which characteristics are shared by how many patients, as the policy has it: JSON, by keyed digests; empty before the first.
    cohort TEXT NOT NULL DEFAULT '',
    last_batch TEXT,
    last_batch_ms INTEGER
) STRICT;
INSERT INTO sync_state (id) VALUES (1);

-- What is there already.
INSERT INTO sync_todo (study_instance_uid, since_ms)
    SELECT study_instance_uid, max(closed_ms) FROM study_version JOIN study ON study.id = study_version.study
    GROUP BY study_instance_uid;
