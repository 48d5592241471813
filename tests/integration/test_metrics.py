"""The metrics and alerts of a stream at work, and of one that has ended."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from softcart_assets.alerts.problem import Problem
from softcart_assets.alerts.streams import stream_problems
from softcart_assets.connections import MySQLConnection, PostgresConnection, SettingError
from softcart_assets.ingestion.capture.job import Status
from softcart_assets.ingestion.capture.metrics import served
from softcart_assets.ingestion.capture.stream import stream
from softcart_assets.lines.model import Table
from tests.support.ingestion import query, run, source_of

Samples = dict[tuple[str, tuple[str, ...]], float]


def _scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (
            sample.name,
            tuple(value for name, value in sorted(sample.labels.items()) if name != "source"),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def _causes(problems: list[Problem]) -> list[str]:
    return [problem.cause for problem in problems]


def test_a_stream_at_work_tells_its_figures(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(
        mysql,
        "CREATE TABLE things (id INT PRIMARY KEY, day DATE)",
        "SET sql_mode = ''",
        "INSERT INTO things VALUES (1, NULL), (2, '0000-00-00')",
    )
    source = source_of(Table("things", "", ("id",), "cdc", ()))
    status, stopped = Status("t"), threading.Event()
    follower = threading.Thread(
        target=stream,
        args=(source, mysql, postgres, lake),
        kwargs={"status": status, "stopped": stopped},
    )
    with served(status, 0) as port:
        follower.start()
        try:
            _until(lambda: "things" in status.tables)
            run(
                mysql,
                "INSERT INTO things VALUES (3, NULL), (4, NULL), (5, NULL)",
                "UPDATE things SET day = '2026-01-01' WHERE id = 3",
                "DELETE FROM things WHERE id IN (4, 5)",
            )
            _until(lambda: sum(status.changes.values()) >= 6 and status.lag_bytes is not None)
            found = _scrape(port)
            assert stream_problems([source], postgres) == []
            later = datetime.now(UTC) + timedelta(minutes=30)
            assert _causes(stream_problems([source], postgres, later)) == ["stream:t:lag"]
        finally:
            stopped.set()
            follower.join()
        assert query(postgres, "SELECT count(*) FROM raw_t.things WHERE NOT _deleted") == [(2,)]
        assert _causes(stream_problems([source], postgres)) == ["stream:t"]
        with postgres.connect() as connection:
            connection.execute("UPDATE ingestion.captures SET state = 'stopped', reason = 'frozen'")
        [problem] = stream_problems([], postgres)
        assert problem.text == "t.things stopped: frozen"
        changes = "softcart_stream_changes_total"
        assert [
            found[changes, (operation, "things")] for operation in ("insert", "update", "delete")
        ] == [3, 1, 2]
        assert found["softcart_stream_up", ()] == 1
        assert found["softcart_stream_lag_seconds", ()] < 60
        assert found["softcart_stream_lag_bytes", ()] == 0
        assert found["softcart_stream_reconnects_total", ()] == 0
        assert (
            abs(
                found["softcart_stream_last_commit_timestamp_seconds", ()]
                - datetime.now(UTC).timestamp()
            )
            < 60
        )
        assert found["softcart_stream_position_info", (status.position,)] == 1
        flushes = found["softcart_stream_flush_seconds_count", ()]
        assert flushes == status.flushes >= 1
        assert found["softcart_stream_flush_seconds_bucket", ("+Inf",)] == flushes
        assert 0 < found["softcart_stream_flush_seconds_sum", ()] < 60
        assert found["softcart_quarantined_rows", ("things",)] == 1
        assert found["softcart_table_state", ("live", "things")] == 1
        assert found["softcart_table_state", ("stopped", "things")] == 0
        assert found["process_resident_memory_bytes", ()] > 1_000_000


def test_figures_of_a_stream_in_trouble() -> None:
    status = Status("t", problem="MySQL is gone", tables={"a": ("stopped", "its columns changed")})
    with served(status, 0) as port:
        found = _scrape(port)
        with pytest.raises(SettingError, match=f"port {port}"):
            with served(status, port):
                pass
    assert found["softcart_stream_up", ()] == 0
    assert found["softcart_table_state", ("stopped", "a")] == 1
    assert ("softcart_stream_lag_bytes", ()) not in found
    assert ("softcart_stream_last_commit_timestamp_seconds", ()) not in found
