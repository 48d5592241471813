"""Compares a MySQL table, its raw table and its lake files, row by row and value by value.

It uses nothing of the engine, because a mistake there would be on both sides. It reads MySQL's
values as text or bytes, and those of PostgreSQL and Parquet from their drivers. Then it brings all
of them into one form. Rows in quarantine count with the values that the quarantine keeps.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal

import pyarrow.dataset as ds
from psycopg import sql
from pymysql.converters import encoders

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.lines.model import Source

Row = Mapping[str, object]

_EXACT = Context(prec=400)

_BYTES = {
    *(
        "binary",
        "varbinary",
        "tinyblob",
        "blob",
        "mediumblob",
        "longblob",
        "vector",
        "geometry",
        "point",
        "linestring",
    ),
    *(
        "polygon",
        "multipoint",
        "multilinestring",
        "multipolygon",
        "geometrycollection",
        "geomcollection",
    ),
}


def mysql_types(mysql: MySQLConnection, table: str) -> dict[str, str]:
    """The columns of a table or view as name → type, even invisible ones."""
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = "
            "DATABASE()"
            " AND table_name = %s ORDER BY ordinal_position",
            (table,),
        )
        return {name: type_.lower() for name, type_ in cursor.fetchall()}


def mysql_rows(mysql: MySQLConnection, table: str, types: Mapping[str, str]) -> list[Row]:
    """The rows of a table. A value without a Python type, such as a zero date, stays text."""
    # As text, MySQL shortens single-precision numbers.
    select = [f"CAST({_quote(n)} AS DOUBLE)" if types[n] == "float" else _quote(n) for n in types]
    # Without converters, which would change values that have no type in Python.
    with (
        mysql.connect(conv=encoders, use_unicode=False) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT {', '.join(select)} FROM {_quote(table)}")
        rows = cursor.fetchall()
    return [
        {
            name: _from_mysql(type_, value)
            for (name, type_), value in zip(types.items(), row, strict=True)
        }
        for row in rows
    ]


def _quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _from_mysql(type_: str, value: bytes | None) -> object:
    if value is None:
        return None
    if type_ == "bit":
        return int.from_bytes(value)
    if type_ in _BYTES:
        return value
    text = value.decode()
    try:
        return _READERS.get(type_, str)(text)
    except ValueError:
        return text


def _with_microseconds(text: str) -> str:
    whole, _, fraction = text.partition(".")
    return f"{whole}.{fraction:0<6}"


def _microseconds(text: str) -> int:
    whole, _, fraction = text.removeprefix("-").partition(".")
    hours, minutes, seconds = map(int, whole.split(":"))
    size = (hours * 3600 + minutes * 60 + seconds) * 1_000_000 + int(f"{fraction:0<6}")
    return -size if text.startswith("-") else size


def _moment(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


def _document(text: str) -> str:
    """A JSON document as text that is the same for equal content: numbers by value, sorted keys."""

    def by_value(value: object) -> object:
        if isinstance(value, dict):
            return {key: by_value(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [by_value(inner) for inner in value]
        if isinstance(value, Decimal):
            return f"number {_EXACT.normalize(value):f}" if value else "number 0"
        return value

    return json.dumps(
        by_value(json.loads(text, parse_float=Decimal, parse_int=Decimal)), sort_keys=True
    )


_READERS: Mapping[str, Callable[[str], object]] = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "bigint", "year"), int),
    **dict.fromkeys(("float", "double"), lambda text: float(text).hex()),
    **dict.fromkeys(
        ("datetime", "timestamp"),
        lambda text: _moment(datetime.fromisoformat(_with_microseconds(text))),
    ),
    "decimal": Decimal,
    "date": date.fromisoformat,
    "time": _microseconds,
    "json": _document,
}


def raw_rows(
    postgres: PostgresConnection, source: Source, table: str, types: Mapping[str, str]
) -> list[Row]:
    """A raw table's current rows."""
    columns = sql.SQL(", ").join(
        # As text, because psycopg would turn the numbers in a document into floats.
        sql.SQL("{}::text").format(sql.Identifier(name))
        if type_ == "json"
        else sql.Identifier(name)
        for name, type_ in types.items()
    )
    query = sql.SQL("SELECT {} FROM {} WHERE NOT _deleted").format(
        columns, sql.Identifier(source.schema, table)
    )
    with postgres.connect() as connection:
        rows = connection.execute(query).fetchall()
    return [_row(types, row) for row in rows]


