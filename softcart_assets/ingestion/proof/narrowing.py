"""Finds the rows in which a source's table (asked in SQL) and its raw table differ, without moving
the others.

Both databases add up the digests of their own rows by segment. Segments that differ are divided
further, until few rows are left. Then their digests are compared one by one. This module does not
decide what happens to the rows found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Protocol

from softcart_assets.ingestion.proof.digest import (
    HASH_DIGITS,
    Dialect,
    Segments,
    is_whole,
)
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.readers import SqlReader
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.sinks.sql import as_text, quote
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Table

_SEGMENT_ROWS = 10_000
_FINER = 100
"""The number of parts into which a differing segment is divided."""
_FEW_ROWS = 1_000
"""Segments of this many rows or fewer are not divided further."""
_ROWS_AT_ONCE = 20_000
"""The number of rows whose digests are held at a time."""
_SEGMENTS_A_QUERY = 16
# Far more than the rows of any table: rows that still share a bucket have the same values.
_LAST_BUCKETS = 1 << 40

Condition = Callable[[Dialect], str]
"""Which rows, in SQL."""


@dataclass(frozen=True)
class Key:
    """A row's key: its values as PostgreSQL's or the source's text, and a text that is the same in
    both.
    """

    values: tuple[str, ...]
    text: str


@dataclass
class Found:
    """The result of comparing some rows' digests.

    `fetch`: keys of rows that raw lacks or has with other values. `extra`: keys of rows that only
    raw has.

    `surplus`: for a table without a key, by digest, how many more rows the source has (negative:
    fewer).
    """

    fetch: list[tuple[str, ...]] = field(default_factory=list)
    extra: list[tuple[str, ...]] = field(default_factory=list)
    surplus: dict[int, int] = field(default_factory=dict)


class Division(Protocol):
    """A way to divide rows into numbered segments."""

    def expression(self, dialect: Dialect) -> str:
        """Return SQL for the segment's number."""

    def where(self, dialect: Dialect, segments: Sequence[int]) -> str:
        """Return the condition of belonging to one of the segments."""

    def of(self, key: Key) -> int:
        """Return the segment of a key."""

    def finer(self, rows: int) -> Division | None:
        """Return how to divide a segment of so many rows further. None: it cannot be divided."""


