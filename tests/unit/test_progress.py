"""Progress of tables at a terminal, and where there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from softcart_assets import progress
from softcart_assets.progress import Stages, StatusLine, TableProgress


def test_a_terminal_shows_a_bar_per_table() -> None:
    output = io.StringIO()
    with TableProgress(Console(file=output, force_terminal=True, width=150)) as shown:
        shown.tell("orders", 1_000, 4_000)
        shown.tell("lines", 77, None)
        shown.tell("orders", 5_000, 4_000)  # the estimate was too low
        shown.done("orders", 5_000)
    told = output.getvalue()
    assert "5,000 rows" in told
    assert "77 rows" in told
    assert " 0 of about" not in told
    assert "left" in told


def test_elsewhere_lines_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    output = io.StringIO()
    with TableProgress(Console(file=output, width=150)) as shown:
        for rows in range(0, 3_000, 500):
            shown.tell("orders", rows, 4_000)
            now += 4
        shown.tell("lines", 10, None)
        shown.done("orders", 3_000)
    assert output.getvalue().splitlines() == [
        "orders: 1,500 of about 4,000 rows, 125 rows/s, about 20 s left"
    ]


def test_what_is_said_stands_above_the_bars() -> None:
    output = io.StringIO()
    with TableProgress(Console(file=output, width=150)) as shown:
        shown.say("nothing to do")
    assert output.getvalue() == "nothing to do\n"


def test_stages_are_told_with_their_seconds() -> None:
    output = io.StringIO()
    stages = Stages(Console(file=output, width=150))
    with stages.stage("servers"):
        pass
    stages.add("orders", 2.5)
    stages.add("orders", 0.5)
    stages.failed("lines")
    assert stages.seconds["orders"] == 3.0
    assert list(stages.seconds) == ["servers", "orders"]
    assert [line.split()[:2] for line in output.getvalue().splitlines()] == [
        ["✓", "servers"],
        ["✓", "orders"],
        ["✓", "orders"],
        ["✗", "lines"],
    ]


def test_a_status_is_kept_up_to_date_on_a_terminal() -> None:
    output = io.StringIO()
    line = StatusLine(Console(file=output, force_terminal=True))
    line.show("10 rows")
    line.show("20 rows")
    assert output.getvalue() == "\r\x1b[K10 rows\r\x1b[K20 rows"


def test_elsewhere_a_status_is_said_rarely_or_when_something_notable_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    output = io.StringIO()
    line = StatusLine(Console(file=output))
    for rows, notable in ((1, None), (2, None), (3, "stopped"), (4, "stopped")):
        line.show(f"{rows} rows", notable)
        now += 10
    now += 50
    line.show("5 rows", "stopped")
    assert output.getvalue().splitlines() == ["1 rows", "3 rows", "5 rows"]
