-- name: create_vdn
INSERT INTO vdn (vdn_id, time_zone, edition, max_active, recycle, created_at, trunk_group, max_per_minute,
                 max_per_hour, max_per_day, keep_numbers, keep_results, keep_records)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING RETURNING vdn_id

-- name: change_vdn
UPDATE vdn SET time_zone = coalesce($2, time_zone), edition = coalesce($3, edition),
               max_active = coalesce($4, max_active), recycle = coalesce($5, recycle),
               trunk_group = coalesce($6, trunk_group),
               max_per_minute = nullif(coalesce($7, max_per_minute), 0),
               max_per_hour = nullif(coalesce($8, max_per_hour), 0),
               max_per_day = nullif(coalesce($9, max_per_day), 0),
               keep_numbers = nullif(coalesce($10, keep_numbers), 0),
               keep_results = nullif(coalesce($11, keep_results), 0),
               keep_records = nullif(coalesce($12, keep_records), 0)
WHERE vdn_id = $1 RETURNING vdn_id

-- name: set_webhook_secret
UPDATE vdn SET webhook_secret = $2 WHERE vdn_id = $1 RETURNING vdn_id

-- name: vdn
SELECT vdn_id, time_zone, edition, max_active, recycle, webhook_secret, trunk_group, max_per_minute, max_per_hour,
       max_per_day, keep_numbers, keep_results, keep_records
FROM vdn WHERE vdn_id = $1

-- name: all_vdns
SELECT vdn_id, time_zone, edition, max_active, recycle, webhook_secret, trunk_group, max_per_minute, max_per_hour,
       max_per_day, keep_numbers, keep_results, keep_records
FROM vdn ORDER BY vdn_id

-- name: create_key
INSERT INTO access_key (vdn_id, ak, sealed, created_at) VALUES ($1, $2, $3, $4)

-- name: key
-- Across VDNs: a request is known by its key before its VDN is judged.
SELECT k.vdn_id, k.ak, k.sealed, k.created_at, k.revoked_at FROM access_key k WHERE k.ak = $1

-- name: keys_of
SELECT vdn_id, ak, created_at, revoked_at FROM access_key WHERE vdn_id = $1 ORDER BY created_at, ak

-- name: revoke_key
UPDATE access_key SET revoked_at = coalesce(revoked_at, $2) WHERE ak = $1 RETURNING vdn_id, revoked_at

-- name: any_sealed
-- Across VDNs: is there anything that needs the master key?
SELECT sealed, 'key ' || vdn_id || ' ' || ak AS context FROM access_key
UNION ALL SELECT webhook_secret, 'webhook ' || vdn_id FROM vdn WHERE webhook_secret IS NOT NULL
UNION ALL SELECT hiding_key, 'hiding ' || vdn_id FROM vdn WHERE hiding_key IS NOT NULL
UNION ALL SELECT password, 'trunk ' || name FROM trunk WHERE password IS NOT NULL
LIMIT 1

-- name: ready
SELECT 1
