"""Parts of SQL statements made of names that a source has chosen.

Run these statements with a sequence of values, even an empty one. Only then does psycopg read `%%`
as `%`.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

COMMA = sql.SQL(", ")


def name_of(name: str) -> sql.Identifier:
    """Return a column's name, quoted."""
    # A column may be called `a%b`. psycopg would take `%b` for a placeholder.
    return sql.Identifier(name.replace("%", "%%"))


def text(statement: str) -> sql.SQL:
    """Return SQL that was made elsewhere, such as a quoted relation, a type or a condition."""
    return sql.SQL(statement.replace("%", "%%"))


def names_of(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    """Return a list of columns, perhaps of the relation with an alias."""
    prefix = sql.SQL(f"{alias}." if alias else "")
    return COMMA.join(prefix + name_of(name) for name in names)


def same_key(key: Iterable[str], left: str, right: str) -> sql.Composed:
    """Return the condition that the rows of two relations have the same key."""
    left_sql, right_sql = (sql.SQL(alias) for alias in (left, right))
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(left_sql, name_of(name), right_sql, name_of(name))
        for name in key
    )
