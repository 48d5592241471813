"""Loads that are killed, cut off or run out of disk: nothing is lost, nothing doubled, and the next
load repairs.
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection, ServerUnreachable
from softcart_assets.ingestion.errors import LoadsFailed, SourceLost, TargetFailed
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.ingestion.proof.verify import compare
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

SOURCE = source_of(
    incremental("steps", "id", history=True),
    snapshot("whole", "id", history=True),
    snapshot("keyless"),
)
ROWS = 3000
START = datetime(2026, 1, 1)


@pytest.fixture
def tables(mysql: MySQLConnection) -> MySQLConnection:
    columns = (
        "id INT {}, v VARCHAR(1000), updated_at DATETIME(6) NOT NULL DEFAULT "
        "CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"
    )
    for table in ("steps", "whole", "keyless"):
        run(
            mysql,
            f"CREATE TABLE {table} ({columns.format('' if table == 'keyless' else 'PRIMARY KEY')})",
        )
        fill(mysql, table, ((n, f"row {n}", START + timedelta(seconds=n)) for n in range(ROWS)))
    return mysql


def _in_child(work: Callable[[], object]) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str, seed: int
) -> None:
    """Kill the loading process again and again while the source changes; the load after the last
    kill makes all equal.
    """
    dice = random.Random(seed)
    started = time.monotonic()
    _in_child(lambda: load_all(SOURCE, tables, postgres, lake)).join()
    duration = time.monotonic() - started
    kills = 0
    while kills < 15:
        for table in ("steps", "whole", "keyless"):
            victims = ", ".join(str(dice.randrange(ROWS * 2)) for _ in range(60))
            run(
                tables,
                f"UPDATE {table} SET v = CONCAT('changed ', {dice.random()}) WHERE id IN "
                f"({victims})",
                f"DELETE FROM {table} WHERE id IN "
                f"({', '.join(str(dice.randrange(ROWS)) for _ in range(9))})",
                f"INSERT IGNORE INTO {table} (id, v) VALUES ({dice.randrange(ROWS * 2)}, 'new')",
            )
        process = _in_child(lambda: load_all(SOURCE, tables, postgres, lake))
        process.join(dice.uniform(0, duration))
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            kills += 1
        else:
            assert process.exitcode == 0, f"seed {seed}"
            duration *= 0.9
    load_all(SOURCE, tables, postgres, lake)
    root = Path(lake.removeprefix("file://"))
    for table in ("steps", "whole", "keyless"):
        assert sorted(raw_rows(postgres, table)) == sorted(mysql_rows(tables, table)), (
            f"seed {seed}, table {table}"
        )
        assert compare(SOURCE, postgres, table).is_equal
        listed = {
            path
            for (path,) in query(
                postgres, "SELECT path FROM ingestion.lake_files WHERE table_name = %s", table
            )
        }
        found = {
            str(path.relative_to(root))
            for path in (root / "changes" / "t" / table).rglob("*.parquet")
        }
        assert found == listed, f"seed {seed}"
        if table == "keyless":
            continue
        raw = query(postgres, f"SELECT id, v, updated_at, _deleted FROM raw_t.{table} ORDER BY id")
        newest = (
            f"SELECT DISTINCT ON (id) id, v, updated_at, _deleted FROM raw_t.{table}_history "
            "ORDER BY id, _version DESC"
        )
        assert query(postgres, newest) == raw, f"seed {seed}"
        repeated = query(
            postgres,
            "SELECT count(*) FROM (SELECT (v, updated_at, _deleted) IS NOT DISTINCT FROM lag((v, "
            "updated_at, _deleted))"
            f" OVER (PARTITION BY id ORDER BY _version) AS same FROM raw_t.{table}_history) h "
            "WHERE same",
        )
        assert repeated == [(0,)], f"seed {seed}"
        in_lake = (
            ds.dataset([str(root / path) for path in listed])
            .to_table()
            .sort_by("_version")
            .to_pylist()
        )
        latest = {
            row["id"]: (
                row["id"],
                row["v"],
                row["updated_at"].replace(tzinfo=None),
                row["_deleted"],
            )
            for row in in_lake
        }
        assert sorted(latest.values()) == raw, f"seed {seed}"
        versions = query(postgres, f"SELECT count(*) FROM raw_t.{table}_history")[0][0]
        assert len(in_lake) == versions, f"seed {seed}"
    assert query(postgres, "SELECT count(*) FROM ingestion.attempts") == [(0,)]


@pytest.mark.parametrize("is_source", [True, False])
def test_a_connection_lost_in_the_middle(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str, is_source: bool
) -> None:
    load_all(SOURCE, tables, postgres, lake)
    before = query(postgres, "SELECT table_name, position FROM ingestion.positions ORDER BY 1")
    fill(tables, "whole (id, v)", ((n, "x" * 1000) for n in range(10_000, 45_000)))

    def cut(table: str, rows: int, expected: int | None) -> None:
        if is_source:
            with tables.connect() as connection, connection.cursor() as cursor:
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT%%FROM "
                    "`whole`' AND db = %s",
                    (tables.database,),
                )
                for (thread,) in cursor.fetchall():
                    connection.query(f"KILL {thread}")
        else:
            query(
                postgres,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
                "current_database()"
                " AND application_name LIKE '%%raw_t/whole'",
            )

    with pytest.raises(LoadsFailed, match=r"[rR]un the load again") as failed:
        load_all(SOURCE, tables, postgres, lake, tables=["whole"], on_progress=cut)
    assert isinstance(failed.value.failures["whole"], SourceLost if is_source else TargetFailed)
    assert (
        query(postgres, "SELECT table_name, position FROM ingestion.positions ORDER BY 1") == before
    )
    load_all(SOURCE, tables, postgres, lake)
    assert raw_rows(postgres, "whole") == mysql_rows(tables, "whole")


def test_a_full_disk_under_the_lake(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Files of this process may not grow past 4 kB: the lake's own do, and the load fails as on a
    full disk.
    """

    def load_with_little_room(results) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            load_all(SOURCE, tables, postgres, lake, tables=["steps"])
        except LoadsFailed as failed:
            error = failed.failures["steps"]
            results.put((type(error), str(error)))

    results = multiprocessing.get_context("fork").SimpleQueue()
    process = _in_child(lambda: load_with_little_room(results))
    kind, message = results.get()
    process.join()
    assert kind is TargetFailed
    assert "SOFTCART_LAKE_URI" in message
    assert "File too large" in message
    assert query(postgres, "SELECT count(*) FROM ingestion.positions") == [(0,)]
    assert query(postgres, "SELECT to_regclass('raw_t.steps')") == [(None,)]
    assert not list(Path(lake.removeprefix("file://")).rglob("*.parquet"))
    load_all(SOURCE, tables, postgres, lake)
    assert compare(SOURCE, postgres, "steps").is_equal


def test_servers_that_do_not_answer(
    tables: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    for source, target, names in (
        (replace(tables, port=1), postgres, f"{tables.prefix}_HOST"),
        (
            replace(tables, password="wrong"),
            postgres,
            f"{tables.prefix}_HOST, _PORT, _USER, _PASSWORD",
        ),
        (tables, replace(postgres, port=1), "SOFTCART_STAGING_HOST"),
    ):
        with pytest.raises(ServerUnreachable, match=names) as error:
            list(load(LoadRequest(SOURCE, source, target, lake)))
        assert "wrong" not in str(error.value)
        assert tables.password not in str(error.value)
