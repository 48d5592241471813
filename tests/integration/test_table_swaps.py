"""A table whose name another one takes, as tools for online schema changes do it.

Nearly all rows are those of before. Raw must not look as if they had all gone and come again.
"""

from __future__ import annotations

import threading
import time
from importlib import import_module

import pytest
from support.ingestion import load_all, mysql_rows, query, raw_rows, run, source_of

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import raw_tables
from softcart_assets.ingestion.capture.resnapshot import read_again
from softcart_assets.ingestion.errors import LoadsFailed, TableStale
from softcart_assets.ingestion.raw_tables import raw_tables_held
from tests.integration.test_capture import cdc, in_lake, latest_in_lake, streaming, until

ROWS = 30_000
SWAPS = {
    "gh-ost": ["RENAME TABLE t TO _t_del, _t_gho TO t"],
    "in two steps": ["RENAME TABLE t TO _t_del", "RENAME TABLE _t_gho TO t"],
    "pt-osc, drop_swap": ["DROP TABLE t", "RENAME TABLE _t_gho TO t"],
    "by ALTER": ["ALTER TABLE t RENAME _t_del", "ALTER TABLE _t_gho RENAME t"],
}
COPY = (
    "CREATE TABLE _t_gho LIKE t",
    "ALTER TABLE _t_gho ADD more INT",
    "INSERT INTO _t_gho (id, v) SELECT id, v FROM t",
)
DIFFERENCES = (
    "UPDATE _t_gho SET v = 'changed' WHERE id = 5",
    "DELETE FROM _t_gho WHERE id = 6",
    "INSERT INTO _t_gho VALUES (0, 'new', 7)",
)


@pytest.fixture
def t(mysql: MySQLConnection) -> MySQLConnection:
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(99))",
        f"INSERT INTO t SELECT seq, 'x' FROM seq_1_to_{ROWS}",
    )
    return mysql


def _assert_compared(t: MySQLConnection, postgres: PostgresConnection, lake: str) -> None:
    """Raw is the source, and history and lake got the three differences and no more."""
    assert raw_rows(postgres, "t") == mysql_rows(t, "t")
    versions = query(
        postgres, f"SELECT id, v, more, _deleted FROM raw_t.t_history WHERE _version > {ROWS}"
    )
    assert sorted(versions) == [
        (0, "new", 7, False),
        (5, "changed", None, False),
        (6, "x", None, True),
    ]
    changes = in_lake(postgres, lake, "t")
    assert len(changes) == ROWS + 3
    assert len(latest_in_lake(changes, "id")) == ROWS


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_a_swap_is_a_comparison_in_a_bounded_run(
    t: MySQLConnection, postgres: PostgresConnection, lake: str, swap: list[str]
) -> None:
    """Altinity/clickhouse-sink-connector#184, github/gh-ost#544: the cut-over."""
    source = source_of(cdc("t", "id", history=True))
    load_all(source, t, postgres, lake)
    run(t, *COPY, *DIFFERENCES, *swap)
    result = load_all(source, t, postgres, lake)["t"]
    assert (result.inserted, result.updated, result.deleted) == (1, 1, 1)
    _assert_compared(t, postgres, lake)


