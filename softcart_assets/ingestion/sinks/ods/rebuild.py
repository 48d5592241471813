"""Computes totals anew from raw while the log is followed, and compares them with raw.

A build counts the rows of one moment, which no flush of the stream straddles. From that moment on,
whoever changes the total keeps each change for the build as well. In the end the build adds these
changes, and its table takes the place of the old one. Readers have the old totals until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import psycopg

from softcart_assets import locks
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.errors import IngestionError, TableBusy
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.ingestion.sinks.ods.keeping import run
from softcart_assets.ingestion.sinks.ods.table import TotalTable
from softcart_assets.ingestion.sinks.sql import listed, quote
from softcart_assets.lines.model import RunningTotal, Source

_EXAMPLES = 5


class NotBuilt(IngestionError):
    """A total does not exist yet. A load of its source makes it."""


@dataclass(frozen=True)
class Recounted:
    """How a total compares with a recount from raw, at one position.

    `rows`: its rows. `wrong`: rows whose sums differ. `examples`: some of these, as text: key,
    bucket, and by how much each sum is too small. `kept`, `counted`: the sums of all keys over all
    time, by the value of `by` and measure, in the total and in the recount.
    """

    name: str
    position: str
    rows: int
    wrong: int
    examples: Sequence[str]
    kept: Mapping[tuple[str | None, str], Decimal]
    counted: Mapping[tuple[str | None, str], Decimal]


def chosen(source: Source, name: str | None) -> list[RunningTotal]:
    """Return the totals of a source, or the one of a name. Raises `KeyError` with the known
    names.
    """
    found = [total for total in source.totals if name in (None, total.name)]
    if name is not None and not found:
        known = ", ".join(total.name for total in source.totals) or "none"
        raise KeyError(f"source {source.name!r} has no total {name!r}; it has {known}")
    return found


def check(staging: PostgresConnection, source: Source, total: RunningTotal) -> Recounted:
    """Compare a total with a recount of its rows in raw. Raises `NotBuilt`."""
    with staging.connect(application_name=f"softcart ods check {total.name}"[:63]) as connection:
        bookkeeping.prepare(connection, source.schema)
        connection.commit()
        # Raw, totals and position commit together. So all are those of one position here.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        table = _table(connection, source, total)
        recounted = "pg_temp.recounted"
        run(connection, f"CREATE TEMP TABLE recounted ON COMMIT DROP AS {table.recount()}")
        wrong, examples = 0, list[str]()
        with connection.cursor(name="differences") as cursor:
            # As text: Python has no time for the row of all time.
            names = listed((*table.keys, *table.sums))
            text = f"SELECT concat_ws(', ', {names}) FROM ({table.differences(recounted)}) d"
            cursor.execute(text.encode())
            for (row,) in cursor:
                wrong += 1
                if len(examples) < _EXAMPLES:
                    examples.append(row)
        found = connection.execute(
            f"SELECT (SELECT count(*) FROM {table.relation}), position FROM ods.positions"
            f" WHERE name = '{total.name}'".encode()
        ).fetchone()
        assert found
        kept, counted = (_overall(connection, table, each) for each in (table.relation, recounted))
        return Recounted(total.name, found[1] or "", found[0], wrong, examples, kept, counted)


def _overall(
    connection: psycopg.Connection, table: TotalTable, relation: str
) -> Mapping[tuple[str | None, str], Decimal]:
    rows = connection.execute(table.overall(relation).encode()).fetchall()
    return {
        (apart, measure): Decimal(value)
        for apart, *values in rows
        for measure, value in zip(table.total.measures, values, strict=True)
    }


def rebuild(
    staging: PostgresConnection,
    source: Source,
    total: RunningTotal,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Compute a total anew from raw. Whoever follows the source goes on meanwhile.

    Returns the number of its rows. Raises `NotBuilt`, or `TableBusy` if another process builds it.
    """
    name = f"softcart ods rebuild {total.name}"[:63]
    with staging.connect(autocommit=True, application_name=name) as control:
        bookkeeping.prepare(control, source.schema)
        table = _table(control, source, total)
        try:
            locks.take(control, keeping.build_lock_name(total.name), wait_seconds=0)
        except locks.LockHeld as held:
            raise TableBusy(
                f"ods/{total.name}: {held.holder or 'another process'} builds it already. Wait for "
                "it or end it, then run it again."
            ) from None
        while True:
            rows = _build(staging, control, table)
            if rows is not None:
                return rows
            tell(f"A load has changed raw as a whole. {total.name} is counted again.")
            table = _table(control, source, total)


def _build(
    staging: PostgresConnection, control: psycopg.Connection, table: TotalTable
) -> int | None:
    """Build a total once. Returns the number of its rows, None if it has to be done again."""
    new = f"ods.{quote(f'_new_{table.name}')}"
    with staging.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with _alone(control, table):
            keeping.give_up_build(control, table)
            run(control, f"DROP TABLE IF EXISTS {new}")
            run(control, table.create(table.later, keyed=False))
            control.execute("INSERT INTO ods._builds (name) VALUES (%s)", (table.name,))
            # Its snapshot is taken now: it has what was committed before, and nothing later.
            connection.execute("SELECT 1")
        run(connection, table.create(new))
        run(connection, table.apply(new, table.recount()))
    with _alone(control, table):
        is_whole = control.execute(
            "SELECT EXISTS (SELECT FROM ods._builds b JOIN ods._totals t USING (name) WHERE"
            " name = %s AND fingerprint = %s)",
            (table.name, table.fingerprint),
        ).fetchone()
        if not (is_whole and is_whole[0]):
            # It is gone already if the total is not declared any more.
            run(control, f"DROP TABLE IF EXISTS {new}")
            return None
        keys = listed(table.keys)
        sums = ", ".join(f"sum({quote(name)}) AS {quote(name)}" for name in table.sums)
        later = f"SELECT {keys}, {sums} FROM {table.later} GROUP BY {keys}"
        run(control, table.apply(new, later))
        row = control.execute(f"SELECT count(*) FROM {new}".encode()).fetchone()
        assert row
        keeping.switch(control, table, new)
        return int(row[0])


@contextmanager
def _alone(control: psycopg.Connection, table: TotalTable) -> Iterator[None]:
    """A transaction until whose end nobody else changes totals of the source."""
    with control.transaction():
        locks.take(control, keeping.lock_name(table.raw.source.name), until="transaction")
        yield


def _table(connection: psycopg.Connection, source: Source, total: RunningTotal) -> TotalTable:
    row = connection.execute(
        "SELECT fingerprint FROM ods._totals WHERE name = %s", (total.name,)
    ).fetchone()
    tables = keeping.totals_of(connection, source, total.table) if row else []
    found = next((table for table in tables if table.name == total.name), None)
    if row is None or found is None or row[0] != found.fingerprint:
        raise NotBuilt(
            f"ods/{total.name}: the total was not made yet, or its declaration has changed since "
            f"({total.declared_at}). Run `softcart load {source.name}.{total.table}`, or restart "
            f"`softcart stream {source.name}`."
        )
    return found
