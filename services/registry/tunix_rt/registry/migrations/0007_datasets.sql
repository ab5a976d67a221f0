-- Datasets that are made from others, that can be deleted, and what they hold.
ALTER TABLE datasets ADD delete_time timestamptz;

CREATE TABLE dataset_parents (
    dataset  text NOT NULL REFERENCES datasets,
    parent   text NOT NULL REFERENCES datasets,
    PRIMARY KEY (dataset, parent)
);
CREATE INDEX dataset_parents_of_parent ON dataset_parents (parent, dataset);

CREATE TABLE dataset_statistics (
    dataset  text PRIMARY KEY REFERENCES datasets,
    version  integer NOT NULL,                       -- of the code that computed them
    document bytea NOT NULL                          -- DatasetStatistics
);
