"""Who may apply a source's log. An advisory lock of the staging warehouse allows one session at a
time, a stream or a load.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from softcart_assets import locks
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.errors import TableBusy
from softcart_assets.lines.model import Source

_LOCK_SECONDS = 600
_RETRY_SECONDS = 1.0
"""A stream that waits looks so often whether it is to stop."""
_STREAM = "softcart stream "


class Finished(Exception):
    """The loop was asked to stop."""


@contextmanager
def hold(
    job: Job, *, is_stream: bool, stopped: threading.Event | None = None
) -> Iterator[psycopg.Connection]:
    """Open a connection that holds the source, so that nobody else applies its log.

    A stream gives way to a bounded run, which waits for it. A second stream fails at once. Raises
    `TableBusy`, which names the holder.
    """
    source = job.source
    # A thread's number is the process's for its main thread, and tells two streams of one process
    # apart.
    process = f"{socket.gethostname()}:{threading.get_native_id()}"
    # The name is how others see who holds the source. PostgreSQL cuts it off at 63 bytes.
    name = f"softcart {'stream' if is_stream else 'load'} {source.name} {process}"[:63]
    with job.staging.connect(application_name=name) as connection:
        # The lock belongs to the session, whatever its transactions do. So no transaction is open
        # while it waits.
        connection.autocommit = True
        bookkeeping.prepare(connection, source.schema)
        if is_stream:
            _take_as_stream(connection, source, name, stopped)
        else:
            try:
                locks.take(connection, lock_of(source), wait_seconds=_LOCK_SECONDS)
            except locks.LockHeld as held:
                raise _busy(source, held.holder) from None
        connection.autocommit = False
        yield connection


def _take_as_stream(
    connection: psycopg.Connection, source: Source, name: str, stopped: threading.Event | None
) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        for session in locks.sessions(connection, lock_of(source)):
            # A session of our own that just broke may take a moment to end.
            if session.application.startswith(_STREAM) and session.application != name:
                raise TableBusy(
                    f"{source.schema}: source {source.name!r} is already followed by {session}. "
                    "Only one stream can: "
                    "stop that one first."
                )
        try:
            # In short waits: PostgreSQL's wait for a lock would not notice that the stream is to
            # stop.
            locks.take(connection, lock_of(source), wait_seconds=_RETRY_SECONDS)
            return
        except locks.LockHeld as held:
            if stopped and stopped.is_set():
                raise Finished from None
            if time.monotonic() > deadline:
                raise _busy(source, held.holder) from None


def _busy(source: Source, holder: locks.LockSession | None) -> TableBusy:
    return TableBusy(
        f"{source.schema}: source {source.name!r} has been held for {_LOCK_SECONDS} s by "
        f"{holder or 'somebody'}. "
        "Wait for it or end it, then try again."
    )


def lock_of(source: Source) -> str:
    """The name of a source's lock."""
    return f"softcart capture {source.name}"


def is_followed(job: Job, connection: psycopg.Connection) -> bool:
    """Return whether a stream follows the source, or waits for it."""
    found = locks.sessions(connection, lock_of(job.source))
    return any(session.application.startswith(_STREAM) for session in found)


def is_wanted(job: Job, holder: psycopg.Connection, connection: psycopg.Connection) -> bool:
    """Return whether somebody waits for the source that `holder` has, or waits to build models.

    Models are built from raw tables that do not change.
    """
    others = locks.sessions(connection, lock_of(job.source))
    if any(session.process != holder.info.backend_pid for session in others):
        return True
    builds = locks.sessions(connection, bookkeeping.RAW_TABLES_LOCK)
    return any(not session.holds and not session.shared for session in builds)


@contextmanager
def raw_tables_shared(job: Job, stopped: threading.Event) -> Iterator[None]:
    """Keep models from being built while the block runs. Waits until no build is running."""
    name = f"softcart stream raw {job.source.name}"[:63]
    with job.staging.connect(autocommit=True, application_name=name) as session:
        while True:
            try:
                locks.take(
                    session, bookkeeping.RAW_TABLES_LOCK, shared=True, wait_seconds=_RETRY_SECONDS
                )
                break
            except locks.LockHeld:
                if stopped.is_set():
                    raise Finished from None
        yield
