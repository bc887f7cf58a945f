-- name: create_special_date
INSERT INTO special_date (vdn_id, name, kind, weekdays, first, last) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING RETURNING special_date_id

-- name: special_date
SELECT * FROM special_date WHERE vdn_id = $1 AND special_date_id = $2

-- name: put_special_dates
UPDATE campaign SET special_dates = $3::text::jsonb WHERE vdn_id = $1 AND campaign_id = $2

-- name: lock_users
-- Campaigns that use a special date, in id order: the lock order of every transaction.
SELECT campaign_id FROM campaign
WHERE vdn_id = $1 AND special_dates @> jsonb_build_array(jsonb_build_object('special_date_id', $2::bigint))
ORDER BY campaign_id FOR NO KEY UPDATE

-- name: change_special_date
-- Nothing happens where another one has the name; the VDN's row is locked, so none can take it meanwhile.
UPDATE special_date SET name = $3, kind = $4, weekdays = $5, first = $6, last = $7
WHERE vdn_id = $1 AND special_date_id = $2
  AND NOT EXISTS (SELECT 1 FROM special_date o WHERE o.vdn_id = $1 AND o.name = $3 AND o.special_date_id <> $2)
RETURNING special_date_id

-- name: copy_special_date
-- Into every campaign that uses it, at its place.
UPDATE campaign c SET special_dates =
    (SELECT jsonb_agg(CASE WHEN u.one -> 'special_date_id' = to_jsonb($2::bigint) THEN $3::text::jsonb ELSE u.one END
                      ORDER BY u.place)
     FROM jsonb_array_elements(c.special_dates) WITH ORDINALITY u(one, place))
WHERE vdn_id = $1 AND special_dates @> jsonb_build_array(jsonb_build_object('special_date_id', $2::bigint))

-- name: forget_unused_dates
-- Special dates that no campaign uses: the last one let them go, or was deleted.
DELETE FROM special_date s WHERE s.vdn_id = $1 AND NOT EXISTS
    (SELECT 1 FROM campaign c WHERE c.vdn_id = $1 AND c.deleted_at IS NULL
     AND c.special_dates @> jsonb_build_array(jsonb_build_object('special_date_id', s.special_date_id)))
