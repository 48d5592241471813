"""How far clubs have come: by the running totals, and without them."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from softcart_assets.connections import SettingError, staging
from softcart_assets.inspire_app.clubs import Team, teams
from softcart_assets.inspire_app.storage.mysql import Challenge
from softcart_assets.inspire_app.storage.totals import Totals
from softcart_assets.web.live import Unavailable

DAY = date(2026, 6, 15)
ME, OTHER, IDLE = 1, 2, 3
TOTALS = {ME: 5000.0, OTHER: 20500.0}


class Sums:
    """Sums of MongoDB or of the totals. None: there are none."""

    def __init__(self, found: dict[int, float] | None) -> None:
        self.found = found

    def together(self, people: list[int], *_: Any) -> dict[int, float]:
        if self.found is None:
            raise Unavailable("none")
        return {each: self.found[each] for each in people if each in self.found}


def team(totals: dict[int, float] | None, documents: dict[int, float]) -> Team:
    challenge = Challenge(1, 1, "Lake", "metres", Decimal(50_000), DAY, date(2026, 6, 20))
    site: Any = SimpleNamespace(totals=Sums(totals), documents=Sums(documents))
    [found] = teams(site, [(challenge, [ME, OTHER, IDLE])], ME, DAY)
    return found


@pytest.mark.parametrize(
    ("totals", "documents", "expected"),
    [
        (TOTALS, {ME: 5000.0, OTHER: 20500.0}, (25.5, 5.0, 2)),
        # What I have just logged, and what I have just deleted, counts at once.
        (TOTALS, {ME: 7000.0, OTHER: 99.0}, (27.5, 7.0, 2)),
        (TOTALS, {}, (20.5, 0.0, 1)),
        ({}, {ME: 1000.0}, (1.0, 1.0, 1)),
        (None, {ME: 1000.0, OTHER: 3000.0}, (4.0, 1.0, 2)),
    ],
)
def test_own_workouts_count_at_once(
    totals: dict[int, float] | None, documents: dict[int, float], expected: tuple[float, float, int]
) -> None:
    found = team(totals, documents)
    assert (found.all.done, found.mine, found.active) == expected
    assert (found.all.wanted, found.all.unit, found.days_left) == (50.0, "km", 5)


def test_nobody_waits_for_a_warehouse_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[type[Exception]] = []
    clock = [0.0]
    module = "softcart_assets.inspire_app.storage.totals"
    monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: clock[0]))
    kept = Totals(staging)

    def fails(error: type[Exception]) -> None:
        def opened() -> Any:
            asked.append(error)
            raise error

        monkeypatch.setattr(kept, "_opened", opened)
        with pytest.raises(Unavailable):
            kept.stands()

    # It answers that there is no such table.
    fails(psycopg.errors.UndefinedTable)
    fails(SettingError)
    fails(psycopg.OperationalError)
    fails(psycopg.OperationalError)
    assert len(asked) == 3
    clock[0] += 6
    fails(psycopg.OperationalError)
    assert len(asked) == 4
