-- name: records_page
-- $1 vdn  $2 and $3 the attempt after which the page begins: when it was made, its id  $4 until
SELECT a.*, n.session_id
FROM (SELECT * FROM attempt WHERE vdn_id = $1 AND (intent_at, attempt_id) > ($2, $3) AND intent_at < $4
      ORDER BY intent_at, attempt_id LIMIT 2000) a
LEFT JOIN contact n ON n.vdn_id = $1 AND n.contact_id = a.contact_id
ORDER BY a.intent_at, a.attempt_id
