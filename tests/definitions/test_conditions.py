"""What Dagster builds by itself: nothing is forgotten, and nothing is built behind a failed check.

Ticks are asked one by one, on small graphs and on the project's own.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from softcart_assets.assembly import LINES
from softcart_assets.components.conditions import (
    FOLLOWS_UPSTREAM,
    LOADS_AGAIN,
    hold_behind_failed_checks,
)
from softcart_assets.components.keys import lake_key, production_key, raw_key, raw_keys
from softcart_assets.components.publication import go_live_together


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class Daemon:
    """Ticks of the automation of some definitions."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self.definitions, self.instance = definitions, instance
        self.graph = definitions.resolve_asset_graph()
        self.cursor = None

    def done(self, *keys: dg.AssetKey | str) -> None:
        """These assets were made, and passed their checks."""
        for key in map(dg.AssetKey.from_coercible, keys):
            self.instance.report_runless_asset_event(dg.AssetMaterialization(key))
            for check in self.graph.get(key).check_keys:
                self.checked(check, passed=True)

    def checked(self, check: dg.AssetCheckKey, *, passed: bool) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=check.asset_key, check_name=check.name, passed=passed, metadata={}
            )
        )

    def tick(self, at: datetime | None = None) -> set[dg.AssetKey | dg.AssetCheckKey]:
        """What is requested."""
        result = dg.evaluate_automation_conditions(
            self.definitions, self.instance, cursor=self.cursor, evaluation_time=at
        )
        self.cursor = result.cursor
        return {each.key for each in result.results if not each.true_subset.is_empty}

    def run(self, *keys: dg.AssetKey | str) -> dg.ExecuteInProcessResult:
        """Make these assets, as a run that the daemon starts."""
        job = self.definitions.resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey.from_coercible(key) for key in keys],
            raise_on_error=False,
        )

    def ticks(self, number: int = 4) -> int:
        return sum(len(self.tick()) for _ in range(number))


@dg.asset
def raw() -> None:
    """What sensors load."""


@dg.asset(deps=[raw], automation_condition=FOLLOWS_UPSTREAM)
def lake() -> None:
    """What follows."""


class TestForgetsNothing:
    """dagster-io/dagster#24650 and #33587: with `eager`, an update in the tick in which the asset
    behind it was built counts as followed.
    """

    @pytest.fixture
    def daemon(self, instance: dg.DagsterInstance) -> Daemon:
        """The lake was requested, because raw was loaded."""
        daemon = Daemon(dg.Definitions([raw, lake]), instance)
        daemon.done("raw", "lake")
        assert not daemon.tick()
        daemon.done("raw")
        assert daemon.tick() == {lake.key}
        return daemon

    def test_loaded_again_after_it_was_built_in_one_tick(self, daemon: Daemon) -> None:
        daemon.done("lake")
        daemon.done("raw")
        assert daemon.ticks() == 1

    def test_loaded_again_before_the_requested_run_began(self, daemon: Daemon) -> None:
        daemon.done("raw")
        daemon.done("lake")
        assert daemon.ticks() == 0

    def test_loaded_again_while_the_request_is_made(self, daemon: Daemon) -> None:
        daemon.done("raw")
        assert daemon.tick() == {lake.key}
        daemon.done("lake")
        assert daemon.ticks() == 0

    def test_built_once_for_one_load(self, daemon: Daemon) -> None:
        assert daemon.ticks(2) == 0
        daemon.done("lake")
        assert daemon.ticks() == 0

    def test_two_upstream_tables(self, instance: dg.DagsterInstance) -> None:
        """The one was loaded before the build and the other one after it."""

        @dg.asset
        def other() -> None: ...

        @dg.asset(deps=[raw, other], automation_condition=FOLLOWS_UPSTREAM)
        def fact() -> None: ...

        daemon = Daemon(dg.Definitions([raw, other, fact]), instance)
        daemon.done("raw", "other", "fact")
        daemon.tick()
        daemon.done("raw", "fact", "other")
        assert daemon.ticks() == 1


