CREATE SCHEMA IF NOT EXISTS production;
CREATE SCHEMA IF NOT EXISTS production_meta;
CREATE TABLE IF NOT EXISTS production_meta.current (
  is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
  version bigint NOT NULL,
  slot integer NOT NULL,
  switch_xid xid8 NOT NULL,
  published_at timestamptz NOT NULL,
  row_counts jsonb NOT NULL
);
COMMENT ON TABLE production_meta.current IS
  'The published version: the slot that holds it, the transaction that switched to it, and rows per table.';
