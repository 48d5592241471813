"""Tells people which files of a source were loaded, and which were not and why."""

from __future__ import annotations

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Source

_SHOWN = 5


def state(source: Source, staging: PostgresConnection) -> list[str]:
    """Return a line per table, and one for each of the last files that cannot be read."""
    with staging.connect() as session:
        known = session.execute("SELECT to_regclass('ingestion.files') IS NOT NULL").fetchone()
        if not known or not known[0]:
            return []
        counts = session.execute(
            "SELECT table_name, string_agg(files || ' ' || state, ', ' ORDER BY state) FROM"
            " (SELECT table_name, state, count(*) AS files FROM ingestion.files WHERE source = %s"
            " GROUP BY 1, 2) c GROUP BY 1 ORDER BY 1",
            (source.name,),
        ).fetchall()
        rows = session.execute(
            "SELECT table_name, count(*) FROM ingestion.file_duplicates WHERE source = %s"
            " GROUP BY 1",
            (source.name,),
        )
        duplicates: dict[str, int] = dict(rows.fetchall())
        unread = session.execute(
            "SELECT table_name, state, name, reason FROM ingestion.files WHERE source = %s AND"
            " state IN ('waiting', 'broken') ORDER BY seen_at DESC, name LIMIT %s",
            (source.name, _SHOWN),
        ).fetchall()
    lines = [
        f"{source.name}.{table}: files: {files}; "
        f"{duplicates.get(table, 0):,} records do not count, as another has their key"
        for table, files in counts
    ]
    return lines + [
        f"  {source.name}.{table}, {state}: {name}: {reason}"
        for table, state, name, reason in unread
    ]
