"""The entry points of ingestion for the rest of the project.

They load tables, replay quarantined rows and name the tables that changed. Tables that are read go
through `engine`. Tables whose log is followed go through `capture`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping, described
from softcart_assets.ingestion.capture import holding
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
    "is_followed",
    "load",
    "load_of",
    "loaded_positions",
    "raw_versions",
    "replay",
]


def load(request: LoadRequest, tables: Sequence[str] | None = None) -> Iterator[LoadResult]:
    """Load tables of a source (by default all) and yield each result as soon as it is committed.

    All tables of a source with snapshots are read at one position. A table that fails does not stop
    the others. All failures are raised together at the end, as `LoadsFailed`. A failed load can
    always be run again. `ServerUnreachable`, `MissingGrant` or `TableBusy` may be raised before the
    first table.
    """
    source = request.source
    chosen = [source.table(name) for name in tables] if tables is not None else list(source.tables)
    has_log = connector(source.kind).has_log
    # A kind without one log for all its tables brings its own load for `cdc`: see
    # `Connector.has_log`.
    captured = [table for table in chosen if has_log and table.strategy == "cdc"]
    failures: dict[str, Exception] = {}
    try:
        yield from read_tables(request, [table for table in chosen if table not in captured])
    except LoadsFailed as failed:
        failures |= failed.failures
    if captured:
        try:
            # A table that was read and failed does not keep the captured ones from catching up.
            yield from catch_up(request, captured)
        except LoadsFailed as failed:
            failures |= failed.failures
    if failures:
        raise LoadsFailed(source.name, failures)
    described.comment(request.staging, source, chosen)


def replay(request: LoadRequest) -> Iterator[LoadResult]:
    """Load the tables of the request's `released` quarantine entries, so that these rows are read
    again.

    Rows that are fit now leave the quarantine.
    """
    with request.staging.connect() as session:
        bookkeeping.prepare(session, request.source.schema)
        rows = session.execute(
            "SELECT DISTINCT table_name FROM ingestion.quarantine WHERE source = %s AND id = "
            "ANY(%s)",
            (request.source.name, list(request.released)),
        ).fetchall()
    # The rows are read from the source again, not taken from the quarantine: they may have changed.
    yield from load(request, [table for (table,) in rows])


def changed_tables(source: Source, connection: Any, since: Mapping[str, str]) -> Changes:
    """Return the tables that changed since their positions, which `loaded_positions` gives.

    It is cheap enough for a sensor. It may name a table that did not change, but never misses one
    that did. A source that cannot be read raises `ServerUnreachable` or `IngestionError`.
    """
    return connector(source.kind).changed_tables(source, connection, since)


def loaded_positions(staging: PostgresConnection, source: Source) -> dict[str, str]:
    """Return the position of each loaded table of a source."""
    with staging.connect() as connection:
        bookkeeping.prepare(connection, source.schema)
        return bookkeeping.loaded_positions(connection, source.name)


def raw_versions(staging: PostgresConnection, source: Source) -> dict[str, str]:
    """Return the version of each loaded table of a source. It is another one after every change.

    Loads change it, also from the command line and by comparisons, and so does a stream.
    """
    with staging.connect() as connection:
        bookkeeping.prepare(connection, source.schema)
        return bookkeeping.versions(connection, source.name)


def is_followed(source: Source, staging: PostgresConnection) -> bool:
    """Return whether a stream follows the log of a source, or waits for others to do so."""
    with staging.connect() as connection:
        return holding.is_followed(source.name, connection)


def load_of(version: str) -> str:
    """Return the load in a version. Captured changes since that load change the version only."""
    return version.partition("+")[0]
