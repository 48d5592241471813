-- What the tables of the slots hold, so that a publication writes only what differs from it.
CREATE TABLE production_meta.contents (
  slot integer NOT NULL,
  table_name text NOT NULL,
  capture text,
  snapshot text,
  row_count bigint NOT NULL,
  number numeric NOT NULL,
  version bigint,
  stale_rows bigint NOT NULL DEFAULT 0,
  figures jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (slot, table_name)
);
COMMENT ON TABLE production_meta.contents IS
  'The rows in each table of a slot: their number, the sum of a number per row, the snapshot of staging that they are '
  'of (null: unknown), the publication that first showed them (null: none yet), rows written since VACUUM, and sums '
  'that audits carry forward.';