@pytest.mark.parametrize("swap", SWAPS.values(), ids=SWAPS)
def test_builds_wait_while_a_stream_compares_a_table_that_was_swapped(
    t: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    swap: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Altinity/clickhouse-sink-connector#184: raw was empty meanwhile, and history tripled."""
    source = source_of(cdc("t", "id", history=True))
    load_all(source, t, postgres, lake)
    may_read, told, seen = threading.Event(), [], []
    # By its name, because the package gives the function `stream` the same one.
    stream = import_module("softcart_assets.ingestion.capture.stream")

    def read_again_later(*arguments: object) -> tuple[int, str]:
        may_read.wait(60)
        return read_again(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(stream, "read_again", read_again_later)
    with streaming(source, t, postgres, lake) as status:
        run(t, *COPY, *DIFFERENCES, *swap)
        until(lambda: (status.tables.get("t") or ("",))[0] == "stale")

        def build() -> None:
            with raw_tables_held(postgres, exclusive=True, tell=told.append, reads=[("t", "t")]):
                seen.append(raw_rows(postgres, "t"))

        building = threading.Thread(target=build)
        building.start()
        until(lambda: told)
        # Somebody who does not ask sees at least all rows.
        with raw_tables_held(postgres, exclusive=True, tell=print):
            assert query(postgres, "SELECT count(*) FROM raw_t.t WHERE NOT _deleted") == [(ROWS,)]
        assert not seen
        may_read.set()
        building.join(60)
        assert not building.is_alive()
        assert seen == [mysql_rows(t, "t")]
        assert told[0] == "Waiting until raw_t/t is compared with its source."
        until(lambda: status.tables["t"][0] == "live")
        run(t, "DELETE FROM t WHERE id = 7")
        until(lambda: raw_rows(postgres, "t") == mysql_rows(t, "t"))
        run(t, "INSERT INTO t VALUES (7, 'x', NULL)")
        until(lambda: raw_rows(postgres, "t") == mysql_rows(t, "t"))
    assert query(postgres, "SELECT count(*) FROM raw_t.t_history") == [(ROWS + 5,)]


def test_a_build_is_refused_if_nobody_compares_the_table(
    t: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = source_of(cdc("t", "id"), cdc("u", "id"))
    run(t, "CREATE TABLE u (id INT PRIMARY KEY)", "INSERT INTO u VALUES (1)")
    load_all(source, t, postgres, lake)
    run(t, "DROP TABLE t", "INSERT INTO u VALUES (2)")
    # The table is not at the source. It keeps its rows, fails by itself, and the other one goes on.
    with pytest.raises(LoadsFailed, match="has no table `t`") as failed:
        load_all(source, t, postgres, lake)
    assert set(failed.value.failures) == {"t"}
    assert query(postgres, "SELECT count(*) FROM raw_t.t WHERE NOT _deleted") == [(ROWS,)]
    assert raw_rows(postgres, "u") == [(1,), (2,)]
    monkeypatch.setattr(raw_tables, "_ALONE_SECONDS", 0.5)
    with pytest.raises(TableStale, match=r"raw_t/t has to be compared .*softcart load t\.t"):
        with raw_tables_held(postgres, exclusive=True, tell=print, reads=[("t", "t"), ("t", "u")]):
            pass
    with raw_tables_held(postgres, exclusive=True, tell=print, reads=[("t", "u")]):
        pass
    with streaming(source, t, postgres, lake) as status:
        until(lambda: status.tables.get("t", ("",))[0] == "missing")
        assert "has no table `t`" in (status.tables["t"][1] or "")
        run(t, "INSERT INTO u VALUES (3)")
        until(lambda: (3,) in raw_rows(postgres, "u"))
        time.sleep(1.2)
        assert status.problem is None
        run(
            t, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(99))", "INSERT INTO t VALUES (3, 'x')"
        )
        until(lambda: status.tables["t"][0] == "live")
    assert raw_rows(postgres, "t") == [(3, "x")]
    load_all(source, t, postgres, lake)


def test_a_table_without_a_key_is_swapped(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(cdc("t"))
    run(mysql, "CREATE TABLE t (v INT)", "INSERT INTO t SELECT seq % 9 FROM seq_1_to_1000")
    load_all(source, mysql, postgres, lake)
    with streaming(source, mysql, postgres, lake) as status:
        run(
            mysql,
            "CREATE TABLE _t_gho LIKE t",
            "INSERT INTO _t_gho SELECT v FROM t",
            "INSERT INTO _t_gho VALUES (4)",
            "RENAME TABLE t TO _t_del, _t_gho TO t",
        )
        seen = set()
        deadline = time.monotonic() + 30
        while len(raw_rows(postgres, "t")) < 1001 and time.monotonic() < deadline:
            seen.add(len(raw_rows(postgres, "t")))
        assert seen <= {1000, 1001}
        until(lambda: status.tables["t"][0] == "live")
    assert raw_rows(postgres, "t") == mysql_rows(mysql, "t")


def test_a_frozen_table_that_is_swapped_for_one_with_other_columns_stops_alone(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(cdc("t", "id", contract="freeze"), cdc("u", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE u (id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1, 1)",
    )
    load_all(source, mysql, postgres, lake)
    with streaming(source, mysql, postgres, lake) as status:
        run(
            mysql,
            "CREATE TABLE t2 (id INT PRIMARY KEY)",
            "RENAME TABLE t TO t1, t2 TO t",
            "INSERT INTO u VALUES (1)",
        )
        until(lambda: status.tables.get("t", ("",))[0] == "stopped")
        assert "'v' was dropped" in (status.tables["t"][1] or "")
        run(mysql, "INSERT INTO u VALUES (2)")
        until(lambda: raw_rows(postgres, "u") == [(1,), (2,)])
    assert raw_rows(postgres, "t") == [(1, 1)]
