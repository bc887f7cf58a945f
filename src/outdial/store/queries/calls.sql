-- name: started_campaigns
-- Across VDNs: what may have something to dial now or later.
SELECT c.*, v.time_zone FROM campaign c JOIN vdn v USING (vdn_id)
WHERE c.state = 'started' AND c.deleted_at IS NULL AND c.incomplete > 0 AND c.end_at > $1

-- name: lock_for_claim
-- The campaign, fresh under its lock. $3: now.
SELECT c.*, v.time_zone, v.recycle, v.max_per_minute, v.max_per_hour, v.max_per_day FROM campaign c JOIN vdn v USING (vdn_id)
WHERE c.vdn_id = $1 AND c.campaign_id = $2 AND c.state = 'started' AND c.deleted_at IS NULL
  AND c.begin_at <= $3 AND c.end_at > $3
FOR NO KEY UPDATE OF c

-- name: hold_engine
-- Keeps a fence from falling between this claim's look and its commit. KEY SHARE: the lease is renewed meanwhile.
SELECT epoch FROM engine WHERE epoch = $1 AND fenced_at IS NULL FOR KEY SHARE

-- name: due_contacts
-- LIMIT is a literal per size, so that the generic plan walks the index (design: stack.md, section 4).
SELECT n.contact_id, n.called, n.caller, n.recycle_at, n.session_id, n.call_data,
       b.number IS NOT NULL OR (SELECT hiding_key FROM vdn WHERE vdn_id = $1) IS NOT NULL AS listed
FROM (SELECT contact_id, called, caller, recycle_at, session_id, call_data, priority, due_at FROM contact
      WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'ready' AND due_at <= $3
      ORDER BY priority, due_at, contact_id LIMIT {limit} FOR UPDATE SKIP LOCKED) n
LEFT JOIN blacklist b ON b.vdn_id = $1 AND b.number = n.called AND (b.expires_at IS NULL OR b.expires_at > $3)
ORDER BY n.priority, n.due_at, n.contact_id

-- name: lock_entries
-- Restricted entries are counted under their lock, in number order.
SELECT number, expires_at, restrict_times, restrict_period, window_begin, window_calls FROM blacklist
WHERE vdn_id = $1 AND number = ANY($2::text[]) AND (expires_at IS NULL OR expires_at > $3)
ORDER BY number FOR NO KEY UPDATE

-- name: count_call
UPDATE blacklist SET window_begin = $3, window_calls = $4 WHERE vdn_id = $1 AND number = $2

-- name: postpone_contact
UPDATE contact SET state = 'waiting', due_at = $3, held_by = $4
WHERE vdn_id = $1 AND contact_id = $2 AND state = 'ready'

-- name: lead_promotion
-- One process promotes at a time; the lock ends with the transaction.
SELECT pg_try_advisory_xact_lock($1)

-- name: promote
-- Across VDNs: contacts whose waiting is over are ready. Until then they stand in nobody's way (design:
-- stack.md, section 4). LIMIT is a literal, as in the claim.
WITH due AS MATERIALIZED (
    SELECT vdn_id, contact_id FROM contact WHERE state = 'waiting' AND due_at <= $1
    ORDER BY due_at LIMIT 5000 FOR UPDATE SKIP LOCKED
)
UPDATE contact n SET state = 'ready', held_by = NULL
FROM due WHERE n.vdn_id = due.vdn_id AND n.contact_id = due.contact_id

-- name: next_due
-- Across VDNs.
SELECT due_at FROM contact WHERE state = 'waiting' ORDER BY due_at LIMIT 1

-- name: in_flight
-- Under the campaign's row lock none is added meanwhile; some may end. Transfers are no calls of the campaign's
-- own.
SELECT count(*) FROM attempt
WHERE vdn_id = $1 AND campaign_id = $2 AND ended_at IS NULL AND transfer_of IS NULL

-- name: launch
UPDATE campaign SET last_launch_at = $3, launch_rest = $4, next_send_at = $5, caller_turn = $6
WHERE vdn_id = $1 AND campaign_id = $2

