"""Every MySQL type with its extremes, through every strategy, into PostgreSQL and Parquet, on every
server: equal, or refused by name.

`MATRIX` says types and values; a table has a column of each type, called like it.
"""

from __future__ import annotations

import json
import math
import random
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.equality import (
    assert_equals_source,
    assert_same_rows,
    lake_rows,
    mysql_types,
    plain,
    raw_rows,
)
from support.ingestion import load_all, run

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.errors import LoadsFailed, UnsupportedColumn
from softcart_assets.ingestion.proof.digest import checksum, checksums_by
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.statements import ASK_EVERY
from softcart_assets.ingestion.proof.tally import Accumulator
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import list_quarantine
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table

STRATEGIES = ("snapshot", "incremental", "cdc")


@dataclass(frozen=True)
class Typed:
    """A type and some of its values: (SQL, what it is in Python), or SQL alone where the source's
    word has to do.
    """

    type: str
    values: Sequence[tuple[str, object] | str]
    only: str = ""
    """The product that has it, if not both."""


def _integer(type_: str, low: int, high: int) -> Typed:
    return Typed(
        type_, [(str(value), value) for value in (low, high, 0, 1, low // 2, high // 2 + 1)]
    )


def _single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def _text(text: str) -> tuple[str, str]:
    return (f"_utf8mb4 x'{text.encode().hex()}'" if text else "''"), text


def _bytes(data: bytes) -> tuple[str, bytes]:
    return f"x'{data.hex()}'", data


def _moment(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def _span(hours: int, minutes: int = 0, seconds: int = 0, microseconds: int = 0) -> timedelta:
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=microseconds)


def _point(x: float, y: float, srid: int = 0) -> bytes:
    return struct.pack("<IBIdd", srid, 1, 1, x, y)


FOUR_BYTES = "Zoë 🛒 𝒳 \U0010ffff"
CONTROL = "tab\t line\n return\r back\\slash \\N \\. \x01\x1a\x7f 'quotes\" ; end"
WIDE = Decimal("9" * 35 + "." + "9" * 30)
TEXTS = [
    _text(text)
    for text in (
        "",
        " ",
        "  spaces  ",
        "NULL",
        "\\N",
        "\\",
        FOUR_BYTES,
        CONTROL,
        "e\u0301 ﬁ \ufeff \u200b",
    )
]
BYTES = [
    _bytes(data)
    for data in (b"", b"\0", b"\0\xff\0", b"\\N", b"\r\n\t", b"\xc0\x80", bytes(range(100)))
]
SET_LABELS = [f"l{n}" for n in range(63)] + ["ß'63"]

MATRIX = [
    _integer("TINYINT", -128, 127),
    _integer("TINYINT UNSIGNED", 0, 255),
    _integer("BOOLEAN", 0, 1),
    _integer("SMALLINT", -(2**15), 2**15 - 1),
    _integer("SMALLINT UNSIGNED", 0, 2**16 - 1),
    _integer("MEDIUMINT", -(2**23), 2**23 - 1),
    _integer("MEDIUMINT UNSIGNED", 0, 2**24 - 1),
    _integer("INT", -(2**31), 2**31 - 1),
    _integer("INT UNSIGNED", 0, 2**32 - 1),
    _integer("INT(8) ZEROFILL", 0, 2**32 - 1),
    _integer("BIGINT", -(2**63), 2**63 - 1),
    _integer("BIGINT UNSIGNED", 0, 2**64 - 1),
    _integer("BIGINT(20) UNSIGNED ZEROFILL", 0, 2**64 - 1),
    _integer("BIT(1)", 0, 1),
    _integer("BIT(7)", 0, 127),
    _integer("BIT(8)", 0, 255),
    _integer("BIT(9)", 0, 511),
    _integer("BIT(63)", 0, 2**63 - 1),
    _integer("BIT(64)", 0, 2**64 - 1),
    Typed(
        "DECIMAL(1,0)",
        [("-9", Decimal(-9)), ("9", Decimal(9)), ("0", Decimal(0)), ("1", Decimal(1))],
    ),
    Typed(
        "DECIMAL(12,2)",
        [(t, Decimal(t)) for t in ("-9999999999.99", "9999999999.99", "0", "0.01", "-0.01")],
    ),
    Typed(
        "DECIMAL(10,10)",
        [(t, Decimal(t)) for t in ("-0.9999999999", "0.9999999999", "0", "0.0000000001")],
    ),
    Typed(
        "DECIMAL(20,0) UNSIGNED", [(t, Decimal(t)) for t in ("0", "9" * 20, "1", "1" + "0" * 19)]
    ),
    Typed(
        "DECIMAL(38,10)",
        [(t, Decimal(t)) for t in ("9" * 28 + ".0000000001", "-" + "9" * 28 + ".9999999999", "0")],
    ),
    Typed(
        "DECIMAL(39,1)", [(t, Decimal(t)) for t in ("9" * 38 + ".9", "-" + "9" * 38 + ".9", "0.1")]
    ),
    Typed(
        "DECIMAL(65,0)", [(t, Decimal(t)) for t in ("9" * 65, "-" + "9" * 65, "0", "1" + "0" * 64)]
    ),
    Typed(
        "DECIMAL(65,30)",
        [
            (f"{v:f}", v)
            for v in (WIDE, WIDE.copy_negate(), Decimal("1e-30"), Decimal(0), Decimal(7))
        ],
    ),
    Typed("DECIMAL(8,3) ZEROFILL", [(t, Decimal(t)) for t in ("0", "1.5", "99999.999", "0.001")]),
    Typed(
        "FLOAT",
        [
            *(
                "-0e0",
                *((repr(v), _single(v)) for v in (1e-45, 1.17549435e-38, 3.4028234663852886e38)),
            ),
            *((f"{v}e0", _single(v)) for v in (0.0, 0.1, 16777217.0, -16777215.0)),
        ],
    ),
    Typed("FLOAT UNSIGNED", [("0", 0.0), ("1.1", _single(1.1)), ("3.4e38", _single(3.4e38))]),
    Typed(
        "FLOAT(7,3)",
        [
            ("1234.567", _single(1234.567)),
            ("0", 0.0),
            ("-0.125", -0.125),
            ("-9999.999", _single(-9999.999)),
        ],
    ),
    Typed(
        "DOUBLE",
        [
            *(
                "-0e0",
                *(
                    (repr(v), v)
                    for v in (5e-324, -2.2250738585072009e-308, 1.7976931348623157e308, 1e16)
                ),
            ),
            *((f"{v}e0", v) for v in (0.0, 0.1, 0.1 + 0.2, 999999999999999.9)),
        ],
    ),
    Typed("DOUBLE(15,4)", [("12345678901.2345", 12345678901.2345), ("-0.5", -0.5), ("0", 0.0)]),
    Typed("YEAR", [("1901", 1901), ("2155", 2155), ("0", 0), ("2026", 2026)]),
    Typed(
        "DATE",
        [
            (f"'{d}'", d)
            for d in (date(1, 1, 1), date(9999, 12, 31), date(2024, 2, 29), date(1969, 12, 31))
        ],
    ),
    *(
        Typed(
            f"DATETIME({digits})" if digits else "DATETIME",
            [
                ("'0001-01-01 00:00:00'", _moment(1, 1, 1)),
                (
                    f"'9999-12-31 23:59:59.{'9' * digits}'",
                    _moment(9999, 12, 31, 23, 59, 59, int(("9" * digits).ljust(6, "0"))),
                ),
                (
                    "'1969-12-31 23:59:59.5'" if digits else "'1969-12-31 23:59:59'",
                    _moment(1969, 12, 31, 23, 59, 59, 500_000 if digits else 0),
                ),
                ("'2024-03-31 02:30:00'", _moment(2024, 3, 31, 2, 30)),
                (
                    f"'0999-01-01 00:00:00.{'0' * (digits - 1)}1'" if digits else "'0999-01-01'",
                    _moment(999, 1, 1, 0, 0, 0, 10 ** (6 - digits) if digits else 0),
                ),
            ],
        )
        for digits in range(7)
    ),
    *(
        Typed(
            f"TIMESTAMP({digits}) NULL" if digits else "TIMESTAMP NULL",
            [
                ("'1970-01-01 00:00:01'", _moment(1970, 1, 1, 0, 0, 1)),
                (
                    f"'2038-01-19 03:14:07.{'9' * digits}'",
                    _moment(2038, 1, 19, 3, 14, 7, int(("9" * digits).ljust(6, "0"))),
                ),
                ("'2024-10-27 02:30:00'", _moment(2024, 10, 27, 2, 30)),
            ],
        )
        for digits in range(7)
    ),
    *(
        Typed(
            f"TIME({digits})" if digits else "TIME",
            [
                (
                    f"'-838:59:58.{'9' * digits}'",
                    -_span(838, 59, 58, int(("9" * digits).ljust(6, "0"))),
                ),
                (
                    f"'838:59:58.{'9' * digits}'",
                    _span(838, 59, 58, int(("9" * digits).ljust(6, "0"))),
                ),
                ("'838:59:59'", _span(838, 59, 59)),
                ("'-838:59:59'", -_span(838, 59, 59)),
                ("0", timedelta()),
                ("'24:00:00'", _span(24)),
                ("'-00:00:01'", -_span(0, 0, 1)),
                (f"'-00:00:00.{'0' * (digits - 1)}1'", -_span(0, 0, 0, 10 ** (6 - digits)))
                if digits
                else ("'-10:00:00'", -_span(10)),
                ("'-00:00:01.5'", -_span(0, 0, 1, 500_000))
                if digits
                else ("'12:34:56'", _span(12, 34, 56)),
            ],
        )
        for digits in range(7)
    ),
    Typed("CHAR(0)", [("''", "")]),
    Typed(
        "CHAR(10)",
        [
            ("''", ""),
            ("'a'", "a"),
            ("'🛒🛒🛒🛒🛒🛒🛒🛒🛒🛒'", "🛒" * 10),
            ("'\\\\N'", "\\N"),
            ("'ends   '", "ends"),
        ],
    ),
    Typed("CHAR(255)", [_text("𝒳" * 255), _text("ß" * 255), _text("x" * 255), _text("")]),
    Typed("CHAR(255) CHARACTER SET latin1", [_text("ÿ" * 255), _text("€"), _text("")]),
    Typed("VARCHAR(200)", TEXTS),
    Typed("VARCHAR(200) COLLATE utf8mb4_bin", TEXTS),
    Typed("VARCHAR(63)", [_text("𝒳" * 63), _text("x" * 63), _text("")]),
    Typed("VARCHAR(64)", [_text("𝒳" * 64), _text("x" * 64), _text("")]),
    Typed("TINYTEXT", [*TEXTS, _text("é" * 127)]),
    Typed("TEXT", TEXTS),
    Typed("MEDIUMTEXT", TEXTS),
    Typed("LONGTEXT", TEXTS),
    Typed("TEXT CHARACTER SET utf16", TEXTS),
    Typed("ENUM('x')", [("'x'", "x")]),
    Typed(
        "ENUM('','a,b','o''clock','ß','\\\\','🛒')",
        [("''", ""), *(_text(t) for t in ("a,b", "o'clock", "ß", "\\", "🛒"))],
    ),
    Typed("ENUM('a','b')", [("'neither'", ""), ("'a'", "a"), ("2", "b"), ("0", "")]),
    Typed(
        f"ENUM({','.join(repr(f'v{n}') for n in range(300))})",
        [("'v0'", "v0"), ("'v255'", "v255"), ("'v299'", "v299")],
    ),
    Typed("ENUM('é','ü') CHARACTER SET latin1", [("'é'", "é"), ("'ü'", "ü")]),
    Typed(
        "SET('x','y z','ü','q''')",
        [("''", ""), ("'x,y z'", "x,y z"), ("'ü,q'''", "ü,q'"), ("15", "x,y z,ü,q'")],
    ),
    Typed(
        "SET(" + ",".join("'" + label.replace("'", "''") + "'" for label in SET_LABELS) + ")",
        [
            ("''", ""),
            ("~0", ",".join(SET_LABELS)),
            ("1 << 63", "ß'63"),
            ("1 | 1 << 32", "l0,l32"),
            ("255", ",".join(SET_LABELS[:8])),
        ],
    ),
    Typed(
        "BINARY(4)",
        [_bytes(d) for d in (bytes(4), b"\xff" * 4, b"\\N\n\t")]
        + [("'a'", b"a\0\0\0"), ("''", bytes(4))],
    ),
    Typed(
        "BINARY(16)",
        [_bytes(d) for d in (bytes(16), b"\xff" * 16, bytes(15) + b"\1", b"\1" + bytes(15))],
    ),
    Typed("BINARY(255)", [_bytes(b"\xff" * 255), ("x'00'", bytes(255)), _bytes(bytes(254) + b" ")]),
    Typed("VARBINARY(100)", BYTES),
    Typed("VARBINARY(300)", [*BYTES, _bytes(bytes(300)), _bytes(b"\xff" * 256)]),
    Typed("TINYBLOB", [*BYTES, _bytes(b"\xff" * 255)]),
    Typed("BLOB", BYTES),
    Typed("MEDIUMBLOB", BYTES),
    Typed("LONGBLOB", BYTES),
    Typed(
        "POINT",
        [
            ("ST_GeomFromText('POINT(1 2)')", _point(1, 2)),
            ("ST_GeomFromText('POINT(-1.5e300 5e-300)')", _point(-1.5e300, 5e-300)),
            ("ST_GeomFromText('POINT(0 0)')", _point(0, 0)),
        ],
    ),
    Typed(
        "GEOMETRY",
        [
            ("ST_GeomFromText('POINT(1 2)')", _point(1, 2)),
            "ST_GeomFromText('LINESTRING(0 0,1 1)', 4326)",
        ],
    ),
    Typed("LINESTRING", ["ST_GeomFromText('LINESTRING(0 0,1 1,2 0.5)')"]),
    Typed("POLYGON", ["ST_GeomFromText('POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,2 1,2 2,1 1))')"]),
    Typed("MULTIPOINT", ["ST_GeomFromText('MULTIPOINT(0 0,20 20)')"]),
    Typed("MULTILINESTRING", ["ST_GeomFromText('MULTILINESTRING((10 10,20 20),(15 15,30 15))')"]),
    Typed(
        "MULTIPOLYGON",
        ["ST_GeomFromText('MULTIPOLYGON(((0 0,4 0,4 4,0 0)),((10 10,11 10,11 11,10 10)))')"],
    ),
    Typed(
        "GEOMETRYCOLLECTION",
        [
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')",
            "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')",
        ],
    ),
    Typed(
        "JSON",
        [
            _text(text)
            for text in (
                '{"b": [1, 2.50, 1e20, -0.0, true, null], "aa": "Zoë 🛒 \\"e1\\" \\n", "a": {}}',
                *(
                    "[]",
                    "{}",
                    '"e"',
                    '""',
                    "null",
                    "false",
                    "0.1",
                    "5e-324",
                    "1.7976931348623157e308",
                ),
                *(
                    "18446744073709551615",
                    "-9223372036854775808",
                    "9223372036854775808",
                    "65535",
                    "-32769",
                ),
                "[" * 30 + "]" * 30,
                json.dumps({f"schlüssel {n}": ["x" * n, n, n / 7] for n in range(200)}),
                json.dumps(["long", "é" * 40_000, list(range(20_000))]),
            )
        ],
    ),
    Typed(
        "JSON COMMENT 'of SQL values'",
        [
            "JSON_ARRAY(CAST(1.10 AS DECIMAL(10,5)), CAST('-0.00001' AS DECIMAL(40,30)), "
            "123456789012345678901234567890)",
            "JSON_ARRAY(DATE '2024-02-29', TIME '-12:00:00.5', TIMESTAMP '2024-02-29 "
            "23:59:59.000001', 1e0, ~0, -1)",
            "JSON_OBJECT('blob', x'00ff27', 'bit', b'101', 'text', _latin1 x'e9', '', NULL)",
            "CAST(TIMESTAMP '2024-02-29 23:59:59' AS JSON)",
            "CAST(1.5 AS JSON)",
            _text("[" * 99 + "]" * 99),
        ],
        only="MySQL",
    ),
    Typed(
        "VECTOR(3)",
        [("STRING_TO_VECTOR('[1,-2.5,3e38]')", struct.pack("<fff", 1, -2.5, 3e38))],
        only="MySQL",
    ),
    Typed(
        "UUID",
        [
            (f"'{u}'", u)
            for u in (
                "00000000-0000-0000-0000-000000000000",
                "123e4567-e89b-12d3-a456-426655440000",
                "ffffffff-ffff-ffff-ffff-ffffffffffff",
            )
        ],
        only="MariaDB",
    ),
    Typed(
        "INET4", [(f"'{a}'", a) for a in ("0.0.0.0", "255.255.255.255", "10.0.0.1")], only="MariaDB"
    ),
    Typed(
        "INET6",
        [
            (f"'{a}'", a)
            for a in (
                "::",
                "::1",
                "2001:db8::ff00:42:8329",
                "::ffff:192.0.2.128",
                "::192.0.2.128",
                "1:0:0:2::3",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            )
        ],
        only="MariaDB",
    ),
    Typed("VARCHAR(200) COMPRESSED", [*TEXTS, _text("é" * 200)], only="MariaDB"),
    Typed("VARBINARY(200) COMPRESSED", [*BYTES, _bytes(b"x" * 200)], only="MariaDB"),
    Typed("TEXT COMPRESSED", [*TEXTS, _text("é" * 20_000)], only="MariaDB"),
    Typed("BLOB COMPRESSED", [*BYTES, _bytes(b"x" * 60_000)], only="MariaDB"),
]


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


class Matrix:
    """A table with a column of each type that the server has; its rows take the columns' values in
    turn.
    """

    def __init__(self, mysql: MySQLConnection) -> None:
        with mysql.connect() as connection:
            product = "MariaDB" if "MariaDB" in connection.get_server_info() else "MySQL"
        self.mysql = mysql
        # A name may have 63 bytes.
        self.columns = {
            typed.type[:30] + "…" * (len(typed.type) > 30): typed
            for typed in MATRIX
            if typed.only in ("", product)
        }
        self.rows = max(len(typed.values) for typed in self.columns.values())
        definitions = ", ".join(
            f"{_quoted(name)} {typed.type} NULL"
            for name, typed in self.columns.items()
            if typed.only != "-"
        )
        run(
            mysql,
            f"CREATE TABLE matrix (id INT PRIMARY KEY, {definitions}, gen INT AS (id * 2) STORED,"
            " virt VARCHAR(20) AS (CONCAT('v', id)) VIRTUAL, hidden INT INVISIBLE DEFAULT 7, "
            "`select` INT DEFAULT 1,"
            " `Wêird ``\"%s {0} col` VARCHAR(10) DEFAULT '%s', updated_at DATETIME(6) NOT NULL)",
        )

    def value(self, name: str, row: int) -> tuple[str, object] | str:
        values = self.columns[name].values
        return values[row % len(values)]

    def write(self, statement: str, ids: Iterable[int], shift: int = 0) -> None:
        """Run `statement` with a SET list for each of the rows, whose columns have the values of
        the row `shift` further.
        """
        for id_ in ids:
            values = (self.value(name, id_ + shift) for name in self.columns)
            literals = [value if isinstance(value, str) else value[0] for value in values]
            assignments = [
                f"{_quoted(n)} = {v}" for n, v in zip(self.columns, literals, strict=True)
            ]
            # Out of the strict mode, which refuses values that others can have stored all the same.
            run(
                self.mysql,
                "SET sql_mode = ''",
                statement.format(id=id_, values=", ".join([*assignments, "updated_at = NOW(6)"])),
            )

    def assert_exact(self, rows: Iterable, shift: int = 0) -> None:
        """Every value is what it should be."""
        types = mysql_types(self.mysql, "matrix")
        differences = []
        for row in rows:
            for name in self.columns:
                value = self.value(name, row["id"] + shift)
                if row["id"] < 1000 and not isinstance(value, str):
                    expected = plain(types[name], value[1])
                    if (type(row[name]), row[name]) != (type(expected), expected):
                        differences.append(
                            (name, value[0][:100], str(expected)[:100], str(row[name])[:100])
                        )
        assert not differences, "\n".join(map(str, differences))


def _source(connection: MySQLConnection, *tables: Table) -> Source:
    return Source("odd", "mysql", "", tables, owner="team:test", prefix=connection.prefix)


def _table(name: str, strategy: str, *, history: bool = False) -> Table:
    cursor = "updated_at" if strategy == "incremental" else None
    return Table(name, "", ("id",), strategy, (), cursor=cursor, history=history)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_type_arrives_exactly(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    matrix = Matrix(any_mysql)
    source = _source(any_mysql, _table("matrix", strategy, history=True))
    types = mysql_types(any_mysql, "matrix")

    def check(inserted: int, updated: int, deleted: int, shift: int = 0) -> None:
        # Asked at the first load only: what a captured table's log tells is added up after that.
        [result] = load_all(source, any_mysql, postgres, lake, ask_after=ASK_EVERY).values()
        assert_equals_source(source, any_mysql, postgres, lake, "matrix")
        matrix.assert_exact(raw_rows(postgres, source, "matrix", types), shift)
        matrix.assert_exact(lake_rows(postgres, lake, source, "matrix", types), shift)
        comparison = compare(source, postgres, "matrix")
        assert comparison.is_equal, comparison
        assert comparison.compared == list(types)
        assert (result.inserted, result.updated, result.deleted) == (inserted, updated, deleted)

    half = matrix.rows // 2
    matrix.write("INSERT INTO matrix SET id = {id}, {values}", range(-2, half))
    check(half + 2, 0, 0)
    matrix.write("INSERT INTO matrix SET id = {id}, {values}", range(half, matrix.rows))
    run(any_mysql, "INSERT INTO matrix (id, updated_at) VALUES (1000, NOW(6))")
    check(matrix.rows - half + 1, 0, 0)
    matrix.write("UPDATE matrix SET {values} WHERE id = {id}", range(-2, matrix.rows), shift=1)
    run(any_mysql, f"DELETE FROM matrix WHERE id = {half}")
    # Change data capture counts changes, not rows: one is updated, then deleted.
    check(0, matrix.rows + 1 + (strategy == "cdc"), 1, shift=1)
    added_up = compare(source, postgres, "matrix").statement
    load_all(source, any_mysql, postgres, lake)
    asked = compare(source, postgres, "matrix").statement
    assert (added_up.rows, added_up.columns) == (asked.rows, asked.columns)
    assert added_up.asked_at != asked.asked_at


@pytest.mark.parametrize("strategy", ["snapshot", "cdc"])
def test_the_longest_values_arrive(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    """Longer than a packet of MySQL's protocol, which has 16 MB."""
    source = _source(any_mysql, _table("longest", strategy))
    longest = {
        "VARCHAR(16000)": "REPEAT('🛒', 16000)",
        "TINYTEXT": "REPEAT('x', 255)",
        "`TEXT`": "REPEAT('é', 32767)",
        "MEDIUMTEXT": "REPEAT('x', 16777215)",
        "LONGTEXT": "REPEAT('𝒳', 3000000)",
        "`TINYBLOB`": "REPEAT(x'FF', 255)",
        "`BLOB`": "REPEAT(x'00', 65535)",
        "MEDIUMBLOB": "REPEAT(x'5C', 100)",
        "LONGBLOB": "REPEAT(x'00FF', 9000000)",
    }
    types = [name.strip("`") for name in longest]
    names = [_quoted(name) for name in types]
    run(
        any_mysql,
        "CREATE TABLE longest (id INT PRIMARY KEY, "
        f"{', '.join(f'{n} {t}' for n, t in zip(names, types, strict=True))})",
        "INSERT INTO longest (id) VALUES (1), (2)",
    )
    load_all(source, any_mysql, postgres, lake)
    run(
        any_mysql,
        f"INSERT INTO longest VALUES (3, {', '.join(longest.values())})",
        "UPDATE longest SET "
        f"{', '.join(f'{n} = {v}' for n, v in zip(names, longest.values(), strict=True))} "
        "WHERE id = 2",
    )
    load_all(source, any_mysql, postgres, lake)
    assert_equals_source(source, any_mysql, postgres, lake, "longest")
    comparison = compare(source, postgres, "longest")
    assert comparison.is_equal, comparison


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_dates_that_are_none_are_in_quarantine_with_their_column_until_they_are_mended(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    bad = [
        ("da", "0000-00-00"),
        ("da", "2024-00-10"),
        ("da", "0000-01-01"),
        ("dt", "0000-00-00 00:00:00.000000"),
        ("dt", "2024-02-00 12:00:00.500000"),
        ("ts", "0000-00-00 00:00:00.000"),
    ]
    source = _source(any_mysql, _table("dates", strategy))
    run(
        any_mysql,
        "CREATE TABLE dates (id INT PRIMARY KEY, da DATE, dt DATETIME(6), ts TIMESTAMP(3) NULL, t "
        "TEXT,"
        " updated_at DATETIME(6) NOT NULL)",
        "INSERT INTO dates (id, updated_at) VALUES (1000, NOW(6))",
    )

    def write(first: int) -> None:
        for number, (column, value) in enumerate(bad, first):
            run(
                any_mysql,
                "SET sql_mode = ''",
                f"INSERT INTO dates (id, {column}, t, updated_at) VALUES ({number}, '{value}', "
                "'ü\\n', NOW(6))",
            )

    def check(out: Sequence[int]) -> None:
        [result] = load_all(source, any_mysql, postgres, lake, ask_after=ASK_EVERY).values()
        assert_equals_source(source, any_mysql, postgres, lake, "dates")
        comparison = compare(source, postgres, "dates")
        assert comparison.is_equal, comparison
        entries = {entry.row["id"]: entry for entry in list_quarantine(postgres)}
        assert sorted(map(int, filter(None, entries))) == sorted(out)
        assert result.quarantined == len(out)
        for number in out:
            column, value = bad[number % 10]
            assert entries[str(number)].column_name == column
            assert entries[str(number)].row[column] == value

    write(0)
    check([*range(6)])
    write(10)
    check([*range(6), *range(10, 16)])
    run(
        any_mysql,
        "SET sql_mode = ''",
        "UPDATE dates SET da = '2024-01-01', dt = NOW(6), ts = NOW(3), updated_at = NOW(6) WHERE "
        "id IN (0, 3, 10, 13, 15)",
        "UPDATE dates SET t = 'changed, still bad', updated_at = NOW(6) WHERE id = 5",
        "DELETE FROM dates WHERE id IN (4, 14)",
    )
    check([1, 2, 5, 11, 12])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_name_that_cannot_be_carried_is_refused_with_table_and_column(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    run(
        any_mysql,
        f"CREATE TABLE long_name (id INT PRIMARY KEY, updated_at DATETIME(6), {'ä' * 33} INT)",
        "CREATE TABLE own_name (id INT PRIMARY KEY, updated_at DATETIME(6), _deleted INT)",
        "CREATE TABLE good (id INT PRIMARY KEY, updated_at DATETIME(6))",
        "INSERT INTO good VALUES (1, NOW(6))",
    )
    source = _source(
        any_mysql, *(_table(name, strategy) for name in ("long_name", "own_name", "good"))
    )
    with pytest.raises(LoadsFailed) as error:
        load_all(source, any_mysql, postgres, lake)
    assert error.value.failures.keys() == {"long_name", "own_name"}
    for table, column in (("long_name", "ä" * 33), ("own_name", "_deleted")):
        assert isinstance(error.value.failures[table], UnsupportedColumn)
        assert f"raw_odd/{table}: the name {column!r}" in str(error.value.failures[table])
    assert_equals_source(source, any_mysql, postgres, lake, "good")


@pytest.mark.parametrize("strategy", ["snapshot", "cdc"])
def test_a_key_that_postgresql_cannot_index_is_refused_with_table_and_column(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    run(
        mysql,
        "CREATE TABLE long_key (id VARBINARY(3072) PRIMARY KEY)",
        "INSERT INTO long_key SELECT UNHEX(GROUP_CONCAT(SHA2(i, 256) SEPARATOR '')) FROM"
        " (WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 96) SELECT i "
        "FROM n) AS numbers",
    )
    with pytest.raises(
        LoadsFailed, match=r"raw_odd/long_key: a value of the declared key \(id\) is longer than"
    ) as error:
        load_all(_source(mysql, _table("long_key", strategy)), mysql, postgres, lake)
    assert "declare another key" in str(error.value)
    source = _source(mysql, Table("long_key", "", (), strategy, ()))  # type: ignore[arg-type]
    load_all(source, mysql, postgres, lake)
    assert_equals_source(source, mysql, postgres, lake, "long_key")


def _alphabets(mysql: MySQLConnection) -> dict[str, str]:
    """Every character set of the server, with all the characters that it can hold and give back, up
    to U+FFFF.
    """
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TEMPORARY TABLE characters (c VARCHAR(1) CHARACTER SET utf8mb4 COLLATE "
            "utf8mb4_bin)"
        )
        characters = [chr(n) for n in range(1, 0x10000) if not 0xD800 <= n < 0xE000]
        for start in range(0, len(characters), 10_000):
            cursor.executemany(
                "INSERT INTO characters VALUES (%s)", characters[start : start + 10_000]
            )
        cursor.execute(
            "SELECT character_set_name FROM information_schema.character_sets ORDER BY 1"
        )
        alphabets = {}
        for (charset,) in cursor.fetchall():
            if charset == "binary":
                continue
            # Through bytes, as a column stores them.
            stored = f"CONVERT(c USING {charset})"
            cursor.execute(
                f"SELECT c FROM characters WHERE HEX(CONVERT({stored} USING utf8mb4)) = HEX(c)"
            )
            alphabets[charset] = "".join(c for (c,) in cursor.fetchall())
    return alphabets


@pytest.mark.parametrize("strategy", ["snapshot", "cdc"])
def test_every_character_of_every_character_set_arrives(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    alphabets = _alphabets(any_mysql)
    assert len(alphabets["utf16"]) == len(alphabets["utf8mb3"]) > 63_000
    assert len(alphabets["gbk"]) > 20_000
    assert len(alphabets["latin1"]) == 255
    types = {"": "LONGTEXT", " v": "VARCHAR(100)", " c": "CHAR(10)"}
    columns = ", ".join(
        f"`{name}{x}` {type_} CHARACTER SET {name}"
        for name in alphabets
        for x, type_ in types.items()
    )
    source = _source(any_mysql, _table("alphabets", strategy))
    run(any_mysql, f"CREATE TABLE alphabets (id INT PRIMARY KEY, {columns})")
    load_all(source, any_mysql, postgres, lake)
    pieces: list[list[str]] = [[] for _ in range(max(map(len, alphabets.values())) // 100 + 1)]
    for alphabet in alphabets.values():
        for number, row in enumerate(pieces):
            piece = alphabet[number * 100 : number * 100 + 100]
            row += ["", piece, piece[:10].rstrip(" ")]
    whole = [value for alphabet in alphabets.values() for value in (alphabet, "", "")]
    with any_mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        places = ", ".join(["%s"] * (len(whole) + 1))
        cursor.executemany(
            f"INSERT INTO alphabets VALUES ({places})",
            [(n, *row) for n, row in enumerate([whole, *pieces])],
        )
    [result] = load_all(source, any_mysql, postgres, lake).values()
    assert result.quarantined == 0
    assert_equals_source(source, any_mysql, postgres, lake, "alphabets")


def _of(codec: str) -> st.SearchStrategy[str]:
    """Texts of a character set, but for NUL, which PostgreSQL does not have."""
    return st.text(
        st.characters(codec=codec, exclude_categories=["Cs"], exclude_characters="\0"), max_size=60
    )


def _whole(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_MICROSECONDS = st.integers(-3020399_000000, 3020399_000000)
_DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _FINITE | _of("utf-8"),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_of("utf-8"), inner, max_size=5),
    max_leaves=30,
)


def _time(microseconds: int) -> str:
    seconds, fraction = divmod(abs(microseconds), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    whole = f"{'-' * (microseconds < 0)}{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return f"{whole}.{fraction:06}"


RANDOM: dict[str, st.SearchStrategy] = {
    "TINYINT": _whole(-128, 127),
    "SMALLINT UNSIGNED": _whole(0, 2**16 - 1),
    "MEDIUMINT": _whole(-(2**23), 2**23 - 1),
    "INT UNSIGNED": _whole(0, 2**32 - 1),
    "BIGINT": _whole(-(2**63), 2**63 - 1),
    "BIGINT UNSIGNED": _whole(0, 2**64 - 1),
    "BIT(33)": _whole(0, 2**33 - 1),
    "SET('a','b','c','d','e','f','g','h','i')": _whole(0, 2**9 - 1),
    "ENUM('a','b','ß')": _whole(1, 3),
    "YEAR": _whole(1901, 2155),
    "DECIMAL(65,30)": st.decimals(-(10**34), 10**34, places=30, allow_nan=False),
    "DECIMAL(11,3)": st.decimals(-99_999_999, 99_999_999, places=3, allow_nan=False),
    "DOUBLE": _FINITE,
    "FLOAT": st.floats(allow_nan=False, allow_infinity=False, width=32),
    "DATE": st.dates(),
    "DATETIME(6)": st.datetimes(),
    "TIMESTAMP(6) NULL": st.datetimes(
        datetime(1970, 1, 1, 0, 0, 1), datetime(2038, 1, 19, 3, 14, 7)
    ),
    "TIME(6)": _MICROSECONDS.map(_time),
    "TEXT": _of("utf-8"),
    "VARCHAR(60) CHARACTER SET latin1": _of("cp1252"),
    "VARCHAR(60) CHARACTER SET utf16": _of("utf-8"),
    "CHAR(60) CHARACTER SET cp1251": _of("cp1251"),
    "CHAR(60)": _of("utf-8"),
    "VARBINARY(60)": st.binary(max_size=60),
    "BINARY(20)": st.binary(max_size=20),
    "BLOB": st.binary(max_size=300),
    "POINT": st.tuples(_FINITE, _FINITE).map(lambda point: _point(*point)),
    "JSON": _DOCUMENTS.map(lambda document: json.dumps(document, ensure_ascii=False)),
}
ROWS = st.lists(
    st.fixed_dictionaries({name: values | st.none() for name, values in RANDOM.items()}),
    max_size=25,
)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.reuse, Phase.generate],
)
@given(st.tuples(ROWS, ROWS))
def test_any_values_are_the_same_by_snapshot_and_by_log(
    any_mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    rows: tuple[list[dict], list[dict]],
) -> None:
    source = _source(
        any_mysql, _table("by_snapshot", "snapshot"), _table("by_log", "cdc", history=True)
    )
    columns = ", ".join(f"{_quoted(name)} {name}" for name in RANDOM)
    places = ", ".join(["%s"] * len(RANDOM))
    assignments = ", ".join(f"{_quoted(name)} = %s" for name in RANDOM)
    with any_mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        for table in ("by_snapshot", "by_log"):
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INT PRIMARY KEY, {columns})")
            cursor.execute(f"DELETE FROM {table}")
    load_all(source, any_mysql, postgres, lake, ask_after=ASK_EVERY)
    asked_at = compare(source, postgres, "by_log").statement.asked_at
    first, second = ([tuple(row[name] for name in RANDOM) for row in some] for some in rows)
    for statement, changes in (
        (f"INSERT INTO {{}} VALUES ({places}, %s)", [(n, *row) for n, row in enumerate(first)]),
        (
            f"UPDATE {{}} SET {assignments} WHERE id = %s",
            [(*row, n) for n, row in enumerate(second)],
        ),
    ):
        with any_mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
            for table in ("by_snapshot", "by_log"):
                cursor.executemany(statement.format(table), changes)
                cursor.execute(f"DELETE FROM {table} WHERE id % 5 = 4")
        load_all(source, any_mysql, postgres, lake, ask_after=ASK_EVERY)
        types = mysql_types(any_mysql, "by_log")
        by_snapshot, by_log = (
            raw_rows(postgres, source, table, types) for table in ("by_snapshot", "by_log")
        )
        assert_same_rows(by_snapshot, by_log, "by the log")
        assert_equals_source(source, any_mysql, postgres, lake, "by_log")
        found = compare(source, postgres, "by_log")
        assert found.is_equal
        assert not found.unstated
        assert found.statement.asked_at == asked_at


def test_python_and_postgresql_make_the_same_numbers(postgres: PostgresConnection) -> None:
    """What `Accumulator` sums is what PostgreSQL's expression gives, value by value."""
    dice = random.Random(5)
    doubles = [struct.unpack("d", dice.randbytes(8))[0] for _ in range(3000)]
    doubles += [dice.uniform(-1e6, 1e6) for _ in range(1000)] + [
        round(dice.uniform(-1e6, 1e6), 2) for _ in range(1000)
    ]
    doubles += [
        0.0,
        -0.0,
        1e15,
        1e-5,
        5e-324,
        1.7976931348623157e308,
        math.inf,
        -math.inf,
        math.nan,
    ]
    # As PostgreSQL writes them, and so does the reader: short keys first.
    documents = [
        '{"a": [true, null, "é \\n \\" / \x7f"], "c": {"z": 2, "é": 1}, "bb": 1e5}',
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
        (Column("v", "", "bytea"), [b"", b"\0\xff"]),
        (Column("v", "", "date"), [date(1, 1, 1), date(1970, 1, 1), date(9999, 12, 31)]),
        (Column("v", "", "timestamp"), [datetime(1, 1, 1), datetime(2038, 1, 19, 3, 14, 7, 1)]),
        (Column("v", "", "smallint"), [-(2**15), 0, 2**15 - 1]),
        (Column("v", "", "integer"), [-(2**31), -1, 2**31 - 1]),
        (Column("v", "", "bigint"), [-(2**63), -1, 0, 1, 2**32, 2**63 - 1]),
        (
            Column("v", "", "numeric(30,4)"),
            [Decimal("0.0001"), Decimal("-0.0001"), -(10 ** Decimal(26) - 1), Decimal(2**32)],
        ),
        (Column("v", "", "numeric(60,2)"), [Decimal("-1.50"), Decimal(10**57), Decimal(0)]),
        (
            Column("v", "", "numeric(38,18)"),
            [Decimal("0.5"), Decimal(0), Decimal("-19.99"), Decimal(10**19)],
        ),
    ):
        with postgres.connect() as connection:
            connection.execute(f"CREATE TEMP TABLE numbers (n int, v {column.target_type})")
            with connection.cursor().copy("COPY numbers FROM STDIN") as copy:
                for row in enumerate(values):
                    copy.write_row(row)
            got = connection.execute(
                f"SELECT {POSTGRES.number(column)} FROM numbers ORDER BY n"
            ).fetchall()
        for value, (number,) in zip(values, got, strict=True):
            one = Accumulator()
            one.add(
                [column],
                pa.RecordBatch.from_arrays([pa.array([value], column.arrow_type)], names=["v"]),
            )
            assert one.result([column]) == (1, {"v": checksum(Decimal(1), Decimal(number))}), value


@pytest.mark.parametrize("type_", ["smallint", "bigint", "numeric(20,0)", "text"])
def test_python_and_postgresql_weigh_rows_alike(postgres: PostgresConnection, type_: str) -> None:
    """A row's weight follows from its key, NULL included, and all columns are multiplied by it."""
    columns = [Column("k", "", type_)]
    columns += [Column(c, "", c) for c in ("text", "integer", "double precision")]
    columns.append(Column("n", "", "numeric(12,2)"))
    edges = {"smallint": 2**15, "bigint": 2**63}.get(type_, 10**19)
    keys = [-edges, -1009, -1, 0, 1, 1008, 1009, 1010, edges - 1, None]
    rows = [
        (key if type_ != "text" or key is None else str(key), f"é{n}", -n, n / 7, Decimal(n) / 4)
        for n, key in enumerate(keys)
    ]
    rows.append((rows[1][0], None, None, None, None))
    with postgres.connect() as connection:
        names = ", ".join(f'"{c.name}" {c.target_type}' for c in columns)
        connection.execute(f"CREATE TEMP TABLE weighed ({names})")
        with connection.cursor().copy("COPY weighed FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

        def ask(sums: str) -> Sequence[object]:
            row = connection.execute(f"SELECT {sums} FROM weighed").fetchone()
            assert row
            return row

        expected = checksums_by(ask, POSTGRES, columns, ["k"])
    values = [
        [Decimal(v) if v is not None and c.decimal else v for v in each]
        for c, each in zip(columns, zip(*rows, strict=True), strict=True)
    ]
    arrays = [pa.array(v, c.arrow_type) for c, v in zip(columns, values, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns])
    total = Accumulator(["k"])
    # A slice has an offset, and one half taken away again leaves the other.
    total.add(columns, batch.slice(3))
    total.add(columns, batch)
    total.add(columns, batch.slice(3), -1)
    assert total.result(columns) == expected
