-- name: lock_vdn
-- Serialises what a quota counts: creating and resuming campaigns of one VDN.
SELECT * FROM vdn
WHERE vdn_id = $1 FOR NO KEY UPDATE

-- name: active_campaigns
-- Started and suspended campaigns of these device types that are not over.
SELECT count(*) FROM campaign
WHERE vdn_id = $1 AND device_type = ANY($2::smallint[]) AND state IN ('started', 'suspended')
  AND end_at > $3 AND deleted_at IS NULL

-- name: create_campaign
INSERT INTO campaign (vdn_id, device_type, state, created_at, name, description, begin_at, end_at, caller_no,
                      max_alerting_time, windows, device_sign, call_count, call_interval, callback_url,
                      duplicates, on_unknown, priority, max_cps, max_channels, special_windows, retry,
                      caller_numbers)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
        $22::text::jsonb, $23::text::jsonb)
ON CONFLICT DO NOTHING RETURNING campaign_id

-- name: modify_campaign
-- Nothing happens where another campaign has the name; the VDN's row is locked, so none can take it meanwhile.
UPDATE campaign SET name = $3, description = $4, begin_at = $5, end_at = $6, caller_no = $7,
       max_alerting_time = $8, windows = $9, device_sign = $10, call_count = $11, call_interval = $12,
       callback_url = $13, duplicates = $14, on_unknown = $15, priority = $16, max_cps = $17,
       max_channels = $18, special_windows = $19, retry = $20::text::jsonb, caller_numbers = $21::text::jsonb
WHERE vdn_id = $1 AND campaign_id = $2
  AND NOT EXISTS (SELECT 1 FROM campaign o WHERE o.vdn_id = $1 AND o.name = $3 AND o.campaign_id <> $2
                  AND o.deleted_at IS NULL)
RETURNING campaign_id

-- name: set_retry
UPDATE campaign SET retry = $3::text::jsonb WHERE vdn_id = $1 AND campaign_id = $2

-- name: campaign
SELECT * FROM campaign WHERE vdn_id = $1 AND campaign_id = $2 AND deleted_at IS NULL

-- name: lock_campaign_row
SELECT * FROM campaign WHERE vdn_id = $1 AND campaign_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE

-- name: list_campaigns
-- $2 name contains  $3 states  $4 device types  $5 begins at or after  $6 ends at or before; NULL: any
SELECT *, count(*) OVER () AS total FROM campaign
WHERE vdn_id = $1 AND deleted_at IS NULL
  AND ($2::text IS NULL OR strpos(name, $2) > 0)
  AND ($3::text[] IS NULL
       OR CASE WHEN end_at <= $9 THEN 'ended' ELSE state END = ANY($3::text[]))
  AND ($4::smallint[] IS NULL OR device_type = ANY($4))
  AND ($5::timestamptz IS NULL OR begin_at >= $5)
  AND ($6::timestamptz IS NULL OR end_at <= $6)
ORDER BY campaign_id DESC LIMIT $7 OFFSET $8

-- name: count_campaigns
SELECT count(*) FROM campaign
WHERE vdn_id = $1 AND deleted_at IS NULL
  AND ($2::text IS NULL OR strpos(name, $2) > 0)
  AND ($3::text[] IS NULL
       OR CASE WHEN end_at <= $7 THEN 'ended' ELSE state END = ANY($3::text[]))
  AND ($4::smallint[] IS NULL OR device_type = ANY($4))
  AND ($5::timestamptz IS NULL OR begin_at >= $5)
  AND ($6::timestamptz IS NULL OR end_at <= $6)

-- name: set_state
UPDATE campaign SET state = $3 WHERE vdn_id = $1 AND campaign_id = $2 AND state = $4 RETURNING campaign_id

-- name: hide_campaign
UPDATE campaign SET deleted_at = $3, archived = $4 WHERE vdn_id = $1 AND campaign_id = $2

-- name: wake_engines
-- A signal without data: engines look for themselves.
SELECT pg_notify('outdial_engine', '')

-- name: progress
SELECT count(*) FILTER (WHERE state = 'ready') AS ready, count(*) FILTER (WHERE state = 'dialing') AS dialing,
       count(*) FILTER (WHERE state = 'done')
           + coalesce((SELECT removed FROM campaign WHERE vdn_id = $1 AND campaign_id = $2), 0) AS done, count(*) FILTER (WHERE state = 'waiting') AS waiting
FROM contact WHERE vdn_id = $1 AND campaign_id = $2

-- name: overdue_campaigns
-- Across VDNs: campaigns whose end time has passed, or that ended with contacts left.
SELECT vdn_id, campaign_id, state FROM campaign
WHERE end_at <= $1 AND state <> 'ended' AND deleted_at IS NULL LIMIT 100

