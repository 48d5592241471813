CREATE TABLE ml._built_from (
  table_name text PRIMARY KEY, inputs jsonb NOT NULL, row_count bigint NOT NULL
);
COMMENT ON TABLE ml._built_from IS
  'What each table of scores was last made from. It is made again when its features, its model or its code change.';
