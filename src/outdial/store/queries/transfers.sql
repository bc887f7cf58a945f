-- name: hold_engine_of
-- The engine run that owns an open call, while it is not fenced; held as in a claim. $1 vdn  $2 attempt
SELECT e.epoch FROM attempt a JOIN engine e USING (epoch)
WHERE a.vdn_id = $1 AND a.attempt_id = $2 AND a.ended_at IS NULL AND a.transfer_of IS NULL AND e.fenced_at IS NULL
FOR KEY SHARE OF e

-- name: intend_transfer
-- The attempt of a transfer, beside that of the open call ($3) that it hands over. One that is refused has
-- ended, with the reason.
-- $1 vdn  $2 attempt  $3 the call's attempt  $4 target  $5 caller  $6 now  $7 refused as; NULL: it is not
INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch, intent_at,
                     ended_at, disposition, transfer_of)
SELECT vdn_id, $2, campaign_id, contact_id, attempt_no, $4, $5, epoch, $6,
       CASE WHEN $7::text IS NOT NULL THEN $6::timestamptz END, $7, attempt_id
FROM attempt WHERE vdn_id = $1 AND attempt_id = $3 AND ended_at IS NULL
RETURNING contact_id, attempt_no