-- name: ended_with_idle
-- Across VDNs: ended campaigns that still have ready or waiting contacts. One state a look: each has its index.
SELECT vdn_id, campaign_id FROM campaign c
WHERE state = 'ended' AND incomplete > 0 AND deleted_at IS NULL
  AND (EXISTS (SELECT 1 FROM contact n WHERE n.vdn_id = c.vdn_id AND n.campaign_id = c.campaign_id
               AND n.state = 'ready')
       OR EXISTS (SELECT 1 FROM contact n WHERE n.vdn_id = c.vdn_id AND n.campaign_id = c.campaign_id
                  AND n.state = 'waiting'))
LIMIT 100

-- name: idle_contacts
(SELECT contact_id FROM contact WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'ready' LIMIT 1000)
UNION ALL
(SELECT contact_id FROM contact WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'waiting' LIMIT 1000)
LIMIT 1000

-- name: end_contacts
-- Ends ready and waiting contacts without another call. One that had an attempt keeps that attempt's result.
-- $1 vdn  $2 campaign  $3 contact ids  $4 disposition  $5 now; the campaign row is locked.
WITH ended AS (
    UPDATE contact SET state = 'done', due_at = $5, disposition = CASE WHEN attempts = 0 THEN $4 ELSE disposition END,
           closing = attempts > 0
    WHERE vdn_id = $1 AND campaign_id = $2 AND contact_id = ANY($3::bigint[]) AND state IN ('ready', 'waiting')
    RETURNING contact_id, called, session_id, custom_field, attempts
), result AS (
    INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, called, session_id, custom_field,
                             disposition, call_at, created_at)
    SELECT $1, gen_random_uuid(), $2, contact_id, called, session_id, custom_field, $4, $5, $5
    FROM ended WHERE attempts = 0
    RETURNING result_id
), posted AS (
    INSERT INTO outbox (vdn_id, result_id, campaign_id, url, due_at, created_at)
    SELECT $1, r.result_id, $2, c.callback_url, $5, $5
    FROM result r JOIN campaign c ON c.vdn_id = $1 AND c.campaign_id = $2 AND c.callback_url IS NOT NULL
)
UPDATE campaign SET incomplete = incomplete - (SELECT count(*) FROM ended)
WHERE vdn_id = $1 AND campaign_id = $2 RETURNING (SELECT count(*) FROM ended)

-- name: recyclable
-- Across VDNs: ready and waiting contacts whose recycle time has passed, where the VDN retires them.
SELECT c.vdn_id, c.campaign_id, array_agg(c.contact_id) AS contact_ids
FROM (SELECT r.vdn_id, r.campaign_id, r.contact_id FROM contact r JOIN vdn USING (vdn_id)
      JOIN campaign USING (vdn_id, campaign_id)
      WHERE vdn.recycle = 'retire' AND r.state IN ('ready', 'waiting') AND r.recycle_at <= $1 AND deleted_at IS NULL
      LIMIT 2000) c
GROUP BY c.vdn_id, c.campaign_id

-- name: deleted_campaigns
-- Across VDNs: deleted campaigns with nothing in flight.
SELECT c.vdn_id, c.campaign_id FROM campaign c
WHERE c.deleted_at IS NOT NULL AND NOT c.archived
  AND NOT EXISTS (SELECT 1 FROM contact n WHERE n.vdn_id = c.vdn_id AND n.campaign_id = c.campaign_id
                  AND n.state = 'dialing')
LIMIT 10

-- name: remove_contacts
DELETE FROM contact WHERE vdn_id = $1 AND contact_id IN
    (SELECT contact_id FROM contact WHERE vdn_id = $1 AND campaign_id = $2 LIMIT 5000)

-- name: remove_results_of
-- Of a campaign that is being removed. What still waits for its receiver is delivered first (G5), and stays.
DELETE FROM call_result WHERE vdn_id = $1 AND result_id IN
    (SELECT r.result_id FROM call_result r
     WHERE r.vdn_id = $1 AND r.campaign_id = $2
       AND (SELECT o.result_id FROM outbox o   -- a lookup by key, whatever the tables hold when it is planned
            WHERE o.vdn_id = r.vdn_id AND o.result_id = r.result_id) IS NULL
     LIMIT 5000)

-- name: archived_with_idle
-- Across VDNs: campaigns kept as history that still have ready or waiting contacts.
SELECT vdn_id, campaign_id FROM campaign c
WHERE archived AND incomplete > 0
  AND (EXISTS (SELECT 1 FROM contact n WHERE n.vdn_id = c.vdn_id AND n.campaign_id = c.campaign_id
               AND n.state = 'ready')
       OR EXISTS (SELECT 1 FROM contact n WHERE n.vdn_id = c.vdn_id AND n.campaign_id = c.campaign_id
                  AND n.state = 'waiting'))
