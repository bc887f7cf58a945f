-- Trunks, the trunk group of a VDN, and the destinations that a VDN may dial.

ALTER TABLE vdn ADD COLUMN trunk_group text NOT NULL DEFAULT 'default';

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
