"""Change data capture on real servers: what the log brings is what the source has, whatever happens
on the way.
"""

from __future__ import annotations

import multiprocessing
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pyarrow.dataset as ds
import pymysql
import pytest
from support.ingestion import fill, load_all, mysql_rows, query, raw_rows, run, source_of
from support.lake import rows_of
from support.mysql97 import RealMySQL, Unavailable, program

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import Status, reading, resnapshot, stream
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.capture.resnapshot import read_again
from softcart_assets.ingestion.captured import capture
from softcart_assets.ingestion.connectors.mysql.session import current_position
from softcart_assets.ingestion.errors import LoadsFailed, PositionPurged, SchemaChanged, TableBusy
from softcart_assets.ingestion.load import LoadRequest, changed_tables, loaded_positions, replay
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import list_quarantine
from softcart_assets.ingestion.sinks import changelog
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.lake import ChangeFile, LakeTable, refresh_table
from softcart_assets.lines.model import RunningTotal, Source, Table
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.server import USER, free_port


def cdc(name: str, *key: str, history: bool = False, contract: str = "evolve") -> Table:
    return Table(name, "", key, "cdc", (), history=history, contract=contract)  # type: ignore[arg-type]


SOURCE = source_of(cdc("facts", "id", history=True), cdc("keyless"), cdc("pairs", "x", "y"))


@pytest.fixture
def tables(mysql: MySQLConnection) -> MySQLConnection:
    run(
        mysql,
        "CREATE TABLE facts (id INT PRIMARY KEY, v VARCHAR(100), at DATETIME(6), amount "
        "DECIMAL(10,2))",
        "CREATE TABLE keyless (id INT, v VARCHAR(10))",
        "CREATE TABLE pairs (x INT, y VARCHAR(20), v INT, PRIMARY KEY (x, y))",
    )
    fill(mysql, "facts", [(n, f"row {n}", "2026-01-01 00:00:00.5", "9.99") for n in range(100)])
    fill(mysql, "keyless", [(n % 5, None) for n in range(20)])
    fill(mysql, "pairs", [(n % 5, str(n), n) for n in range(20)])
    return mysql


def assert_equal(mysql: MySQLConnection, postgres: PostgresConnection, *tables: str) -> None:
    for table in tables or ("facts", "keyless", "pairs"):
        order = "1, 2" if table == "pairs" else "1"
        raw, source = raw_rows(postgres, table, order), mysql_rows(mysql, table, order)
        assert sorted(raw, key=repr) == sorted(source, key=repr), table


COUNTED = RunningTotal("facts_of", "", table="facts", key="v", measures={"facts": "*"})


def assert_counted(mysql: MySQLConnection, postgres: PostgresConnection) -> None:
    """The running total is what the source itself counts."""
    kept = query(
        postgres, "SELECT v, facts FROM ods.facts_of WHERE bucket = '-infinity' AND _rows > 0"
    )
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT v, COUNT(*) FROM facts WHERE v IS NOT NULL GROUP BY v")
        assert sorted(kept) == sorted(cursor.fetchall())


def in_lake(postgres: PostgresConnection, lake: str, table: str) -> list[dict]:
    """The rows of the lake's listed files, in their order."""
    paths = query(
        postgres,
        "SELECT path FROM ingestion.lake_files WHERE table_name = %s ORDER BY length(path), path",
        table,
    )
    root = Path(lake.removeprefix("file://"))
    rows = [row for (path,) in paths for row in ds.dataset(root / path).to_table().to_pylist()]
    return sorted(rows, key=lambda row: row["_version"])


def latest_in_lake(rows: list[dict], *key: str) -> dict[tuple, dict]:
    latest = {tuple(row[name] for name in key): row for row in rows}
    return {key: row for key, row in latest.items() if not row["_deleted"]}


@contextmanager
def streaming(source: Source, *servers, wait: bool = True) -> Iterator[Status]:
    """A stream in a thread; what it raises is raised at the end."""
    status, stopped = Status(source.name), threading.Event()
    failures: list[BaseException] = []

    def follow() -> None:
        try:
            stream(source, *servers, status=status, stopped=stopped)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        if wait:
            until(lambda: status.position or failures)
        yield status
    finally:
        stopped.set()
        thread.join(60)
        assert not thread.is_alive()
        if failures:
            raise failures[0]


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.05)


def follow_and_vanish(request: LoadRequest) -> None:
    """Apply the log to its end and be gone before the lake's files are listed, as if killed."""
    job = Job.of(request)
    with hold(job) as holder, request.staging.connect(autocommit=True) as control:
        Follower(job, holder, control).follow(current_position(request.connection))


CHANGES = (
    "UPDATE facts SET v = 'changed' WHERE id < 10",
    "DELETE FROM facts WHERE id BETWEEN 20 AND 29",
    "INSERT INTO facts VALUES (1000, 'new', NULL, NULL)",
    "UPDATE facts SET id = id + 5000 WHERE id = 50",
    "DELETE FROM keyless WHERE id = 2 LIMIT 2",
    "INSERT INTO keyless VALUES (7, NULL), (7, NULL)",
    "UPDATE keyless SET v = 'x' WHERE id = 3 LIMIT 1",
    "UPDATE pairs SET y = 'zz' WHERE x = 1 AND y = '1'",
    "REPLACE INTO pairs VALUES (2, '2', 99)",
)


