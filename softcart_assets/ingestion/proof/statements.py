"""What a source states of its tables: their number of rows, and a checksum of each column.

`ingestion.statements` has one statement for each table. It holds for exactly the position at which
raw stands, because it is written in the transactions that move raw. A load writes the source's
answer. For a captured table, every flush then adds what the log tells, see `followed`.

Nothing here is computed from raw. Otherwise the comparison of raw with it would show nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import cast

import psycopg
from psycopg.types.json import Jsonb

from softcart_assets.ingestion.proof.digest import Checksums, added, combined
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.readers import ChecksumReader, Reader
from softcart_assets.ingestion.types import Column
from softcart_assets.ingestion.workers import WorkerPool
from softcart_assets.lines.model import Table

ASK_EVERY = timedelta(days=1)
"""How often a source is asked for all its checksums. The answer costs it a scan of the table."""


@dataclass(frozen=True)
class Statement:
    """What a source states of a table at raw's position, without the rows in quarantine.

    `rows`: None if nothing is stated. Then `lost_because` says why. `columns`: the type in raw, and
    the checksum, of each column that is stated. A column of another type has another checksum.
    `asked_at`: when the source last computed all of it, and not just what had changed. None: never.
    """

    rows: int | None = None
    columns: Mapping[str, tuple[str, str]] | None = None
    asked_at: datetime | None = None
    asked_position: str | None = None
    lost_because: str | None = "the source was never asked"

    @classmethod
    def answered(
        cls,
        answer: tuple[int, Checksums],
        columns: Sequence[Column],
        position: str,
        moment: datetime,
    ) -> Statement:
        """Return the statement of a source that was asked."""
        return cls(answer[0], typed(columns, answer[1]), moment, position, None)

    def lost(self, reason: str) -> Statement:
        """Return what is left if the statement does not hold any more: when the source was
        asked.
        """
        return replace(self, rows=None, columns=None, lost_because=reason)

    def states(self, column: Column) -> bool:
        """Whether it has a checksum of the column, by its present type."""
        return (self.columns or {}).get(column.name, ("", ""))[0] == column.target_type

    def checksum(self, column: Column) -> str:
        """Return the checksum of a column that is stated."""
        assert self.columns
        return self.columns[column.name][1]

    def was_asked_within(self, time: timedelta, now: datetime) -> bool:
        """Return whether the source was asked within a time before now."""
        # A moment that lies ahead shows that the clock was set back. It says nothing of the age.
        return self.asked_at is not None and timedelta(0) <= now - self.asked_at <= time

    def moved(self, then: Statement, now: Statement) -> Statement | None:
        """Return the answer at the position of `now`, if it was given at the position of `then`.

        The log has changed both since. None: it has not told all that happened in between.
        """
        if then.rows is None or now.rows is None or then.asked_at != now.asked_at:
            return None
        assert self.rows is not None
        assert self.columns is not None
        columns = {}
        for name, (type_, sums) in self.columns.items():
            before, after = ((each.columns or {}).get(name) for each in (then, now))
            if before and after and before[0] == after[0] == type_:
                columns[name] = type_, added(sums, added(after[1], before[1], -1))
        return replace(self, rows=self.rows + now.rows - then.rows, columns=columns)


def ask(
    reader: ChecksumReader,
    table: Table,
    columns: Sequence[Column],
    quarantine: Recorder,
    pool: WorkerPool[Reader] | None = None,
) -> tuple[int, Checksums]:
    """Have a source compute the checksums of its rows that are not in quarantine.

    It is only their number if some rows in quarantine have no key by which to leave them out. All
    readers of a `pool` share the key ranges of a big table.
    """
    quarantined, keys = quarantine.open()
    answer = (pool and _by_ranges(reader, table, columns, pool)) or reader.checksums(table, columns)
    # All rows, less some by key: a condition on many keys would slow down the whole scan.
    for where in reader.any_of(table, columns, keys):
        answer = combined(answer, reader.checksums(table, columns, where), -1)
    rows, checksums = answer
    without_key = quarantined - len(keys)
    return (rows - without_key, {}) if without_key else (rows, checksums)


def _by_ranges(
    reader: ChecksumReader, table: Table, columns: Sequence[Column], pool: WorkerPool[Reader]
) -> tuple[int, Checksums] | None:
    """Return the checksums of all rows, from all readers. None if ranges do not pay or lose rows.

    The rows were copied by such ranges. If these lost one, it would be missing on both sides and
    nobody would know. So the source counts all rows as well, which takes little time.
    """
    conditions = reader.ranges(table, columns, pool.size)
    if len(conditions) < 2:
        return None

    def ask(some: Sequence[Column], where: str | None) -> Callable[[Reader], tuple[int, Checksums]]:
        return lambda each: cast(ChecksumReader, each).checksums(table, some, where)

    jobs = [ask((), None), *(ask(columns, where) for where in conditions)]
    all_rows, *parts = pool.share(reader, jobs)
    answer = reduce(combined, parts)
    return answer if answer[0] == all_rows[0] else None


def typed(columns: Sequence[Column], checksums: Checksums) -> dict[str, tuple[str, str]]:
    """Return the checksums with the types of their columns."""
    return {c.name: (c.target_type, checksums[c.name]) for c in columns if c.name in checksums}


def read(connection: psycopg.Connection, source: str, table: str) -> Statement:
    """Return the statement of a table."""
    found = read_some(connection, source, [table])
    return found.get(table, Statement())


def read_some(
    connection: psycopg.Connection, source: str, tables: Sequence[str], *, to_change: bool = False
) -> dict[str, Statement]:
    """Return the statements of tables that have one. `to_change` locks them."""
    # In the order of names: two that lock several must not wait for each other.
    rows = connection.execute(
        "SELECT table_name, row_count, columns, asked_at, asked_position, lost_because FROM"
        " ingestion.statements WHERE source = %s AND table_name = ANY(%s) ORDER BY table_name"
        + (" FOR UPDATE" if to_change else ""),
        (source, list(tables)),
    ).fetchall()
    return {
        table: Statement(
            count, columns and {name: (type_, sums) for name, (type_, sums) in columns.items()}, *of
        )
        for table, count, columns, *of in rows
    }


def write(connection: psycopg.Connection, source: str, statements: Mapping[str, Statement]) -> None:
    """Write the statements of tables, in the transaction that brings raw to their position."""
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO ingestion.statements (source, table_name, row_count, columns, asked_at,"
            " asked_position, lost_because) VALUES (%s, %s, %s, %s, %s, %s, %s)"
            " ON CONFLICT (source, table_name) DO UPDATE SET row_count = EXCLUDED.row_count,"
            " columns = EXCLUDED.columns, asked_at = EXCLUDED.asked_at,"
            " asked_position = EXCLUDED.asked_position, lost_because = EXCLUDED.lost_because",
            [
                (
                    source,
                    table,
                    each.rows,
                    None if each.columns is None else Jsonb(each.columns),
                    each.asked_at,
                    each.asked_position,
                    each.lost_because,
                )
                for table, each in statements.items()
            ],
        )


def lose(connection: psycopg.Connection, source: str, table: str, reason: str) -> None:
    """Note that a table's statement does not hold any more, so that the source is asked again."""
    connection.execute(
        "UPDATE ingestion.statements SET row_count = NULL, columns = NULL, lost_because = %s"
        " WHERE source = %s AND table_name = %s",
        (reason, source, table),
    )


def empty(connection: psycopg.Connection, source: str, table: str) -> None:
    """Note that a table has no rows any more at the source."""
    known = read(connection, source, table)
    if known.rows is not None and known.columns is not None:
        none = {name: (type_, "0:0") for name, (type_, _) in known.columns.items()}
        write(connection, source, {table: replace(known, rows=0, columns=none)})
