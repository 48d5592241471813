"""Parts of SQL statements that are made of names which a source has chosen.

Statements made of these are run with a sequence of values, even an empty one: only then does psycopg read `%%` as `%`.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

COMMA = sql.SQL(", ")


def name_of(name: str) -> sql.Identifier:
    """A column's name."""
    return sql.Identifier(name.replace("%", "%%"))


def text(statement: str) -> sql.SQL:
    """SQL that was made elsewhere, such as a relation's quoted name, a type, a condition."""
    return sql.SQL(statement.replace("%", "%%"))


def names_of(names: Iterable[str], alias: str | None = None) -> sql.Composed:
    """A list of columns, perhaps of the relation with an alias."""
    prefix = sql.SQL(f"{alias}." if alias else "")
    return COMMA.join(prefix + name_of(name) for name in names)


def same_key(key: Iterable[str], left: str, right: str) -> sql.Composed:
    """The condition that two relations' rows have the same key."""
    left_sql, right_sql = (sql.SQL(alias) for alias in (left, right))
    return sql.SQL(" AND ").join(
        sql.SQL("{}.{} = {}.{}").format(left_sql, name_of(name), right_sql, name_of(name))
        for name in key
    )
