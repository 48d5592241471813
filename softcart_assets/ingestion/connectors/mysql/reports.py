"""One moment of a MySQL database for the source's own reports, which are in PostgreSQL's SQL.

sqlglot translates them, so a page or an extract of a source is declared like any other. What its
translation lacks is here: MySQL subtracts days by a function, and its tables have no schema.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from typing import Any, Literal

import pymysql
import sqlglot
from pymysql.constants import FIELD_TYPE
from pymysql.cursors import SSCursor
from sqlglot import ErrorLevel, UnsupportedError, exp

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.connectors.mysql.session import explained
from softcart_assets.ingestion.connectors.protocol import Result, ResultColumn
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.lines.model import Source

Kind = Literal["integer", "decimal", "text", "date", "timestamp", "other"]

_KINDS: dict[Kind, tuple[int, ...]] = {
    "integer": (
        FIELD_TYPE.TINY,
        FIELD_TYPE.SHORT,
        FIELD_TYPE.INT24,
        FIELD_TYPE.LONG,
        FIELD_TYPE.LONGLONG,
    ),
    "decimal": (FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL),
    "text": (FIELD_TYPE.VARCHAR, FIELD_TYPE.VAR_STRING, FIELD_TYPE.STRING, FIELD_TYPE.BLOB),
    "date": (FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE),
    "timestamp": (FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP),
}
_KIND_OF = {code: kind for kind, codes in _KINDS.items() for code in codes}


class NotInMySQL(IngestionError):
    """A report of a source needs what MySQL does not have, or does in another way."""


@contextmanager
def moment(source: Source, connection: MySQLConnection) -> Iterator[_Moment]:
    """A session that sees one moment of the source and cannot write."""
    with closing(connection.connect()) as session, explained(connection, source.name):
        with session.cursor() as cursor:
            # No setting of the server may change what a query means. With ONLY_FULL_GROUP_BY, MySQL
            # would also refuse the way in which sqlglot sorts NULL. So `translated` looks.
            cursor.execute("SET SESSION sql_mode = ''")
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            cursor.execute("SELECT UTC_TIMESTAMP(6)")
            [(at,)] = cursor.fetchall()
        yield _Moment(source, session, _with_zone(at))


class _Moment:
    """See `SourceMoment`."""

    def __init__(self, source: Source, session: pymysql.Connection[Any], at: datetime) -> None:
        self._source, self._session, self.at = source, session, at

    def result(self, query: str, parameters: Mapping[str, object]) -> Result:
        """See `SourceMoment`."""
        with self._session.cursor() as cursor:
            cursor.execute(translated(query, self._source, parameters))
            columns = [
                ResultColumn(name, _KIND_OF.get(code, "other"), scale or 0)
                for name, code, _, _, _, scale, _ in cursor.description or ()
            ]
            return Result(columns, [tuple(map(_with_zone, row)) for row in cursor.fetchall()])

    def batches(
        self, query: str, parameters: Mapping[str, object], size: int
    ) -> Iterator[Sequence[tuple[Any, ...]]]:
        """See `SourceMoment`."""
        with self._session.cursor(SSCursor) as cursor:
            cursor.execute(translated(query, self._source, parameters))
            while rows := cursor.fetchmany(size):
                yield rows


def translated(query: str, source: Source, parameters: Mapping[str, object]) -> str:
    """A query in MySQL's SQL, over the tables as they are called at the source.

    Raises `NotInMySQL` if a part of it means something else there.
    """
    tree = sqlglot.parse_one(query, dialect="postgres")
    # sqlglot passes them on: MySQL has no FILTER, and 3 / 2 is 1.5 there.
    if other := tree.find(exp.Filter, exp.Div):
        raise NotInMySQL(
            f"MySQL has no such thing as {other.sql('postgres')!r} of PostgreSQL's SQL. Write "
            "CASE WHEN within the sum instead of FILTER. Instead of a division, give both numbers."
        )
    for select in tree.find_all(exp.Select):
        if loose := next(_loose_columns(select), None):
            raise NotInMySQL(
                f"{loose.sql('postgres')!r} is neither grouped nor summed. MySQL would take its "
                "value from any row. Group by it, too."
            )
    for table in list(tree.find_all(exp.Table)):
        if table.db == source.name:
            name = source.table(table.name).at_source
            if name != table.name and not table.alias:
                table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name)))
            table.set("this", exp.to_identifier(name))
            table.set("db", None)
    for place in list(tree.find_all(exp.Placeholder)):
        place.replace(_literal(parameters[place.name]))
    for difference in list(tree.find_all(exp.Sub)):
        # Of two dates, MySQL would subtract numbers such as 20260301.
        if _is_day(difference.expression):
            days = [difference.this, difference.expression]
            difference.replace(exp.Anonymous(this="DATEDIFF", expressions=days))
    # Quoted, because MySQL reserves other words than PostgreSQL, such as `rows`.
    try:
        return tree.sql(dialect="mysql", identify=True, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise NotInMySQL(f"MySQL cannot do all of {query.strip()!r}: {error}.") from None


def _loose_columns(select: exp.Select) -> Iterator[exp.Expr]:
    """What PostgreSQL refuses in a query with sums: columns that are neither grouped nor summed."""
    group = select.args.get("group")
    grouped = [
        select.expressions[int(each.name) - 1].unalias() if each.is_int else each
        for each in (group.expressions if group else ())
    ]

    def is_grouped(node: exp.Expr) -> bool:
        return any(
            node == each
            or (
                isinstance(node, exp.Column)
                and isinstance(each, exp.Column)
                and node.name == each.name
                and "" in (node.table, each.table)
            )
            for each in grouped
        )

    def parts(node: exp.Expr) -> Iterator[exp.Expr]:
        """Yield sums, and columns outside of them."""
        if is_grouped(node) or isinstance(node, exp.Query):
            return
        if isinstance(node, exp.AggFunc | exp.Column | exp.Star):
            yield node
            return
        for child in node.iter_expressions():
            yield from parts(child)

    names = {each.name for each in grouped if isinstance(each, exp.Column)}
    found = [
        part
        for each in select.expressions
        if not (isinstance(each, exp.Alias) and each.alias in names)
        for part in parts(each)
    ]
    sums = [each for each in found if isinstance(each, exp.AggFunc)]
    if group or any(not isinstance(each.parent, exp.Window) for each in sums):
        yield from (each for each in found if not isinstance(each, exp.AggFunc))


def _is_day(node: exp.Expr) -> bool:
    node = node.unnest()
    return isinstance(node, exp.Cast) and node.to.is_type(exp.DType.DATE)


def _literal(value: object) -> exp.Expr:
    if isinstance(value, date):
        return exp.cast(exp.Literal.string(value.isoformat()), exp.DType.DATE)
    return exp.convert(value)


def _with_zone(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
