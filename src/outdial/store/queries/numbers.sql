-- name: admit
-- Admits a group of adds of one VDN, at most one per campaign. The campaign rows are locked in id order;
-- the clock is read after that. Facts are returned for every request; rows are kept only where no fact
-- refuses. `kept` false without a refusing fact: the same request is stored already, or the campaign
-- wants no incomplete duplicates and $10 was false, or the blacklist `hides` numbers and $28 was false.
-- $1 vdn  $2 campaign ids  $3 entries per request  $4 request keys  $5 idempotency keys  $6 body keys
-- $7 expiries  $8 states that take numbers  $9 request has call data that is no JSON object
-- $10 duplicates were looked at under the lock  $11 answer carries contact ids
-- $12 a restricted entry passes while not used up  $13 begin of this hour  $14 begin of this day
-- $15.. per entry: request no, place in it, called, session id, caller, custom field, recycle time,
-- call data, priority; each an array literal, which costs half of what driver arrays cost  $24 the largest number of incomplete contacts of a campaign
-- $25.. of a VDN whose blacklist hides erased numbers, per entry: request no, place, hidden name  $28 they are given
WITH locked AS MATERIALIZED (
    SELECT campaign_id, device_type, state, begin_at, end_at, incomplete, last_added_at, duplicates
    FROM campaign
    WHERE vdn_id = $1 AND campaign_id = ANY($2::bigint[]) AND deleted_at IS NULL
    ORDER BY campaign_id
    FOR NO KEY UPDATE
), clock AS MATERIALIZED (
    SELECT clock_timestamp() AS now, count(*) FROM locked
), request AS MATERIALIZED (
    SELECT u.req::int AS req, u.campaign_id, u.n, u.request_key, u.idempotency_key, u.body_key, u.expires_at,
           u.no_object, l.campaign_id IS NOT NULL AS found, l.device_type, l.state, l.begin_at, l.end_at,
           l.incomplete, l.duplicates, c.now,
           c.now < l.end_at AND (l.state = ANY($8::text[]) OR l.state = 'started' AND c.now < l.begin_at)
               AS takes_numbers,
           coalesce(l.last_added_at <= c.now AND l.last_added_at > c.now - interval '1 second', false)
               AS too_soon
    FROM unnest($2::bigint[], $3::int[], $4::uuid[], $5::uuid[], $6::uuid[], $7::timestamptz[], $9::bool[])
         WITH ORDINALITY u(campaign_id, n, request_key, idempotency_key, body_key, expires_at, no_object, req)
    CROSS JOIN clock c
    LEFT JOIN locked l ON l.campaign_id = u.campaign_id
), entry AS MATERIALIZED (
    SELECT e.*, nextval('contact_id') AS contact_id
    FROM unnest($15::text::int[], $16::text::int[], $17::text::text[], $18::text::text[], $19::text::text[],
                $20::text::text[], $21::text::timestamptz[], $22::text::text[], $23::text::smallint[])
         e(req, nth, called, session_id, caller, custom_field, recycle_at, call_data, priority)
), tenant AS MATERIALIZED (
    SELECT hiding_key IS NOT NULL AND NOT $28 AS hides FROM vdn WHERE vdn_id = $1
), candidate AS MATERIALIZED (  -- by hash alone: no other index fits, so no plan can read a whole blacklist
    SELECT vdn_id, number, expires_at, restrict_times, restrict_period, window_begin, window_calls
    FROM blacklist
    WHERE hashtextextended(number, vdn_id) = ANY(ARRAY(SELECT hashtextextended(called, $1) FROM entry)
                                                || ARRAY(SELECT hashtextextended(name, $1) FROM unnest($27::text::text[]) name))
), listed AS MATERIALIZED (
    SELECT number FROM candidate, clock
    WHERE vdn_id = $1
      AND (expires_at IS NULL OR expires_at > clock.now)
      AND NOT ($12 AND restrict_times IS NOT NULL
               AND (window_calls < restrict_times OR window_begin IS NULL
                    OR window_begin < CASE restrict_period WHEN 'hour' THEN $13::timestamptz ELSE $14::timestamptz END))
), blacklisted AS MATERIALIZED (
    SELECT req, min(nth) AS nth FROM (
        SELECT req, nth FROM listed JOIN entry ON called = number
        UNION ALL SELECT req, nth FROM listed
        JOIN unnest($25::text::int[], $26::text::int[], $27::text::text[]) hidden(req, nth, name) ON name = number
    ) found GROUP BY req
), admitted AS MATERIALIZED (
    SELECT r.* FROM request r LEFT JOIN blacklisted b USING (req)
    WHERE r.found AND r.takes_numbers AND NOT r.too_soon AND b.req IS NULL
      AND NOT (r.device_type = 1 AND r.no_object)
      AND r.incomplete + r.n <= $24
      AND (r.duplicates = 'allow' OR $10)
      AND (SELECT hides FROM tenant) IS NOT TRUE
), answer AS (
    INSERT INTO stored_answer (vdn_id, request_key, idempotency_key, body_key, total_size, contact_ids, expires_at)
    SELECT $1, request_key, idempotency_key, body_key, incomplete + n,
           CASE WHEN $11 THEN ARRAY(SELECT e.contact_id FROM entry e WHERE e.req = a.req ORDER BY e.nth) END,
           expires_at
    FROM admitted a
    ON CONFLICT DO NOTHING
    RETURNING request_key, contact_ids
), kept AS MATERIALIZED (
    SELECT a.req, a.campaign_id, a.n, a.now, a.duplicates, w.contact_ids
    FROM admitted a JOIN answer w USING (request_key)
), stored AS (
    INSERT INTO contact (vdn_id, contact_id, campaign_id, called, caller, session_id, custom_field, call_data,
                         recycle_at, priority, state, due_at, exclusive)
    SELECT $1, e.contact_id, k.campaign_id, e.called, e.caller, e.session_id, e.custom_field, e.call_data,
           e.recycle_at, e.priority, 'ready', k.now, k.duplicates <> 'allow'
    FROM entry e JOIN kept k USING (req)
), counted AS (
    UPDATE campaign c SET incomplete = c.incomplete + k.n, last_added_at = k.now
    FROM kept k WHERE c.vdn_id = $1 AND c.campaign_id = k.campaign_id
)
SELECT r.req, r.found, r.device_type, r.state, r.begin_at, r.end_at, r.now, r.takes_numbers, r.too_soon,
       r.incomplete, r.duplicates, b.nth AS blacklisted, k.req IS NOT NULL AS kept, k.contact_ids,
       (SELECT hides FROM tenant) AS hides
