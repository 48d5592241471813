-- A clock may be set back or run ahead, so a mark tells what a load has counted already. Entries of
-- the last release have none: the next load of their table counts them once more.
ALTER TABLE ingestion.quarantine ADD COLUMN is_counted boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN ingestion.quarantine.is_counted IS
  'For captured tables: whether a load has counted that the entry was recorded, or closed.';
CREATE INDEX quarantine_uncounted ON ingestion.quarantine (source, table_name) WHERE NOT is_counted;
