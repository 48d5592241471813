CREATE TABLE ods._spark_topics (
  source     text NOT NULL,
  table_name text NOT NULL,
  topic      text NOT NULL,
  topic_id   text NOT NULL,
  partitions integer NOT NULL,
  log        text,
  floor      text NOT NULL DEFAULT '',
  generation integer NOT NULL DEFAULT 0,
  query      text,
  batch      bigint NOT NULL DEFAULT -1,
  marks      jsonb NOT NULL DEFAULT '{}',
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, table_name)
);
COMMENT ON TABLE ods._spark_topics IS
  'The last batch of each topic whose totals Spark keeps in the schema ods_topics. It commits together with the totals. '
  'log: the name of the database''s log files. floor: the place in that log of the last snapshot, or where the table was '
  'last emptied. What lies before it does not count. generation: how often the topic was begun from its start. query: '
  'the id in the checkpoint. marks: per partition, the last offset, place in the log and time in microseconds that count.';
