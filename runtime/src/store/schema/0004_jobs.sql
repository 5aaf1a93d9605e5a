-- What was decided for each version of a study that closed, once.
CREATE TABLE routed (
    study_instance_uid TEXT NOT NULL,
    study_version INTEGER NOT NULL,
    routed_ms INTEGER NOT NULL,
    -- 'jobs', 'nothing-to-run' or 'unreadable'.
    outcome TEXT NOT NULL,
    -- For people; no patient data.
    detail TEXT NOT NULL,
    -- The version is made of the study's instances up to this one: a run that is repeated sees what the first saw.
    last_instance INTEGER NOT NULL,
    PRIMARY KEY (study_instance_uid, study_version)
) STRICT;

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    study_instance_uid TEXT NOT NULL,
    study_version INTEGER NOT NULL,
    -- As it is called on this node.
    module TEXT NOT NULL,
    -- SHA-256 over its manifest.
    module_identity BLOB NOT NULL,
    -- queued, gated, running, done, failed, dead, cancelled or skipped.
    state TEXT NOT NULL,
    -- Runs that began, without those that the node itself broke off.
    attempts INTEGER NOT NULL DEFAULT 0,
    -- 0 routine, 1 prompt, 2 urgent, 3 critical. Only rises.
    priority INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL DEFAULT 0,
    -- The first guest instruction of the last run.
    started_ms INTEGER,
    ended_ms INTEGER,
    -- Who is at fault, as a word, and what happened; no patient data.
    error_class TEXT,
    error TEXT,
    -- Below the data folder.
    result_path TEXT,
    correlation TEXT NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    -- A later version of the study.
    superseded_by INTEGER,
    UNIQUE (study_instance_uid, study_version, module, module_identity),
    FOREIGN KEY (study_instance_uid, study_version) REFERENCES routed (study_instance_uid, study_version)
) STRICT;
CREATE INDEX job_state ON job (state, priority DESC, created_ms);

-- What a job that is done found: what later modules and the worklist ask for.
CREATE TABLE job_finding (
    job INTEGER NOT NULL REFERENCES job (id),
    code_value TEXT NOT NULL,
    code_meaning TEXT NOT NULL,
    -- Segment label; empty for what is no segment.
    label TEXT NOT NULL,
    -- 0 to 1; of a segment 1 where it has voxels and 0 where not.
    probability REAL NOT NULL
) STRICT;
CREATE INDEX job_finding_job ON job_finding (job);