-- name: intend
-- The intents of a claim: attempt rows, contacts dialing.
-- $1 vdn  $2 campaign  $3 epoch  $4 now  $5 attempt ids  $6 contact ids  $7 callers
WITH wanted AS MATERIALIZED (
    SELECT * FROM unnest($5::uuid[], $6::bigint[], $7::text[]) w(attempt_id, contact_id, caller)
), dialing AS (
    UPDATE contact n SET state = 'dialing', attempts = n.attempts + 1
    FROM wanted w WHERE n.vdn_id = $1 AND n.contact_id = w.contact_id AND n.state = 'ready'
    RETURNING n.contact_id, n.called, n.attempts, w.attempt_id, w.caller
)
INSERT INTO attempt (vdn_id, attempt_id, campaign_id, contact_id, attempt_no, called, caller, epoch, intent_at)
SELECT $1, attempt_id, $2, contact_id, attempts, called, caller, $3, $4 FROM dialing
RETURNING attempt_id, contact_id, attempt_no, called, caller

-- name: permitted
SELECT c.*, v.time_zone
FROM attempt a
JOIN engine e USING (epoch)
JOIN campaign c USING (vdn_id, campaign_id)
JOIN vdn v USING (vdn_id)
WHERE a.vdn_id = $1 AND a.attempt_id = $2 AND a.ended_at IS NULL AND e.fenced_at IS NULL
  AND c.state = 'started' AND c.deleted_at IS NULL

-- name: active
-- Across VDNs: whose flows and prompts are needed, and how many engines share the trunks.
SELECT ARRAY(SELECT DISTINCT vdn_id FROM campaign WHERE state = 'started') AS vdn_ids,
       (SELECT count(*)::int FROM engine
        WHERE recovered_at IS NULL AND fenced_at IS NULL AND lease_until > clock_timestamp()) AS engines

-- name: withdraw
-- Takes back attempts that provably never left: the number is ready again, the attempt never was. A transfer
-- is never taken back: its number is being talked to.
-- $1 vdn  $2 attempt ids  $3 due
WITH gone AS (
    DELETE FROM attempt WHERE vdn_id = $1 AND attempt_id = ANY($2::uuid[]) AND ended_at IS NULL
                          AND transfer_of IS NULL
    RETURNING contact_id, called, intent_at
)
UPDATE contact n SET state = 'ready', attempts = n.attempts - 1, due_at = $3
FROM gone JOIN vdn v ON v.vdn_id = $1
WHERE n.vdn_id = $1 AND n.contact_id = gone.contact_id AND n.state = 'dialing'
RETURNING gone.called, gone.intent_at, coalesce(v.max_per_minute, v.max_per_hour, v.max_per_day) IS NOT NULL AS counted

-- name: enter_numbers
-- When these numbers ($2, in the order of their bytes) were called, fresh under their locks. $3: now
INSERT INTO called_count (vdn_id, number, calls, touched_at)
SELECT $1, number, '{}', $3 FROM unnest($2::text[]) n(number)
ON CONFLICT (vdn_id, number) DO UPDATE SET touched_at = excluded.touched_at
RETURNING number, calls

-- name: count_numbers
-- $1 vdn  $2 numbers  $3 calls of each  $4 now  $5: what was before counts no more; the rows are locked.
UPDATE called_count k SET calls = ARRAY(SELECT c FROM unnest(k.calls) c WHERE c >= $5)
                                  || array_fill($4::timestamptz, ARRAY[s.calls])
FROM unnest($2::text[], $3::integer[]) s(number, calls) WHERE k.vdn_id = $1 AND k.number = s.number

-- name: lock_counts
SELECT number, calls FROM called_count WHERE vdn_id = $1 AND number = ANY($2::text[])
ORDER BY number COLLATE "C" FOR NO KEY UPDATE

-- name: set_calls
UPDATE called_count SET calls = $3 WHERE vdn_id = $1 AND number = $2

-- name: forget_counts
-- Across VDNs.
DELETE FROM called_count WHERE (vdn_id, number) IN
    (SELECT vdn_id, number FROM called_count WHERE touched_at < $1 LIMIT 5000) AND touched_at < $1

