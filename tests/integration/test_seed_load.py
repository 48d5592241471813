"""Seeding real servers: nothing lost or changed on the way, idempotent, safe to kill, never over
others' data.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import seed_data
from seed_data.common.model import LineSeed, Output, SeedError, documents
from seed_data.common.mongodb import MARKS
from seed_data.common.mysql import MySQLDatabase
from seed_data.common.parameters import Parameters
from seed_data.common.seeding import seed as seed_lines
from seed_data.shop.generator import generate
from softcart_assets.assembly import LINES
from softcart_assets.connections import MongoConnection, MySQLConnection
from softcart_assets.lines.model import Line, Source, Table

UNTIL = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
SHOP = LINES.line("shop")
TABLES = [f"{source.name}.{table.name}" for source, table in SHOP.tables()]
SMALL = [
    "shop.stores",
    "shop.vendors",
    "shop.employees",
    "catalog.categories",
    "catalog.products",
]
"""What the driver makes without Spark."""

seed = partial(seed_lines, [SHOP])


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
            counts[f"shop.{table}"] = cursor.fetchone()[0]
    with mongo.connect() as client:
        database = client[mongo.database]
        return counts | {
            f"catalog.{name}": database[name].count_documents({})
            for name in database.list_collection_names()
            if name != MARKS
        }


def test_every_value_arrives_as_it_was_made(
    spark,
    sources: None,
    mysql: MySQLConnection,
    mongo: MongoConnection,
    home: Path,
    tmp_path: Path,
) -> None:
    loaded = seed(scale=0.02, seed=4, until=UNTIL, spark=spark)
    assert set(loaded) == set(TABLES)
    assert _counts(mysql, mongo) == loaded
    assert {path.suffix for path in (home / "seed").iterdir()} == {".lock"}

    # All tables were compared with the files by count; these two, value by value.
    compared = ["shop.customers", "shop.orders"]
    output = Output(tmp_path, compared, lambda: spark, lambda table, path: None)
    generate(Parameters(0.02, 4, UNTIL), output)
    with mysql.connect() as connection, connection.cursor() as cursor:
        for table, key in (("customers", "id"), ("orders", "id")):
            made = pq.read_table(tmp_path / f"shop.{table}").sort_by(key)
            cursor.execute(
                f"SELECT {', '.join(f'CAST({name} AS CHAR)' for name in made.column_names)} FROM "
                f"{table} ORDER BY id"
            )
            for name, there in zip(
                made.column_names, zip(*cursor.fetchall(), strict=True), strict=True
            ):
                column = made[name]
                if pa.types.is_timestamp(column.type):
                    column = column.cast(pa.timestamp("us"))
                assert list(there) == column.cast(pa.string()).to_pylist(), f"{table}.{name}"
        cursor.execute(
            "SELECT COUNT(*) FROM orders WHERE note REGEXP '[\\n\\t\"\\\\\\\\]' OR LENGTH(note) > "
            "CHAR_LENGTH(note)"
        )
        assert cursor.fetchone()[0] > 5

    assert seed(scale=0.02, seed=4, spark=spark) == {}
    assert seed(scale=0.02, seed=4, until=UNTIL, spark=spark) == {}


def test_chosen_tables_are_made_anew_and_others_stay(
    clinic: Line, mysql: MySQLConnection, mongo: MongoConnection
) -> None:
    seed_lines([clinic], seed=7)
    assert seed_lines([clinic], seed=8, tables=["wards.visits"]) == {"wards.visits": 2}
    assert seed_lines([clinic], seed=8, tables=["wards.beds"]) == {"wards.beds": 1}
    assert seed_lines([clinic], seed=9, tables=["letters.visits"]) == {"letters.visits": 1}
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT max(v.id), max(b.id) FROM visits v, beds b")
        assert cursor.fetchone() == (8, 8)
    with mongo.connect() as client:
        assert client[mongo.database]["bills"].find_one() == {"_id": 7}
    # The marks of what stayed are whole: a seed of everything is not refused.
    assert seed_lines([clinic], seed=7, tables=["letters.bills"]) == {}
    assert len(seed_lines([clinic], seed=7)) == 4


def test_a_failed_load_ends_the_making_of_tables(
    clinic: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def generate(parameters: Parameters, output: Output) -> None:
        output.write("wards.visits", pa.table({"id": [1, 1], "reason": ["a", "b"]}))
        for table in ("wards.beds", "letters.visits", "letters.bills"):
            time.sleep(1)  # the load fails meanwhile
            made.append(table)
            output.write(table, documents([]))

    monkeypatch.setattr(
        "seed_data.common.seeding.seeds_of", lambda _: [(clinic, LineSeed(generate))]
    )
    with pytest.raises(SeedError, match=r"visits"):
        seed_lines([clinic])
    assert made == ["wards.beds"]


def _load(directory: Path) -> int:
    """Load the Parquet files of a directory into table `t`."""
    table = Table("t", "A test.", key=(), strategy="snapshot", columns=())
    source = Source("shop", "mysql", "A test.", tables=(table,))
    return MySQLDatabase(source, Path("unused.sql")).load(table, directory, lambda rows: None)


def test_a_zero_date_and_four_byte_text_survive(
    sources: None, mysql: MySQLConnection, tmp_path: Path
) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE t (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50) NULL, day DATE NULL) "
            "CHARSET utf8mb4"
        )
    names = ["👩‍🚀 𠮷田", "", None, "NULL", "\\N", 'a\tb\n"c"\\', "\r\n"]
    days = ["0000-00-00", "2024-02-29", None, "0001-01-01", "9999-12-31", "2026-00-00", None]
    ids = [2**63 - 1, 1, 2, 3, 4, 5, 6]
    pq.write_table(pa.table({"id": ids, "name": names, "day": days}), tmp_path / "part-0.parquet")
    assert _load(tmp_path) == 7
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
    sources: None, mysql: MySQLConnection, tmp_path: Path, rows: dict[str, list], message: str
) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(5))")
    pq.write_table(pa.table(rows), tmp_path / "part-0.parquet")
    with pytest.raises(SeedError, match=f"(?s)t.*({message})"):
        _load(tmp_path)
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
    assert _counts(mysql, mongo) == {"shop.customers": 1}


@pytest.mark.parametrize("collection", ["carts", "products", "categories"])
def test_a_catalog_of_somebody_else_is_refused(
    sources: None, mysql: MySQLConnection, mongo: MongoConnection, collection: str
) -> None:
    with mongo.connect() as client:
        client[mongo.database][collection].insert_one({"_id": "C001", "name": "theirs"})
    with pytest.raises(SeedError, match=f"{collection}.*SOFTCART_CATALOG_DATABASE"):
        seed(scale=0.01, tables=SMALL)
    assert _counts(mysql, mongo) == {f"catalog.{collection}": 1}


def test_two_seeds_at_once_are_refused(
    sources: None, mysql: MySQLConnection, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", (f"seed.{mysql.database}",))
        monkeypatch.setattr("seed_data.common.mysql.LOCK_SECONDS", 0)
        with pytest.raises(SeedError, match="at work in MySQL database"):
            seed(scale=0.01, tables=SMALL)
    with (home / "seed" / "shop.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SeedError, match="seed` of shop is at work"):
            seed(scale=0.01, tables=SMALL)
    assert set(seed(scale=0.01, tables=SMALL)) == set(SMALL)


SLOW_SEED = """
import sys, time
from seed_data.common import mongodb, mysql
from seed_data.common.seeding import seed
from softcart_assets.assembly import LINES
encode, parse = mysql.lines, mongodb.document_of
mysql.BATCH_ROWS = mongodb.BATCH_DOCUMENTS = 10
def slowly(function):
    def call(argument):
        print("loading", flush=True)
        time.sleep(0.2)
        return function(argument)
    return call
