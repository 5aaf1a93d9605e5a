-- Studies, series and instances as received. Times are milliseconds since 1970 (UTC); digests are SHA-256.
CREATE TABLE study (
    id INTEGER PRIMARY KEY,
    study_instance_uid TEXT NOT NULL UNIQUE,
    patient_id TEXT NOT NULL,
    issuer_of_patient_id TEXT NOT NULL,
    patient_name TEXT NOT NULL,
    patient_birth_date TEXT NOT NULL,
    patient_sex TEXT NOT NULL,
    study_date TEXT NOT NULL,
    study_time TEXT NOT NULL,
    accession_number TEXT NOT NULL,
    referring_physician_name TEXT NOT NULL,
    study_id TEXT NOT NULL,
    study_description TEXT NOT NULL,
    -- What the instances themselves say (0020,1206) and (0020,1208), when they do.
    stated_series INTEGER,
    stated_instances INTEGER,
    first_received_ms INTEGER NOT NULL,
    last_received_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES study (id),
    series_instance_uid TEXT NOT NULL,
    modality TEXT NOT NULL,
    series_number TEXT NOT NULL,
    series_description TEXT NOT NULL,
    series_date TEXT NOT NULL,
    series_time TEXT NOT NULL,
    body_part_examined TEXT NOT NULL,
    performed_step_start_date TEXT NOT NULL,
    performed_step_start_time TEXT NOT NULL,
    -- (0020,1209), when the instances state it.
    stated_instances INTEGER,
    UNIQUE (study, series_instance_uid)
) STRICT;

CREATE TABLE instance (
    id INTEGER PRIMARY KEY,
    series INTEGER NOT NULL REFERENCES series (id),
    sop_instance_uid TEXT NOT NULL UNIQUE,
    sop_class_uid TEXT NOT NULL,
    transfer_syntax_uid TEXT NOT NULL,
    instance_number TEXT NOT NULL,
    "rows" INTEGER,
    "columns" INTEGER,
    bits_allocated INTEGER,
    number_of_frames INTEGER,
    -- Below the data folder.
    path TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    via TEXT NOT NULL,
    -- AE title, token or folder.
    source TEXT NOT NULL,
    -- One for each association, request or file.
    correlation TEXT NOT NULL
) STRICT;
CREATE INDEX instance_series ON instance (series);

CREATE TABLE quarantine (
    id INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    path TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    via TEXT NOT NULL,
    source TEXT NOT NULL,
    correlation TEXT NOT NULL
) STRICT;
