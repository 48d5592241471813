"""Finds the collections that changed since they were loaded."""

from __future__ import annotations

from collections.abc import Mapping

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.connectors.mongodb.positions import is_apart, token_of
from softcart_assets.ingestion.connectors.mongodb.reader import MongoReader, opened
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.lines.model import Source, Table


def changed_tables(
    source: Source, connection: MongoConnection, since: Mapping[str, str]
) -> Changes:
    """Return the present time, and the collections that changed since their position.

    A change stream tells. Without one, the number of documents or the latest cursor does. A change
    that alters neither, as in a collection declared without cursor, is not seen.
    """
    with opened(source, connection) as [reader]:
        now = {table.name: reader.position(table) for table in source.tables}
        changed = {
            table.name: now[table.name]
            for table in source.tables
            if _has_changed(reader, table, since.get(table.name, ""), now[table.name])
        }
    return Changes(max(now.values()).split("|", 1)[0], changed)


def _has_changed(reader: MongoReader, table: Table, since: str, now: str) -> bool:
    before = token_of(since) if table.strategy == "cdc" else None
    if before and token_of(now):
        return reader.has_changed_since(table, before)
    return is_apart(since, now) or before is not None
