"""A stream and the building of models: while models are built, raw stands still and the lake has
all of it.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pyarrow.dataset as pads

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.raw_tables import RawState, raw_tables_held
from softcart_assets.lake import committed_files
from tests.integration.test_capture import cdc, in_lake, latest_in_lake, streaming, until
from tests.support.ingestion import load_all, query, run, source_of


def test_a_stream_stands_still_while_models_are_built(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
) -> None:
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    source = source_of(cdc("t", "id"))
    load_all(source, mysql, postgres, lake)
    with streaming(source, mysql, postgres, lake):
        run(mysql, "UPDATE t SET v = 20 WHERE id = 2")
        until(lambda: query(postgres, "SELECT v FROM raw_t.t WHERE id = 2") == [(20,)])
        with raw_tables_held(postgres, exclusive=True, tell=print):
            run(mysql, "INSERT INTO t VALUES (3, 3)")
            time.sleep(2)
            assert query(postgres, "SELECT id, v FROM raw_t.t ORDER BY id") == [(1, 1), (2, 20)]
            latest = latest_in_lake(in_lake(postgres, lake, "t"), "id")
            assert {key: row["v"] for key, row in latest.items()} == {(1,): 1, (2,): 20}
        until(lambda: query(postgres, "SELECT count(*) FROM raw_t.t") == [(3,)])


def test_all_steps_of_a_run_see_one_state_of_raw_while_a_stream_follows_its_source(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Between the steps for models and for the lake, the stream changed raw. The totals of the
    lake were others than those of the star schema.
    """
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    source = source_of(cdc("t", "id"))
    load_all(source, mysql, postgres, lake)
    reads = {("t", "t")}
    with streaming(source, mysql, postgres, lake), closing(RawState(postgres)) as raw:
        run(mysql, "INSERT INTO t VALUES (2, 2)")
        until(lambda: query(postgres, "SELECT count(*) FROM raw_t.t") == [(2,)])
        with raw.building(reads, print, is_last=False):
            run(mysql, "INSERT INTO t VALUES (3, 3)")
        time.sleep(2)
        with raw.building(reads, print, is_last=False):
            assert query(postgres, "SELECT count(*) FROM raw_t.t") == [(2,)]
        with raw.moment(source, ["t"], print) as session:
            # It goes on as soon as the lake has its moment.
            until(lambda: query(postgres, "SELECT count(*) FROM raw_t.t") == [(3,)])
            assert session.execute("SELECT count(*) FROM raw_t.t").fetchall() == [(2,)]
            files = [file.path for file in committed_files(session, source.name)["t"]]
        in_files = pads.dataset([f"{lake.removeprefix('file://')}/{path}" for path in files])
        assert sorted(in_files.to_table(["id"])["id"].to_pylist()) == [1, 2]
        # So does the lake of another source in this run.
        with raw.moment(source, ["t"], print) as session:
            assert session.execute("SELECT count(*) FROM raw_t.t").fetchall() == [(2,)]


def test_a_load_of_the_same_run_does_not_wait_for_what_the_run_has_built(
    postgres: PostgresConnection,
) -> None:
    with closing(RawState(postgres)) as raw:
        with raw.building((), print, is_last=False):
            pass
        with raw.loading(print):
            pass


def test_one_run_at_a_time_builds_and_loads_go_on(postgres: PostgresConnection) -> None:
    """Dagster's pool does not stop a run of the command line. Two refreshes of a lake table at the
    same time would delete each other's files.
    """
    source = source_of(cdc("t", "id"))
    told: list[str] = []
    began = threading.Event()

    def build() -> None:
        with closing(RawState(postgres)) as second, second.moment(source, [], told.append):
            began.set()

    with closing(RawState(postgres)) as first:
        with first.moment(source, [], print):
            other = threading.Thread(target=build)
            other.start()
            until(lambda: told)
        # The lake may still be written, so the other one waits. A load does not.
        with raw_tables_held(postgres, exclusive=False, tell=print):
            assert not began.wait(1)
    other.join(30)
    assert began.is_set()
    assert "'softcart build " in told[0]
