"""Reconciliation: every kind of difference is found, named and repaired; nothing else is."""

from __future__ import annotations

import random
import threading
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

import dagster as dg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.databases import name_server

from softcart_assets.components.keys import raw_key
from softcart_assets.components.raw_checks import RECONCILES, comparison_checks
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture.stream import stream
from softcart_assets.ingestion.connectors.mysql.dialect import MYSQL
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.errors import MissingTable, TableBehind
from softcart_assets.ingestion.load import LoadRequest, raw_versions
from softcart_assets.ingestion.proof import narrowing
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.proof.result import Difference, Reconciliation
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Source, Table
from softcart_assets.resources import (
    LakeResource,
    PostgresResource,
    RawStateResource,
    SourceResource,
)
from tests.support.ingestion import (
    fill,
    incremental,
    load_all,
    mysql_rows,
    query,
    raw_rows,
    run,
    snapshot,
    source_of,
)

START = datetime(2026, 1, 1)

# By column: its MySQL type, two values in MySQL's SQL, and a third that somebody puts into raw, in
# PostgreSQL's.
KINDS = {
    "whole": ("INT UNSIGNED ZEROFILL", "0", "4294967295", "1"),
    "big": ("BIGINT UNSIGNED", "18446744073709551615", "0", "18446744073709551614"),
    "bits": ("BIT(64)", "b'1'", "~0", "2"),
    "year_of": ("YEAR", "2026", "0", "2025"),
    "amount": ("DECIMAL(10,2)", "1.50", "-0.01", "1.51"),
    "wide": ("DECIMAL(65,30)", "1e-30", "12345678901234567890123456789012345.5", "2e-30"),
    "real_number": ("DOUBLE", "0.1", "1.7e308", "0.10000000000000002"),
    "short_real": ("FLOAT", "0.1", "-3e38", "0.2"),
    "flag": ("BOOLEAN", "true", "false", "2"),
    "name": ("VARCHAR(50)", "'Zoë 🛒'", "''", "'Zoe 🛒'"),
    "latin": ("VARCHAR(50) CHARACTER SET latin1", "'äöü €'", "'a'", "'äöü'"),
    "essay": ("LONGTEXT", "REPEAT('x🛒', 1000)", "'~'", "'x'"),
    "label": ("ENUM('a','b,c')", "'a'", "'b,c'", "''"),
    "labels": ("SET('x','y')", "'x,y'", "''", "'x'"),
    "bytes": ("VARBINARY(20)", "x'00FF'", "''", "'\\x00fe'"),
    "blob_of": ("LONGBLOB", "REPEAT(x'00FF', 1000)", "''", "'\\x00'"),
    "day": ("DATE", "'2026-01-31'", "'0001-01-01'", "'2026-02-01'"),
    "moment": (
        "DATETIME(6)",
        "'2026-01-01 00:00:00.000001'",
        "'9999-12-31'",
        "'2026-01-01 00:00:00'",
    ),
    "instant": (
        "TIMESTAMP(3) NULL",
        "'2026-01-01 00:00:00.001'",
        "'1970-01-02'",
        "'2026-01-01 00:00:00'",
    ),
    "span": ("TIME(6)", "'-838:59:59'", "'00:00:00.000001'", "interval '1 second'"),
    "document": (
        "JSON",
        """'{"a": 1, "b": [1.5, "x"]}'""",
        "'[]'",
        """'{"a": 2, "b": [1.5, "x"]}'""",
    ),
}


def _reconcile(
    source: Source, mysql: MySQLConnection, postgres: PostgresConnection, lake: str, **options
):
    return reconcile(LoadRequest(source, mysql, postgres, lake), source.tables[0].name, **options)


def _kinds(found: Reconciliation) -> tuple[int, int, int]:
    return found.missing, found.extra, found.differing


