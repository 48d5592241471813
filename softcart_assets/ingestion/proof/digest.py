"""Numbers that stand for values, computed alike inside MySQL and inside PostgreSQL.

A value's number is an exact integer or decimal; sums of numbers over many rows, weighted by the row's key, show a changed,
missing, doubled or swapped value without moving a row. Here belong the two SQL expressions of each kind side by side
and the queries made of them, not the decisions drawn from their results.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

import pyarrow as pa

from softcart_assets.ingestion.codec.hashing import hash_sum
from softcart_assets.ingestion.types import Column, Kind

HASH_DIGITS = 14
"""Hexadecimal digits of a SHA-256 that count: 56 bits, so that a hash times a weight fits 64. (MySQL 9 has no MD5.)"""
_EXACT = Context(prec=200)


@dataclass(frozen=True)
class Dialect:
    """How one database writes what the queries need; NULL gives NULL.

    `number`: a column's number. `whole`: the value of a column of whole numbers, as itself.
    `weight`: 1 to 31 from a whole number; squared on the way, so that pairs of keys with the same sum differ in weight.
    `divide`: whole division, towards zero.
    """

    quote: Callable[[str], str]
    number: Callable[[Column], str]
    whole: Callable[[Column], str]
    weight: Callable[[str], str]
    divide: Callable[[str, int], str]


def _backticks(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _double_quotes(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _scaled(expression: str, literal: Callable[[str], str]) -> str:
    """A double brought by a power of ten between 1e-5 and 1e15, where both databases print it alike, to its last digit."""
    branches = [
        f"WHEN {expression} = 0 OR {_between(expression, '1e-5', '1e15', literal)} THEN {expression}"
    ]
    for power in range(20, 301, 20):
        up = _between(
            expression, f"1e{power - 5}", f"1e{power + 15}" if power < 290 else None, literal
        )
        down = _between(
            expression, f"1e-{power + 5}" if power < 300 else "0", f"1e-{power - 15}", literal
        )
        branches.append(f"WHEN {up} THEN {expression} / {literal(f'1e{power}')}")
        branches.append(f"WHEN {down} THEN {expression} * {literal(f'1e{power}')}")
    return f"CASE {' '.join(branches)} END"


def _between(expression: str, low: str, high: str | None, literal: Callable[[str], str]) -> str:
    upper = f" AND ABS({expression}) < {literal(high)}" if high else ""
    return f"ABS({expression}) >= {literal(low)}{upper}"


# JSON numbers are written differently (1e20 or its digits), everything else alike: compare without them.
_JSON_NUMBERS = "[-+.0-9eE]"


def _mysql_number(column: Column) -> str:
    name = mysql_value(column)

    def hashed(text: str) -> str:
        return f"CAST(CONV(LEFT(SHA2({text}, 256), {HASH_DIGITS}), 16, 10) AS UNSIGNED)"

    match column.kind:
        case Kind.INTEGER:
            return name if column.target_type != "bigint" else f"CAST({name} AS DECIMAL(20,0))"
        case Kind.DECIMAL if column.decimal and column.decimal[0] <= 30:
            return (
                name
                if column.source_type.startswith("decimal")
                else f"CAST({name} AS DECIMAL(20,0))"
            )
        case Kind.DECIMAL:
            return hashed(f"CAST({name} AS CHAR)")
        case Kind.DOUBLE:
            return hashed(f"CAST(CAST({_scaled(name, str)} AS DECIMAL(65,30)) AS CHAR)")
        case Kind.TEXT:
            return hashed(f"CONVERT({name} USING utf8mb4)")
        case Kind.BYTES:
            return hashed(name)
        case Kind.DATE:
            return f"TO_DAYS({name})"
        case Kind.DATETIME | Kind.INSTANT:
            return f"TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {name})"
        case Kind.TIME:
            return name
        case Kind.JSON:
            return hashed(f"REGEXP_REPLACE(CAST({name} AS CHAR), '{_JSON_NUMBERS}', '')")
    raise AssertionError(column)


def mysql_value(column: Column) -> str:
    """The expression that MySQL's column is read with: exact as text, bits and times as whole numbers."""
    name = _backticks(column.name)
    match column.source_type.split("(")[0].split(" ")[0]:
        case "float" | "double":
            # Plain FLOAT prints six digits, DOUBLE(m,d) d decimals; the product with a double prints all, and -0 as well.
            return f"({name} * 1e0)"
        case "bit":
            return f"({name} + 0)"
        case "time":
            # Microseconds; TIME_TO_SEC keeps fractions on MariaDB and drops them on MySQL.
            return (
                f"(IF({name} < 0, -1, 1) * (CAST(FLOOR(ABS(TIME_TO_SEC({name}))) AS SIGNED) * 1000000"
                f" + MICROSECOND({name})))"
            )
    return name


