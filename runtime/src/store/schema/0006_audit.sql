-- Who did what to which study. Each row's digest covers the one before it: see store/audit.rs. Rows are never changed and
-- never deleted, and ids have no gap. Times are milliseconds since 1970 (UTC).
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    -- Of the canonical bytes.
    version INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    -- AE title, token, folder, or the node itself.
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    -- Study Instance UID; empty when there is none.
    study_instance_uid TEXT NOT NULL,
    -- SOP Instance UID, job, token, …
    object TEXT NOT NULL,
    -- NAME=HEX, between spaces.
    digests TEXT NOT NULL,
    detail TEXT NOT NULL,
    correlation TEXT NOT NULL,
    -- SHA-256 over the digest of the row before and the canonical bytes of this one.
    sha256 BLOB NOT NULL
) STRICT;
CREATE INDEX audit_study ON audit (study_instance_uid) WHERE study_instance_uid <> '';

-- Files that the journal let go of, until they are removed from the disk: a crash in between loses none of them.
CREATE TABLE unneeded (
    id INTEGER PRIMARY KEY,
    -- Below the data folder.
    path TEXT NOT NULL
) STRICT;