LIMIT 100

-- name: lock_archived
SELECT campaign_id FROM campaign WHERE vdn_id = $1 AND campaign_id = $2 AND archived FOR NO KEY UPDATE

-- name: deletable_contacts
-- Ready and waiting contacts that a filter names; the campaign row is locked. One state a look: each has its
-- index. $3 session id  $4 called  $5 custom field  $6 recycle time from  $7 and until; NULL: any. Where $8 a
-- contact needs a recycle time.
(SELECT contact_id FROM contact
 WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'ready'
   AND ($3::text IS NULL OR session_id = $3) AND ($4::text IS NULL OR called = $4)
   AND ($5::text IS NULL OR custom_field = $5) AND ($6::timestamptz IS NULL OR recycle_at >= $6)
   AND ($7::timestamptz IS NULL OR recycle_at < $7) AND (NOT $8::boolean OR recycle_at IS NOT NULL))
UNION ALL
(SELECT contact_id FROM contact
 WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'waiting'
   AND ($3::text IS NULL OR session_id = $3) AND ($4::text IS NULL OR called = $4)
   AND ($5::text IS NULL OR custom_field = $5) AND ($6::timestamptz IS NULL OR recycle_at >= $6)
   AND ($7::timestamptz IS NULL OR recycle_at < $7) AND (NOT $8::boolean OR recycle_at IS NOT NULL))

-- name: being_called
-- How many contacts that a filter names are being called; parameters as above.
SELECT count(*) FROM attempt a JOIN contact n ON n.vdn_id = $1 AND n.contact_id = a.contact_id
WHERE a.vdn_id = $1 AND a.campaign_id = $2 AND a.ended_at IS NULL AND a.transfer_of IS NULL
  AND n.state = 'dialing'
  AND ($3::text IS NULL OR session_id = $3) AND ($4::text IS NULL OR n.called = $4)
  AND ($5::text IS NULL OR custom_field = $5) AND ($6::timestamptz IS NULL OR recycle_at >= $6)
  AND ($7::timestamptz IS NULL OR recycle_at < $7) AND (NOT $8::boolean OR recycle_at IS NOT NULL)

-- name: delete_contacts
-- $1 vdn  $2 campaign  $3 ready and waiting contacts; the campaign row is locked. Returns how many went.
WITH gone AS (
    DELETE FROM contact
    WHERE vdn_id = $1 AND campaign_id = $2 AND contact_id = ANY($3::bigint[]) AND state IN ('ready', 'waiting')
    RETURNING contact_id
)
UPDATE campaign SET incomplete = incomplete - (SELECT count(*) FROM gone)
WHERE vdn_id = $1 AND campaign_id = $2 RETURNING (SELECT count(*) FROM gone)

-- name: archive_contacts
-- The same, but their rows stay as history: done, and never called again.
WITH gone AS (
    UPDATE contact SET state = 'done', closing = attempts > 0
    WHERE vdn_id = $1 AND campaign_id = $2 AND contact_id = ANY($3::bigint[]) AND state IN ('ready', 'waiting')
    RETURNING contact_id
)
UPDATE campaign SET incomplete = incomplete - (SELECT count(*) FROM gone)
WHERE vdn_id = $1 AND campaign_id = $2 RETURNING (SELECT count(*) FROM gone)

-- name: close_contacts
-- Across VDNs: numbers that ended while they waited for another try. Their last result is the final one.
WITH ended AS MATERIALIZED (
    SELECT vdn_id, contact_id, attempts FROM contact WHERE closing LIMIT 2000 FOR UPDATE SKIP LOCKED
), last_word AS (
    UPDATE call_result r SET final = true
    FROM ended e JOIN attempt a ON a.vdn_id = e.vdn_id AND a.contact_id = e.contact_id
                               AND a.attempt_no = e.attempts AND a.transfer_of IS NULL
    WHERE r.vdn_id = a.vdn_id AND r.attempt_id = a.attempt_id
)
UPDATE contact n SET closing = false FROM ended e WHERE n.vdn_id = e.vdn_id AND n.contact_id = e.contact_id

-- name: remove_campaign
DELETE FROM campaign WHERE vdn_id = $1 AND campaign_id = $2 AND deleted_at IS NOT NULL

-- name: move_callback
-- Sends a campaign's results elsewhere, those that wait in the outbox too.
WITH moved AS (
    UPDATE campaign SET callback_url = $3 WHERE vdn_id = $1 AND campaign_id = $2
)
UPDATE outbox SET url = $3 WHERE vdn_id = $1 AND campaign_id = $2
