"""Change data capture on real servers: what the log brings is what the source has, whatever happens on the way."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import MySQLdb
import pyarrow.dataset as ds
import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import (
    LoadsFailed,
    TableBusy,
    changed_tables,
    compare,
    list_quarantine,
    loaded_positions,
    replay,
)
from softcart_assets.ingestion.capture import Status, reading, resnapshot, stream
from softcart_assets.ingestion.errors import PositionPurged
from softcart_assets.sources.model import Source, Table
from tests.support.ingestion import fill, load_all, mysql_rows, query, raw_rows, run, source_of


def cdc(name: str, *key: str, history: bool = False, contract: str = "evolve") -> Table:
    return Table(name, "", key, "cdc", {}, history=history, contract=contract)  # type: ignore[arg-type]


SOURCE = source_of(cdc("facts", "id", history=True), cdc("keyless"), cdc("pairs", "x", "y"))


@pytest.fixture
def tables(mysql: MySQLConnection) -> MySQLConnection:
    run(
        mysql,
        "CREATE TABLE facts (id INT PRIMARY KEY, v VARCHAR(100), at DATETIME(6), amount DECIMAL(10,2))",
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


def in_lake(postgres: PostgresConnection, lake: str, table: str) -> list[dict]:
    """The rows of the lake's listed files, in their order."""
    paths = query(
        postgres, "SELECT path FROM ingestion.lake_files WHERE table_name = %s ORDER BY loaded_at, length(path), path", table
    )
    root = Path(lake.removeprefix("file://"))
    rows = [row for (path,) in paths for row in ds.dataset(root / path).to_table().to_pylist()]
    return sorted(rows, key=lambda row: row["_loaded_at"])


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


def test_bounded_runs_bring_every_change_once(tables: MySQLConnection, postgres: PostgresConnection, lake: str) -> None:
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
    assert (result.strategy, result.inserted, result.updated, result.deleted, result.total) == ("cdc", 2, 10, 11, 91)
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
    times = query(postgres, "SELECT bool_and((_committed_at IS NULL) = (_version <= 100)) FROM raw_t.facts_history")
    assert times == [(True,)]
    # The lake has the same versions, with operation and position, and its last ones are the source's rows.
    changes = in_lake(postgres, lake, "facts")
    assert len(changes) == 123
    operations = [row.get("_operation") for row in changes]
    assert [operations.count(each) for each in (None, "insert", "update", "delete")] == [100, 2, 10, 11]
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
            except MySQLdb.OperationalError:  # a deadlock, which rolled all back
                connection.rollback()


def _statement(dice: random.Random) -> str:
    one, other = dice.randrange(3000), dice.randrange(3000)
    return dice.choice(
        (
            f"REPLACE INTO facts VALUES ({one}, 'v{dice.random()}', NOW(6), {dice.randrange(9999)} / 100)",
            f"UPDATE IGNORE facts SET v = 'u{dice.random()}', id = {other} WHERE id = {one}",
            f"UPDATE facts SET amount = amount + 1 WHERE id BETWEEN {one} AND {one + 20}",
            f"DELETE FROM facts WHERE id BETWEEN {one} AND {one + 3}",
            f"INSERT INTO keyless VALUES ({one % 7}, {dice.choice(['NULL', '1'])})",
            f"DELETE FROM keyless WHERE id = {one % 7} LIMIT 1",
            f"INSERT INTO pairs VALUES ({one % 50}, '{other % 50}', 1) ON DUPLICATE KEY UPDATE v = v + 1",
        )
    )


@contextmanager
def writers(mysql: MySQLConnection, count: int = 2) -> Iterator[None]:
    stopped = threading.Event()
    threads = [threading.Thread(target=_write, args=(mysql, seed, stopped)) for seed in range(count)]
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
            process = multiprocessing.get_context("fork").Process(target=load_all, args=(SOURCE, tables, postgres, lake))
            process.start()
            process.join(dice.uniform(0.1, 1.5))
            kills += process.is_alive()
            process.kill()
            process.join()
    load_all(SOURCE, tables, postgres, lake)
    assert_equal(tables, postgres)
    assert all(compare(SOURCE, postgres, table.name).is_equal for table in SOURCE.tables)
    _assert_history_and_lake(tables, postgres, lake)


def _assert_history_and_lake(tables: MySQLConnection, postgres: PostgresConnection, lake: str) -> None:
    raw = query(postgres, "SELECT id, v, at, amount, _deleted FROM raw_t.facts ORDER BY id")
    newest = (
        "SELECT DISTINCT ON (id) id, v, at, amount, _deleted FROM raw_t.facts_history ORDER BY id, _version DESC"
    )
    assert query(postgres, newest) == raw
    repeated = (
        "SELECT count(*) FROM (SELECT (v, at, amount, _deleted) IS NOT DISTINCT FROM lag((v, at, amount, _deleted))"
        " OVER (PARTITION BY id ORDER BY _version) AS same FROM raw_t.facts_history) h WHERE same"
    )
    assert query(postgres, repeated) == [(0,)]
    current = latest_in_lake(in_lake(postgres, lake, "facts"), "id")
    assert {(r["id"], r["v"], r["amount"]) for r in current.values()} == {(i, v, a) for i, v, _, a, d in raw if not d}
    root = Path(lake.removeprefix("file://"))
    listed = {path for (path,) in query(postgres, "SELECT path FROM ingestion.lake_files")}
    assert {str(path.relative_to(root)) for path in root.rglob("*.parquet")} == listed


def test_a_stream_gives_way_to_a_bounded_run_and_to_nobody_else(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    with streaming(SOURCE, tables, postgres, lake) as status:
        with writers(tables):
            time.sleep(1)
            with pytest.raises(TableBusy, match="softcart stream t .*stop that one"):
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
