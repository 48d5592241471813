CREATE SCHEMA IF NOT EXISTS aggregates;
CREATE TABLE IF NOT EXISTS aggregates._built_from (
  table_name text PRIMARY KEY, inputs jsonb NOT NULL, row_count bigint NOT NULL
);
COMMENT ON TABLE aggregates._built_from IS
  'What each aggregate was last built from. It is computed again when its inputs or its code change.';
