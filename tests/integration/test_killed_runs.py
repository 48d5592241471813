"""Runs whose processes are killed: they fail at once, and leave nothing behind that goes on."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from softcart_assets.connections import PostgresConnection
from softcart_assets.run_processes import GONE, fail_dead_runs

DEFINITIONS = """
import time
import dagster as dg
from softcart_assets.run_processes import noted_in_process_executor

@dg.asset
def long() -> None:
    time.sleep(300)

@dg.asset
def short() -> None:
    pass

defs = dg.Definitions([long, short], executor=noted_in_process_executor)
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the launcher of ours, and nothing else of the stack's."""
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "run_launcher: {module: softcart_assets.run_processes, class: WatchingLauncher}\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.get() as instance:
        yield instance


def _materialize(home: Path, asset: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize"),
            *("--select", asset, "-f", str(home / "definitions.py")),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "too late"
        time.sleep(0.1)


def test_a_run_of_the_command_line_fails_when_its_process_is_killed(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    """It stayed STARTED, and runs that share a pool with it waited for up to six hours."""
    assert _materialize(tmp_path, "short").wait(60) == 0
    process = _materialize(tmp_path, "long")

    def run() -> dg.DagsterRun | None:
        found = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        return found[0] if found and (tmp_path / "runs" / found[0].run_id).exists() else None

    try:
        _until(run)
        found = run()
        assert found
        fail_dead_runs(instance)
        assert run(), "its process is alive"
        assert instance.run_launcher.supports_check_run_worker_health
        launcher = instance.run_launcher
        assert launcher.check_run_worker_health(found).status == WorkerStatus.RUNNING
    finally:
        process.kill()
        process.wait()
    health = launcher.check_run_worker_health(found)
    assert (health.status, health.msg) == (WorkerStatus.FAILED, GONE)
    record = instance.get_run_record_by_id(found.run_id)
    assert record
    # What Dagster's daemon does every few seconds, see `dagster.yaml`.
    monitor_started_run(instance, None, record, logging.getLogger())  # type: ignore[arg-type]
    failed = instance.get_run_by_id(found.run_id)
    assert failed
    assert failed.status == dg.DagsterRunStatus.FAILURE
    fail_dead_runs(instance)
    assert list((tmp_path / "runs").iterdir()) == []
    assert {each.status for each in instance.get_runs()} == {
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.SUCCESS,
    }


BUILDS_FOR_LONG = """
import sys
from pathlib import Path
import dagster as dg
from softcart_assets.components.dbt_runs import run_dbt

project = Path(sys.argv[1])
try:
    run_dbt("build", ["model.slow.long"], project, project / "target" / "op")
except dg.DagsterExecutionInterruptedError:
    sys.exit(7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_dbt_and_its_queries_end_with_their_run(
    postgres: PostgresConnection, tmp_path: Path, number: signal.Signals
) -> None:
    """A `dbt build` went on after its run was killed, and the lock on the raw tables was free."""
    (tmp_path / "models").mkdir()
    model = "{{ config(materialized='table') }} select pg_sleep(300)::text as slept"
    (tmp_path / "models" / "long.sql").write_text(model)
    (tmp_path / "dbt_project.yml").write_text("{name: slow, version: '1.0.0', profile: slow}")
    login = {"host": postgres.host, "port": int(postgres.port), "user": postgres.user}
    server = {**login, "password": postgres.password, "dbname": postgres.database}
    target = {"type": "postgres", "schema": "public", "threads": 2, **server}
    profile = {"slow": {"target": "it", "outputs": {"it": target}}}
    (tmp_path / "profiles.yml").write_text(json.dumps(profile))
    run = subprocess.Popen(
        [sys.executable, "-c", BUILDS_FOR_LONG, tmp_path], stdout=subprocess.DEVNULL
    )
    try:
        with postgres.connect(autocommit=True) as session:

            def backends() -> list[int]:
                rows = session.execute(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep(300)%'"
                    " AND state = 'active'"
                )
                return [pid for (pid,) in rows]

            _until(backends)
            run.send_signal(number)
            assert run.wait(30) == (-number if number == signal.SIGKILL else 7)
            if number == signal.SIGKILL:
                # Nobody is left who could tell PostgreSQL. It writes nothing that is committed.
                for pid in backends():
                    session.execute("SELECT pg_terminate_backend(%s)", [pid])
            _until(lambda: not backends(), 10)
            assert session.execute("SELECT to_regclass('public.long')").fetchone() == (None,)
    finally:
        run.kill()
        run.wait()