-- name: remember
-- Answers of open attempts. One that is locked is just being settled, with its answer.
-- $1 vdn  $2 attempt ids  $3 dialogs  $4 answered  $5 ringing  $6 sent
WITH s AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
        s(attempt_id, dialog, answered_at, ringing_at, sent_at)
), open AS MATERIALIZED (
    SELECT attempt_id FROM attempt WHERE vdn_id = $1 AND attempt_id = ANY($2::uuid[]) AND ended_at IS NULL
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE attempt a SET dialog = s.dialog, answered_at = s.answered_at, ringing_at = s.ringing_at, sent_at = s.sent_at
FROM s JOIN open USING (attempt_id) WHERE a.vdn_id = $1 AND a.attempt_id = s.attempt_id

-- name: lock_campaigns_of
-- Campaign rows first and in id order: the lock order of every transaction. `tries_again` where a number may
-- be tried again. The attempts are read once, not for each campaign of the VDN.
WITH held AS MATERIALIZED (
    SELECT DISTINCT campaign_id FROM attempt WHERE vdn_id = $1 AND attempt_id = ANY($2::uuid[])
)
SELECT c.*, v.time_zone,
       c.retry IS NOT NULL AND c.state <> 'ended' AND c.deleted_at IS NULL AND c.end_at > $3 AS tries_again
FROM campaign c JOIN vdn v USING (vdn_id)
WHERE c.vdn_id = $1 AND c.campaign_id = ANY(ARRAY(SELECT campaign_id FROM held))
ORDER BY c.campaign_id FOR NO KEY UPDATE OF c

-- name: histories
-- Every attempt of the numbers of these open attempts ($2), where their campaign ($3) tries again. What a call
-- was handed over to is no try of the number.
SELECT a.attempt_id, a.campaign_id, h.disposition, h.intent_at
FROM attempt a JOIN attempt h ON h.vdn_id = $1 AND h.contact_id = a.contact_id AND h.transfer_of IS NULL
WHERE a.vdn_id = $1 AND a.attempt_id = ANY($2::uuid[]) AND a.ended_at IS NULL AND a.transfer_of IS NULL
  AND a.campaign_id = ANY($3::bigint[])
ORDER BY a.attempt_id, h.attempt_no

-- name: settle
-- The end of a batch of attempts: attempt, contact, counter, result, outbox. One already ended is left alone.
-- A transfer ends alone: the number's result is that of its own call.
-- $1 vdn  $2 attempt ids  $3 dispositions  $4 ended  $5 ringing  $6 answered  $7 causes  $8 SIP statuses
-- $9 hung up by  $10 now  $11 when the number is tried again; NULL: not  $12 sent  $13 trunks  $14 keys
-- $15 steps, joined by U+001F  $16 detector's verdicts  $17 RTP packets sent  $18 and received
WITH s AS MATERIALIZED (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[],
                         $7::smallint[], $8::smallint[], $9::text[], $11::timestamptz[], $12::timestamptz[],
                         $13::text[], $14::text[], $15::text[], $16::text[], $17::integer[], $18::integer[])
        s(attempt_id, disposition, ended_at, ringing_at, answered_at, cause, sip_status, hung_up_by, retry_at,
          sent_at, trunk, keys, steps, detector, rtp_sent, rtp_received)
), ended AS (
    UPDATE attempt a SET ended_at = s.ended_at, disposition = s.disposition,
           ringing_at = coalesce(s.ringing_at, a.ringing_at), answered_at = coalesce(s.answered_at, a.answered_at),
           cause = s.cause, sip_status = s.sip_status, hung_up_by = s.hung_up_by,
           sent_at = coalesce(s.sent_at, a.sent_at), trunk = s.trunk, keys = s.keys,
           steps = string_to_array(s.steps, E'\x1f'), detector = s.detector, rtp_sent = s.rtp_sent,
           rtp_received = s.rtp_received, dialog = NULL
    FROM s WHERE a.vdn_id = $1 AND a.attempt_id = s.attempt_id AND a.ended_at IS NULL
    RETURNING a.attempt_id, a.campaign_id, a.contact_id, a.disposition, a.intent_at, s.retry_at, a.transfer_of
), judged AS (
    SELECT e.*, c.callback_url, gen_random_uuid() AS result_id,
           CASE WHEN c.state = 'ended' OR c.deleted_at IS NOT NULL THEN NULL
                WHEN e.disposition = 'UNKNOWN' AND c.on_unknown = 'redial' THEN $10
                ELSE e.retry_at END AS again_at
    FROM ended e JOIN campaign c ON c.vdn_id = $1 AND c.campaign_id = e.campaign_id
    WHERE e.transfer_of IS NULL
), number AS (
    UPDATE contact n SET disposition = j.disposition, due_at = coalesce(j.again_at, $10),
           state = CASE WHEN j.again_at > $10 THEN 'waiting' WHEN j.again_at <= $10 THEN 'ready' ELSE 'done' END
    FROM judged j WHERE n.vdn_id = $1 AND n.contact_id = j.contact_id AND n.state = 'dialing'
    RETURNING n.contact_id, n.called, n.session_id, n.custom_field, n.state,
              j.attempt_id, j.campaign_id, j.disposition, j.intent_at, j.callback_url, j.result_id
), result AS (
    INSERT INTO call_result (vdn_id, result_id, campaign_id, contact_id, attempt_id, called, session_id,
                             custom_field, disposition, call_at, created_at, final)
    SELECT $1, result_id, campaign_id, contact_id, attempt_id, called, session_id, custom_field,
           disposition, intent_at, $10, state = 'done'
    FROM number
), posted AS (
    INSERT INTO outbox (vdn_id, result_id, campaign_id, url, due_at, created_at)
    SELECT $1, result_id, campaign_id, callback_url, $10, $10 FROM number WHERE callback_url IS NOT NULL
)
UPDATE campaign c SET incomplete = c.incomplete - d.n
FROM (SELECT campaign_id, count(*) AS n FROM number WHERE state = 'done' GROUP BY campaign_id) d
WHERE c.vdn_id = $1 AND c.campaign_id = d.campaign_id

