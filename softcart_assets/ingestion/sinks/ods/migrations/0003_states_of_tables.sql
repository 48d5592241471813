CREATE OR REPLACE VIEW ods.positions AS
SELECT
  t.name,
  t.source,
  t.table_name,
  coalesce(s.state, 'missing') AS state,
  s.position,
  s.committed_at,
  s.complete_at,
  s.updated_at,
  s.reason
FROM ods._totals AS t
LEFT JOIN ingestion.table_states AS s USING (source, table_name);
COMMENT ON VIEW ods.positions IS
  'Where each total stands: as its table in ingestion.table_states. complete_at: what was committed at the source until '
  'then is counted. NULL: nobody knows. state missing: the table was never loaded.';
