"""Finds the columns that items need, from the types of their attributes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from softcart_assets.ingestion.connectors.dynamodb.names import NAME_BYTES, OTHERS, others_column
from softcart_assets.ingestion.connectors.dynamodb.values import NUMERICS
from softcart_assets.ingestion.sinks.raw_schema import RESERVED
from softcart_assets.ingestion.types import Column, widens

MOST_ATTRIBUTES = 400
"""So many attributes of a table get columns. A row has to fit into a page of 8 kB."""
DOCUMENT = Column("document", "document", "jsonb", nullable=False)
REMOVED_BY = Column("removed_by", "removal", "text")
_OWN = {name.lower() for name in (*RESERVED, DOCUMENT.name, REMOVED_BY.name)}
_KEY_TYPES = {"S": "text", "N": "text", "B": "bytea"}
"""A number that is a key is text: its digits, one text per number. So every number can be a key."""
_TAKES = {
    "boolean": {"boolean"},
    "bytea": {"bytea"},
    "bigint": {"bigint"},
    NUMERICS[0]: {"bigint", NUMERICS[0]},
    NUMERICS[1]: {"bigint", *NUMERICS},
}
"""The types of values that a column of a type takes. Text and jsonb take all."""


def key_columns(types: Mapping[str, str]) -> list[Column]:
    """Return the columns of the key attributes: name → S, N or B."""
    return [Column(name, type_, _KEY_TYPES[type_], nullable=False) for name, type_ in types.items()]


def columns_for(
    known: Sequence[Column], types: Mapping[str, Counter[str]]
) -> tuple[list[Column], list[str]]:
    """Return the columns that hold values of these types, and warnings.

    Known columns stay. A whole number's is widened where others need it. A new attribute gets the
    column of its commonest type, and a second one of text for values that the first does not take.
    """
    by_name = {column.name: column for column in known}
    keys = {column.name for column in known if not column.nullable and column != DOCUMENT}
    spelled = {name.lower(): name for name in by_name}
    without, mixed = [], []
    room = MOST_ATTRIBUTES - len(by_name)
    for name, counts in sorted(types.items(), key=lambda each: (-each[1].total(), each[0])):
        if name in keys:
            continue
        if not counts and name not in by_name:
            continue  # only ever NULL: the first value will tell its type
        lower = name.lower()
        # The lake's tables do not tell upper from lower case.
        is_usable = name and "\0" not in name and len(name.encode()) <= NAME_BYTES
        is_taken = lower in _OWN or lower.endswith(OTHERS)
        is_new = name not in by_name
        if not is_usable or is_taken or spelled.setdefault(lower, name) != name:
            without.append(name)
            continue
        if is_new and room <= 0:
            without.append(name)
            continue
        room -= is_new
        column = by_name[name] = _column(name, by_name.get(name), counts)
        if counts.keys() - _TAKES.get(column.target_type, counts.keys()):
            second = others_column(name)
            by_name.setdefault(second, Column(second, f"other values of {name}", "text"))
            mixed.append(name)
    warnings = []
    if without:
        warnings.append(_warning(without, "no column, for their number or their names"))
    if mixed:
        what = f"values of several types. Column <attribute>{OTHERS} has the rarer ones"
        warnings.append(_warning(mixed, what))
    return list(by_name.values()), warnings


def _column(name: str, old: Column | None, counts: Counter[str]) -> Column:
    numbers = {type_: n for type_, n in counts.items() if type_ in (*NUMERICS, "bigint")}
    number = next((each for each in reversed(NUMERICS) if each in numbers), "bigint")
    if old:
        is_widened = old.target_type == "bigint" and number != "bigint"
        wider = widens(old.target_type, NUMERICS[0]) and is_widened
        return Column(name, NUMERICS[0], NUMERICS[0]) if wider else old
    candidates = Counter(
        {("text" if t == "wide number" else t): n for t, n in counts.items() if t not in numbers}
    )
    if numbers:
        candidates[number] = sum(numbers.values())
    target = max(sorted(candidates), key=candidates.__getitem__)
    return Column(name, target, target)


def _warning(names: Sequence[str], what: str) -> str:
    named = ", ".join(map(repr, names[:5])) + (" …" if len(names) > 5 else "")
    return f"{len(names):,} attributes ({named}) have {what}. Column `document` has all values"
