"""Runs of the whole code location in this process, for the command line.

If a step fails, Dagster skips every step after it in the same run. One publication serves all lines
of business, so one source that is down would hold back every line. Therefore a second run makes the
skipped assets whose inputs are sound. With the daemon, automation does the same.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import dagster as dg

from softcart_assets.assembly import LINES, Lines
from softcart_assets.components.keys import production_key
from softcart_assets.run_processes import fail_dead_runs, note_process

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
"""Run configuration that keeps Dagster's own log lines out of the display."""

_STARTED = dg.DagsterEventType.STEP_START
_ENDED = dg.DagsterEventType.STEP_SUCCESS
_FAILED = dg.DagsterEventType.STEP_FAILURE


class _Status(Protocol):
    def update(self, status: str) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """The result of runs: materialisations, check evaluations, and a text per failed step."""

    materializations: list[dg.AssetMaterialization]
    checks: list[dg.AssetCheckEvaluation]
    failures: list[str]


def materialize_everything(
    on_done: Callable[[str, float], None],
    on_failed: Callable[[str], None],
    status: Callable[[str], AbstractContextManager[_Status]],
) -> Outcome:
    """Run every asset and check against the instance in `DAGSTER_HOME`.

    `on_done` is called with the name and the seconds of each step that ends, `on_failed` with the
    name of each step that fails. `status` makes the display of the step that runs. Assets that were
    skipped although their inputs are sound run once more.
    """
    from softcart_assets.definitions import defs

    definitions = defs()
    job = definitions.resolve_implicit_global_asset_job_def()
    graph = definitions.resolve_asset_graph()
    steps = {
        assets.node_def.name: set(assets.keys)
        for assets in graph.assets_defs
        if assets.is_executable
    }
    parents = {key: graph.get(key).parent_keys for key in graph.get_all_asset_keys()}

    def execute(selection: Collection[dg.AssetKey] | None) -> dg.ExecuteInProcessResult:
        # Chosen here, so that the display can follow the run from its first event.
        run_id = str(uuid.uuid4())
        note_process(instance, run_id)
        with _followed(instance, run_id, on_done, on_failed, status):
            return job.execute_in_process(
                instance=instance,
                run_id=run_id,
                asset_selection=list(selection) if selection else None,
                raise_on_error=False,
                run_config=QUIET,
            )

    with dg.DagsterInstance.get() as instance:
        fail_dead_runs(instance)
        results = [execute(None)]
        if not results[0].success and (
            more := held_back(steps, parents, go_live_together(LINES), results[0])
        ):
            results.append(execute(more))
    return Outcome(
        [
            event.materialization
            for result in results
            for event in result.get_asset_materialization_events()
        ],
        [check for result in results for check in result.get_asset_check_evaluations()],
        [
            f"{event.step_key}: {root_cause(event.step_failure_data.error)}"
            for result in results
            for event in result.filter_events(lambda event: event.is_step_failure)
        ],
    )


def go_live_together(lines: Lines) -> dict[dg.AssetKey, set[dg.AssetKey]]:
    """For each published table, all tables that go live with it, even if they are not selected.

    They are the tables of its line and those that the lines share.
    """
    of_line = {line.name: {production_key(t.name) for t in line.published} for line in lines}
    shared = of_line[lines.conformed.name]
    return {key: keys | shared for keys in of_line.values() for key in keys}


def held_back(
    steps: Mapping[str, Collection[dg.AssetKey]],
    parents: Mapping[dg.AssetKey, Iterable[dg.AssetKey]],
    together: Mapping[dg.AssetKey, Collection[dg.AssetKey]],
    result: dg.ExecuteInProcessResult,
) -> set[dg.AssetKey]:
    """The assets of steps that did not start, although none of their inputs failed.

    `steps`: step → the assets that it makes. `parents`: asset → the assets that it reads.
    `together`: asset → the assets that are made with it. If an input of one of these failed, none
    of them is returned. Otherwise a table whose check failed would go live with the others.
    """
    started = {event.step_key for event in result.filter_events(_is_start)}
    of_step = {key: step for step, keys in steps.items() for key in keys}
    usable = _usable(of_step, result)
    sound: dict[dg.AssetKey, bool] = {}

    def is_sound(key: dg.AssetKey) -> bool:
        if key not in sound:
            # External assets are always there.
            is_made = of_step.get(key) not in started or key in usable
            reads = {
                parent for each in {key, *together.get(key, ())} for parent in parents.get(each, ())
            }
            sound[key] = is_made and all(map(is_sound, reads))
        return sound[key]

    return {key for key, step in of_step.items() if step not in started and is_sound(key)}


def _usable(
    of_step: Mapping[dg.AssetKey, str], result: dg.ExecuteInProcessResult
) -> set[dg.AssetKey]:
    """The assets that the run made and that others may be made of.

    Not those of a step that failed, even if it made them before: their checks may not have passed.
    Nor those whose checks are in a step that failed: Dagster blocks everything behind such a step.
    """
    failed = {event.step_key for event in result.filter_events(lambda each: each.is_step_failure)}
    blocked = {
        event.asset_check_evaluation_data.asset_key
        for event in result.filter_events(_is_check)
        if event.step_key in failed
    }
    # With a table goes its history, which has no check of its own: the same step made both.
    unusable = failed | {of_step[key] for key in blocked if key in of_step}
    made = {event.asset_key for event in result.get_asset_materialization_events()}
    return {key for key in made if key and of_step.get(key) not in unusable}


def _is_check(event: dg.DagsterEvent) -> bool:
    return event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION


def _is_start(event: dg.DagsterEvent) -> bool:
    return event.event_type == _STARTED


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


def root_cause(error: Any) -> str:
    """The message of the first error in the chain. Dagster wraps an asset's own error."""
    while error and error.cause:
        error = error.cause
    return str(error.message).strip() if error else "failed"
