"""Finds the collections that changed since they were loaded."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.connectors.mongodb.errors import explained
from softcart_assets.ingestion.connectors.mongodb.positions import is_apart, token_of
from softcart_assets.ingestion.connectors.mongodb.reader import MongoReader, opened
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.ingestion.errors import SourceLost
from softcart_assets.lines.model import Source, Table

_AWAIT_MILLISECONDS = 50
_TOGETHER_SECONDS = 0.05


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
    # Asked from there, the stream has less to look through the next time.
    unchanged = {name: position for name, position in now.items() if name not in changed}
    return Changes(max(now.values()).split("|", 1)[0], changed, unchanged)


@contextmanager
def listening(
    source: Source, connection: MongoConnection
) -> Iterator[Callable[[float], Collection[str]]]:
    """See `Connector`."""
    tables = {each.at_source: each.name for each in source.tables if each.strategy == "cdc"}
    with (
        connection.connect() as client,
        explained(connection, source.schema),
        # Where it happened is enough: the loads read what happened.
        client[connection.database].watch(
            [{"$project": {"ns": 1}}], max_await_time_ms=_AWAIT_MILLISECONDS
        ) as stream,
    ):

        def listen(seconds: float) -> Collection[str]:
            found: set[str] = set()
            ends = time.monotonic() + seconds
            while time.monotonic() < ends:
                event = stream.try_next()
                if not stream.alive:
                    raise SourceLost(
                        f"{source.schema}: the change stream of MongoDB's database "
                        f"{connection.database!r} has ended, as when a database is dropped. "
                        "Another one is opened."
                    )
                if event is None and found:
                    break
                # Dropping a whole database names no collection.
                name = tables.get(event["ns"].get("coll", "")) if event else None
                if name and not found:
                    # A little more: what comes close together belongs to one load.
                    ends = min(ends, time.monotonic() + _TOGETHER_SECONDS)
                found |= {name} if name else set()
            return found

        yield listen


def _has_changed(reader: MongoReader, table: Table, since: str, now: str) -> bool:
    before = token_of(since) if table.strategy == "cdc" else None
    if before and token_of(now):
        return reader.has_changed_since(table, before)
    return is_apart(since, now) or before is not None
