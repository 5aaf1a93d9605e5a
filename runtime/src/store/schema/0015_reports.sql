-- The SR of a result, which that of a later version of the study names as the one that it takes the place of. Recorded in the
-- commit that makes the job done, and only where no later version of the study was there: what is here for the versions
-- before one cannot change from the commit on in which that one gets its jobs.
CREATE TABLE result_report (
    job INTEGER PRIMARY KEY REFERENCES job (id),
    series_instance_uid TEXT NOT NULL,
    sop_instance_uid TEXT NOT NULL
) STRICT;
