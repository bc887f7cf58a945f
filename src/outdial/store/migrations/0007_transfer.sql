-- A transfer of an answered call has an attempt of its own beside the number's.
ALTER TABLE attempt ADD COLUMN transfer_of uuid;
DROP INDEX attempt_once;
DROP INDEX attempt_running;
CREATE UNIQUE INDEX attempt_once ON attempt (vdn_id, contact_id, attempt_no) WHERE transfer_of IS NULL;
CREATE UNIQUE INDEX attempt_running ON attempt (vdn_id, contact_id) WHERE ended_at IS NULL AND transfer_of IS NULL;
