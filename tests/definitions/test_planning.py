"""The plan on Dagster's own records: runs, events and check results of small graphs, and the graph
of the project.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from softcart_assets.assembly import LINES
from softcart_assets.components.keys import extract_key, lake_key, production_key, raw_key, raw_keys
from softcart_assets.components.plan import CHECK_AGAIN_AFTER, Build, Plan, State, Verdict, plan
from softcart_assets.components.planning import (
    Activity,
    Memory,
    Records,
    Servers,
    activity,
    made_assets,
    next_run,
)
from softcart_assets.components.planning import _builds as builds_of
from softcart_assets.components.pool import BUILD, LOAD, PLANNED_TAG
from softcart_assets.components.publication import go_live_together
from softcart_assets.connections import PostgresConnection
from softcart_assets.runs import run_tags


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _no_server() -> PostgresConnection:
    raise AssertionError("these graphs have no raw tables")


class Planner:
    """Plans and runs some definitions."""

    def __init__(self, instance: dg.DagsterInstance, *assets: object, checks: object = ()) -> None:
        self.instance = instance
        self.definitions = dg.Definitions(assets=assets, asset_checks=checks)  # type: ignore[arg-type]
        self.memory = Memory()

    def next(self, after: timedelta = timedelta(0)) -> set[str]:
        """What is requested that much later."""
        planned = next_run(
            Records(self.instance, self.definitions.get_repository_def(), LINES),
            LINES,
            Servers(_no_server, lambda source: None),
            # As the sensor keeps it.
            Memory.read(self.memory.cursor()),
            datetime.now(UTC) + after,
        )
        self.memory = planned.memory
        return {key.to_user_string() for key in planned.plan.request}

    def run(self, *names: str, **more: object) -> dg.ExecuteInProcessResult:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey(name) for name in names],
            raise_on_error=False,
            **more,  # type: ignore[arg-type]
        )


@dg.asset(code_version="1")
def first() -> None: ...


@dg.asset(deps=[first], code_version="1")
def second() -> None: ...


def test_dagsters_data_versions_tell_what_is_stale(instance: dg.DagsterInstance) -> None:
    planner = Planner(instance, first, second)
    assert planner.next() == {"first", "second"}
    assert planner.run("first", "second").success
    assert planner.next() == set()
    # Built again from the same: the version is the same, so nothing follows.
    assert planner.run("first").success
    assert planner.next() == set()

    @dg.asset(code_version="2")
    def other() -> None: ...

    other = other.with_attributes(asset_key_replacements={other.key: first.key})
    planner.definitions = dg.Definitions([other, second])
    assert planner.next() == {"first", "second"}
    assert planner.run("first").success
    assert planner.next() == {"second"}
    assert planner.run("second").success
    assert planner.next() == set()


def test_an_event_of_somebody_elses_counts_as_another_version(instance: dg.DagsterInstance) -> None:
    planner = Planner(instance, first, second)
    planner.run("first", "second")
    instance.report_runless_asset_event(dg.AssetMaterialization("first"))
    # Nobody knows what it was made of.
    assert planner.next() == {"first", "second"}


def _checked(passed: bool, severity: dg.AssetCheckSeverity) -> list[object]:
    @dg.asset_check(asset=first, blocking=True)
    def sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=passed, severity=severity)

    return [sound]


@pytest.mark.parametrize(
    ("severity", "follows"),
    [(dg.AssetCheckSeverity.ERROR, set()), (dg.AssetCheckSeverity.WARN, {"second"})],
)
def test_a_blocking_check_holds_unless_it_only_warns(
    instance: dg.DagsterInstance, severity: dg.AssetCheckSeverity, follows: set[str]
) -> None:
    planner = Planner(instance, first, second, checks=_checked(False, severity))
    planner.run("first")
    assert planner.next() == follows


def test_a_check_without_a_result_of_the_last_build_holds_and_is_made_good(
    instance: dg.DagsterInstance,
) -> None:
    """dagster-io/dagster#31230. A run of the table alone, as a person may start it."""
    planner = Planner(instance, first, second, checks=_checked(True, dg.AssetCheckSeverity.ERROR))
    planner.run("first", "second")
    assert planner.next() == set()
    job = planner.definitions.resolve_implicit_global_asset_job_def()
    time.sleep(1.1)  # SQLite tells the time of a check in whole seconds
    assert (
        job.get_subset(asset_selection={first.key}, asset_check_selection=set())
        .execute_in_process(instance=instance)
        .success
    )
    assert planner.next() == set()
    assert planner.next(CHECK_AGAIN_AFTER) == {"first", "second"}
    assert planner.next(CHECK_AGAIN_AFTER + timedelta(minutes=1)) == set()
    # A check alone makes it good, too.
    check = dg.AssetCheckKey(first.key, "sound")
    assert (
        job.get_subset(asset_selection=set(), asset_check_selection={check})
        .execute_in_process(instance=instance)
        .success
    )
    assert planner.next(2 * CHECK_AGAIN_AFTER) == set()


