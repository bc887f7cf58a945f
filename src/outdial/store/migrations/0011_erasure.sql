-- The key under whose hashes erased numbers stay on the blacklist.
ALTER TABLE vdn ADD COLUMN hiding_key bytea;
