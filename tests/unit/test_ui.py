"""The end of the Dagster UI, which must leave no process behind."""

from __future__ import annotations

import subprocess

import psutil
import pytest

from softcart_assets.stack import ui


def test_a_process_that_ends_by_itself_just_before_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The others of its session would have stayed."""
    with subprocess.Popen(["true"]) as short:
        gone = psutil.Process(short.pid)
    with subprocess.Popen(["sleep", "60"]) as long:
        left = psutil.Process(long.pid)
        monkeypatch.setattr(ui, "_session", lambda _: iter([gone, left]))
        monkeypatch.setattr(ui, "STOP_SECONDS", 0)
        ui._end_session(0)
        assert long.wait(10) < 0
