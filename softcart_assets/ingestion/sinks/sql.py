"""How PostgreSQL spells names and values."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.types import Column, Kind

quote = POSTGRES.quote


def listed(names: Iterable[str], alias: str | None = None) -> str:
    """Return names of columns as SQL, separated by commas, perhaps with a relation's alias."""
    return ", ".join(f"{alias}.{quote(name)}" if alias else quote(name) for name in names)


def literal(value: object) -> str:
    """A value as SQL."""
    return sql.Literal(value).as_string()


def typed(text: str, column: Column) -> str:
    """Return SQL that reads a value from its text, in UTC."""
    if column.kind is Kind.TIME:
        # A TIME travels as its microseconds, which every database writes alike.
        return f"({text} || ' microseconds')::interval"
    return f"{text}::{column.target_type}"


def as_text(name: str, column: Column) -> str:
    """Return SQL for a value as text, in UTC, in the form that `typed` and the source read."""
    match column.kind:
        case Kind.INSTANT:
            # Without the offset that PostgreSQL adds to a timestamptz: not every server takes it.
            return f"({name} AT TIME ZONE 'UTC')::text"
        case Kind.TIME:
            return f"(extract(epoch FROM {name}) * 1000000)::bigint::text"
        case _:
            return f"{name}::text"
