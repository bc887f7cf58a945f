-- The whole database of outdial. A new database gets this file; an old one gets the numbered files of
-- migrations/. A test holds the two equal.
--
-- Every key begins with vdn_id, the tenant. Tables without it (engine) and indexes without it are those
-- that must look across VDNs: which of them have work, what is due to be pushed, what expires.

CREATE TABLE vdn (
    vdn_id          integer     PRIMARY KEY CHECK (vdn_id BETWEEN 1 AND 9999),
    time_zone       text        NOT NULL,
    edition         text        NOT NULL CHECK (edition IN ('2023-09', '2025-11')),
    max_active      integer     NOT NULL CHECK (max_active >= 0),
    recycle         text        NOT NULL CHECK (recycle IN ('keep', 'retire')),
    webhook_secret  bytea,      -- sealed; NULL: pushes are not signed
    created_at      timestamptz NOT NULL
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
    incomplete         integer     NOT NULL DEFAULT 0 CHECK (incomplete >= 0),   -- ready or dialing
    last_added_at      timestamptz,   -- of the last accepted add
    last_launch_at     timestamptz,   -- of the last claim: the timer pacing outlives the engine
    created_at         timestamptz NOT NULL,
    deleted_at         timestamptz,   -- hidden; upkeep removes it once nothing is dialing
    archived           boolean     NOT NULL DEFAULT false,   -- deleted, but kept as history
    PRIMARY KEY (vdn_id, campaign_id)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX campaign_name ON campaign (vdn_id, name) WHERE deleted_at IS NULL;
CREATE INDEX campaign_started ON campaign (vdn_id, campaign_id) WHERE state = 'started';
CREATE INDEX campaign_deleted ON campaign (deleted_at) WHERE deleted_at IS NOT NULL AND NOT archived;
CREATE INDEX campaign_end ON campaign (end_at) WHERE state <> 'ended';

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
    state         text        NOT NULL CHECK (state IN ('ready', 'dialing', 'done')),
    due_at        timestamptz NOT NULL,
    attempts      smallint    NOT NULL DEFAULT 0,
    disposition   text,       -- of the last attempt, or of an end without a call
    exclusive     boolean     NOT NULL DEFAULT false,   -- the campaign takes no second incomplete copy
    PRIMARY KEY (vdn_id, contact_id)
);
CREATE INDEX contact_due ON contact (vdn_id, campaign_id, priority, due_at, contact_id) WHERE state = 'ready';
CREATE UNIQUE INDEX contact_exclusive ON contact (vdn_id, campaign_id, called)
    WHERE exclusive AND state <> 'done';
CREATE INDEX contact_recycle ON contact (vdn_id, recycle_at) WHERE state = 'ready' AND recycle_at IS NOT NULL;

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
    recovered_at  timestamptz    -- its open attempts have been settled by another
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
    PRIMARY KEY (vdn_id, attempt_id)
);
CREATE UNIQUE INDEX attempt_once ON attempt (vdn_id, contact_id, attempt_no);
CREATE UNIQUE INDEX attempt_running ON attempt (vdn_id, contact_id) WHERE ended_at IS NULL;
CREATE INDEX attempt_open ON attempt (epoch) WHERE ended_at IS NULL;

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
    PRIMARY KEY (vdn_id, result_id)
);
CREATE UNIQUE INDEX call_result_attempt ON call_result (vdn_id, attempt_id) WHERE attempt_id IS NOT NULL;
CREATE UNIQUE INDEX call_result_contact ON call_result (vdn_id, contact_id) WHERE attempt_id IS NULL;

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
