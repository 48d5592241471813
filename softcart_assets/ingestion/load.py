"""Ingestion, as the rest of the project sees it.

Load tables, replay quarantined rows, ask what changed.

Tables that are read go through `engine`, tables whose log is followed through `capture`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.capture.bounded import catch_up
from softcart_assets.ingestion.connectors import Changes, connector
from softcart_assets.ingestion.engine.tables import read_tables
from softcart_assets.ingestion.errors import LoadsFailed
from softcart_assets.ingestion.request import LoadRequest, LoadResult, Progress
from softcart_assets.lines.model import Source

__all__ = [
    "Changes",
    "LoadRequest",
    "LoadResult",
    "Progress",
    "changed_tables",
    "load",
    "loaded_positions",
    "replay",
]


def load(request: LoadRequest, tables: Sequence[str] | None = None) -> Iterator[LoadResult]:
    """Load tables of a source, by default all, and yield each result as soon as it is committed.

    All tables of a source with snapshots are read at one position. A table that fails does not stop
    the others: at the end all failures are raised together as `LoadsFailed`. Running a failed load
    again is always safe. Before the first table, `ServerUnreachable`, `MissingGrant` or `TableBusy`
    may be raised by themselves.
    """
    source = request.source
    chosen = [source.table(name) for name in tables] if tables is not None else list(source.tables)
    has_log = connector(source.kind).has_log
    captured = [table for table in chosen if has_log and table.strategy == "cdc"]
    failures: dict[str, Exception] = {}
    try:
        yield from read_tables(request, [table for table in chosen if table not in captured])
    except LoadsFailed as failed:
        failures |= failed.failures
    if captured:
        try:
            yield from catch_up(request, captured)
        except LoadsFailed as failed:
            failures |= failed.failures
    if failures:
        raise LoadsFailed(source.name, failures)


def replay(request: LoadRequest) -> Iterator[LoadResult]:
    """Read the rows of the request's `released` quarantine entries again, by loading their tables.

    Rows that are fit now leave the quarantine.
    """
    with request.staging.connect() as session:
        bookkeeping.prepare(session, request.source.schema)
        rows = session.execute(
            "SELECT DISTINCT table_name FROM ingestion.quarantine WHERE source = %s AND id = "
            "ANY(%s)",
            (request.source.name, list(request.released)),
        ).fetchall()
    yield from load(request, [table for (table,) in rows])


def changed_tables(source: Source, connection: Any, since: Mapping[str, str]) -> Changes:
    """Which tables changed since their positions, as `loaded_positions` gives them.

    For a sensor: cheap. It may name a table that did not change, and never misses one that did. A
    source that cannot be read raises `ServerUnreachable` or `IngestionError`. So "no change" is
    only ever the answer of a source that was read.
    """
    return connector(source.kind).changed_tables(source, connection, since)


def loaded_positions(staging: PostgresConnection, source: Source) -> dict[str, str]:
    """The position that each loaded table of a source stands at."""
    with staging.connect() as connection:
        bookkeeping.prepare(connection, source.schema)
        return bookkeeping.loaded_positions(connection, source.name)
