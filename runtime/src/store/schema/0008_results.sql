-- Results by age: what retention asks for every minute.
CREATE INDEX job_result ON job (ended_ms, id) WHERE result_path IS NOT NULL;
