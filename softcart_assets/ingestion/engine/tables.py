"""Loads tables by reading them: locks them, opens readers at one moment, shares the tables out."""

from __future__ import annotations

import gc
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack, contextmanager

import psycopg

from softcart_assets import locks
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.engine.table import TableLoad
from softcart_assets.ingestion.errors import IngestionError, LoadsFailed, TableBusy
from softcart_assets.ingestion.readers import Reader
from softcart_assets.ingestion.request import Call, Load, LoadRequest, LoadResult
from softcart_assets.ingestion.workers import WorkerPool
from softcart_assets.lines.model import Source, Table

_WORKERS = min(max(os.cpu_count() or 1, 2), 8)
"""Threads that read and copy at once, each with a connection to either side.

The servers share the work with them, and on a small machine the processors, too.
"""
_LOCK_SECONDS = 600


def read_tables(
    request: LoadRequest,
    chosen: Sequence[Table],
    *,
    epoch: int = 0,
    on_commit: Callable[[psycopg.Connection, str, str], None] | None = None,
) -> Iterator[LoadResult]:
    """Load tables by reading them, whole or in part, see `load.load`.

    `epoch`: the epoch of the positions, see `Position`. `on_commit`: see `Call`.
    """
    if not chosen:
        return
    source = request.source
    failures: dict[str, Exception] = {}
    with ExitStack() as stack:
        control = stack.enter_context(
            request.staging.connect(autocommit=True, application_name=own_name("load"))
        )
        bookkeeping.prepare(control, source.schema)
        # In the order of names: two loads that lock several tables must not wait for each other.
        for table in sorted(chosen, key=lambda table: table.name):
            lock(control, source, table, request.tell)
        # Only now: a position read before the wait for another load could lie before that load's.
        readers = stack.enter_context(
            connector(source.kind).readers(source, request.connection, _WORKERS, epoch)
        )
        stack.enter_context(_rare_garbage_collection())
        # Entered last, left first: no thread works on a connection that is closed.
        pool = stack.enter_context(WorkerPool(readers))
        call = Call(request, control, pool, str(uuid.uuid4()), on_commit)
        # Big ones first: their keys are built, and their sources asked, beside the next copies.
        # A big one at the end would leave all threads but its own without work.
        biggest_first = sorted(chosen, key=lambda table: -_rows_about(readers[0], table))
        futures = {pool.submit(load_of(call, table).run): table for table in biggest_first}
        for future in as_completed(futures):
            try:
                result = future.result()
            except Exception as error:
                # Whatever it is, the other tables go on. All failures are raised below.
                failures[futures[future].name] = error
            else:
                yield result
    if failures:
        raise LoadsFailed(source.name, failures)


def load_of(call: Call, table: Table) -> Load:
    """Return the load of a table: its connector's own, or the engine's."""
    own = connector(call.request.source.kind).table_load(call, table)
    return own or TableLoad(call, table)


def _rows_about(reader: Reader, table: Table) -> int:
    """Return about how many rows a table has at its source. 0: unknown."""
    try:
        return reader.expected_rows(table) or 0
    except IngestionError:  # the table's own load says what is wrong with it
        return 0


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Look for cyclic garbage less often.

    Rows pass as millions of tuples, which have no cycles. Looking for cycles would double the time
    of reading.
    """
    threshold, *others = gc.get_threshold()
    gc.set_threshold(100_000, *others)
    try:
        yield
    finally:
        gc.set_threshold(threshold, *others)


def own_name(command: str) -> str:
    """Return the name of our PostgreSQL sessions: the command, and the process that runs it."""
    return f"softcart {command} {socket.gethostname()}:{os.getpid()}"


def lock(
    control: psycopg.Connection, source: Source, table: Table, tell: Callable[[str], None]
) -> None:
    """Hold the table until the control connection ends.

    Waits for another load of the table, and calls `tell` with its name. Raises `TableBusy`, which
    names the holder.
    """
    name = f"{source.schema}/{table.name}"

    def on_wait(holder: locks.LockSession | None) -> None:
        tell(f"Waiting for {name}, which {holder or 'another load'} holds.")

    try:
        locks.take(control, f"softcart load {name}", wait_seconds=_LOCK_SECONDS, on_wait=on_wait)
    except locks.LockHeld as held:
        raise TableBusy(
            f"{name} has been held for {_LOCK_SECONDS} s by {held.holder or 'a load'}. "
            "Wait for it or end it, then load again."
        ) from None
