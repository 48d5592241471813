"""Reads a table, or a range of its keys, from the source again while its log is followed.

The rows are read at one position, next to everything else. Whoever follows the log merges them once
the log is past that position. A row of raw that stands for a later position stays.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

from softcart_assets import locks
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.capture.bounded import catch_up
from softcart_assets.ingestion.capture.holding import is_followed
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.capture.rewrites import unfit_of
from softcart_assets.ingestion.capture.servers import epoch_of_reread
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader, snapshot
from softcart_assets.ingestion.errors import IngestionError, MissingTable, SchemaChanged
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.raw_tables import raw_tables_held
from softcart_assets.ingestion.request import LoadRequest, LoadResult, Progress
from softcart_assets.ingestion.sinks.copying import copy_batches
from softcart_assets.ingestion.sinks.failures import CAUSED_BY_ROWS, cause, explain
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.sinks.sql import literal, quote, typed
from softcart_assets.ingestion.types import Column, Kind
from softcart_assets.lines.model import Source, Table

_REMIND_SECONDS = 60.0

KeyRange = tuple[str | None, str | None]
"""The first and the last value of the leading key column, as text. None: no limit."""


@dataclass(frozen=True)
class Resnapshot:
    """The result of reading again: the position, and how many rows of raw were changed."""

    table: str
    position: str
    rows_changed: int


def resnapshot(
    source: Source,
    connection: MySQLConnection,
    staging: PostgresConnection,
    lake_uri: str,
    table: str | None = None,
    key_range: KeyRange | None = None,
    *,
    on_progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Resnapshot]:
    """Read a captured table, or a range of its keys, again, and repair rows of raw that differ. A
    table that stopped goes on.

    Without a table: read all tables and follow the log from its present end. Use this after
    `PositionPurged`. A running stream goes on. It pauses only for a table that stopped or has no
    key, or for all tables. `tell` is called with a text whenever somebody else is waited for.
    Raises `MissingTable`, or `IngestionError` for a range that cannot be read.
    """
    captured = {each.name: each for each in source.tables if each.strategy == "cdc"}
    if table is not None and table not in captured:
        raise MissingTable(
            f"{source.schema}/{table} is not captured from a log. Declare it with strategy 'cdc', "
            "or load it in full: `softcart load`."
        )
    chosen = [captured[table]] if table is not None else list(captured.values())
    request = LoadRequest(source, connection, staging, lake_uri, ask_after=None, tell=tell)
    job = Job.of(request)

    def caught_up(request: LoadRequest, **how: bool) -> list[LoadResult]:
        # Builds wait meanwhile. But they must not wait while we wait for the stream to merge rows:
        # the stream gives way to them, and each would wait for the next.
        with raw_tables_held(staging, exclusive=False, tell=tell):
            return list(catch_up(request, chosen, **how))

    with staging.connect(autocommit=True) as control:
        bookkeeping.prepare(control, source.schema)
        states: dict[str, str] = dict(
            control.execute(
                "SELECT table_name, state FROM ingestion.captures WHERE source = %s", (source.name,)
            ).fetchall()
        )
        if table is None or not captured[table].key or states.get(table) != "live":
            if key_range:
                raise IngestionError(
                    f"{source.schema}/{table}: a range of keys can only be read again if the table "
                    "has a key and is followed. "
                    f"Run `softcart resnapshot {source.name}.{table}` without a range."
                )
            return [
                Resnapshot(
                    result.table, result.position, result.inserted + result.updated + result.deleted
                )
                for result in caught_up(
                    replace(request, full=True, on_progress=on_progress),
                    taken_over=True,
                    restart=table is None and bool(states),
                )
            ]
        number, position = read_again(job, captured[table], key_range, on_progress)
        told = time.monotonic()
        while True:
            row = control.execute(
                "SELECT merged_at IS NOT NULL, rows_changed, reason FROM ingestion.resnapshots"
                " LEFT JOIN ingestion.captures USING (source, table_name) WHERE id = %s",
                (number,),
            ).fetchone()
            assert row
            is_merged, rows_changed, stopped = row
            # The merge is done in another session, perhaps another process. So its result is looked
            # up.
            if stopped:  # nobody merges rows of a table that has stopped meanwhile
                raise SchemaChanged(stopped)
            if is_merged:
                return [Resnapshot(table, position, rows_changed)]
            # The stream merges the rows when it is past their position. Without one, a run does.
            if is_followed(source.name, control):
                if time.monotonic() - told >= _REMIND_SECONDS:
                    told = time.monotonic()
                    stream = locks.holder(control, bookkeeping.capture_lock(source.name))
                    tell(f"Waiting until {stream or 'the stream'} has merged the rows.")
                time.sleep(0.2)
                continue
            caught_up(request)


def is_pending(job: Job, table: str) -> bool:
    """Return whether rows of a table were read again and are not merged yet."""
    with job.staging.connect() as connection:
        row = connection.execute(
            "SELECT EXISTS (SELECT FROM ingestion.resnapshots WHERE source = %s AND table_name = "
            "%s AND merged_at IS NULL)",
            (job.source.name, table),
        ).fetchone()
        return bool(row and row[0])


def read_again(
    job: Job, table: Table, key_range: KeyRange | None = None, on_progress: Progress | None = None
) -> tuple[int, str]:
    """Read rows into a relation next to raw, to be merged by whoever follows the log.

    Returns the number of the order, and the position.
    """
    source = job.source
    asset = f"{source.schema}/{table.name}"
    # A new name each time: several may wait for their merge at once.
    relation = f"ingestion.{quote(f'reread_{uuid.uuid4().hex}')}"
    with ExitStack() as stack:
        epoch = epoch_of_reread(job)
        only = replace(source, tables=(table,))
        reader = stack.enter_context(snapshot(only, job.connection, 1, epoch))[0]
        session = stack.enter_context(
            job.staging.connect(application_name=f"softcart resnapshot {asset}"[:63])
        )
        position = reader.position(table)
        columns = reader.columns(table, ())
        # Raw keeps its columns under such a contract, so others need not be read.
        if table.contract != "evolve":
            have = {c.name: c for c in RawTable(session, source, table).columns()}
            columns = [
                replace(c, target_type=have[c.name].target_type) for c in columns if c.name in have
            ]
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        # Not unlogged: a crash would empty it, and all rows would be taken for deleted.
        session.execute(f"CREATE TABLE {relation} ({definitions})".encode())
        where, scope = _conditions(reader, table, columns, key_range)
        unfit = unfit_of(relation)
        recorder = Recorder(session, source.name, table.name, relation, position, unfit)
        rows, expected = 0, reader.expected_rows(table)
        batches = reader.batches(table, columns, where)
        try:
            with closing(copy_batches(session, relation, columns, batches)) as copied:
                for batch in copied:
                    # Not in quarantine before raw is at this position. Found by the torture (seed
                    # 597551): whoever compared raw, or asked the source, left out rows that were
                    # still fit.
                    if batch.rejected:
                        recorder.make()
                        recorder.record(batch.rejected)
                    rows += len(batch.rows) + len(batch.rejected)
                    if on_progress:
                        on_progress(table.name, rows, expected)
            # For the merge, which may come before autovacuum does.
            session.execute(f"ANALYZE {relation}".encode())
            # A row without a key leaves no trace in raw, so only its entry can show the merge that
            # it went meanwhile. Last, as a flush that meets an entry waits for this transaction.
            recorder.take_in(unfit, with_key=False)
        except CAUSED_BY_ROWS as error:
            raise explain(error, asset, table.key) from cause(error)
        row = session.execute(
            "INSERT INTO ingestion.resnapshots (source, table_name, relation, position, scope)"
            " VALUES (%s, %s, %s, %s, %s) RETURNING id",
            (source.name, table.name, relation, position, scope),
        ).fetchone()
        assert row
        return row[0], position


def _conditions(
    reader: MySQLReader, table: Table, columns: list[Column], key_range: KeyRange | None
) -> tuple[str | None, str | None]:
    """Return a range of keys as a condition at the source, and as an equal condition of raw.

    Both are None if there is no limit.
    """
    if not key_range or key_range == (None, None):
        return None, None
    key = next(column for column in columns if column.name == table.key[0])
    at_source, in_raw = [], []
    for operator, value in ((">=", key_range[0]), ("<=", key_range[1])):
        if value is None:
            continue
        name, text = MYSQL.quote(key.name), reader.session.literal(value)
        match key.kind:
            case Kind.TEXT:
                # Both compare bytes: the order of letters differs between the databases.
                at_source.append(
                    f"CAST(CONVERT({name} USING utf8mb4) AS BINARY) {operator} CAST({text} AS "
                    "BINARY)"
                )
                in_raw.append(f'{quote(key.name)} COLLATE "C" {operator} {literal(value)}')
                continue
            case Kind.BYTES:
                at_source.append(f"{name} {operator} x'{value.removeprefix(chr(92) + 'x')}'")
            case Kind.TIME:
                raise IngestionError(
                    f"{reader.source.schema}/{table.name}: a range of times of day is not "
                    "supported."
                )
            case _:
                at_source.append(f"{name} {operator} {text}")
        in_raw.append(f"{quote(key.name)} {operator} {typed(literal(value), key)}")
    return " AND ".join(at_source), " AND ".join(in_raw)
