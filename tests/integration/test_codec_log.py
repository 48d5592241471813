"""Rows events of a real binary log, decoded: the same values as the rows that a query gives, for every type."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv6Address

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion import digest
from softcart_assets.ingestion.capture.log import DELETE, INSERT, UPDATE, BinaryLog, Rows, TableMap
from softcart_assets.ingestion.codec import RowsDecoder, TextReader
from softcart_assets.ingestion.mysql import MySQLReader, Session, log_position
from softcart_assets.ingestion.types import Column, Rejected, parse_rows
from softcart_assets.sources.model import Source, Table

from test_ingestion_types import MATRIX, _quoted


class Log:
    """What is written to one database from now on."""

    def __init__(self, mysql: MySQLConnection) -> None:
        self.mysql = mysql
        self.table = Table("t", "", ("id",), "snapshot", {})
        self._start = self._position()

    def _position(self) -> str:
        with closing(Session(self.mysql)) as session:
            if session.is_mariadb:
                # Outside a snapshot, the end of the log.
                file, position = session.query("SHOW MASTER STATUS")[0][:2]
                return f"{file}:{int(position or 0):012d}"
            return log_position(session)

    def columns(self) -> list[Column]:
        with closing(Session(self.mysql)) as session:
            source = Source("t", "mysql", self.mysql.prefix, "team:test", (self.table,))
            return MySQLReader(source, session, "").columns(self.table, [])

    def events(self) -> Iterator[Rows]:
        """Once more from the beginning, up to now."""
        end = self._position()
        with BinaryLog("t", self.mysql, [(self.mysql.database, "t")], self._start, end=end) as log:
            yield from (event for event in log if isinstance(event, Rows))

    def changes(self, columns: list[Column]) -> tuple[pa.RecordBatch, list[int], list[tuple[int, int, Rejected]]]:
        decoder, table_map = None, None
        for event in self.events():
            assert table_map in (None, event.table_map)
            table_map = event.table_map
            decoder = decoder or RowsDecoder(table_map.columns, table_map.key, columns)
            assert decoder.decode(event.body, event.kind) > 0
        assert decoder
        assert decoder.nbytes > 0
        batch, operations, unfit = decoder.take()
        batch.validate(full=True)
        operations.validate(full=True)
        assert len(decoder) == 0
        return batch, operations.to_pylist(), unfit

    def rows(self, columns: list[Column], tail: str = "ORDER BY id") -> tuple[pa.RecordBatch, list[Rejected]]:
        """As a query gives them."""
        with closing(Session(self.mysql)) as session:
            session._db.query(f"SELECT {', '.join(map(digest.mysql_value, columns))} FROM t {tail}".encode())
            read = TextReader(session._db, columns).read(100_000, 1 << 30)
        assert read
        raw = [pa.array(values, pa.binary()) for values in zip(*read[1], strict=True)]
        return read[0], parse_rows(columns, raw, ["id"], None).rejected if raw else []


@pytest.fixture
def log(mysql: MySQLConnection) -> Log:
    return Log(mysql)


def run(log: Log, *statements: str) -> None:
    with log.mysql.connect() as db:
        for statement in statements:
            db.query(statement)
        db.commit()


def test_the_matrix_of_types_comes_as_in_a_query(log: Log) -> None:
    columns = ", ".join(f"{_quoted(name)} {type_} NULL" for name, type_, _ in MATRIX)
    names = ", ".join(_quoted(name) for name, _, _ in MATRIX)
    run(
        log,
        "SET sql_mode = 'NO_AUTO_VALUE_ON_ZERO'",
        f"CREATE TABLE t (id INT PRIMARY KEY, {columns}, gen INT AS (id * 2) STORED, hidden INT INVISIBLE DEFAULT 7,"
        " virt VARCHAR(20) AS (CONCAT('v', id)) VIRTUAL) ROW_FORMAT=DYNAMIC",
        *(
            f"INSERT INTO t (id, {names}) VALUES ({row - 2}, {', '.join(v[row][0] if row < 4 else 'NULL' for _, _, v in MATRIX)})"
            for row in range(5)
        ),
    )
    batch, operations, unfit = log.changes(log.columns())
    expected, rejected = log.rows(log.columns())
    assert not unfit and not rejected
    assert operations == [INSERT] * 5
    for column in log.columns():
        assert batch.column(column.name).to_pylist() == expected.column(column.name).to_pylist(), column
    assert batch == expected


OTHERS = {
    "u": "UUID",
    "i4": "INET4",
    "i6": "INET6",
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
    "vbc": "VARBINARY(1000) COMPRESSED",
    "blc": "LONGBLOB COMPRESSED",
}


def _random_row(dice: random.Random) -> dict[str, object]:
    """Values as MySQLdb takes them."""

    def text(alphabet: str, most: int) -> str:
        return "".join(dice.choices(alphabet, k=dice.randint(0, most)))

    def time(digits: int) -> str:
        fraction = f".{dice.randrange(10**digits):0{digits}}" if digits else ""
        return f"{dice.choice(['', '-'])}{dice.randrange(838):02}:{dice.randrange(60):02}:{dice.randrange(60):02}{fraction}"

    def moment(digits: int, first: int, last: int) -> str:
        fraction = f".{dice.randrange(10**digits):0{digits}}" if digits else ""
        day = f"{dice.randint(first, last):04}-{dice.randint(1, 12):02}-{dice.randint(1, 28):02}"
        return f"{day} {dice.randrange(24):02}:{dice.randrange(60):02}:{dice.randrange(60):02}{fraction}"

    def decimal(whole: int, scale: int) -> str:
        digits = f"{dice.randrange(10 ** dice.randint(0, whole))}.{dice.randrange(10**scale):0{scale}}"
        return dice.choice(["", "-"]) + digits.rstrip(".")

    return {
        "u": str(
            dice.choice(
                [uuid.uuid4(), uuid.uuid1(), uuid.UUID(int=dice.getrandbits(128)), uuid.UUID(int=dice.randrange(2))]
            )
        ),
        "i4": ".".join(str(dice.choice([0, dice.randrange(256)])) for _ in range(4)),
        "i6": str(
            IPv6Address(
                sum(dice.choice([0, 0xFFFF, dice.randrange(65536)]) << 16 * n for n in range(dice.randint(0, 8)))
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
        "dbl": dice.choice([-0.0, dice.uniform(-1e6, 1e6), dice.uniform(-1e300, 1e300)]),
        "yr": dice.choice([0, dice.randint(1901, 2155)]),
        "da": moment(0, 1, 9999)[:10],
        "vbc": bytes(dice.randint(0, 900)) + dice.randbytes(dice.randint(0, 99)),
        "blc": bytes(dice.randint(0, 70_000)) + dice.randbytes(dice.randint(0, 99)),
    }


def test_other_types_come_as_in_a_query(log: Log) -> None:
    run(log, f"CREATE TABLE t (id INT PRIMARY KEY, {', '.join(f'{n} {t} NULL' for n, t in OTHERS.items())})")
    dice = random.Random(7)
    with log.mysql.connect() as db, db.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        for number in range(150):
            row = {name: None if dice.random() < 0.1 else value for name, value in _random_row(dice).items()}
            cursor.execute(
                f"INSERT INTO t (id, {', '.join(row)}) VALUES ({', '.join(['%s'] * (len(row) + 1))})",
                (number, *row.values()),
            )
        cursor.execute("UPDATE t SET ls = ST_GeomFromText('LINESTRING(1 2, 3 4.5)') WHERE id % 2")
        db.commit()
    columns = log.columns()
    batch, operations, unfit = log.changes(columns)
    expected, rejected = log.rows(columns)
    assert not unfit and not rejected
    last = {key: at for at, key in enumerate(batch.column("id").to_pylist())}
    batch = batch.take(sorted(last.values(), key=lambda at: batch.column("id")[at].as_py()))
    assert operations == [INSERT] * 150 + [UPDATE] * 75
    for column in columns:
        assert batch.column(column.name).to_pylist() == expected.column(column.name).to_pylist(), column
