-- The version of a raw table is its last load that changed something. Dagster's events tell the version that it
-- knows, so no load has to be marked as reported.
DROP INDEX ingestion.loads_unreported;
ALTER TABLE ingestion.loads DROP COLUMN is_reported;
CREATE INDEX loads_changed ON ingestion.loads (source, table_name, number) WHERE is_changed;
