"""Progress of tables at a terminal, and where there is none."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from softcart_assets import progress
from softcart_assets.progress import TableProgress


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
