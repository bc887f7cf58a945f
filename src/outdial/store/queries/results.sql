-- name: lease_deliveries
-- Across VDNs: due deliveries, at most $3 of one receiver, leased until $2. LIMIT is a literal.
-- $1 now  $2 lease end  $3 per receiver  $4 receivers that are full
WITH due AS MATERIALIZED (
    SELECT vdn_id, result_id, url FROM outbox
    WHERE due_at <= $1 AND (leased_until IS NULL OR leased_until <= $1) AND NOT (url = ANY($4::text[]))
    ORDER BY due_at LIMIT 500 FOR UPDATE SKIP LOCKED
), chosen AS (
    SELECT vdn_id, result_id FROM (SELECT *, row_number() OVER (PARTITION BY url) AS nth FROM due) d
    WHERE nth <= $3
), leased AS (
    UPDATE outbox o SET leased_until = $2 FROM chosen c
    WHERE o.vdn_id = c.vdn_id AND o.result_id = c.result_id
    RETURNING o.vdn_id, o.result_id, o.url, o.pushes, o.due_at
)
SELECT l.url, l.pushes, r.*, v.time_zone, v.webhook_secret
FROM leased l
CROSS JOIN LATERAL (   -- LIMIT keeps this a lookup by key: a hash join reads every result there ever was
    SELECT * FROM call_result c WHERE c.vdn_id = l.vdn_id AND c.result_id = l.result_id LIMIT 1
) r
JOIN vdn v ON v.vdn_id = l.vdn_id
ORDER BY l.due_at

-- name: delivered
-- Across VDNs. $1 vdns  $2 result ids  $3 now
WITH taken AS MATERIALIZED (
    SELECT * FROM unnest($1::int[], $2::uuid[]) t(vdn_id, result_id)
), gone AS (
    DELETE FROM outbox o USING taken t WHERE o.vdn_id = t.vdn_id AND o.result_id = t.result_id
)
UPDATE call_result r SET delivered_at = $3 FROM taken t
WHERE r.vdn_id = t.vdn_id AND r.result_id = t.result_id

-- name: not_delivered
-- Across VDNs. A count that has changed meanwhile (this statement came through before, or the pushes were
-- started afresh) is left alone.
-- $1 vdns  $2 result ids  $3 pushes that had failed before  $4 next due  $5 errors
UPDATE outbox o SET pushes = o.pushes + 1, due_at = f.due_at, leased_until = NULL, last_error = f.error
FROM unnest($1::int[], $2::uuid[], $3::smallint[], $4::timestamptz[], $5::text[])
    f(vdn_id, result_id, pushes, due_at, error)
WHERE o.vdn_id = f.vdn_id AND o.result_id = f.result_id AND o.pushes = f.pushes

-- name: release_deliveries
-- Across VDNs. $1 vdns  $2 result ids
UPDATE outbox o SET leased_until = NULL FROM unnest($1::int[], $2::uuid[]) f(vdn_id, result_id)
WHERE o.vdn_id = f.vdn_id AND o.result_id = f.result_id

-- name: undelivered
SELECT o.result_id, o.campaign_id, o.url, o.pushes, o.due_at, o.last_error, o.created_at, r.disposition
FROM outbox o JOIN call_result r USING (vdn_id, result_id)
WHERE o.vdn_id = $1 AND o.pushes > 0 ORDER BY o.created_at, o.result_id LIMIT $2

-- name: send_again
-- A lease stays: a push that is under way is not joined by a second one. A campaign that has been pointed
-- elsewhere meanwhile says where to.
UPDATE outbox o SET due_at = $2, pushes = 0, url = coalesce(
    (SELECT c.callback_url FROM campaign c WHERE c.vdn_id = $1 AND c.campaign_id = o.campaign_id), o.url)
WHERE vdn_id = $1 AND ($3::uuid[] IS NULL OR result_id = ANY($3)) AND pushes > 0 RETURNING result_id

-- name: backlog
SELECT count(due_at) AS waiting, count(*) - count(due_at) AS given_up, min(created_at) AS oldest FROM outbox

-- name: receiver_urls
-- Across VDNs: where results go, or wait to go.
SELECT callback_url AS url FROM campaign
WHERE callback_url IS NOT NULL AND state <> 'ended' AND deleted_at IS NULL
UNION SELECT url FROM outbox
