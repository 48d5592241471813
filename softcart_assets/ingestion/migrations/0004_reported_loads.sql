-- A load outside of a Dagster run (the command line, the nightly comparison) changes raw too. This
-- says which loads Dagster has an event of. Loads of the last release count as reported.
ALTER TABLE ingestion.loads
  ADD COLUMN number bigint GENERATED ALWAYS AS IDENTITY,
  ADD COLUMN is_reported boolean NOT NULL DEFAULT true;
ALTER TABLE ingestion.loads ALTER COLUMN is_reported SET DEFAULT false;
COMMENT ON COLUMN ingestion.loads.number IS 'The order of the loads of a table. A clock may go back.';
COMMENT ON COLUMN ingestion.loads.is_reported IS 'Whether Dagster has a materialization of this load or a later one.';
CREATE INDEX loads_unreported ON ingestion.loads (source) WHERE is_changed AND NOT is_reported;
