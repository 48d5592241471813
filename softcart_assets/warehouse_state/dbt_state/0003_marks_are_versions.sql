-- Marks were times, which are of no use once a clock was set back. Each model reads all changes once
-- more. No version is below 0.
ALTER TABLE dbt_state.watermarks DROP COLUMN seen_until, DROP COLUMN seen_before;
ALTER TABLE dbt_state.watermarks
  ADD COLUMN seen_until bigint NOT NULL DEFAULT -1,
  ADD COLUMN seen_before bigint NOT NULL DEFAULT -1;
COMMENT ON TABLE dbt_state.watermarks IS
  'Up to which _version each incremental model has seen each table that it follows. seen_before: the run before.';
