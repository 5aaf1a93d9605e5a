-- The same bytes are set aside once for each reason.
CREATE INDEX quarantine_sha256 ON quarantine (sha256);
