"""The digests' expressions in PostgreSQL."""

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


def _double_quotes(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _postgres_number(column: Column) -> str:
    name = _double_quotes(column.name)

    def hashed(text: str) -> str:
        # Bytes of UTF-8 on both sides, whatever the character set of the source's column.
        data = text if column.kind is Kind.BYTES else f"convert_to({text}, 'UTF8')"
        digits = f"left(encode(sha256({data}), 'hex'), {HASH_DIGITS})"
        return f"('x' || {digits})::bit({HASH_DIGITS * 4})::bigint"

    match column.kind:
        case Kind.INTEGER:
            # As numeric: multiplied by its weight, a bigint may not fit into 64 bits.
            return f"{name}::numeric" if column.target_type == "bigint" else f"{name}::bigint"
        case Kind.DECIMAL if column.decimal and column.decimal[0] <= LONGEST_DECIMAL:
            return name
        case Kind.DECIMAL:
            return hashed(f"{name}::text")
        case Kind.DOUBLE:
            scaled = scaled_double(name, lambda text: f"'{text}'::float8")
            # By way of the text: a cast from double to numeric keeps 15 digits only.
            finite = f"({scaled})::text::numeric(65,30)::text"
            return hashed(f"CASE WHEN abs({name}) < 'Infinity' THEN {finite} ELSE {name}::text END")
        case Kind.BOOLEAN:
            return f"{name}::int::bigint"
        case Kind.TEXT | Kind.BYTES:
            return hashed(name)
        case Kind.DATE:
            return f"({name} - DATE '0001-01-01' + 366)::bigint"
        case Kind.DATETIME | Kind.INSTANT:
            moment = name if column.kind is Kind.DATETIME else f"({name} AT TIME ZONE 'UTC')"
            # By whole numbers, and a double of less than a day: `extract` would compute decimals,
            # which takes three times as long.
            return (
                f"(({moment}::date - DATE '1970-01-01') * 86400000000"
                f" + (date_part('epoch', {moment}::time) * 1000000)::bigint)"
            )
        case Kind.TIME:
            return f"(extract(epoch FROM {name}) * 1000000)::bigint"
        case Kind.JSON:
            return hashed(f"regexp_replace({name}::text, '{JSON_NUMBERS}', '', 'g')")
    raise AssertionError(column)


def _postgres_text(column: Column) -> str:
    name = _double_quotes(column.name)
    match column.kind:
        case Kind.INTEGER | Kind.DECIMAL:
            return f"{name}::text"
        case Kind.DOUBLE:
            return double_as_text(
                name,
                lambda text: f"'{text}'::float8",
                lambda number, unit: f"({number})::text::numeric(65,30)::text || '{unit}'",
                f"{name}::text",
            )
        case Kind.TEXT if is_short(column):
            return f"char_length({name}) || ':' || {name}"
        case Kind.TEXT:
            return f"encode(sha256(convert_to({name}, 'UTF8')), 'hex')"
        case Kind.BYTES:
            return f"encode({name if is_short(column) else f'sha256({name})'}, 'hex')"
        case Kind.JSON:
            plain = f"regexp_replace({name}::text, '{EXTREME_NUMBERS}', '', 'g')"
            return f"encode(sha256(convert_to({plain}, 'UTF8')), 'hex')"
    return f"({_postgres_number(column)})::text"


def _row_text(columns: Sequence[Column]) -> str:
    texts = ", ".join(map(_postgres_text, columns))
    return f"array_to_string(ARRAY[{texts}], E'\\x1f', '{ABSENT}')"


def _row_number(columns: Sequence[Column]) -> str:
    data = f"encode(sha256(convert_to({_row_text(columns)}, 'UTF8')), 'hex')"
    return f"('x' || left({data}, {HASH_DIGITS}))::bit({HASH_DIGITS * 4})::bigint"


POSTGRES = Dialect(
    quote=_double_quotes,
    number=_postgres_number,
    whole=lambda column: _double_quotes(column.name),
    weight=lambda whole: (
        # The remainder first, as the square of a bigint has too many bits. A square has no sign.
        f"(1 + mod(({whole} % 1009)::int * ({whole} % 1009)::int, 31))::bigint"
    ),
    divide=lambda column, by: (
        # `div` computes decimals.
        f"({_double_quotes(column.name)} / {by}::bigint)"
        if column.kind is Kind.INTEGER
        else f"div({_double_quotes(column.name)}, {by})"
    ),
    remainder=lambda column, number, by: f"mod({number}, {by})::bigint",
    xor=lambda one, other: f"((({one}) # ({other})) & {2**62 - 1})",
    row_text=_row_text,
    row_number=_row_number,
)
