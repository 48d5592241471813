"""The endless stream: it takes and gives up the source, connects anew, and has tables read
again.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg

from softcart_assets.connections import PostgresConnection, ServerUnreachable
from softcart_assets.ingestion.capture.bounded import bring_up, first_contact
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import (
    Finished,
    hold_for_stream,
    is_wanted,
    raw_tables_shared,
)
from softcart_assets.ingestion.capture.job import Job, Status
from softcart_assets.ingestion.capture.repeated import repeat
from softcart_assets.ingestion.capture.resnapshot import is_pending, read_again
from softcart_assets.ingestion.capture.servers import start_here
from softcart_assets.ingestion.captured import CapturedTable, TableFailed
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.connectors.mysql.state import bytes_behind
from softcart_assets.ingestion.errors import (
    MissingTable,
    SourceLost,
    TableBusy,
    TargetFailed,
)
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.request import LoadRequest
from softcart_assets.lines.model import Source
from softcart_assets.locks import LockHeld

_LAG_SECONDS = 5.0
_STUCK_SECONDS = 10.0
"""If the loop does not go round for so long, the warehouse is asked whether it still answers."""
_BACKOFF_SECONDS = 0.5, 30.0
_CONTACT_SECONDS = 60.0
_AGAIN_SECONDS = 5.0
"""The pause before a table that could not be read again is tried once more."""


def stream(
    source: Source,
    connection: Any,
    staging: PostgresConnection,
    lake_uri: str,
    *,
    status: Status | None = None,
    stopped: threading.Event | None = None,
    on_report: Callable[[Status], None] | None = None,
) -> None:
    """Keep a source's captured tables up to date until SIGTERM, Ctrl-C or `stopped`. What is
    applied by then is committed. `connection`: made by the source's connector.

    Tables that are not followed yet are copied first. Broken connections are made anew. A table
    that cannot go on stops with its reason in the status, and the others go on. `on_report` is
    called about once a second. Raises `TableBusy` if another stream follows the source already,
    `PositionPurged` if the log cannot be continued, and `CannotListen` for a kind of source that
    has no log and does not tell of changes.
    """
    stopped = stopped or threading.Event()
    job = Job(source, connection, staging, lake_uri, status or Status(source.name))
    with ended_by_signals(stopped):
        if connector(source.kind).has_log:
            with _watched(job, stopped):
                _Stream(job, stopped, on_report).run()
        else:
            repeat(job, stopped, lambda: on_report(job.status) if on_report else None)


@contextmanager
def ended_by_signals(stopped: threading.Event) -> Iterator[None]:
    """Set `stopped` at SIGTERM or Ctrl-C while the block runs."""
    # Python allows signal handlers in the main thread only.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _watched(job: Job, stopped: threading.Event) -> Iterator[None]:
    """Run a thread that regularly asks both sides what the loop may not notice."""
    done = threading.Event()

    def watch() -> None:
        while not (done.wait(_LAG_SECONDS) or stopped.is_set()):
            _measure_lag(job)
            _ask_target(job)

    thread = threading.Thread(target=watch, name="softcart watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()


def _measure_lag(job: Job) -> None:
    """Ask the source how much of its log is not read yet."""
    status, behind = job.status, None
    with suppress(Exception):  # the loop itself says what is wrong with the source
        # A connection of its own: the one that reads the log takes no questions.
        with closing(Session(job.connection)) as session:
            if status.position:
                behind = bytes_behind(session, Position.parse(status.position))
    status.lag_bytes = behind


def _ask_target(job: Job) -> None:
    """If the loop has not gone round for a while, note whether the warehouse still answers.

    A warehouse behind a silent network neither answers nor fails, and the loop waits for it.
    """
    if time.monotonic() - job.status.heard_at < _STUCK_SECONDS:
        return
    try:
        job.staging.connect().close()
    except ServerUnreachable as error:
        # Unless the loop has noticed meanwhile.
        job.status.problem = job.status.problem or str(error)


class _Stream:
    """The outer loop: it takes and gives up the source, and connects anew."""

    def __init__(
        self, job: Job, stopped: threading.Event, on_report: Callable[[Status], None] | None
    ) -> None:
        self.job, self.stopped, self.on_report = job, stopped, on_report
        self.rereading: dict[str, threading.Thread] = {}
        self.not_before: dict[str, float] = {}
        """When tables that could not be read again are tried once more."""
        self.has_held = False
        self.contacted = float("-inf")
        self.is_outdated = False
        """Whether another follower has gone on from where the present one was."""
        self.is_well = False
        """Whether something was committed over the present connections."""

    def run(self) -> None:
        """Run until stopped."""
        shortest, longest = _BACKOFF_SECONDS
        delay = shortest
        while not self.stopped.is_set():
            try:
                with self._session() as follower:
                    self._follow(follower)
            except Finished:
                return
            # All of these may pass by themselves. Anything else needs somebody, and ends the
            # stream.
            except (
                SourceLost,
                TargetFailed,
                ServerUnreachable,
                LockHeld,
                TableBusy,
                psycopg.OperationalError,
                psycopg.InterfaceError,
            ) as error:
                # A second stream ends, but not one that was there before.
                if isinstance(error, TableBusy) and not self.has_held:
                    raise
                # After a good connection the first retry is quick. A server that stays away is
                # asked ever less.
                delay = shortest if self.is_well else min(delay * 2, longest)
                self.is_well = False
                self.job.status.problem = " ".join(str(error).split())
                self.job.status.reconnects += 1
                self._report()
                self.stopped.wait(delay)

    @contextmanager
    def _session(self) -> Iterator[Follower]:
        job = self.job
        # In this order, in which loads take them too: otherwise each could wait for the other's.
        with (
            raw_tables_shared(job, self.stopped, self._wait),
            hold_for_stream(
                job, self.stopped, self._wait, is_first=not self.has_held
            ) as connection,
        ):
            self.has_held = True
            name = f"softcart stream control {job.source.name}"
            with job.staging.connect(autocommit=True, application_name=name[:63]) as control:
                start_here(job, control)
                follower = Follower(job, connection, control)
                try:
                    yield follower
                except BaseException:
                    follower.discard()
                    raise

    def _wait(self, why: str) -> None:
        """Say for whom the stream waits."""
        self.job.status.problem = why
        self._report()

    def _follow(self, follower: Follower) -> None:
        """Follow until stopped, or until somebody else wants the source, or a new follower is
        needed.
        """
        self.is_outdated = False
        while not self.is_outdated:
            follower = self._contact(follower)
            self.job.status.problem = None
            try:
                follower.follow(on_tick=lambda: self._tick(follower))  # noqa: B023
            except TableFailed as failed:
                follower = follower.without(failed)
                continue
            if self.stopped.is_set() or is_wanted(self.job, follower.connection, follower.control):
                follower.finish()
                return

    def _contact(self, follower: Follower) -> Follower:
        """Copy tables that are not followed yet. Failed copies are tried again later."""
        self.contacted = time.monotonic()
        # A new table makes the stream go back. What is unlisted of the lake would come twice then.
        follower.finish()
        failures: dict[str, Exception] = {}
        first_contact(
            follower, [self.job.source.table(name) for name in self.job.captured], failures, None
        )
        follower.report()
        self.job.status.tables |= {
            name: ("missing", str(error)) for name, error in failures.items()
        }
        return follower

    def _tick(self, follower: Follower) -> bool:
        """Do what is due once a second. Returns whether to stop following."""
        self.is_well = True
        self.job.status.problem = None
        self._report()
        if self.stopped.is_set() or is_wanted(self.job, follower.connection, follower.control):
            return True
        follower.merge_reread()
        for table in follower.captured.tables.values():
            if not table.stale_since:
                self.job.status.not_read.pop(table.name, None)
            elif not table.stopped and time.monotonic() >= self.not_before.get(table.name, 0):
                if not table.table.key:
                    # Without keys, rows that were read beside the log cannot be matched with raw's.
                    self._compare(follower, table)
                    return True
                self._read_again(table)
        missing = len(self.job.captured) > len(follower.captured.tables)
        return missing and time.monotonic() - self.contacted > _CONTACT_SECONDS

    def _compare(self, follower: Follower, table: CapturedTable) -> None:
        """Have a table without a key compared as a whole, as in a bounded run."""
        job = self.job
        request = LoadRequest(
            job.source, job.connection, job.staging, job.lake_uri, full=True, ask_after=None
        )
        failures: dict[str, Exception] = {}
        for _ in bring_up(follower, request, [table.table], failures):
            pass
        # It may have gone on with another follower, because a table stopped.
        self.is_outdated = True
        for error in failures.values():
            self._note_not_read(table, error)

    def _read_again(self, table: CapturedTable) -> None:
        """Have a table read again next to the stream, unless this is already running."""
        thread = self.rereading.get(table.name)
        if (thread and thread.is_alive()) or is_pending(self.job, table.name):
            return

        def read() -> None:
            try:
                read_again(self.job, table.table)
            except Exception as error:  # tried again at a later tick; what is wrong is to be seen
                self._note_not_read(table, error)
            else:
                self.job.status.not_read.pop(table.name, None)

        self.rereading[table.name] = thread = threading.Thread(
            target=read, name="softcart reading again", daemon=True
        )
        thread.start()

    def _note_not_read(self, table: CapturedTable, error: Exception) -> None:
        # A table that always fails must not be read without a pause.
        self.not_before[table.name] = time.monotonic() + _AGAIN_SECONDS
        # Dropped or renamed: another table may take its name at any time. If none does, this is the
        # state of one table, and the others go on. So is any other failure.
        state = "missing" if isinstance(error, MissingTable) else "stale"
        self.job.status.not_read[table.name] = state, " ".join(str(error).split())

    def _report(self) -> None:
        if self.on_report:
            self.on_report(self.job.status)
