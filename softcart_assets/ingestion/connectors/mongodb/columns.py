"""Finds the columns that documents need, from the types of their fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from softcart_assets.ingestion.types import Column, widens

_NUMERIC = "numeric(38,18)"
"""Where whole and broken numbers meet.

Exact for money and measures, and a type that Parquet and Spark have.
"""
_WHOLE_DOUBLE = "whole double"
_NUMBERS = {"bigint", "double precision", _WHOLE_DOUBLE, _NUMERIC}
_OWN = {
    "_id_type",
    "document",
    "_deleted",
    "_loaded_at",
    "_position",
    "_version",
    "_load_id",
    "_month",
    "load_date",
}
ID = Column("_id", "_id", "text", nullable=False)
ID_TYPE = Column("_id_type", "type of _id", "text", nullable=False)
DOCUMENT = Column("document", "document", "jsonb", nullable=False)


def columns_for(
    known: Sequence[Column], types: Mapping[str, Mapping[str, int]]
) -> tuple[list[Column], list[str]]:
    """Return the columns that hold values of these types, and warnings.

    Known columns stay, and are widened to numeric where values need it. New fields get new columns.
    """
    by_name = {column.name: column for column in known}
    warnings = []
    for name, counts in types.items():
        # It has columns of its own: the id as text, and its type.
        if name == "_id":
            continue
        if name in _OWN or not name or "\0" in name or len(name.encode()) > 63:
            warnings.append(
                f"field {name!r} has no column, as its name cannot be one; it is in `document`"
            )
            continue
        numbers = {type_: n for type_, n in counts.items() if type_ in _NUMBERS}
        if old := by_name.get(name):
            # A whole double, as JavaScript writes every whole number, is at home among integers as
            # well.
            if numbers.keys() - {old.target_type, _WHOLE_DOUBLE} and widens(
                old.target_type, _NUMERIC
            ):
                by_name[name] = Column(name, _NUMERIC, _NUMERIC)
            continue
        types_of_numbers = {
            "double precision" if type_ == _WHOLE_DOUBLE else type_ for type_ in numbers
        }
        number = _NUMERIC if len(types_of_numbers) > 1 else next(iter(types_of_numbers), None)
        candidates = Counter({t: n for t, n in counts.items() if t not in _NUMBERS})
        if number:
            candidates[number] = sum(numbers.values())
        # The commonest type wins. Values of other types go to quarantine, whose rows name the
        # field. Sorted, so that a tie is decided the same way each time.
        target = max(sorted(candidates), key=candidates.__getitem__)
        by_name[name] = Column(name, target, target)
    return list(by_name.values()), warnings