if sys.argv[1] == "mysql":
    mysql.lines = slowly(encode)
else:
    mongodb.document_of = slowly(parse)
seed([LINES.line("shop")], scale=0.05, seed=9, tables=sys.argv[2:])
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
            "SELECT DISTINCT table_comment FROM information_schema.tables WHERE table_schema = "
            "DATABASE()"
        )
        assert cursor.fetchall() == (("SoftCart seed data for shop:",),)

    loaded = seed(scale=0.05, seed=9, tables=SMALL)
    assert set(loaded) == set(SMALL)
    assert _counts(mysql, mongo) == loaded
    assert seed(scale=0.05, seed=9, tables=SMALL) == {}


def test_a_file_that_cannot_be_read_ends_the_load(
    sources: None, mysql: MySQLConnection, tmp_path: Path
) -> None:
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
        _load(tmp_path)
    assert time.monotonic() - started < 10
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchone() == (0,)


@pytest.fixture
def clinic(
    mysql: MySQLConnection,
    mongo: MongoConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Line:
    """A line of plain tables, with settings of its own and a table and a collection of one name."""
    sys.modules.pop("seed_data.clinic", None)  # that of another test
    package = tmp_path / "packages" / "clinic"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(CLINIC)
    (package / "wards.sql").write_text(
        "CREATE TABLE visits (\n  id INT PRIMARY KEY, reason VARCHAR(9)\n);\n"
        "CREATE TABLE beds (\n  id INT PRIMARY KEY\n);\n"
    )
    monkeypatch.setattr(seed_data, "__path__", [*seed_data.__path__, str(package.parent)])
    for name, value in os.environ.copy().items():
        for old, new in (("SOFTCART_SHOP_", "WARDS_"), ("SOFTCART_CATALOG_", "LETTERS_")):
            if name.startswith(old):
                monkeypatch.setenv(new + name.removeprefix(old), value)
    monkeypatch.setenv("WARDS_DATABASE", mysql.database)
    monkeypatch.setenv("LETTERS_DATABASE", mongo.database)

    def table(name: str, key: str, at_source: str | None = None) -> Table:
        return Table(
            name, "A test.", key=(key,), strategy="snapshot", columns=(), source_name=at_source
        )

    wards = Source(
        "wards", "mysql", "A test.", (table("visits", "id"), table("beds", "id")), prefix="WARDS"
    )
    letters = Source(
        "letters",
        "mongodb",
        "A test.",
        (table("visits", "_id", "all_visits"), table("bills", "_id")),
        prefix="LETTERS",
    )
    return Line("clinic", "A test.", owner="team:test", sources=(wards, letters))


CLINIC = """
import pyarrow as pa
from seed_data.common.model import LineSeed, Output, documents
from seed_data.common.parameters import Parameters

def generate(parameters: Parameters, output: Output) -> None:
    output.write("wards.visits", pa.table({"id": [1, parameters.seed], "reason": ["cough", None]}))
    output.write("wards.beds", pa.table({"id": [parameters.seed]}))
    output.write("letters.visits", documents([{"_id": 1, "text": "Get well soon"}]))
    output.write("letters.bills", documents([{"_id": parameters.seed}]))

SEED = LineSeed(generate)
"""


def test_a_line_of_plain_tables_needs_no_spark(
    clinic: Line, mysql: MySQLConnection, mongo: MongoConnection
) -> None:
    loaded = {"wards.visits": 2, "wards.beds": 1, "letters.visits": 1, "letters.bills": 1}
    assert seed_lines([clinic], seed=7) == loaded
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, reason FROM visits ORDER BY id")
        assert cursor.fetchall() == ((1, "cough"), (7, None))
    with mongo.connect() as client:
        assert client[mongo.database]["all_visits"].find_one() == {
            "_id": 1,
            "text": "Get well soon",
        }
    assert seed_lines([clinic], seed=7) == {}
    assert seed_lines([clinic], seed=8) == loaded
    with pytest.raises(SeedError, match=r"no table wards\.visit; there are wards\.visits"):
        seed_lines([clinic], tables=["wards.visit"])


def test_a_seeded_database_of_an_older_release_gets_further_tables(
    clinic: Line, mysql: MySQLConnection, mongo: MongoConnection, tmp_path: Path
) -> None:
    assert seed_lines([clinic], seed=7)
    before = _counts(mysql, mongo)
    with (tmp_path / "packages" / "clinic" / "wards.sql").open("a") as script:
        script.write("CREATE TABLE keys_of_doors (\n  id INT PRIMARY KEY\n);\n")
    assert seed_lines([clinic], seed=7, tables=["wards.beds"]) == {}
    assert _counts(mysql, mongo) == before
    # The second time, it is ours, and stays.
    for _ in range(2):
        assert seed_lines([clinic], seed=7) == {}
        assert _counts(mysql, mongo) == before | {"shop.keys_of_doors": 0}


def test_a_table_that_the_generator_forgets_is_named(
    clinic: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(parameters: Parameters, output: Output) -> None:
        output.write("letters.visits", documents([]))

    monkeypatch.setattr(
        "seed_data.common.seeding.seeds_of", lambda _: [(clinic, LineSeed(forgets))]
    )
    with pytest.raises(SeedError, match=r"did not write .*wards\.visits"):
        seed_lines([clinic])


def test_a_table_without_a_statement_is_named(clinic: Line, tmp_path: Path) -> None:
    script = tmp_path / "packages" / "clinic" / "wards.sql"
    script.write_text("")
    with pytest.raises(
        SeedError, match=r"wards\.sql has no CREATE TABLE statement for visits, beds"
    ):
        seed_lines([clinic])
    script.unlink()
    with pytest.raises(SeedError, match=r"wards\.sql is missing"):
        seed_lines([clinic])


def test_databases_of_another_line_are_refused(
    clinic: Line, sources: None, mysql: MySQLConnection, mongo: MongoConnection
) -> None:
    assert seed_lines([clinic], seed=7)
    with pytest.raises(SeedError, match=r"did not make for it \(beds, visits\).*SHOP_DATABASE"):
        seed(scale=0.01, tables=["shop.stores"])
    with pytest.raises(SeedError, match=r"\(all_visits, bills\).*SOFTCART_CATALOG_DATABASE"):
        seed(scale=0.01, tables=["catalog.products"])
    assert _counts(mysql, mongo) == {
        "shop.visits": 2,
        "shop.beds": 1,
        "catalog.all_visits": 1,
        "catalog.bills": 1,
    }
