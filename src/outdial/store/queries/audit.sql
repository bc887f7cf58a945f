-- name: lock_audit
-- Across VDNs, like all of the log. Held from here to the end of the transaction, so this comes last in it.
SELECT pg_advisory_xact_lock($1)

-- name: audit_head
-- A statement after the lock: its snapshot has the row of whoever held it before.
SELECT seq, hash, clock_timestamp() AS now FROM (SELECT 1) one
LEFT JOIN LATERAL (SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1) last ON true

-- name: append_audit
INSERT INTO audit (seq, at, who, vdn_id, action, object, details, previous_hash, hash)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::integer[], $5::text[], $6::text[],
                     $7::text[], $8::text[], $9::text[])

-- name: audit_rows
SELECT * FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2

-- name: newest_audit_rows
SELECT * FROM audit WHERE $1::integer IS NULL OR vdn_id = $1 ORDER BY seq DESC LIMIT $2
