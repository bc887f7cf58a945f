-- The log of changes: rows are only ever appended, each with the hash of the one before it.
CREATE TABLE audit (
    seq            bigint      PRIMARY KEY,
    at             timestamptz NOT NULL,
    who            text        NOT NULL,
    vdn_id         integer,            -- NULL: the host's
    action         text        NOT NULL,
    object         text        NOT NULL,
    details        text        NOT NULL,   -- JSON, numbers masked
    previous_hash  text        NOT NULL,
    hash           text        NOT NULL
);

CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is only ever appended to: % is refused', TG_OP;
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
