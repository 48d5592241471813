-- Facts follow marks of deletion. A raw table that was dropped leaves none, so a fact that was built from
-- another one is built from scratch. That makes its new indexes, too.
ALTER TABLE dbt_state.key_formulas ADD COLUMN raw_tables oid[];
COMMENT ON TABLE dbt_state.key_formulas IS
  'A hash of how the surrogate keys in the table of each model were made, and the raw tables that it was made of.';
