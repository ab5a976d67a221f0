-- Payloads in `bytea` are protobuf messages of tunix_rt.v1 unless said otherwise: texts in them may
-- hold any character, NUL included, and they grow additively. What is queried stands in columns.
-- `state` and `outcome` are the numbers of the enums in the protos.

CREATE TABLE requests (
    request_id  text PRIMARY KEY,
    digest      text NOT NULL,
    name        text NOT NULL DEFAULT '',
    create_time timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE datasets (
    name        text PRIMARY KEY,
    state       smallint NOT NULL,
    trace_count bigint NOT NULL DEFAULT 0,
    document    bytea NOT NULL,                      -- Dataset
    create_time timestamptz NOT NULL
);
CREATE INDEX datasets_newest ON datasets (create_time DESC, name DESC);

CREATE TABLE traces (
    dataset    text NOT NULL REFERENCES datasets,
    position   bigint NOT NULL,
    trace_id   text NOT NULL,
    content    bytea NOT NULL,                       -- SHA-256 of the trace without id and metadata
    split      text NOT NULL,
    record     bytea NOT NULL,                       -- canonical JSON
    PRIMARY KEY (dataset, position),
    UNIQUE (dataset, trace_id),
    UNIQUE (dataset, content)
);
CREATE INDEX traces_of_split ON traces (dataset, split, position);

CREATE TABLE jobs (
    name              text PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('run', 'evaluation')),
    state             smallint NOT NULL,
    attempt           integer NOT NULL DEFAULT 0,
    released          integer NOT NULL DEFAULT 0,    -- attempts that were given back; they cost no attempt
    max_attempts      integer NOT NULL,
    worker            text NOT NULL DEFAULT '',
    lease_expire_time timestamptz,
    cancel_requested  boolean NOT NULL DEFAULT false,
    progress          bigint NOT NULL DEFAULT 0,
    progress_total    bigint NOT NULL DEFAULT 0,
    spec              bytea NOT NULL,                -- RunSpec or EvaluationSpec
    description       bytea NOT NULL DEFAULT '',     -- UTF-8
    labels            bytea NOT NULL DEFAULT '',     -- Job with labels only
    error             bytea,                         -- google.rpc.Status of the latest failure
    finished_attempt  integer NOT NULL DEFAULT 0,
    finished_digest   text NOT NULL DEFAULT '',
    dataset           text NOT NULL REFERENCES datasets,
    create_time       timestamptz NOT NULL,
    start_time        timestamptz,
    end_time          timestamptz,
    queue_order       bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX jobs_open ON jobs (kind, queue_order) WHERE state IN (1, 2);
CREATE INDEX jobs_running ON jobs (worker) WHERE state = 2;
CREATE INDEX jobs_newest ON jobs (kind, create_time DESC, name DESC);
CREATE INDEX jobs_of_dataset ON jobs (dataset, kind, create_time DESC, name DESC);

CREATE TABLE runs (
    name           text PRIMARY KEY REFERENCES jobs,
    facts          bytea NOT NULL DEFAULT '',        -- google.protobuf.Struct
    model_artifact text NOT NULL DEFAULT '',
    weights_digest text NOT NULL DEFAULT ''
);

CREATE TABLE evaluations (
    name           text PRIMARY KEY REFERENCES jobs,
    subject        text NOT NULL,
    run            text NOT NULL DEFAULT '',         -- the run that asked for it
    dataset_sha256 text NOT NULL,
    board          text NOT NULL,                    -- digest of what comparable evaluations share
    weights_digest text NOT NULL DEFAULT '',
    result         bytea                             -- EvaluationResult
);
CREATE INDEX evaluations_of_subject ON evaluations (subject);
CREATE INDEX evaluations_of_run ON evaluations (run) WHERE run <> '';

CREATE TABLE item_scores (
    evaluation text NOT NULL REFERENCES evaluations,
    trace_id   text NOT NULL,
    position   bigint NOT NULL,
    outcome    smallint NOT NULL,
    score      double precision NOT NULL,
    item       bytea NOT NULL,                       -- ItemScore
    PRIMARY KEY (evaluation, trace_id)
);
CREATE INDEX item_scores_by_position ON item_scores (evaluation, position, trace_id);

-- How far the one writer of an attempt has come.
CREATE TABLE metric_streams (
    run        text NOT NULL REFERENCES runs,
    attempt    integer NOT NULL,
    committed  bigint NOT NULL DEFAULT 0,
    first_step bigint,
    PRIMARY KEY (run, attempt)
);

-- The points of one metric in one message, packed: little-endian int64 steps, float64 values, int64
-- microseconds since 1970, int32 offsets counted from batch_offset.
CREATE TABLE metric_chunks (
    run          text NOT NULL,
    attempt      integer NOT NULL,
    batch_offset bigint NOT NULL,
    metric       text NOT NULL,
    steps        bytea NOT NULL,
    points       bytea NOT NULL,
    times        bytea NOT NULL,
    offsets      bytea NOT NULL,
    PRIMARY KEY (run, attempt, batch_offset, metric)
);
ALTER TABLE metric_chunks
    ALTER steps SET STORAGE EXTERNAL, ALTER points SET STORAGE EXTERNAL,
    ALTER times SET STORAGE EXTERNAL, ALTER offsets SET STORAGE EXTERNAL;
CREATE INDEX metric_chunks_of_curve ON metric_chunks (run, metric, attempt, batch_offset);

CREATE TABLE metric_summary (
    run       text NOT NULL,
    metric    text NOT NULL,
    last      double precision NOT NULL,
    last_step bigint NOT NULL,
    min       double precision NOT NULL,
    min_step  bigint NOT NULL,
    max       double precision NOT NULL,
    max_step  bigint NOT NULL,
    count     bigint NOT NULL,
    PRIMARY KEY (run, metric)
);

CREATE TABLE log_streams (
    job       text NOT NULL REFERENCES jobs,
    attempt   integer NOT NULL,
    committed bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (job, attempt)
);

CREATE TABLE log_chunks (
    job          text NOT NULL,
    attempt      integer NOT NULL,
    first_offset bigint NOT NULL,
    lines        bytea NOT NULL,                     -- StreamLogsRequest with lines only
    PRIMARY KEY (job, attempt, first_offset)
);

CREATE TABLE artifacts (
    name        text PRIMARY KEY,
    kind        text NOT NULL,
    owner       text NOT NULL REFERENCES jobs,
    step        bigint NOT NULL,
    digest      text NOT NULL,
    document    bytea NOT NULL,                      -- Artifact
    create_time timestamptz NOT NULL,
    UNIQUE (owner, kind, step, digest)
);
CREATE INDEX artifacts_newest ON artifacts (create_time DESC, name DESC);

CREATE TABLE model_versions (
    name        text PRIMARY KEY,
    parent      text NOT NULL,
    run         text NOT NULL DEFAULT '',
    digest      text NOT NULL,
    document    bytea NOT NULL,                      -- ModelVersion
    create_time timestamptz NOT NULL
);
CREATE INDEX model_versions_newest ON model_versions (create_time DESC, name DESC);
CREATE INDEX model_versions_of_parent ON model_versions (parent, create_time DESC, name DESC);
