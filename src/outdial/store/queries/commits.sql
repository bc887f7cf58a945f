-- name: fate
-- What became of a transaction: committed, aborted, in progress. The message is a record of the log, which
-- the COMMIT of this statement has to bring to a synchronous standby, with all that was written before it. A
-- commit whose wait for the standby was cut short is seen here before the standby has it.
SELECT pg_xact_status($1::text::xid8), pg_logical_emit_message(true, 'outdial', '')
