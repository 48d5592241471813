"""The names of the columns that a field of a document may have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

OTHERS = "__text"
"""How the name of a column for other values ends."""
NAME_BYTES = 63
"""PostgreSQL cuts longer names off."""


def others_column(field: str) -> str:
    """Return the name of the column for a field's values that its own column does not take."""
    plain = field + OTHERS
    if len(plain.encode()) <= NAME_BYTES:
        return plain
    return hashlib.sha256(field.encode()).hexdigest()[:32] + OTHERS


def field_of(column: str, fields: Iterable[str]) -> str:
    """Return the field among `fields` whose values a column has: its own, or the other ones."""
    return next((field for field in fields if others_column(field) == column), column)