@pytest.mark.parametrize("strategy", ["snapshot", "incremental"])
def test_every_kind_of_difference_is_found_named_and_repaired(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, strategy: str
) -> None:
    mysql = any_mysql
    columns = ", ".join(f"{name} {type_}" for name, (type_, *_) in KINDS.items())
    run(
        mysql,
        f"CREATE TABLE things (id BIGINT PRIMARY KEY, {columns}, same VARCHAR(9), updated_at "
        "DATETIME(6) NOT NULL)",
        *(
            f"INSERT INTO things VALUES ({row}, "
            f"{', '.join(kind[1 + row % 2] for kind in KINDS.values())}, 'same {row % 4}',"
            f" '{START + timedelta(seconds=row)}')"
            for row in range(-20, 60)
        ),
        f"INSERT INTO things SELECT 1000 + id, {', '.join(['NULL'] * len(KINDS))}, same, "
        "updated_at FROM things",
    )
    key, cursor = ("id",), "updated_at"
    source = source_of(
        snapshot("things", *key, history=True)
        if strategy == "snapshot"
        else incremental("things", *key, cursor=cursor, history=True)
    )
    load_all(source, mysql, postgres, lake)
    found = _reconcile(source, mysql, postgres, lake)
    assert found.is_settled, found
    assert (found.rows, found.differences, found.warnings) == (160, 0, [])

    with postgres.connect() as session:
        expected = {}
        for row, (name, kind) in enumerate(KINDS.items()):
            session.execute(
                f"UPDATE raw_t.things SET {name} = {kind[3]} WHERE id = %s".encode(), (row,)
            )
            expected[row] = (name,)
            session.execute(
                f"UPDATE raw_t.things SET {name} = NULL WHERE id = %s".encode(), (row + 30,)
            )
            expected[row + 30] = (name,)
            session.execute(
                f"UPDATE raw_t.things SET {name} = {kind[3]} WHERE id = %s".encode(), (1000 + row,)
            )
            expected[1000 + row] = (name,)
        # Two rows' values are exchanged.
        session.execute(
            "UPDATE raw_t.things SET same = CASE id WHEN -1 THEN 'same 2' ELSE 'same 3' END WHERE "
            "id IN (-1, -2)"
        )
        expected |= {-1: ("same",), -2: ("same",)}
        session.execute("DELETE FROM raw_t.things WHERE id IN (-20, 1059)")
        session.execute("UPDATE raw_t.things SET _deleted = true WHERE id = -19")
        session.execute(
            "INSERT INTO raw_t.things (id, same, updated_at, _deleted, _loaded_at, _position)"
            " VALUES (7777, 'x', now(), false, now(), '')"
        )
        session.commit()
    found = _reconcile(source, mysql, postgres, lake)
    assert _kinds(found) == (3, 1, len(expected))
    assert found.columns == {**dict.fromkeys(KINDS, 3), "same": 2}
    assert not found.is_settled
    named = {(each.kind, each.key[0]): each.columns for each in found.sample}
    assert {key for kind, key in named if kind == "missing"} == {"-20", "-19", "1059"}
    assert named["extra", "7777"] == ()
    differing = {
        int(key or 0): columns for (kind, key), columns in named.items() if kind == "differing"
    }
    assert differing == {key: expected[key] for key in sorted(expected)[:10]}
    assert "3 missing, 1 extra" in str(found)

    repaired = _reconcile(source, mysql, postgres, lake, repair=True)
    assert _kinds(repaired) == _kinds(found)
    assert repaired.is_settled
    assert repaired.columns == found.columns
    again = _reconcile(source, mysql, postgres, lake)
    assert again.differences == 0
    assert compare(source, postgres, "things").is_equal
    assert query(
        postgres, "SELECT count(*), count(*) FILTER (WHERE _deleted) FROM raw_t.things"
    ) == [(161, 1)]
    versions = query(
        postgres,
        "SELECT count(*), count(*) FILTER (WHERE _deleted) FROM raw_t.things_history WHERE "
        "_version > 160",
    )
    assert versions == [(len(expected) + 4, 1)]
    loads = query(
        postgres,
        "SELECT strategy, rows_inserted, rows_updated, rows_deleted FROM ingestion.loads ORDER BY "
        "loaded_at",
    )
    assert loads[-1] == ("repair", 3, len(expected), 1)
    files = query(postgres, "SELECT sum(row_count) FROM ingestion.lake_files")
    assert files == [(160 + len(expected) + 4,)]
    assert not load_all(source, mysql, postgres, lake)["things"].is_changed


