COMMENT ON TABLE ingestion.positions IS
  'The source position of each raw table. It commits together with the rows.';

COMMENT ON TABLE ingestion.loads IS
  'One row per table and committed load. rows_total: current rows of raw afterwards. rows_quarantined: open entries of '
  'the quarantine afterwards. source_rows and source_checksums: what the source answered at the position, without '
  'quarantined rows. NULL if it was not asked.';

COMMENT ON TABLE ingestion.quarantine IS
  'Source rows that raw could not take, whole, with the reason. An entry stays open until it is replayed on request, '
  'the row is mended or deleted at the source, or its values are erased. erased_by says who erased them. Its key and '
  'row are empty then.';

COMMENT ON TABLE ingestion.lake_files IS
  'The change files that count, by path under the root of the lake. A file that is not listed belongs to a load that '
  'did not commit.';

COMMENT ON TABLE ingestion.snapshot_ranges IS
  'The key ranges of a big table while it is copied. condition: the range, as SQL at the source. A range with a position '
  'is copied: its rows are in the part table and its lake files are written. The commit of the load removes the ranges.';

COMMENT ON TABLE ingestion.streams IS
  'How far the log of a source is applied. position: in raw and history. lake_position: in the listed files of the '
  'lake. gtid: the same place, for another server. committed_at: when the last applied change was committed.';

COMMENT ON TABLE ingestion.captures IS
  'The tables that follow the log of their source. A live one stands at its own position or that of its stream, '
  'whichever is later. A stopped one stands at its own. consistent_at: before it, some rows may be newer than the '
  'position. stale_since: rows may have changed there without a trace in the log, and must be read again. emptied_at: '
  'where all rows went at once. dropped: columns of raw that are known to be gone at the source. changed_at: position '
  'of the last change. rows_inserted, rows_updated and rows_deleted: changes since the last row in ingestion.loads.';

COMMENT ON TABLE ingestion.resnapshots IS
  'Rows that were read from a source again, in the table that relation names. The holder of the stream merges them '
  'into raw when the stream is past their position. scope: a filter for the rows of raw that they replace. NULL: all.';

COMMENT ON TABLE ingestion.attempts IS
  'Loads that began to write lake files. Their commit removes the row. A later load that finds one knows that the '
  'load was killed, and removes its files.';
