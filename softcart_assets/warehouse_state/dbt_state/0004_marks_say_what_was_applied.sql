-- Marks said what the raw tables had held. A fact that was built before its dimensions had not joined
-- all of it, and kept wrong keys. Each model reads all changes once more.
TRUNCATE dbt_state.watermarks;
ALTER TABLE dbt_state.watermarks DROP COLUMN changes CASCADE;
ALTER TABLE dbt_state.watermarks RENAME COLUMN changed_table TO raw_table;
ALTER TABLE dbt_state.watermarks ADD PRIMARY KEY (model, raw_table);
COMMENT ON TABLE dbt_state.watermarks IS
  'Up to which _version each model has applied each raw table, as far as the tables that it joins have. seen_before: the run before.';
CREATE TABLE dbt_state.key_formulas (
  model text PRIMARY KEY,
  formula text NOT NULL
);
COMMENT ON TABLE dbt_state.key_formulas IS
  'A hash of how the surrogate keys in the table of each model were made.';
