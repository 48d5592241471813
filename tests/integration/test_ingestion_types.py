"""Every MySQL type with its extremes, through both strategies, into PostgreSQL and Parquet, compared by content."""

from __future__ import annotations

import json
import math
import random
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import UnsupportedColumn, compare, load
from softcart_assets.ingestion.digest import POSTGRES, Accumulator
from softcart_assets.ingestion.types import Column
from softcart_assets.sources.model import Source, Table

WIDE = Decimal("9" * 35 + "." + "9" * 30)
FOUR_BYTES = "Zoë 🛒 𝒳"
CONTROL = "tab\t line\n return\r back\\slash \\N \x01\x7f 'quotes\" ; end"

# name, MySQL type, four values: (SQL literal, value in PostgreSQL); a fifth row is all NULL.
MATRIX: list[tuple[str, str, list[tuple[str, object]]]] = [
    ("ti", "TINYINT", [("-128", -128), ("127", 127), ("0", 0), ("-1", -1)]),
    ("tiu", "TINYINT UNSIGNED", [("0", 0), ("255", 255), ("1", 1), ("128", 128)]),
    ("si", "SMALLINT", [("-32768", -32768), ("32767", 32767), ("0", 0), ("1", 1)]),
    ("siu", "SMALLINT UNSIGNED", [("0", 0), ("65535", 65535), ("32768", 32768), ("1", 1)]),
    ("mi", "MEDIUMINT", [("-8388608", -8388608), ("8388607", 8388607), ("0", 0), ("1", 1)]),
    ("miu", "MEDIUMINT UNSIGNED", [("0", 0), ("16777215", 16777215), ("1", 1), ("2", 2)]),
    ("i", "INT", [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1), ("0", 0), ("1", 1)]),
    ("iu", "INT UNSIGNED", [("0", 0), ("4294967295", 2**32 - 1), ("2147483648", 2**31), ("1", 1)]),
    ("iz", "INT(8) ZEROFILL", [("0", 0), ("42", 42), ("4294967295", 2**32 - 1), ("1", 1)]),
    ("bi", "BIGINT", [(str(-(2**63)), -(2**63)), (str(2**63 - 1), 2**63 - 1), ("0", 0), ("1", 1)]),
    ("biu", "BIGINT UNSIGNED", [("0", 0), (str(2**64 - 1), 2**64 - 1), (str(2**63), 2**63), ("1", 1)]),
    (
        "d",
        "DECIMAL(12,2)",
        [("-9999999999.99", Decimal("-9999999999.99")), ("0", 0), ("0.01", Decimal("0.01")), ("1", 1)],
    ),
    (
        "d38",
        "DECIMAL(38,10)",
        [("9" * 28 + ".0000000001", Decimal("9" * 28 + ".0000000001")), ("0", 0), ("-1", -1), ("1", 1)],
    ),
    (
        "d65",
        "DECIMAL(65,30)",
        [(str(WIDE), WIDE), (f"-{WIDE}", WIDE.copy_negate()), ("1e-30", Decimal("1e-30")), ("0", 0)],
    ),
    ("dz", "DECIMAL(8,3) ZEROFILL", [("0", 0), ("1.5", Decimal("1.5")), ("99999.999", Decimal("99999.999")), ("1", 1)]),
    (
        "f",
        "FLOAT",
        [
            ("0.1", struct.unpack("f", struct.pack("f", 0.1))[0]),
            ("-3.4028234663852886e38", -3.4028234663852886e38),
            ("1.17549435e-38", 1.1754943508222875e-38),
            ("16777217", 16777216.0),
        ],
    ),
    (
        "f2",
        "FLOAT(7,3)",
        [("1234.567", struct.unpack("f", struct.pack("f", 1234.567))[0]), ("0", 0), ("-0.125", -0.125), ("1", 1)],
    ),
    (
        "dbl",
        "DOUBLE",
        [
            ("0.1", 0.1),
            ("1.7976931348623157e308", 1.7976931348623157e308),
            ("5e-324", 5e-324),
            ("123456789012345678", 123456789012345678.0),
        ],
    ),
    ("dbl2", "DOUBLE(15,4)", [("12345678901.2345", 12345678901.2345), ("-0.5", -0.5), ("0", 0), ("1", 1)]),
    ("b1", "BIT(1)", [("b'0'", 0), ("b'1'", 1), ("b'0'", 0), ("b'1'", 1)]),
    ("b63", "BIT(63)", [("0", 0), (str(2**63 - 1), 2**63 - 1), ("1", 1), ("5", 5)]),
    ("b64", "BIT(64)", [("0", 0), ("~0", 2**64 - 1), ("1", 1), (str(2**63), 2**63)]),
    ("yr", "YEAR", [("1901", 1901), ("2155", 2155), ("0", 0), ("2026", 2026)]),
    (
        "da",
        "DATE",
        [
            ("'0001-01-01'", date(1, 1, 1)),
            ("'9999-12-31'", date(9999, 12, 31)),
            ("'2024-02-29'", date(2024, 2, 29)),
            ("'1969-12-31'", date(1969, 12, 31)),
        ],
    ),
    (
        "dt",
        "DATETIME",
        [
            ("'0001-01-01 00:00:00'", datetime(1, 1, 1)),
            ("'9999-12-31 23:59:59'", datetime(9999, 12, 31, 23, 59, 59)),
            ("'2024-02-29 12:00:00'", datetime(2024, 2, 29, 12)),
            ("'1969-12-31 23:59:59'", datetime(1969, 12, 31, 23, 59, 59)),
        ],
    ),
    (
        "dt6",
        "DATETIME(6)",
        [
            ("'0001-01-01 00:00:00.000001'", datetime(1, 1, 1, microsecond=1)),
            ("'9999-12-31 23:59:59.999999'", datetime(9999, 12, 31, 23, 59, 59, 999999)),
            ("'2024-03-31 02:30:00.5'", datetime(2024, 3, 31, 2, 30, 0, 500000)),
            ("'1969-12-31 23:59:59.999999'", datetime(1969, 12, 31, 23, 59, 59, 999999)),
        ],
    ),
    (
        "ts3",
        "TIMESTAMP(3) NULL",
        [
            ("'1970-01-01 00:00:01'", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
            ("'2038-01-19 03:14:07.999'", datetime(2038, 1, 19, 3, 14, 7, 999000, UTC)),
            ("'2024-10-27 02:30:00.123'", datetime(2024, 10, 27, 2, 30, 0, 123000, UTC)),
            ("'2000-01-01'", datetime(2000, 1, 1, tzinfo=UTC)),
        ],
    ),
    (
        "t",
        "TIME",
        [
            ("'-838:59:59'", -timedelta(hours=838, minutes=59, seconds=59)),
            ("'838:59:59'", timedelta(hours=838, minutes=59, seconds=59)),
            ("'00:00:00'", timedelta()),
            ("'24:00:00'", timedelta(hours=24)),
        ],
    ),
    (
        "t6",
        "TIME(6)",
        [
            ("'-00:00:00.000001'", -timedelta(microseconds=1)),
            ("'838:59:58.999999'", timedelta(hours=838, minutes=59, seconds=58, microseconds=999999)),
            ("'-10:00:00.5'", -timedelta(hours=10, milliseconds=500)),
            ("'12:34:56.789'", timedelta(hours=12, minutes=34, seconds=56, milliseconds=789)),
        ],
    ),
    ("c", "CHAR(10)", [("''", ""), ("'a'", "a"), ("'🛒'", "🛒"), ("'\\\\N'", "\\N")]),
    (
        "vc",
        "VARCHAR(200)",
        [
            ("''", ""),
            ("'  spaces  '", "  spaces  "),
            (f"_utf8mb4 x'{FOUR_BYTES.encode().hex()}'", FOUR_BYTES),
            (f"_utf8mb4 x'{CONTROL.encode().hex()}'", CONTROL),
        ],
    ),
    ("l1", "VARCHAR(50) CHARACTER SET latin1", [("'äöü ÿ €'", "äöü ÿ €"), ("''", ""), ("'a'", "a"), ("'\\t'", "\t")]),
    ("u16", "VARCHAR(50) CHARACTER SET utf16", [("'äöü 🛒'", "äöü 🛒"), ("''", ""), ("'a'", "a"), ("'NULL'", "NULL")]),
    ("cp", "VARCHAR(50) CHARACTER SET cp1251", [("'Привет'", "Привет"), ("''", ""), ("'a'", "a"), ("'б'", "б")]),
    ("tx", "LONGTEXT", [("''", ""), ("REPEAT('x🛒', 100000)", "x🛒" * 100000), ("'\\n'", "\n"), ("'\\\\'", "\\")]),
    (
        "en",
        "ENUM('','a,b','o''clock','ß','\\\\')",
        [("''", ""), ("'a,b'", "a,b"), ("'o''clock'", "o'clock"), ("'\\\\'", "\\")],
    ),
    ("se", "SET('x','y z','ü','q''')", [("''", ""), ("'x,y z'", "x,y z"), ("'ü,q'''", "ü,q'"), ("'x'", "x")]),
    (
        "bn",
        "BINARY(4)",
        [("x'00'", bytes(4)), ("x'FFFFFFFF'", b"\xff" * 4), ("x'5C4E0A09'", b"\\N\n\t"), ("'a'", b"a\0\0\0")],
    ),
    ("vb", "VARBINARY(100)", [("''", b""), ("x'00FF00'", b"\0\xff\0"), ("x'5C'", b"\\"), ("'\\\\N'", b"\\N")]),
    (
        "bl",
        "LONGBLOB",
        [("''", b""), ("REPEAT(x'00FF', 50000)", b"\0\xff" * 50000), ("x'0D0A'", b"\r\n"), ("x'C0'", b"\xc0")],
    ),
    (
        "g",
        "POINT",
        [("ST_GeomFromText('POINT(1 2)')", bytes(4) + struct.pack("<BIdd", 1, 1, 1, 2))]
        + [("ST_GeomFromText('POINT(0 0)')", bytes(4) + struct.pack("<BIdd", 1, 1, 0, 0))] * 3,
    ),
    ('Wêird `"%s col', "VARCHAR(10)", [("'%'", "%"), ("'%s'", "%s"), ("'\"'", '"'), ("'`'", "`")]),
    ("select", "INT", [("1", 1), ("2", 2), ("3", 3), ("4", 4)]),
]


