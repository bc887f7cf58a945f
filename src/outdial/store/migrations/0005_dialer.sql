-- Campaigns that share trunks; call records; answers stored before they are acknowledged.
ALTER TABLE campaign
    ADD COLUMN launch_rest integer NOT NULL DEFAULT 0,
    ADD COLUMN next_send_at timestamptz;

ALTER TABLE engine ADD COLUMN standing text;

ALTER TABLE attempt
    ADD COLUMN trunk text,
    ADD COLUMN sent_at timestamptz,
    ADD COLUMN keys text,
    ADD COLUMN steps text[],
    ADD COLUMN detector text,
    ADD COLUMN rtp_sent integer,
    ADD COLUMN rtp_received integer,
    ADD COLUMN dialog text;
CREATE INDEX attempt_in_flight ON attempt (vdn_id, campaign_id) WHERE ended_at IS NULL;
CREATE INDEX attempt_time ON attempt (vdn_id, intent_at, attempt_id);

ALTER TABLE vdn
    ADD COLUMN max_per_minute integer CHECK (max_per_minute > 0),
    ADD COLUMN max_per_hour integer CHECK (max_per_hour > 0),
    ADD COLUMN max_per_day integer CHECK (max_per_day > 0);

CREATE TABLE called_count (
    vdn_id      integer       NOT NULL,
    number      text          NOT NULL,
    calls       timestamptz[] NOT NULL,   -- when it was called, as far as it counts under a cap
    touched_at  timestamptz   NOT NULL,
    PRIMARY KEY (vdn_id, number)
);
CREATE INDEX called_count_touched ON called_count (touched_at);
