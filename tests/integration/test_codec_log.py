"""Rows events of real binary logs, decoded: the same values as the rows that a query gives."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import IPv6Address

import pyarrow as pa
import pytest

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.changes import DELETE, INSERT, UPDATE
from softcart_assets.ingestion.codec.logrows import RowsDecoder
from softcart_assets.ingestion.connectors.mysql.dialect import mysql_value
from softcart_assets.ingestion.connectors.mysql.events import Rows
from softcart_assets.ingestion.connectors.mysql.log import BinaryLog
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.connectors.mysql.state import current_state
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.types import Column, Rejected, parse_rows
from softcart_assets.lines.model import Source, Table


class Log:
    """What is written to one database from now on."""

    def __init__(self, mysql: MySQLConnection) -> None:
        self.mysql = mysql
        self.table = Table("t", "", ("id",), "snapshot", ())
        self._start = self._position()

    def _position(self) -> Position:
        with closing(Session(self.mysql)) as session:
            return current_state(session).position

    def columns(self) -> list[Column]:
        with closing(Session(self.mysql)) as session:
            source = Source(
                "t", "mysql", "", (self.table,), owner="team:test", prefix=self.mysql.prefix
            )
            return MySQLReader(source, session, "").columns(self.table, [])

    def events(self) -> Iterator[Rows]:
        """Once more from the beginning, up to now."""
        end = self._position()
        with BinaryLog("t", self.mysql, {"t": "t"}, self._start, end=end) as log:
            yield from (event for event in log if isinstance(event, Rows))

    def changes(
        self, columns: list[Column]
    ) -> tuple[pa.RecordBatch, list[int], list[tuple[int, int, Rejected]]]:
        decoder, table_map = None, None
        for event in self.events():
            assert table_map in (None, event.table_map)
            table_map = event.table_map
            decoder = decoder or RowsDecoder(table_map.columns, table_map.key, columns)
            assert decoder.decode(event.body, event.kind) > 0
        assert decoder
        batch, operations, unfit = decoder.take()
        batch.validate(full=True)
        operations.validate(full=True)
        assert len(decoder) == 0
        return batch, operations.to_pylist(), unfit

    def rows(
        self, columns: list[Column], tail: str = "ORDER BY id"
    ) -> tuple[pa.RecordBatch, list[Rejected]]:
        """As a query gives them."""
        with closing(Session(self.mysql)) as session:
            query = f"SELECT {', '.join(map(mysql_value, columns))} FROM t {tail}"
            read = session.read(query, columns).read(100_000, 1 << 30)
        assert read
        raw = [pa.array(values, pa.binary()) for values in zip(*read[1], strict=True)]
        return read[0], parse_rows(columns, raw, ["id"], None).rejected if raw else []


@pytest.fixture
def log(any_mysql: MySQLConnection) -> Log:
    return Log(any_mysql)


def run(log: Log, *statements: str) -> None:
    with log.mysql.connect() as db:
        for statement in statements:
            db.query(statement)
        db.commit()


TYPES = {
    "ascii_text": "VARCHAR(300) CHARACTER SET ascii",
    "c1": "CHAR(200) CHARACTER SET utf8mb4",
    "c2": "CHAR(255) CHARACTER SET latin1",
    "b2": "BINARY(255)",
    "v8": "VARCHAR(60) CHARACTER SET koi8r",
    "vs": "VARCHAR(60) CHARACTER SET sjis",
    "vg": "VARCHAR(60) CHARACTER SET gbk",
    "e2": f"ENUM({', '.join(repr(f'label {n}') for n in range(300))})",
    "s8": f"SET({', '.join(repr(f's{n}') for n in range(64))})",
    "b17": "BIT(17)",
    "d0": "DECIMAL(9,0)",
    "d9": "DECIMAL(9,9)",
    "d18": "DECIMAL(18,9)",
    "d19": "DECIMAL(19,1)",
    "d28": "DECIMAL(28,19)",
    "d65": "DECIMAL(65,0)",
    **{f"t{n}": f"TIME({n})" for n in range(7)},
    **{f"dt{n}": f"DATETIME({n})" for n in range(7)},
    **{f"ts{n}": f"TIMESTAMP({n}) NULL" for n in range(7)},
    "tt": "TINYTEXT",
    "mt": "MEDIUMTEXT CHARACTER SET utf16",
    "tb": "TINYBLOB",
    "mb": "MEDIUMBLOB",
    "ls": "LINESTRING",
    "f": "FLOAT",
    "dbl": "DOUBLE",
    "yr": "YEAR",
    "da": "DATE",
}
MARIADB_TYPES = {
    "u": "UUID",
    "i4": "INET4",
    "i6": "INET6",
    "vbc": "VARBINARY(1000) COMPRESSED",
    "blc": "LONGBLOB COMPRESSED",
    "vcc": "VARCHAR(200) COMPRESSED",
    "txc": "TEXT COMPRESSED",
}


def _random_row(dice: random.Random) -> dict[str, object]:
    """Values as PyMySQL takes them."""

    def text(alphabet: str, most: int) -> str:
        return "".join(dice.choices(alphabet, k=dice.randint(0, most)))

    def time(digits: int) -> str:
        fraction = f".{dice.randrange(10**digits):0{digits}}" if digits else ""
        whole = f"{dice.choice(['', '-'])}{dice.randrange(838):02}:{dice.randrange(60):02}"
        return f"{whole}:{dice.randrange(60):02}{fraction}"

    def moment(digits: int, first: int, last: int) -> str:
        fraction = f".{dice.randrange(10**digits):0{digits}}" if digits else ""
        day = f"{dice.randint(first, last):04}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
        minute = f"{dice.randrange(24):02}:{dice.randrange(60):02}"
        return f"{day} {minute}:{dice.randrange(60):02}{fraction}"

    def decimal(whole: int, scale: int) -> str:
        digits = (
            f"{dice.randrange(10 ** dice.randint(0, whole))}.{dice.randrange(10**scale):0{scale}}"
        )
        return dice.choice(["", "-"]) + digits.rstrip(".")

    return {
        "u": str(
            dice.choice(
                [
                    uuid.uuid4(),
                    uuid.uuid1(),
                    uuid.UUID(int=dice.getrandbits(128)),
                    uuid.UUID(int=dice.randrange(2)),
                ]
            )
        ),
        "i4": ".".join(str(dice.choice([0, dice.randrange(256)])) for _ in range(4)),
        "i6": str(
            IPv6Address(
                sum(
                    dice.choice([0, 0xFFFF, dice.randrange(65536)]) << 16 * n
                    for n in range(dice.randint(0, 8))
                )
            )
        ),
        "ascii_text": text("abc xyz\t\\'", 300),
        "c1": text("abc äß🛒", 200).rstrip(),
        "c2": text("abc äßé€", 255).rstrip(),
        "b2": dice.randbytes(dice.randint(0, 255)) + bytes(dice.randrange(2)),
        "v8": text("Привет abc ёЁ", 60),
        "vs": text("日本語 カナ abc", 30),
        "vg": text("汉字 abc", 30),
        "e2": dice.choice(["", f"label {dice.randrange(300)}"]),
        "s8": dice.getrandbits(64) & dice.getrandbits(64),
        "b17": dice.getrandbits(17),
        "d0": decimal(9, 0),
        "d9": decimal(0, 9),
        "d18": decimal(9, 9),
        "d19": decimal(18, 1),
        "d28": decimal(9, 19),
        "d65": decimal(65, 0),
        **{f"t{n}": time(n) for n in range(7)},
        **{f"dt{n}": moment(n, 1, 9999) for n in range(7)},
        **{f"ts{n}": moment(n, 1971, 2037) for n in range(7)},
        "tt": text("abc ü", 100),
        "mt": text("abc ü🛒", 100),
        "tb": dice.randbytes(dice.randint(0, 255)),
        "mb": dice.randbytes(dice.randint(0, 70_000)),
        "ls": None,
        "f": dice.choice([0.0, dice.uniform(-1e6, 1e6), dice.uniform(-1e38, 1e38)]),
        "dbl": dice.choice(
            [
                -0.0,
                dice.uniform(-1e6, 1e6),
                dice.uniform(-1e300, 1e300),
                10.0 ** dice.randint(-20, 20),
            ]
        ),
        "yr": dice.choice([0, dice.randint(1901, 2155)]),
        "da": moment(0, 1, 9999)[:10],
        "vbc": bytes(dice.randint(0, 900)) + dice.randbytes(dice.randint(0, 99)),
        "vcc": text("aü", 200),
        "txc": text("aü🛒", 999),
        "blc": bytes(dice.randint(0, 70_000)) + dice.randbytes(dice.randint(0, 99)),
    }


def test_random_values_of_all_types_come_as_in_a_query(log: Log) -> None:
    with closing(Session(log.mysql)) as session:
        types = TYPES | MARIADB_TYPES if session.is_mariadb else TYPES
    run(
        log,
        "CREATE TABLE t (id INT PRIMARY KEY, "
        f"{', '.join(f'{n} {t} NULL' for n, t in types.items())})",
    )
    dice = random.Random(7)
    with log.mysql.connect() as db, db.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        for number in range(150):
            values = _random_row(dice)
            row = {name: None if dice.random() < 0.1 else values[name] for name in types}
            cursor.execute(
                f"INSERT INTO t (id, {', '.join(row)}) VALUES "
                f"({', '.join(['%s'] * (len(row) + 1))})",
                (number, *row.values()),
            )
        cursor.execute("UPDATE t SET ls = ST_GeomFromText('LINESTRING(1 2, 3 4.5)') WHERE id % 2")
        db.commit()
    columns = log.columns()
    batch, operations, unfit = log.changes(columns)
    expected, rejected = log.rows(columns)
    assert (unfit, rejected) == ([], [])
    last = {key: at for at, key in enumerate(batch.column("id").to_pylist())}
    batch = batch.take(sorted(last.values(), key=lambda at: batch.column("id")[at].as_py()))
    assert operations == [INSERT] * 150 + [UPDATE] * 75
    for column in columns:
        assert batch.column(column.name).to_pylist() == expected.column(column.name).to_pylist(), (
            column
        )


def test_updates_and_deletes_say_what_becomes_of_which_row(log: Log) -> None:
    run(
        log,
        "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20))",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, NULL)",
        "UPDATE t SET name = CONCAT(name, '!') WHERE id < 3",
        "UPDATE t SET id = id + 10 WHERE id > 1 ORDER BY id DESC",
        "DELETE FROM t WHERE id = 1",
    )
    batch, operations, _ = log.changes(log.columns())
    changes = list(zip(operations, *(batch.column(n).to_pylist() for n in (0, 1)), strict=True))
    assert changes == [
        *((INSERT, 1, "a"), (INSERT, 2, "b"), (INSERT, 3, None)),
        *((UPDATE, 1, "a!"), (UPDATE, 2, "b!")),
        *((DELETE, 3, None), (INSERT, 13, None), (DELETE, 2, "b!"), (INSERT, 12, "b!")),
        (DELETE, 1, "a!"),
    ]


def test_a_key_may_have_many_columns_or_none(log: Log) -> None:
    run(
        log,
        "CREATE TABLE t (a INT, b VARCHAR(9) COLLATE utf8mb4_general_ci, id INT, PRIMARY KEY (b, "
        "a))",
        "INSERT INTO t VALUES (1, 'x', 1)",
        "UPDATE t SET id = 2",
        "UPDATE t SET b = 'X'",
        "UPDATE t SET a = 2",
    )
    assert log.changes(log.columns())[1] == [INSERT, UPDATE, DELETE, INSERT, DELETE, INSERT]
    log = Log(log.mysql)
    run(
        log,
        "DROP TABLE t",
        "CREATE TABLE t (id INT)",
        "INSERT INTO t VALUES (1), (1)",
        "UPDATE t SET id = 2",
    )
    batch, operations, _ = log.changes(log.columns())
    assert operations == [INSERT, INSERT, DELETE, INSERT, DELETE, INSERT]
    assert batch.column(0).to_pylist() == [1, 1, 1, 2, 1, 2]


def test_rows_that_cannot_be_carried_come_as_the_query_would_give_them(log: Log) -> None:
    run(
        log,
        "SET sql_mode = ''",
        "CREATE TABLE t (id INT PRIMARY KEY, d DATE, dt DATETIME(3), ts TIMESTAMP(2) NULL, tx "
        "TEXT, b BLOB, f FLOAT, dc DECIMAL(9,3),"
        " y YEAR, ti TIME(1), e ENUM('a', 'b'), bi BIT(9))",
        "INSERT INTO t VALUES (1, '0000-00-00', '2024-00-10 01:02:03.045', 0, 'a\\0b', x'00ff', "
        "0.1, -1.5, 0, '-1:00:00.5', '?', 5),"
        " (2, NULL, NULL, NULL, 'ok', NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
        " (3, '2024-02-00', NULL, '2024-01-02 03:04:05.6', NULL, NULL, -0.0, NULL, NULL, NULL, "
        "NULL, NULL)",
        "UPDATE t SET d = '2024-02-28' WHERE id = 3",
        "UPDATE t SET tx = 'a' WHERE id = 1",
        "DELETE FROM t WHERE id = 1",
        "INSERT INTO t VALUES (4, NULL, '0000-00-00', '1980-01-01', 'ü', 'x', 1e20, 3, 2000, "
        "'25:00:00', 'b', 511),"
        " (5, NULL, NULL, NULL, '\\0', NULL, 1e-20, NULL, NULL, NULL, NULL, NULL)",
    )
    columns = log.columns()
    batch, operations, unfit = log.changes(columns)
    assert list(zip(operations, batch.column("id").to_pylist(), strict=True)) == [
        (INSERT, 2),
        (UPDATE, 3),
    ]
    assert [(index, operation, rejected.key) for index, operation, rejected in unfit] == [
        *(
            (0, INSERT, ("1",)),
            (1, INSERT, ("3",)),
            (2, UPDATE, ("1",)),
            (2, DELETE, ("1",)),
            (2, INSERT, ("4",)),
            (2, INSERT, ("5",)),
        )
    ]
    first = unfit[0][2]
    assert first.column == "d"
    assert first.reason == (
        "d: zero, partial or impossible date for date; dt: zero, partial or impossible date for "
        "timestamp; "
        "ts: zero, partial or impossible date for timestamptz; tx: NUL character, which "
        "PostgreSQL's text cannot hold"
    )
    assert first.row == {
        **{
            "id": "1",
            "d": "0000-00-00",
            "dt": "2024-00-10 01:02:03.045",
            "ts": "0000-00-00 00:00:00.00",
            "tx": "a\0b",
        },
        **{
            "b": "\\x00ff",
            "f": "0.10000000149011612",
            "dc": "-1.500",
            "y": "0000",
            "ti": "-3600500000",
            "e": "",
            "bi": "5",
        },
    }
    assert [rejected for _, _, rejected in unfit[-2:]] == log.rows(columns)[1]


def test_values_of_another_type_are_read_as_the_wanted_one(log: Log) -> None:
    """After a type was changed at the source, older events have the old one."""
    run(
        log,
        "CREATE TABLE t (id INT PRIMARY KEY, i TINYINT, n DECIMAL(9,3), tx VARCHAR(9), da DATE, dt "
        "DATETIME(1), ts TIMESTAMP,"
        " ti TIME, f FLOAT, dbl DOUBLE, b BINARY(3), e ENUM('a', 'b'), bi BIT(9))",
        "INSERT INTO t VALUES (1, -5, 300.255, '12', '2024-02-29', '2024-02-29 10:11:12.5', "
        "'2024-02-29 10:11:12',"
        " '01:00:00', 0.1, 1e20, x'3132', 'b', b'11')",
    )

    def become(name: str, target: str) -> object:
        batch, _, unfit = log.changes([Column(name, "", target)])
        return [r.reason for _, _, r in unfit] or batch.column(0).to_pylist()

    with closing(Session(log.mysql)) as session:
        for name, text in (
            ("i", "-5"),
            ("n", "300.255"),
            ("da", "2024-02-29"),
            ("dt", "2024-02-29 10:11:12.5"),
            ("e", "b"),
        ):
            assert session.query(f"SELECT `{name}` FROM t") == [(text,)]
            assert become(name, "text") == [text]
        for name in ("f", "dbl", "ti", "bi"):
            value = mysql_value(
                Column(
                    name, {"f": "float", "dbl": "double", "ti": "time", "bi": "bit"}[name], "text"
                )
            )
            assert become(name, "text") == [session.query(f"SELECT {value} FROM t")[0][0]]
    assert become("i", "bigint") == [-5]
    assert [str(v) for v in become("i", "numeric(12,2)")] == ["-5.00"]  # type: ignore[attr-defined]
    assert [str(v) for v in become("i", "numeric(30,0)")] == ["-5"]  # type: ignore[attr-defined]
    assert [str(v) for v in become("n", "numeric(38,20)")] == ["300.25500000000000000000"]  # type: ignore[attr-defined]
    assert [str(v) for v in become("n", "numeric(9,2)")] == ["value out of range for numeric(9,2)"]  # type: ignore[attr-defined]
    assert become("tx", "smallint") == [12]
    assert become("tx", "bytea") == [b"12"]
    assert become("b", "bytea") == [b"12\0"]
    assert become("b", "text") == ["NUL character, which PostgreSQL's text cannot hold"]
    assert become("b", "date") == ["zero, partial or impossible date for date"]
    assert become("ts", "timestamp") == [datetime(2024, 2, 29, 10, 11, 12, tzinfo=UTC)]
    assert become("ts", "text") == ["2024-02-29 10:11:12"]
    assert become("ti", "bigint") == [3_600_000_000]
    assert become("missing", "text") == [None]


def test_doubles_print_like_mysql(log: Log) -> None:
    dice = random.Random(3)
    numbers = [
        sign * digits * 10.0**power
        for power in range(-25, 25)
        for digits in (1.0, 1.25, dice.random())
        for sign in (1, -1)
    ]
    numbers += [
        5e-324,
        1.7976931348623157e308,
        123456789012345.0,
        1234567890123456.0,
        0.1,
        1 / 3,
        100.0,
        0.0,
    ]
    with log.mysql.connect() as db, db.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, d DOUBLE)")
        cursor.executemany("INSERT INTO t VALUES (%s, %s)", list(enumerate(numbers)))
        db.commit()
    with closing(Session(log.mysql)) as session:
        expected = [row[0] for row in session.query("SELECT d + 0e0 FROM t ORDER BY id")]
    assert log.changes([Column("d", "", "text")])[0].column(0).to_pylist() == expected


@pytest.mark.parametrize(
    "charset",
    ["latin1", "cp1251", "koi8u", "greek", "cp850", "macroman", "tis620", "armscii8", "ascii"],
)
def test_every_byte_of_a_character_set_comes_as_in_a_query(log: Log, charset: str) -> None:
    with log.mysql.connect() as db, db.cursor() as cursor:
        cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, x VARCHAR(9) CHARACTER SET {charset})")
        cursor.execute("SET sql_mode = ''")
        for byte in range(1, 256):
            cursor.execute(
                f"INSERT INTO t VALUES ({byte}, CONVERT(_binary x'61{byte:02x}62' USING {charset}))"
            )
        db.commit()
    columns = log.columns()
    batch, _, unfit = log.changes(columns)
    assert not unfit
    assert batch == log.rows(columns)[0]


def test_a_body_that_is_not_what_the_columns_say_is_refused_and_leaves_nothing(log: Log) -> None:
    run(
        log,
        "CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20))",
        "INSERT INTO t VALUES (1, 'abc'), (2, 'def')",
        "UPDATE t SET name = 'x'",
    )
    columns = log.columns()
    insert, update = log.events()
    assert insert.table_map.columns == update.table_map.columns
    decoder = RowsDecoder(insert.table_map.columns, (0,), columns)
    assert decoder.decode(memoryview(insert.body), INSERT) == 2
    for event in (insert, update):
        for length in range(len(event.body)):
            body = event.body[:length]
            try:
                decoded = decoder.decode(body, event.kind)
            except ValueError:
                assert len(decoder) == 2
            else:
                # Cut between two rows, or before the first
                assert decoded in (0, 1)
                assert len(decoder) == 2 + decoded
                decoder.take()
                decoder.decode(insert.body, INSERT)
    with pytest.raises(ValueError, match="binlog_row_image"):
        decoder.decode(b"\x02\x01" + insert.body[2:], INSERT)
    with pytest.raises(ValueError, match="has 3 columns, its table map 2"):
        decoder.decode(b"\x03" + insert.body[1:], INSERT)
    with pytest.raises(ValueError, match="kind"):
        decoder.decode(insert.body, 3)
    batch, operations, unfit = decoder.take()
    assert (len(batch), len(operations), unfit) == (2, 2, [])
    batch, operations, unfit = decoder.take()
    assert (len(batch), len(operations), unfit) == (0, 0, [])