def _source(connection: MySQLConnection, *tables: Table) -> Source:
    return Source("odd", "mysql", connection.prefix, "team:test", tables)


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@pytest.fixture
def matrix(mysql: MySQLConnection) -> Source:
    """The matrix as two tables: one is loaded as a snapshot, the other incrementally, row by row."""
    columns = ", ".join(f"{_quoted(name)} {type_} NULL" for name, type_, _ in MATRIX)
    names = ", ".join(_quoted(name) for name, _, _ in MATRIX)
    with mysql.connect() as connection:
        for table in ("whole", "steps"):
            connection.query(
                f"CREATE TABLE {table} (id INT PRIMARY KEY, {columns}, gen INT AS (id * 2) STORED,"
                " virt VARCHAR(20) AS (CONCAT('v', id)) VIRTUAL,"
                " hidden INT INVISIBLE DEFAULT 7, updated_at DATETIME(6) NOT NULL) ROW_FORMAT=DYNAMIC"
            )
        _insert(connection, "whole", names, range(5))
    return _source(
        mysql,
        Table("whole", "", ("id",), "snapshot", {}),
        Table("steps", "", ("id",), "incremental", {}, cursor="updated_at", history=True),
    )


def _insert(connection, table: str, names: str, rows: range) -> None:
    connection.query("SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'")
    for row in rows:
        values = ", ".join(values[row][0] if row < 4 else "NULL" for _, _, values in MATRIX)
        connection.query(
            f"INSERT INTO {table} (id, {names}, updated_at) VALUES ({row - 2}, {values}, '2026-01-0{row + 1}')"
        )
    connection.commit()


