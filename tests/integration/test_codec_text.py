"""The codec on real servers: text rows out of MySQL become the Arrow arrays that `types.parse`
makes, and COPY BINARY fills PostgreSQL.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.codec.copying import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.codec.textrows import TextReader
from softcart_assets.ingestion.connectors.mysql.private import take_rows
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.types import Column, parse_rows

TARGETS = (
    *(
        "smallint",
        "integer",
        "bigint",
        "numeric(20,0)",
        "numeric(12,2)",
        "numeric(38,10)",
        "numeric(65,30)",
        "numeric(5,5)",
    ),
    *("double precision", "text", "bytea", "date", "timestamp", "timestamptz", "interval", "jsonb"),
)
some_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
digits = st.text("0123456789", min_size=1, max_size=40)


def _number(draw: st.DrawFn) -> str:
    sign, whole, point = (
        draw(st.sampled_from(["", "-"])),
        draw(digits),
        draw(st.sampled_from(["", "", "."])),
    )
    return sign + whole + (point + draw(digits) if point else "")


def _moment(draw: st.DrawFn) -> str:
    year, month, day = (
        draw(st.integers(0, 9999)),
        draw(st.integers(0, 13)),
        draw(st.integers(0, 32)),
    )
    text = f"{year:04}-{month:02}-{day:02}"
    if draw(st.booleans()):
        text += f" {draw(st.integers(0, 24)):02}:{draw(st.integers(0, 60)):02}"
        text += f":{draw(st.integers(0, 60)):02}"
        if draw(st.booleans()):
            text += "." + draw(st.text("0123456789", min_size=1, max_size=6))
    return text


# What MySQL sends for values of all types, valid or not, and what it never would.
sent = st.one_of(
    st.none(),
    st.integers(-(2**66), 2**66).map(str),
    st.sampled_from([2**15, 2**31, 2**63, 2**64, 10**20, 10**12]).flatmap(
        lambda edge: st.integers(edge - 2, edge + 2).flatmap(
            lambda n: st.sampled_from([str(n), f"-{n}"])
        )
    ),
    st.composite(_number)(),
    st.composite(_moment)(),
    st.dates(date(1, 1, 1)).map(str),
    st.datetimes(datetime(1, 1, 1)).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    some_text,
    st.binary(max_size=12),
    st.sampled_from(
        [
            "",
            "-",
            ".",
            "1.",
            "1e5",
            "1.5E-3",
            "1e",
            "0",
            "-0",
            "007",
            "0000-00-00",
            "2023-02-29",
            '"\\u0000"',
            '"\\\\u0000"',
            '"\\\\\\u0000"',
            '"\\\\u0000 \\u0000"',
        ]
    ),
    st.sampled_from(
        ["1e308", "1e309", "0." + "0" * 400 + "1", "9" * 35 + "." + "9" * 30, "-" + "9" * 65]
    ),
).map(lambda value: value.encode() if isinstance(value, str) else value)


def columns_of(*targets: str) -> list[Column]:
    return [Column(f"c{index}", "", target) for index, target in enumerate(targets)]


def sent_by(db: pymysql.Connection[Any], query: str, columns: list[Column]) -> TextReader:
    """A reader of what the server sends for this query."""
    db.query(query, unbuffered=True)
    return TextReader(take_rows(db), columns)


def read_all(
    reader: TextReader, max_rows: int = 1000, max_bytes: int = 1 << 20
) -> tuple[list[dict], list[tuple]]:
    rows, unfit = [], []
    while batch := reader.read(max_rows, max_bytes):
        batch[0].validate(full=True)
        rows += batch[0].to_pylist()
        unfit += batch[1]
    return rows, unfit


def _exactly(value: object) -> object:
    return (value, math.copysign(1, value)) if isinstance(value, float) else value


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(sent, min_size=1, max_size=60))
def test_any_text_becomes_what_types_makes_of_it(
    mysql: MySQLConnection, values: list[bytes | None]
) -> None:
    """Each text as each type: what the codec takes is equal, what it hands back is refused, or at
    least unusual.
    """
    with mysql.connect() as db:
        db.query("CREATE TEMPORARY TABLE sent (n INT PRIMARY KEY, v BLOB)")
        with db.cursor() as cursor:
            cursor.executemany("INSERT INTO sent VALUES (%s, %s)", list(enumerate(values)))
        for target in TARGETS:
            columns = [Column("n", "", "integer"), Column("v", "", target)]
            rows, unfit = read_all(sent_by(db, "SELECT n, v FROM sent ORDER BY n", columns))
            expected = parse_rows(
                columns,
                [
                    pa.array([str(n).encode() for n in range(len(values))]),
                    pa.array(values, pa.binary()),
                ],
                ["n"],
                None,
            )
            by_number = {row["n"]: row["v"] for row in expected.rows.to_pylist()}
            assert all(_exactly(by_number[row["n"]]) == _exactly(row["v"]) for row in rows), target
            again = (
                parse_rows(
                    columns,
                    [pa.array(raw, pa.binary()) for raw in zip(*unfit, strict=True)],
                    ["n"],
                    None,
                )
                if unfit
                else None
            )
            assert sorted(
                row["n"] for row in rows + (again.rows.to_pylist() if again else [])
            ) == sorted(by_number)
            if again:
                assert again.rejected == expected.rejected


VALUES: dict[str, st.SearchStrategy] = {
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "numeric(20,0)": st.decimals(-(10**20) + 1, 10**20 - 1, places=0),
    "numeric(12,2)": st.decimals(-(10**10), 10**10, places=2).filter(lambda d: abs(d) < 10**10),
    "numeric(19,5)": st.decimals(-(10**14) + 1, 10**14 - 1, places=5),
    "numeric(38,38)": st.integers(-(10**38) + 1, 10**38 - 1).map(
        lambda n: Decimal((n < 0, tuple(map(int, str(abs(n)))), -38))
    ),
    "numeric(65,30)": st.integers(-(10**65) + 1, 10**65 - 1).map(
        lambda n: Decimal((n < 0, tuple(map(int, str(abs(n)))), -30))
    ),
    "numeric(76,3)": st.integers(-(10**76) + 1, 10**76 - 1).map(
        lambda n: Decimal((n < 0, tuple(map(int, str(abs(n)))), -3))
    ),
    "double precision": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "text": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    "bytea": st.binary(max_size=40),
    "date": st.dates(),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
    "interval": st.integers(-(10**13), 10**13),
    "jsonb": st.sampled_from(['{"a": [1, 2.5, null]}', '"é🛒"', "[]", "null", "-1.50"]),
}


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(*(values | st.none() for values in VALUES.values())), max_size=12),
    st.integers(0, 3),
)
@example([tuple(Decimal(0) if "numeric" in target else None for target in VALUES)], 0)
def test_copied_rows_arrive_in_postgresql_as_they_are(
    postgres: PostgresConnection, rows: list[tuple], skipped: int
) -> None:
    columns = columns_of(*VALUES)
    aware = [
        tuple(v.replace(tzinfo=UTC) if isinstance(v, datetime) else v for v in row) for row in rows
    ]
    arrays = [
        pa.array([row[index] for row in aware], column.arrow_type)
        for index, column in enumerate(columns)
    ]
    batch = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns]).slice(
        skipped
    )
    with postgres.connect() as connection:
        connection.execute(
            "CREATE TEMP TABLE t (n serial, "
            f"{', '.join(f'{c.name} {c.target_type}' for c in columns)})"
        )
        names = ", ".join(c.name for c in columns)
        with connection.cursor().copy(f"COPY t ({names}) FROM STDIN (FORMAT BINARY)") as copy:
            copy.write(COPY_HEADER + copy_rows(columns, batch) + COPY_TRAILER)
        got = connection.execute(
            f"SELECT {names.replace('c17', 'c17::text')} FROM t ORDER BY n"
        ).fetchall()
        connection.execute("SELECT count(c17::text::jsonb) FROM t")
    expected = [
        tuple(
            timedelta(microseconds=value)
            if column.target_type == "interval" and value is not None
            else value
            for column, value in zip(columns, row, strict=True)
        )
        for row in rows[skipped:]
    ]
    assert got == expected
    for row in got:
        for column, value in zip(columns, row, strict=True):
            assert (
                not column.decimal
                or value is None
                or -value.as_tuple().exponent == column.decimal[1]
            )
    signs = [
        [math.copysign(1, v) for v in row if isinstance(v, float)] for row in (*got, *expected)
    ]
    assert signs[: len(got)] == signs[len(got) :]


@pytest.fixture
def db(any_mysql: MySQLConnection) -> Iterator[pymysql.Connection[Any]]:
    """A connection to a database with tables of numbers from 1 on: `thousand`,
    `hundred_thousand`.
    """
    with any_mysql.connect() as db:
        db.query("CREATE TABLE thousand (n INT PRIMARY KEY)")
        db.query(f"INSERT INTO thousand VALUES {','.join(f'({n})' for n in range(1, 1001))}")
        db.query("CREATE TABLE hundred_thousand (n INT PRIMARY KEY)")
        db.query(
            "INSERT INTO hundred_thousand SELECT a.n + 1000 * b.n - 1000 FROM thousand a, thousand "
            "b WHERE b.n <= 100"
        )
        db.commit()
        yield db


def test_a_reader_gives_batches_within_bounds_and_then_the_connection_back(
    db: pymysql.Connection[Any],
) -> None:
    columns = columns_of("bigint", "text")
    reader = sent_by(
        db,
        "SELECT n, IF(n % 7, REPEAT('x', 1000), NULL) FROM hundred_thousand WHERE n <= 10000 ORDER "
        "BY n",
        columns,
    )
    sizes, values = [], []
    while batch := reader.read(300, 100_000):
        assert batch[0].nbytes < 110_000
        assert not batch[1]
        sizes.append(len(batch[0]))
        values += batch[0].column(0).to_pylist()
    assert values == list(range(1, 10_001))
    assert max(sizes) < 130
    assert reader.read(1, 1) is None
    reader = sent_by(db, "SELECT n, 'x' FROM hundred_thousand", columns)
    batches = [reader.read(50_000, 1 << 30) for _ in range(2)]
    assert [len(batch[0]) for batch in batches if batch] == [50_000, 50_000]
    assert reader.read(50_000, 1 << 30) is None


def test_a_result_may_be_left_unread(db: pymysql.Connection[Any]) -> None:
    columns = columns_of("bigint")
    reader = sent_by(db, "SELECT n FROM hundred_thousand", columns)
    assert reader.read(10, 1 << 30)
    reader.close()
    reader.close()
    assert reader.read(10, 1 << 30) is None
    assert read_all(sent_by(db, "SELECT 5", columns)) == ([{"c0": 5}], [])


def test_unfit_rows_come_back_as_they_were_and_count_towards_the_bounds(
    db: pymysql.Connection[Any],
) -> None:
    reader = sent_by(
        db,
        "SELECT n, IF(n % 2, _binary x'C0FF', 'ok'), NULL FROM thousand ORDER BY n",
        columns_of("smallint", "text", "date"),
    )
    batch, unfit = reader.read(4, 1 << 20) or (None, None)
    assert batch
    assert batch.to_pydict() == {"c0": [2, 4], "c1": ["ok", "ok"], "c2": [None, None]}
    assert unfit == [(b"1", b"\xc0\xff", None), (b"3", b"\xc0\xff", None)]
    reader.close()


def test_errors_are_those_of_the_server(db: pymysql.Connection[Any]) -> None:
    columns = columns_of("bigint")
    for query in ("SELECT 1, 2", "SELECT 'not fit', 2"):
        reader = sent_by(db, query, columns)
        with pytest.raises(pymysql.OperationalError, match="another number of values"):
            reader.read(1, 1)
        reader.close()
    is_mariadb = "MariaDB" in db.get_server_info()
    db.query("SET max_statement_time = 0.3" if is_mariadb else "SET max_execution_time = 300")
    # So much that it does not wait in the server until its end.
    reader = sent_by(
        db, "SELECT n + COS(n) * 0 FROM hundred_thousand, (SELECT 1 FROM thousand) x", columns
    )
    with pytest.raises(pymysql.OperationalError) as error:
        list(iter(lambda: reader.read(100_000, 1 << 30), None))
    assert error.value.args[0] == (1969 if is_mariadb else 3024)
    assert reader.read(1, 1) is None
    assert read_all(sent_by(db, "SELECT 1", columns)) == ([{"c0": 1}], [])


def test_a_closed_connection_is_an_error(mysql: MySQLConnection) -> None:
    db = mysql.connect()
    reader = sent_by(db, "SELECT 1", columns_of("bigint"))
    db.close()
    with pytest.raises(pymysql.OperationalError, match="closed before all rows were read"):
        reader.read(1, 1)
    reader.close()


def test_a_killed_connection_is_an_error_not_an_end(
    db: pymysql.Connection[Any], any_mysql: MySQLConnection
) -> None:
    reader = sent_by(
        db,
        "SELECT a.n, REPEAT('x', 100) FROM hundred_thousand a, thousand b",
        columns_of("bigint", "text"),
    )
    assert reader.read(10, 1 << 20)
    with any_mysql.connect() as killer:
        killer.query(f"KILL {db.thread_id()}")
    with pytest.raises(pymysql.OperationalError):
        read_all(reader)


@pytest.mark.parametrize("size", [(1 << 24) - 9, (1 << 24) - 5, (1 << 24) + 7, 40_000_000])
def test_a_row_that_comes_in_several_packets(any_mysql: MySQLConnection, size: int) -> None:
    """A packet has room for 16 MB less one byte."""
    with any_mysql.connect() as db:
        query = f"SELECT 1, REPEAT('é', {size // 2}) UNION ALL SELECT 2, 'x'"
        reader = sent_by(db, query, columns_of("bigint", "text"))
        rows, unfit = read_all(reader)
        assert not unfit
        assert [(row["c0"], len(row["c1"])) for row in rows] == [(1, size // 2), (2, 1)]
        assert set(rows[0]["c1"]) == {"é"}
        assert not reader.is_open


def test_a_connection_with_unread_rows_is_not_used(any_mysql: MySQLConnection) -> None:
    with closing(Session(any_mysql)) as session:
        reader = session.read("SELECT 1 UNION ALL SELECT 2", columns_of("bigint"))
        assert reader.read(1, 1)
        for use in (session.query, session.several, lambda sql: session.read(sql, [])):
            with pytest.raises(RuntimeError, match="not all read"):
                use("SELECT 3")
        session.reset()
        assert session.query("SELECT 3") == [("3",)]