@dataclass(frozen=True)
class Ranges:
    """Ranges of the leading key column, which holds whole numbers."""

    key: tuple[Column, ...]
    size: int

    @property
    def _segments(self) -> Segments:
        return Segments(self.key[:1], self.key[0], self.size)

    def expression(self, dialect: Dialect) -> str:
        """Return SQL for the segment's number."""
        return self._segments.expression(dialect)

    def where(self, dialect: Dialect, segments: Sequence[int]) -> str:
        """Return the condition of belonging to one of the segments."""
        return self._segments.where(dialect, segments)

    def number(self, value: int) -> int:
        """Return the segment of a value. Like the databases, divide towards zero."""
        return abs(value) // self.size * (-1 if value < 0 else 1)

    def of(self, key: Key) -> int:
        """Return the segment of a key."""
        return self.number(int(key.values[0]))

    def finer(self, rows: int) -> Division:
        """Return smaller ranges. Rows with the same number are divided by their whole key."""
        if self.size > 1:
            return Ranges(self.key, -(-self.size // _FINER))
        return Buckets(self.key, max(rows // _FINER, 2))


@dataclass(frozen=True)
class Buckets:
    """The hash of some columns, divided evenly."""

    columns: tuple[Column, ...]
    count: int

    def expression(self, dialect: Dialect) -> str:
        """Return SQL for the segment's number."""
        return f"MOD({dialect.row_number(self.columns)}, {self.count})"

    def where(self, dialect: Dialect, segments: Sequence[int]) -> str:
        """Return the condition of belonging to one of the segments."""
        return f"{self.expression(dialect)} IN ({', '.join(map(str, segments))})"

    def of(self, key: Key) -> int:
        """Return the segment of a key."""
        return int(hashlib.sha256(key.text.encode()).hexdigest()[:HASH_DIGITS], 16) % self.count

    def finer(self, rows: int) -> Division | None:
        """Return more buckets. Rows that still share a bucket after many divisions are
        identical.
        """
        return Buckets(self.columns, self.count * _FINER) if self.count < _LAST_BUCKETS else None


class Narrowing:
    """One table on both sides: `reader` sees the source at one position, and `raw` is used in a
    transaction that sees one state.

    `columns`: those that both sides have, typed as in raw. `left_out`: keys that are not compared.
    They are in `pg_temp.left_out`, too. `tell` is called with the number of rows compared so far.
    """

    def __init__(
        self,
        reader: SqlReader,
        table: Table,
        raw: RawTable,
        columns: Sequence[Column],
        left_out: Sequence[Key] = (),
        tell: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self.reader, self.table, self.raw, self.columns, self.tell = (
            reader,
            table,
            raw,
            columns,
            tell,
        )
        self.left_out = left_out
        self.dialect = reader.dialect
        by_name = {c.name: c for c in columns}
        self.key = tuple(by_name[name] for name in table.key)
        self.rows = self.segments = 0
        condition = ["NOT _deleted"]
        if left_out:
            same = " AND ".join(f"o.{quote(c.name)} = r.{quote(c.name)}" for c in self.key)
            condition.append(f"NOT EXISTS (SELECT FROM pg_temp.left_out o WHERE {same})")
        self._live = f"{raw.name} r WHERE {' AND '.join(condition)}"

    def differing(self) -> Iterator[Found]:
        """Yield what differs, some rows at a time."""
        with ThreadPoolExecutor(1) as self._executor:
            # The source's number is an estimate, and may be far off or missing.
            rows = max(self.raw.rows(), self.reader.expected_rows(self.table) or 0)
            count = max(rows // _SEGMENT_ROWS, 1)
            if not (self.key and is_whole(self.key[0])):
                yield from self._narrow(
                    Buckets(self.key or tuple(self.columns), count), [], None, self.left_out
                )
                return
            lowest, highest = self._bounds()
            ranges = Ranges(self.key, (highest - lowest) // count + 1)
            numbers = iter(range(ranges.number(lowest), ranges.number(highest) + 1))
            # Some segments at a time, so that progress can be told and no statement grows with the
            # table.
            while some := list(islice(numbers, _SEGMENTS_A_QUERY)):
                yield from self._narrow(ranges, [], some, self.left_out)

    def _bounds(self) -> tuple[int, int]:
        """Return the least and the greatest leading key on either side."""
        column = self.key[0]
        at_source, in_raw = self._both(
            f"SELECT MIN({self.dialect.whole(column)}), MAX({self.dialect.whole(column)}) FROM "
            f"{self.dialect.quote(self.table.at_source)}",
            f"SELECT min({POSTGRES.whole(column)}), max({POSTGRES.whole(column)}) FROM "
            f"{self._live}",
        )
        values = [int(value) for value in (*at_source[0], *in_raw[0]) if value is not None] or [0]
        return min(values), max(values)

    def _narrow(
        self,
        division: Division,
        outer: Sequence[Condition],
        numbers: Sequence[int] | None,
        left_out: Sequence[Key],
    ) -> Iterator[Found]:
        """Yield what differs in the segments with some numbers (None: all), within conditions."""
        where = outer if numbers is None else [*outer, _within(division, numbers)]
        if numbers is not None:
            wanted = set(numbers)
            left_out = [key for key in left_out if division.of(key) in wanted]
        at_source, in_raw = self._digests(division, where, left_out)
        self.segments += len(at_source.keys() | in_raw.keys())
        # In the first division only: the finer ones look at the same rows again.
        if not outer:
            self.rows += sum(rows for rows, _ in at_source.values())
            self.tell(self.rows)
        differing = {
            number: max(at_source.get(number, (0, 0))[0], in_raw.get(number, (0, 0))[0])
            for number in sorted(at_source.keys() | in_raw.keys())
            if at_source.get(number, (0, 0)) != in_raw.get(number, (0, 0))
        }
        finer = division.finer(max(differing.values(), default=0))
        small = {
            number: rows for number, rows in differing.items() if rows <= _FEW_ROWS or not finer
        }
        # Several small segments in one query: one query each would be mostly waiting.
        for group in _up_to(_ROWS_AT_ONCE, small.items()):
            yield self._compare_rows([*where, _within(division, group)])
        big = [number for number in differing if number not in small]
        for start in range(0, len(big), _SEGMENTS_A_QUERY):
            assert finer
            group = big[start : start + _SEGMENTS_A_QUERY]
            yield from self._narrow(finer, [*where, _within(division, group)], None, left_out)

    def _digests(
        self, division: Division, where: Sequence[Condition], left_out: Sequence[Key]
    ) -> tuple[dict[int, tuple[int, int]], dict[int, tuple[int, int]]]:
        """Return, by segment, the number of rows and the sum of their hashes, at the source and in
        raw.
        """

        def select(dialect: Dialect) -> str:
            number = dialect.row_number(self.columns)
            return f"SELECT {division.expression(dialect)}, COUNT(*), SUM({number})"

        relation = self.dialect.quote(self.table.at_source)
        source = f"{select(self.dialect)} FROM {relation} WHERE {_all(self.dialect, where)}"
        at_source, in_raw = self._both(
            f"{source} GROUP BY 1",
            f"{select(POSTGRES)} FROM {self._live} AND {_all(POSTGRES, where)} GROUP BY 1",
        )
        digests = {int(number): (int(rows), int(total)) for number, rows, total in at_source}
        # Subtracted, not excluded by a condition: the source scans once, and looks up these few by
        # key.
        for keys in self.reader.any_of(self.table, self.columns, (key.values for key in left_out)):
            for number, rows, total in self._source(f"{source} AND ({keys}) GROUP BY 1"):
                have = digests[int(number)]
                digests[int(number)] = have[0] - int(rows), have[1] - int(total)
        return (
            # Segments that had nothing but left-out rows are empty on both sides.
            {number: digest for number, digest in digests.items() if digest[0]},
            {int(number): (int(rows), int(total)) for number, rows, total in in_raw},
        )

    def _compare_rows(self, where: Sequence[Condition]) -> Found:
        """Compare the digest of each row in the segments on both sides."""
        found = Found()
        source, live = (
            self.dialect.quote(self.table.at_source),
            f"{self._live} AND {_all(POSTGRES, where)}",
        )
        if not self.key:
            at_source, in_raw = self._both(
                *(
                    f"SELECT {dialect.row_number(self.columns)}, COUNT(*) FROM {rows} GROUP BY 1"
                    for dialect, rows in (
                        (self.dialect, f"{source} WHERE {_all(self.dialect, where)}"),
                        (POSTGRES, live),
                    )
                )
            )
            counts = {int(number): int(count) for number, count in at_source}
            for number, count in in_raw:
                counts[int(number)] = counts.get(int(number), 0) - int(count)
            found.surplus = {number: count for number, count in counts.items() if count}
            return found
        at_source, in_raw = self._both(
            f"SELECT {self.dialect.row_text(self.key)}, {self.dialect.row_number(self.columns)},"
            f" {', '.join(map(self.reader.shown, self.key))} FROM {source} WHERE "
            f"{_all(self.dialect, where)}",
            f"SELECT {POSTGRES.row_text(self.key)}, {POSTGRES.row_number(self.columns)},"
            f" {', '.join(as_text(quote(c.name), c) for c in self.key)} FROM {live}",
        )
        ours = {text: (int(number), values) for text, number, *values in in_raw}
        not_compared = {key.text for key in self.left_out}
        for text, number, *values in at_source:
            if text not in not_compared and ours.pop(text, (None, ()))[0] != int(number):
                found.fetch.append(tuple(values))
        found.extra = [tuple(values) for _, values in ours.values()]
        return found

    def _both(self, source: str, raw: str) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        """Run one query at the source and one in the staging warehouse at the same time. Returns
        the rows of both.
        """
        at_source = self._executor.submit(self._source, source)
        in_raw = self.raw.connection.execute(raw.encode()).fetchall()
        return at_source.result(), in_raw

    def _source(self, query: str) -> list[tuple[Any, ...]]:
        return list(self.reader.query(self.table, query))


def _within(division: Division, numbers: Sequence[int]) -> Condition:
    return lambda dialect: division.where(dialect, numbers)


def _all(dialect: Dialect, conditions: Iterable[Condition]) -> str:
    return " AND ".join(f"({condition(dialect)})" for condition in conditions) or "1 = 1"


def _up_to(rows: int, segments: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield segments' numbers in groups of no more than about `rows` rows."""
    some: list[int] = []
    total = 0
    for number, count in segments:
        if some and total + count > rows:
            yield some
            some, total = [], 0
        some.append(number)
        total += count
    if some:
        yield some