def test_the_demo_compares_rows_only_in_the_first_load_of_a_table() -> None:
    """Each demo compared all rows and asked the source for its checksums, after 1% had changed."""
    old, new = dg.AssetKey("old"), dg.AssetKey("new")

    def tags(*request: dg.AssetKey, is_load: bool) -> object:
        return run_tags(Plan(frozenset(request), is_load, frozenset(), {}), {old})

    assert tags(old, new, is_load=True) == {}
    assert tags(old, is_load=True) == {PLANNED_TAG: LOAD}
    assert tags(new, is_load=False) == {PLANNED_TAG: BUILD}


def test_a_run_that_waits_or_works_is_seen(instance: dg.DagsterInstance) -> None:
    assert activity(instance) is Activity.NOTHING
    run = Planner(instance, first).definitions.resolve_implicit_global_asset_job_def()
    instance.create_run_for_job(run, status=dg.DagsterRunStatus.STARTED)
    assert activity(instance) is Activity.MORE


def test_a_wave_is_known_for_one_when_its_first_step_has_ended(
    instance: dg.DagsterInstance,
) -> None:
    """A load before would change tables whose readers are not in the wave."""
    seen = []

    @dg.asset
    def early() -> None:
        seen.append(activity(instance))

    @dg.asset(deps=[early])
    def later() -> None:
        seen.append(activity(instance))

    job = dg.Definitions([early, later]).resolve_implicit_global_asset_job_def()
    for kind in (BUILD, LOAD):
        assert job.execute_in_process(instance=instance, tags={PLANNED_TAG: kind}).success
    assert seen == [Activity.MORE, Activity.WAVE, Activity.MORE, Activity.MORE]


