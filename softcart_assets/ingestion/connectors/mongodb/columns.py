"""Finds the columns that documents need, from the types of their fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice

from softcart_assets.ingestion.connectors.mongodb.names import (
    NAME_BYTES,
    OTHERS,
    others_column,
)
from softcart_assets.ingestion.sinks.raw_schema import RESERVED
from softcart_assets.ingestion.types import Column, widens

_NUMERIC = "numeric(38,18)"
"""Where whole and broken numbers meet.

Exact for money and measures, and a type that Parquet and Spark have.
"""
_TAKES = {
    "boolean": {"boolean"},
    "timestamptz": {"timestamptz"},
    "bigint": {"bigint", "wide bigint", "whole double"},
    "double precision": {"bigint", "whole double", "double precision", "wide double"},
    _NUMERIC: {"bigint", "wide bigint", "whole double", "double precision", _NUMERIC},
}
"""The kinds of values, see `TARGET_TYPES`, that a column of a type takes. Other types take all."""
_NUMBERS = {"wide numeric"}.union(*(_TAKES[t] for t in ("bigint", "double precision", _NUMERIC)))
MOST_FIELDS = 400
"""So many fields of a collection get columns.

PostgreSQL ends at 1,600 columns, but a row has to fit into a page of 8 kB. This many values do,
whatever they are, since a long one is stored apart and leaves 18 bytes.
"""
_NAMED = 5
"""A warning names so many fields. Where keys are data, there may be thousands."""
ID = Column("_id", "_id", "text", nullable=False)
ID_TYPE = Column("_id_type", "type of _id", "text", nullable=False)
DOCUMENT = Column("document", "document", "jsonb", nullable=False)
_OWN = {name.lower() for name in (*RESERVED, ID.name, ID_TYPE.name, DOCUMENT.name)}


def others_of(columns: Iterable[Column]) -> dict[str, str]:
    """Return the columns that have a second one for other values, each with the second's name."""
    types = {column.name: column.target_type for column in columns}
    seconds = {name: others_column(name) for name, type_ in types.items() if type_ in _TAKES}
    return {name: second for name, second in seconds.items() if second in types}


def columns_for(
    known: Sequence[Column],
    types: Mapping[str, Mapping[str, int]],
    declared: Collection[str] = (),
) -> tuple[list[Column], list[str]]:
    """Return the columns that hold values of these types, and warnings.

    Known columns stay, and are widened to numeric where values need it. New fields get new columns,
    up to `MOST_FIELDS`: the `declared` ones first, then the commonest. A field whose column does
    not take all of its values gets a second one, of text. So a field may change its type at any
    time: nothing that stands in raw is rewritten, and no document is left out
    (airbytehq/airbyte#41604).
    """
    by_name = {column.name: column for column in known}
    fields, warnings = _with_columns(types, by_name)
    new = [name for name in fields if name not in by_name]
    room = MOST_FIELDS - (len(by_name) - len(others_of(known)))
    if len(new) > room:
        new.sort(key=lambda name: (name not in declared, -sum(fields[name].values())))
        left_out = dict.fromkeys(new[max(room, 0) :])
        # Each key of a document may be data, such as a customer's number (estuary/connectors#3261).
        warnings.append(
            _warning(left_out, f"no column, as the columns of a collection end at {MOST_FIELDS}")
        )
        fields = {name: counts for name, counts in fields.items() if name not in left_out}
    mixed = []
    for name, counts in fields.items():
        old = by_name.get(name)
        column = by_name[name] = _widened(old, counts) if old else _new(name, counts)
        if counts.keys() - _TAKES.get(column.target_type, counts.keys()):
            second = others_column(name)
            by_name.setdefault(second, Column(second, f"other values of {name}", "text"))
            mixed.append(name)
    if mixed:
        warnings.append(
            _warning(mixed, f"values of several types. Column <field>{OTHERS} has the rarer ones")
        )
    return list(by_name.values()), warnings


def _with_columns(
    types: Mapping[str, Mapping[str, int]], known: Iterable[str]
) -> tuple[dict[str, Mapping[str, int]], list[str]]:
    """Return the fields that can have columns, and warnings of the others."""
    # The lake's tables do not tell upper from lower case (apache/spark#22148).
    spelled = {name.lower(): name for name in known}
    fields, unnamed, alike = {}, [], []
    for name, counts in types.items():
        lower = name.lower()
        is_usable = name and "\0" not in name and len(name.encode()) <= NAME_BYTES
        # A name that ends like the second columns may be needed for one.
        if not is_usable or lower in _OWN or lower.endswith(OTHERS):
            unnamed.append(name)
        elif spelled.setdefault(lower, name) != name:
            alike.append(name)
        else:
            fields[name] = counts
    warnings = []
    if unnamed:
        warnings.append(_warning(unnamed, "no column, as no column can have such a name"))
    if alike:
        warnings.append(
            _warning(alike, "no column, as another field's name differs in upper and lower case")
        )
    return fields, warnings


def _warning(names: Collection[str], what: str) -> str:
    """Return the warning that these fields have something."""
    named = ", ".join(map(repr, islice(names, _NAMED))) + (" …" if len(names) > _NAMED else "")
    return f"{len(names):,} fields ({named}) have {what}. Column `document` has all values"


def _widened(old: Column, counts: Mapping[str, int]) -> Column:
    # A whole double, as JavaScript writes every whole number, is at home among integers as well.
    is_broken = counts.keys() & {"double precision", _NUMERIC}
    if is_broken and widens(old.target_type, _NUMERIC):
        return Column(old.name, _NUMERIC, _NUMERIC)
    return old


def _new(name: str, counts: Mapping[str, int]) -> Column:
    """Return the column of a new field. The commonest type wins."""
    candidates = Counter({t: n for t, n in counts.items() if t not in _NUMBERS})
    numbers = {type_: n for type_, n in counts.items() if type_ in _NUMBERS}
    if numbers:
        candidates[_type_of_numbers(numbers.keys())] = sum(numbers.values())
    # Sorted, so that a tie is decided the same way each time.
    target = max(sorted(candidates), key=candidates.__getitem__)
    return Column(name, target, target)


def _type_of_numbers(kinds: Collection[str]) -> str:
    """Return the type that takes most kinds of numbers exactly."""
    if not set(kinds) - {"bigint", "wide bigint"}:
        return "bigint"
    is_double = not set(kinds) - _TAKES["double precision"]
    # Doubles among themselves stay doubles, and so do very large or small ones among integers.
    if is_double and ("bigint" not in kinds or "wide double" in kinds):
        return "double precision"
    return _NUMERIC
