"""The digests' expressions in MySQL and MariaDB. They equal PostgreSQL's in `proof.postgres`."""

from __future__ import annotations

from collections.abc import Sequence

from softcart_assets.ingestion.proof.digest import HASH_DIGITS, LONGEST_DECIMAL, Dialect
from softcart_assets.ingestion.proof.expressions import (
    ABSENT,
    EXTREME_NUMBERS,
    JSON_NUMBERS,
    double_as_text,
    is_short,
    scaled_double,
)
from softcart_assets.ingestion.types import Column, Kind

_SIGNED = {Kind.DATE, Kind.DATETIME, Kind.INSTANT}
"""Kinds whose numbers are whole and have a sign."""


def _backticks(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def mysql_value(column: Column) -> str:
    """Return the expression that reads a column: exact as text, bits and times as whole numbers."""
    name = _backticks(column.name)
    match column.source_type.split("(")[0].split(" ")[0]:
        case "float" | "double":
            # Plain FLOAT prints six digits, DOUBLE(m,d) d decimals; the product with a double
            # prints all, and -0 as well.
            return f"({name} * 1e0)"
        case "bit":
            # A BIT is a string of bytes otherwise.
            return f"({name} + 0)"
        case "time":
            # Microseconds; TIME_TO_SEC keeps fractions on MariaDB and drops them on MySQL.
            return (
                f"(IF({name} < 0, -1, 1) * (CAST(FLOOR(ABS(TIME_TO_SEC({name}))) AS SIGNED) * "
                "1000000"
                f" + MICROSECOND({name})))"
            )
    return name


def _mysql_number(column: Column) -> str:
    name = mysql_value(column)

    def hashed(text: str) -> str:
        return f"CAST(CONV(LEFT(SHA2({text}, 256), {HASH_DIGITS}), 16, 10) AS UNSIGNED)"

    match column.kind:
        case Kind.INTEGER:
            # As a decimal: multiplied by its weight, a bigint may not fit into 64 bits.
            return name if column.target_type != "bigint" else f"CAST({name} AS DECIMAL(20,0))"
        case Kind.DECIMAL if column.decimal and column.decimal[0] <= LONGEST_DECIMAL:
            return (
                name
                if column.source_type.startswith("decimal")
                else f"CAST({name} AS DECIMAL(20,0))"
            )
        case Kind.DECIMAL:
            return hashed(f"CAST({_mysql_text(column)} AS CHAR)")
        case Kind.DOUBLE:
            return hashed(f"CAST(CAST({scaled_double(name, str)} AS DECIMAL(65,30)) AS CHAR)")
        case Kind.TEXT:
            return hashed(f"CONVERT({name} USING utf8mb4)")
        case Kind.BYTES:
            return hashed(name)
        case Kind.DATE:
            # The number of days since year 0 on both sides: PostgreSQL's expression adds the same
            # origin.
            return f"TO_DAYS({name})"
        case Kind.DATETIME | Kind.INSTANT:
            # A time as a text would be parsed for each row, which takes half of the whole.
            return f"TIMESTAMPDIFF(MICROSECOND, TIMESTAMP'1970-01-01 00:00:00', {name})"
        case Kind.TIME:
            return name
        case Kind.JSON:
            return hashed(f"REGEXP_REPLACE(CAST({name} AS CHAR), '{JSON_NUMBERS}', '')")
    raise AssertionError(column)


def _mysql_text(column: Column) -> str:
    name = mysql_value(column)
    match column.kind:
        case Kind.INTEGER:
            return f"CAST({name} AS DECIMAL(20,0))"  # without the zeros of ZEROFILL and YEAR
        case Kind.DECIMAL if column.decimal:
            return f"CAST({name} AS DECIMAL({column.decimal[0]},{column.decimal[1]}))"
        case Kind.DOUBLE:
            return double_as_text(
                name,
                str,
                lambda number, unit: f"CONCAT(CAST({number} AS DECIMAL(65,30)), '{unit}')",
                name,
            )
        case Kind.TEXT:
            text = f"CONVERT({name} USING utf8mb4)"
            return (
                f"CONCAT(CHAR_LENGTH({text}), ':', {text})"
                if is_short(column)
                else f"SHA2({text}, 256)"
            )
        case Kind.BYTES:
            return f"LOWER(HEX({name}))" if is_short(column) else f"SHA2({name}, 256)"
        case Kind.JSON:
            return f"SHA2(REGEXP_REPLACE(CAST({name} AS CHAR), '{EXTREME_NUMBERS}', ''), 256)"
    return _mysql_number(column)


def _row_text(columns: Sequence[Column]) -> str:
    # The separator is binary, and so is the whole: texts keep their bytes and collations do not
    # meet.
    texts = ", ".join(f"IFNULL({_mysql_text(c)}, '{ABSENT}')" for c in columns)
    return f"CONCAT_WS(x'1F', {texts})"


def _row_number(columns: Sequence[Column]) -> str:
    text = _row_text(columns)
    return f"CAST(CONV(LEFT(SHA2({text}, 256), {HASH_DIGITS}), 16, 10) AS UNSIGNED)"


def _remainder(column: Column, number: str, by: int) -> str:
    rest = f"MOD({number}, {by})"
    type_ = column.source_type
    is_signed = column.kind in _SIGNED or ("int" in type_ and "unsigned" not in type_)
    # MySQL refuses to add a negative number to an unsigned one if the sum is negative.
    return rest if is_signed else f"CAST({rest} AS SIGNED)"


MYSQL = Dialect(
    quote=_backticks,
    number=_mysql_number,
    whole=mysql_value,
    weight=lambda whole: (
        # The remainder first, as the square of a bigint has too many bits. A square has no sign.
        f"CAST(1 + MOD(MOD({whole}, 1009) * MOD({whole}, 1009), 31) AS SIGNED)"
    ),
    divide=lambda column, by: f"({mysql_value(column)} DIV {by})",
    remainder=_remainder,
    # Of numbers without a sign, which are the same bits.
    xor=lambda one, other: f"((({one}) ^ ({other})) & {2**62 - 1})",
    row_text=_row_text,
    row_number=_row_number,
)
