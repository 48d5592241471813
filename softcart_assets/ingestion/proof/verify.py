"""Shows whether raw is what its source states, by counts and checksums.

The source's are in `ingestion.statements`. Raw's are computed here, each time.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.errors import MissingTable
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.lines.model import Source


@dataclass(frozen=True)
class Comparison:
    """A raw table against what its source states at `position`.

    Rows in quarantine do not count. `unstated`: columns that the source has not stated, such as
    those that came since it was asked. `differing`: the columns with different checksums.
    """

    table: str
    load_id: str
    position: str
    statement: Statement
    raw_rows: int
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
    declared = source.table(table)
    with staging.connect() as connection:
        # Before anything opens a transaction: it holds a lock until its transaction ends, which
        # every load waits for.
        bookkeeping.prepare(connection, source.schema)
        # A stream may go on meanwhile. It moves raw and the statement together, so both have to be
        # seen at one moment.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        # Compiling the sums of many columns would take longer than computing them.
        connection.execute("SET LOCAL jit = off")
        last = bookkeeping.last_load(connection, source.name, table)
        if last is None:
            raise MissingTable(f"{source.schema}/{table} was never loaded. Materialise it first.")
        position = bookkeeping.loaded_positions(connection, source.name)[table]
        statement = statements.read(connection, source.name, table)
        raw = RawTable(connection, source, declared)
        columns = raw.columns(last.columns)
        compared = [c for c in columns if statement.states(c)]
        # All sums are weighed by the leading column of the key. Without it, none can be compared.
        if raw.key and raw.key[0] not in {c.name for c in compared}:
            compared = []
        quarantine = Recorder(connection, source.name, table, last.load_id, position)
        if raw.key:
            raw.hold(columns, quarantine.entries([]))
        rows, checksums = raw.checksums(compared)
        return Comparison(
            table=f"{source.schema}/{table}",
            load_id=last.load_id,
            position=position,
            statement=statement,
            raw_rows=rows,
            quarantined_rows=quarantine.open_entries(),
            compared=[c.name for c in compared],
            unstated=[c.name for c in columns if c not in compared],
            differing=[c.name for c in compared if checksums[c.name] != statement.checksum(c)],
        )
