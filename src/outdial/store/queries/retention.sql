-- Each statement looks at a page of a table in the order of a key, and says where it ended: no index of its own
-- is needed, and what a statement does is bounded whatever the table holds. Scalar subqueries stay look-ups by
-- key; an EXISTS may be planned as a hash of the whole table.

-- name: keeping_vdns
-- Across VDNs: those that do not keep everything for ever.
SELECT vdn_id, keep_numbers, keep_results, keep_records FROM vdn
WHERE coalesce(keep_numbers, keep_results, keep_records) IS NOT NULL

-- name: old_numbers
-- $1 vdn  $2 after  $3 until when a number was done
WITH page AS MATERIALIZED (
    SELECT contact_id, state, due_at FROM contact
    WHERE vdn_id = $1 AND contact_id > $2 ORDER BY contact_id LIMIT 1000
)
SELECT (SELECT max(contact_id) FROM page) AS last,
       ARRAY(SELECT contact_id FROM page WHERE state = 'done' AND due_at <= $3) AS old

-- name: lock_campaigns_of_numbers
-- Campaign rows first and in id order: the lock order of every transaction.
SELECT campaign_id FROM campaign
WHERE vdn_id = $1 AND campaign_id IN
    (SELECT campaign_id FROM contact WHERE vdn_id = $1 AND contact_id = ANY($2::bigint[]))
ORDER BY campaign_id FOR NO KEY UPDATE

-- name: remove_numbers
-- Done ones alone, whose campaigns count them on.
WITH gone AS (
    DELETE FROM contact WHERE vdn_id = $1 AND contact_id = ANY($2::bigint[]) AND state = 'done'
    RETURNING campaign_id
), counted AS (
    UPDATE campaign c SET removed = c.removed + g.n
    FROM (SELECT campaign_id, count(*) AS n FROM gone GROUP BY campaign_id) g
    WHERE c.vdn_id = $1 AND c.campaign_id = g.campaign_id
)
SELECT count(*) FROM gone

-- name: remove_results
-- None that waits in the outbox. $1 vdn  $2 after  $3 until when a result was made
WITH page AS MATERIALIZED (
    SELECT result_id, created_at FROM call_result
    WHERE vdn_id = $1 AND result_id > $2 ORDER BY result_id LIMIT 1000
), gone AS (
    DELETE FROM call_result WHERE vdn_id = $1 AND result_id = ANY(ARRAY(
        SELECT result_id FROM page p WHERE created_at <= $3
        AND (SELECT 1 FROM outbox o WHERE o.vdn_id = $1 AND o.result_id = p.result_id) IS NULL))
    RETURNING 1
)
SELECT (SELECT result_id FROM page ORDER BY result_id DESC LIMIT 1) AS last, (SELECT count(*) FROM gone) AS gone

-- name: remove_records
-- None of a number that may still be tried again: its policy counts them.
-- $1 vdn  $2 and $3 after: when it was made, its id  $4 until when it was made
WITH page AS MATERIALIZED (
    SELECT attempt_id, intent_at, contact_id, ended_at FROM attempt
    WHERE vdn_id = $1 AND (intent_at, attempt_id) > ($2, $3) AND intent_at <= $4
    ORDER BY intent_at, attempt_id LIMIT 1000
), gone AS (
    DELETE FROM attempt WHERE vdn_id = $1 AND attempt_id = ANY(ARRAY(
        SELECT attempt_id FROM page p WHERE ended_at IS NOT NULL
        AND coalesce((SELECT n.state = 'done' FROM contact n
                      WHERE n.vdn_id = $1 AND n.contact_id = p.contact_id), true)))
    RETURNING 1
)
SELECT p.intent_at, p.attempt_id AS last, (SELECT count(*) FROM gone) AS gone
FROM (SELECT 1) one LEFT JOIN LATERAL
    (SELECT intent_at, attempt_id FROM page ORDER BY intent_at DESC, attempt_id DESC LIMIT 1) p ON true
