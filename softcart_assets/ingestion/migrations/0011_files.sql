CREATE SEQUENCE ingestion.file_numbers;
COMMENT ON SEQUENCE ingestion.file_numbers IS 'Numbers of files that were read.';

CREATE TABLE ingestion.files (
  source            text NOT NULL,
  table_name        text NOT NULL,
  name              text NOT NULL,
  content           text NOT NULL,
  number            bigint,
  sequence          text NOT NULL,
  version           numeric NOT NULL,
  state             text NOT NULL CHECK (state IN ('loaded', 'repeated', 'replaced', 'waiting', 'broken')),
  reason            text,
  byte_count        bigint NOT NULL,
  modified_at       timestamptz NOT NULL,
  latest_at         timestamptz NOT NULL,
  record_count      bigint,
  quarantined_count bigint,
  checksums         jsonb,
  load_id           text NOT NULL,
  seen_at           timestamptz NOT NULL DEFAULT now(),
  -- What tells rows apart comes first, here and in the indexes. Without statistics PostgreSQL takes source and table_name
  -- for as good, and a load of 10,000 files is their first one.
  PRIMARY KEY (name, content, source, table_name)
);
CREATE INDEX files_by_number ON ingestion.files (number, source, table_name);
CREATE INDEX files_by_sequence ON ingestion.files (sequence, source, table_name);
CREATE INDEX files_by_content ON ingestion.files (content, source, table_name);
COMMENT ON TABLE ingestion.files IS
  'The files of sources that are folders, by name below the folder and content (SHA-256, empty if it was not read '
  'whole). number: its rows have it in _file; the same content has one number, whatever its name. sequence and version: '
  'of several files with one sequence, the one with the highest version counts, then the one that was changed last '
  '(latest_at). state: loaded. repeated: its content counts under another name. replaced: another version counts. '
  'waiting: not complete yet. broken: cannot be read. record_count, quarantined_count, checksums: its records, how '
  'many of them are in quarantine, and by column the type and the checksum of the others.';

CREATE TABLE ingestion.file_duplicates (
  source     text NOT NULL,
  table_name text NOT NULL,
  number     bigint NOT NULL,
  line       bigint NOT NULL,
  key        jsonb NOT NULL,
  row        jsonb NOT NULL,
  PRIMARY KEY (number, line, source, table_name)
);
CREATE INDEX file_duplicates_by_key ON ingestion.file_duplicates (key, source, table_name);
COMMENT ON TABLE ingestion.file_duplicates IS
  'Records of files that do not count, because raw has another one with the same key. One of them comes into raw if '
  'the file with that other one is replaced.';
