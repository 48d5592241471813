"""What the page and the extract tell of people by month: the SQL against the rule."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date

import duckdb
import numpy as np

from softcart_assets.lines.inspire.groups import FEWEST, OTHERS, engagement, hidden


def test_no_group_of_a_month_is_of_few_people() -> None:
    dice = np.random.default_rng(14)
    engaged = []
    for number in range(30):
        month = date(1900, 1, 1) if number == 0 else date(2024 + number // 12, 1 + number % 12, 1)
        # Some months have hardly anybody, and some have many in each region.
        for _ in range(dice.choice([3, 9, 12, 40, 400])):
            workouts = int(dice.integers(0, 3))
            visits = int(dice.integers(0, 2)) or int(workouts == 0)
            region = "ABCDEF"[min(5, int(dice.exponential(1.5)))]
            engaged.append((month, region, workouts, visits))
    with duckdb.connect() as engine:
        engine.execute(
            "CREATE SCHEMA production; CREATE TABLE production.agg_engagement_by_user_month "
            "(month date, region text, workout_count bigint, session_count bigint, "
            "active_days bigint DEFAULT 1, duration_seconds bigint DEFAULT 60, "
            "distance_m decimal(24, 3) DEFAULT 0, page_views bigint DEFAULT 1, latest_at timestamp)"
        )
        engine.executemany(
            "INSERT INTO production.agg_engagement_by_user_month "
            "(month, region, workout_count, session_count) VALUES (?, ?, ?, ?)",
            engaged,
        )
        found = engine.execute(
            "SELECT workout_count > 0, month, part, count(*) "
            f"FROM ({engagement('region')}) f WHERE is_told GROUP BY ALL"
        ).fetchall()
    told: dict[tuple[bool, date, str], int] = {tuple(key): count for *key, count in found}
    wanted: Counter[tuple[bool, date, str]] = Counter()
    for half in (True, False):
        months: dict[date, Counter[str]] = defaultdict(Counter)
        for month, region, workouts, visits in engaged:
            months[month][region] += bool(workouts if half else visits)
        sizes = {month: parts.total() for month, parts in months.items()}
        # Nothing adds up to the month of implausible dates.
        odd = {month: size for month, size in sizes.items() if month.year == 1900}
        small = hidden(odd) | hidden({key: size for key, size in sizes.items() if key not in odd})
        assert len(small) > 2
        for month in months.keys() - small:
            parts = +months[month]
            for region, count in parts.items():
                wanted[half, month, OTHERS if region in hidden(parts) else region] += count
    assert told == wanted
    assert min(told.values()) >= FEWEST
    assert {part for *_, part in told} >= {OTHERS, "A"}