def _expected(in_lake: bool) -> list[dict]:
    def value(name: str, type_: str, row: int, values: list) -> object:
        if row == 4:
            return None
        expected = values[row][1]
        if in_lake and isinstance(expected, timedelta):
            return expected // timedelta(microseconds=1)
        if in_lake and isinstance(expected, datetime):
            return expected.replace(tzinfo=UTC)
        if in_lake and name == "d65":
            return f"{expected:.30f}"
        return expected

    rows = [{name: value(name, type_, row, values) for name, type_, values in MATRIX} for row in range(5)]
    for row, each in enumerate(rows):
        each.update(id=row - 2, gen=(row - 2) * 2, virt=f"v{row - 2}", hidden=7)
    return rows


def test_every_type_arrives_exactly(
    matrix: Source, mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    names = ", ".join(_quoted(name) for name, _, _ in MATRIX)
    results = {}
    with mysql.connect() as connection:
        for row in range(5):
            _insert(connection, "steps", names, range(row, row + 1))
            results = {result.table: result for result in load(matrix, mysql, postgres, lake)}
    assert results["steps"].strategy == "incremental"
    assert (results["steps"].inserted, results["steps"].rows_read) == (1, 1)
    for table in ("whole", "steps"):
        comparison = compare(matrix, postgres, table)
        assert comparison.is_equal, comparison
        assert len(comparison.compared) == len(MATRIX) + 5
        with postgres.connect() as connection:
            cursor = connection.execute(f"SELECT * FROM raw_odd.{table} ORDER BY id")
            columns = [column.name for column in cursor.description or ()]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            paths = connection.execute(
                "SELECT path FROM ingestion.lake_files WHERE table_name = %s", (table,)
            ).fetchall()
        assert len(paths) == (1 if table == "whole" else 5)
        lake_rows = ds.dataset([f"{lake.removeprefix('file://')}/{path}" for (path,) in paths]).to_table()
        for got, expected in (
            (rows, _expected(False)),
            (sorted(lake_rows.to_pylist(), key=lambda row: row["id"]), _expected(True)),
        ):
            assert len(got) == 5
            for got_row, expected_row in zip(got, expected, strict=True):
                for name, value in expected_row.items():
                    assert got_row[name] == value, (table, name)
                    assert not isinstance(value, str | bytes) or isinstance(got_row[name], type(value))
    with postgres.connect() as connection:
        assert connection.execute("SELECT count(*), max(_version) FROM raw_odd.steps_history").fetchone() == (5, 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40) | st.none(),
            st.binary(max_size=40) | st.none(),
            st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            st.decimals(-(10**20), 10**20, places=9) | st.none(),
        ),
        max_size=30,
    )
)
def test_any_value_makes_the_round_trip_and_the_checksums_agree(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, rows: list[tuple]
) -> None:
    source = _source(mysql, Table("anything", "", ("id",), "snapshot", {}))
    with mysql.connect() as connection:
        connection.query(
            "CREATE TABLE IF NOT EXISTS anything (id INT PRIMARY KEY, t TEXT, b BLOB, f DOUBLE, d DECIMAL(30,9))"
        )
        connection.query("DELETE FROM anything")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO anything VALUES (%s, %s, %s, %s, %s)", [(n, *row) for n, row in enumerate(rows)]
            )
        connection.commit()
    list(load(source, mysql, postgres, lake))
    with postgres.connect() as connection:
        got = connection.execute("SELECT t, b, f, d FROM raw_odd.anything WHERE NOT _deleted ORDER BY id").fetchall()
    assert got == rows
    assert all(math.copysign(1, a[2]) == math.copysign(1, b[2]) for a, b in zip(got, rows, strict=True) if a[2])
    assert compare(source, postgres, "anything").is_equal


