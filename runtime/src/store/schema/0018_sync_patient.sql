-- Whose a part is, by the pseudonym that the list of those who opted out has: it is asked again until its batch is in the bucket.
-- Empty of parts that an earlier version took.
ALTER TABLE sync_part ADD COLUMN patient TEXT NOT NULL DEFAULT '';