@pytest.mark.parametrize(
    ("definition", "key", "values"),
    [
        ("k BIGINT UNSIGNED", ("k",), "18446744073709551615 - n * n * n"),
        ("k INT", ("k",), "(n - 1500) * 700000"),
        ("k DECIMAL(20,0)", ("k",), "n * 1000"),
        ("k VARCHAR(40)", ("k",), "CONCAT('kéy ', n)"),
        ("k VARBINARY(16)", ("k",), "UNHEX(MD5(n))"),
        ("k DATETIME(6)", ("k",), "'2026-01-01' + INTERVAL n * 1000001 MICROSECOND"),
        ("a INT, b VARCHAR(10)", ("a", "b"), "n DIV 1400, CONCAT('b', n)"),
        ("a VARCHAR(10), b INT", ("a", "b"), "CONCAT('a', n % 3), n"),
        ('`%s "odd` CHAR(9) COLLATE utf8mb4_bin', ('%s "odd',), "CONCAT('%s', n)"),
    ],
)
def test_every_kind_of_key_and_skewed_ones(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    definition: str,
    key: tuple[str, ...],
    values: str,
) -> None:
    """Few rows a segment, so that all levels of the narrowing are used."""
    for name, value in {
        "_SEGMENT_ROWS": 300,
        "_FEW_ROWS": 10,
        "_ROWS_AT_ONCE": 60,
        "_FINER": 5,
    }.items():
        monkeypatch.setattr(narrowing, name, value)
    names = ", ".join(f"`{name}`" for name in key)
    run(
        mysql,
        f"CREATE TABLE keyed ({definition}, v INT, PRIMARY KEY ({names}))",
        f"INSERT INTO keyed SELECT {values}, n FROM (SELECT a.n + b.n * 10 + c.n * 100 + d.n * "
        "1000 AS n FROM"
        + ", ".join(
            f" (SELECT {' n UNION ALL SELECT '.join(map(str, range(10)))} n) {alias}"
            for alias in "abcd"
        )
        + ") numbers WHERE n < 3000",
    )
    source = source_of(snapshot("keyed", *key))
    load_all(source, mysql, postgres, lake)
    assert _reconcile(source, mysql, postgres, lake).differences == 0
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.keyed SET v = v + 1 WHERE v IN (0, 77, 1500, 2999)")
        session.execute("DELETE FROM raw_t.keyed WHERE v IN (5, 2000)")
        session.execute("UPDATE raw_t.keyed SET _deleted = true WHERE v = 6")
        session.commit()
    found = _reconcile(source, mysql, postgres, lake, repair=True)
    assert _kinds(found) == (3, 0, 4)
    assert found.columns == {"v": 4}
    assert 10 < found.segments < 600
    assert _reconcile(source, mysql, postgres, lake).differences == 0
    assert [row[-1] for row in raw_rows(postgres, "keyed", "v")] == list(range(3000))


