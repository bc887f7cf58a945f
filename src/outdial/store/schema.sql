-- The whole database of outdial. A new database gets this file; an old one gets the numbered files of
-- migrations/. A test holds the two equal.
--
-- Every key begins with vdn_id, the tenant. Tables without it (engine, trunk, trunk_day, routing_version) and
-- indexes without it are those that must look across VDNs: which of them have work, what is due to be pushed,
-- what expires, and the trunks, which are the host's and carry the calls of all of them.

CREATE TABLE vdn (
    vdn_id          integer     PRIMARY KEY CHECK (vdn_id BETWEEN 1 AND 9999),
    time_zone       text        NOT NULL,
    edition         text        NOT NULL CHECK (edition IN ('2023-09', '2025-11')),
    max_active      integer     NOT NULL CHECK (max_active >= 0),
    recycle         text        NOT NULL CHECK (recycle IN ('keep', 'retire')),
    webhook_secret  bytea,      -- sealed; NULL: pushes are not signed
    created_at      timestamptz NOT NULL,
    trunk_group     text        NOT NULL DEFAULT 'default',   -- the trunks that carry its calls
    max_per_minute  integer     CHECK (max_per_minute > 0),   -- calls to one number; NULL: any number of them
    max_per_hour    integer     CHECK (max_per_hour > 0),
    max_per_day     integer     CHECK (max_per_day > 0),
    keep_numbers    integer     CHECK (keep_numbers > 0),   -- days; NULL: for ever
    keep_results    integer     CHECK (keep_results > 0),
    keep_records    integer     CHECK (keep_records > 0),
    hiding_key      bytea       -- sealed; NULL: no entry of its blacklist stands under a keyed hash
);

CREATE TABLE access_key (
    vdn_id      integer     NOT NULL REFERENCES vdn,
    ak          text        NOT NULL,
    sealed      bytea       NOT NULL,   -- the secret, AES-256-GCM under the master key
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    PRIMARY KEY (vdn_id, ak)
);
CREATE UNIQUE INDEX access_key_ak ON access_key (ak);

