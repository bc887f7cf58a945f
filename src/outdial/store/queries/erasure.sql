-- $3 is always the number, $4 an expression for it as a word of a text. A page at a time, as in retention.sql.

-- name: set_hiding_key
UPDATE vdn SET hiding_key = $2 WHERE vdn_id = $1

-- name: hide_entry
UPDATE blacklist SET number = $3 WHERE vdn_id = $1 AND number = $2 RETURNING number

-- name: forget_entry
-- The entry under its number, where it stands under its hash already.
DELETE FROM blacklist WHERE vdn_id = $1 AND number = $2

-- name: calls_under_way
SELECT count(*) FROM attempt WHERE vdn_id = $1 AND ended_at IS NULL AND called = $2

-- name: settings_that_name
-- What the VDN itself wrote down: whoever runs it has to change that.
SELECT 'campaign ' || campaign_id AS what FROM campaign
WHERE vdn_id = $1 AND deleted_at IS NULL
  AND concat_ws(' ', name, description, caller_no, caller_numbers::text) ~ $2
UNION ALL SELECT 'flow ' || name FROM flow WHERE vdn_id = $1 AND document ~ $2
UNION ALL SELECT 'special date ' || special_date_id FROM special_date WHERE vdn_id = $1 AND name ~ $2
LIMIT 10

-- name: erase_from_deleted
UPDATE campaign SET name = regexp_replace(name, $2, '0', 'g'),
       description = regexp_replace(description, $2, '0', 'g'),
       caller_no = regexp_replace(caller_no, $2, '0', 'g'),
       caller_numbers = regexp_replace(caller_numbers::text, $2, '0', 'g')::jsonb
WHERE vdn_id = $1 AND deleted_at IS NOT NULL
  AND concat_ws(' ', name, description, caller_no, caller_numbers::text) ~ $2

-- name: forget_count
DELETE FROM called_count WHERE vdn_id = $1 AND number = $2

-- name: numbers_to_erase
WITH page AS MATERIALIZED (
    SELECT contact_id, called, caller, session_id, custom_field, call_data FROM contact
    WHERE vdn_id = $1 AND contact_id > $2 ORDER BY contact_id LIMIT 1000
)
SELECT (SELECT max(contact_id) FROM page) AS last,
       ARRAY(SELECT contact_id FROM page
             WHERE called = $3 OR caller = $3 OR concat_ws(' ', session_id, custom_field, call_data) ~ $4) AS found

-- name: dialing_of
SELECT count(*) FROM contact WHERE vdn_id = $1 AND contact_id = ANY($2::bigint[]) AND called = $3 AND state = 'dialing'

-- name: erase_numbers
-- Under the campaigns' locks. Those that were not done yet are done: nobody is called, nothing is pushed.
-- $1 vdn  $2 contact ids  $5 now
WITH held AS MATERIALIZED (
    SELECT contact_id, campaign_id, state FROM contact
    WHERE vdn_id = $1 AND contact_id = ANY($2::bigint[]) AND called = $3 AND state <> 'dialing' FOR UPDATE
), gone AS (
    UPDATE contact n SET called = '', caller = NULL, session_id = NULL, custom_field = NULL, call_data = NULL,
           disposition = coalesce(n.disposition, 'NOT_ATTEMPTED'), state = 'done',
           due_at = CASE WHEN n.state = 'done' THEN n.due_at ELSE $5 END
    FROM held h WHERE n.vdn_id = $1 AND n.contact_id = h.contact_id
), elsewhere AS (
    UPDATE contact SET caller = nullif(caller, $3), session_id = regexp_replace(session_id, $4, '0', 'g'),
           custom_field = regexp_replace(custom_field, $4, '0', 'g'),
           call_data = regexp_replace(call_data, $4, '0', 'g')
    WHERE vdn_id = $1 AND contact_id = ANY($2::bigint[]) AND called <> $3
), counted AS (
    UPDATE campaign c SET incomplete = c.incomplete - h.n
    FROM (SELECT campaign_id, count(*) AS n FROM held WHERE state <> 'done' GROUP BY campaign_id) h
    WHERE c.vdn_id = $1 AND c.campaign_id = h.campaign_id
)
SELECT count(*) AS gone FROM held

-- name: erase_results
-- What waits for its receiver is not pushed any more. $1 vdn  $2 after
WITH page AS MATERIALIZED (
    SELECT result_id, called, session_id, custom_field FROM call_result
    WHERE vdn_id = $1 AND result_id > $2 ORDER BY result_id LIMIT 1000
), own AS MATERIALIZED (
    SELECT result_id FROM page WHERE called = $3
), unposted AS (
    DELETE FROM outbox WHERE vdn_id = $1 AND result_id = ANY(ARRAY(SELECT result_id FROM own))
), gone AS (
    UPDATE call_result SET called = '', session_id = NULL, custom_field = NULL
    WHERE vdn_id = $1 AND result_id = ANY(ARRAY(SELECT result_id FROM own))
), elsewhere AS (
    UPDATE call_result SET session_id = regexp_replace(session_id, $4, '0', 'g'),
           custom_field = regexp_replace(custom_field, $4, '0', 'g')
    WHERE vdn_id = $1 AND result_id = ANY(ARRAY(
        SELECT result_id FROM page WHERE called <> $3 AND concat_ws(' ', session_id, custom_field) ~ $4))
)
SELECT (SELECT result_id FROM page ORDER BY result_id DESC LIMIT 1) AS last, (SELECT count(*) FROM own) AS gone

-- name: erase_records
-- $1 vdn  $2 and $5 after: when it was made, its id
WITH page AS MATERIALIZED (
    SELECT attempt_id, intent_at, called, caller, keys, steps FROM attempt
    WHERE vdn_id = $1 AND (intent_at, attempt_id) > ($2, $5) ORDER BY intent_at, attempt_id LIMIT 1000
), found AS MATERIALIZED (
    SELECT attempt_id, called = $3 AS own FROM page
    WHERE called = $3 OR caller = $3 OR concat_ws(' ', keys, array_to_string(steps, ' ')) ~ $4
), gone AS (
    UPDATE attempt SET called = CASE WHEN called = $3 THEN '' ELSE called END,
           caller = CASE WHEN caller = $3 THEN '' ELSE caller END,
           keys = CASE WHEN called <> $3 AND keys !~ $4 THEN keys END,
           steps = CASE WHEN array_to_string(steps, ' ') !~ $4 THEN steps END
    WHERE vdn_id = $1 AND attempt_id = ANY(ARRAY(SELECT attempt_id FROM found))
)
SELECT p.intent_at, p.attempt_id AS last, (SELECT count(*) FROM found WHERE own) AS gone
FROM (SELECT 1) one LEFT JOIN LATERAL
    (SELECT intent_at, attempt_id FROM page ORDER BY intent_at DESC, attempt_id DESC LIMIT 1) p ON true
