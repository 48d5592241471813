"""Shows whether raw is what its source was at the load, by counts and checksums.

The source's are computed during the load, in the same snapshot. Raw's are computed here, each time.
"""

from __future__ import annotations

from dataclasses import dataclass

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.errors import MissingTable, NotStated
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.lines.model import Source


@dataclass(frozen=True)
class Comparison:
    """A raw table against its source at `position`.

    `source_rows`: rows at the source, without those in quarantine. `differing`: the columns with
    different checksums.
    """

    table: str
    load_id: str
    position: str
    source_rows: int
    raw_rows: int
    quarantined_rows: int
    compared: list[str]
    differing: list[str]

    @property
    def is_equal(self) -> bool:
        """Whether nothing differs."""
        return self.source_rows == self.raw_rows and not self.differing

    def __str__(self) -> str:
        """Return one line for a person."""
        if self.is_equal:
            what = f"{self.raw_rows} rows and {len(self.compared)} columns"
            return f"{self.table}: {what} equal the source at {self.position}"
        return (
            f"{self.table}: source {self.source_rows} rows, raw {self.raw_rows} rows, "
            f"{self.quarantined_rows} in quarantine; "
            f"differing columns: {', '.join(self.differing) or 'none'} at {self.position}"
        )


def compare(source: Source, staging: PostgresConnection, table: str) -> Comparison:
    """Compare a raw table with what its source stated at the last load.

    Raises `MissingTable` if it was never loaded, and `NotStated` if the source stated nothing.
    """
    declared = source.table(table)
    with staging.connect() as connection:
        # Before anything opens a transaction: it holds a lock until its transaction ends, which
        # every load waits for.
        bookkeeping.prepare(connection, source.schema)
        # Compiling the sums of many columns would take longer than computing them.
        connection.execute("SET LOCAL jit = off")
        last = bookkeeping.last_load(connection, source.name, table)
        if last is None:
            raise MissingTable(f"{source.schema}/{table} was never loaded. Materialise it first.")
        if last.source_rows is None or last.source_checksums is None:
            raise NotStated(
                f"{source.schema}/{table}: the source was not asked for its checksums when the "
                "table was last loaded. Load it "
                f"again with them, or run `softcart reconcile {source.name}.{table}`."
            )
        raw = RawTable(connection, source, declared)
        columns = raw.columns(last.columns)
        # Columns added since the load have no statement of the source yet.
        compared = [c for c in columns if c.name in last.source_checksums]
        quarantine = Recorder(connection, source.name, table, last.load_id, last.position)
        if raw.key:
            raw.hold(columns, quarantine.entries([]))
        rows, checksums = raw.checksums(compared)
        return Comparison(
            table=f"{source.schema}/{table}",
            load_id=last.load_id,
            position=last.position,
            source_rows=last.source_rows,
            raw_rows=rows,
            quarantined_rows=quarantine.open()[0],
            compared=[c.name for c in compared],
            differing=[
                c.name for c in compared if checksums[c.name] != last.source_checksums[c.name]
            ],
        )
