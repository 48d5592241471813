"""The names of the columns that an attribute of an item may have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

OTHERS = "__text"
"""How the name of a column for other values ends."""
NAME_BYTES = 63
"""PostgreSQL cuts longer names off."""


def others_column(attribute: str) -> str:
    """Return the name of the column for an attribute's values that its own does not take."""
    plain = attribute + OTHERS
    if len(plain.encode()) <= NAME_BYTES:
        return plain
    return hashlib.sha256(attribute.encode()).hexdigest()[:32] + OTHERS


def attribute_of(column: str, attributes: Iterable[str]) -> str:
    """Return the attribute among `attributes` whose values a column has."""
    return next((each for each in attributes if others_column(each) == column), column)
