"""When the Spark session of a run starts and ends. No Java: the session is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any

import dagster as dg
import pytest

from softcart_assets.lake import LakeError
from softcart_assets.resources import spark as module
from softcart_assets.resources.spark import SHORT_ROWS, SparkResource

Started = list[bool]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Started, int]]:
    """A run with one step. Returns `short` of each session that started, and how many ended.

    `rows`: what the lake has. `asks`: how many rows the step reads, after it has waited for the
    session that it did not ask for. `fails`: the error of each start. `running`: the process has a
    short session.
    """

    def execute(
        rows: Callable[[], int | None],
        *,
        asks: int | None = None,
        fails: Exception | None = None,
        running: bool = False,
    ) -> tuple[Started, int]:
        started: Started = []
        stopped: list[object] = []
        begun = Event()
        shorts: dict[object, bool] = {"running": True}

        def build(*_: object, short: bool, **__: object) -> object:
            if running and not stopped:
                begun.set()
                return "running"
            started.append(short)
            begun.set()
            if fails:
                raise fails
            session = object()
            shorts[session] = short
            return session

        monkeypatch.setenv("SOFTCART_LAKE_URI", "file:///lake")
        monkeypatch.setattr(module, "rows_to_read", lambda *_: rows())
        monkeypatch.setattr(module, "build_session", build)
        monkeypatch.setattr(module, "is_short", shorts.__getitem__)
        monkeypatch.setattr(module, "is_stopped", lambda session: False)
        monkeypatch.setattr(module, "stop_session", stopped.append)

        @dg.asset
        def first(spark: SparkResource) -> None:
            if asks is not None:
                assert begun.wait(30)
                session = spark.session_for(asks)
                assert spark.spark_session is session

        resources = {"spark": SparkResource()}
        result = dg.materialize([first], resources=resources, raise_on_error=False)
        assert result.success == (fails is None)
        if fails:
            told: Any = result.failure_data_for_node("first")
            assert str(fails) in str(told.error.cause)
        return started, len(stopped)

    return execute


@pytest.mark.parametrize(("rows", "short"), [(SHORT_ROWS, True), (SHORT_ROWS + 1, False)])
def test_a_session_starts_beside_the_steps_before_the_one_that_needs_it(run, rows, short) -> None:
    assert run(lambda: rows, asks=7) == ([short], 1)


def test_a_short_session_gives_way_if_the_run_itself_has_loaded_much(run) -> None:
    """Such as a first load into a small lake: all of it would be computed by two tasks."""
    assert run(lambda: 5, asks=SHORT_ROWS + 1) == ([True, False], 2)


def test_a_session_that_runs_already_becomes_that_of_the_run(run) -> None:
    assert run(lambda: 5, asks=SHORT_ROWS, running=True) == ([], 1)
    assert run(lambda: 5, asks=SHORT_ROWS + 1, running=True) == ([False], 2)


def test_a_session_that_nobody_asked_for_ends_with_the_run(run) -> None:
    assert run(lambda: 5) == ([True], 1)


def test_no_session_starts_for_a_lake_without_the_tables(run) -> None:
    assert run(lambda: None) == ([], 0)


def test_no_session_starts_early_on_a_cluster(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait there for hours, and the run would wait for it, though no step needs it."""
    monkeypatch.setenv("SOFTCART_SPARK_MASTER", "yarn")
    assert run(lambda: 5) == ([], 0)


def test_a_lake_that_cannot_be_read_is_for_the_step_to_tell(run) -> None:
    def unreadable() -> int | None:
        raise LakeError("It cannot be read.")

    assert run(unreadable) == ([], 0)


def test_a_session_that_cannot_start_is_for_the_step_to_tell(run) -> None:
    assert run(lambda: 5, asks=5, fails=OSError("There is no Java.")) == ([True, True], 0)
