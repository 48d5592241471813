CREATE TABLE ods._spark_batches (
  source     text NOT NULL,
  table_name text NOT NULL,
  query      text NOT NULL,
  batch      bigint NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, table_name)
);
COMMENT ON TABLE ods._spark_batches IS
  'The last batch of each table whose totals Spark keeps in the schema ods_spark. It commits together with the totals. '
  'query: the id in the checkpoint.';
