"""Numbers that stand for values, computed alike inside a source's server and inside PostgreSQL.

A value's number is an exact integer or decimal. Sums over many rows, weighted by the row's key,
show a changed, missing, doubled or swapped value without moving a row. A `Dialect` has the
expressions of one kind of server. This module builds the queries. It draws no conclusions from
their results.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal

from softcart_assets.ingestion.types import Column, Kind

HASH_DIGITS = 14
"""Hexadecimal digits of a SHA-256 that count: 56 bits, so that a hash times a weight fits 64.

(MySQL 9 has no MD5.)
"""
LONGEST_DECIMAL = 30
"""Digits of a decimal whose number is itself. The sums of longer ones could exceed the 65 digits
that MySQL has, so they count by a hash.
"""
EXACT = Context(prec=200)
_SEGMENTS_A_PART = 100
_COLUMNS_A_QUERY = 500
"""PostgreSQL takes 1,664 items in a select list, and a column needs two."""


@dataclass(frozen=True)
class Dialect:
    """How one database writes what the queries need. NULL gives NULL.

    `number`: a column's number. `whole`: the value of a column of whole numbers, unchanged.
    `weight`: 1 to 31, from a whole number. It is squared on the way, so that pairs of keys with the
    same sum differ in weight. `divide`: whole division of a column, towards zero. `remainder`: what
    a division leaves of a column's number, with a sign. `xor`: the 62 low bits of two numbers,
    exclusive or. `row_text`: values of columns as one text. It is the same in every dialect for the
    same values, and different for others. `row_number`: 56 bits of a hash over that text, never
    NULL.

    Sums of weighted values show which column differs. They can miss two values exchanged between
    rows of the same weight. A hash over all values of a row misses nothing.
    """

    quote: Callable[[str], str]
    number: Callable[[Column], str]
    whole: Callable[[Column], str]
    weight: Callable[[str], str]
    divide: Callable[[Column, int], str]
    remainder: Callable[[Column, str, int], str]
    xor: Callable[[str, str], str]
    row_text: Callable[[Sequence[Column]], str]
    row_number: Callable[[Sequence[Column]], str]


def _weight(dialect: Dialect, columns: Sequence[Column], key: Sequence[str]) -> str:
    leading = next((c for c in columns if key and c.name == key[0]), None)
    return f" * {dialect.weight(dialect.whole(leading))}" if leading and is_whole(leading) else ""


Digest = tuple[int, int]
"""How many rows there are, and the sum of a number for each."""


@dataclass(frozen=True)
class Segments:
    """A division of a table's rows by their leading key column, for digests of keys and cursors.

    A whole number is divided into ranges of `size` numbers. Another value is divided by its hash
    into `size` buckets. A `size` of 0: all rows are in segment 0. `bounds`: the lowest and the
    highest key at the source, if an index there finds ranges of keys. `salt`: random numbers. They
    make other digests of the same rows each time, see `_pair_number`.
    """

    key: tuple[Column, ...]
    cursor: Column
    size: int
    bounds: tuple[int, int] | None = None
    salt: tuple[int, ...] = ()

    @classmethod
    def of_about_a_thousand_rows(
        cls,
        key: tuple[Column, ...],
        cursor: Column,
        rows: int,
        bounds: tuple[int, int] = (0, 0),
        *,
        is_indexed: bool = False,
    ) -> Segments:
        """Return segments for a table of `rows` rows. `bounds`: those of a whole leading key."""
        # The digests of all segments are held in memory, so their number is limited.
        count = min(max(rows // 1000, 1), 20_000)
        size = (bounds[1] - bounds[0]) // count + 1 if is_whole(key[0]) else count
        salt = tuple(1 << 30 | secrets.randbits(30) for _ in range(2 * len(key) + 4))
        return cls(key, cursor, size, bounds if is_indexed else None, salt)

    def parts(self) -> Segments:
        """Return a coarser division. Each of its segments consists of whole segments of this."""
        return replace(self, size=self.size * _SEGMENTS_A_PART if self.bounds else 0)

    def numbers(self) -> Sequence[int]:
        """Return the numbers of all segments that the source may have rows in."""
        if not self.size:
            return [0]
        assert self.bounds
        low, high = (abs(key) // self.size * (-1 if key < 0 else 1) for key in self.bounds)
        return range(low, high + 1)

    def expression(self, dialect: Dialect) -> str:
        """Return SQL for the segment's number."""
        if not self.size:
            return "0"
        if is_whole(self.key[0]):
            return dialect.divide(self.key[0], self.size)
        number = dialect.number(self.key[0])
        if self.key[0].kind is Kind.DECIMAL:
            number = f"FLOOR({number})"
        return f"MOD({number}, {self.size})"

    def select(self, dialect: Dialect) -> str:
        """Return the select list of the digests. Group by its first item, the segment's number."""
        return f"{self.expression(dialect)}, {self.digest(dialect)}"

    def digest(self, dialect: Dialect) -> str:
        """Return the items of a select list that give the digest of all rows."""
        return ", ".join(self.sums(dialect))

    def sums(self, dialect: Dialect) -> list[str]:
        """Return SQL for the two sums that make a digest."""
        return ["COUNT(*)", f"SUM({self._pair_number(dialect)})"]

    def _pair_number(self, dialect: Dialect) -> str:
        """Return SQL for a number of 62 bits from key and cursor.

        It is made of sums of the values, each multiplied by a random number. Such sums alone would
        not do: 1 and 4 have the sum of 2 and 3, whatever they are multiplied by, and equal sums of
        squares are as easy to find. The bits of two sums, one of them after a remainder, are in no
        such relation. So different rows have equal digests by chance alone: never in a hundred
        million trials with keys that have equal sums up to the fifth power. The next comparison
        draws other random numbers, so what chance might hide does not stay hidden.
        """
        columns = list(dict.fromkeys([*self.key, self.cursor]))
        # So that no sum of products exceeds 63 bits.
        bits = (63 - len(columns).bit_length()) // 2
        modulus, multiplier, null, *factors = (number >> 31 - bits for number in self.salt)

        def rest(column: Column) -> str:
            found = dialect.remainder(column, _whole_number(dialect, column), modulus)
            is_null = column == self.cursor and column.nullable
            return f"COALESCE({found}, {null})" if is_null else found

        def form(columns: Sequence[Column], factors: Sequence[int]) -> str:
            terms = (f"{rest(c)} * {factor}" for c, factor in zip(columns, factors, strict=False))
            return " + ".join(terms)

        of_key, of_all = form(self.key, factors), form(columns, factors[len(self.key) :])
        return dialect.xor(f"MOD({of_key}, {modulus}) * {multiplier}", of_all)

    def where(self, dialect: Dialect, segments: Sequence[int]) -> str:
        """Return the condition of belonging to one of the segments. On a whole key, its index
        serves.
        """
        if not self.size:
            return "1 = 1"
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


