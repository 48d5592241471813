"""What loads do to raw, history, lake and bookkeeping when rows and columns change at the
source.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import psycopg
import pyarrow.dataset as ds
import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.engine import tables
from softcart_assets.ingestion.errors import (
    IngestionError,
    LoadsFailed,
    MissingTable,
    SchemaChanged,
    TableBusy,
    TargetFailed,
)
from softcart_assets.ingestion.load import (
    LoadRequest,
    changed_tables,
    load,
    loaded_positions,
    replay,
)
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import list_quarantine, show
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.lines.model import Table
from tests.support.ingestion import (
    classify,
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

ITEMS = (
    "CREATE TABLE items (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(50), amount DECIMAL(10,2),"
    " updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6), "
    "KEY (updated_at, id))"
)
SOURCE = source_of(incremental("items", "id", history=True))


START = datetime(2026, 1, 1)


@pytest.fixture
def items(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> MySQLConnection:
    """900 items, loaded once."""
    run(mysql, ITEMS)
    fill(
        mysql,
        "items",
        ((n, f"item {n}", Decimal(n) / 100, START + timedelta(seconds=n)) for n in range(1, 901)),
    )
    load_all(SOURCE, mysql, postgres, lake)
    return mysql


def test_late_commits_deletions_and_key_changes_arrive(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    before = query(postgres, "SELECT max(_loaded_at) FROM raw_t.items")[0][0]
    run(
        items,
        "UPDATE items SET name = 'late', updated_at = '2026-01-01 00:00:10.5' WHERE id = "
        "10",  # an old cursor value
        "INSERT INTO items VALUES (5000, 'late insert', 1, '2020-01-01')",
        "DELETE FROM items WHERE id IN (20, 21, 900)",
        "UPDATE items SET id = 7000 WHERE id = 30",  # a key change, found as deletion and insertion
        "INSERT INTO items (id, name) VALUES (8000, 'new')",
    )
    result = load_all(SOURCE, items, postgres, lake)["items"]
    assert (result.strategy, result.inserted, result.updated, result.deleted) == (
        "incremental",
        3,
        1,
        4,
    )
    assert raw_rows(postgres, "items") == mysql_rows(items, "items")
    assert compare(SOURCE, postgres, "items").is_equal
    changed = query(
        postgres,
        "SELECT id::int, _deleted FROM raw_t.items WHERE _loaded_at > %s ORDER BY 1",
        before,
    )
    assert changed == [
        (10, False),
        (20, True),
        (21, True),
        (30, True),
        (900, True),
        (5000, False),
        (7000, False),
        (8000, False),
    ]
    assert query(postgres, "SELECT count(*) FROM raw_t.items_history") == [(900 + 8,)]
    files = query(
        postgres,
        "SELECT path, row_count FROM ingestion.lake_files WHERE load_id = %s",
        result.load_id,
    )
    rows = (
        ds.dataset([f"{lake.removeprefix('file://')}/{path}" for path, _ in files])
        .to_table()
        .to_pylist()
    )
    assert sorted((int(row["id"]), row["_deleted"]) for row in rows) == changed
    assert {row["_position"] for row in rows} == {result.position}


def test_nothing_changed_means_nothing_written(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    for full in (False, True):
        result = load_all(SOURCE, items, postgres, lake, full=full)["items"]
        assert not result.is_changed
        assert (result.inserted, result.updated, result.deleted) == (0, 0, 0)
    assert query(
        postgres, "SELECT count(*), count(DISTINCT _loaded_at) FROM raw_t.items_history"
    ) == [(900, 1)]
    assert query(postgres, "SELECT count(DISTINCT load_id) FROM ingestion.lake_files") == [(1,)]
    assert compare(SOURCE, postgres, "items").is_equal


def test_rows_are_counted_only_where_changes_do_not_tell_their_number(
    items: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting reads the whole raw table, in every load, though nothing changed."""
    counted, rows = [], RawTable.rows

    def watched(self: RawTable) -> int:
        counted.append(self.asset)
        return rows(self)

    monkeypatch.setattr(RawTable, "rows", watched)
    run(
        items,
        "INSERT INTO items (id, name) VALUES (9001, 'x'), (9002, 'y')",
        "DELETE FROM items WHERE id IN (1, 2, 3)",
        "UPDATE items SET name = 'z' WHERE id = 9",
    )
    result = load_all(SOURCE, items, postgres, lake)["items"]
    assert (result.inserted, result.updated, result.deleted, result.total) == (2, 1, 3, 899)
    assert load_all(SOURCE, items, postgres, lake)["items"].total == 899
    assert counted == []
    assert load_all(SOURCE, items, postgres, lake, full=True)["items"].total == 899
    assert counted == ["raw_t/items"]
    counted.clear()
    with postgres.connect() as session:
        session.execute("TRUNCATE raw_t.items")
    assert load_all(SOURCE, items, postgres, lake)["items"].total == 899
    assert counted == []


