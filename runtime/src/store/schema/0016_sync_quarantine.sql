-- What stays in the hospital although the policy chose it, until a person decides: one row for each object. Times are
-- milliseconds since 1970 (UTC); digests are SHA-256. (`quarantine` is of what came and could not be kept.)
CREATE TABLE sync_quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study_instance_uid TEXT NOT NULL,
    -- instance, result, verdict or timing.
    kind TEXT NOT NULL,
    -- Of instances; empty otherwise.
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    -- Whose result it is or is about; 0 for what was received.
    job INTEGER NOT NULL,
    -- Of the bytes that were held.
    sha256 BLOB NOT NULL,
    -- The profile with its options.
    profile_sha256 BLOB NOT NULL,
    -- A word, and for people; no value.
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    -- What a person says who releases it, as JSON; an empty list where nobody can.
    excuses TEXT NOT NULL,
    held_ms INTEGER NOT NULL,
    -- held, released, discarded, sent or gone.
    state TEXT NOT NULL,
    state_ms INTEGER NOT NULL,
    -- Who decided last, and why in their words.
    decided_by TEXT NOT NULL DEFAULT '',
    decided_why TEXT NOT NULL DEFAULT '',
    -- The part of sync with which these bytes go along, if they do.
    part INTEGER,
    UNIQUE (study_instance_uid, kind, sop_instance_uid, job)
) STRICT;
CREATE INDEX sync_quarantine_state ON sync_quarantine (state, reason);
CREATE INDEX sync_quarantine_part ON sync_quarantine (part) WHERE part IS NOT NULL;

-- What a person excused: of these bytes under this profile, and of nothing else.
CREATE TABLE sync_excuse (
    quarantine INTEGER NOT NULL REFERENCES sync_quarantine (id),
    sha256 BLOB NOT NULL,
    profile_sha256 BLOB NOT NULL,
    excuse TEXT NOT NULL,
    given_ms INTEGER NOT NULL,
    given_by TEXT NOT NULL,
    PRIMARY KEY (quarantine, sha256, profile_sha256, excuse)
) STRICT;