def _postgres_number(column: Column) -> str:
    name = _double_quotes(column.name)

    def hashed(text: str) -> str:
        data = text if column.kind is Kind.BYTES else f"convert_to({text}, 'UTF8')"
        return f"('x' || left(encode(sha256({data}), 'hex'), {HASH_DIGITS}))::bit({HASH_DIGITS * 4})::bigint"

    match column.kind:
        case Kind.INTEGER:
            return f"{name}::numeric" if column.target_type == "bigint" else f"{name}::bigint"
        case Kind.DECIMAL if column.decimal and column.decimal[0] <= 30:
            return name
        case Kind.DECIMAL:
            return hashed(f"{name}::text")
        case Kind.DOUBLE:
            scaled = _scaled(name, lambda text: f"'{text}'::float8")
            finite = f"({scaled})::text::numeric(65,30)::text"
            return hashed(f"CASE WHEN abs({name}) < 'Infinity' THEN {finite} ELSE {name}::text END")
        case Kind.BOOLEAN:
            return f"{name}::int::bigint"
        case Kind.TEXT | Kind.BYTES:
            return hashed(name)
        case Kind.DATE:
            return f"({name} - DATE '0001-01-01' + 366)::bigint"
        case Kind.DATETIME | Kind.INSTANT:
            return f"(extract(epoch FROM {name}) * 1000000)::bigint"
        case Kind.TIME:
            return f"(extract(epoch FROM {name}) * 1000000)::bigint"
        case Kind.JSON:
            return hashed(f"regexp_replace({name}::text, '{_JSON_NUMBERS}', '', 'g')")
    raise AssertionError(column)


MYSQL = Dialect(
    quote=_backticks,
    number=_mysql_number,
    whole=mysql_value,
    weight=lambda whole: (
        f"CAST(1 + MOD(MOD(ABS({whole}), 1009) * MOD(ABS({whole}), 1009), 31) AS SIGNED)"
    ),
    divide=lambda whole, by: f"({whole} DIV {by})",
)
POSTGRES = Dialect(
    quote=_double_quotes,
    number=_postgres_number,
    whole=lambda column: _double_quotes(column.name),
    weight=lambda whole: (
        f"(1 + mod((abs({whole}) % 1009)::int * (abs({whole}) % 1009)::int, 31))::bigint"
    ),
    divide=lambda whole, by: f"div({whole}, {by})",
)


def _weight(dialect: Dialect, columns: Sequence[Column], key: Sequence[str]) -> str:
    leading = next((c for c in columns if key and c.name == key[0]), None)
    return f" * {dialect.weight(dialect.whole(leading))}" if leading and is_whole(leading) else ""


def checksum_select(dialect: Dialect, columns: Sequence[Column], key: Sequence[str]) -> str:
    """The select list of a table's checksums: the number of rows, then per column how many are not NULL and their sum."""
    weight = _weight(dialect, columns, key)
    sums = (f"COUNT({dialect.quote(c.name)}), SUM({dialect.number(c)}{weight})" for c in columns)
    return ", ".join(["COUNT(*)", *sums])


