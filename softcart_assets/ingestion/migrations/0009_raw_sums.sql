CREATE TABLE ingestion.raw_sums (
  source     text NOT NULL,
  table_name text NOT NULL,
  generation bigint NOT NULL,
  sums       numeric[] NOT NULL,
  read_at    timestamptz,
  salt       bigint[] NOT NULL,
  state      text NOT NULL,
  PRIMARY KEY (source, table_name)
);
COMMENT ON TABLE ingestion.raw_sums IS
  'Sums over the current rows of raw tables. Triggers change them with each write to the table. read_at: when all rows '
  'were last read to compute them. NULL: not since the triggers follow, or since a write that was too big to follow. '
  'Then sums are those of the later writes alone, and generation is another number. salt: random numbers in the sums. '
  'state: the file and the columns of the table that the sums are of.';
