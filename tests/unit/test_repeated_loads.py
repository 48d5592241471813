"""The stream of a source without one log: what it tells while a table fails, and when what it
listens to ends.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from softcart_assets.connections import MongoConnection, PostgresConnection
from softcart_assets.ingestion.capture import repeated
from softcart_assets.ingestion.capture.job import Job, Status
from softcart_assets.ingestion.connectors.mongodb.changes import listening
from softcart_assets.ingestion.connectors.protocol import Changes
from softcart_assets.ingestion.errors import LoadsFailed, SourceLost, SourceRefused
from softcart_assets.lines.model import Source, Table

SOURCE = Source(
    "t",
    "mongodb",
    "",
    tuple(Table(name, "", ("_id",), "cdc", ()) for name in ("docs", "others")),
    owner="team:test",
)


def test_a_stream_whose_table_fails_lags_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(
        SOURCE,
        None,
        PostgresConnection("X", "h", 1, "u", "p", "d"),
        "",
        Status("t", complete_at=0.0),
    )
    stopped = threading.Event()
    broken: set[str] = {"docs"}
    seen: list[tuple[bool, str | None]] = []

    def read(request: object, tables: Collection[Table]) -> Iterator[Any]:
        none = {"quarantined": 0, "inserted": 0, "updated": 0, "deleted": 0}
        for each in tables:
            if each.name not in broken:
                yield SimpleNamespace(table=each.name, position="p", **none)
        if failures := {
            each.name: SourceRefused("It is broken.") for each in tables if each.name in broken
        }:
            raise LoadsFailed("t", failures)

    def listen(seconds: float) -> Collection[str]:
        # A table that does not fail is loaded, then nothing happens, then the other one is mended,
        # and then it changes without a pause.
        if len(seen) == 2:
            broken.clear()
        return [["others"], [], ["docs"], ["docs"]][min(len(seen), 3)]

    @contextlib.contextmanager
    def held(*_: object, **__: object) -> Iterator[Callable[[float], Collection[str]]]:
        yield listen

    def report() -> None:
        seen.append((job.status.lag_seconds > 10**6, job.status.problem))
        if len(seen) == 4:
            stopped.set()

    monkeypatch.setattr(repeated, "_held", held)
    monkeypatch.setattr(repeated, "read_tables", read)
    asked = SimpleNamespace(changed_tables=lambda *_: Changes("p", {}))
    monkeypatch.setattr(repeated, "connector", lambda _: asked)
    monkeypatch.setattr(repeated, "raw_tables_shared", lambda *_: contextlib.nullcontext())
    repeated.repeat(job, stopped, report)
    told = "tables that failed are tried again: docs"
    assert seen == [(True, told), (True, told), (True, told), (False, None)]


class Watched:
    """A change stream of MongoDB, which is closed after its last event."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = deque(events)

    @property
    def alive(self) -> bool:
        return bool(self.events)

    def try_next(self) -> dict[str, Any] | None:
        return self.events.popleft() if self.events else None


def test_the_end_of_what_is_listened_to_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that has ended says nothing more. Its last event has no name of a collection."""
    stream = Watched([{"_id": 1, "ns": {"db": "d"}}, {"_id": 2}])
    database = SimpleNamespace(watch=lambda *_, **__: contextlib.nullcontext(stream))
    client = contextlib.nullcontext({"d": database})
    monkeypatch.setattr(MongoConnection, "connect", lambda _: client)
    with (
        pytest.raises(SourceLost, match="has ended"),
        listening(SOURCE, MongoConnection("X", "mongodb://h", "d")) as listen,
    ):
        listen(60)
