ALTER TABLE ingestion.streams ADD COLUMN complete_at timestamptz;
COMMENT ON COLUMN ingestion.streams.complete_at IS
  'What was committed at the source until then is in the raw tables. NULL: not known yet.';
