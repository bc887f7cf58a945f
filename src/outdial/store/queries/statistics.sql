-- name: outgrown
-- Across VDNs: those of these tables ($1) that have doubled since their statistics were taken, between $2 and $3
-- pages.
SELECT relname::text AS name FROM pg_class
WHERE oid = ANY($1::text[]::regclass[])
  AND pg_relation_size(oid) / current_setting('block_size')::integer BETWEEN greatest($2, 2 * relpages) AND $3

-- name: analyze
-- One that is being analyzed or vacuumed just now is left alone.
ANALYZE (SKIP_LOCKED) {table}