def test_doubled_and_lacking_rows_without_a_key(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "_SEGMENT_ROWS", 100)
    run(mysql, "CREATE TABLE log (at DATETIME(6), what VARCHAR(20), amount DECIMAL(8,2), day DATE)")
    rows = [
        (START + timedelta(seconds=n // 3), f"what {n // 3}", n // 3 / 4, START.date())
        for n in range(900)
    ]
    fill(mysql, "log", [*rows, *[(None, "same", 1, None)] * 500])
    source = source_of(snapshot("log"))
    load_all(source, mysql, postgres, lake)
    assert _reconcile(source, mysql, postgres, lake).differences == 0
    with postgres.connect() as session:
        row = "SELECT ctid FROM raw_t.log WHERE what = %s LIMIT %s"
        session.execute(f"DELETE FROM raw_t.log WHERE ctid IN ({row})", ("what 3", 2))
        session.execute(f"DELETE FROM raw_t.log WHERE ctid IN ({row})", ("same", 7))
        session.execute(
            "INSERT INTO raw_t.log SELECT * FROM raw_t.log WHERE ctid IN (SELECT min(ctid) FROM "
            "raw_t.log WHERE what = 'what 9')"
        )
        session.execute(
            f"UPDATE raw_t.log SET amount = 77.77 WHERE ctid IN ({row})", ("what 200", 1)
        )
        session.commit()
    found = _reconcile(source, mysql, postgres, lake)
    assert _kinds(found) == (2 + 7 + 1, 1 + 1, 0)
    assert {each.key[1] for each in found.sample if each.kind == "extra"} == {"what 9", "what 200"}
    repaired = _reconcile(source, mysql, postgres, lake, repair=True)
    assert (_kinds(repaired), repaired.is_settled) == (_kinds(found), True)
    assert _reconcile(source, mysql, postgres, lake).differences == 0
    assert sorted(raw_rows(postgres, "log"), key=str) == sorted(mysql_rows(mysql, "log"), key=str)


def test_quarantined_rows_are_left_out(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(
        mysql,
        "CREATE TABLE days (id INT PRIMARY KEY, day DATE)",
        "CREATE TABLE log (day DATE, n INT)",
        "SET sql_mode = ''",
        "INSERT INTO days VALUES (1, '2026-01-01'), (2, '0000-00-00'), (3, '2026-02-00'), (4, "
        "'2026-01-04')",
        "INSERT INTO log VALUES ('0000-00-00', 1), ('0000-00-00', 1), ('2026-01-01', 2)",
    )
    source = source_of(snapshot("days", "id"), snapshot("log"))
    load_all(source, mysql, postgres, lake)
    found = reconcile(LoadRequest(source, mysql, postgres, lake), "days")
    assert (found.rows, found.differences, found.quarantined, found.warnings) == (2, 0, 2, [])
    found = reconcile(LoadRequest(source, mysql, postgres, lake), "log")
    assert (found.differences, found.quarantined) == (0, 2)
    with postgres.connect() as session:
        # As if two rows had come in before, and one been forgotten.
        session.execute("DELETE FROM ingestion.quarantine WHERE key = '{3}'")
        session.execute("INSERT INTO raw_t.days VALUES (2, '2026-01-02', false, now(), '')")
        session.commit()
    found = reconcile(LoadRequest(source, mysql, postgres, lake), "days")
    assert (found.differences, found.unfit, found.quarantined) == (1, 1, 1)
    found = reconcile(LoadRequest(source, mysql, postgres, lake), "days", repair=True)
    assert (found.unfit, found.is_settled) == (1, True)
    assert reconcile(LoadRequest(source, mysql, postgres, lake), "days").differences == 0
    assert query(
        postgres, "SELECT key FROM ingestion.quarantine WHERE table_name = 'days' ORDER BY key"
    ) == [
        (["2"],),
        (["3"],),
    ]


def test_a_change_that_its_cursor_hides_is_found(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(mysql, "CREATE TABLE items (id INT PRIMARY KEY, v INT, updated_at DATETIME(6))")
    fill(mysql, "items", [(n, n, START) for n in range(100)])
    source = source_of(incremental("items", "id"))
    load_all(source, mysql, postgres, lake)
    run(
        mysql,
        "UPDATE items SET v = -1 WHERE id = 7",
        "INSERT INTO items VALUES (100, 1, '2026-02-01')",
    )
    found = _reconcile(source, mysql, postgres, lake)
    assert _kinds(found) == (0, 0, 1)
    assert found.sample == [Difference("differing", ("7",), ("v",))]
    assert found.before_load is None
    # The load before the comparison has brought what its cursor shows, and no more.
    assert query(postgres, "SELECT count(*), min(v) FROM raw_t.items") == [(101, 0)]
    assert _reconcile(source, mysql, postgres, lake, repair=True).is_settled
    assert raw_rows(postgres, "items") == mysql_rows(mysql, "items")


def test_what_a_load_would_mend_unseen_is_told(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(mysql, "CREATE TABLE items (id INT PRIMARY KEY, v INT)")
    fill(mysql, "items", [(n, n) for n in range(100)])
    source = source_of(snapshot("items", "id"))
    load_all(source, mysql, postgres, lake)
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.items SET v = -1 WHERE id = 7")
    run(mysql, "INSERT INTO items VALUES (100, 1)")
    found = _reconcile(source, mysql, postgres, lake)
    assert found.differences == 0
    assert found.before_load
    assert "differing columns: v" in found.before_load


def test_an_added_column_and_stray_files(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, tmp_path
) -> None:
    run(mysql, "CREATE TABLE items (id INT PRIMARY KEY, v INT)", "INSERT INTO items VALUES (1, 1)")
    source = source_of(snapshot("items", "id"))
    with pytest.raises(MissingTable, match="never loaded"):
        _reconcile(source, mysql, postgres, lake)
    load_all(source, mysql, postgres, lake)
    directory = next((tmp_path / "lake").rglob("*.parquet")).parent
    (directory / "stray-0.parquet").write_text("")
    run(mysql, "ALTER TABLE items ADD COLUMN w INT DEFAULT 5")
    found = _reconcile(source, mysql, postgres, lake)
    assert found.differences == 0
    assert len(found.warnings) == 1
    assert "1 file(s) in the lake do not count" in found.warnings[0]
    assert query(postgres, "SELECT w FROM raw_t.items") == [(5,)]
    (directory / "stray-0.parquet").unlink()
    (directory.parent / "odd").mkdir()
    (directory.parent / "odd" / "stray.parquet").write_text("")
    for path in directory.glob("*.parquet"):
        path.unlink()
    odd, lost = _reconcile(source, mysql, postgres, lake).warnings
    assert odd.endswith("among them changes/t/items/odd/stray.parquet")
    assert "are missing in the lake, among them changes/t/items/load_date=" in lost


@pytest.mark.parametrize("strategy", ["snapshot", "incremental", "cdc"])
def test_documents(
    mongo: MongoConnection, postgres: PostgresConnection, lake: str, strategy: Literal["cdc"]
) -> None:
    source = source_of(replace(incremental("products", "_id"), strategy=strategy), kind="mongodb")
    with mongo.connect() as client:
        products = client[mongo.database]["products"]
        products.insert_many(
            [{"_id": n, "name": f"n {n}", "price": n / 4, "updated_at": START} for n in range(200)]
        )
    load_all(source, mongo, postgres, lake)
    assert reconcile(LoadRequest(source, mongo, postgres, lake), "products").differences == 0
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.products SET price = 99 WHERE _id = '5'")
        session.execute("DELETE FROM raw_t.products WHERE _id = '6'")
        session.execute("UPDATE raw_t.products SET _id = 'no' WHERE _id = '7'")
        session.commit()
    found = reconcile(LoadRequest(source, mongo, postgres, lake), "products")
    assert _kinds(found) == (2, 1, 1)
    assert found.columns == {"price": 1}
    assert reconcile(LoadRequest(source, mongo, postgres, lake), "products", repair=True).is_settled
    assert reconcile(LoadRequest(source, mongo, postgres, lake), "products").differences == 0


def test_a_captured_table_is_compared_without_a_load_only_where_its_log_stands_still(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(
        mysql,
        "CREATE TABLE things (id INT PRIMARY KEY)",
        "CREATE TABLE others (id INT PRIMARY KEY)",
    )
    source = source_of(Table("things", "", ("id",), "cdc", ()))
    with pytest.raises(MissingTable, match="never loaded"):
        _reconcile(source, mysql, postgres, lake)
    load_all(source, mysql, postgres, lake)
    run(mysql, "INSERT INTO others VALUES (1)")
    assert _reconcile(source, mysql, postgres, lake, may_load=False).rows == 0
    run(mysql, "INSERT INTO things VALUES (1)")
    with pytest.raises(TableBehind, match="not compared"):
        _reconcile(source, mysql, postgres, lake, may_load=False)
    assert _reconcile(source, mysql, postgres, lake).rows == 1


@pytest.mark.parametrize(("key", "is_streamed"), [(("id",), False), (("id",), True), ((), True)])
def test_a_captured_table_under_load(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    key: tuple[str, ...],
    is_streamed: bool,
) -> None:
    """Writers go on all the while, and a stream; what they do is no difference, what is wrong with
    raw is, and is mended.
    """
    run(mysql, "CREATE TABLE things (id INT PRIMARY KEY, v INT, name VARCHAR(20), KEY (v))")
    fill(mysql, "things", [(n, 0, f"n {n}") for n in range(3000)])
    source = source_of(Table("things", "", key, "cdc", (), history=bool(key)))
    load_all(source, mysql, postgres, lake)
    stopped = threading.Event()
    written = []

    def write(dice: random.Random) -> None:
        with mysql.connect() as connection, connection.cursor() as cursor:
            while not stopped.is_set():
                row = dice.randrange(1000, 4000)
                cursor.execute(
                    dice.choice(
                        [
                            f"INSERT IGNORE INTO things VALUES ({row}, 1, 'new')",
                            f"UPDATE things SET v = v + 1 WHERE id BETWEEN {row} AND {row + 5}",
                            f"DELETE FROM things WHERE id = {row}",
                        ]
                    )
                )
                connection.commit()
                written.append(row)

    threads = [threading.Thread(target=write, args=(random.Random(n),)) for n in range(2)]
    if is_streamed:
        threads.append(
            threading.Thread(
                target=stream, args=(source, mysql, postgres, lake), kwargs={"stopped": stopped}
            )
        )
    for thread in threads:
        thread.start()
    try:
        assert _reconcile(source, mysql, postgres, lake).differences == 0
        with postgres.connect() as session:
            session.execute("UPDATE raw_t.things SET name = 'x' WHERE id IN (5, 6)")
            session.execute("DELETE FROM raw_t.things WHERE id = 7")
            session.execute(
                "INSERT INTO raw_t.things (id, v, _deleted, _loaded_at, _position) VALUES (9999, "
                "1, false, now(), '')"
            )
        found = _reconcile(source, mysql, postgres, lake)
        assert _kinds(found) == ((1, 1, 2) if key else (3, 3, 0))
        repaired = _reconcile(source, mysql, postgres, lake, repair=True)
        assert _kinds(repaired) == _kinds(found)
        assert _reconcile(source, mysql, postgres, lake).differences == 0
        assert len(written) > 50
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    result = load_all(source, mysql, postgres, lake)["things"]
    assert result.strategy == "cdc"
    assert sorted(raw_rows(postgres, "things")) == sorted(mysql_rows(mysql, "things"))
    assert compare(source, postgres, "things").is_equal
    if key:
        versions = (
            "SELECT DISTINCT ON (id) id, v, name, _deleted FROM raw_t.things_history ORDER "
            "BY id, _version DESC"
        )
        assert query(
            postgres, f"SELECT id, v, name FROM ({versions}) v WHERE NOT _deleted ORDER BY id"
        ) == sorted(mysql_rows(mysql, "things"))


def test_the_check_tells_dagster(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(
        mysql,
        "CREATE TABLE items (id INT PRIMARY KEY, v INT)",
        "INSERT INTO items VALUES (1, 1), (2, 2)",
    )
    source = source_of(snapshot("items", "id"))
    load_all(source, mysql, postgres, lake)
    known = raw_versions(postgres, source)
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.items SET v = 7 WHERE id = 2")
    name_server(monkeypatch, mysql)
    name_server(monkeypatch, postgres)
    monkeypatch.setenv("SOFTCART_LAKE_URI", lake)
    check = dg.AssetSelection.checks(
        dg.AssetCheckKey(raw_key(source, source.tables[0]), RECONCILES)
    )

    @dg.asset(key=raw_key(source, source.tables[0]))
    def items() -> None:
        """Stands for the table's load."""

    definitions = dg.Definitions(
        assets=[items],
        asset_checks=[comparison_checks(source)],
        jobs=[
            dg.define_asset_job("compare", selection=check),
            dg.define_asset_job("everything", selection=dg.AssetSelection.all()),
        ],
        resources={
            "t_database": SourceResource(kind="mysql", prefix=mysql.prefix),
            "staging": PostgresResource(prefix=postgres.prefix),
            "raw_state": RawStateResource(prefix=postgres.prefix),
            "lake": LakeResource(),
        },
    )
    with dg.DagsterInstance.ephemeral() as instance:

        def execute(job: str) -> dg.ExecuteInProcessResult:
            return definitions.resolve_job_def(job).execute_in_process(instance=instance)

        (found,) = execute("compare").get_asset_check_evaluations()
        assert not found.passed
        assert found.metadata["differing"].value == 1
        assert found.metadata["sample"].value == ["differing 2 in v"]
        (found,) = execute("everything").get_asset_check_evaluations()
        assert not found.passed
        run(mysql, "INSERT INTO items VALUES (3, 3)")
        # A run that makes assets does not load meanwhile, so it cannot compare, and does not fail.
        assert execute("everything").get_asset_check_evaluations() == []
        (found,) = execute("compare").get_asset_check_evaluations()
        assert found.passed
        assert "differing columns: v" in found.metadata["before the load"].value
        # Dagster does not know of the load before the comparison, so the next plan requests one.
        assert raw_versions(postgres, source) != known


DIGESTED = {
    "i": ("BIGINT", "bigint", st.integers(-(2**63), 2**63 - 1)),
    "d": ("DECIMAL(30,9)", "numeric(30,9)", st.decimals(-(10**20), 10**20, places=9)),
    "f": ("DOUBLE", "double precision", st.floats(allow_nan=False, allow_infinity=False)),
    "t": (
        "VARCHAR(50)",
        "text",
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    ),
    "l": (
        "LONGTEXT",
        "text",
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40),
    ),
    "b": ("VARBINARY(50)", "bytea", st.binary(max_size=40)),
    "m": ("DATETIME(6)", "timestamp", st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))),
}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(*(values | st.none() for _, _, values in DIGESTED.values())),
        min_size=1,
        max_size=30,
    )
)
def test_rows_have_the_same_digest_exactly_if_they_are_the_same(
    mysql: MySQLConnection, postgres: PostgresConnection, rows: list[tuple]
) -> None:
    definitions = [
        ", ".join(f"{name} {types[n]}" for name, types in DIGESTED.items()) for n in (0, 1)
    ]
    columns = [Column(name, types[0].lower(), types[1]) for name, types in DIGESTED.items()]
    placeholders = ", ".join(["%s"] * len(columns))
    run(mysql, f"CREATE OR REPLACE TABLE digested (n INT, {definitions[0]})")
    fill(mysql, "digested", [(n, *row) for n, row in enumerate(rows)])
    session = Session(mysql)
    with postgres.connect() as connection:
        connection.execute(f"CREATE TEMP TABLE digested (n int, {definitions[1]})".encode())
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO digested VALUES (%s, {placeholders})".encode(),
                [(n, *row) for n, row in enumerate(rows)],
            )
        for digest in ("row_text", "row_number"):
            ours = connection.execute(
                f"SELECT {getattr(POSTGRES, digest)(columns)}::text FROM digested ORDER BY "
                "n".encode()
            ).fetchall()
            assert ours == session.query(
                f"SELECT {getattr(MYSQL, digest)(columns)} FROM digested ORDER BY n"
            )
            assert len({text for (text,) in ours}) == len(set(rows))
    session.close()


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "bb": [true, null, "é\\\\n"], "c": 1.50}',
        "[1e5, 1e20, 1e-9, -0.5, 12345678901234567]",
    ],
)
def test_json_has_the_same_digest(
    mysql97: MySQLConnection, postgres: PostgresConnection, text: str
) -> None:
    column = Column("j", "json", "jsonb")
    run(mysql97, "CREATE TABLE documents (j JSON)", f"INSERT INTO documents VALUES ('{text}')")
    session = Session(mysql97)
    (told,) = session.query("SELECT CAST(j AS CHAR) FROM documents")
    ours = query(
        postgres,
        f"SELECT {POSTGRES.row_text([column])} FROM (SELECT %s::jsonb AS j) documents",
        told[0],
    )
    assert ours == session.query(f"SELECT {MYSQL.row_text([column])} FROM documents")
    session.close()
