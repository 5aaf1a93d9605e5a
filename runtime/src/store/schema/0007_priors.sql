-- Earlier studies. Times are milliseconds since 1970 (UTC).

-- Studies of which an archive gave all that it had. One that was cut off has no row here, and is shown to nobody.
CREATE TABLE fetched (
    study INTEGER PRIMARY KEY REFERENCES study (id) ON DELETE CASCADE,
    instances INTEGER NOT NULL,
    fetched_ms INTEGER NOT NULL
) STRICT;

-- Versions of studies for which earlier ones were looked for: once, before the first job that is to see them.
CREATE TABLE gathered (
    study_instance_uid TEXT NOT NULL,
    study_version INTEGER NOT NULL,
    gathered_ms INTEGER NOT NULL,
    -- What could not be had, a line each; no patient data.
    warnings TEXT NOT NULL,
    PRIMARY KEY (study_instance_uid, study_version)
) STRICT;

-- What was found: every run of every job of the version sees the same.
CREATE TABLE prior (
    study_instance_uid TEXT NOT NULL,
    study_version INTEGER NOT NULL,
    -- From 0, the latest first.
    place INTEGER NOT NULL,
    -- Study Instance UID of the earlier study.
    prior_uid TEXT NOT NULL,
    days_before INTEGER NOT NULL,
    -- It is made of so many instances, up to this one.
    instances INTEGER NOT NULL,
    last_instance INTEGER NOT NULL,
    PRIMARY KEY (study_instance_uid, study_version, place),
    FOREIGN KEY (study_instance_uid, study_version) REFERENCES gathered (study_instance_uid, study_version)
) STRICT;
CREATE INDEX prior_uid ON prior (prior_uid);
CREATE INDEX study_patient ON study (patient_id);
