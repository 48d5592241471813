"""PostgreSQL's advisory locks: taking one, and saying who has it.

A lock has a name. It belongs to the database of the connection. A session keeps a lock until it
ends, so a killed process never leaves a lock behind. PostgreSQL knows numbers only, no names. The
number is a hash of the name, which is the same in every release. So an old release and a new one
keep each other out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import sql

Name = str | int
"""What a lock is called. A number is for the lock of publications, which had one before locks had
names.
"""


@dataclass(frozen=True)
class LockSession:
    """A session that has a lock or waits for it.

    `holds`: it has the lock. `shared`: it shares the lock with others. `host` is None for a local
    socket. `since`: when the session started, None if we may not see it.
    """

    application: str
    process: int
    user: str
    host: str | None
    since: datetime | None
    holds: bool
    shared: bool

    def __str__(self) -> str:
        """Who it is, for an error text."""
        since = f", since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        origin = f"of {self.user} from {self.host or 'the same host'}"
        return f"{self.application!r} (PostgreSQL process {self.process} {origin}{since})"


_REMIND_SECONDS = 60.0
"""Who waits is told so often for whom."""


class LockHeld(RuntimeError):
    """Somebody else kept the lock for as long as we waited.

    `holder`: their session, None if they released the lock just then.
    """

    def __init__(self, name: Name, wait_seconds: float, holder: LockSession | None) -> None:
        self.name, self.holder = name, holder
        super().__init__(
            f"The lock {name!r} has been held for {wait_seconds:g} s by {holder or 'somebody'}."
            " Wait for them or end them, then try again."
        )


def _key(name: Name) -> sql.Composable:
    template = "hashtextextended({}, 0)" if isinstance(name, str) else "{}::bigint"
    return sql.SQL(template).format(sql.Literal(name))


def take(
    connection: psycopg.Connection,
    name: Name,
    *,
    shared: bool = False,
    until: Literal["session", "transaction"] = "session",
    wait_seconds: float | None = None,
    on_wait: Callable[[LockSession | None], None] | None = None,
) -> None:
    """Take a lock and keep it until the end of the session, or of the open transaction.

    `wait_seconds`: how long to wait for others, None for no limit. Raises `LockHeld` after that.
    `on_wait` is called with a holder when a wait begins, and then about once a minute.
    """
    scope = ("_xact" if until == "transaction" else "") + "_lock" + ("_shared" if shared else "")
    call = sql.SQL("SELECT {}({})")
    # First without waiting: only then can `on_wait` say that a wait begins.
    tried = connection.execute(
        call.format(sql.Identifier(f"pg_try_advisory{scope}"), _key(name))
    ).fetchone()
    if tried and tried[0]:
        return
    began = time.monotonic()
    while True:
        remaining = float("inf")
        if wait_seconds is not None:
            remaining = wait_seconds - (time.monotonic() - began)
        if remaining <= 0:
            raise LockHeld(name, wait_seconds or 0, holder(connection, name))
        if on_wait:
            on_wait(holder(connection, name))
        try:
            # A block of its own, because a refusal would spoil a transaction of the caller's. It
            # also undoes the limit then. If the lock is taken, the old limit has to be set again.
            with connection.transaction():
                was = connection.execute("SELECT current_setting('lock_timeout')").fetchone()
                # Rounded up, because PostgreSQL takes 0 for no limit.
                limit = math.ceil(min(remaining, _REMIND_SECONDS) * 1000)
                _limit_waits(connection, f"{limit}ms")
                connection.execute(call.format(sql.Identifier(f"pg_advisory{scope}"), _key(name)))
                _limit_waits(connection, was[0] if was else "0")
            return
        except psycopg.errors.LockNotAvailable:
            continue


def _limit_waits(connection: psycopg.Connection, limit: str) -> None:
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [limit])


def sessions(connection: psycopg.Connection, name: Name) -> list[LockSession]:
    """The sessions that have a lock or wait for it, holders first.

    The session of this connection is left out.
    """
    # PostgreSQL shows a key of 64 bits as two halves, with `objsubid` 1. Locks with two keys of 32
    # bits have `objsubid` 2.
    rows = connection.execute(
        sql.SQL(
            """
            SELECT coalesce(a.application_name, ''), a.pid, a.usename, host(a.client_addr),
              a.backend_start, l.granted,
                   l.mode = 'ShareLock'
            FROM pg_locks l JOIN pg_stat_activity a USING (pid)
            WHERE l.locktype = 'advisory' AND l.objsubid = 1
              AND (l.classid::bigint << 32 | l.objid::bigint) = {}
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND a.pid <> pg_backend_pid()
            ORDER BY l.granted DESC, a.backend_start
            """
        ).format(_key(name))
    ).fetchall()
    return [LockSession(*row) for row in rows]


def holder(connection: psycopg.Connection, name: Name) -> LockSession | None:
    """The oldest other session that has a lock, None if nobody has it."""
    return next((each for each in sessions(connection, name) if each.holds), None)
