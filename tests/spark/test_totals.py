"""Running totals by Spark: whatever happens, they are those of the operational data store."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import fs
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from support.ingestion import load_all, query, run
from support.totals import CHARGES, assert_exact, make_tables, totals_source

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import resnapshot
from softcart_assets.ingestion.sinks.ods import keeping
from softcart_assets.lake import committed_files, compaction, lake_table, refresh
from softcart_assets.lines.model import Source
from softcart_assets.stack.server import free_port
from spark import totals
from spark.totals import TotalsError, compare, counted, prepared, start

REPOSITORY = Path(__file__).parents[2]
SOURCE = totals_source()


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> SparkSession:
    session = prepared(spark)
    session.conf.set("spark.sql.shuffle.partitions", "1")
    return session


@pytest.fixture
def load(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> Callable[..., None]:
    make_tables(mysql)

    def run_and_load(*statements: str, source: Source = SOURCE) -> None:
        run(mysql, *statements)
        load_all(source, mysql, postgres, lake)
        assert_exact(mysql, postgres, source)

    run_and_load()
    return run_and_load


@pytest.fixture
def stream(
    session: SparkSession, postgres: PostgresConnection, lake: str
) -> Callable[..., dict[str, int]]:
    """Count what is new, and compare with `ods`. Returns the rows of each total."""

    def count(*tables: str, source: Source = SOURCE) -> dict[str, int]:
        with postgres.connect() as connection:
            found = counted(connection, source, lake)
        rows = {}
        for table in found:
            if tables and table.table not in tables:
                continue
            start(session, postgres, table, None).awaitTermination()
            with postgres.connect() as connection:
                for total in keeping.totals_of(connection, source, table.table):
                    rows[total.name], differing = compare(connection, total)
                    assert differing == 0, total.name
        return rows

    return count


def call(id: int, event: str, subscriber: object, at: str, seconds: int, way: str = "out") -> str:
    return f"({id}, {event}, '{way}', {subscriber}, '{at}', {seconds})"


def calls(*rows: str) -> str:
    return f"INSERT INTO calls VALUES {', '.join(rows)}"


def test_updates_deletes_and_corrections(load, stream) -> None:
    """An event counts once, whichever of its rows goes: the one with the smallest key counts, and
    9 is smaller than 10.
    """
    load(
        calls(
            call(1, "'a'", 7, "2026-03-01 10:14:59.999999", 60),
            call(2, "'b'", 7, "2026-03-01 10:15:00", 30),
            call(3, "'c'", 8, "1969-12-31 23:59:59.999999", 5, "in"),
            call(4, "'d'", "NULL", "2026-03-01 10:15:00", 5),
            call(5, "NULL", 7, "2026-03-01 10:15:00", 5),
            call(6, "NULL", 7, "2026-03-01 10:15:00", 5),
            call(9, "'e'", 7, "2026-03-01", 61),
            call(10, "'e'", 7, "2026-03-01", 62),
            call(11, "'e'", 7, "2026-03-01", 63),
            call(12, "'f'", 7, "2026-03-01", 1),
        ),
        "INSERT INTO charges VALUES (1, 7, 9.99, 'EUR', '2026-03-01'),"
        " (2, 7, 0.01, 'USD', '2026-03-02'), (3, 7, -9.99, NULL, NULL)",
        "INSERT INTO invoices VALUES (1, 5, 20.00, 'EUR', 'open'), (2, 5, 1.5, NULL, 'paid')",
    )
    assert stream() == {"calls_out": 4, "charged": 5, "unpaid": 1}
    # Each part of what a row adds: the filter, the key, the time, the measure, and all at once.
    load("UPDATE calls SET direction = 'out' WHERE id = 3")
    load("UPDATE calls SET subscriber_id = 8 WHERE id = 2")
    load("UPDATE calls SET started_at = '2026-04-01', seconds = NULL WHERE id = 1")
    load("UPDATE calls SET id = 50, subscriber_id = 9, seconds = 3, started_at = NULL WHERE id=2")
    load("UPDATE invoices SET state = 'paid' WHERE id = 1", "UPDATE charges SET currency = 'CHF'")
    load("DELETE FROM charges WHERE id = 1", "DELETE FROM calls WHERE id IN (5, 9)")
    load("UPDATE invoices SET state = 'overdue', account_id = 6", "DELETE FROM calls WHERE id = 6")
    load(calls(call(6, "NULL", 7, "2026-03-01 10:15:00", 5)), "TRUNCATE charges")
    # A row leaves its event, and comes to another one, or to none.
    load("UPDATE calls SET event_id = 'f' WHERE id = 10")
    load("UPDATE calls SET event_id = NULL WHERE id = 12")
    stream()


def test_loads_of_whole_tables_and_files_that_became_one(
    load,
    stream,
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compaction, "COMPACT_FROM_FILES", 2)

    def refresh_lake() -> None:
        table = lake_table(SOURCE, SOURCE.table("calls"), lake)
        with postgres.connect() as connection:
            files = committed_files(connection, "t")["calls"]
        assert refresh(postgres, SOURCE, table, files).compacted > 1

    load(calls(*(call(n, f"'{n % 7}'", n % 3, "2026-03-01", n) for n in range(1, 30))))
    load("DELETE FROM calls WHERE id < 5", "UPDATE calls SET seconds = 1000 WHERE id = 7")
    stream("calls")
    load("DELETE FROM calls WHERE id = 7", calls(call(3, "'3'", 1, "2026-03-02", 1)))
    # What Spark has counted and what it has not become one file.
    refresh_lake()
    stream("calls")
    # Rows that changed without a trace in the log are found by reading the table again.
    with mysql.connect() as connection:
        connection.query("SET SESSION sql_log_bin = 0")
        connection.query("DELETE FROM calls WHERE id IN (8, 9, 10)")
        connection.query("UPDATE calls SET seconds = 77 WHERE id = 11")
        connection.commit()
    resnapshot(SOURCE, mysql, postgres, lake, "calls")
    load()
    stream("calls")


@contextmanager
def breaking(monkeypatch: pytest.MonkeyPatch, *, after_commit: bool) -> Iterator[None]:
    """Batches fail, before or after they count."""
    write = totals._Sink._write

    def fail(sink, connection, batch, number: int) -> None:  # type: ignore[no-untyped-def]
        write(sink, connection, batch, number)
        if after_commit:
            connection.commit()
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(totals._Sink, "_write", fail)
        yield


def test_a_batch_counts_once(
    load, stream, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if its files were compacted before it was repeated."""
    monkeypatch.setattr(compaction, "COMPACT_FROM_FILES", 2)
    for number, after_commit in enumerate((True, False), start=1):
        load(calls(call(number, f"'{number}'", 7, "2026-03-01", 10)))
        load(f"UPDATE calls SET seconds = seconds + {number}")
        with (
            breaking(monkeypatch, after_commit=after_commit),
            pytest.raises(StreamingQueryException, match="broken"),
        ):
            stream("calls")
        if not after_commit:
            table = lake_table(SOURCE, SOURCE.table("calls"), lake)
            with postgres.connect() as connection:
                files = committed_files(connection, "t")["calls"]
            assert refresh(postgres, SOURCE, table, files).compacted > 1
        assert stream("calls") == {"calls_out": 2}


