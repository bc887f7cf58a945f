-- Results are paged through, and it is known which of them is the last word about its number.
ALTER TABLE contact ADD COLUMN closing boolean NOT NULL DEFAULT false;
CREATE INDEX contact_closing ON contact (vdn_id, contact_id) WHERE closing;
ALTER TABLE call_result ADD COLUMN final boolean NOT NULL DEFAULT true;
UPDATE call_result r SET final = false
FROM attempt a JOIN contact n USING (vdn_id, contact_id)
WHERE r.vdn_id = a.vdn_id AND r.attempt_id = a.attempt_id AND (n.state <> 'done' OR a.attempt_no < n.attempts);
CREATE INDEX call_result_page ON call_result (vdn_id, campaign_id, call_at, result_id) INCLUDE (final);
CREATE INDEX call_result_session ON call_result (vdn_id, campaign_id, session_id, call_at, result_id)
    INCLUDE (final) WHERE session_id IS NOT NULL;
CREATE INDEX call_result_field ON call_result (vdn_id, campaign_id, custom_field, call_at, result_id)
    INCLUDE (final) WHERE custom_field IS NOT NULL;
CREATE INDEX campaign_archived ON campaign (vdn_id, campaign_id) WHERE archived;
