-- name: kept_campaign
-- Whether results of this campaign may be asked for: it is there, or it was deleted and kept as history.
SELECT campaign_id FROM campaign
WHERE vdn_id = $1 AND campaign_id = $2 AND (deleted_at IS NULL OR archived)

-- name: results_page
-- A page of a campaign's results by the time of the call, and how many there are: one row without a result
-- where the page is empty. Both are read from an index; then the page's rows are looked up.
-- $1 vdn  $2 campaign  $3 call made from  $4 and before; NULL: whenever  $5 of every attempt, not only final
-- $6 rows  $7 offset
SELECT t.total, r.*
FROM (SELECT count(*) AS total FROM call_result
      WHERE vdn_id = $1 AND campaign_id = $2
      AND call_at >= coalesce($3::timestamptz, '-infinity') AND call_at < coalesce($4::timestamptz, 'infinity')
      AND (final OR $5)) t
LEFT JOIN LATERAL (
    SELECT c.* FROM (
        SELECT result_id AS id FROM call_result
        WHERE vdn_id = $1 AND campaign_id = $2
          AND call_at >= coalesce($3::timestamptz, '-infinity') AND call_at < coalesce($4::timestamptz, 'infinity')
          AND (final OR $5)
        ORDER BY call_at, result_id LIMIT $6 OFFSET $7) p
    CROSS JOIN LATERAL (SELECT * FROM call_result c WHERE c.vdn_id = $1 AND c.result_id = p.id LIMIT 1) c
) r ON true
ORDER BY r.call_at, r.result_id

-- name: results_of_session
-- The same for one session id ($8) and, unless NULL, custom field ($9).
SELECT t.total, r.*
FROM (SELECT count(*) AS total FROM call_result
      WHERE vdn_id = $1 AND campaign_id = $2
      AND call_at >= coalesce($3::timestamptz, '-infinity') AND call_at < coalesce($4::timestamptz, 'infinity')
      AND (final OR $5)
      AND session_id = $8 AND ($9::text IS NULL OR custom_field = $9)) t
LEFT JOIN LATERAL (
    SELECT c.* FROM (
        SELECT result_id AS id FROM call_result
        WHERE vdn_id = $1 AND campaign_id = $2
          AND call_at >= coalesce($3::timestamptz, '-infinity') AND call_at < coalesce($4::timestamptz, 'infinity')
          AND (final OR $5)
          AND session_id = $8 AND ($9::text IS NULL OR custom_field = $9)
        ORDER BY call_at, result_id LIMIT $6 OFFSET $7) p
    CROSS JOIN LATERAL (SELECT * FROM call_result c WHERE c.vdn_id = $1 AND c.result_id = p.id LIMIT 1) c
) r ON true
ORDER BY r.call_at, r.result_id

-- name: results_of_field
-- The same for one custom field ($8).
SELECT t.total, r.*
FROM (SELECT count(*) AS total FROM call_result
      WHERE vdn_id = $1 AND campaign_id = $2
      AND call_at >= coalesce($3::timestamptz, '-infinity') AND call_at < coalesce($4::timestamptz, 'infinity')
      AND (final OR $5)
      AND custom_field = $8) t
LEFT JOIN LATERAL (
    SELECT c.* FROM (
        SELECT result_id AS id FROM call_result
        WHERE vdn_id = $1 AND campaign_id = $2
          AND call_at >= coalesce($3::timestamptz, '-infinity') AND call_at < coalesce($4::timestamptz, 'infinity')
          AND (final OR $5)
          AND custom_field = $8
        ORDER BY call_at, result_id LIMIT $6 OFFSET $7) p
    CROSS JOIN LATERAL (SELECT * FROM call_result c WHERE c.vdn_id = $1 AND c.result_id = p.id LIMIT 1) c
) r ON true
ORDER BY r.call_at, r.result_id

-- name: ended_call
-- One call of a number that has ended, in a campaign whose results may be asked for.
SELECT a.called, a.ringing_at, a.answered_at, a.ended_at, a.disposition
FROM attempt a JOIN campaign c USING (vdn_id, campaign_id)
WHERE a.vdn_id = $1 AND a.attempt_id = $2 AND a.ended_at IS NOT NULL AND a.transfer_of IS NULL
  AND (c.deleted_at IS NULL OR c.archived)
