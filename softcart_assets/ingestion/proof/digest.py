"""Numbers that stand for values, computed alike inside a source's server and inside PostgreSQL.

A value's number is an exact integer or decimal. Sums over many rows, weighted by the row's key,
show a changed, missing, doubled or swapped value without moving a row. A `Dialect` has the
expressions of one kind of server. This module builds the queries. It draws no conclusions from
their results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal

from softcart_assets.ingestion.types import Column, Kind

HASH_DIGITS = 14
"""Hexadecimal digits of a SHA-256 that count: 56 bits, so that a hash times a weight fits 64.

(MySQL 9 has no MD5.)
"""
EXACT = Context(prec=200)
_COLUMNS_A_QUERY = 500
"""PostgreSQL takes 1,664 items in a select list, and a column needs two."""


@dataclass(frozen=True)
class Dialect:
    """How one database writes what the queries need. NULL gives NULL.

    `number`: a column's number. `whole`: the value of a column of whole numbers, unchanged.
    `weight`: 1 to 31, from a whole number. It is squared on the way, so that pairs of keys with the
    same sum differ in weight. `divide`: whole division, towards zero. `row_text`: values of columns
    as one text. It is the same in every dialect for the same values, and different for others.
    `row_number`: 56 bits of a hash over that text, never NULL.

    Sums of weighted values show which column differs. They can miss two values exchanged between
    rows of the same weight. A hash over all values of a row misses nothing.
    """

    quote: Callable[[str], str]
    number: Callable[[Column], str]
    whole: Callable[[Column], str]
    weight: Callable[[str], str]
    divide: Callable[[str, int], str]
    row_text: Callable[[Sequence[Column]], str]
    row_number: Callable[[Sequence[Column]], str]


def _weight(dialect: Dialect, columns: Sequence[Column], key: Sequence[str]) -> str:
    leading = next((c for c in columns if key and c.name == key[0]), None)
    return f" * {dialect.weight(dialect.whole(leading))}" if leading and is_whole(leading) else ""


@dataclass(frozen=True)
class Segments:
    """A division of a table's rows by their leading key column.

    A whole number is divided into ranges of `size` numbers. Another value is divided by its hash
    into `size` buckets.
    """

    key: tuple[Column, ...]
    cursor: Column
    size: int

    @classmethod
    def of_about_a_thousand_rows(
        cls, key: tuple[Column, ...], cursor: Column, rows: int, lowest: int, highest: int
    ) -> Segments:
        """Return segments for a table of `rows` rows. `lowest` and `highest`: bounds of a whole
        leading key.
        """
        # The digests of all segments are held in memory, so their number is limited.
        count = min(max(rows // 1000, 1), 20_000)
        return cls(key, cursor, (highest - lowest) // count + 1 if is_whole(key[0]) else count)

    def expression(self, dialect: Dialect) -> str:
        """Return SQL for the segment's number."""
        if is_whole(self.key[0]):
            return dialect.divide(dialect.whole(self.key[0]), self.size)
        number = dialect.number(self.key[0])
        if self.key[0].kind is Kind.DECIMAL:
            number = f"FLOOR({number})"
        return f"MOD({number}, {self.size})"

    def select(self, dialect: Dialect) -> str:
        """Return the select list of the digests. Group by its first item, the segment's number."""
        numbers = [dialect.whole(c) if is_whole(c) else dialect.number(c) for c in self.key]
        sums = [f"SUM({number})" for number in numbers]
        cursor = (
            f"SUM({dialect.number(self.cursor)}{_weight(dialect, self.key, [self.key[0].name])})"
        )
        return ", ".join([self.expression(dialect), "COUNT(*)", *sums, cursor])

    def where(self, dialect: Dialect, segments: Sequence[int]) -> str:
        """Return the condition of belonging to one of the segments. On a whole key, its index
        serves.
        """
        if not is_whole(self.key[0]):
            return f"{self.expression(dialect)} IN ({', '.join(map(str, segments))})"
        key = dialect.whole(self.key[0])
        ranges: list[tuple[int, int]] = []
        for segment in sorted(segments):
            # Division goes towards zero, so segment 0 has numbers of both signs and is twice as
            # wide.
            low = segment * self.size - (self.size - 1 if segment <= 0 else 0)
            high = segment * self.size + (self.size - 1 if segment >= 0 else 0)
            # Neighbours become one range: the source looks up fewer of them.
            if ranges and ranges[-1][1] == low - 1:
                low = ranges.pop()[0]
            ranges.append((low, high))
        return "(" + " OR ".join(f"{key} BETWEEN {low} AND {high}" for low, high in ranges) + ")"


def is_whole(column: Column) -> bool:
    """Return whether the column holds whole numbers."""
    return column.kind is Kind.INTEGER or (column.decimal is not None and column.decimal[1] == 0)


Checksums = dict[str, str]
"""By column: how many values are not NULL and the sum of their numbers, `count:sum`."""


def checksums_by(
    ask: Callable[[str], Sequence[object]],
    dialect: Dialect,
    columns: Sequence[Column],
    key: Sequence[str],
) -> tuple[int, Checksums]:
    """Return the number of a table's rows and the checksum of each column.

    `ask` runs a query with the select list that it gets, and returns its row. All queries must see
    the same rows.
    """
    weight = _weight(dialect, columns, key)
    rows: object = 0
    found: Checksums = {}
    for start in range(0, max(len(columns), 1), _COLUMNS_A_QUERY):
        some = columns[start : start + _COLUMNS_A_QUERY]
        sums = (f"COUNT({dialect.quote(c.name)}), SUM({dialect.number(c)}{weight})" for c in some)
        answer = ask(", ".join(["COUNT(*)", *sums]))
        rows, *values = answer
        numbers = [Decimal(str(value)) if value is not None else Decimal(0) for value in values]
        pairs = zip(some, numbers[::2], numbers[1::2], strict=True)
        found |= {c.name: checksum(count, total) for c, count, total in pairs}
    return int(str(rows)), found


def minus(all_rows: tuple[int, Checksums], some: tuple[int, Checksums]) -> tuple[int, Checksums]:
    """Return the checksums of the rows that remain without `some`."""
    rest = {name: added(sums, some[1][name], -1) for name, sums in all_rows[1].items()}
    return all_rows[0] - some[0], rest


def added(one: str, other: str, sign: int = 1) -> str:
    """Return the checksum of the rows of both. With a `sign` of -1, those of `other` are taken
    away.
    """
    (count, total), (more, more_total) = (map(Decimal, each.split(":")) for each in (one, other))
    return checksum(count + sign * more, EXACT.add(total, EXACT.multiply(sign, more_total)))


def checksum(count: Decimal, total: Decimal) -> str:
    """Return a checksum from its parts. Equal sums give equal text, however they were written."""
    text = format(total, "f")
    return f"{count}:{text.rstrip('0').rstrip('.') if '.' in text else text}"
