"""Ingestion: tables of operational databases into the raw layer and the lake, exactly, at a stated position.

This is the public face of the engine; it knows no Dagster. `load` moves data, `compare` proves it, `changed_tables` says what is
worth loading. MySQL positions are `file:position` and order as `position.Position` says; MongoDB positions are
`time|documents|latest cursor`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.connectors.mongodb import reader as mongodb
from softcart_assets.ingestion.connectors.mysql import reader as mysql
from softcart_assets.ingestion.engine import LoadResult, Progress, load, replay
from softcart_assets.ingestion.errors import (
    IngestionError,
    LoadsFailed,
    MissingGrant,
    MissingTable,
    PositionPurged,
    SchemaChanged,
    SourceLost,
    TableBehind,
    TableBusy,
    TargetFailed,
    UnknownEntry,
    UnsupportedColumn,
)
from softcart_assets.ingestion.proof.reconcile import Difference, Reconciliation, reconcile
from softcart_assets.ingestion.proof.verify import Comparison, compare
from softcart_assets.ingestion.quarantine import (
    QuarantinedRow,
    QuarantineSummary,
    entries_with,
    erase,
    list_quarantine,
    show,
    summarize,
)
from softcart_assets.lines.model import Source

__all__ = [
    "Changes",
    "Comparison",
    "Difference",
    "IngestionError",
    "LoadResult",
    "LoadsFailed",
    "MissingGrant",
    "MissingTable",
    "PositionPurged",
    "Progress",
    "QuarantineSummary",
    "QuarantinedRow",
    "Reconciliation",
    "SchemaChanged",
    "SourceLost",
    "TableBehind",
    "TableBusy",
    "TargetFailed",
    "UnknownEntry",
    "UnsupportedColumn",
    "changed_tables",
    "compare",
    "entries_with",
    "erase",
    "list_quarantine",
    "load",
    "loaded_positions",
    "reconcile",
    "replay",
    "show",
    "summarize",
]


@dataclass(frozen=True)
class Changes:
    """What changed at a source: the tables, each with the position of its last change seen.

    `position`: up to where the source was looked at. Tables not in `tables` stood still since their positions until there.
    """

    position: str
    tables: dict[str, str]


def changed_tables(
    source: Source, connection: MySQLConnection | MongoConnection, since: Mapping[str, str]
) -> Changes:
    """Which declared tables changed since their positions (as `loaded_positions` gives them); one without a position did.

    For a sensor: cheap, and rather a table too many than one too few. A source that cannot be read raises
    `ServerUnreachable` or `IngestionError`; no change is only ever the answer of a source that was read.
    """
    if not isinstance(connection, MySQLConnection):
        return Changes(*mongodb.changed_tables(source, connection, since))
    return Changes(*mysql.changed_tables(source, connection, since))


def loaded_positions(staging: PostgresConnection, source: Source) -> dict[str, str]:
    """The position that each loaded table of a source stands at."""
    with staging.connect() as connection:
        bookkeeping.prepare(connection, source.schema)
        return bookkeeping.loaded_positions(connection, source.name)
