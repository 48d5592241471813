"""Runs whose processes are killed: they fail at once, and leave nothing behind that goes on."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

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


GUARDED = """
import subprocess, sys, time
from softcart_assets.dbt import ended_with_us
process = subprocess.Popen(["sleep", "300"])
with ended_with_us(process):
    print(process.pid, flush=True)
    if sys.argv[1:]:
        time.sleep(300)
"""


@pytest.mark.parametrize("is_killed", [True, False])
def test_dbt_ends_with_its_run(is_killed: bool) -> None:
    """A `dbt build` went on after its run was killed, and the lock on the raw tables was free."""
    program = subprocess.Popen(
        [sys.executable, "-c", GUARDED, *(["killed"] if is_killed else [])],
        stdout=subprocess.PIPE,
        env=os.environ,
    )
    assert program.stdout
    child = psutil.Process(int(program.stdout.readline()))
    try:
        if is_killed:
            program.send_signal(signal.SIGKILL)
        program.wait(30)
        if is_killed:
            _until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 5)
        else:
            time.sleep(0.5)
            assert child.is_running()
    finally:
        if child.is_running():
            child.kill()
