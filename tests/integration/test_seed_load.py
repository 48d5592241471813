"""Seeding real servers: nothing lost or changed on the way, idempotent, safe to kill, never over others' data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seed_data.cli import seed
from seed_data.generator import COLLECTIONS, TABLES
from seed_data.loader import MADE_BY, SeedError, Shop
from softcart_assets.connections import MongoConnection, MySQLConnection

UNTIL = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
SMALL = ["stores", "vendors", "employees", *COLLECTIONS]
"""What the driver makes without Spark."""


@pytest.fixture
def sources(
    mysql: MySQLConnection, mongo: MongoConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings lead to this test's fresh databases."""
    monkeypatch.setenv("SOFTCART_SHOP_DATABASE", mysql.database)
    monkeypatch.setenv("SOFTCART_CATALOG_DATABASE", mongo.database)


def _counts(mysql: MySQLConnection, mongo: MongoConnection) -> dict[str, int]:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        counts = {}
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT COUNT(*) FROM {table}")
            counts[table] = cursor.fetchone()[0]
    with mongo.connect() as client:
        database = client[mongo.database]
        return counts | {
            name: database[name].count_documents({}) for name in database.list_collection_names()
        }


def test_every_value_arrives_as_it_was_made(
    spark, sources: None, mysql: MySQLConnection, mongo: MongoConnection, home: Path
) -> None:
    loaded = seed(scale=0.02, seed=4, until=UNTIL, keep=True, spark=spark)
    assert set(loaded) == {*TABLES, *COLLECTIONS}
    assert _counts(mysql, mongo) == loaded

    # Documents and all tables were compared with the files by count; these two, value by value.
    directory = home / "seed" / f"{mysql.host}-{mysql.port}-{mysql.database}"
    with mysql.connect() as connection, connection.cursor() as cursor:
        for table, key in (("customers", "id"), ("orders", "id")):
            made = pq.read_table(directory / table).sort_by(key)
            cursor.execute(
                f"SELECT {', '.join(f'CAST({name} AS CHAR)' for name in made.column_names)} FROM {table} ORDER BY id"
            )
            for name, there in zip(
                made.column_names, zip(*cursor.fetchall(), strict=True), strict=True
            ):
                column = made[name]
                if pa.types.is_timestamp(column.type):
                    column = column.cast(pa.timestamp("us"))
                assert list(there) == column.cast(pa.string()).to_pylist(), f"{table}.{name}"
        cursor.execute(
            "SELECT COUNT(*) FROM orders WHERE note REGEXP '[\\n\\t\"\\\\\\\\]' OR LENGTH(note) > CHAR_LENGTH(note)"
        )
        assert cursor.fetchone()[0] > 5

    assert seed(scale=0.02, seed=4, spark=spark) == {}
    assert seed(scale=0.02, seed=4, until=UNTIL, spark=spark) == {}
    replaced = seed(scale=0.02, seed=5, tables=SMALL)
    assert _counts(mysql, mongo) == replaced


def test_a_zero_date_and_four_byte_text_survive(mysql: MySQLConnection, tmp_path: Path) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50) NULL, day DATE NULL) CHARSET utf8mb4"
        )
    names = ["👩‍🚀 𠮷田", "", None, "NULL", "\\N", 'a\tb\n"c"\\', "\r\n"]
    days = ["0000-00-00", "2024-02-29", None, "0001-01-01", "9999-12-31", "2026-00-00", None]
    ids = [2**63 - 1, 1, 2, 3, 4, 5, 6]
    pq.write_table(pa.table({"id": ids, "name": names, "day": days}), tmp_path / "part-0.parquet")
    assert Shop(mysql).load("t", tmp_path, lambda rows: None) == 7
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, name, CAST(day AS CHAR) FROM t")
        assert sorted(cursor.fetchall()) == sorted(zip(ids, names, days, strict=True))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"id": [1, 2, 1], "name": ["a", "b", "c"]}, "2 of 3|Duplicate"),
        ({"id": [1, 2], "name": ["a", "too long for the column"]}, "column 'name'"),
        ({"id": [1], "nome": ["a"]}, "nome"),
    ],
)
def test_rows_that_do_not_fit_are_an_error_and_none_is_loaded(
    mysql: MySQLConnection, tmp_path: Path, rows: dict[str, list], message: str
) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(5))")
    pq.write_table(pa.table(rows), tmp_path / "part-0.parquet")
    with pytest.raises(SeedError, match=f"(?s)t.*({message})"):
        Shop(mysql).load("t", tmp_path, lambda rows: None)
    assert list(tmp_path.iterdir()) == [tmp_path / "part-0.parquet"]
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchone() == (0,)


