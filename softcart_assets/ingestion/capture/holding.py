"""Who may apply a source's log: one session at a time, a stream or a load, by an advisory lock of the staging warehouse."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import psycopg

from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.errors import TableBusy
from softcart_assets.lines.model import Source

_LOCK_SECONDS = 600


class Finished(Exception):
    """The loop was asked to stop."""


def key_of(connection: psycopg.Connection, source: Source) -> int:
    """The number of a source's lock."""
    row = connection.execute(
        "SELECT hashtextextended(%s, 0)", (f"softcart capture {source.name}",)
    ).fetchone()
    assert row
    return row[0]


def sessions(
    connection: psycopg.Connection, key: int, but: psycopg.Connection | None = None
) -> list[tuple[str, int, datetime, bool]]:
    """The sessions that hold or want a source's lock, ours left out: name, process, since when, whether it has it."""
    own = [connection.info.backend_pid, *([but.info.backend_pid] if but else [])]
    return connection.execute(
        "SELECT application_name, pid, backend_start, granted FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = %s"
        " AND pid <> ALL(%s) AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        (key, own),
    ).fetchall()


@contextmanager
def hold(
    job: Job, *, is_stream: bool, stopped: threading.Event | None = None
) -> Iterator[psycopg.Connection]:
    """A connection that holds the source, so that nobody else applies its log; `TableBusy` says who does.

    A stream gives way to a bounded run, which therefore waits; a second stream fails at once.
    """
    source = job.source
    # A thread's number is the process's for its main thread, and tells two streams of one process apart.
    name = f"softcart {'stream' if is_stream else 'load'} {source.name} {socket.gethostname()}:{threading.get_native_id()}"[
        :63
    ]
    with job.staging.connect(application_name=name) as connection:
        connection.autocommit = True
        bookkeeping.prepare(connection, source.schema)
        key = key_of(connection, source)
        deadline = time.monotonic() + _LOCK_SECONDS
        connection.execute(
            "SET lock_timeout = '1s'" if is_stream else f"SET lock_timeout = '{_LOCK_SECONDS}s'"
        )
        while True:
            others = sessions(connection, key)
            # A session of our own that just broke may take a moment to end.
            streams = [
                each
                for each in others
                if each[0].startswith("softcart stream ") and each[0] != name
            ]
            if is_stream and streams:
                raise TableBusy(
                    f"{source.schema}: source {source.name!r} is already followed by {_described(streams[0])}. Only one stream can: "
                    "stop that one first."
                )
            try:
                connection.execute("SELECT pg_advisory_lock(%s)", (key,))
                break
            except psycopg.errors.LockNotAvailable:
                if stopped and stopped.is_set():
                    raise Finished from None
                if not is_stream or time.monotonic() > deadline:
                    holders = [each for each in sessions(connection, key) if each[3]]
                    raise TableBusy(
                        f"{source.schema}: source {source.name!r} has been held for {_LOCK_SECONDS} s by "
                        f"{_described(holders[0]) if holders else 'somebody'}. Wait for it or end it, then try again."
                    ) from None
        connection.execute("SET lock_timeout = 0")
        connection.autocommit = False
        yield connection


def is_followed(job: Job, connection: psycopg.Connection) -> bool:
    """Whether a stream follows the source, or waits for it."""
    found = sessions(connection, key_of(connection, job.source))
    return any(name.startswith("softcart stream ") for name, *_ in found)


def _described(session: tuple[str, int, datetime, bool]) -> str:
    name, process, since, _ = session
    return f"{name!r} (PostgreSQL process {process}, since {since:%Y-%m-%d %H:%M:%S} UTC)"
