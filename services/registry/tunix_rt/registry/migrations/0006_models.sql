-- Stages, aliases, baselines, and what was done to a model.
ALTER TABLE model_versions
    ADD stage           smallint NOT NULL DEFAULT 0,  -- ModelStage
    ADD gate_overridden boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX model_versions_in_production ON model_versions (parent) WHERE stage = 2;
CREATE INDEX model_versions_of_digest ON model_versions (digest);
CREATE INDEX model_versions_of_run ON model_versions (run) WHERE run <> '';
CREATE INDEX evaluations_of_weights ON evaluations (weights_digest) WHERE weights_digest <> '';

CREATE TABLE model_aliases (
    name        text PRIMARY KEY,
    parent      text NOT NULL,
    version     text NOT NULL REFERENCES model_versions,
    update_time timestamptz NOT NULL
);
CREATE INDEX model_aliases_of_parent ON model_aliases (parent, name);
CREATE INDEX model_aliases_of_version ON model_aliases (version);

CREATE TABLE model_baselines (
    parent      text PRIMARY KEY,
    evaluation  text NOT NULL REFERENCES evaluations,
    document    bytea NOT NULL,                       -- Baseline
    update_time timestamptz NOT NULL
);

CREATE TABLE model_events (
    number   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    parent   text NOT NULL,
    document bytea NOT NULL                           -- ModelEvent
);
CREATE INDEX model_events_of_parent ON model_events (parent, number DESC);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is only added to', TG_TABLE_NAME;
END $$;
CREATE TRIGGER model_events_stay BEFORE UPDATE OR DELETE ON model_events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
