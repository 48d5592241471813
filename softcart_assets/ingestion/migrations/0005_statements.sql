CREATE TABLE ingestion.statements (
  source         text NOT NULL,
  table_name     text NOT NULL,
  row_count      bigint,
  columns        jsonb,
  asked_at       timestamptz,
  asked_position text,
  lost_because   text,
  PRIMARY KEY (source, table_name),
  CHECK ((row_count IS NULL) = (lost_because IS NOT NULL))
);
COMMENT ON TABLE ingestion.statements IS
  'What the source states of each table at the position of its raw table, without quarantined rows. row_count: its '
  'number of rows. columns: by name, the type in raw and the checksum. lost_because: why nothing is stated. asked_at '
  'and asked_position: when and where the source last computed all of it. Since then, captured changes were added.';

-- Until now, each load had the statement, and took it over from the load before if it found no change. So the earliest
-- load with the same statement tells when the source was asked at the latest. Changes that were captured since the last
-- load are not in its statement.
INSERT INTO ingestion.statements (source, table_name, row_count, columns, asked_at, asked_position)
SELECT DISTINCT ON (l.source, l.table_name) l.source, l.table_name, l.source_rows,
       (SELECT coalesce(jsonb_object_agg(c ->> 'name',
                 jsonb_build_array(c ->> 'target_type', l.source_checksums ->> (c ->> 'name'))), '{}')
        FROM jsonb_array_elements(l.columns) c WHERE l.source_checksums ? (c ->> 'name')),
       asked.loaded_at, asked.position
FROM ingestion.loads l
JOIN ingestion.positions p USING (source, table_name, load_id)
JOIN ingestion.loads asked ON (asked.source, asked.table_name, asked.source_rows, asked.source_checksums)
  = (l.source, l.table_name, l.source_rows, l.source_checksums)
WHERE NOT EXISTS (
  SELECT FROM ingestion.captures c WHERE (c.source, c.table_name) = (l.source, l.table_name)
    AND (c.rows_inserted + c.rows_updated + c.rows_deleted > 0 OR c.stale_since IS NOT NULL))
ORDER BY l.source, l.table_name, asked.loaded_at;

ALTER TABLE ingestion.loads DROP COLUMN source_rows, DROP COLUMN source_checksums;
COMMENT ON TABLE ingestion.loads IS
  'One row per table and committed load. rows_total: current rows of raw afterwards. rows_quarantined: open entries of '
  'the quarantine afterwards.';
