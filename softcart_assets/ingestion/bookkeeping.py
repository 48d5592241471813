"""The schema `ingestion` in the staging warehouse: what was loaded, up to where, what was not.

The definition of its tables stands here, and only here; likewise the reading of what a table's last load left.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from softcart_assets.ingestion.proof.digest import Checksums

RAW_TABLES_LOCK = "softcart raw tables"
"""The advisory lock that raw tables are loaded under, shared, and models are built under, alone."""

DDL = """
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
COMMENT ON TABLE ingestion.positions IS 'The source position that each raw table stands at, committed with its rows.';

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
COMMENT ON TABLE ingestion.loads IS 'One row per table and committed load. rows_quarantined: rows out of the table then, in all; '
  'rows_total: current rows. source_rows and source_checksums: what the source said at the position, quarantined rows '
  'left out; NULL if it was not asked.';

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
COMMENT ON TABLE ingestion.quarantine IS 'Rows of the sources that raw could not take, whole, with the reason. Open until '
  'replayed (on request), mended or deleted at the source, or erased: then by whom, and key and row are empty.';

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
COMMENT ON TABLE ingestion.lake_files IS 'The change files that count, by path under the lake''s root; one not listed is of a '
  'load that did not commit.';

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
COMMENT ON TABLE ingestion.snapshot_ranges IS 'The key ranges of a big table that is being copied, as conditions at the source; with '
  'a position: copied, the rows are in the part table and the lake files written. Gone when the table''s load commits.';

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
COMMENT ON TABLE ingestion.streams IS 'Up to where a source''s log is applied: to raw and history (position), to the lake''s '
  'listed files (lake_position); gtid is the same place for another server. committed_at: of the last change applied.';

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
COMMENT ON TABLE ingestion.captures IS 'The tables that the log''s changes are applied to. A live one stands at its own position or '
  'its stream''s, whichever is later, a stopped one at its own; up to consistent_at some of its rows may be newer. stale_since: '
  'since there, rows may have changed that the log does not show, and have to be read again. emptied_at: where all its rows went at once. '
  'dropped: columns of raw that the source no longer has, as somebody knows. changed_at: '
  'position of its last change; rows_…: row changes since its last row in loads.';

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
COMMENT ON TABLE ingestion.resnapshots IS 'Rows read from a source again at a position, in the relation named, which whoever holds the '
  'stream merges into raw once it is past that position. scope: which of raw''s rows they are all of, as a condition (NULL: all).';

CREATE TABLE IF NOT EXISTS ingestion.attempts (
  load_id    text NOT NULL,
  source     text NOT NULL,
  table_name text NOT NULL,
  directory  text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (source, table_name, load_id)
);
COMMENT ON TABLE ingestion.attempts IS 'Loads that began to write lake files; the commit removes its row, so what is found '
  'here by a later load was killed, and its files are removed.';
"""


def prepare(connection: psycopg.Connection, raw_schema: str) -> None:
    """Create what is missing of the bookkeeping tables, and the schema of the raw tables. Safe at any time."""
    with connection.transaction():
        # Two sessions that create the same thing at once would fail each other.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('ingestion ddl'))")
        connection.execute(DDL)  # one string of many statements
        connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{raw_schema}"')


@dataclass(frozen=True)
class LastLoad:
    """What the last committed load of a table left: up to where, and what the source said of itself there."""

    load_id: str
    position: str
    cursor_value: str | None
    columns: list[dict]
    source_rows: int | None
    source_checksums: Checksums | None
    rows_total: int


def last_load(connection: psycopg.Connection, source: str, table: str) -> LastLoad | None:
    """The last committed load of a table; None if there was none."""
    row = connection.execute(
        "SELECT load_id, p.position, p.cursor_value, l.columns, l.source_rows, l.source_checksums, l.rows_total"
        " FROM ingestion.positions p JOIN ingestion.loads l USING (source, table_name, load_id)"
        " WHERE source = %s AND table_name = %s",
        (source, table),
    ).fetchone()
    return LastLoad(*row) if row else None


def loaded_positions(connection: psycopg.Connection, source: str) -> dict[str, str]:
    """The position that each loaded table of a source stands at: where it was loaded, or up to where its log is applied."""
    rows = connection.execute(
        "SELECT table_name, greatest(p.position COLLATE \"C\", c.position, CASE c.state WHEN 'live' THEN s.position END)"
        " FROM ingestion.positions p LEFT JOIN ingestion.captures c USING (source, table_name)"
        " LEFT JOIN ingestion.streams s USING (source) WHERE source = %s",
        (source,),
    )
    return {str(table): str(position) for table, position in rows}