@dataclass(frozen=True)
class Segments:
    """A division of a table's rows by their leading key column: ranges of `size` numbers, or by hash into `size` buckets."""

    key: tuple[Column, ...]
    cursor: Column
    size: int

    @classmethod
    def of_about_a_thousand_rows(
        cls, key: tuple[Column, ...], cursor: Column, rows: int, lowest: int, highest: int
    ) -> Segments:
        """Segments of a table with so many rows, whose leading key column, if whole, spans so far."""
        count = min(max(rows // 1000, 1), 20_000)
        return cls(key, cursor, (highest - lowest) // count + 1 if is_whole(key[0]) else count)

    def expression(self, dialect: Dialect) -> str:
        """SQL for the segment's number."""
        if is_whole(self.key[0]):
            return dialect.divide(dialect.whole(self.key[0]), self.size)
        number = dialect.number(self.key[0])
        return f"MOD({f'FLOOR({number})' if self.key[0].kind is Kind.DECIMAL else number}, {self.size})"

    def select(self, dialect: Dialect) -> str:
        """The select list of the digests, to be grouped by its first item, the segment's number."""
        numbers = [dialect.whole(c) if is_whole(c) else dialect.number(c) for c in self.key]
        sums = [f"SUM({number})" for number in numbers]
        cursor = (
            f"SUM({dialect.number(self.cursor)}{_weight(dialect, self.key, [self.key[0].name])})"
        )
        return ", ".join([self.expression(dialect), "COUNT(*)", *sums, cursor])

    def where(self, dialect: Dialect, segments: Sequence[int]) -> str:
        """The condition of belonging to one of the segments; on a whole key its index serves."""
        if not is_whole(self.key[0]):
            return f"{self.expression(dialect)} IN ({', '.join(map(str, segments))})"
        key = dialect.whole(self.key[0])
        ranges: list[tuple[int, int]] = []
        for segment in sorted(segments):
            low = segment * self.size - (self.size - 1 if segment <= 0 else 0)
            high = segment * self.size + (self.size - 1 if segment >= 0 else 0)
            if ranges and ranges[-1][1] == low - 1:
                low = ranges.pop()[0]
            ranges.append((low, high))
        return "(" + " OR ".join(f"{key} BETWEEN {low} AND {high}" for low, high in ranges) + ")"


def is_whole(column: Column) -> bool:
    """Whether the column holds whole numbers."""
    return column.kind is Kind.INTEGER or (column.decimal is not None and column.decimal[1] == 0)


Checksums = dict[str, str]
"""By column: how many values are not NULL and the sum of their numbers, `count:sum`."""


def checksums_of(columns: Sequence[Column], row: Iterable[object]) -> tuple[int, Checksums]:
    """What `checksum_select` gave, as rows and checksums."""
    rows, *values = (Decimal(str(value)) if value is not None else Decimal(0) for value in row)
    pairs = zip(values[::2], values[1::2], strict=True)
    return int(rows), {
        c.name: _checksum(n, total) for c, (n, total) in zip(columns, pairs, strict=True)
    }


def minus(all_rows: tuple[int, Checksums], some: tuple[int, Checksums]) -> tuple[int, Checksums]:
    """The checksums of the rows that remain without `some`."""
    rest = {}
    for name in all_rows[1]:
        (count, total), (less, less_total) = (
            map(Decimal, c[name].split(":")) for c in (all_rows[1], some[1])
        )
        rest[name] = _checksum(count - less, _EXACT.subtract(total, less_total))
    return all_rows[0] - some[0], rest


def _checksum(count: Decimal, total: Decimal) -> str:
    text = format(total, "f")
    return f"{count}:{text.rstrip('0').rstrip('.') if '.' in text else text}"


class Accumulator:
    """Checksums of Arrow batches, for a source whose server cannot compute them; equal to what `POSTGRES` computes."""

    def __init__(self) -> None:
        self._rows = 0
        self._counts: dict[str, int] = {}
        self._sums: dict[str, Decimal] = {}

    def add(self, columns: Sequence[Column], rows: pa.RecordBatch) -> None:
        """Count in a batch."""
        self._rows += len(rows)
        for column in columns:
            values = rows.column(column.name).drop_null()
            self._counts[column.name] = self._counts.get(column.name, 0) + len(values)
            self._sums[column.name] = _EXACT.add(
                self._sums.get(column.name, Decimal(0)), _sum_of_numbers(column, values)
            )

    def result(self, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Number of rows and the checksum of each column."""
        return self._rows, {
            c.name: _checksum(
                Decimal(self._counts.get(c.name, 0)), self._sums.get(c.name, Decimal(0))
            )
            for c in columns
        }


def _sum_of_numbers(column: Column, values: pa.Array) -> Decimal:
    """The sum of the numbers of a MongoDB column's values."""
    match column.kind:
        case Kind.BOOLEAN:
            return Decimal(values.true_count)
        case Kind.INTEGER | Kind.INSTANT:
            numbers = values.cast(pa.int64()).to_numpy()
            return (Decimal(int((numbers >> 32).sum())) * (1 << 32)) + int(
                (numbers & 0xFFFFFFFF).sum()
            )
        case Kind.TEXT:
            return Decimal(hash_sum(values))
        case Kind.JSON:  # written as PostgreSQL prints jsonb
            return Decimal(hash_sum(values, True))
        case Kind.DOUBLE:
            return Decimal(sum(_hash(_double_text(value)) for value in values.to_pylist()))
        case Kind.DECIMAL:
            return Decimal(sum(_hash(format(value, "f")) for value in values.to_pylist()))
    raise AssertionError(column)


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS], 16)


def _double_text(value: float) -> str:
    """What PostgreSQL makes of a double in `_postgres_number`."""
    if not math.isfinite(value):
        return {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, "NaN")
    size = abs(value)
    if value and not 1e-5 <= size < 1e15:
        for power in range(20, 301, 20):
            if size >= float(f"1e{power - 5}") and (power > 290 or size < float(f"1e{power + 15}")):
                value /= float(f"1e{power}")
                break
            if size < float(f"1e-{power - 15}") and (
                power == 300 or size >= float(f"1e-{power + 5}")
            ):
                value *= float(f"1e{power}")
                break
    scaled = Decimal(repr(value)).quantize(Decimal(1).scaleb(-30), ROUND_HALF_UP, context=_EXACT)
    return format(scaled or abs(scaled), "f")


# Whole rows. Sums of weighted values tell columns apart but can miss two values exchanged between rows of the same weight;
# a hash over all of a row's values misses nothing. Both databases write each value as the same text.

_SHORT_TYPES = {
    "char",
    "varchar",
    "tinytext",
    "enum",
    "set",
    "uuid",
    "inet4",
    "inet6",
    "binary",
    "varbinary",
    "tinyblob",
}
"""MySQL types whose values go into a row's text as they are; longer ones by their hash, since MySQL limits a text's length."""
_ABSENT = "~"
_UNIT = 65
"""Doubles are brought near one by powers of two to multiples of this, which loses no bit of them."""
_LARGEST = f"{1.7976931348623157e308:.17e}"
_EXTREME_NUMBERS = "-?([0-9]+([.][0-9]+)?[eE][-+]?[0-9]+|[0-9]{16,}([.][0-9]+)?|0[.]00000[0-9]*)"
"""Numbers inside JSON that MySQL writes with an exponent and PostgreSQL without; left out on both sides."""


def row_number(dialect: Dialect, columns: Sequence[Column]) -> str:
    """A row's number: 56 bits of a hash over all its values, in the order of `columns`; never NULL."""
    text = row_text(dialect, columns)
    if dialect is MYSQL:
        return f"CAST(CONV(LEFT(SHA2({text}, 256), {HASH_DIGITS}), 16, 10) AS UNSIGNED)"
    data = f"encode(sha256(convert_to({text}, 'UTF8')), 'hex')"
    return f"('x' || left({data}, {HASH_DIGITS}))::bit({HASH_DIGITS * 4})::bigint"


def row_text(dialect: Dialect, columns: Sequence[Column]) -> str:
    """The values of `columns` as one text that is the same for the same values in both databases, and for no others."""
    if dialect is MYSQL:
        # The separator is binary, and so is the whole: texts keep their bytes and collations do not meet.
        texts = ", ".join(f"IFNULL({_mysql_text(c)}, '{_ABSENT}')" for c in columns)
        return f"CONCAT_WS(x'1F', {texts})"
    return (
        f"array_to_string(ARRAY[{', '.join(map(_postgres_text, columns))}], E'\\x1f', '{_ABSENT}')"
    )


def _is_short(column: Column) -> bool:
    return re.split(r"[ (]", column.source_type)[0] in _SHORT_TYPES


def _mysql_text(column: Column) -> str:
    name = mysql_value(column)
    match column.kind:
        case Kind.INTEGER:
            return f"CAST({name} AS DECIMAL(20,0))"  # without the zeros of ZEROFILL and YEAR
        case Kind.DECIMAL if column.decimal:
            return f"CAST({name} AS DECIMAL({column.decimal[0]},{column.decimal[1]}))"
        case Kind.DOUBLE:
            return _double_as_text(
                name,
                str,
                lambda number, unit: f"CONCAT(CAST({number} AS DECIMAL(65,30)), '{unit}')",
                name,
            )
        case Kind.TEXT:
            text = f"CONVERT({name} USING utf8mb4)"
            return (
                f"CONCAT(CHAR_LENGTH({text}), ':', {text})"
                if _is_short(column)
                else f"SHA2({text}, 256)"
            )
        case Kind.BYTES:
            return f"LOWER(HEX({name}))" if _is_short(column) else f"SHA2({name}, 256)"
        case Kind.JSON:
            return f"SHA2(REGEXP_REPLACE(CAST({name} AS CHAR), '{_EXTREME_NUMBERS}', ''), 256)"
    return _mysql_number(column)


def _postgres_text(column: Column) -> str:
    name = _double_quotes(column.name)
    match column.kind:
        case Kind.INTEGER | Kind.DECIMAL:
            return f"{name}::text"
        case Kind.DOUBLE:
            return _double_as_text(
                name,
                lambda text: f"'{text}'::float8",
                lambda number, unit: f"({number})::text::numeric(65,30)::text || '{unit}'",
                f"{name}::text",
            )
        case Kind.TEXT if _is_short(column):
            return f"char_length({name}) || ':' || {name}"
        case Kind.TEXT:
            return f"encode(sha256(convert_to({name}, 'UTF8')), 'hex')"
        case Kind.BYTES:
            return f"encode({name if _is_short(column) else f'sha256({name})'}, 'hex')"
        case Kind.JSON:
            plain = f"regexp_replace({name}::text, '{_EXTREME_NUMBERS}', '', 'g')"
            return f"encode(sha256(convert_to({plain}, 'UTF8')), 'hex')"
    return f"({_postgres_number(column)})::text"


def _double_as_text(
    name: str, literal: Callable[[str], str], shown: Callable[[str, str], str], otherwise: str
) -> str:
    """A double as text, different for different doubles: brought between 2^-16 and 2^49, where both databases print it
    alike, to its last digit.
    """

    def power(exponent: int) -> str:
        return literal(f"{2.0**exponent:.17e}")

    def between(low: int, high: int) -> str:
        lowest = f"ABS({name}) >= {power(low)} AND " if low > -1074 else ""
        return lowest + (
            f"ABS({name}) < {power(high)}" if high < 1024 else f"ABS({name}) <= {literal(_LARGEST)}"
        )

    branches = [f"WHEN {name} = 0 THEN '0'", f"WHEN {between(-16, 49)} THEN {shown(name, '')}"]
    for unit in range(1, 18):
        for sign, low in ((-1, 49 + _UNIT * (unit - 1)), (1, -16 - _UNIT * unit)):
            if low >= 1024:
                continue
            # In two steps, since the power itself may be no double.
            half = sign * _UNIT * unit // 2
            number = f"{name} * {power(half)} * {power(sign * _UNIT * unit - half)}"
            branches.append(
                f"WHEN {between(low, low + _UNIT)} THEN {shown(number, f'/{-sign * unit}')}"
            )
    return f"CASE {' '.join(branches)} ELSE {otherwise} END"