def test_a_database_with_other_tables_is_refused(
    sources: None, mysql: MySQLConnection, mongo: MongoConnection
) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE customers (id INT)")
        cursor.execute("INSERT INTO customers VALUES (7)")
        connection.commit()
        with pytest.raises(SeedError, match=r"customers.*SOFTCART_SHOP_DATABASE"):
            seed(scale=0.01, tables=SMALL)
        cursor.execute("SELECT id FROM customers")
        assert cursor.fetchall() == ((7,),)
    assert _counts(mysql, mongo) == {"customers": 1}


@pytest.mark.parametrize("collection", ["carts", "products", "categories"])
def test_a_catalog_of_somebody_else_is_refused(
    sources: None, mysql: MySQLConnection, mongo: MongoConnection, collection: str
) -> None:
    with mongo.connect() as client:
        client[mongo.database][collection].insert_one({"_id": "C001", "name": "theirs"})
    with pytest.raises(SeedError, match=f"{collection}.*SOFTCART_CATALOG_DATABASE"):
        seed(scale=0.01, tables=SMALL)
    assert _counts(mysql, mongo) == {collection: 1}


def test_two_seeds_at_once_are_refused(
    sources: None, mysql: MySQLConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (f"seed.{mysql.database}",))
        monkeypatch.setattr("seed_data.loader.LOCK_SECONDS", 0)
        with pytest.raises(SeedError, match="at work"):
            seed(scale=0.01, tables=SMALL)


SLOW_SEED = """
import sys, time
import seed_data.loader as loader
from seed_data.cli import seed
encode, parse = loader.lines, loader.json_util.loads
loader.BATCH_ROWS = loader.BATCH_DOCUMENTS = 10
def slowly(function):
    def call(argument):
        print("loading", flush=True)
        time.sleep(0.2)
        return function(argument)
    return call
if sys.argv[1] == "mysql":
    loader.lines = slowly(encode)
else:
    loader.json_util.loads = slowly(parse)
seed(scale=0.05, seed=9, tables=sys.argv[2:])
"""


@pytest.mark.parametrize("place", ["mysql", "mongodb"])
def test_a_seed_killed_while_it_loads_is_made_again_and_not_doubled(
    sources: None, mysql: MySQLConnection, mongo: MongoConnection, place: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_SEED, place, *SMALL],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout
    batches = 0
    while batches < 3:
        line = process.stdout.readline()
        assert line, "the seed ended before it could be killed"
        batches += line.count("loading")  # several threads may print on one line
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT table_comment FROM information_schema.tables WHERE table_schema = DATABASE()"
        )
        assert cursor.fetchall() == ((MADE_BY,),)

    loaded = seed(scale=0.05, seed=9, tables=SMALL)
    assert set(loaded) == set(SMALL)
    assert _counts(mysql, mongo) == loaded
    assert seed(scale=0.05, seed=9, tables=SMALL) == {}


def test_a_file_that_cannot_be_read_ends_the_load(mysql: MySQLConnection, tmp_path: Path) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    path = tmp_path / "part-0.parquet"
    pq.write_table(
        pa.table({"id": list(range(100_000))}), path, compression="snappy", use_dictionary=False
    )
    content = bytearray(path.read_bytes())
    content[100:5000] = bytes(4900)
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(OSError, match=r".+"):
        Shop(mysql).load("t", tmp_path, lambda rows: None)
    assert time.monotonic() - started < 10
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchone() == (0,)