def test_what_a_failed_run_did_not_come_to_is_requested_once_more(
    instance: dg.DagsterInstance,
) -> None:
    """A step that fails skips all that follow it in the run, also what does not depend on it."""

    @dg.asset
    def broken() -> None:
        raise RuntimeError("no")

    @dg.multi_asset(
        specs=[
            dg.AssetSpec("good", deps=[lake], automation_condition=FOLLOWS_UPSTREAM),
            dg.AssetSpec("bad", deps=[broken], automation_condition=FOLLOWS_UPSTREAM),
        ],
        can_subset=True,
    )
    def publication(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        for key in context.selected_asset_keys:
            yield dg.MaterializeResult(key)

    daemon = Daemon(dg.Definitions([raw, lake, broken, publication]), instance)
    daemon.done("raw", "lake", "broken", "good", "bad")
    daemon.tick()
    daemon.done("raw")
    assert daemon.tick() == {lake.key, dg.AssetKey("good")}
    run = daemon.run("lake", "broken", "good", "bad")
    assert {e.asset_key for e in run.get_asset_materialization_events()} == {lake.key}
    assert daemon.tick() == {dg.AssetKey("good")}
    assert daemon.run("good").success
    assert daemon.ticks() == 0


def test_what_a_run_left_out_on_purpose_is_not_requested_again(
    instance: dg.DagsterInstance,
) -> None:
    """A line that is held: a second publication of the same tables would hold it again."""

    @dg.multi_asset(
        specs=[
            dg.AssetSpec("held", deps=[lake], automation_condition=FOLLOWS_UPSTREAM, skippable=True)
        ]
    )
    def publication() -> Iterator[dg.MaterializeResult]:
        yield from ()

    daemon = Daemon(dg.Definitions([raw, lake, publication]), instance)
    daemon.done("raw", "lake", "held")
    daemon.tick()
    daemon.done("raw")
    assert daemon.tick() == {lake.key, dg.AssetKey("held")}
    assert daemon.run("lake", "held").success
    assert daemon.ticks() == 0
    daemon.done("raw")
    assert daemon.tick() == {lake.key, dg.AssetKey("held")}


NOW = datetime.now(UTC).replace(minute=1, second=0, microsecond=0)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("condition", [FOLLOWS_UPSTREAM, LOADS_AGAIN])
def test_a_table_whose_checks_a_run_did_not_come_to_is_made_again(
    instance: dg.DagsterInstance, condition: dg.AutomationCondition
) -> None:
    """dagster-io/dagster#31230: nothing that waits for such a check would ever be built."""

    @dg.asset(
        deps=[raw],
        automation_condition=condition,
        check_specs=[dg.AssetCheckSpec("sound", asset="model", blocking=True)],
    )
    def model() -> Iterator[dg.MaterializeResult]:
        yield dg.MaterializeResult()
        raise RuntimeError("killed")

    daemon = Daemon(dg.Definitions([raw, model]), instance)
    daemon.done("raw", "model")
    assert not daemon.tick(NOW)
    assert not daemon.run("model").success
    assert not daemon.tick(NOW + MINUTE)
    assert daemon.tick(NOW + 15 * MINUTE) == {model.key}
    assert not daemon.tick(NOW + 16 * MINUTE)
    time.sleep(1.1)  # SQLite tells the time of a check in whole seconds
    daemon.checked(dg.AssetCheckKey(model.key, "sound"), passed=False)
    assert not daemon.tick(NOW + 31 * MINUTE)


def test_a_run_that_failed_before_its_first_step_is_tried_again_within_an_hour(
    instance: dg.DagsterInstance,
) -> None:
    @dg.asset(deps=[raw], automation_condition=FOLLOWS_UPSTREAM)
    def model() -> None:
        raise RuntimeError("killed")

    daemon = Daemon(dg.Definitions([raw, model]), instance)
    daemon.done("raw", "model")
    assert not daemon.tick(NOW)
    daemon.done("raw")
    assert daemon.tick(NOW + MINUTE) == {model.key}
    for tried_at in (2, 62):
        assert not daemon.run("model").success
        assert not daemon.tick(NOW + tried_at * MINUTE)
        assert daemon.tick(NOW + (tried_at + 58) * MINUTE) == {model.key}
    daemon.done("model")
    assert not daemon.tick(NOW + 121 * MINUTE)
    assert not daemon.tick(NOW + 181 * MINUTE)


class TestOwnDefinitions:
    """The project's own graph, all of which was made and is sound."""

    @pytest.fixture(scope="class")
    def definitions(self) -> dg.Definitions:
        from softcart_assets.dbt import prepare_manifest

        prepare_manifest()
        from softcart_assets.definitions import defs

        return defs()

    @pytest.fixture
    def daemon(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> Daemon:
        daemon = Daemon(definitions, instance)
        keys = daemon.graph.materializable_asset_keys
        daemon.done(*(key for key in daemon.graph.toposorted_asset_keys if key in keys))
        assert not daemon.tick()
        return daemon

    def behind(self, daemon: Daemon, *keys: dg.AssetKey) -> set[dg.AssetKey]:
        found: set[dg.AssetKey] = set()
        wanted = list(keys)
        while wanted:
            children = daemon.graph.get(wanted.pop()).child_keys - found
            found |= children
            wanted += children
        return found

    def test_a_failed_blocking_check_anywhere_upstream_stops_everything_behind_it(
        self, daemon: Daemon
    ) -> None:
        """`equals_source` failed, and nine minutes later the fact was rebuilt for another table
        that it reads, and published: only its direct dependencies were asked.
        """
        source, table = next((s, t) for s, t in LINES.tables() if t.history)
        key, history = raw_keys(source, table)
        check = dg.AssetCheckKey(key, "equals_source")
        behind = self.behind(daemon, key)
        # A history has no checks of its own, and no condition.
        assert history in behind
        behind.remove(history)
        # What goes live with what is behind the check waits, too.
        stopped = behind | {
            each
            for each, others in go_live_together(LINES).items()
            if any(daemon.graph.get(other).parent_keys & behind for other in others)
        }
        daemon.done(key, history)
        daemon.checked(check, passed=False)
        others = {raw_key(s, t): lake_key(s, t) for s, t in LINES.tables() if t is not table}
        daemon.done(*others)
        requested = daemon.tick()
        assert requested >= set(others.values())
        assert not requested & stopped
        # Nothing that it held back is forgotten.
        daemon.done(*(each for each in daemon.graph.toposorted_asset_keys if each in requested))
        assert not daemon.tick() & stopped
        daemon.checked(check, passed=True)
        assert daemon.tick() >= behind

    def test_a_published_table_waits_for_all_that_goes_live_with_it(self, daemon: Daemon) -> None:
        """A line goes live as a whole, so the table that failed would go live with the others."""
        line = next(line for line in LINES if line.sources and len(line.published) > 1)
        own = [production_key(table.name) for table in line.published]
        upstream = {key: next(iter(daemon.graph.get(key).parent_keys)) for key in own}
        failed = next(
            key
            for key in own
            if any(daemon.graph.get(c).blocking for c in daemon.graph.get(upstream[key]).check_keys)
        )
        [check, *_] = sorted(
            c for c in daemon.graph.get(upstream[failed]).check_keys if daemon.graph.get(c).blocking
        )
        daemon.done(*upstream.values())
        daemon.checked(check, passed=False)
        assert not daemon.tick() & set(own)
        daemon.checked(check, passed=True)
        assert daemon.tick() >= set(own)


def test_a_check_upstream_of_definitions_without_lines(instance: dg.DagsterInstance) -> None:
    """Three deep: the view between has no check and was not rebuilt."""

    @dg.asset(check_specs=[dg.AssetCheckSpec("sound", asset="table", blocking=True)])
    def table() -> dg.MaterializeResult:
        return dg.MaterializeResult()

    @dg.asset(deps=[table], automation_condition=FOLLOWS_UPSTREAM)
    def view() -> None: ...

    @dg.asset(deps=[view, raw], automation_condition=FOLLOWS_UPSTREAM)
    def fact() -> None: ...

    definitions = hold_behind_failed_checks(dg.Definitions([table, view, raw, fact]), {})
    daemon = Daemon(definitions, instance)
    daemon.done("table", "view", "raw", "fact")
    assert not daemon.tick()
    check = dg.AssetCheckKey(dg.AssetKey("table"), "sound")
    daemon.done("table")
    daemon.checked(check, passed=False)
    daemon.done("raw")
    assert daemon.ticks() == 0
    daemon.checked(check, passed=True)
    assert daemon.tick() == {view.key, fact.key}