def test_python_and_postgresql_make_the_same_numbers(postgres: PostgresConnection) -> None:
    """What `Accumulator` sums for MongoDB is what PostgreSQL's expression gives, value by value."""
    dice = random.Random(5)
    doubles = [struct.unpack("d", dice.randbytes(8))[0] for _ in range(3000)]
    doubles += [dice.uniform(-1e6, 1e6) for _ in range(1000)] + [round(dice.uniform(-1e6, 1e6), 2) for _ in range(1000)]
    doubles += [0.0, -0.0, 1e15, 1e-5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan]
    documents = [
        '{"bb": 1e5, "a": [true, null, "\\u00e9 \\n \\" / \x7f"], "c": {"é": 1, "z": 2}}',
        "[]",
        "{}",
        '"x"',
        "-1.50",
    ]
    for column, values in (
        (Column("v", "", "double precision"), doubles),
        (Column("v", "", "jsonb"), documents),
        (Column("v", "", "text"), ["", "é🛒", "a\n"]),
        (
            Column("v", "", "timestamptz"),
            [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, UTC)],
        ),
        (Column("v", "", "boolean"), [True, False]),
        (Column("v", "", "numeric(38,18)"), [Decimal("0.5"), Decimal(0), Decimal("-19.99"), Decimal(10**19)]),
    ):
        with postgres.connect() as connection:
            connection.execute(f"CREATE TEMP TABLE numbers (n int, v {column.target_type})")
            with connection.cursor().copy("COPY numbers FROM STDIN") as copy:
                for row in enumerate(values):
                    copy.write_row(row)
            got = connection.execute(f"SELECT {POSTGRES.number(column)} FROM numbers ORDER BY n").fetchall()
        for value, (number,) in zip(values, got, strict=True):
            one = Accumulator()
            one.add([column], pa.RecordBatch.from_arrays([pa.array([value], column.arrow_type)], names=["v"]))
            assert one.result([column]) == (1, {"v": f"1:{number}"}), value


