-- Why studies stand where they stand, what people said of results, and workitems (PS3.4 annex CC). Times are milliseconds since
-- 1970 (UTC).

-- Why a study stands where it stands, beside what was found. Rows are only added: nothing lowers.
CREATE TABLE reason (
    id INTEGER PRIMARY KEY,
    study_instance_uid TEXT NOT NULL,
    -- As a job's priority.
    level INTEGER NOT NULL,
    -- order, rule or module.
    cause TEXT NOT NULL,
    -- The order's priority, or the name of the rule or module; no patient data.
    what TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    UNIQUE (study_instance_uid, cause, what, level)
) STRICT;

-- Triage statements of results.
CREATE TABLE triage (
    job INTEGER NOT NULL REFERENCES job (id),
    -- In the order in which they were stated, from 0.
    place INTEGER NOT NULL,
    level INTEGER NOT NULL,
    code_value TEXT NOT NULL,
    code_scheme TEXT NOT NULL,
    code_meaning TEXT NOT NULL,
    -- 0 to 1.
    probability REAL NOT NULL,
    -- The module's words for people.
    reason TEXT NOT NULL,
    PRIMARY KEY (job, place)
) STRICT;
CREATE INDEX job_study ON job (study_instance_uid);

-- What becomes of a result, from the commit on that made its job done.
CREATE TABLE result_release (
    job INTEGER PRIMARY KEY REFERENCES job (id),
    -- As its module was configured when the result came: at-once, hold or shadow.
    policy TEXT NOT NULL,
    released_ms INTEGER,
    released_by TEXT
) STRICT;
CREATE INDEX result_held ON result_release (job) WHERE policy = 'hold' AND released_ms IS NULL;
-- What may leave. Deliveries of other results are held, or not made.
CREATE VIEW deliverable AS
    SELECT job FROM result_release WHERE policy = 'at-once' OR (policy = 'hold' AND released_ms IS NOT NULL);

-- Results of before: nobody held them.
INSERT INTO result_release (job, policy) SELECT id, 'at-once' FROM job WHERE state = 'done';

-- Which studies are open is asked by when things were over.
CREATE INDEX job_ended ON job (ended_ms);
CREATE INDEX study_received ON study (last_received_ms);
-- A start asks of each late file whether it was set aside.
CREATE INDEX quarantine_path ON quarantine (path);

-- What people said of findings: once each, and not changed.
CREATE TABLE verdict (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES job (id),
    -- Of the result.json that it is about.
    result_sha256 BLOB NOT NULL,
    -- `result` as a whole, or a list of result.json's findings and the place in it, as in `measurements/2`.
    finding TEXT NOT NULL,
    -- accepted, rejected or corrected.
    verdict TEXT NOT NULL,
    -- What the module had stated, as in result.json: the verdict outlives that file.
    stated TEXT NOT NULL,
    -- What it should have been, as JSON; of a correction only.
    correction TEXT,
    comment TEXT NOT NULL,
    given_ms INTEGER NOT NULL,
    given_by TEXT NOT NULL,
    UNIQUE (job, finding)
) STRICT;

-- Half of each workitem's UID is this node's (see worklist/uid.rs).
CREATE TABLE workitem_node (prefix BLOB NOT NULL) STRICT;
INSERT INTO workitem_node VALUES (randomblob(8));

-- One for each job, and another one each time that somebody has a job tried again which was over. Triggers keep them, so that
-- every way in which a job moves is told: the states of a workitem only go on.
CREATE TABLE workitem (
    -- AUTOINCREMENT: the other half of the UID.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES job (id),
    -- (0074,1000): SCHEDULED, IN PROGRESS, COMPLETED or CANCELED.
    state TEXT NOT NULL DEFAULT 'SCHEDULED',
    -- Whether all that it waits for is there.
    ready INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    made_ms INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    started_ms INTEGER,
    ended_ms INTEGER,
    replaces INTEGER REFERENCES workitem (id)
) STRICT;
CREATE INDEX workitem_job ON workitem (job, id);

INSERT INTO workitem (job, state, ready, priority, made_ms, modified_ms, started_ms, ended_ms)
    SELECT id, CASE state WHEN 'queued' THEN 'SCHEDULED' WHEN 'gated' THEN 'SCHEDULED' WHEN 'running' THEN 'IN PROGRESS'
        WHEN 'done' THEN 'COMPLETED' ELSE 'CANCELED' END,
        state <> 'gated', priority, created_ms, coalesce(ended_ms, started_ms, created_ms),
        iif(state IN ('queued', 'gated'), NULL, coalesce(started_ms, created_ms)), ended_ms FROM job;

