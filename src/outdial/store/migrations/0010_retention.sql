-- Retention in days per VDN; NULL keeps for ever.
ALTER TABLE vdn
    ADD COLUMN keep_numbers integer CHECK (keep_numbers > 0),
    ADD COLUMN keep_results integer CHECK (keep_results > 0),
    ADD COLUMN keep_records integer CHECK (keep_records > 0);
ALTER TABLE campaign ADD COLUMN removed integer NOT NULL DEFAULT 0;
