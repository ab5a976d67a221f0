-- Several outputs an item.
ALTER TABLE item_scores ADD COLUMN sample integer NOT NULL DEFAULT 0;
ALTER TABLE item_scores DROP CONSTRAINT item_scores_pkey;
ALTER TABLE item_scores ADD PRIMARY KEY (evaluation, trace_id, sample);
DROP INDEX item_scores_by_position;
CREATE INDEX item_scores_by_position ON item_scores (evaluation, position, trace_id, sample);
