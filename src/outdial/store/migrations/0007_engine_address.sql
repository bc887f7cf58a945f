-- A CANCEL is known by the address that its INVITE came from: a run that takes over needs it.
ALTER TABLE engine ADD COLUMN sent_by jsonb NOT NULL DEFAULT '{}';
ALTER TABLE attempt ADD COLUMN placed_by bigint;
