"""Which processes execute Dagster runs, so that a run whose process is gone fails at once.

Dagster notices the end of a process only if one of its own servers started it. A run of the command
line that is killed would stay STARTED for hours and keep all runs with its pool in the queue.

So each process that executes a run holds a lock on a file of that run until it ends. The operating
system frees it, however the process ends. A file that nobody holds belongs to a process that is
gone. Process numbers would not do: after a restart, another process may have the same number.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock, Timeout

from softcart_assets.dagster_private import CheckRunHealthResult, WorkerStatus
from softcart_assets.interrupts import obeyed

GONE = "The process of this run is gone: it was killed, or its machine was. Run it again."

_held: list[FileLock] = []
"""The locks of this process. They are freed when it ends."""


def _folder(instance: dg.DagsterInstance) -> Path:
    folder = Path(instance.storage_directory()).parent / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def note_process(instance: dg.DagsterInstance, run_id: str) -> None:
    """Note that this process executes a run, until it ends."""
    path = _folder(instance) / run_id
    # Locked before it gets its name. Otherwise somebody could find it without its lock.
    new = path.with_name(f".{run_id}")
    lock = FileLock(new)
    lock.acquire()
    _held.append(lock)
    new.rename(path)


def is_gone(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process executed this run and has ended."""
    # A run without a file has not begun, or is executed on another machine.
    file = _folder(instance) / run_id
    return file.exists() and not _is_held(file)


def is_alive(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process on this machine executes this run."""
    file = _folder(instance) / run_id
    return file.exists() and _is_held(file)


def _is_held(file: Path) -> bool:
    try:
        with FileLock(file, blocking=False):
            return False
    except Timeout:
        return True


def fail_dead_runs(instance: dg.DagsterInstance) -> None:
    """Mark the runs as failed whose processes are gone, and forget processes of finished runs."""
    for file in _folder(instance).iterdir():
        if file.name.startswith(".") or _is_held(file):
            continue
        run = instance.get_run_by_id(file.name)
        if run and not run.is_finished:
            instance.report_run_failed(run, GONE)
        file.unlink(missing_ok=True)


class _Noted(dg.Executor):
    """An executor that notes the process of each run."""

    def __init__(self, executor: dg.Executor) -> None:
        self._executor = executor

    @property
    def retries(self) -> Any:
        """See `dg.Executor`."""
        return self._executor.retries

    @property
    def step_dependency_config(self) -> Any:
        """See `dg.Executor`."""
        return self._executor.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """See `dg.Executor`."""
        note_process(plan_context.instance, plan_context.run_id)
        if multiprocessing.parent_process():
            # The terminal is the UI's. What dbt prints is in the run's compute logs.
            with open(os.devnull, "wb") as nothing:
                os.dup2(nothing.fileno(), 1)
        # A run that is ended from the UI or by Ctrl-C may be inside a query that takes minutes.
        with obeyed():
            yield from self._executor.execute(plan_context, execution_plan)


def _noted(context: dg.InitExecutorContext) -> dg.Executor:
    create = dg.in_process_executor.executor_creation_fn
    assert create
    return _Noted(create(context))


noted_in_process_executor = dg.ExecutorDefinition(
    name="in_process",
    config_schema=dg.in_process_executor.config_schema.as_field(),
    executor_creation_fn=_noted,
)
"""Dagster's in-process executor, whose process is known."""


class WatchingLauncher(dg.DefaultRunLauncher):
    """Dagster's launcher. It also tells the run monitoring whether a run's process is gone."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """See `dg.RunLauncher`."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """See `dg.RunLauncher`."""
        if is_gone(self._instance, run.run_id):
            return CheckRunHealthResult(WorkerStatus.FAILED, GONE)
        return CheckRunHealthResult(WorkerStatus.RUNNING)