def test_checkpoint_and_warehouse_that_do_not_fit(
    load, stream, postgres: PostgresConnection, lake: str
) -> None:
    load(calls(call(1, "'a'", 7, "2026-03-01", 10)))
    stream("calls")
    with postgres.connect() as connection:
        connection.execute("DELETE FROM ods._spark_batches")
        connection.execute("DROP SCHEMA ods_spark CASCADE")
    load(calls(call(2, "'b'", 7, "2026-03-01", 10)))
    with pytest.raises(StreamingQueryException, match="The warehouse was set back"):
        stream("calls")
    # Another declaration is counted from the beginning.
    longer = replace(SOURCE.totals[0], measures={"calls": "*"})
    source = totals_source(totals=(longer, *SOURCE.totals[1:]))
    load(calls(call(4, "'d'", 7, "2026-03-01", 10)), source=source)
    assert stream("calls", source=source) == {"calls_out": 2}
    # Also if it comes back. Of the others nothing stays in the lake.
    load(calls(call(5, "'e'", 7, "2026-03-01", 10)))
    assert stream("calls") == {"calls_out": 2}
    with postgres.connect() as connection:
        table = next(each for each in counted(connection, SOURCE, lake) if each.table == "calls")
    parent = table.folder.rpartition("/")[0]
    left = [each.path for each in table.lake.store.get_file_info(fs.FileSelector(parent))]
    assert [path for path in left if "/calls-" in path] == [table.folder]


