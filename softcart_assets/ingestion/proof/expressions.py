"""SQL that every dialect needs alike, so that values become the same text or number everywhere."""

from __future__ import annotations

import re
from collections.abc import Callable

from softcart_assets.ingestion.types import Column

# JSON numbers are written differently (1e20 or its digits), everything else alike: compare without
# them.
JSON_NUMBERS = "[-+.0-9eE]"
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
"""MySQL types whose values go into a row's text unchanged.

Longer values go in as a hash, because MySQL limits a text's length.
"""
ABSENT = "~"
_UNIT = 65
"""Doubles are scaled towards one by powers of two with multiples of this exponent. No bit is
lost.
"""
_LARGEST = f"{1.7976931348623157e308:.17e}"
EXTREME_NUMBERS = "-?([0-9]+([.][0-9]+)?[eE][-+]?[0-9]+|[0-9]{16,}([.][0-9]+)?|0[.]00000[0-9]*)"
"""Numbers inside JSON that MySQL writes with an exponent and PostgreSQL without.

They are left out on both sides.
"""


def is_short(column: Column) -> bool:
    """Return whether values of a column go into a row's text as they are."""
    return re.split(r"[ (]", column.source_type)[0] in _SHORT_TYPES


def scaled_double(expression: str, literal: Callable[[str], str]) -> str:
    """Return a double scaled by a power of ten to between 1e-5 and 1e15.

    There both databases print it alike, to its last digit.
    """
    branches = [
        f"WHEN {expression} = 0 OR {_between(expression, '1e-5', '1e15', literal)} THEN "
        f"{expression}"
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


def double_as_text(
    name: str, literal: Callable[[str], str], shown: Callable[[str, str], str], otherwise: str
) -> str:
    """Return a double as text, different for different doubles.

    Between 2^-16 and 2^49 both databases print all digits alike. Other doubles are brought there by
    a power of two, which is exact and is part of the text.
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