def _whole_number(dialect: Dialect, column: Column) -> str:
    """Return SQL for a column's number, without a fraction."""
    if is_whole(column):
        return dialect.whole(column)
    if column.decimal and column.decimal[0] <= LONGEST_DECIMAL:
        return f"{dialect.number(column)} * 1{'0' * column.decimal[1]}"
    return dialect.number(column)


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
    rows = 0
    found: Checksums = {}
    for start in range(0, max(len(columns), 1), _COLUMNS_A_QUERY):
        some = columns[start : start + _COLUMNS_A_QUERY]
        answer = ask(", ".join(_sums(dialect, some, weight)))
        numbers = [Decimal(str(value)) if value is not None else Decimal(0) for value in answer]
        rows, sums = checksums_of(some, numbers)
        found |= sums
    return rows, found


def sums_of(dialect: Dialect, columns: Sequence[Column], key: Sequence[str]) -> list[str]:
    """Return SQL for the sums that make a table's checksums: its rows, then two for a column."""
    return _sums(dialect, columns, _weight(dialect, columns, key))


def _sums(dialect: Dialect, columns: Sequence[Column], weight: str) -> list[str]:
    found = ["COUNT(*)"]
    for c in columns:
        found += [f"COUNT({dialect.quote(c.name)})", f"SUM({dialect.number(c)}{weight})"]
    return found


def checksums_of(columns: Sequence[Column], sums: Sequence[Decimal]) -> tuple[int, Checksums]:
    """Return the number of rows and the checksums that `sums_of` tells."""
    rows, *numbers = sums
    pairs = zip(columns, numbers[::2], numbers[1::2], strict=True)
    return int(rows), {c.name: checksum(count, total) for c, count, total in pairs}


def sums_in(columns: Sequence[Column], rows: int, checksums: Checksums) -> list[Decimal]:
    """Return the sums from which `checksums_of` has made checksums."""
    parts = (part for c in columns for part in checksums[c.name].split(":"))
    return [Decimal(rows), *map(Decimal, parts)]


def combined(
    one: tuple[int, Checksums], other: tuple[int, Checksums], sign: int = 1
) -> tuple[int, Checksums]:
    """Return the checksums of the rows of both, see `added`."""
    sums = {name: added(each, other[1][name], sign) for name, each in one[1].items()}
    return one[0] + sign * other[0], sums


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
