"""The endless stream of a kind of source without one log: loads that begin as soon as a table
changes.

Each load brings rows, totals and position in one commit, as any other does. So a stream that is
killed is as exact as a load that is killed. What it adds is that it listens.

Listening only makes it faster. What is told may be lost, so each table is also asked every few
seconds, as a sensor asks. Only what was asked or loaded counts as up to date.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg

from softcart_assets.connections import ServerUnreachable
from softcart_assets.ingestion.capture.holding import (
    Finished,
    hold_for_stream,
    raw_tables_shared,
)
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.connectors.protocol import CannotListen
from softcart_assets.ingestion.engine.tables import read_tables
from softcart_assets.ingestion.errors import IngestionError, LoadsFailed, MissingTable, TableBusy
from softcart_assets.ingestion.request import LoadRequest, LoadResult

_LISTEN_SECONDS = 1.0
_EVERY_SECONDS = 0.25
"""Loads begin no sooner after one another. Each makes a file in the lake."""
_ASK_SECONDS = 2.0
"""A table that was not loaded or asked for so long is asked. A `Status` calls a longer silence than
five seconds a lag.
"""
_BACKOFF_SECONDS = 0.5, 30.0
_AGAIN_SECONDS = 10.0
"""The pause before tables that failed are tried once more, unless they change before."""


@dataclass(frozen=True)
class _Known:
    """Up to where raw has a table: its position there, and the time by the monotonic clock."""

    position: str
    at: float


def repeat(job: Job, stopped: threading.Event, report: Callable[[], None]) -> None:
    """Load the captured tables whenever they change, until stopped.

    A table that fails is tried again, and the others go on. `report` is called about once a second.
    Raises `TableBusy` if another stream follows the source already, and `CannotListen`.
    """
    shortest, longest = _BACKOFF_SECONDS
    delay, is_first = shortest, True
    captured, known = {*job.captured}, dict[str, _Known]()
    while not stopped.is_set():
        try:
            with _held(job, stopped, report, is_first=is_first) as listen:
                is_first = False
                # What happened before somebody listened is in the first load.
                due, failed = {*captured}, set[str]()
                while not stopped.is_set():
                    began = time.monotonic()
                    if due:
                        failed = (failed - due) | _load(job, due, known, stopped, report)
                        delay, job.status.problem = shortest, _told(failed)
                        again = began + _AGAIN_SECONDS
                        stopped.wait(began + _EVERY_SECONDS - time.monotonic())
                    due = {*listen(_LISTEN_SECONDS)}
                    due |= _changed(job, captured - due - failed, known)
                    # The others go on without a table that fails.
                    if failed and time.monotonic() > again:
                        due |= failed
                    job.status.heard_at = time.monotonic()
                    if captured <= known.keys():
                        age = time.monotonic() - min(known[name].at for name in captured)
                        job.status.complete_at = time.time() - age
                    report()
        except Finished:
            return
        except (IngestionError, ServerUnreachable, psycopg.Error) as error:
            if isinstance(error, TableBusy | CannotListen) and is_first:
                raise
            job.status.problem = " ".join(str(error).split())
            job.status.reconnects += 1
            report()
            stopped.wait(delay)
            delay = min(delay * 2, longest)


@contextmanager
def _held(
    job: Job, stopped: threading.Event, report: Callable[[], None], *, is_first: bool
) -> Iterator[Callable[[float], Collection[str]]]:
    """Hold the source, and listen to it."""

    def wait(why: str) -> None:
        job.status.problem = why
        report()

    kind = connector(job.source.kind)
    with (
        hold_for_stream(job, stopped, wait, is_first=is_first),
        kind.listening(job.source, job.connection) as listen,
    ):
        yield listen


def _told(failed: Collection[str]) -> str | None:
    names = ", ".join(sorted(failed))
    return f"tables that failed are tried again: {names}" if names else None


def _changed(job: Job, names: Collection[str], known: dict[str, _Known]) -> set[str]:
    """Ask those of some tables of which nothing is known for some seconds. Returns the tables that
    changed.
    """
    began = time.monotonic()
    since = {name: known[name].position for name in names if began - known[name].at >= _ASK_SECONDS}
    if not since:
        return set()
    source = replace(job.source, tables=tuple(t for t in job.source.tables if t.name in since))
    changes = connector(source.kind).changed_tables(source, job.connection, since)
    for name in since.keys() - changes.tables.keys():
        known[name] = _Known(changes.unchanged.get(name, since[name]), began)
    return {*changes.tables}


def _load(
    job: Job,
    names: Collection[str],
    known: dict[str, _Known],
    stopped: threading.Event,
    report: Callable[[], None],
) -> set[str]:
    """Load some tables. Models are not built meanwhile. Returns the tables that failed."""
    status = job.status

    def wait(why: str) -> None:
        status.problem = why
        report()

    # The source is not asked for its checksums each time: that would read it as a whole.
    request = LoadRequest(
        job.source, job.connection, job.staging, job.lake_uri, ask_after=None, tell=wait
    )
    tables = [table for table in job.source.tables if table.name in names]
    began, failures = time.monotonic(), dict[str, Exception]()
    with raw_tables_shared(job, stopped, wait):
        try:
            for result in read_tables(request, tables):
                _account(job, result)
                known[result.table] = _Known(result.position, began)
        except LoadsFailed as failed:
            failures = dict(failed.failures)
    for name, error in failures.items():
        state = "missing" if isinstance(error, MissingTable) else "stale"
        status.tables[name] = state, " ".join(str(error).split())
    status.flushes += 1
    status.flush_seconds = time.monotonic() - began
    status.flush_seconds_in_all += status.flush_seconds
    return {*failures}


def _account(job: Job, result: LoadResult) -> None:
    status, name = job.status, result.table
    status.tables[name] = "live", None
    status.position = result.position
    status.quarantined[name] = result.quarantined
    counts = {"insert": result.inserted, "update": result.updated, "delete": result.deleted}
    for operation, count in counts.items():
        status.changes[name, operation] += count
        status.rows += count
