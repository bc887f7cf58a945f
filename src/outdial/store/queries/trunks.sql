-- name: add_trunk
-- Across VDNs, like everything about trunks: they are the host's.
INSERT INTO trunk (name, host, port, transport, trunk_group, position, weight, outbound_proxy, username,
                   password, registers, caller_id, from_domain, prefix_rules, max_cps, max_channels,
                   max_minutes, timer_b, ping_every, enabled, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
ON CONFLICT DO NOTHING RETURNING name

-- name: trunk
SELECT * FROM trunk WHERE name = $1

-- name: write_trunk
UPDATE trunk SET host = $2, port = $3, transport = $4, trunk_group = $5, position = $6, weight = $7,
                 outbound_proxy = $8, username = $9, password = $10, registers = $11, caller_id = $12,
                 from_domain = $13, prefix_rules = $14, max_cps = $15, max_channels = $16, max_minutes = $17,
                 timer_b = $18, ping_every = $19, enabled = $20
WHERE name = $1

-- name: remove_trunk
DELETE FROM trunk WHERE name = $1 RETURNING name

-- name: all_trunks
SELECT * FROM trunk ORDER BY trunk_group, position, name

-- name: bump_routing
-- First in the transaction of every change: whoever sees the new version sees the change, and one change
-- waits for the other at this row.
INSERT INTO routing_version (only_row, version) VALUES (true, 1)
ON CONFLICT (only_row) DO UPDATE SET version = routing_version.version + 1

-- name: routing_version
SELECT version FROM routing_version

-- name: count_answered
-- $1 day  $2 trunks  $3 answered seconds
INSERT INTO trunk_day (trunk, day, answered_seconds)
SELECT u.trunk, $1, u.seconds FROM unnest($2::text[], $3::double precision[]) AS u(trunk, seconds)
ORDER BY u.trunk
ON CONFLICT (trunk, day) DO UPDATE SET answered_seconds = trunk_day.answered_seconds + EXCLUDED.answered_seconds

-- name: answered_on
SELECT trunk, answered_seconds FROM trunk_day
WHERE day = $1 AND trunk IN (SELECT name FROM trunk WHERE max_minutes IS NOT NULL)

-- name: all_groups
-- Across VDNs: an engine keeps them all.
SELECT vdn_id, trunk_group FROM vdn

-- name: all_prefixes
-- Across VDNs: an engine keeps them all.
SELECT vdn_id, array_agg(prefix ORDER BY prefix) AS prefixes FROM allowed_prefix GROUP BY vdn_id

-- name: prefixes_of
SELECT prefix FROM allowed_prefix WHERE vdn_id = $1 ORDER BY prefix

-- name: allow_prefixes
INSERT INTO allowed_prefix (vdn_id, prefix, created_at)
SELECT $1, prefix, $3 FROM unnest($2::text[]) AS prefix ON CONFLICT DO NOTHING

-- name: deny_prefixes
DELETE FROM allowed_prefix WHERE vdn_id = $1 AND prefix = ANY($2::text[]) RETURNING prefix