-- name: begin_epoch
INSERT INTO engine (host, pid, started_at, lease_until)
VALUES ($1, $2, clock_timestamp(), clock_timestamp() + $3::interval) RETURNING epoch

-- name: renew_lease
UPDATE engine SET lease_until = clock_timestamp() + $2::interval
WHERE epoch = $1 AND fenced_at IS NULL RETURNING epoch

-- name: fence
-- Across VDNs: engine runs whose lease has run out, and the dead ones ($2), may claim nothing more. FOR UPDATE
-- waits for a claim that is committing.
WITH dead AS MATERIALIZED (
    SELECT epoch FROM engine
    WHERE recovered_at IS NULL AND fenced_at IS NULL AND epoch <> $1
      AND (lease_until < clock_timestamp() OR epoch = ANY($2::bigint[]))
    ORDER BY epoch FOR UPDATE
)
UPDATE engine e SET fenced_at = clock_timestamp() FROM dead WHERE e.epoch = dead.epoch

-- name: end_stopped_sessions
-- Across VDNs: sessions of ours that stopped in the middle of a request ($1 ago) with a transaction open, as
-- those of a frozen process do. Between Parse and Sync no timeout of the server's is running, and the locks
-- would hold up every other run.
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name LIKE 'outdial %'
  AND state = 'active' AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - $1::interval

-- name: runs_of_host
SELECT epoch, pid FROM engine WHERE host = $1 AND recovered_at IS NULL AND fenced_at IS NULL

-- name: say_standing
UPDATE engine SET standing = $2 WHERE epoch = $1

-- name: by_index
-- In this transaction what has an index in the order that is wanted is read by it: a plan that gathers all first
-- looks cheaper wherever the planner expects no more rows than the limit.
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)

-- name: standings
-- Of one host, or of all.
SELECT standing FROM engine
WHERE ($1::text IS NULL OR host = $1) AND standing IS NOT NULL AND fenced_at IS NULL AND recovered_at IS NULL
  AND lease_until > clock_timestamp()

-- name: facts
-- What may hold a campaign back, in one look that reads no more of a large campaign: 10,000 numbers of a kind
-- are counted, and the first of each is found by its index. Of the three kinds of waiting, NULL is a retry.
-- A kind is asked for as a range, or the order by due_at alone would be had from the index across VDNs. An engine
-- that has said nothing yet has no switch.
SELECT c.*, v.time_zone, v.trunk_group, w.*,
    EXISTS (SELECT 1 FROM contact m
            WHERE m.vdn_id = $1 AND m.campaign_id = $2 AND m.state = 'ready') AS due,
    (SELECT count(*) FROM (SELECT 1 FROM contact m
     WHERE m.vdn_id = $1 AND m.campaign_id = $2 AND m.state = 'done' AND m.disposition = 'NOT_ALLOWED'
     LIMIT 10000) m) AS refused,
    (SELECT count(*) FROM attempt a WHERE a.vdn_id = $1 AND a.campaign_id = $2 AND a.ended_at IS NULL
                                      AND a.transfer_of IS NULL) AS in_flight,
    ARRAY(SELECT coalesce(e.standing, '{"switch":false}') FROM engine e
          WHERE e.fenced_at IS NULL AND e.recovered_at IS NULL AND e.lease_until > clock_timestamp()) AS standings
