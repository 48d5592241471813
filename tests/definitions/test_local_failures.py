"""A failure stays with what it concerns: a source that is not configured, a step that fails."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import pytest

from softcart_assets import runs
from softcart_assets.assembly import LINES
from softcart_assets.components import planning
from softcart_assets.components.keys import raw_key


@dataclass
class Told:
    """What a display of runs was told."""

    done: list[str]
    failed: list[str]

    def add(self, step: str, seconds: float) -> None:
        self.done.append(step)

    @contextmanager
    def status(self, text: str) -> Iterator["Told"]:
        yield self

    def update(self, text: str) -> None:
        pass


@dg.asset
def sound() -> None:
    """An asset whose step succeeds."""


@dg.asset
def broken() -> None:
    """An asset whose step fails."""
    raise RuntimeError("the server is down")


@dg.multi_asset(
    specs=[
        dg.AssetSpec("published_sound", deps=[sound], skippable=True),
        dg.AssetSpec("published_broken", deps=[broken], skippable=True),
    ],
    can_subset=True,
)
def publication(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
    """One step for the assets of several lines."""
    for key in sorted(context.selected_asset_keys):
        yield dg.MaterializeResult(key)


@dg.asset(deps=["published_sound"])
def page() -> None:
    """What follows a publication."""


def test_what_a_failed_step_does_not_concern_is_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    definitions = dg.Definitions(assets=[sound, broken, publication, page])
    monkeypatch.setattr("softcart_assets.definitions.defs", lambda: definitions)
    told = Told([], [])
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        outcome = runs.materialize_everything(told.add, told.failed.append, told.status)
    made = {event.asset_key.to_user_string() for event in outcome.materializations}
    assert made == {"sound", "published_sound", "page"}
    assert outcome.failures == ["broken: RuntimeError: the server is down"]
    assert told.failed == ["broken"]
    assert told.done == ["sound", "publication", "page"]


def test_ctrl_c_is_no_failed_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo told of a failed step, and went on with what that step did not concern."""

    @dg.asset
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)

    definitions = dg.Definitions(assets=[interrupted, sound, publication, broken])
    monkeypatch.setattr("softcart_assets.definitions.defs", lambda: definitions)
    told = Told([], [])
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        with pytest.raises(KeyboardInterrupt):
            runs.materialize_everything(told.add, told.failed.append, told.status)
    assert "publication" not in told.done


def test_the_list_of_runs_shows_who_launched_a_run_and_for_what(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    definitions, found = dg.Definitions(assets=[sound]), []
    monkeypatch.setattr("softcart_assets.definitions.defs", lambda: definitions)
    # Asked here, because the instance is closed at the end.
    monkeypatch.setattr(
        runs, "_last_checks", lambda instance, _: found.extend(instance.get_runs()) or []
    )
    told = Told([], [])
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        runs.materialize_everything(told.add, told.failed.append, told.status)
    assert [(run.tags["user"], run.asset_selection) for run in found] == [
        ("make demo", {sound.key})
    ]


def test_what_a_check_blocks_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the check's step in it, a second run would know nothing of the failed check."""

    @dg.asset_check(asset=sound, blocking=True)
    def is_sound() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False)

    definitions = dg.Definitions(assets=[sound, broken, publication, page], asset_checks=[is_sound])
    monkeypatch.setattr("softcart_assets.definitions.defs", lambda: definitions)
    told = Told([], [])
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        outcome = runs.materialize_everything(told.add, told.failed.append, told.status)
    assert {event.asset_key.to_user_string() for event in outcome.materializations} == {"sound"}


def test_what_was_made_by_a_step_that_failed_later_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dbt makes a model, then tests it. Without the result of its test, the model is not sound."""

    @dg.multi_asset(
        specs=[dg.AssetSpec("made"), dg.AssetSpec("not_made")],
        check_specs=[dg.AssetCheckSpec("sound", asset="made", blocking=True)],
        name="both",
    )
    def both() -> Iterator[dg.MaterializeResult]:
        yield dg.MaterializeResult("made")
        raise RuntimeError("it was killed")

    @dg.asset(deps=["made"])
    def follower() -> None:
        """What reads an asset whose test failed."""

    definitions = dg.Definitions(assets=[both, follower])
    monkeypatch.setattr("softcart_assets.definitions.defs", lambda: definitions)
    told = Told([], [])
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        outcome = runs.materialize_everything(told.add, told.failed.append, told.status)
    assert {event.asset_key.to_user_string() for event in outcome.materializations} == {"made"}


def test_what_goes_live_with_a_failed_table_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line goes live as a whole: a table whose check failed would go live with the others."""
    definitions = dg.Definitions(assets=[sound, broken, publication, page])
    monkeypatch.setattr("softcart_assets.definitions.defs", lambda: definitions)
    line = {dg.AssetKey("published_sound"), dg.AssetKey("published_broken")}
    monkeypatch.setattr(planning, "go_live_together", lambda lines: dict.fromkeys(line, line))
    told = Told([], [])
    with dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(dg.DagsterInstance, "get", lambda: instance)
        outcome = runs.materialize_everything(told.add, told.failed.append, told.status)
    assert {event.asset_key.to_user_string() for event in outcome.materializations} == {"sound"}


def test_a_source_that_is_not_configured_fails_its_own_tables_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An unset variable used to fail every run before its first step."""
    from softcart_assets.definitions import defs

    source = LINES.sources[0]
    for name in ("HOST", "URI"):
        monkeypatch.delenv(f"{source.env_prefix}_{name}", raising=False)
    table = raw_key(source, source.tables[0])

    @dg.asset
    def other() -> None:
        """An asset that needs no source."""

    whole = dg.Definitions.merge(defs(), dg.Definitions(assets=[other]))
    job = whole.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            asset_selection=[table, other.key],
            raise_on_error=False,
            run_config=runs.QUIET,
        )
    assert not result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {other.key}
