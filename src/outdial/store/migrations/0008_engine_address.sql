-- A CANCEL is known by the address that its INVITE came from: a run that takes over needs it.
ALTER TABLE engine ADD COLUMN sent_by jsonb NOT NULL DEFAULT '{}';
ALTER TABLE attempt ADD COLUMN placed_by bigint;

-- Why a campaign does not call is answered without reading all its numbers: what one waits for stands with it.
ALTER TABLE contact ADD COLUMN held_by text CHECK (held_by IN ('blacklist', 'cap'));
UPDATE contact m SET held_by = 'blacklist' FROM blacklist b
WHERE m.state = 'waiting' AND b.vdn_id = m.vdn_id AND b.number = m.called AND b.restrict_times IS NOT NULL;
UPDATE contact m SET held_by = 'cap' FROM called_count k
WHERE m.state = 'waiting' AND m.attempts = 0 AND m.held_by IS NULL AND k.vdn_id = m.vdn_id AND k.number = m.called;
DROP INDEX contact_waiting_of;
CREATE INDEX contact_waiting_of ON contact (vdn_id, campaign_id, held_by, due_at) WHERE state = 'waiting';
CREATE INDEX contact_refused ON contact (vdn_id, campaign_id) WHERE state = 'done' AND disposition = 'NOT_ALLOWED';
