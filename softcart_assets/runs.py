"""Runs of the whole code location in this process, for the command line.

They follow the same plan as the planning sensor's: first a load, then a wave of what is behind it.
If a step fails, Dagster skips every step after it in the same run. One publication serves all lines
of business, so the next plan requests what is sound among the skipped assets.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.dbt_runs import prepare_dbt
from softcart_assets.components.failures import root_cause
from softcart_assets.components.plan import CHECK_AGAIN_AFTER, Keys, Plan
from softcart_assets.components.planning import Memory, Records, Servers, next_run
from softcart_assets.components.pool import BUILD, LOAD, PLANNED_TAG
from softcart_assets.connections import staging
from softcart_assets.dagster_private import was_interrupted
from softcart_assets.dbt import PROJECT_DIR
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ml.registry import Registry
from softcart_assets.run_processes import fail_dead_runs, note_process

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration that keeps Dagster's own log lines out of the display."""

LAUNCHED_BY = {"user": "make demo"}
"""The tag by which the UI tells who launched a run. Runs of this process have no sensor to name."""

_STARTED = dg.DagsterEventType.STEP_START
_ENDED = dg.DagsterEventType.STEP_SUCCESS
_FAILED = dg.DagsterEventType.STEP_FAILURE


class _Status(Protocol):
    def update(self, status: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """What there is after the runs.

    `materializations` and `checks`: the last of each asset and check, nothing if there was no run.
    `failures`: a text per failed step. `runs`: how many runs there were. `waiting`: assets that are
    not up to date. `positions`: where raw is, by source.
    """

    materializations: list[dg.AssetMaterialization]
    checks: list[dg.AssetCheckEvaluation]
    failures: list[str]
    runs: int
    waiting: Keys
    positions: Mapping[str, str]


def materialize_everything(
    on_done: Callable[[str, float], None],
    on_failed: Callable[[str], None],
    status: Callable[[str], AbstractContextManager[_Status]],
) -> Outcome:
    """Load and build all that is not up to date, against the instance in `DAGSTER_HOME`.

    `on_done` is called with the name and the seconds of each step that ends, `on_failed` with the
    name of each step that fails. `status` makes the display of the step that runs.
    """
    from softcart_assets.definitions import defs

    definitions = defs()
    repository = definitions.get_repository_def()
    job = definitions.resolve_implicit_global_asset_job_def()
    servers = Servers(staging, lambda each: connector(each.kind).connection(each.env_prefix))
    # Whoever asks does not wait for what was tried before. The time stands still, so that nothing
    # which fails now is tried twice.
    now = datetime.now(UTC) + CHECK_AGAIN_AFTER

    def execute(
        selection: Collection[dg.AssetKey], tags: Mapping[str, str]
    ) -> dg.ExecuteInProcessResult:
        # Chosen here, so that the display can follow the run from its first event.
        run_id = str(uuid.uuid4())
        note_process(instance, run_id)
        with _followed(instance, run_id, on_done, on_failed, status):
            result = job.execute_in_process(
                instance=instance,
                run_id=run_id,
                tags={**LAUNCHED_BY, **tags},
                asset_selection=sorted(selection),
                raise_on_error=False,
                run_config=QUIET,
            )
        if was_interrupted(result):
            raise KeyboardInterrupt
        return result

    with dg.DagsterInstance.get() as instance, ThreadPoolExecutor(1) as beside:
        fail_dead_runs(instance)
        results: list[dg.ExecuteInProcessResult] = []
        records, memory, has_loaded = Records(instance, repository, LINES), Memory(), False
        while True:
            planned = next_run(records, LINES, servers, memory, now)
            found, memory = planned.plan, planned.memory
            # A second load would find what changed meanwhile, and a busy source would keep us here.
            if not found.request or (found.is_load and has_loaded):
                break
            if found.is_load:
                has_loaded = True
                # A load waits for servers most of its time. If one of these fails here, it fails in
                # its own step again, which tells.
                beside.submit(prepare_dbt, PROJECT_DIR)
                if any(line.models for line in LINES):
                    beside.submit(Registry.from_env().open)
            results.append(execute(found.request, run_tags(found, records.builds().keys())))
        failures = [
            f"{event.step_key}: {root_cause(event.step_failure_data.error)}"
            for result in results
            for event in result.filter_events(lambda event: event.is_step_failure)
        ]
        return Outcome(
            _last_builds(instance, repository) if results or found.waiting else [],
            _last_checks(instance, repository),
            failures=failures + [f"{name}: {error}" for name, error in planned.unread.items()],
            runs=len(results),
            waiting=found.waiting,
            positions=planned.positions,
        )


def run_tags(found: Plan, built: Collection[dg.AssetKey]) -> Mapping[str, str]:
    """The tags of the run for a plan, if these assets were made before.

    A load with a table that was never loaded has none. So it compares all that it loads with the
    sources, and whoever runs the demo once sees this proof. Every other run is like the sensor's.
    """
    if not found.is_load:
        return {PLANNED_TAG: BUILD}
    return {PLANNED_TAG: LOAD} if found.request.issubset(built) else {}


def _last_builds(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition
) -> list[dg.AssetMaterialization]:
    """The last materialisation of each asset."""
    records = instance.get_asset_records(list(repository.asset_graph.materializable_asset_keys))
    events = [record.asset_entry.last_materialization for record in records]
    return [
        event.asset_materialization for event in events if event and event.asset_materialization
    ]


def _last_checks(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition
) -> list[dg.AssetCheckEvaluation]:
    """The last result of each check."""
    checks = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        list(repository.asset_graph.asset_check_keys)
    )
    return [
        check.evaluation
        for check in checks.values()
        # Of a run that ended too early, a check is planned.
        if isinstance(check.evaluation, dg.AssetCheckEvaluation)
    ]


@contextmanager
def _followed(
    instance: dg.DagsterInstance,
    run_id: str,
    on_done: Callable[[str, float], None],
    on_failed: Callable[[str], None],
    status: Callable[[str], AbstractContextManager[_Status]],
) -> Iterator[None]:
    """Report the steps of the run from a thread, because `execute_in_process` reports nothing."""
    done = threading.Event()

    def tell() -> None:
        cursor, started = None, {}
        with status("materialising …") as display:
            finished = False
            # The last round comes after the end of the run, so no event is missed.
            while not finished:
                finished = done.wait(0.5)
                found = instance.get_records_for_run(
                    run_id, cursor=cursor, of_type={_STARTED, _ENDED, _FAILED}
                )
                cursor = found.cursor
                for record in found.records:
                    entry = record.event_log_entry
                    step, kind = entry.step_key or "", entry.get_dagster_event().event_type
                    if kind == _STARTED:
                        started[step] = entry.timestamp
                        display.update(f"{step} …")
                    elif kind == _ENDED:
                        on_done(step, entry.timestamp - started[step])
                    else:
                        on_failed(step)

    follower = threading.Thread(target=tell, daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join()