def test_bounded_runs_bring_every_change_once(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    first = load_all(SOURCE, tables, postgres, lake)
    assert {name: (r.inserted, r.total, r.is_changed) for name, r in first.items()} == {
        "facts": (100, 100, True),
        "keyless": (20, 20, True),
        "pairs": (20, 20, True),
    }
    assert_equal(tables, postgres)
    since = loaded_positions(postgres, SOURCE)
    assert changed_tables(SOURCE, tables, since).tables == {}
    run(tables, *CHANGES)
    assert set(changed_tables(SOURCE, tables, since).tables) == {"facts", "keyless", "pairs"}
    second = load_all(SOURCE, tables, postgres, lake)
    assert_equal(tables, postgres)
    result = second["facts"]
    assert (result.strategy, result.inserted, result.updated, result.deleted, result.total) == (
        "cdc",
        2,
        10,
        11,
        91,
    )
    assert all(compare(SOURCE, postgres, table).is_equal for table in second)
    assert len({r.position for r in second.values()}) == 1
    third = load_all(SOURCE, tables, postgres, lake)
    assert not any(r.is_changed for r in third.values())
    # History: the first 100, and every change in the log's order with the time of its commit.
    versions = query(postgres, "SELECT id, v, _deleted FROM raw_t.facts_history ORDER BY _version")
    assert len(versions) == 123
    assert [row for row in versions if row[0] in (50, 5050)] == [
        (50, "row 50", False),
        (50, "row 50", True),
        (5050, "row 50", False),
    ]
    times = query(
        postgres,
        "SELECT bool_and((_committed_at IS NULL) = (_version <= 100)) FROM raw_t.facts_history",
    )
    assert times == [(True,)]
    # The lake has the same versions, with operation and position, and its last ones are the
    # source's rows.
    changes = in_lake(postgres, lake, "facts")
    assert len(changes) == 123
    operations = [row.get("_operation") for row in changes]
    assert [operations.count(each) for each in (None, "insert", "update", "delete")] == [
        100,
        2,
        10,
        11,
    ]
    assert all(row["_committed_at"] for row in changes if row.get("_operation"))
    assert {(r["id"], r["v"]) for r in latest_in_lake(changes, "id").values()} == {
        row[:2] for row in mysql_rows(tables, "facts")
    }
    assert query(postgres, "SELECT count(*) FROM ingestion.attempts") == [(0,)]


def _write(mysql: MySQLConnection, seed: int, stopped: threading.Event) -> None:
    """Random transactions of several statements, some rolled back."""
    dice = random.Random(seed)
    with mysql.connect() as connection:
        while not stopped.is_set():
            try:
                for _ in range(dice.randrange(1, 5)):
                    connection.query(_statement(dice))
                connection.rollback() if dice.random() < 0.1 else connection.commit()
            except pymysql.OperationalError:  # a deadlock, which rolled all back
                connection.rollback()


def _statement(dice: random.Random) -> str:
    one, other = dice.randrange(3000), dice.randrange(3000)
    return dice.choice(
        (
            f"REPLACE INTO facts VALUES ({one}, 'v{dice.random()}', NOW(6), {dice.randrange(9999)} "
            "/ 100)",
            f"UPDATE IGNORE facts SET v = 'u{dice.random()}', id = {other} WHERE id = {one}",
            f"UPDATE facts SET amount = amount + 1 WHERE id BETWEEN {one} AND {one + 20}",
            f"DELETE FROM facts WHERE id BETWEEN {one} AND {one + 3}",
            f"INSERT INTO keyless VALUES ({one % 7}, {dice.choice(['NULL', '1'])})",
            f"DELETE FROM keyless WHERE id = {one % 7} LIMIT 1",
            f"INSERT INTO pairs VALUES ({one % 50}, '{other % 50}', 1) ON DUPLICATE KEY UPDATE v = "
            "v + 1",
        )
    )


@contextmanager
def writers(mysql: MySQLConnection, count: int = 2) -> Iterator[None]:
    stopped = threading.Event()
    threads = [
        threading.Thread(target=_write, args=(mysql, seed, stopped)) for seed in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def test_handed_over_while_writers_go_on_and_the_process_is_killed(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    fill(tables, "facts", [(n, f"row {n}", None, None) for n in range(100, 3000)])
    dice = random.Random(1)
    with writers(tables):
        kills = 0
        while kills < 6:
            process = multiprocessing.get_context("fork").Process(
                target=load_all, args=(SOURCE, tables, postgres, lake)
            )
            process.start()
            process.join(dice.uniform(0.1, 1.5))
            kills += process.is_alive()
            process.kill()
            process.join()
    load_all(SOURCE, tables, postgres, lake)
    assert_equal(tables, postgres)
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)
    _assert_history_and_lake(tables, postgres, lake)


def _assert_history_and_lake(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    raw = query(postgres, "SELECT id, v, at, amount, _deleted FROM raw_t.facts ORDER BY id")
    newest = (
        "SELECT DISTINCT ON (id) id, v, at, amount, _deleted FROM raw_t.facts_history ORDER "
        "BY id, _version DESC"
    )
    assert query(postgres, newest) == raw
    repeated = (
        "SELECT count(*) FROM (SELECT (v, at, amount, _deleted) IS NOT DISTINCT FROM lag((v, at, "
        "amount, _deleted))"
        " OVER (PARTITION BY id ORDER BY _version) AS same FROM raw_t.facts_history) h WHERE same"
    )
    assert query(postgres, repeated) == [(0,)]
    current = latest_in_lake(in_lake(postgres, lake, "facts"), "id")
    assert {(r["id"], r["v"], r["amount"]) for r in current.values()} == {
        (i, v, a) for i, v, _, a, d in raw if not d
    }
    root = Path(lake.removeprefix("file://"))
    listed = {path for (path,) in query(postgres, "SELECT path FROM ingestion.lake_files")}
    assert {str(path.relative_to(root)) for path in root.rglob("*.parquet")} == listed


def test_a_stream_gives_way_to_a_bounded_run_and_to_nobody_else(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with streaming(SOURCE, tables, postgres, lake) as status:
        with writers(tables):
            time.sleep(1)
            with pytest.raises(TableBusy, match=r"softcart stream t .*stop that one"):
                stream(SOURCE, tables, postgres, lake)
            results = load_all(SOURCE, tables, postgres, lake)
            assert results["facts"].strategy == "cdc"
            time.sleep(1)
        rows = status.rows
        run(tables, "INSERT INTO facts VALUES (9999, 'last', NULL, NULL)")
        until(lambda: query(postgres, "SELECT 1 FROM raw_t.facts WHERE id = 9999"))
        assert_equal(tables, postgres)
        assert status.rows > rows
        assert status.flushes > 1
        assert status.problem is None
        assert changed_tables(SOURCE, tables, loaded_positions(postgres, SOURCE)).tables == {}
    _assert_history_and_lake(tables, postgres, lake)
    assert query(postgres, "SELECT position = lake_position FROM ingestion.streams") == [(True,)]
    assert load_all(SOURCE, tables, postgres, lake)["facts"].is_changed
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)


def test_a_large_transaction_that_the_lake_needs_again_leaves_newer_rows_alone(
    tables: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lake lists its files more rarely than raw commits. Then the log is read again for it."""
    monkeypatch.setattr(reading, "_PIECE_ROWS", 10)
    load_all(SOURCE, tables, postgres, lake)
    run(
        tables,
        "UPDATE facts SET v = 'large'",
        "INSERT INTO keyless SELECT id % 5, 'large' FROM facts",
        "UPDATE facts SET v = 'newer' WHERE id < 50",
        "DELETE FROM keyless WHERE v = 'large' LIMIT 30",
    )
    follow_and_vanish(LoadRequest(SOURCE, tables, postgres, lake))
    assert_equal(tables, postgres)
    assert query(postgres, "SELECT position = lake_position FROM ingestion.streams") == [(False,)]
    run(tables, "INSERT INTO facts VALUES (1000, 'last', NULL, NULL)")
    load_all(SOURCE, tables, postgres, lake)
    _assert_history_and_lake(tables, postgres, lake)
    assert query(postgres, "SELECT count(*) FROM raw_t.facts_history") == [(100 + 100 + 50 + 1,)]
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)


def test_a_table_that_is_replaced_and_filled_by_one_large_statement(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """MariaDB logs `CREATE OR REPLACE … SELECT` and its rows as one transaction."""
    monkeypatch.setattr(reading, "_PIECE_ROWS", 10)
    source = source_of(cdc("pairs", "x"))
    run(
        mysql,
        "CREATE TABLE pairs (x INT PRIMARY KEY, v INT)",
        "INSERT INTO pairs SELECT seq, 0 FROM seq_1_to_50",
    )
    load_all(source, mysql, postgres, lake)
    run(
        mysql,
        "CREATE OR REPLACE TABLE pairs (x INT PRIMARY KEY, v INT)"
        " SELECT seq + 25 AS x, 1 AS v FROM seq_1_to_50",
    )
    load_all(source, mysql, postgres, lake)
    assert_equal(mysql, postgres, "pairs")


def test_a_column_that_was_added_without_the_log_is_read(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    load_all(SOURCE, tables, postgres, lake)
    run(tables, "SET SESSION sql_log_bin = 0", "ALTER TABLE facts ADD extra INT DEFAULT 7")
    load_all(SOURCE, tables, postgres, lake)
    assert_equal(tables, postgres, "facts")


def test_a_table_that_stops_while_it_is_read_again_is_not_waited_for(
    tables: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = source_of(cdc("facts", "id", contract="freeze"))
    load_all(source, tables, postgres, lake)
    module = sys.modules[resnapshot.__module__]
    read_again = module.read_again

    def and_then_it_stops(*arguments: object) -> object:
        number = read_again(*arguments)
        run(tables, "ALTER TABLE facts ADD extra INT", "INSERT INTO facts (id) VALUES (999)")
        with pytest.raises(LoadsFailed):
            load_all(source, tables, postgres, lake)
        return number

    monkeypatch.setattr(module, "read_again", and_then_it_stops)
    run(tables, "SET SESSION sql_log_bin = 0", "UPDATE facts SET v = 'unlogged' WHERE id = 1")
    with pytest.raises(SchemaChanged, match="extra"):
        resnapshot(source, tables, postgres, lake, "facts")


def test_a_transaction_larger_than_memory_comes_piece_by_piece_and_as_a_whole(
    tables: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "_PIECE_ROWS", 500)
    run(tables, "CREATE TABLE unlogged (id INT) ENGINE = MyISAM")
    load_all(SOURCE, tables, postgres, lake)
    many = ", ".join(f"({n}, 'many', NULL, NULL)" for n in range(10_000, 13_000))
    with tables.connect() as connection:
        connection.query("INSERT INTO facts VALUES (2000, 'before', NULL, NULL)")
        connection.commit()
        connection.query(f"INSERT INTO facts VALUES {many}")
        connection.query("UPDATE facts SET v = 'twice' WHERE id < 12000")
        connection.query("DELETE FROM facts WHERE id > 12500")
        connection.query("INSERT INTO keyless SELECT id % 9, 'x' FROM facts")
        connection.query("DELETE FROM keyless WHERE id = 4")
        connection.query("INSERT INTO facts VALUES (12700, 'again', NULL, NULL)")
        connection.commit()
        # What is rolled back, and yet reaches the log because a table without transactions was
        # changed with it.
        connection.query("INSERT INTO unlogged VALUES (1)")
        connection.query(f"INSERT INTO facts VALUES {many.replace('(1', '(9')}")
        connection.rollback()
        connection.query("INSERT INTO facts VALUES (2001, 'behind', NULL, NULL)")
        connection.commit()
    result = load_all(SOURCE, tables, postgres, lake)["facts"]
    assert_equal(tables, postgres)
    assert compare(SOURCE, postgres, "facts").is_equal
    assert result.inserted == 3003
    assert query(postgres, "SELECT count(DISTINCT _position) FROM raw_t.facts WHERE id > 9999") == [
        (1,)
    ]
    _assert_history_and_lake(tables, postgres, lake)


def test_rows_that_cannot_be_carried_are_out_until_they_are_mended_or_gone(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(cdc("facts", "id", history=True), cdc("keyless"))
    run(
        mysql,
        "CREATE TABLE facts (id INT PRIMARY KEY, day DATE)",
        "CREATE TABLE keyless (day DATE)",
        "INSERT INTO facts VALUES (1, '2026-01-01'), (2, '2026-01-02'), (3, '2026-01-03'), (4, "
        "'2026-01-04')",
    )
    load_all(source, mysql, postgres, lake)
    zero = "SET SESSION sql_mode = ''"
    run(
        mysql,
        zero,
        "UPDATE facts SET day = '0000-00-00' WHERE id < 4",
        "INSERT INTO facts VALUES (5, '0000-00-00'), (6, '2026-02-00')",
        "INSERT INTO keyless VALUES ('0000-00-00'), ('0000-00-00'), ('2026-01-01')",
        "UPDATE facts SET day = '2026-06-06' WHERE id = 6",
    )
    results = load_all(source, mysql, postgres, lake)
    assert (results["facts"].quarantined, results["keyless"].quarantined) == (4, 2)
    rows = list_quarantine(postgres, "t", "facts")
    assert sorted((row.key, row.row["day"]) for row in rows) == [
        ([str(n)], "0000-00-00") for n in (1, 2, 3, 5)
    ]
    assert {row.position for row in rows} == {results["facts"].position}
    # Raw keeps the last version that it could take.
    assert [(i, str(day)) for i, day in raw_rows(postgres, "facts") if i < 4] == [
        (n, f"2026-01-0{n}") for n in (1, 2, 3)
    ]
    assert all(compare(source, postgres, table).is_equal for table in results)
    run(
        mysql,
        zero,
        "UPDATE facts SET day = '2026-03-03' WHERE id = 1",
        "DELETE FROM facts WHERE id IN (2, 5)",
        "DELETE FROM keyless WHERE day = 0 LIMIT 1",
    )
    results = load_all(source, mysql, postgres, lake)
    assert (results["facts"].quarantined, results["keyless"].quarantined) == (1, 1)
    closed = {
        (row.table_name, *(row.key or ())): row.closed_because
        for row in list_quarantine(postgres, closed=True)
    }
    assert closed == {
        ("facts", "1"): "mended",
        ("facts", "2"): "deleted",
        ("facts", "5"): "deleted",
        ("keyless",): "deleted",
    }
    assert query(
        postgres, "SELECT id, _deleted FROM raw_t.facts WHERE id IN (2, 5) ORDER BY 1"
    ) == [
        (2, True),
        (5, True),
    ]
    assert all(compare(source, postgres, table).is_equal for table in results)
    # A replay reads the row again; the source has not mended it, then it has, without a trace in
    # the log.
    entry = next(row.id for row in list_quarantine(postgres, "t", "facts"))
    assert [
        r.quarantined for r in replay(LoadRequest(source, mysql, postgres, lake, released=[entry]))
    ] == [1]
    run(mysql, "SET SESSION sql_log_bin = 0", "UPDATE facts SET day = '2026-07-07' WHERE id = 3")
    assert [
        r.quarantined for r in replay(LoadRequest(source, mysql, postgres, lake, released=[entry]))
    ] == [0]
    assert raw_rows(postgres, "facts") == mysql_rows(mysql, "facts")


def test_definitions_change_in_the_order_of_the_log(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    load_all(SOURCE, tables, postgres, lake)
    run(
        tables,
        "INSERT INTO facts VALUES (200, 'old', NULL, 1)",
        "ALTER TABLE facts ADD COLUMN added INT DEFAULT 7, ADD COLUMN bare VARCHAR(5)",
        "INSERT INTO facts VALUES (201, 'new', NULL, 1, 8, 'b')",
        "ALTER TABLE facts MODIFY amount DECIMAL(20,4), MODIFY v TEXT",
        "INSERT INTO facts VALUES (202, 'wide', NULL, 1234567890123.4567, 8, 'b')",
        "ALTER TABLE facts DROP COLUMN bare",
        "INSERT INTO facts VALUES (203, 'dropped', NULL, 1, 9)",
        "ALTER TABLE facts CHANGE added renamed BIGINT",
        "INSERT INTO facts VALUES (204, 'renamed', NULL, 1, 5000000000)",
        "TRUNCATE TABLE keyless",
        "INSERT INTO keyless VALUES (1, 'a')",
        "DROP TABLE pairs",
        "CREATE TABLE pairs (x INT, y VARCHAR(20), w INT, PRIMARY KEY (x, y))",
        "INSERT INTO pairs VALUES (1, 'one', 1)",
    )
    load_all(SOURCE, tables, postgres, lake)
    assert query(
        postgres, "SELECT id, v, at, amount, renamed FROM raw_t.facts WHERE NOT _deleted ORDER BY 1"
    ) == (mysql_rows(tables, "facts"))
    assert query(
        postgres,
        "SELECT id, v, added, bare FROM raw_t.facts_history WHERE id IN (201, 203) ORDER BY "
        "_version",
    )[:2] == [
        (201, "new", 8, "b"),
        (203, "dropped", 9, None),
    ]
    assert raw_rows(postgres, "keyless") == mysql_rows(tables, "keyless")
    assert query(postgres, "SELECT x, y, w, v FROM raw_t.pairs WHERE NOT _deleted") == [
        (1, "one", 1, None)
    ]
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)
    # A type that nothing of before fits; a table renamed away and another one in its place; a
    # partition dropped.
    run(
        tables,
        "UPDATE facts SET v = '17'",
        "ALTER TABLE facts MODIFY v INT",
        "RENAME TABLE pairs TO elsewhere, elsewhere TO pairs2",
        "CREATE TABLE other (x INT, y VARCHAR(20), w INT, PRIMARY KEY (x, y))",
        "INSERT INTO other VALUES (5, 'five', 5)",
        "RENAME TABLE other TO pairs",
    )
    load_all(SOURCE, tables, postgres, lake)
    assert {v for (v,) in query(postgres, "SELECT v FROM raw_t.facts WHERE NOT _deleted")} == {17}
    assert query(postgres, "SELECT x, y, w FROM raw_t.pairs WHERE NOT _deleted") == [(5, "five", 5)]
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)


def test_contracts_decide_what_becomes_of_changed_columns(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(
        cdc("frozen", "id", contract="freeze"),
        cdc("strict", "id", contract="quarantine"),
        cdc("free", "id"),
    )
    names = [table.name for table in source.tables]
    run(mysql, *(f"CREATE TABLE {name} (id INT PRIMARY KEY, v VARCHAR(10))" for name in names))
    run(mysql, *(f"INSERT INTO {name} VALUES (1, 'one')" for name in names))
    load_all(source, mysql, postgres, lake)
    run(mysql, *(f"ALTER TABLE {name} ADD COLUMN more INT, DROP COLUMN v" for name in names))
    run(mysql, *(f"INSERT INTO {name} VALUES (2, 2), (3, NULL)" for name in names))
    with pytest.raises(
        LoadsFailed, match=r"'more' was added, 'v' was dropped .*softcart resnapshot t.frozen"
    ) as failed:
        load_all(source, mysql, postgres, lake)
    assert set(failed.value.failures) == {"frozen"}
    assert raw_rows(postgres, "free") == [(1, "one", None), (2, None, 2), (3, None, None)]
    assert raw_rows(postgres, "strict") == [(1, "one"), (3, None)]
    (entry,) = list_quarantine(postgres, "t", "strict")
    assert (entry.key, entry.row["more"], entry.column_name) == (["2"], "2", "more")
    assert raw_rows(postgres, "frozen") == [(1, "one")]
    run(mysql, "INSERT INTO frozen VALUES (4, 4)", "INSERT INTO free VALUES (4, 4)")
    with streaming(source, mysql, postgres, lake) as status:
        until(lambda: (4, None, 4) in raw_rows(postgres, "free"))
        assert status.tables["frozen"][0] == "stopped"
        assert "resnapshot" in (status.tables["frozen"][1] or "")
        (again,) = resnapshot(source, mysql, postgres, lake, "frozen")
        assert again.rows_changed == 3
        run(mysql, "INSERT INTO frozen VALUES (5, 5)")
        until(lambda: (5, None, 5) in raw_rows(postgres, "frozen"))
        assert status.tables["frozen"] == ("live", None)
    assert raw_rows(postgres, "frozen") == [
        (1, "one", None),
        *((n, None, m) for n, m in ((2, 2), (3, None), (4, 4), (5, 5))),
    ]


def test_a_table_or_a_range_is_read_again_while_the_stream_runs(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    fill(tables, "facts", [(n, f"row {n}", None, None) for n in range(100, 3000)])
    with streaming(SOURCE, tables, postgres, lake):
        until(lambda: query(postgres, "SELECT count(*) FROM ingestion.captures") == [(3,)])
        with postgres.connect() as connection:  # damage
            connection.execute("UPDATE raw_t.facts SET v = 'damaged' WHERE id % 10 = 3")
            connection.execute("DELETE FROM raw_t.facts WHERE id % 10 = 4")
            connection.execute(
                "INSERT INTO raw_t.facts SELECT -1, v, at, amount, false, now(), _position FROM "
                "raw_t.facts LIMIT 1"
            )
            connection.execute("UPDATE raw_t.pairs SET v = -1")
            connection.execute("DELETE FROM raw_t.keyless WHERE id = 1")
        with writers(tables):
            (some,) = resnapshot(SOURCE, tables, postgres, lake, "facts", ("1000", "1999"))
            assert 0 < some.rows_changed <= 200
            (all_,) = resnapshot(SOURCE, tables, postgres, lake, "facts")
            assert 0 < all_.rows_changed <= 401
            resnapshot(SOURCE, tables, postgres, lake, "pairs")
            resnapshot(SOURCE, tables, postgres, lake, "keyless")
            run(
                tables,
                "ALTER TABLE facts ADD COLUMN n INT NOT NULL DEFAULT 3 FIRST",
                "ALTER TABLE keyless ADD m INT DEFAULT 4",
            )
        run(tables, "INSERT INTO pairs VALUES (-1, 'last', 0)")
        until(lambda: query(postgres, "SELECT 1 FROM raw_t.pairs WHERE x = -1"))
        until(
            lambda: (
                query(postgres, "SELECT count(*) FROM ingestion.captures WHERE stale_since IS NULL")
                == [(3,)]
            )
        )
    assert query(
        postgres, "SELECT n, id, v, at, amount FROM raw_t.facts WHERE NOT _deleted ORDER BY id"
    ) == (mysql_rows(tables, "facts", "id"))
    assert_equal(tables, postgres, "pairs", "keyless")
    load_all(SOURCE, tables, postgres, lake)
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)
    assert query(postgres, "SELECT count(*) FROM pg_class WHERE relname LIKE 'reread%%'") == [(0,)]


def _end_log_readers(mysql: MySQLConnection) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        running = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
        cursor.execute(running)
        for (thread,) in cursor.fetchall():
            with suppress(pymysql.OperationalError):  # ended by itself
                connection.query(f"KILL {thread}")
        until(lambda: not cursor.execute(running))


def test_a_purged_log_is_an_error_that_says_what_leads_on(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = replace(SOURCE, totals=(COUNTED,))
    load_all(source, tables, postgres, lake)
    run(tables, *CHANGES)
    run(tables, "FLUSH BINARY LOGS")
    run(tables, "UPDATE facts SET v = 'after'")
    run(tables, "FLUSH BINARY LOGS")
    _end_log_readers(tables)  # the server keeps what somebody reads
    with tables.connect() as connection, connection.cursor() as cursor:

        def purged() -> bool:
            cursor.execute("SHOW BINARY LOGS")
            files = cursor.fetchall()
            cursor.execute("PURGE BINARY LOGS TO %s", (files[-1][0],))
            return len(files) == 1

        until(purged)
    with pytest.raises(PositionPurged, match="softcart resnapshot t"):
        load_all(source, tables, postgres, lake)
    assert len(resnapshot(source, tables, postgres, lake)) == 3
    assert_equal(tables, postgres)
    assert_counted(tables, postgres)
    run(tables, "INSERT INTO facts VALUES (3000, 'goes on', NULL, NULL)")
    load_all(source, tables, postgres, lake)
    assert_equal(tables, postgres)
    assert_counted(tables, postgres)
    assert all(compare(source, postgres, table.name).is_equal for table in source.tables)


def test_connections_that_break_are_made_anew(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with streaming(SOURCE, tables, postgres, lake) as status:
        with writers(tables, 1):
            for number in range(3):
                time.sleep(0.5)
                query(
                    postgres,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                    "current_database()"
                    " AND application_name LIKE 'softcart stream t%%'",
                )
                time.sleep(0.5)
                _end_log_readers(tables)
                run(tables, f"INSERT INTO facts VALUES ({5000 + number}, 'again', NULL, NULL)")
                until(
                    lambda number=number: query(
                        postgres, f"SELECT 1 FROM raw_t.facts WHERE id = {5000 + number}"
                    )
                )
        assert status.reconnects >= 3
        run(tables, "INSERT INTO facts VALUES (9999, 'last', NULL, NULL)")
        until(lambda: query(postgres, "SELECT 1 FROM raw_t.facts WHERE id = 9999"))
        assert_equal(tables, postgres)
        assert status.problem is None
    _assert_history_and_lake(tables, postgres, lake)


def test_the_lakes_tables_follow_the_log(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    lake_tables = [
        LakeTable(lake, "lake_t", table.name, table.key, "at" if table.name == "facts" else None)
        for table in SOURCE.tables
    ]

    def refreshed() -> None:
        for table in lake_tables:
            listed = query(
                postgres,
                "SELECT path, load_id, load_date::text FROM ingestion.lake_files WHERE table_name "
                "= %s ORDER BY loaded_at",
                table.name,
            )
            refresh_table(table, [ChangeFile(*file) for file in listed])
            names = {"facts": "id, v, amount", "pairs": "x, y, v", "keyless": "id, v"}[table.name]
            rows = rows_of(table)
            found = [tuple(row.get(name) for name in names.split(", ")) for row in rows]
            wanted = query(postgres, f"SELECT {names} FROM raw_t.{table.name} WHERE NOT _deleted")
            assert sorted(found, key=repr) == sorted(wanted, key=repr), table.name
            assert not any({"_deleted", "_operation", "_committed_at"} & row.keys() for row in rows)

    for statements in (
        [],
        CHANGES,
        [
            "DELETE FROM keyless WHERE id = 7 LIMIT 1",
            "ALTER TABLE pairs ADD z INT",
            "INSERT INTO pairs VALUES (9, '9', 9, 9)",
        ],
        [
            "TRUNCATE keyless",
            "INSERT INTO keyless VALUES (1, 'a'), (1, 'a'), (2, NULL)",
            "DELETE FROM facts WHERE id = 3",
        ],
        ["DELETE FROM keyless WHERE id = 1 LIMIT 1"],
    ):
        run(tables, *statements)
        load_all(SOURCE, tables, postgres, lake)
        refreshed()


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


class _Second:
    """What makes a server the replica of another one, later its successor."""

    def command(self) -> list[str]:
        # Named after its host, as many a server's log is.
        own = {"--server-id": "2", "--log-bin": "2nd-bin"}
        others = [option for option in super().command() if option.partition("=")[0] not in own]  # type: ignore[misc]
        return [*others, *(f"{name}={value}" for name, value in own.items()), "--log-slave-updates"]


class _SecondMariaDB(_Second, MySQL):
    pass


class _SecondRealMySQL(_Second, RealMySQL):
    pass


@pytest.mark.parametrize("product", ["the stack's", "MySQL 9.7"])
def test_another_server_takes_over_by_gtid(
    home: Path, postgres: PostgresConnection, lake: str, product: str
) -> None:
    is_real = product == "MySQL 9.7"
    if is_real:
        try:
            program()
        except Unavailable as reason:
            pytest.skip(str(reason))
    kinds = (RealMySQL, _SecondRealMySQL) if is_real else (MySQL, _SecondMariaDB)
    password = secrets.token_urlsafe(18)
    first, second = (
        kind(home / name, free_port(), password, {"SOFTCART_SHOP": "shop"})
        for kind, name in zip(kinds, ("first", "second"), strict=True)
    )
    try:
        first.up()
        second.up()
        one, two = (
            MySQLConnection("SOFTCART_SHOP", "127.0.0.1", s.port, USER, password, "shop")
            for s in (first, second)
        )
        with two.connect() as connection:
            is_mariadb = "MariaDB" in connection.get_server_info()
            where = (
                f"_HOST = '127.0.0.1', {{0}}_PORT = {first.port}, {{0}}_USER = '{USER}', "
                f"{{0}}_PASSWORD = '{password}'"
            )
            if is_mariadb:
                connection.query(
                    f"CHANGE MASTER TO MASTER{where.format('MASTER')}, MASTER_USE_GTID = slave_pos"
                )
            else:
                options = "SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
                connection.query(
                    f"CHANGE REPLICATION SOURCE TO SOURCE{where.format('SOURCE')}, {options}"
                )
            connection.query("START REPLICA")
        source = source_of(cdc("facts", "id", history=True), cdc("keyless"))
        source = replace(source, totals=(COUNTED,))
        run(
            one,
            "CREATE TABLE facts (id INT PRIMARY KEY, v INT)",
            "CREATE TABLE keyless (v INT)",
            "CREATE TABLE late (id INT PRIMARY KEY)",
        )
        fill(one, "facts", [(n, n) for n in range(1000)])
        load_all(source, one, postgres, lake)
        run(one, "INSERT INTO facts VALUES (1000, 0)", "INSERT INTO keyless VALUES (1), (1)")
        load_all(source, one, postgres, lake)
        run(one, "UPDATE facts SET v = -1 WHERE id < 10", "DELETE FROM keyless LIMIT 1")
        # Of this, raw gets something that the lake does not, as if the reader had been killed
        # between the two.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(changelog.ChangeLog, "list_in", _killed)
            with pytest.raises(KeyboardInterrupt):
                load_all(source, one, postgres, lake)
        assert query(postgres, "SELECT position > lake_position FROM ingestion.streams") == [
            (True,)
        ]
        assert len(raw_rows(postgres, "keyless")) == 1
        until(
            lambda: (
                mysql_rows(two, "facts") == mysql_rows(one, "facts")
                and len(mysql_rows(two, "keyless")) == 1
            )
        )
        first.down()
        run(
            two,
            "STOP REPLICA",
            "DELETE FROM facts WHERE id = 20",
            "INSERT INTO keyless VALUES (2)",
            "INSERT INTO late VALUES (1)",
        )
        results = load_all(source, two, postgres, lake)
        assert results["facts"].position.startswith("~0001 ")
        assert (results["facts"].inserted, results["facts"].updated, results["facts"].deleted) == (
            0,
            10,
            1,
        )
        current = latest_in_lake(in_lake(postgres, lake, "facts"), "id")
        assert sorted((row["id"], row["v"]) for row in current.values()) == raw_rows(
            postgres, "facts"
        )
        keyless = in_lake(postgres, lake, "keyless")
        stated = max(row["_version"] for row in keyless if row["_operation"] is None)
        rows = [(row["v"], row["_deleted"]) for row in keyless if row["_version"] >= stated]
        assert rows == [(1, False), (2, False)]
        for table in results:
            assert raw_rows(postgres, table) == mysql_rows(two, table)
            assert compare(source, postgres, table).is_equal
        assert_counted(two, postgres)
        assert query(postgres, "SELECT count(*) FROM raw_t.facts_history") == [(1012,)]
        assert changed_tables(source, two, loaded_positions(postgres, source)).tables == {}
        run(two, "UPDATE facts SET v = 7 WHERE id = 7")
        since = loaded_positions(postgres, source)
        changes = changed_tables(source, two, since)
        assert set(changes.tables) == {"facts"}
        assert Position.parse(changes.tables["facts"]) > Position.parse(since["facts"])
        # A table that is followed from here on.
        wider = replace(source, tables=(*source.tables, cdc("late", "id")))
        load_all(wider, two, postgres, lake)
        run(two, "INSERT INTO late VALUES (2)")
        load_all(wider, two, postgres, lake)
        assert raw_rows(postgres, "late") == [(1,), (2,)]
        assert raw_rows(postgres, "facts") == mysql_rows(two, "facts")
        assert_counted(two, postgres)
    finally:
        first.down()
        second.down()


@pytest.mark.parametrize("is_alone", [False, True])
def test_another_server_takes_over_while_a_new_table_is_behind(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, is_alone: bool
) -> None:
    run(
        mysql,
        "CREATE TABLE facts (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE late (id INT PRIMARY KEY, v INT)",
    )
    run(
        mysql,
        "INSERT INTO facts VALUES (1, 1), (2, 2)",
        "INSERT INTO late VALUES (1, 1), (2, 2), (3, 3)",
    )
    source = source_of(cdc("facts", "id"), cdc("late", "id"))
    load_all(source, mysql, postgres, lake)
    ((behind,),) = query(postgres, "SELECT position FROM ingestion.streams")
    before = query(postgres, "TABLE raw_t.late")
    run(
        mysql,
        "UPDATE facts SET v = -1 WHERE id = 1",
        "UPDATE late SET v = -1 WHERE id = 1",
        "DELETE FROM late WHERE id = 2",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(changelog.ChangeLog, "list_in", _killed)
        with pytest.raises(KeyboardInterrupt):
            load_all(source, mysql, postgres, lake)
    # As if one table were new, most of its rows copied before a kill; the stream goes back for it,
    # and the server is lost.
    with postgres.connect() as connection:
        connection.execute("DELETE FROM raw_t.late")
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO raw_t.late VALUES (%s, %s, %s, %s, %s, %s)", before)
        ((ahead,),) = connection.execute("SELECT position FROM ingestion.streams").fetchall()
        behind, ahead = Position.parse(behind), Position.parse(ahead)
        assert ahead > behind
        capture(connection, "t", "late", behind, ahead)
        connection.execute("UPDATE ingestion.streams SET server = 'gone', lake_server = 'gone'")
        if is_alone:
            connection.execute(
                "UPDATE ingestion.captures SET state = 'stopped', reason = 'full' WHERE table_name "
                "= 'facts'"
            )
    run(mysql, "INSERT INTO facts VALUES (4, 4)", "INSERT INTO late VALUES (4, 4)")
    if is_alone:
        with pytest.raises(LoadsFailed, match="full"):
            load_all(source, mysql, postgres, lake)
    else:
        load_all(source, mysql, postgres, lake)
    for table in ("late",) if is_alone else ("facts", "late"):
        assert raw_rows(postgres, table) == mysql_rows(mysql, table)
        current = latest_in_lake(in_lake(postgres, lake, table), "id")
        assert sorted((row["id"], row["v"]) for row in current.values()) == raw_rows(
            postgres, table
        )


def test_rows_of_followed_tables_are_counted_only_in_doubt(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log's operations tell the number of rows, but not if some were in quarantine."""
    counted, rows = [], RawTable.rows

    def watched(self: RawTable) -> int:
        counted.append(self.asset)
        return rows(self)

    run(
        mysql,
        "CREATE TABLE days (id INT PRIMARY KEY, d DATE)",
        "INSERT INTO days SELECT seq, '2026-01-01' FROM seq_1_to_10",
    )
    source = source_of(cdc("days", "id"))

    def total() -> int:
        counted.clear()
        found = load_all(source, mysql, postgres, lake)["days"].total
        current = "SELECT count(*) FROM raw_t.days WHERE NOT _deleted"
        assert query(postgres, current) == [(found,)]
        return found

    assert total() == 10
    monkeypatch.setattr(RawTable, "rows", watched)
    run(
        mysql,
        "INSERT INTO days VALUES (11, NULL), (12, NULL)",
        "UPDATE days SET id = 100 WHERE id = 1",
        "DELETE FROM days WHERE id IN (2, 3, 12)",
    )
    assert (total(), counted) == (9, [])
    assert (total(), counted) == (9, [])
    run(mysql, "TRUNCATE days", "INSERT INTO days VALUES (1, NULL), (2, NULL)")
    assert (total(), counted) == (2, [])
    # Never in raw, and then there by an update, or gone by a deletion.
    run(mysql, "SET sql_mode = ''", "INSERT INTO days VALUES (3, '0000-00-00'), (4, '0000-00-00')")
    assert (total(), counted) == (2, ["raw_t/days"])
    run(mysql, "UPDATE days SET d = NULL WHERE id = 3", "DELETE FROM days WHERE id = 4")
    assert (total(), counted) == (3, ["raw_t/days"])
    assert (total(), counted) == (3, [])


def test_rows_read_again_hold_up_nobody_who_meets_their_quarantine(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """A flush of the log waited for the end of the copy if it met an entry."""
    run(
        mysql,
        "SET sql_mode = ''",
        "CREATE TABLE days (id INT PRIMARY KEY, d DATE)",
        "INSERT INTO days VALUES (1, '0000-00-00'), (2, '2026-01-01')",
    )
    source = source_of(cdc("days", "id"))
    load_all(source, mysql, postgres, lake)
    met = []

    def meet(*_: object) -> None:
        with postgres.connect() as other:
            lock = "SELECT key FROM ingestion.quarantine FOR UPDATE NOWAIT"
            met.extend(other.execute(lock).fetchall())

    run(mysql, "SET sql_mode = ''", "INSERT INTO days VALUES (3, '0000-00-00')")
    read_again(Job(source, mysql, postgres, lake, Status("t")), source.tables[0], None, meet)
    assert met == [(["1"],)]
    load_all(source, mysql, postgres, lake)
    assert len(list_quarantine(postgres, "t")) == 2
