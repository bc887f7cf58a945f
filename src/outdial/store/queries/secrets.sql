-- name: lock_sealed
-- Across VDNs: nothing is sealed anew while all of it is. Reads go on.
LOCK TABLE access_key, vdn, trunk IN SHARE ROW EXCLUSIVE MODE

-- name: all_sealed
-- Across VDNs: everything that needs the master key, with the context that opens it.
SELECT 'key' AS kind, ak AS name, sealed, 'key ' || vdn_id || ' ' || ak AS context FROM access_key
UNION ALL SELECT 'webhook', vdn_id::text, webhook_secret, 'webhook ' || vdn_id FROM vdn
    WHERE webhook_secret IS NOT NULL
UNION ALL SELECT 'hiding', vdn_id::text, hiding_key, 'hiding ' || vdn_id FROM vdn WHERE hiding_key IS NOT NULL
UNION ALL SELECT 'trunk', name, password, 'trunk ' || name FROM trunk WHERE password IS NOT NULL

-- name: reseal_keys
UPDATE access_key SET sealed = fresh.sealed
FROM unnest($1::text[], $2::bytea[]) AS fresh (name, sealed) WHERE ak = fresh.name

-- name: reseal_webhooks
UPDATE vdn SET webhook_secret = fresh.sealed
FROM unnest($1::text[], $2::bytea[]) AS fresh (name, sealed) WHERE vdn_id = fresh.name::integer

-- name: reseal_hiding
UPDATE vdn SET hiding_key = fresh.sealed
FROM unnest($1::text[], $2::bytea[]) AS fresh (name, sealed) WHERE vdn_id = fresh.name::integer

-- name: reseal_trunks
UPDATE trunk SET password = fresh.sealed
FROM unnest($1::text[], $2::bytea[]) AS fresh (name, sealed) WHERE trunk.name = fresh.name
