-- Bearer tokens, by their SHA-256: what is here opens nothing. Times are milliseconds since 1970 (UTC).
CREATE TABLE token (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    sha256 BLOB NOT NULL UNIQUE,
    -- Names with spaces between.
    scopes TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    -- Never when NULL.
    expires_ms INTEGER,
    revoked_ms INTEGER
) STRICT;
