"""Finds the rows of raw that differ from the source's at one position, and their differing
columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from typing import Any

from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.errors import NotComparable
from softcart_assets.ingestion.proof.narrowing import Key, Narrowing
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.repair import Keys, add_extra
from softcart_assets.ingestion.proof.result import SAMPLE, Difference, Reconciliation
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.readers import Reader, SqlReader
from softcart_assets.ingestion.request import Progress
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.sinks.sql import as_text, quote
from softcart_assets.ingestion.types import Column, widens
from softcart_assets.lines.model import Source, Table

_FETCHED_NUMBERS = 10_000


class RowComparison:
    """The comparison of one table's rows.

    `fetch`: keys of rows that raw lacks or has with other values. `extra`: keys of rows that only
    raw has. `columns`: those that the servers compared.
    """

    def __init__(self, source: Source, table: Table, on_progress: Progress | None) -> None:
        self.source, self.table, self.on_progress = source, table, on_progress
        self.asset = f"{source.schema}/{table.name}"
        self.title = connector(source.kind).title
        self.fetch, self.extra = Keys(), Keys()
        self.columns: list[Column] = []
        self.warnings: list[str] = []

    def compare(self, reader: Reader, raw: RawTable) -> Reconciliation:
        """Compare what the reader sees with what is visible of raw.

        Notes the keys of rows to be repaired.
        """
        if not isinstance(reader, SqlReader):
            return self._compare_all_rows(reader, raw)
        if self.table.key:
            return self._compare_by_key(reader, raw)
        return self._compare_without_key(reader, raw)

    def _tell(self, reader: Reader) -> Progress | None:
        """Return a function that reports compared rows with the expected number. None if nobody
        listens.
        """
        if not self.on_progress:
            return None
        expected, on_progress = reader.expected_rows(self.table), self.on_progress
        return lambda table, rows, _: on_progress(table, rows, expected)

    def _columns(self, raw: RawTable, reader: Reader) -> list[Column]:
        """Return the columns that both sides have, typed as in raw."""
        have = {c.name: c for c in raw.columns()}
        columns = self.columns
        for column in reader.columns(self.table, list(have.values())):
            ours = have.get(column.name)
            # In a narrower type, equal values may have different texts, and every row would differ.
            if ours and widens(column.target_type, ours.target_type):
                columns.append(replace(column, target_type=ours.target_type))
            else:
                what = f"has it as {ours.target_type}" if ours else "does not have it"
                self.warnings.append(
                    f"column {column.name!r} ({column.source_type}) is not compared: raw {what}"
                )
        return columns

    def _left_out(self, raw: RawTable, columns: Sequence[Column], query: str) -> list[Key]:
        """Create the temporary table `left_out` from a query of keys. Returns its keys."""
        key = [next(c for c in columns if c.name == name) for name in raw.key]
        raw.connection.execute(f"CREATE TEMP TABLE left_out ON COMMIT DROP AS {query}".encode())
        rows = raw.connection.execute(
            f"SELECT {POSTGRES.row_text(key)}, {', '.join(as_text(quote(c.name), c) for c in key)}"
            " FROM pg_temp.left_out".encode()
        )
        return [Key(tuple(values), text) for text, *values in rows]

    def _compare_by_key(self, reader: SqlReader, raw: RawTable) -> Reconciliation:
        """Compare by key: first digests, then the rows that differ."""
        position = reader.position(self.table)
        columns = self._columns(raw, reader)
        recorder = Recorder(raw.connection, self.source.name, self.table.name, "", position)
        raw.hold(columns, recorder.entries([]))
        names = ", ".join(map(quote, raw.key))
        left_out = self._left_out(raw, columns, f"SELECT {names} FROM pg_temp.held")
        self._check_quarantine(reader, columns, left_out)
        narrowing = self._narrowing(reader, raw, columns, left_out)
        for found in narrowing.differing():
            self.fetch.add(found.fetch)
            self.extra.add(found.extra)
        result = Reconciliation(
            self.asset,
            position,
            narrowing.rows,
            narrowing.segments,
            quarantined=recorder.open_entries(),
        )
        if not (self.fetch or self.extra):
            return result
        raw.stage(columns)
        batches = reader.rows_of(self.table, columns, self.fetch)[1]
        unfit = sum(len(batch.rejected) for batch in raw.copy("pg_temp.incoming", columns, batches))
        # A hash finds candidates and never decides. PostgreSQL compares the values themselves.
        raw.find_changes(columns, missing_is_deleted=False)
        add_extra(raw, columns, self.extra)
        return replace(result, **_describe(raw, columns), unfit=unfit)

    def _narrowing(
        self, reader: SqlReader, raw: RawTable, columns: Sequence[Column], left_out: Sequence[Key]
    ) -> Narrowing:
        tell = self._tell(reader)
        return Narrowing(
            reader,
            self.table,
            raw,
            columns,
            left_out,
            (lambda rows: tell(self.table.name, rows, None)) if tell else (lambda rows: None),
        )

    def _check_quarantine(
        self, reader: SqlReader, columns: Sequence[Column], held: Sequence[Key]
    ) -> None:
        """Warn if rows in quarantine are no longer at the source, or fit by now."""
        if not held:
            return
        fit = unfit = 0
        for batch in reader.rows_of(self.table, columns, (key.values for key in held))[1]:
            fit, unfit = fit + len(batch.rows), unfit + len(batch.rejected)
        if fit:
            self.warnings.append(
                f"{fit} row(s) in quarantine are fit now: `softcart quarantine replay` takes them "
                "in"
            )
        if gone := len(held) - fit - unfit:
            self.warnings.append(
                f"{gone} row(s) in quarantine are no longer at the source; a full load closes them"
            )

    def _compare_without_key(self, reader: SqlReader, raw: RawTable) -> Reconciliation:
        """Compare by the digests of whole rows, and count how often each occurs."""
        position = reader.position(self.table)
        missing = extra = 0
        numbers: dict[int, int] = {}
        columns = self._columns(raw, reader)
        quarantined = Recorder(
            raw.connection, self.source.name, self.table.name, "", position
        ).open_entries()
        narrowing = self._narrowing(reader, raw, columns, [])
        for found in narrowing.differing():
            missing += sum(count for count in found.surplus.values() if count > 0)
            extra -= sum(count for count in found.surplus.values() if count < 0)
            # All are counted, but only some are kept to be named: there may be as many as the table
            # has rows.
            numbers |= dict(islice(found.surplus.items(), _FETCHED_NUMBERS - len(numbers)))
        sample = self._rows_in_raw(raw, columns, [n for n, count in numbers.items() if count < 0])
        # Rows in quarantine are among those that raw lacks; they are told by what is wrong with
        # them.
        unfit = 0
        lacked = [number for number, count in numbers.items() if count > 0]
        if lacked:
            condition = f"{reader.dialect.row_number(columns)} IN ({', '.join(map(str, lacked))})"
            named: list[Difference] = []
            for batch in reader.batches(self.table, columns, condition):
                unfit += len(batch.rejected)
                for row in islice(batch.rows.to_pylist(), SAMPLE - len(named)):
                    named.append(
                        Difference(
                            "missing", tuple(None if v is None else str(v) for v in row.values())
                        )
                    )
            sample = named + sample
        return Reconciliation(
            self.asset,
            position,
            narrowing.rows,
            narrowing.segments,
            missing=missing - unfit,
            extra=extra,
            unfit=max(unfit - quarantined, 0),
            sample=sample,
            quarantined=quarantined,
        )

    def _rows_in_raw(
        self, raw: RawTable, columns: Sequence[Column], numbers: Sequence[int]
    ) -> list[Difference]:
        if not numbers:
            return []
        rows = raw.connection.execute(
            f"SELECT {', '.join(as_text(quote(c.name), c) for c in columns)} FROM {raw.name}"
            f" WHERE {POSTGRES.row_number(columns)} IN ({', '.join(map(str, numbers[:SAMPLE]))}) "
            f"LIMIT {SAMPLE}".encode()
        )
        return [Difference("extra", tuple(row)) for row in rows]

    def _compare_all_rows(self, reader: Reader, raw: RawTable) -> Reconciliation:
        """Compare all rows in the staging warehouse, for a source without digests that PostgreSQL
        could match.

        Raises `NotComparable` if the table has no key.
        """
        if not raw.key:
            raise NotComparable(
                f"{self.asset} was not compared: it has no key, and {self.title} computes no "
                "digests "
                "of rows. Declare a key."
            )
        position = reader.position(self.table)
        tell = self._tell(reader)
        known = raw.columns()
        columns, batches = reader.all_rows(self.table, known)
        new = [c.name for c in columns if c.name not in {k.name for k in known}]
        self.warnings += [f"field {name!r} is new: a load adds its column" for name in new]
        columns = [c for c in columns if c.name not in new]
        recorder = Recorder(raw.connection, self.source.name, self.table.name, "", position)
        raw.hold(columns, recorder.entries([]))
        raw.stage(columns)
        rows = unfit = 0
        # Closed on every way out: see `copy_batches`.
        with closing(raw.copy("pg_temp.incoming", columns, batches)) as copied:
            for batch in copied:
                rows, unfit = rows + len(batch.rows), unfit + len(batch.rejected)
                if tell:
                    tell(self.table.name, rows, None)
        raw.find_changes(columns, missing_is_deleted=True)
        same = " AND ".join(f"h.{quote(name)} = c.{quote(name)}" for name in raw.key)
        raw.connection.execute(
            # A row in quarantine may have an older version in raw. It is not wrong, so it is not
            # counted.
            f"DELETE FROM pg_temp.changes c USING pg_temp.held h WHERE {same} AND "
            "c._deleted".encode()
        )
        described, quarantined = _describe(raw, columns), recorder.open_entries()
        return Reconciliation(
            self.asset,
            position,
            rows,
            1,
            **described,
            unfit=max(unfit - quarantined, 0),
            quarantined=quarantined,
        )


def _describe(raw: RawTable, columns: Sequence[Column]) -> dict[str, Any]:
    """Return what `changes` says of raw before it is applied: counts of each kind, and a sample."""
    same = " AND ".join(f"c.{quote(name)} = r.{quote(name)}" for name in raw.key)
    both = f"pg_temp.changes c LEFT JOIN {raw.name} r ON {same}"
    others = [c for c in columns if c.name not in raw.key]
    is_differing = "(NOT c._deleted AND NOT c._is_new)"

    def differs(column: Column) -> str:
        return f"{is_differing} AND c.{quote(column.name)} IS DISTINCT FROM r.{quote(column.name)}"

    counts = ", ".join(
        f"count(*) FILTER (WHERE {condition})"
        for condition in ("c._is_new", "c._deleted", is_differing, *map(differs, others))
    )
    row = raw.connection.execute(f"SELECT {counts} FROM {both}".encode()).fetchone()
    assert row is not None
    missing, extra, differing, *by_column = row
    kind = "CASE WHEN c._deleted THEN 'extra' WHEN c._is_new THEN 'missing' ELSE 'differing' END"
    by_name = {c.name: c for c in columns}
    key = ", ".join(as_text(f"c.{quote(name)}", by_name[name]) for name in raw.key)
    names = ", ".join(
        f"CASE WHEN {differs(c)} THEN {number} END" for number, c in enumerate(others)
    )
    sample = raw.connection.execute(
        f"SELECT kind, key, columns FROM (SELECT {kind} AS kind, ARRAY[{key}] AS key, "
        f"array_remove(ARRAY[{names}]::int[], NULL)"
        f" AS columns, row_number() OVER (PARTITION BY {kind} ORDER BY "
        f"{', '.join(f'c.{quote(n)}' for n in raw.key)}) AS number"
        f" FROM {both}) sample WHERE number <= {SAMPLE} ORDER BY kind DESC, number".encode()
    )
    return {
        "missing": missing,
        "extra": extra,
        "differing": differing,
        "columns": {c.name: count for c, count in zip(others, by_column, strict=True) if count},
        "sample": [
            Difference(kind, tuple(key), tuple(others[number].name for number in numbers))
            for kind, key, numbers in sample
        ],
    }