FROM campaign c JOIN vdn v USING (vdn_id), LATERAL (
    SELECT count(*) FILTER (WHERE held_by = 'blacklist') AS restricted,
           min(due_at) FILTER (WHERE held_by = 'blacklist') AS restricted_at,
           count(*) FILTER (WHERE held_by = 'cap') AS capped,
           min(due_at) FILTER (WHERE held_by = 'cap') AS capped_at,
           count(*) FILTER (WHERE held_by IS NULL) AS retries,
           min(due_at) FILTER (WHERE held_by IS NULL) AS retry_at
    FROM ((SELECT held_by, due_at FROM contact
           WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'waiting'
             AND held_by >= 'blacklist' AND held_by <= 'blacklist'
           ORDER BY held_by, due_at LIMIT 10000)
          UNION ALL
          (SELECT held_by, due_at FROM contact
           WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'waiting'
             AND held_by >= 'cap' AND held_by <= 'cap'
           ORDER BY held_by, due_at LIMIT 10000)
          UNION ALL
          (SELECT held_by, due_at FROM contact
           WHERE vdn_id = $1 AND campaign_id = $2 AND state = 'waiting' AND held_by IS NULL
           ORDER BY held_by, due_at LIMIT 10000)) m
) w
WHERE c.vdn_id = $1 AND c.campaign_id = $2 AND c.deleted_at IS NULL

-- name: resign
UPDATE engine SET fenced_at = coalesce(fenced_at, clock_timestamp()), lease_until = clock_timestamp()
WHERE epoch = $1

-- name: fenced_engines
-- Across VDNs: fenced for at least the time in which an order of theirs could still leave.
SELECT epoch FROM engine
WHERE recovered_at IS NULL AND fenced_at <= clock_timestamp() - $1::interval AND epoch <> $2

-- name: announce
-- What stands in the Via of this run's requests, by the address that they go to ($2).
UPDATE engine SET sent_by = sent_by || $2::jsonb WHERE epoch = $1

-- name: open_attempts
-- Across VDNs: attempts in flight of these engine runs, with the addresses of those that placed them.
SELECT a.vdn_id, a.attempt_id, a.campaign_id, a.contact_id, a.attempt_no, a.called, a.caller, a.epoch,
       a.intent_at, a.sent_at, a.ringing_at, a.answered_at, a.dialog, a.transfer_of,
       coalesce(c.max_alerting_time, 60) AS max_alerting_time, e.sent_by
FROM attempt a LEFT JOIN campaign c USING (vdn_id, campaign_id)
LEFT JOIN engine e ON e.epoch = coalesce(a.placed_by, a.epoch)
WHERE a.ended_at IS NULL AND a.epoch = ANY($1::bigint[]) ORDER BY a.vdn_id, a.attempt_id LIMIT 5000

-- name: adopt
-- Attempts of fenced runs ($4) become this run's ($3), each of one run alone, while it is not fenced itself.
WITH mine AS MATERIALIZED (
    SELECT epoch FROM engine WHERE epoch = $3 AND fenced_at IS NULL FOR KEY SHARE
)
UPDATE attempt a SET epoch = mine.epoch, placed_by = coalesce(a.placed_by, a.epoch) FROM mine
WHERE a.vdn_id = $1 AND a.attempt_id = ANY($2::uuid[]) AND a.epoch = ANY($4::bigint[]) AND a.ended_at IS NULL
RETURNING a.attempt_id

-- name: recovered
UPDATE engine SET recovered_at = clock_timestamp() WHERE epoch = ANY($1::bigint[])
  AND NOT EXISTS (SELECT 1 FROM attempt a WHERE a.epoch = engine.epoch AND a.ended_at IS NULL)

-- name: wake_pushers
-- A signal without data: who pushes looks for itself.
SELECT pg_notify('outdial_outbox', '')
