-- What lists of runs are filtered and ordered by. `fill_in.py` gives older runs their rows in the same transaction.
ALTER TABLE runs
    ADD number       bigint,                         -- jobs.queue_order: rises with creation
    ADD create_time  timestamptz,                    -- as in jobs
    ADD dataset      text NOT NULL DEFAULT '',       -- as in jobs
    ADD model        text NOT NULL DEFAULT '',
    ADD sweep        text NOT NULL DEFAULT '',
    ADD parent       text NOT NULL DEFAULT '',
    ADD tags         text[] NOT NULL DEFAULT '{}',
    ADD notes        bytea NOT NULL DEFAULT '',      -- UTF-8
    ADD search_text  text NOT NULL DEFAULT '',       -- name and description, case folded
    ADD archive_time timestamptz,
    ADD delete_time  timestamptz,
    ADD remove_time  timestamptz,                    -- when metrics, logs and artifacts were collected
    ADD visibility   smallint NOT NULL GENERATED ALWAYS AS (
        CASE WHEN remove_time IS NOT NULL THEN 4 WHEN delete_time IS NOT NULL THEN 3
             WHEN archive_time IS NOT NULL THEN 2 ELSE 1 END) STORED;  -- RunFilter.Visibility, or 4: in no list

UPDATE runs SET number = queue_order, create_time = jobs.create_time, dataset = jobs.dataset
FROM jobs WHERE jobs.name = runs.name;
ALTER TABLE runs ALTER number SET NOT NULL, ALTER create_time SET NOT NULL;

CREATE UNIQUE INDEX runs_by_number ON runs (number);
CREATE INDEX runs_newest ON runs (visibility, number);
CREATE INDEX runs_created ON runs (create_time);
CREATE INDEX runs_of_dataset ON runs (dataset, number);
CREATE INDEX runs_of_model ON runs (model, number);
CREATE INDEX runs_of_any_version ON runs (split_part(model, '/versions/', 1), number);
CREATE INDEX runs_of_sweep ON runs (sweep, number) WHERE sweep <> '';
CREATE INDEX runs_of_parent ON runs (parent, number) WHERE parent <> '';
CREATE INDEX runs_with_tags ON runs USING gin (tags) WHERE tags <> '{}';
CREATE INDEX runs_deleted ON runs (delete_time) WHERE delete_time IS NOT NULL AND remove_time IS NULL;
CREATE INDEX jobs_of_state ON jobs (kind, state);

-- Keys and values may hold any character and be long, so their digests are looked up.
CREATE TABLE run_labels (
    run         bigint NOT NULL,                     -- runs.number
    key_digest  bytea NOT NULL,                      -- the first 16 bytes of the SHA-256
    text_digest bytea NOT NULL,
    PRIMARY KEY (run, key_digest)
);
CREATE INDEX run_labels_of_value ON run_labels (key_digest, text_digest, run);

-- The spec by path: numbers as such, other values by the first 16 bytes of the SHA-256 of their text.
CREATE TABLE run_parameters (
    run         bigint NOT NULL,
    path        text COLLATE "C" NOT NULL,
    number      double precision,
    text_digest bytea,
    PRIMARY KEY (run, path)
);
CREATE INDEX run_parameters_by_number ON run_parameters (path, number, run) WHERE number IS NOT NULL;
CREATE INDEX run_parameters_by_text ON run_parameters (path, text_digest, run) WHERE text_digest IS NOT NULL;

-- The values of metric_summary by which runs are ordered; NULL for NaN. Kept apart, since metric_summary is
-- rewritten with each message and must have no index on its values; these rows follow within a second.
CREATE TABLE run_values (
    run        bigint NOT NULL,
    metric     text COLLATE "C" NOT NULL,
    visibility smallint NOT NULL,                    -- as in runs
    last       double precision,
    min        double precision,
    max        double precision,
    PRIMARY KEY (run, metric)
);
CREATE INDEX run_values_by_last ON run_values (metric, visibility, last, run) WHERE last IS NOT NULL;
CREATE INDEX run_values_by_min ON run_values (metric, visibility, min, run) WHERE min IS NOT NULL;
CREATE INDEX run_values_by_max ON run_values (metric, visibility, max, run) WHERE max IS NOT NULL;
INSERT INTO run_values (run, metric, visibility, last, min, max)
SELECT number, metric, visibility, nullif(last, 'NaN'), nullif(min, 'NaN'), nullif(max, 'NaN')
FROM metric_summary JOIN runs ON runs.name = metric_summary.run;
