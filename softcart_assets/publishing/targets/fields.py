"""The columns of published tables in MySQL: their types, and their values as text of SQL.

Each value is compared as it arrived. So a column has an expression for PostgreSQL that gives the
value as MySQL has it, and both servers compute the same number from it (`ingestion.proof`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql
from psycopg.sql import SQL, Identifier, Literal

from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.types import Column
from softcart_assets.publishing import contents
from softcart_assets.publishing.slots import Columns, PublishError

_LONGEST_KEY = 255
"""Characters of a text in a key or an index."""
_KEY_CHARACTERS = 740
"""Those of all texts of one index: InnoDB has 3072 bytes for it, and a character takes up to 4."""

_MOST_DIGITS, _MOST_DECIMALS = 65, 30
"""The limits of MySQL's DECIMAL."""

_WHOLE = {"smallint": "smallint", "integer": "int", "bigint": "bigint"}
_DOUBLES = ("real", "double precision")
_TIMES = {
    "date": ("date", "date"),
    "timestamp without time zone": ("datetime(6)", "timestamp"),
    "timestamp with time zone": ("datetime(6)", "timestamptz"),
}


@dataclass(frozen=True)
class Field:
    """A column. `column`: its type in MySQL, and in PostgreSQL as it is compared. `read`: its value
    in PostgreSQL, as it is compared. `literal`: its value as text that MySQL reads, null if it has
    none.
    """

    column: Column
    read: sql.Composable
    literal: sql.Composable

    @property
    def definition(self) -> str:
        """The column in CREATE TABLE, without its comment."""
        is_uuid = self.column.source_type == "char(36)"
        charset = " CHARACTER SET ascii COLLATE ascii_bin" if is_uuid else ""
        null = "" if self.column.nullable else " NOT NULL"
        return f"{MYSQL.quote(self.column.name)} {self.column.source_type}{charset}{null}"


def fields(
    table: str, columns: Columns, key: tuple[str, ...], indexes: Collection[tuple[str, ...]]
) -> tuple[Field, ...]:
    """The columns of a table as MySQL has them.

    Raises `PublishError` if MySQL has no type for one of them.
    """
    indexed = {column for each in (key, *indexes) for column in each}
    most = max(len(each) for each in (key, *indexes))
    length = min(_LONGEST_KEY, _KEY_CHARACTERS // most)
    return tuple(
        _field(table, name, kind, name in key, length if name in indexed else None)
        for name, kind in columns
    )


def _field(table: str, name: str, kind: str, is_key: bool, length: int | None) -> Field:
    value: sql.Composable = Identifier(name)
    source, target = "", "text"
    literal: sql.Composable = _quoted(SQL("{}::text").format(value))
    plain = re.split(r"[(]", kind)[0]
    if kind in _WHOLE:
        source, target = _WHOLE[kind], kind
    elif kind == "boolean":
        value = SQL("{}::int::smallint").format(value)
        source, target, literal = "tinyint(1)", "smallint", SQL("{}::text").format(value)
    elif plain == "numeric":
        source, target, value, literal = _decimal(table, name, kind)
    elif kind in _DOUBLES:
        value = SQL("{}::float8").format(value)
        source, target, literal = (
            "double",
            "double precision",
            _quoted(SQL("{}::text").format(value)),
        )
    elif kind == "time without time zone":
        source, target = "time(6)", "interval"
    elif kind in _TIMES:
        source, target = _TIMES[kind]
        shown = SQL("({} AT TIME ZONE 'UTC')" if target == "timestamptz" else "{}").format(value)
        literal = _quoted(SQL("{}::text").format(shown))
        # What does not fit is null here, so that MySQL is the one to refuse it, by its column.
        value = SQL("CASE WHEN isfinite({0}) THEN {0} END").format(value)
    elif kind == "uuid":
        value, source = SQL("{}::text").format(value), "char(36)"
    elif kind == "bytea":
        source, target = "longblob", "bytea"
        literal = SQL("'x''' || encode({}, 'hex') || ''''").format(value)
    elif plain in ("text", "character varying", "character", "json", "jsonb"):
        # Not MySQL's own JSON: it would round numbers.
        value = SQL("{}::text").format(value)
        source, literal = f"varchar({length})" if length else "longtext", _escaped(value)
    else:
        raise _has_no_type(table, name, kind)
    return Field(Column(name, source, target, nullable=not is_key), value, literal)


def _decimal(table: str, name: str, kind: str) -> tuple[str, str, sql.Composable, sql.Composable]:
    value = Identifier(name)
    limits = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", kind)
    if limits:
        digits, decimals = int(limits[1]), int(limits[2])
        if digits > _MOST_DIGITS or not 0 <= decimals <= min(_MOST_DECIMALS, digits):
            raise _has_no_type(table, name, kind)
        text = f"({digits},{decimals})"
        return f"decimal{text}", f"numeric{text}", value, _quoted(SQL("{}::text").format(value))
    widest = f"({_MOST_DIGITS},{_MOST_DECIMALS})"
    # MySQL would round without a word. It refuses a number with words behind it.
    literal = SQL(
        "CASE WHEN scale(trim_scale({0})) > {1} THEN {0} || ' has too many decimals'"
        " ELSE {0}::text END"
    ).format(value, Literal(_MOST_DECIMALS))
    # As for times, MySQL refuses what does not fit.
    read = SQL("CASE WHEN abs({0}) < 1e35 THEN {0}::" + f"numeric{widest} END").format(value)
    return f"decimal{widest}", f"numeric{widest}", read, _quoted(literal)


def _has_no_type(table: str, name: str, kind: str) -> PublishError:
    return PublishError(
        f"production_mysql/{table}: MySQL has no type that holds every value of the column {name} "
        f"({kind} in PostgreSQL). Nothing was switched. Cast the column to another type in its "
        "model."
    )


def _quoted(text: sql.Composable) -> sql.Composed:
    return SQL("'''' || {} || ''''").format(text)


def _escaped(text: sql.Composable) -> sql.Composed:
    return _quoted(SQL(r"replace(replace({}, E'\\', E'\\\\'), '''', '''''')").format(text))


def as_read(found: Sequence[Field]) -> sql.Composed:
    """The select list that gives the columns as they are compared."""
    return SQL(", ").join(
        SQL("{} AS {}").format(field.read, Identifier(field.column.name)) for field in found
    )


def rows_query(
    table: sql.Composable, columns: Columns, found: Sequence[Field], join: sql.Composable
) -> sql.Composed:
    """The query that gives each row as text of an INSERT, its number and its digest.

    `columns`: those of which the number is made.
    """
    literals = [SQL("coalesce({}, 'NULL')").format(field.literal) for field in found]
    digest = SQL(POSTGRES.row_number([field.column for field in found]))
    return SQL(
        # `concat_ws` takes a hundred arguments.
        "SELECT array_to_string(ARRAY[_number::text, {literals}], ','), _number,"
        " (SELECT {digest} FROM (SELECT {read}) _read)"
        " FROM (SELECT {number} AS _number, _row.* FROM {table} _row {join}) _numbered"
    ).format(
        literals=SQL(", ").join(literals),
        digest=digest,
        read=as_read(found),
        number=contents.number_of([name for name, _ in columns]),
        table=table,
        join=join,
    )


def mysql_digest(found: Sequence[Field]) -> str:
    """The number that MySQL computes from what it holds of a row."""
    return MYSQL.row_number([field.column for field in found])


def names(found: Iterable[Field]) -> str:
    """The columns' names for MySQL."""
    return ", ".join(MYSQL.quote(field.column.name) for field in found)
