-- name: add_entries
INSERT INTO blacklist (vdn_id, number, expires_at, restrict_times, restrict_period, created_at)
SELECT $1, number, $3, $4, $5, $6 FROM unnest($2::text[]) number
ON CONFLICT (vdn_id, number) DO NOTHING RETURNING number

-- name: forget_expired
-- An entry that has expired does not stand in the way of a new one.
DELETE FROM blacklist WHERE vdn_id = $1 AND number = ANY($2::text[]) AND expires_at <= $3

-- name: overwrite_entries
INSERT INTO blacklist (vdn_id, number, expires_at, restrict_times, restrict_period, created_at)
SELECT $1, number, $3, $4, $5, $6 FROM unnest($2::text[]) number
ON CONFLICT (vdn_id, number) DO UPDATE SET expires_at = excluded.expires_at,
    restrict_times = excluded.restrict_times, restrict_period = excluded.restrict_period

-- name: delete_entry
DELETE FROM blacklist WHERE vdn_id = $1 AND number = $2 RETURNING number

-- name: delete_all_entries
DELETE FROM blacklist WHERE vdn_id = $1

-- name: entries_of
SELECT vdn_id, number, expires_at, restrict_times, restrict_period FROM blacklist
WHERE vdn_id = $1 AND number = ANY($2::text[])

-- name: page_of_entries
SELECT vdn_id, number, expires_at, restrict_times, restrict_period FROM blacklist
WHERE vdn_id = $1 AND number !~ '^~' ORDER BY number LIMIT $2 OFFSET $3

-- name: count_entries
SELECT count(*) FROM blacklist WHERE vdn_id = $1 AND number !~ '^~'

-- name: hiding_key
SELECT hiding_key FROM vdn WHERE vdn_id = $1

-- name: present_names
SELECT number FROM blacklist WHERE vdn_id = $1 AND number = ANY($2::text[])
