-- Numbers wait for a retry in a state of their own; campaigns have special dates, a retry policy, a priority,
-- limits and several calling numbers.

ALTER TABLE campaign
    ADD COLUMN priority         smallint    NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    ADD COLUMN max_cps          double precision CHECK (max_cps > 0),
    ADD COLUMN max_channels     integer     CHECK (max_channels > 0),
    ADD COLUMN special_windows  integer[]   NOT NULL DEFAULT '{}',
    ADD COLUMN special_dates    jsonb       NOT NULL DEFAULT '[]',
    ADD COLUMN retry            jsonb,
    ADD COLUMN caller_numbers   jsonb       NOT NULL DEFAULT '[]',
    ADD COLUMN caller_turn      bigint      NOT NULL DEFAULT 0;

ALTER TABLE contact
    DROP CONSTRAINT contact_state_check,
    ADD CONSTRAINT contact_state_check CHECK (state IN ('ready', 'dialing', 'waiting', 'done'));
UPDATE contact SET state = 'waiting' WHERE state = 'ready' AND due_at > now();
DROP INDEX contact_recycle;
CREATE INDEX contact_recycle ON contact (vdn_id, recycle_at)
    WHERE state IN ('ready', 'waiting') AND recycle_at IS NOT NULL;
CREATE INDEX contact_waiting ON contact (due_at) WHERE state = 'waiting';
CREATE INDEX contact_waiting_of ON contact (vdn_id, campaign_id) WHERE state = 'waiting';

CREATE TABLE special_date (
    vdn_id           integer   NOT NULL REFERENCES vdn,
    special_date_id  bigint    NOT NULL GENERATED ALWAYS AS IDENTITY,
    name             text      NOT NULL,
    kind             smallint  NOT NULL CHECK (kind BETWEEN 1 AND 3),
    weekdays         integer[] NOT NULL,
    first            text      NOT NULL,
    last             text      NOT NULL,
    PRIMARY KEY (vdn_id, special_date_id)
);
CREATE UNIQUE INDEX special_date_name ON special_date (vdn_id, name);