def quarantined_rows(
    postgres: PostgresConnection, source: Source, table: str, types: Mapping[str, str]
) -> list[Row]:
    """The rows in quarantine, read from the text that it keeps of them."""
    with postgres.connect() as connection:
        rows = connection.execute(
            "SELECT row FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL",
            (source.name, table),
        ).fetchall()

    def value(type_: str, text: str | None) -> object:
        if text is None:
            return None
        if type_ in _BYTES:
            return bytes.fromhex(text.removeprefix("\\x"))
        if type_ in ("bit", "time"):  # as they are read: numbers
            return int(text)
        return _from_mysql(type_, text.encode())

    return [{name: value(type_, row[name]) for name, type_ in types.items()} for (row,) in rows]


def lake_rows(
    postgres: PostgresConnection, lake: str, source: Source, table: str, types: Mapping[str, str]
) -> list[Row]:
    """The current rows of a table, computed from the lake's change files."""
    declared = source.table(table)
    with postgres.connect() as connection:
        files = connection.execute(
            "SELECT load_id, path FROM ingestion.lake_files WHERE source = %s AND table_name = %s "
            "ORDER BY loaded_at, path",
            (source.name, table),
        ).fetchall()
    if not declared.key and declared.strategy != "cdc":  # each of its loads is all of it
        files = [file for file in files if file[0] == files[-1][0]]
    root = lake.removeprefix("file://")
    changes = [
        change
        for _, path in files
        for change in ds.dataset(f"{root}/{path}", format="parquet").to_table().to_pylist()
    ]
    changes.sort(key=lambda change: change["_position"])
    current: dict[object, Row] = {}
    counts: Counter[object] = Counter()
    for change in changes:
        row = _row(types, [change[name] for name in types])
        if declared.key:
            identity: object = tuple(row[name] for name in declared.key)
            counts[identity] = not change["_deleted"]
        else:
            identity = frozen(row)
            counts[identity] += -1 if change["_deleted"] else 1
        current[identity] = row
    return [current[identity] for identity in counts.elements()]


def _row(types: Mapping[str, str], values: Iterable[object]) -> Row:
    return {
        name: plain(type_, value)
        for (name, type_), value in zip(types.items(), values, strict=True)
    }


def plain(type_: str, value: object) -> object:
    """A value as PostgreSQL's or Parquet's driver gives it, in the form that `mysql_rows` has."""
    match value:
        case float():
            return value.hex()
        case timedelta():
            return value // timedelta(microseconds=1)
        case datetime():
            return _moment(value)
        case Decimal() if type_ in ("bit", "bigint"):
            return int(value)
        case str() if type_ == "json":
            return _document(value)
        case str() if type_ == "decimal":  # too wide for the lake
            return Decimal(value)
        case _:
            return value


def frozen(row: Row) -> tuple:
    """A row that can be counted, in which 1, 1.0 and True are not the same."""
    return tuple((name, type(value).__name__, value) for name, value in row.items())


def assert_same_rows(expected: Iterable[Row], got: Iterable[Row], what: str) -> None:
    """Fail with the first rows that only one side has. For similar rows, show the differences."""
    left, right = Counter(map(frozen, expected)), Counter(map(frozen, got))
    missing, extra = left - right, right - left
    lines = [
        f"{what}: of {left.total()} rows {missing.total()} are missing, {extra.total()} others are "
        "there"
    ]
    for row in list(missing)[:3]:
        nearest = max(extra, key=lambda other: len(set(row) & set(other)), default=())
        common = set(row) & set(nearest)
        lines += [
            f"{sign} {[v for v in each if v not in common]}"[:2000]
            for sign, each in (("-", row), ("+", nearest))
        ]
    lines += [f"+ {row}"[:2000] for row in list(extra)[: 0 if missing else 3]]
    assert not missing + extra, "\n".join(lines)


def assert_equals_source(
    source: Source, mysql: MySQLConnection, postgres: PostgresConnection, lake: str, table: str
) -> None:
    """Every row of a table is in raw and in the lake, or in quarantine, and no other.

    Of a row that was fit once and is in quarantine now, raw and lake keep the last fit version.
    """
    declared = source.table(table)
    key, types = declared.key, mysql_types(mysql, declared.at_source)
    at_source = mysql_rows(mysql, declared.at_source, types)
    quarantined = quarantined_rows(postgres, source, table, types)
    out = {tuple(row[name] for name in key) for row in quarantined} if key else set()
    for place, rows in (
        ("raw", raw_rows(postgres, source, table, types)),
        ("lake", lake_rows(postgres, lake, source, table, types)),
    ):
        fit = [row for row in rows if tuple(row[name] for name in key) not in out]
        assert_same_rows(at_source, [*fit, *quarantined], f"{table} in {place}")