def test_json_keeps_its_content(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> None:
    """MariaDB's JSON is text and stays so; MySQL's becomes jsonb."""
    documents = ['{"b": [1, 2.50, 1e20, -0.0], "aa": "Zoë 🛒 \\"e1\\" \\n", "a": {}}', "[]", '"e"', "null"]
    source = _source(mysql, Table("documents", "", ("id",), "snapshot", {}))
    with mysql.connect() as connection:
        connection.query("CREATE TABLE documents (id INT PRIMARY KEY, j JSON)")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO documents VALUES (%s, %s)", list(enumerate(documents)))
        connection.commit()
    [result] = load(source, mysql, postgres, lake)
    with postgres.connect() as connection:
        got = connection.execute("SELECT j::text FROM raw_odd.documents ORDER BY id").fetchall()
    assert [json.loads(text) for (text,) in got] == [json.loads(text) for text in documents]
    assert result.columns[1]["target_type"] == ("jsonb" if result.columns[1]["source_type"] == "json" else "text")
    assert compare(source, postgres, "documents").is_equal


def test_a_type_or_name_that_cannot_be_carried_is_refused_by_name(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with mysql.connect() as connection:
        connection.query(f"CREATE TABLE long_name (id INT PRIMARY KEY, {'ä' * 33} INT)")
        connection.query("CREATE TABLE own_name (id INT PRIMARY KEY, _deleted INT)")
    for table in ("long_name", "own_name"):
        source = _source(mysql, Table(table, "", ("id",), "snapshot", {}))
        with pytest.raises(Exception, match=f"raw_odd/{table}: the name ") as error:
            list(load(source, mysql, postgres, lake))
        assert isinstance(error.value.failures[table], UnsupportedColumn)
