"""Who may apply a source's log. An advisory lock of the staging warehouse allows one session at a
time, a stream or a load.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg

from softcart_assets import locks
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.bookkeeping import capture_lock
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
def hold(job: Job) -> Iterator[psycopg.Connection]:
    """Open a connection that holds the source for a bounded run, so that nobody else applies its
    log.

    A stream gives way within about a second. Raises `TableBusy`, which names the holder.
    """
    source = job.source

    def on_wait(holder: locks.LockSession | None) -> None:
        job.tell(f"Waiting for source {source.name!r}, which {holder or 'somebody'} holds.")

    with _session(job, "load") as connection:
        try:
            locks.take(
                connection,
                capture_lock(source.name),
                wait_seconds=_LOCK_SECONDS,
                on_wait=on_wait,
            )
        except locks.LockHeld as held:
            raise TableBusy(
                f"{source.schema}: source {source.name!r} has been held for {_LOCK_SECONDS} s by "
                f"{held.holder or 'somebody'}. Wait for it or end it, then try again."
            ) from None
        connection.autocommit = False
        yield connection


@contextmanager
def hold_for_stream(
    job: Job, stopped: threading.Event, on_wait: Callable[[str], None], *, is_first: bool
) -> Iterator[psycopg.Connection]:
    """Open a connection that holds the source for a stream. Waits for others until it is stopped.

    `on_wait` is called about once a second, with the holder. `is_first`: the stream has not begun
    yet. Then `TableBusy` is raised if another stream follows the source. Later, it waits for that
    stream, too. Raises `Finished` when it is stopped.
    """
    source = job.source
    with _session(job, "stream") as connection:
        while True:
            if other := _other_stream(connection, source):
                if is_first:
                    raise TableBusy(
                        f"{source.schema}: source {source.name!r} is already followed by {other}. "
                        "Only one stream can: stop that one first."
                    )
                on_wait(f"source {source.name!r} is followed by {other}")
                if stopped.wait(_RETRY_SECONDS):
                    raise Finished
                continue
            try:
                # In short waits: PostgreSQL's wait for a lock would not notice that the stream is
                # to stop.
                locks.take(connection, capture_lock(source.name), wait_seconds=_RETRY_SECONDS)
                break
            except locks.LockHeld as held:
                if stopped.is_set():
                    raise Finished from None
                on_wait(f"source {source.name!r} is held by {held.holder or 'somebody'}")
        connection.autocommit = False
        yield connection


@contextmanager
def _session(job: Job, kind: str) -> Iterator[psycopg.Connection]:
    # The name is how others see who holds the source. PostgreSQL cuts it off at 63 bytes. A
    # thread's number is the process's for its main thread, and tells two streams of one process
    # apart.
    process = f"{socket.gethostname()}:{threading.get_native_id()}"
    name = f"softcart {kind} {job.source.name} {process}"[:63]
    with job.staging.connect(application_name=name) as connection:
        # The lock belongs to the session, whatever its transactions do. So no transaction is open
        # while it waits.
        connection.autocommit = True
        bookkeeping.prepare(connection, job.source.schema)
        yield connection


def _other_stream(connection: psycopg.Connection, source: Source) -> locks.LockSession | None:
    """Return the session of another stream that has the source or waits for it."""
    # A session of our own that just broke may take a moment to end. It has our name.
    own = connection.info.get_parameters().get("application_name")
    for session in locks.sessions(connection, capture_lock(source.name)):
        if session.application.startswith(_STREAM) and session.application != own:
            return session
    return None


def is_followed(source: str, connection: psycopg.Connection) -> bool:
    """Return whether a stream follows the source, or waits for it."""
    found = locks.sessions(connection, capture_lock(source))
    return any(session.application.startswith(_STREAM) for session in found)


def is_wanted(job: Job, holder: psycopg.Connection, connection: psycopg.Connection) -> bool:
    """Return whether somebody waits for the source that `holder` has, or waits to build models.

    Models are built from raw tables that do not change.
    """
    others = locks.sessions(connection, capture_lock(job.source.name))
    if any(session.process != holder.info.backend_pid for session in others):
        return True
    builds = locks.sessions(connection, bookkeeping.RAW_TABLES_LOCK)
    return any(not session.holds and not session.shared for session in builds)


@contextmanager
def raw_tables_shared(
    job: Job, stopped: threading.Event, on_wait: Callable[[str], None]
) -> Iterator[None]:
    """Keep models from being built while the block runs. Waits until no build is running.

    `on_wait` is called about once a second, with the holder. Raises `Finished` when it is stopped.
    """
    name = f"softcart stream raw {job.source.name}"[:63]
    with job.staging.connect(autocommit=True, application_name=name) as session:
        while True:
            try:
                locks.take(
                    session, bookkeeping.RAW_TABLES_LOCK, shared=True, wait_seconds=_RETRY_SECONDS
                )
                break
            except locks.LockHeld as held:
                if stopped.is_set():
                    raise Finished from None
                on_wait(f"the raw tables are held by {held.holder or 'somebody'}")
        yield
