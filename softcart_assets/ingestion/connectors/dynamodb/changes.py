"""Finds the tables that changed since they were loaded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from softcart_assets.connections import DynamoConnection
from softcart_assets.ingestion.connectors.dynamodb.errors import explained
from softcart_assets.ingestion.connectors.dynamodb.positions import (
    figures_of,
    place_of,
    time_of,
)
from softcart_assets.ingestion.connectors.dynamodb.reader import DynamoReader
from softcart_assets.ingestion.connectors.dynamodb.streams import KEPT, check
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.ingestion.errors import PositionPurged
from softcart_assets.lines.model import Source, Table


def changed_tables(
    source: Source, connection: DynamoConnection, since: Mapping[str, str]
) -> Changes:
    """Return the present time, and the tables that changed since their position.

    A followed table's stream tells. Of another table, DynamoDB's own figures do, which are renewed
    every six hours and do not show a change that leaves number and size alike.
    """
    reader = DynamoReader(source, connection)
    now = {table.name: reader.position(table) for table in source.tables}
    changed = {
        table.name: now[table.name]
        for table in source.tables
        if _has_changed(reader, table, since.get(table.name, ""), now[table.name])
    }
    return Changes(max(each.partition("|")[0] for each in now.values()), changed)


def _has_changed(reader: DynamoReader, table: Table, since: str, now: str) -> bool:
    before, current = place_of(since), place_of(now)
    if not since or bool(before) != bool(current):
        return True
    if not before or not current:
        return figures_of(since) != figures_of(now)
    age = time_of(now) - time_of(since)
    # A load now and then, even if nothing happened: its place has to stay in the stream.
    if age > KEPT / 4:
        return True
    try:
        with explained(reader.connection, reader.asset(table)):
            stream = reader.stream(table, before, age)
            check(before, current.stream, stream.listed(), age, reader.asset(table))
            return next(stream.events(datetime.now(UTC)), None) is not None
    except PositionPurged:
        return True  # the load says it