FROM request r LEFT JOIN blacklisted b USING (req) LEFT JOIN kept k USING (req)
ORDER BY r.req

-- name: stored_answer
-- The answer of an accepted add, by its signature or its Idempotency-Key. A key whose time is over is
-- forgotten here, so that it does not stand in the way of its next use. A signature's answer has no such
-- condition: whoever asks for it came inside the signature's window, which may end while it is judged. The
-- message keeps an answer from being repeated before a synchronous standby has it (commits.sql).
WITH gone AS (
    DELETE FROM stored_answer WHERE vdn_id = $1 AND idempotency_key = $3 AND expires_at <= $4
)
SELECT total_size, contact_ids, body_key, pg_logical_emit_message(true, 'outdial', '')
FROM stored_answer
WHERE vdn_id = $1 AND (request_key = $2 OR idempotency_key = $3 AND expires_at > $4)
ORDER BY (request_key = $2) DESC
LIMIT 1

-- name: pad_answer
-- The contact ids by the places of the entries; NULL: skipped as a duplicate.
UPDATE stored_answer SET contact_ids = $3 WHERE vdn_id = $1 AND request_key = $2

-- name: forget_answers
-- $1 is past the end of the window by more than the longest judgement of a request takes.
DELETE FROM stored_answer
WHERE (vdn_id, request_key) IN (SELECT vdn_id, request_key FROM stored_answer
                                WHERE expires_at <= $1 ORDER BY expires_at LIMIT 5000 FOR UPDATE SKIP LOCKED)

-- name: lock_campaign
SELECT duplicates FROM campaign
WHERE vdn_id = $1 AND campaign_id = $2 AND deleted_at IS NULL FOR NO KEY UPDATE

-- name: still_incomplete
-- Which of these numbers are incomplete in a campaign that takes no second copy; under its row lock.
SELECT called FROM contact
WHERE vdn_id = $1 AND campaign_id = $2 AND called = ANY($3::text[]) AND exclusive AND state <> 'done'
