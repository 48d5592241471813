"""Finds the topics that have new messages, and what keeps topics from being read."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from softcart_assets.connections import KafkaConnection, ServerUnreachable
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.kafka.positions import Place, place_of, position_text
from softcart_assets.ingestion.connectors.kafka.reader import KafkaReader, opened
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.ingestion.errors import IngestionError, MissingTable, SourceLost
from softcart_assets.lines.model import Source

_PAUSE_SECONDS = 0.25


def changed_tables(
    source: Source, connection: KafkaConnection, since: Mapping[str, str]
) -> Changes:
    """Return the present time, and the tables whose topics have messages behind their positions."""
    with opened(source, connection) as [reader, *_]:
        now = _ends(reader)
    changed = {
        name: position_text(place)
        for name, place in now.items()
        if _is_behind(place_of(since.get(name, "")), place)
    }
    return Changes(position_text(None), changed)


def _is_behind(before: Place | None, now: Place) -> bool:
    if before is None:
        return True
    same = (before.topic, before.id, before.offsets) == (now.topic, now.id, now.offsets)
    return not same


def _ends(reader: KafkaReader) -> dict[str, Place]:
    """Return the ends of the topics. Those without a message are left out."""
    found = {}
    for table in reader.source.tables:
        try:
            found[table.name] = reader.place(table)
        except MissingTable:
            continue
    return found


@contextmanager
def listening(
    source: Source, connection: KafkaConnection
) -> Iterator[Callable[[float], Collection[str]]]:
    """Return what waits for new messages, see `Connector.listening`."""
    with opened(source, connection) as [reader, *_]:
        seen = _ends(reader)

        def listen(seconds: float) -> Collection[str]:
            nonlocal seen
            deadline = time.monotonic() + seconds
            while True:
                now = _ends(reader)
                changed = {name for name, place in now.items() if place != seen.get(name)}
                seen = now
                if changed or time.monotonic() > deadline:
                    return changed
                time.sleep(_PAUSE_SECONDS)

        yield listen


def examine(source: Source, connection: KafkaConnection) -> Iterator[Finding]:
    """Connect, and check that each topic can be read. Raises `ServerUnreachable`."""
    found = False
    with opened(source, connection) as [reader, *_]:
        for table in source.tables:
            try:
                reader.columns(table, ())
            except SourceLost as error:
                raise ServerUnreachable(str(error)) from None
            except MissingTable as error:
                # It comes with the first row.
                found = True
                yield Finding("note", f"{connection.prefix}: {error}")
            except IngestionError as error:
                found = True
                yield Finding("blocks", f"{connection.prefix}: {error}")
    if not found:
        yield Finding("ok", f"{connection.prefix}: reaches Kafka")