@pytest.fixture
def at_home(postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job finds the test's warehouse and lake."""
    monkeypatch.setattr(totals, "staging", lambda: postgres)
    monkeypatch.setattr(totals, "lake_uri", lambda: lake)


def test_only_what_has_the_same_changes_is_compared(
    load, session: SparkSession, postgres: PostgresConnection, at_home: None, capsys
) -> None:
    """A stream lists its files in the lake once a minute, and `ods` goes on meanwhile."""
    load(calls(call(1, "'a'", 7, "2026-03-01", 10)))
    with postgres.connect() as connection:
        connection.execute("CREATE SCHEMA ods_spark")
        connection.execute("CREATE TABLE ods_spark.gone ()")
    assert totals._run(session, [SOURCE], None) == 0
    assert "ods_spark.calls_out: 2 rows, as in ods" in capsys.readouterr().out
    assert query(postgres, "SELECT to_regclass('ods_spark.gone')") == [(None,)]
    with postgres.connect() as connection:
        connection.execute("UPDATE ods.calls_out SET seconds = seconds + 1")
        connection.execute("UPDATE ingestion.streams SET lake_position = 'x' || position")
    assert totals._run(session, [SOURCE], None) == 0
    assert "ods_spark.calls_out: 2 rows, not compared" in capsys.readouterr().out
    with postgres.connect() as connection:
        connection.execute("UPDATE ingestion.streams SET lake_position = position")
    assert totals._run(session, [SOURCE], None) == 1
    assert "ods_spark.calls_out: 2 rows, 2 rows differ from ods" in capsys.readouterr().out


def test_tables_that_are_not_in_the_lake_are_named_and_taken_up_later(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    spark: SparkSession,
    at_home: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    make_tables(mysql)
    own = prepared(spark)
    own.conf.set("spark.sql.shuffle.partitions", "1")
    with pytest.raises(TotalsError, match=r"t\.calls, t\.charges, t\.invoices.*softcart load"):
        totals._run(own, [SOURCE], 1.0)
    run(mysql, calls(call(1, "'a'", 7, "2026-03-01", 10)))
    load_all(SOURCE, mysql, postgres, lake, ["calls"])
    monkeypatch.setattr(totals, "_LOOK_SECONDS", 1)
    results: list[int] = []
    job = threading.Thread(target=lambda: results.append(totals._run(own, [SOURCE], 1.0)))
    job.start()
    try:
        load_all(SOURCE, mysql, postgres, lake)
        deadline = time.monotonic() + 60
        while len(own.streams.active) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert {each.name for each in own.streams.active} == {"t.calls", "t.charges", "t.invoices"}
    finally:
        for each in own.streams.active:
            each.stop()
        job.join()
    assert results == [0]
    assert "t.charges: not in the lake yet" in capsys.readouterr().err


def test_what_spark_cannot_add_up_is_refused(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """The operational data store refuses it, too."""
    make_tables(mysql)
    run(
        mysql,
        "ALTER TABLE charges MODIFY amount DOUBLE",
        "INSERT INTO charges VALUES (1, 7, 9.5, 'EUR', '2026-03-01')",
    )
    load_all(totals_source(totals=()), mysql, postgres, lake)
    with (
        postgres.connect() as connection,
        pytest.raises(TotalsError, match="'amount' of the total 'charged' exactly"),
    ):
        counted(connection, totals_source(totals=(CHARGES,)), lake)


def test_a_standalone_cluster(
    load, mysql: MySQLConnection, postgres: PostgresConnection, lake: str, tmp_path: Path
) -> None:
    """A job in a process of its own, with a master and two workers. Each worker has an executor."""
    load(
        calls(*(call(n, f"'{n % 50}'", n % 3, "2026-03-01", n) for n in range(1, 200))),
        "INSERT INTO charges VALUES (1, 7, 9.99, 'EUR', '2026-03-01')",
        "INSERT INTO invoices VALUES (1, 5, 20.00, 'EUR', 'open')",
    )
    program = (
        "import sys\n"
        "from support.totals import totals_source\n"
        "from spark.totals import main\n"
        "sys.exit(main([totals_source()], ['--partitions', '2']))\n"
    )
    port = free_port()
    environment = os.environ | {
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}",
        "PYSPARK_PYTHON": sys.executable,
        "SOFTCART_SPARK_MASTER": f"spark://127.0.0.1:{port}",
        "SOFTCART_LAKE_URI": lake,
        "SOFTCART_STAGING_DATABASE": postgres.database,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
    }
    deploy, address = "org.apache.spark.deploy", f"spark://127.0.0.1:{port}"
    here = ["--host", "127.0.0.1", "--webui-port", "0"]
    room = ["--cores", "1", "--memory", "1g", "--work-dir", str(tmp_path / "work")]
    worker = [f"{deploy}.worker.Worker", *here, *room, address]
    daemons = {
        "master": [f"{deploy}.master.Master", *here, "--port", str(port)],
        "worker_1": worker,
        "worker_2": worker,
    }
    started = []
    try:
        for name, arguments in daemons.items():
            with (tmp_path / f"{name}.log").open("w") as log:
                command = [str(Path(sys.executable).parent / "spark-class"), *arguments]
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
        finished = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(30)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-3000:]
    assert {each.name for each in (tmp_path / "work").glob("app-*/*")} == {"0", "1"}
    assert "ods_spark.calls_out: 6 rows, as in ods" in finished.stdout
    assert query(postgres, "SELECT sum(_rows) FROM ods_spark.calls_out WHERE bucket='-infinity'")
