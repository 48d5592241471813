"""Shows whether raw is what its source states, by counts and checksums.

The source's are in `ingestion.statements`. Raw's are computed from all its rows after each answer
of the source. In between, those of a captured table follow its writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.errors import MissingTable
from softcart_assets.ingestion.proof import digest, statements
from softcart_assets.ingestion.proof.carried import CarriedSums, known_rows
from softcart_assets.ingestion.proof.digest import Checksums
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.lines.model import Source, Table


@dataclass(frozen=True)
class Comparison:
    """A raw table against what its source states at `position`.

    Rows in quarantine do not count. `raw_read_at`: when all of raw's rows were read for the sums;
    since then, these followed its writes. `unstated`: columns that the source has not stated, such
    as those that came since it was asked. `differing`: the columns with different checksums.
    """

    table: str
    load_id: str
    position: str
    statement: Statement
    raw_rows: int
    raw_read_at: datetime | None
    quarantined_rows: int
    compared: list[str]
    unstated: list[str]
    differing: list[str]

    @property
    def is_stated(self) -> bool:
        """Whether the source states anything at the position."""
        return self.statement.rows is not None

    @property
    def is_equal(self) -> bool:
        """Whether something was compared and nothing differs."""
        return self.statement.rows == self.raw_rows and not self.differing

    def __str__(self) -> str:
        """Return one line for a person."""
        if not self.is_stated:
            return f"{self.table}: not compared at {self.position}: {self.statement.lost_because}"
        if self.is_equal:
            what = f"{self.raw_rows} rows and {len(self.compared)} columns"
            return f"{self.table}: {what} equal the source at {self.position}"
        return (
            f"{self.table}: source {self.statement.rows} rows, raw {self.raw_rows} rows, "
            f"{self.quarantined_rows} in quarantine; "
            f"differing columns: {', '.join(self.differing) or 'none'} at {self.position}"
        )


def compare(source: Source, staging: PostgresConnection, table: str) -> Comparison:
    """Compare a raw table with what its source states. Raises `MissingTable` if it was never
    loaded.
    """
    with staging.connect() as connection:
        # Before anything opens a transaction: it holds a lock until its transaction ends, which
        # every load waits for.
        bookkeeping.prepare(connection, source.schema)
        look = _Look(connection, source, table)
        # The statement of another table holds until it changes, so its sums need not follow.
        if look.is_stated and look.raw.table.strategy == "cdc":
            with _unless_busy(connection):
                look.sums.follow()
        connection.commit()
        # A stream may go on meanwhile. It moves raw and the statement together, so both have to be
        # seen at one moment.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        # Compiling the sums of many columns would take longer than computing them.
        connection.execute("SET LOCAL jit = off")
        look = _Look(connection, source, table)
        if not look.is_stated:
            return look.comparison((_rows(look.raw), {}), None)
        carried = look.sums.read()
        if carried and carried.is_whole_since(look.statement.asked_at):
            answer = digest.checksums_of(look.compared, carried.sums)
            return look.comparison(answer, carried.read_at)
        read_at, answer = look.raw.now(), look.raw.checksums(look.compared)
        found = look.comparison(answer, read_at)
        connection.commit()
        if carried:
            # Apart: a stream may have written since, and a snapshot cannot change what it wrote.
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            with _unless_busy(connection):
                look.sums.complete(carried, digest.sums_in(look.compared, *answer), read_at)
        return found


@contextmanager
def _unless_busy(connection: psycopg.Connection) -> Iterator[None]:
    """Leave the block to the next check if a writer would have to be waited for."""
    with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '1s'")
        yield


class _Look:
    """A raw table and what its source states, as a transaction sees them."""

    def __init__(self, connection: psycopg.Connection, source: Source, table: str) -> None:
        last = bookkeeping.last_load(connection, source.name, table)
        if last is None:
            raise MissingTable(f"{source.schema}/{table} was never loaded. Materialise it first.")
        self.last = last
        self.position = bookkeeping.loaded_positions(connection, source.name)[table]
        self.statement = statements.read(connection, source.name, table)
        self.is_stated = self.statement.rows is not None
        self.raw = RawTable(connection, source, source.table(table))
        self.columns = self.raw.columns(last.columns)
        self.compared = [c for c in self.columns if self.statement.states(c)]
        # All sums are weighed by the leading column of the key. Without it, none can be compared.
        if self.raw.key and self.raw.key[0] not in {c.name for c in self.compared}:
            self.compared = []
        items = digest.sums_of(POSTGRES, self.compared, self.raw.key)
        self.sums = CarriedSums(connection, (source.name, table), self.raw.name, items)

    def comparison(self, of_raw: tuple[int, Checksums], read_at: datetime | None) -> Comparison:
        """Compare what raw's current rows add up to with what the source states."""
        raw, statement = self.raw, self.statement
        quarantine = Recorder(
            raw.connection, raw.source.name, raw.table.name, self.last.load_id, self.position
        )
        quarantined = quarantine.open_entries()
        if raw.key and quarantined:
            raw.hold(self.columns, quarantine.entries([]))
            of_raw = digest.combined(of_raw, raw.checksums(self.compared, held=True), -1)
        rows, checksums = of_raw
        return Comparison(
            table=raw.asset,
            load_id=self.last.load_id,
            position=self.position,
            statement=statement,
            raw_rows=rows,
            raw_read_at=read_at,
            quarantined_rows=quarantined,
            compared=[c.name for c in self.compared],
            unstated=[c.name for c in self.columns if c not in self.compared],
            differing=[c.name for c in self.compared if checksums[c.name] != statement.checksum(c)],
        )


def current_rows(staging: PostgresConnection, source: Source, table: Table) -> int:
    """Return the number of a table's current rows, without reading them if its sums tell it."""
    with staging.connect() as connection:
        bookkeeping.prepare(connection, source.schema)
        return _rows(RawTable(connection, source, table))


def _rows(raw: RawTable) -> int:
    known = known_rows(raw.connection, (raw.source.name, raw.table.name), raw.name)
    return raw.rows() if known is None else known