-- What is to be told to subscribers; the latest ones are kept.
CREATE TABLE workitem_event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    workitem INTEGER NOT NULL REFERENCES workitem (id),
    -- state, priority or cancel (somebody asks for it).
    kind TEXT NOT NULL,
    -- As they are from then on.
    state TEXT NOT NULL,
    ready INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    -- Who asks to cancel, and why: DICOM JSON.
    request TEXT,
    at_ms INTEGER NOT NULL
) STRICT;

-- Who is told. A row of workitem 0 stands for all of them.
CREATE TABLE workitem_subscription (
    ae_title TEXT NOT NULL,
    workitem INTEGER NOT NULL,
    -- 0: not of this one, although of all.
    subscribed INTEGER NOT NULL,
    -- Of all: up to this one, once it was suspended.
    up_to INTEGER,
    made_ms INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    PRIMARY KEY (ae_title, workitem)
) STRICT;

CREATE TRIGGER job_made AFTER INSERT ON job BEGIN
    INSERT INTO workitem (job, ready, priority, made_ms, modified_ms)
        VALUES (new.id, new.state <> 'gated', new.priority, new.created_ms, CAST(unixepoch('subsec') * 1000 AS INTEGER));
END;

CREATE TRIGGER job_again AFTER UPDATE OF state ON job
WHEN new.state IN ('queued', 'gated') AND old.state NOT IN ('queued', 'gated', 'running') BEGIN
    INSERT INTO workitem (job, ready, priority, made_ms, modified_ms, replaces)
        VALUES (new.id, new.state <> 'gated', new.priority, CAST(unixepoch('subsec') * 1000 AS INTEGER),
            CAST(unixepoch('subsec') * 1000 AS INTEGER), (SELECT max(id) FROM workitem WHERE job = new.id));
END;

CREATE TRIGGER job_ready AFTER UPDATE OF state ON job WHEN old.state = 'gated' AND new.state = 'queued' BEGIN
    UPDATE workitem SET ready = 1, modified_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE id = (SELECT max(id) FROM workitem WHERE job = new.id) AND state = 'SCHEDULED';
END;

-- Nothing is cancelled that was not in progress (PS3.4 section CC.2.2.3).
CREATE TRIGGER job_begun AFTER UPDATE OF state ON job
WHEN new.state NOT IN ('queued', 'gated') AND old.state IN ('queued', 'gated') BEGIN
    UPDATE workitem SET state = 'IN PROGRESS', started_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER),
        modified_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE id = (SELECT max(id) FROM workitem WHERE job = new.id) AND state = 'SCHEDULED';
END;

CREATE TRIGGER job_over AFTER UPDATE OF state ON job
WHEN new.state NOT IN ('queued', 'gated', 'running') AND old.state IN ('queued', 'gated', 'running') BEGIN
    UPDATE workitem SET state = 'IN PROGRESS', started_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE id = (SELECT max(id) FROM workitem WHERE job = new.id) AND state = 'SCHEDULED';
    UPDATE workitem SET state = iif(new.state = 'done', 'COMPLETED', 'CANCELED'),
        ended_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER), modified_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE id = (SELECT max(id) FROM workitem WHERE job = new.id) AND state = 'IN PROGRESS';
END;

CREATE TRIGGER job_raised AFTER UPDATE OF priority ON job WHEN new.priority > old.priority BEGIN
    UPDATE workitem SET priority = new.priority, modified_ms = CAST(unixepoch('subsec') * 1000 AS INTEGER)
        WHERE id = (SELECT max(id) FROM workitem WHERE job = new.id) AND state IN ('SCHEDULED', 'IN PROGRESS');
END;

CREATE TRIGGER workitem_made AFTER INSERT ON workitem BEGIN
    INSERT INTO workitem_event (workitem, kind, state, ready, priority, at_ms)
        VALUES (new.id, 'state', new.state, new.ready, new.priority, new.modified_ms);
END;

CREATE TRIGGER workitem_moved AFTER UPDATE ON workitem WHEN new.state <> old.state OR new.ready <> old.ready BEGIN
    INSERT INTO workitem_event (workitem, kind, state, ready, priority, at_ms)
        VALUES (new.id, 'state', new.state, new.ready, new.priority, new.modified_ms);
END;

CREATE TRIGGER workitem_raised AFTER UPDATE ON workitem WHEN new.priority > old.priority BEGIN
    INSERT INTO workitem_event (workitem, kind, state, ready, priority, at_ms)
        VALUES (new.id, 'priority', new.state, new.ready, new.priority, new.modified_ms);
END;

CREATE TRIGGER workitem_event_old AFTER INSERT ON workitem_event BEGIN
    DELETE FROM workitem_event WHERE id <= new.id - 10000;
END;
