CREATE SCHEMA IF NOT EXISTS ingestion;

CREATE TABLE IF NOT EXISTS ingestion.positions (
  source       text NOT NULL,
  table_name   text NOT NULL,
  position     text NOT NULL,
  cursor_value text,
  load_id      text NOT NULL,
  loaded_at    timestamptz NOT NULL,
  PRIMARY KEY (source, table_name)
);

CREATE TABLE IF NOT EXISTS ingestion.loads (
  load_id          text NOT NULL,
  source           text NOT NULL,
  table_name       text NOT NULL,
  strategy         text NOT NULL,
  position         text NOT NULL,
  loaded_at        timestamptz NOT NULL,
  seconds          double precision NOT NULL,
  rows_read        bigint NOT NULL,
  bytes_read       bigint NOT NULL,
  rows_inserted    bigint NOT NULL,
  rows_updated     bigint NOT NULL,
  rows_deleted     bigint NOT NULL,
  rows_quarantined bigint NOT NULL,
  rows_total       bigint NOT NULL,
  is_changed       boolean NOT NULL,
  columns          jsonb NOT NULL,
  source_rows      bigint,
  source_checksums jsonb,
  warnings         jsonb NOT NULL,
  PRIMARY KEY (source, table_name, load_id)
);
CREATE INDEX IF NOT EXISTS loads_by_time ON ingestion.loads (source, table_name, loaded_at);

CREATE TABLE IF NOT EXISTS ingestion.quarantine (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source         text NOT NULL,
  table_name     text NOT NULL,
  identity       text NOT NULL,
  key            text[],
  cursor_value   text,
  column_name    text NOT NULL,
  reason         text NOT NULL,
  row            json NOT NULL,
  position       text NOT NULL,
  load_id        text NOT NULL,
  quarantined_at timestamptz NOT NULL,
  closed_at      timestamptz,
  closed_because text CHECK (closed_because IN ('replayed', 'mended', 'deleted', 'erased')),
  erased_at      timestamptz,
  erased_by      text
);
CREATE UNIQUE INDEX IF NOT EXISTS quarantine_open ON ingestion.quarantine (source, table_name, identity)
  WHERE closed_at IS NULL;

CREATE TABLE IF NOT EXISTS ingestion.lake_files (
  path       text PRIMARY KEY,
  source     text NOT NULL,
  table_name text NOT NULL,
  load_id    text NOT NULL,
  load_date  date NOT NULL,
  row_count  bigint NOT NULL,
  byte_count bigint NOT NULL,
  loaded_at  timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS lake_files_by_table ON ingestion.lake_files (source, table_name, loaded_at);

CREATE TABLE IF NOT EXISTS ingestion.snapshot_ranges (
  source     text NOT NULL,
  table_name text NOT NULL,
  number     integer NOT NULL,
  condition  text,
  position   text,
  row_count  bigint,
  files      jsonb NOT NULL DEFAULT '[]',
  PRIMARY KEY (source, table_name, number)
);

CREATE TABLE IF NOT EXISTS ingestion.streams (
  source        text PRIMARY KEY,
  position      text NOT NULL,
  gtid          text,
  server        text NOT NULL,
  lake_position text NOT NULL,
  lake_gtid     text,
  lake_server   text NOT NULL,
  committed_at  timestamptz,
  updated_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE IF NOT EXISTS ingestion.captures (
  source        text NOT NULL,
  table_name    text NOT NULL,
  state         text NOT NULL CHECK (state IN ('live', 'stopped')),
  reason        text,
  position      text NOT NULL,
  consistent_at text NOT NULL,
  lake_position text NOT NULL,
  stale_since   text,
  emptied_at    text,
  dropped       text[] NOT NULL DEFAULT '{}',
  changed_at    text,
  rows_inserted bigint NOT NULL DEFAULT 0,
  rows_updated  bigint NOT NULL DEFAULT 0,
  rows_deleted  bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (source, table_name)
);

CREATE TABLE IF NOT EXISTS ingestion.resnapshots (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source        text NOT NULL,
  table_name    text NOT NULL,
  relation      text NOT NULL,
  position      text NOT NULL,
  columns       text[] NOT NULL,
  scope         text,
  requested_at  timestamptz NOT NULL DEFAULT now(),
  merged_at     timestamptz,
  rows_changed  bigint,
  error         text
);

CREATE TABLE IF NOT EXISTS ingestion.attempts (
  load_id    text NOT NULL,
  source     text NOT NULL,
  table_name text NOT NULL,
  directory  text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, table_name, load_id)
);
