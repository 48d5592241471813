"""Finds what is wrong in Dagster's records: runs, checks, sensors, the daemon, and old assets."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from softcart_assets.alerts.problem import Problem, one_line
from softcart_assets.components.failures import root_cause
from softcart_assets.dagster_private import FINISHED_TICKS, INSTIGATOR_IS_SENSOR

SILENT_SECONDS = 180
"""A daemon says every 30 seconds that it runs."""
RUNS_READ_BACK = timedelta(days=7)
"""Earlier runs tell nothing of what is wrong now."""
_OUTCOMES = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.STEP_SUCCESS}


class Runs:
    """The last outcome of each step, from runs that have ended.

    A step that failed is a problem until the same step succeeds. A run that failed without a failed
    step is one until a run of the same job succeeds.
    """

    def __init__(self, instance: dg.DagsterInstance, steps: Collection[str]) -> None:
        self._instance, self._steps = instance, steps
        self._outcomes: dict[str, tuple[float, str | None]] = {}
        self._read_until = datetime.now(UTC) - RUNS_READ_BACK

    def problems(self) -> list[Problem]:
        """The steps whose last outcome is a failure."""
        records = self._instance.get_run_records(
            dg.RunsFilter(
                statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
                updated_after=self._read_until,
            ),
            order_by="update_timestamp",
            ascending=True,
        )
        for record in records:
            self._take(record)
            # A little again each time: who was first to write may be last to commit. An outcome
            # that is known already changes nothing.
            updated = record.update_timestamp.replace(tzinfo=UTC) - timedelta(minutes=1)
            self._read_until = max(self._read_until, updated)
        return [Problem(f"run:{name}", text) for name, (_, text) in self._outcomes.items() if text]

    def _take(self, record: dg.RunRecord) -> None:
        run, has_failed_step = record.dagster_run, False
        for each in self._instance.get_records_for_run(run.run_id, of_type=_OUTCOMES).records:
            entry = each.event_log_entry
            event = entry.get_dagster_event()
            if event.is_step_failure:
                has_failed_step = True
                told = one_line(root_cause(event.step_failure_data.error))
                self._note(
                    entry.step_key,
                    entry.timestamp,
                    f"step {entry.step_key} of run {run.run_id[:8]} failed: {told}",
                )
            else:
                self._note(entry.step_key, entry.timestamp, None)
        ended = record.end_time or record.update_timestamp.replace(tzinfo=UTC).timestamp()
        if run.is_success:
            self._note_job(run.job_name, ended, None)
        elif not has_failed_step:
            self._note_job(
                run.job_name, ended, f"run {run.run_id[:8]} failed, and none of its steps did"
            )

    def _note(self, step: str | None, at: float, text: str | None) -> None:
        # A step that the code no longer has will never succeed.
        if step and step in self._steps:
            self._note_job(step, at, text)

    def _note_job(self, name: str, at: float, text: str | None) -> None:
        if at >= self._outcomes.get(name, (0.0, None))[0]:
            self._outcomes[name] = at, text


def failed_checks(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition
) -> list[Problem]:
    """The checks whose last complete execution failed, but for those that only warn."""
    graph, found = repository.asset_graph, []
    keys = sorted(graph.asset_check_keys)
    records = instance.event_log_storage.get_asset_check_summary_records(keys)
    for key in keys:
        # While a check runs, or after its run was killed, its last execution has no result.
        record = records[key].last_completed_check_execution_record if key in records else None
        evaluation = record.evaluation if record else None
        if (
            isinstance(evaluation, dg.AssetCheckEvaluation)
            and not evaluation.passed
            and evaluation.severity == dg.AssetCheckSeverity.ERROR
        ):
            asset = key.asset_key.to_user_string()
            about = one_line(graph.get(key).description or "")
            found.append(
                Problem(f"check:{asset}:{key.name}", f"check {key.name} of {asset} failed. {about}")
            )
    return found


def failed_sensors(instance: dg.DagsterInstance) -> list[Problem]:
    """The sensors whose last tick that has ended failed."""
    found = []
    for state in instance.all_instigator_state(instigator_type=INSTIGATOR_IS_SENSOR):
        if not state.is_running:
            continue
        ticks = instance.get_ticks(
            state.instigator_origin_id, state.selector_id, limit=1, statuses=FINISHED_TICKS
        )
        if ticks and ticks[0].is_failure:
            told = one_line(root_cause(ticks[0].error))
            found.append(Problem(f"sensor:{state.name}", f"sensor {state.name} failed: {told}"))
    return found


def silent_daemon(
    instance: dg.DagsterInstance, now: Callable[[], float] = time.time
) -> list[Problem]:
    """The daemon, if one of its parts has not said for `SILENT_SECONDS` that it runs."""
    beats = instance.get_daemon_heartbeats()
    needed = instance.get_required_daemon_types()
    known = [beats[each].timestamp if each in beats else None for each in needed]
    if None in known:
        return [Problem("daemon", "Dagster's daemon has not run yet. Start `softcart ui`.")]
    oldest = min((each for each in known if each is not None), default=now())
    if now() - oldest < SILENT_SECONDS:
        return []
    since = datetime.fromtimestamp(oldest, UTC)
    return [
        Problem(
            "daemon",
            f"Dagster's daemon says nothing since {since:%Y-%m-%d %H:%M} UTC. No sensor and no "
            "schedule runs. Start `softcart ui`.",
        )
    ]


def old_assets(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, now: datetime
) -> list[Problem]:
    """What was made longer ago than its freshness policy promises, by group.

    What was never made is not old: a new table waits for its first load.
    """
    graph = repository.asset_graph
    promised = {}
    for key in graph.materializable_asset_keys:
        policy = graph.get(key).freshness_policy_or_from_metadata
        if policy is not None and hasattr(policy, "fail_window"):
            promised[key] = policy.fail_window.to_timedelta()
    old: dict[str, list[tuple[datetime, timedelta, str]]] = defaultdict(list)
    for record in instance.get_asset_records(list(promised)):
        key, made = record.asset_entry.asset_key, record.asset_entry.last_materialization_record
        if made is None:
            continue
        at = datetime.fromtimestamp(made.timestamp, UTC)
        if now - at > promised[key]:
            old[graph.get(key).group_name].append((at, promised[key], key.to_user_string()))
    return [Problem(f"old:{group}", _old(group, each)) for group, each in sorted(old.items())]


def _old(group: str, assets: list[tuple[datetime, timedelta, str]]) -> str:
    at, promised, oldest = min(assets)
    hours = promised.total_seconds() / 3600
    others = f" and {len(assets) - 1} more of {group}" if len(assets) > 1 else ""
    return (
        f"{oldest}{others}: made {at:%Y-%m-%d %H:%M} UTC, although promised every {hours:g} hours"
    )


def readers(
    instance: dg.DagsterInstance, repository: dg.RepositoryDefinition, steps: Collection[str]
) -> Mapping[str, Callable[[], list[Problem]]]:
    """What finds problems, by the beginning of their causes."""
    runs = Runs(instance, steps)
    return {
        "run:": runs.problems,
        "check:": lambda: failed_checks(instance, repository),
        "sensor:": lambda: failed_sensors(instance),
        "daemon": lambda: silent_daemon(instance),
        "old:": lambda: old_assets(instance, repository, datetime.now(UTC)),
    }
