"""When the Spark session of a run starts and ends. No Java: the session is a stand-in."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import dagster as dg
import pytest

from softcart_assets.lake import LakeError
from softcart_assets.resources import spark as module
from softcart_assets.resources.spark import SHORT_ROWS, SparkResource

Started = list[bool]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Started, int]]:
    """A run with one step. Returns `short` of each session that started, and how many ended.

    `rows`: what the lake has. `waits`: the step waits for a session that it does not ask for.
    """

    def execute(rows: Callable[[], int | None], *, waits: bool) -> tuple[Started, int]:
        started: Started = []
        stopped: list[object] = []
        begun = Event()

        def build(*_: object, short: bool, **__: object) -> object:
            started.append(short)
            begun.set()
            return object()

        monkeypatch.setenv("SOFTCART_LAKE_URI", "file:///lake")
        monkeypatch.setattr(module, "rows_to_read", lambda *_: rows())
        monkeypatch.setattr(module, "build_session", build)
        monkeypatch.setattr(module, "stop_session", stopped.append)

        @dg.asset
        def first(spark: SparkResource) -> None:
            if waits:
                assert begun.wait(30)
                spark.session_for(7)

        assert dg.materialize([first], resources={"spark": SparkResource()}).success
        return started, len(stopped)

    return execute


@pytest.mark.parametrize(("rows", "short"), [(SHORT_ROWS, True), (SHORT_ROWS + 1, False)])
def test_a_session_starts_beside_the_steps_before_the_one_that_needs_it(run, rows, short) -> None:
    assert run(lambda: rows, waits=True) == ([short], 1)


def test_a_session_that_nobody_asked_for_ends_with_the_run(run) -> None:
    assert run(lambda: 5, waits=False) == ([True], 1)


def test_no_session_starts_for_a_lake_without_the_tables(run) -> None:
    assert run(lambda: None, waits=False) == ([], 0)


def test_a_lake_that_cannot_be_read_is_for_the_step_to_tell(run) -> None:
    def unreadable() -> int | None:
        raise LakeError("It cannot be read.")

    assert run(unreadable, waits=False) == ([], 0)
