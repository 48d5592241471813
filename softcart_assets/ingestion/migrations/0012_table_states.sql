CREATE VIEW ingestion.table_states AS
SELECT
  p.source,
  p.table_name,
  CASE WHEN c.state = 'stopped' THEN 'stopped' WHEN c.stale_since IS NOT NULL THEN 'stale' WHEN c.state = 'live' THEN 'live'
    ELSE 'read' END AS state,
  CASE WHEN c.state = 'live' THEN s.position ELSE coalesce(c.position, p.position) END AS position,
  CASE WHEN c.state = 'live' THEN s.committed_at END AS committed_at,
  CASE WHEN c.stale_since IS NULL THEN CASE WHEN c.state = 'live' THEN s.complete_at ELSE p.loaded_at END END AS complete_at,
  CASE WHEN c.state = 'live' THEN s.updated_at ELSE p.loaded_at END AS updated_at,
  c.reason
FROM ingestion.positions AS p
LEFT JOIN ingestion.captures AS c USING (source, table_name)
LEFT JOIN ingestion.streams AS s USING (source);
COMMENT ON VIEW ingestion.table_states IS
  'Where each loaded table stands. state: live (its log is followed), stale (rows may have changed without a trace in the '
  'log, and are being read again), stopped (see reason), read (loaded from time to time). committed_at: when the last '
  'change was committed at the source. complete_at: what was committed there until then is in. NULL: nobody knows.';
