-- What a delivery states at its destination under identifiers of its own, as JSON, from before its first attempt on: a later version
-- of the study withdraws what it does not say again.
ALTER TABLE delivery ADD COLUMN said TEXT NOT NULL DEFAULT '';

-- Whose an order is (PID-3): Patient IDs with their issuers, as JSON; empty when it did not say.
ALTER TABLE imaging_order ADD COLUMN patients TEXT NOT NULL DEFAULT '';

-- Under which identities a patient is known: asked from either side. Old merges go.
CREATE INDEX patient_merge_surviving ON patient_merge (surviving_id);
CREATE INDEX patient_merge_received ON patient_merge (received_ms);