def test_a_first_load_is_there_before_its_statistics(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but speed depends on statistics, so a load does not fail for want of them."""
    seen, analyze = [], RawTable.analyze

    def watched(self: RawTable) -> None:
        seen.append(query(postgres, f"SELECT count(*) FROM {self.name}"))
        analyze(self)
        if self.table.name == "refused":
            raise psycopg.errors.InsufficientPrivilege("must be owner")

    monkeypatch.setattr(RawTable, "analyze", watched)
    source = source_of(snapshot("items", "id"), snapshot("refused", "id"))
    for name in ("items", "refused"):
        run(mysql, ITEMS.replace("items", name), f"INSERT INTO {name} (id) VALUES (1), (2)")
    results = load_all(source, mysql, postgres, lake)
    assert seen == [[(2,)]] * 2
    assert {name: result.total for name, result in results.items()} == {"items": 2, "refused": 2}
    figures = "SELECT count(*) FROM pg_stats WHERE schemaname = 'raw_t' AND tablename = 'items'"
    assert query(postgres, figures) > [(4,)]
    load_all(source, mysql, postgres, lake)
    assert len(seen) == 2


def test_big_tables_come_first(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a big one is built beside the copy of others, and no thread waits for it."""
    monkeypatch.setattr(tables, "_WORKERS", 1)
    for name, rows in (("a", 10), ("b", 3000), ("c", 300)):
        run(
            mysql,
            f"CREATE TABLE {name} (id INT PRIMARY KEY)",
            f"INSERT INTO {name} SELECT seq FROM seq_1_to_{rows}",
            f"ANALYZE TABLE {name}",
        )
    source = source_of(*(snapshot(name, "id") for name in "abc"))
    assert list(load_all(source, mysql, postgres, lake)) == ["b", "c", "a"]


def test_a_row_that_comes_back_is_current_again(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(items, "DELETE FROM items WHERE id = 5")
    load_all(SOURCE, items, postgres, lake)
    run(items, "INSERT INTO items VALUES (5, 'item 5', 0.05, '2026-01-01 00:00:05')")
    result = load_all(SOURCE, items, postgres, lake)["items"]
    assert (result.inserted, result.total) == (1, 900)
    assert query(
        postgres, "SELECT _deleted FROM raw_t.items_history WHERE id = 5 ORDER BY _version"
    ) == [
        (False,),
        (True,),
        (False,),
    ]


def test_a_change_that_the_cursor_hides_is_found_by_the_full_load(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(items, "UPDATE items SET amount = 99, updated_at = updated_at WHERE id = 3")
    assert load_all(SOURCE, items, postgres, lake)["items"].updated == 0
    assert load_all(SOURCE, items, postgres, lake, full=True)["items"].updated == 1
    assert raw_rows(postgres, "items") == mysql_rows(items, "items")


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE raw_t.items SET amount = amount + 0.01 WHERE id = 7",
        "UPDATE raw_t.items SET name = NULL WHERE id = 7",
        "DELETE FROM raw_t.items WHERE id = 7",
        "UPDATE raw_t.items SET _deleted = true WHERE id = 7",
        "ALTER TABLE raw_t.items DROP CONSTRAINT items_pkey; INSERT INTO raw_t.items SELECT * FROM "
        "raw_t.items WHERE id = 7",
        "UPDATE raw_t.items a SET name = b.name FROM raw_t.items b WHERE (a.id, b.id) IN ((7, 8), "
        "(8, 7))",
    ],
)
def test_comparison_finds_a_damaged_row(
    items: MySQLConnection, postgres: PostgresConnection, lake: str, damage: str
) -> None:
    with postgres.connect() as connection:
        connection.execute(damage)
    comparison = compare(SOURCE, postgres, "items")
    assert not comparison.is_equal
    if "SET" in damage and "_deleted" not in damage:
        assert comparison.differing == ["amount" if "amount" in damage else "name"]


def test_one_position_for_all_tables_while_writers_go_on(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Two tables written in the same transactions always have the same sum at one position."""
    source = source_of(incremental("a", "id"), snapshot("b", "id"), snapshot("c"))
    columns = (
        "id INT PRIMARY KEY, n INT NOT NULL,"
        " updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE "
        "CURRENT_TIMESTAMP(6)"
    )
    run(
        mysql,
        f"CREATE TABLE a ({columns})",
        f"CREATE TABLE b ({columns})",
        "CREATE TABLE c (n INT)",
    )
    for table in "ab":
        fill(mysql, f"{table} (id, n)", ((n, 0) for n in range(1, 2001)))
    stop = threading.Event()

    def write() -> None:
        with mysql.connect() as connection:
            n = 0
            while not stop.is_set():
                n += 1
                for table in "ab":
                    connection.query(f"UPDATE {table} SET n = n + 1 WHERE id = {n % 2000 + 1}")
                    connection.query(f"DELETE FROM {table} WHERE id = {n * 7 % 2000 + 1}")
                    connection.query(f"INSERT INTO {table} (id, n) VALUES ({5000 + n}, {n})")
                connection.query(f"INSERT INTO c VALUES ({n})")
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            results = load_all(source, mysql, postgres, lake)
            assert len({result.position for result in results.values()}) == 1
            a, b, c = (raw_rows(postgres, table) for table in "abc")
            assert [row[:2] for row in a] == [row[:2] for row in b]
            assert len(c) == len([row for row in b if row[0] > 5000])
            for table in "abc":
                assert compare(source, postgres, table).is_equal
    finally:
        stop.set()
        writer.join()
    results = load_all(source, mysql, postgres, lake)
    for table in "ab":
        assert raw_rows(postgres, table) == mysql_rows(mysql, table)


@pytest.mark.parametrize(
    ("columns", "key", "values"),
    [
        ("code VARCHAR(20) COLLATE utf8mb4_bin", ("code",), lambda n: (f"🛒 k{n}",)),
        ("store INT, code CHAR(8)", ("store", "code"), lambda n: (n % 3, f"p{n}")),
        ("n BIGINT", ("n",), lambda n: (n - 1500,)),
        ("u BIGINT UNSIGNED", ("u",), lambda n: (2**64 - n * 1_000_000_007,)),
        ("b BINARY(4)", ("b",), lambda n: ((n * 40503).to_bytes(4, "big"),)),
        (
            "d DATE, t TIME(3)",
            ("d", "t"),
            lambda n: (START.date() + timedelta(n % 40), timedelta(seconds=n / 10 - 100)),
        ),
        ("n DECIMAL(12,3), segment INT", ("n", "segment"), lambda n: (Decimal(n - 1500) / 8, n)),
        (
            "ts TIMESTAMP(6), n DECIMAL(12,3)",
            ("ts", "n"),
            lambda n: (START + timedelta(seconds=n), Decimal(-n) / 8),
        ),
    ],
)
def test_every_kind_of_key(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    columns: str,
    key: tuple[str, ...],
    values: Callable,
) -> None:
    source = source_of(incremental("keyed", *key))
    run(
        mysql,
        f"CREATE TABLE keyed ({columns}, v INT, updated_at DATETIME(6) NOT NULL, PRIMARY KEY "
        f"({', '.join(key)}))",
    )
    fill(mysql, "keyed", ((*values(n), n, START + timedelta(seconds=n)) for n in range(1, 3001)))
    load_all(source, mysql, postgres, lake)
    run(
        mysql,
        "DELETE FROM keyed WHERE v IN (1, 700, 701, 3000)",
        "UPDATE keyed SET v = -v, updated_at = updated_at - INTERVAL 1 YEAR WHERE v IN (2, 1500)",
        "UPDATE keyed SET v = -v, updated_at = '2027-01-01' WHERE v = 9",
    )
    result = load_all(source, mysql, postgres, lake)["keyed"]
    assert (result.strategy, result.inserted, result.updated, result.deleted) == (
        "incremental",
        0,
        3,
        4,
    )
    assert sorted(row[-2] for row in raw_rows(postgres, "keyed")) == sorted(
        row[-2] for row in mysql_rows(mysql, "keyed")
    )
    assert compare(source, postgres, "keyed").is_equal
    assert not load_all(source, mysql, postgres, lake)["keyed"].is_changed


def test_tables_without_key_views_and_empty_tables(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(
        snapshot("log"),
        snapshot("seen", "id"),
        snapshot("nothing", "id"),
        incremental("none_yet", "id"),
    )
    run(
        mysql,
        "CREATE TABLE log (line TEXT)",
        "INSERT INTO log VALUES ('a'), ('a'), (NULL), ('b')",
        "CREATE TABLE base (id INT PRIMARY KEY, n INT)",
        "INSERT INTO base VALUES (1, 1)",
        "CREATE VIEW seen AS SELECT id, n * 2 AS doubled FROM base",
        "CREATE TABLE nothing (id INT PRIMARY KEY)",
        "CREATE TABLE none_yet (id INT PRIMARY KEY, updated_at DATETIME NOT NULL)",
    )
    assert [
        load_all(source, mysql, postgres, lake)[t].total
        for t in ("log", "seen", "nothing", "none_yet")
    ] == [
        4,
        1,
        0,
        0,
    ]
    assert not any(result.is_changed for result in load_all(source, mysql, postgres, lake).values())
    run(
        mysql,
        "DELETE FROM log WHERE line = 'a' LIMIT 1",
        "INSERT INTO none_yet VALUES (1, '2026-01-01')",
    )
    results = load_all(source, mysql, postgres, lake)
    assert (results["log"].total, results["none_yet"].total) == (3, 1)
    assert sorted(raw_rows(postgres, "log"), key=str) == [("a",), ("b",), (None,)]
    assert all(compare(source, postgres, table.name).is_equal for table in source.tables)


def test_coarse_cursors_do_not_hide_a_second_change(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(incremental("slow", "id"), incremental("counted", "id", cursor="version"))
    run(
        mysql,
        "CREATE TABLE slow (id INT PRIMARY KEY, v INT, updated_at DATETIME NOT NULL)",
        "INSERT INTO slow VALUES (1, 1, '2026-01-01 10:00:00'), (2, 1, '2026-01-01 10:00:03')",
        "CREATE TABLE counted (id INT PRIMARY KEY, v INT, version INT)",
        "INSERT INTO counted VALUES (1, 1, 1), (2, 1, NULL)",
    )
    load_all(source, mysql, postgres, lake)
    run(
        mysql,
        "UPDATE slow SET v = 2",  # in the same second as before
        "UPDATE counted SET v = 2, version = 2 WHERE id = 1",
        "UPDATE counted SET v = 2, version = 3 WHERE id = 2",
    )
    load_all(source, mysql, postgres, lake)
    for table in ("slow", "counted"):
        assert raw_rows(postgres, table) == mysql_rows(mysql, table)


def test_columns_added_appear_and_widened_ones_grow(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with postgres.connect() as connection:
        connection.execute(
            "CREATE SCHEMA staging; CREATE VIEW staging.names AS SELECT id, name FROM raw_t.items"
        )
    run(
        items,
        "ALTER TABLE items ADD COLUMN colour VARCHAR(10) DEFAULT 'red', MODIFY amount "
        "DECIMAL(14,4), MODIFY name TEXT",
        "UPDATE items SET colour = 'blue', updated_at = updated_at WHERE id = 1",
    )
    result = load_all(SOURCE, items, postgres, lake)["items"]
    assert (result.strategy, result.updated) == ("snapshot", 900)
    assert raw_rows(postgres, "items") == [
        (*row[:3], row[3], row[4]) for row in mysql_rows(items, "items")
    ]
    assert (
        next(c for c in result.columns if c["name"] == "amount")["target_type"] == "numeric(14,4)"
    )
    assert compare(SOURCE, postgres, "items").is_equal
    run(
        items, "ALTER TABLE items MODIFY amount DECIMAL(10,2)"
    )  # narrower again: raw keeps what it has
    load_all(SOURCE, items, postgres, lake)
    assert compare(SOURCE, postgres, "items").is_equal


@pytest.mark.parametrize(
    ("alteration", "view", "message"),
    [
        ("DROP COLUMN name", "", "raw_t/items: column 'name' was dropped at the source"),
        (
            "MODIFY amount VARCHAR(20)",
            "",
            r"raw_t/items: column 'amount' changed its type from decimal\(10,2\) to varchar\(20\)",
        ),
        (
            "MODIFY amount DECIMAL(20,2)",
            "amount",
            r"raw_t/items: column 'amount' became .* while something depends on it .*staging\.used",
        ),
        (
            "RENAME COLUMN updated_at TO changed_at",
            "",
            "raw_t/items: column 'updated_at' was dropped",
        ),
    ],
)
def test_columns_dropped_or_changed_are_refused_and_the_other_tables_load(
    items: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    alteration: str,
    view: str,
    message: str,
) -> None:
    before = raw_rows(postgres, "items")
    if view:
        with postgres.connect() as connection:
            connection.execute(
                "CREATE SCHEMA staging; CREATE MATERIALIZED VIEW staging.used AS SELECT "
                f"{view} FROM raw_t.items"
            )
    run(
        items,
        f"ALTER TABLE items {alteration}",
        "CREATE TABLE other (id INT PRIMARY KEY)",
        "INSERT INTO other VALUES (1)",
    )
    source = source_of(*SOURCE.tables, snapshot("other", "id"))
    loaded = []
    with pytest.raises(LoadsFailed, match=message) as failed:
        loaded.extend(load(LoadRequest(source, items, postgres, lake)))
    assert isinstance(failed.value.failures["items"], SchemaChanged)
    assert [result.table for result in loaded] == ["other"]
    assert raw_rows(postgres, "items") == before


def test_wrong_declarations_are_named(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(mysql, "CREATE TABLE twice (id INT, n INT)", "INSERT INTO twice VALUES (1, 1), (1, 2)")
    source = source_of(
        snapshot("gone", "id"),
        Table("twice", "", ("id",), "snapshot", ()),
        Table("keyless", "", ("nope",), "snapshot", ()),
    )
    run(mysql, "CREATE TABLE keyless (id INT)")
    with pytest.raises(LoadsFailed) as failed:
        list(load(LoadRequest(source, mysql, postgres, lake)))
    errors = failed.value.failures
    assert isinstance(errors["gone"], MissingTable)
    assert "raw_t/gone" in str(errors["gone"])
    assert isinstance(errors["twice"], TargetFailed)
    assert "(id) is not unique" in str(errors["twice"])
    assert "'nope'" in str(errors["keyless"])
    assert query(postgres, "SELECT count(*) FROM ingestion.positions") == [(0,)]


def test_another_key_than_before_is_refused(
    items: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with pytest.raises(LoadsFailed, match=r"declared key is \(name\), the raw table's \(id\)"):
        load_all(source_of(incremental("items", "name", history=True)), items, postgres, lake)


def test_an_unclassified_column_is_loaded_with_a_warning(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(mysql, "CREATE TABLE known (id INT PRIMARY KEY, email TEXT, extra INT)")
    source = source_of(Table("known", "", ("id",), "snapshot", classify(none="id", pii="email")))
    result = load_all(source, mysql, postgres, lake)["known"]
    assert [c["privacy"] for c in result.columns] == ["none", "pii", None]
    assert [w for w in result.warnings if "'extra' is not classified" in w]


def test_a_missing_grant_is_named(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    user = f"u{mysql.database[-8:]}"
    run(
        mysql,
        "CREATE TABLE secret (id INT PRIMARY KEY)",
        f"CREATE USER {user} IDENTIFIED BY 'x'",
        f"GRANT INSERT ON {mysql.database}.* TO {user}",
    )
    try:
        # MariaDB gets as far as the table, of which it does not tell; MySQL needs a privilege to
        # begin at all.
        with pytest.raises(IngestionError, match=f"{user}.*(?i:grant )"):
            list(
                load(
                    LoadRequest(
                        source_of(snapshot("secret", "id")),
                        replace(mysql, user=user, password="x"),
                        postgres,
                        lake,
                    )
                )
            )
    finally:
        run(mysql, f"DROP USER {user}")


def test_two_loads_at_once_do_not_mix(
    items: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: list = []
    threads = [
        threading.Thread(target=lambda: results.append(load_all(SOURCE, items, postgres, lake)))
        for _ in range(3)
    ]
    run(items, "UPDATE items SET amount = 1 WHERE id < 100")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result["items"].updated for result in results) == [0, 0, 99]
    monkeypatch.setattr(tables, "_LOCK_SECONDS", 1)
    with postgres.connect(autocommit=True, application_name="somebody else") as holder:
        holder.execute("SELECT pg_advisory_lock(hashtextextended('softcart load raw_t/items', 0))")
        with pytest.raises(TableBusy, match="raw_t/items has been held for 1 s by 'somebody else'"):
            list(load(LoadRequest(SOURCE, items, postgres, lake)))


def test_quarantine_holds_rows_until_they_are_fit(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(incremental("q", "id"), snapshot("bag"))
    run(
        mysql,
        "SET sql_mode = ''",
        "CREATE TABLE q (id INT PRIMARY KEY, d DATE, t TEXT, b BLOB, updated_at DATETIME(6) NOT "
        "NULL DEFAULT '2026-01-01')",
        "INSERT INTO q (id, d, t, b) VALUES (1, '2026-01-01', 'good', x'00'), (2, '0000-00-00', "
        "'zero', x'00FF'),"
        " (3, '2026-00-10', 'partial', NULL), (4, NULL, CONCAT('nul', CHAR(0)), NULL)",
        "CREATE TABLE bag (d DATE)",
        "INSERT INTO bag VALUES ('0000-00-00'), ('0000-00-00'), ('2026-01-01')",
    )
    results = load_all(source, mysql, postgres, lake)
    assert [(results[t].total, results[t].quarantined) for t in ("q", "bag")] == [(1, 3), (1, 2)]
    entries = {entry.key[0]: entry for entry in list_quarantine(postgres, "t", "q") if entry.key}
    assert [(key, entry.column_name) for key, entry in sorted(entries.items())] == [
        ("2", "d"),
        ("3", "d"),
        ("4", "t"),
    ]
    assert show(postgres, entries["2"].id).row == {
        "id": "2", "d": "0000-00-00", "t": "zero", "b": "\\x00ff", "updated_at": ("2026-01-01 "
            "00:00:00.000000"),
    }  # fmt: skip
    assert "NUL" in entries["4"].reason
    for _ in range(2):
        results = load_all(source, mysql, postgres, lake)
        assert not any(result.is_changed for result in results.values())
        assert all(compare(source, postgres, table).is_equal for table in ("q", "bag"))
    assert len(list_quarantine(postgres)) == 5

    run(
        mysql,
        "SET sql_mode = ''",
        "UPDATE q SET d = '2026-02-02', updated_at = '2026-02-02' WHERE id = "
        "2",  # mended, as its cursor says
        "UPDATE q SET d = '2026-03-03' WHERE id = 3",  # mended, unnoticed
        "DELETE FROM q WHERE id = 4",
        "UPDATE q SET d = '0000-00-00', updated_at = '2026-02-02' WHERE id = "
        "1",  # was good, is bad: the good version stays
    )
    result = load_all(source, mysql, postgres, lake)["q"]
    assert (result.total, result.quarantined) == (2, 2)
    assert compare(source, postgres, "q").is_equal
    closed = {
        entry.key[0]: entry.closed_because
        for entry in list_quarantine(postgres, "t", "q", closed=True)
        if entry.key
    }
    assert closed == {"2": "mended", "4": "deleted"}

    still = {entry.key[0]: entry.id for entry in list_quarantine(postgres, "t", "q") if entry.key}
    assert set(still) == {"1", "3"}
    assert [
        result.quarantined
        for result in replay(
            LoadRequest(source, mysql, postgres, lake, released=list(still.values()))
        )
    ] == [1]
    assert [(e.key, e.closed_because) for e in [show(postgres, still["3"])]] == [
        (["3"], "replayed")
    ]
    assert [row[:2] for row in query(postgres, "SELECT id, d::text FROM raw_t.q ORDER BY 1")] == [
        (1, "2026-01-01"), (2, "2026-02-02"), (3, "2026-03-03"),
    ]  # fmt: skip
    assert compare(source, postgres, "q").is_equal


def test_changed_tables_are_told_exactly(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(
        snapshot("a", "id"),
        snapshot("b", "id"),
        Table("a_b", "", ("id",), "snapshot", (), source_name="a b"),
    )
    for name in ("a", "b", "`a b`"):
        run(mysql, f"CREATE TABLE {name} (id INT PRIMARY KEY)")
    assert set(changed_tables(source, mysql, {}).tables) == {"a", "b", "a_b"}
    load_all(source, mysql, postgres, lake)
    since = loaded_positions(postgres, source)
    assert changed_tables(source, mysql, since).tables == {}
    run(
        mysql,
        "CREATE TABLE unrelated (id INT)",
        "INSERT INTO unrelated VALUES (1)",
        "INSERT INTO b VALUES (1)",
        "FLUSH BINARY LOGS",
        "INSERT INTO `a b` VALUES (1)",
    )
    with mysql.connect() as connection:  # a statement that is no text as the log shows it
        connection.query(b"INSERT INTO unrelated SELECT 2 WHERE _binary '\xed\xe9' <> ''")
        connection.commit()
    changes = changed_tables(source, mysql, since)
    assert set(changes.tables) == {"b", "a_b"}
    assert changes.tables["b"] < changes.tables["a_b"] <= changes.position
    load_all(source, mysql, postgres, lake, tables=["b", "a_b"])
    assert changed_tables(source, mysql, loaded_positions(postgres, source)).tables == {}
    run(mysql, "ALTER TABLE a ADD COLUMN n INT")
    assert set(changed_tables(source, mysql, loaded_positions(postgres, source)).tables) == {"a"}
    assert set(
        changed_tables(source, mysql, dict.fromkeys(since, "binlog.000000:000000000004")).tables
    ) == {
        "a",
        "b",
        "a_b",
    }


def test_progress_is_told(items: MySQLConnection, postgres: PostgresConnection, lake: str) -> None:
    seen: list[tuple] = []
    load_all(SOURCE, items, postgres, lake, full=True, on_progress=lambda *call: seen.append(call))
    assert seen[-1][:2] == ("items", 900)