CREATE TABLE campaign (
    vdn_id             integer     NOT NULL REFERENCES vdn,
    campaign_id        bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    name               text        NOT NULL,
    description        text        NOT NULL,
    device_type        smallint    NOT NULL,
    state              text        NOT NULL CHECK (state IN ('draft', 'started', 'suspended', 'ended')),
    begin_at           timestamptz NOT NULL,
    end_at             timestamptz NOT NULL CHECK (end_at > begin_at),
    caller_no          text        NOT NULL,
    max_alerting_time  integer     NOT NULL,   -- seconds
    windows            integer[]   NOT NULL,   -- begin, end of three slots, minutes after midnight; NULL: unused
    device_sign        text        NOT NULL,
    call_count         integer     NOT NULL CHECK (call_count > 0),
    call_interval      integer     NOT NULL CHECK (call_interval > 0),   -- seconds
    callback_url       text,
    duplicates         text        NOT NULL CHECK (duplicates IN ('allow', 'refuse', 'skip')),
    on_unknown         text        NOT NULL CHECK (on_unknown IN ('count', 'redial')),
    incomplete         integer     NOT NULL DEFAULT 0 CHECK (incomplete >= 0),   -- ready, waiting or dialing
    last_added_at      timestamptz,   -- of the last accepted add
    last_launch_at     timestamptz,   -- of the last claim: the timer pacing outlives the engine
    created_at         timestamptz NOT NULL,
    deleted_at         timestamptz,   -- hidden; upkeep removes it once nothing is dialing
    archived           boolean     NOT NULL DEFAULT false,   -- deleted, but kept as history
    priority           smallint    NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    max_cps            double precision CHECK (max_cps > 0),
    max_channels       integer     CHECK (max_channels > 0),
    special_windows    integer[]   NOT NULL DEFAULT '{}',   -- as windows; empty: no call on a special date
    special_dates      jsonb       NOT NULL DEFAULT '[]',   -- copies: a claim reads them under its row lock
    retry              jsonb,                               -- NULL: no number is tried again
    caller_numbers     jsonb       NOT NULL DEFAULT '[]',
    caller_turn        bigint      NOT NULL DEFAULT 0,      -- calls so far
    launch_rest        integer     NOT NULL DEFAULT 0,   -- calls of the last launch that found no room yet
    next_send_at       timestamptz, -- under max_cps: when the next call may be sent
    removed            integer     NOT NULL DEFAULT 0,   -- done contacts that retention took
    PRIMARY KEY (vdn_id, campaign_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX campaign_name ON campaign (vdn_id, name) WHERE deleted_at IS NULL;
CREATE INDEX campaign_started ON campaign (vdn_id, campaign_id) WHERE state = 'started';
CREATE INDEX campaign_deleted ON campaign (deleted_at) WHERE deleted_at IS NOT NULL AND NOT archived;
CREATE INDEX campaign_end ON campaign (end_at) WHERE state <> 'ended';
CREATE INDEX campaign_archived ON campaign (vdn_id, campaign_id) WHERE archived;

CREATE SEQUENCE contact_id CACHE 1000;

CREATE TABLE contact (
    vdn_id        integer     NOT NULL,
    contact_id    bigint      NOT NULL,
    campaign_id   bigint      NOT NULL,
    called        text        NOT NULL,
    caller        text,
    session_id    text,
    custom_field  text,
    call_data     text,
    recycle_at    timestamptz,
    priority      smallint    NOT NULL,
    state         text        NOT NULL CHECK (state IN ('ready', 'dialing', 'waiting', 'done')),
    due_at        timestamptz NOT NULL,
    attempts      smallint    NOT NULL DEFAULT 0,
    disposition   text,       -- of the last attempt, or of an end without a call
    exclusive     boolean     NOT NULL DEFAULT false,   -- the campaign takes no second incomplete copy
    held_by       text        CHECK (held_by IN ('blacklist', 'cap')),   -- while it waits; NULL: a retry
    closing       boolean     NOT NULL DEFAULT false,   -- done; its last result is to be marked final
    PRIMARY KEY (vdn_id, contact_id)
);
CREATE INDEX contact_due ON contact (vdn_id, campaign_id, priority, due_at, contact_id) WHERE state = 'ready';
CREATE UNIQUE INDEX contact_exclusive ON contact (vdn_id, campaign_id, called)
    WHERE exclusive AND state <> 'done';
CREATE INDEX contact_recycle ON contact (vdn_id, recycle_at)
    WHERE state IN ('ready', 'waiting') AND recycle_at IS NOT NULL;
CREATE INDEX contact_closing ON contact (vdn_id, contact_id) WHERE closing;
CREATE INDEX contact_waiting ON contact (due_at) WHERE state = 'waiting';
CREATE INDEX contact_waiting_of ON contact (vdn_id, campaign_id, held_by, due_at) WHERE state = 'waiting';
CREATE INDEX contact_refused ON contact (vdn_id, campaign_id)
    WHERE state = 'done' AND disposition = 'NOT_ALLOWED';   -- no trunk may call them

CREATE TABLE stored_answer (
    vdn_id           integer     NOT NULL,
    request_key      uuid        NOT NULL,   -- from the access key and the signature
    idempotency_key  uuid,                   -- from the access key, the path and the Idempotency-Key header
    body_key         uuid        NOT NULL,   -- from the body: the same Idempotency-Key must carry the same
    total_size       integer     NOT NULL,
    contact_ids      bigint[],               -- in the order of the entries, where the edition answers them
    expires_at       timestamptz NOT NULL,
    PRIMARY KEY (vdn_id, request_key)
);
CREATE UNIQUE INDEX stored_answer_idempotency ON stored_answer (vdn_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX stored_answer_expiry ON stored_answer (expires_at);

CREATE TABLE blacklist (
    vdn_id           integer     NOT NULL REFERENCES vdn,
    number           text        NOT NULL,
    expires_at       timestamptz,
    restrict_times   smallint,
    restrict_period  text        CHECK (restrict_period IN ('hour', 'day')),
    window_begin     timestamptz,            -- of the hour or day that window_calls counts
    window_calls     integer     NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (vdn_id, number),
    CHECK ((restrict_times IS NULL) = (restrict_period IS NULL))
);
-- Admission looks up every number of an add: in a hash index that costs half of what the primary key costs.
CREATE INDEX blacklist_lookup ON blacklist USING hash (hashtextextended(number, vdn_id));

CREATE TABLE engine (
    epoch         bigint      PRIMARY KEY GENERATED ALWAYS AS IDENTITY,   -- one per run of an engine
    host          text        NOT NULL,
    pid           integer     NOT NULL,
    started_at    timestamptz NOT NULL,
    lease_until   timestamptz NOT NULL,
    fenced_at     timestamptz,   -- from here on this engine claims nothing more
    recovered_at  timestamptz,   -- its open attempts have been settled by another
    standing      text,          -- what only this run knows: its switch, the trunks (JSON)
    sent_by       jsonb       NOT NULL DEFAULT '{}'   -- of SIP: what its Via says, by the address it sends to
);
CREATE INDEX engine_live ON engine (lease_until) WHERE recovered_at IS NULL;

CREATE TABLE attempt (
    vdn_id       integer     NOT NULL,
    attempt_id   uuid        NOT NULL,   -- the call's id at the switch
    campaign_id  bigint      NOT NULL,
    contact_id   bigint      NOT NULL,
    attempt_no   smallint    NOT NULL,
    called       text        NOT NULL,
    caller       text        NOT NULL,
    epoch        bigint      NOT NULL,   -- the engine run that owns it
    intent_at    timestamptz NOT NULL,
    ringing_at   timestamptz,
    answered_at  timestamptz,
    ended_at     timestamptz,            -- NULL: in flight
    disposition  text,
    cause        smallint,               -- Q.850
    sip_status   smallint,
    hung_up_by   text,
    trunk        text,
    sent_at      timestamptz,            -- the order left
    keys         text,                   -- that the callee pressed
    steps        text[],                 -- of the call flow, as gone through
    detector     text,                   -- verdict of the answering-machine detection
    rtp_sent     integer,                -- packets
    rtp_received integer,
    dialog       text,                   -- the switch's own word of an answered call, until it ends
    transfer_of  uuid,                   -- the attempt whose call this one hands over; NULL: a call of the number
    placed_by    bigint,                 -- the engine run that placed it, when another has adopted it
    PRIMARY KEY (vdn_id, attempt_id)
);
CREATE UNIQUE INDEX attempt_once ON attempt (vdn_id, contact_id, attempt_no) WHERE transfer_of IS NULL;
CREATE UNIQUE INDEX attempt_running ON attempt (vdn_id, contact_id) WHERE ended_at IS NULL AND transfer_of IS NULL;
CREATE INDEX attempt_open ON attempt (epoch) WHERE ended_at IS NULL;
CREATE INDEX attempt_in_flight ON attempt (vdn_id, campaign_id) WHERE ended_at IS NULL;
CREATE INDEX attempt_time ON attempt (vdn_id, intent_at, attempt_id);   -- the export of call records

CREATE TABLE call_result (
    vdn_id        integer     NOT NULL,
    result_id     uuid        NOT NULL,   -- the stable id of every delivery
    campaign_id   bigint      NOT NULL,
    contact_id    bigint      NOT NULL,
    attempt_id    uuid,                   -- NULL: the number ended without a call
    called        text        NOT NULL,
    session_id    text,
    custom_field  text,
    disposition   text        NOT NULL,
    call_at       timestamptz NOT NULL,
    created_at    timestamptz NOT NULL,
    delivered_at  timestamptz,
    final         boolean     NOT NULL DEFAULT true,   -- the last word about its number, which is done
    PRIMARY KEY (vdn_id, result_id)
);
CREATE UNIQUE INDEX call_result_attempt ON call_result (vdn_id, attempt_id) WHERE attempt_id IS NOT NULL;
CREATE UNIQUE INDEX call_result_contact ON call_result (vdn_id, contact_id) WHERE attempt_id IS NULL;
-- A page of results and their number are read from these alone; then only the page's rows are fetched.
CREATE INDEX call_result_page ON call_result (vdn_id, campaign_id, call_at, result_id) INCLUDE (final);
CREATE INDEX call_result_session ON call_result (vdn_id, campaign_id, session_id, call_at, result_id)
    INCLUDE (final) WHERE session_id IS NOT NULL;
CREATE INDEX call_result_field ON call_result (vdn_id, campaign_id, custom_field, call_at, result_id)
    INCLUDE (final) WHERE custom_field IS NOT NULL;

CREATE TABLE outbox (
    vdn_id        integer     NOT NULL,
    result_id     uuid        NOT NULL,
    campaign_id   bigint      NOT NULL,
    url           text        NOT NULL,
    pushes        smallint    NOT NULL DEFAULT 0,   -- that failed
    due_at        timestamptz,                      -- NULL: the documented pushes are used up
    leased_until  timestamptz,
    last_error    text,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (vdn_id, result_id)
);
CREATE INDEX outbox_due ON outbox (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE trunk (
    name            text        PRIMARY KEY,
    host            text        NOT NULL,
    port            integer     CHECK (port BETWEEN 1 AND 65535),   -- NULL: by SRV, else the transport's own
    transport       text        NOT NULL CHECK (transport IN ('udp', 'tcp', 'tls')),
    trunk_group     text        NOT NULL,
    position        smallint    NOT NULL CHECK (position > 0),
    weight          smallint    NOT NULL CHECK (weight > 0),
    outbound_proxy  text,
    username        text,
    password        bytea,      -- sealed
    registers       boolean     NOT NULL,
    caller_id       text,
    from_domain     text,
    prefix_rules    text[]      NOT NULL,   -- prefix and replacement in turn
    max_cps         double precision NOT NULL CHECK (max_cps > 0),
    max_channels    integer     NOT NULL CHECK (max_channels > 0),
    max_minutes     integer     CHECK (max_minutes > 0),   -- answered, a day; NULL: unbounded
    timer_b         double precision NOT NULL CHECK (timer_b > 0),   -- seconds
    ping_every      integer     NOT NULL CHECK (ping_every >= 0),    -- seconds; 0: never
    enabled         boolean     NOT NULL,
    created_at      timestamptz NOT NULL,
    CHECK ((username IS NULL) = (password IS NULL)),
    CHECK (username IS NOT NULL OR NOT registers)
);

CREATE TABLE trunk_day (
    trunk             text  NOT NULL,   -- its name; what was used outlives it
    day               date  NOT NULL,   -- in UTC
    answered_seconds  double precision NOT NULL,
    PRIMARY KEY (trunk, day)
);

CREATE TABLE allowed_prefix (
    vdn_id      integer     NOT NULL REFERENCES vdn,
    prefix      text        NOT NULL CHECK (prefix <> ''),   -- of a dial string; 'any': every one
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (vdn_id, prefix)
);

CREATE TABLE routing_version (
    only_row  boolean PRIMARY KEY CHECK (only_row),
    version   bigint  NOT NULL   -- one more with every change of trunks, groups and allowed prefixes
);

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

CREATE TABLE special_date (
    vdn_id           integer   NOT NULL REFERENCES vdn,
    special_date_id  bigint    NOT NULL GENERATED ALWAYS AS IDENTITY,
    name             text      NOT NULL,
    kind             smallint  NOT NULL CHECK (kind BETWEEN 1 AND 3),   -- weekly, dates, yearly
    weekdays         integer[] NOT NULL,   -- 1 Monday to 7 Sunday
    first            text      NOT NULL,   -- yyyy-mm-dd, yearly mm-dd
    last             text      NOT NULL,
    PRIMARY KEY (vdn_id, special_date_id)
);
CREATE UNIQUE INDEX special_date_name ON special_date (vdn_id, name);

CREATE TABLE called_count (
    vdn_id      integer       NOT NULL,
    number      text          NOT NULL,
    calls       timestamptz[] NOT NULL,   -- when it was called, as far as it counts under a cap
    touched_at  timestamptz   NOT NULL,
    PRIMARY KEY (vdn_id, number)
);
CREATE INDEX called_count_touched ON called_count (touched_at);

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
