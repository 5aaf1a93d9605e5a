-- What jobs and priors see is told by ids of instances: none is given twice, also not that of the latest one once it is replaced
-- or deleted.
CREATE TABLE instance_with_ids (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
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
INSERT INTO instance_with_ids SELECT * FROM instance;
DROP TABLE instance;
ALTER TABLE instance_with_ids RENAME TO instance;
CREATE INDEX instance_series ON instance (series);
