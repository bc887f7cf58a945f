-- Call flows and prompts.
CREATE TABLE flow (
    vdn_id      integer     NOT NULL REFERENCES vdn,
    name        text        NOT NULL,   -- the deviceSign of its campaigns
    document    text        NOT NULL,   -- JSON, checked
    sha256      text        NOT NULL,   -- of the document
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL,
    PRIMARY KEY (vdn_id, name)
);

CREATE TABLE prompt (
    vdn_id       integer     NOT NULL REFERENCES vdn,
    name         text        NOT NULL,
    audio        bytea       NOT NULL,   -- µ-law, 8 kHz, mono
    duration_ms  integer     NOT NULL,
    sha256       text        NOT NULL,   -- of the audio
    created_at   timestamptz NOT NULL,   -- of this recording
    PRIMARY KEY (vdn_id, name)
);
ALTER TABLE prompt ALTER COLUMN audio SET STORAGE EXTERNAL;   -- µ-law hardly compresses

-- A prompt that a flow plays cannot be removed.
CREATE TABLE flow_prompt (
    vdn_id  integer NOT NULL,
    flow    text    NOT NULL,
    prompt  text    NOT NULL,
    PRIMARY KEY (vdn_id, flow, prompt),
    FOREIGN KEY (vdn_id, flow) REFERENCES flow ON DELETE CASCADE,
    FOREIGN KEY (vdn_id, prompt) REFERENCES prompt
);
CREATE INDEX flow_prompt_prompt ON flow_prompt (vdn_id, prompt);

-- Counts the changes of a VDN's flows and prompts: engines that keep them ask for this number alone.
CREATE TABLE shelf (
    vdn_id   integer PRIMARY KEY REFERENCES vdn,
    version  bigint  NOT NULL
);
