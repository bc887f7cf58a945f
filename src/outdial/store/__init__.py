"""The store: PostgreSQL behind one verb per use. No caller sees SQL; no rule lives here."""