class TestOwnDefinitions:
    """The project's own graph, all of which was made and is sound."""

    @pytest.fixture(scope="class")
    def repository(self) -> dg.RepositoryDefinition:
        from softcart_assets.definitions import defs

        return defs().get_repository_def()

    def test_raw_is_loaded_and_all_else_is_built(self, repository: dg.RepositoryDefinition) -> None:
        assets = made_assets(repository.asset_graph, LINES)
        raw = {key for source, table in LINES.tables() for key in raw_keys(source, table)}
        assert {key for key, asset in assets.items() if asset.is_raw} == raw
        first = plan(assets, State(datetime.now(UTC), {}, frozenset(raw)))
        assert first.request == raw
        assert first.is_load

    def test_captured_tables_of_one_log_are_loaded_together(
        self, repository: dg.RepositoryDefinition
    ) -> None:
        assets = made_assets(repository.asset_graph, LINES)
        for source, table in LINES.tables():
            followed = [t for t in source.tables if t.strategy == "cdc"]
            one_log = source.kind == "mysql" and table in followed
            expected = followed if one_log else [table]
            assert assets[raw_key(source, table)].together == {
                key for each in expected for key in raw_keys(source, each)
            }

    def test_a_published_table_goes_with_its_line(
        self, repository: dg.RepositoryDefinition
    ) -> None:
        assets = made_assets(repository.asset_graph, LINES)
        for key, mates in go_live_together(LINES).items():
            assert assets[key].together == mates
        assert any(len(asset.together) > 1 for asset in assets.values() if not asset.is_raw)

    def test_a_failed_blocking_check_anywhere_upstream_stops_everything_behind_it(
        self, repository: dg.RepositoryDefinition, instance: dg.DagsterInstance
    ) -> None:
        """`equals_source` failed, and nine minutes later the fact was rebuilt for another table
        that it reads, and published: only its direct dependencies were asked.
        """
        graph = repository.asset_graph
        source, table = next((s, t) for s, t in LINES.tables() if t.history)
        key = raw_key(source, table)
        # All raw tables have just been loaded, and nothing was ever built from them.
        for each in (key for s, t in LINES.tables() for key in raw_keys(s, t)):
            instance.report_runless_asset_event(dg.AssetMaterialization(each))
            for check in graph.get(each).check_keys:
                self.checked(instance, check, passed=True)
        failed = dg.AssetCheckKey(key, "equals_source")
        self.checked(instance, failed, passed=False)
        behind = self.behind(graph, key)
        stopped = behind | {
            each
            for each, mates in go_live_together(LINES).items()
            if any(graph.get(mate).parent_keys & behind for mate in mates)
        }
        assets = made_assets(graph, LINES)

        def request() -> frozenset[dg.AssetKey]:
            return plan(assets, State(datetime.now(UTC), builds_of(instance, graph))).request

        others = {lake_key(s, t) for s, t in LINES.tables() if t is not table}
        assert request() >= others
        assert not request() & stopped
        self.checked(instance, failed, passed=True)
        raw = {key for key, asset in assets.items() if asset.is_raw}
        assert request() == assets.keys() - raw
        assert {production_key(table.name) for table in LINES.published} <= request()

    @staticmethod
    def checked(instance: dg.DagsterInstance, check: dg.AssetCheckKey, *, passed: bool) -> None:
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=check.asset_key, check_name=check.name, passed=passed, metadata={}
            )
        )

    @staticmethod
    def behind(graph: object, key: dg.AssetKey) -> set[dg.AssetKey]:
        found: set[dg.AssetKey] = set()
        wanted = [key]
        while wanted:
            children = graph.get(wanted.pop()).child_keys - found  # type: ignore[attr-defined]
            found |= children
            wanted += children
        return {each for each in found if each.path[0] != key.path[0]}


def test_at_night_nothing_is_published_that_a_check_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softcart_assets.definitions import defs

    repository = defs().get_repository_def()
    schedule = repository.get_schedule_def("nightly_publication")
    # A schedule is evaluated on an instance that another process can open.
    instance = dg.DagsterInstance.local_temp(str(tmp_path))
    context = dg.build_schedule_context(instance, repository_def=repository)
    assert not schedule.evaluate_tick(context).run_requests, "nothing was built yet"
    assets = made_assets(repository.asset_graph, LINES)
    builds = {key: Build(1, "1", datetime.now(UTC)) for key in assets}
    monkeypatch.setattr(Records, "builds", lambda _: builds)
    (request,) = schedule.evaluate_tick(context).run_requests
    published = {production_key(table.name) for line in LINES for table in line.published}
    files = {
        extract_key(each.name) for line in LINES for each in (*line.extracts, *line.dashboards)
    }
    assert {*request.asset_selection} == published | files
    assert request.run_config == {"ops": {"publication": {"config": {"complete": True}}}}
    broken = dg.AssetKey(["warehouse", "dim_date"])
    builds[broken] = replace(builds[broken], verdict=Verdict.FAILED)
    assert not schedule.evaluate_tick(context).run_requests
