-- Results of storage commitment (PS3.4 annex J) that were or are to be sent. Times are milliseconds since 1970 (UTC).
CREATE TABLE commitment_report (
    id INTEGER PRIMARY KEY,
    transaction_uid TEXT NOT NULL,
    -- Who asked, and where it takes the result; no port: only on the association on which it asked.
    ae_title TEXT NOT NULL,
    address TEXT NOT NULL,
    port INTEGER,
    requested_ms INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'failed')),
    attempts INTEGER NOT NULL,
    next_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX commitment_report_pending ON commitment_report (next_ms) WHERE state = 'pending';

CREATE TABLE commitment_item (
    report INTEGER NOT NULL REFERENCES commitment_report (id),
    sop_class_uid TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL,
    -- (0008,1197); none: committed.
    failure_reason INTEGER
) STRICT;
CREATE INDEX commitment_item_report ON commitment_item (report);
