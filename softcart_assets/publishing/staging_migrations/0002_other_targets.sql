-- Another database that gets what production holds may be behind it, so the notes that it needs stay.
CREATE TABLE publication_changes._needed (
  target text NOT NULL,
  table_name text NOT NULL,
  capture text NOT NULL,
  snapshot pg_snapshot NOT NULL,
  asked_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (target, table_name)
);
COMMENT ON TABLE publication_changes._needed IS
  'Changes that these snapshots do not see are kept for a target, for some days after it asked.';
