-- Evaluation specs under a name and version.
CREATE TABLE task_versions (
    name        text PRIMARY KEY,
    parent      text NOT NULL,
    digest      text NOT NULL,                       -- the board of the evaluations with this spec
    document    bytea NOT NULL,                      -- TaskVersion
    create_time timestamptz NOT NULL
);
CREATE INDEX task_versions_newest ON task_versions (create_time DESC, name DESC);
CREATE INDEX task_versions_of_parent ON task_versions (parent, create_time DESC, name DESC);
CREATE INDEX task_versions_of_digest ON task_versions (digest);
CREATE INDEX evaluations_of_board ON evaluations (board);
