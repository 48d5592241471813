"""The statistics of the insights: numbers by hand, and intervals that keep what they promise."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from softcart_assets.lines.inspire import insights
from softcart_assets.lines.page import Finding


def sums(y: list[float], x: list[float], **group: object) -> dict[str, Any]:
    """What a query adds up of people who did `y` in a time `x`."""
    did, time = np.asarray(y, dtype=float), np.asarray(x, dtype=float)
    return {
        "people": len(did),
        "y": did.sum(),
        "x": time.sum(),
        "yy": (did * did).sum(),
        "xy": (did * time).sum(),
        "xx": (time * time).sum(),
        **group,
    }


def test_a_ratio_counts_people_not_events() -> None:
    # Two people, so the variance of the mean is a quarter of the squared difference.
    value, low, high = insights.ratio(sums([10, 30], [10, 10]))
    assert value == 2
    assert math.log(high / value) == pytest.approx(insights.Z * 1 / 2)
    assert low * high == pytest.approx(value**2)
    # Who does the same in each month tells exactly how much it is.
    assert insights.ratio(sums([20, 40], [10, 20])) == (2, 2, 2)
    assert insights.ratio(sums([5], [1])) is None
    assert insights.ratio(sums([0, 0], [1, 1])) is None


def test_intervals_hold_the_truth_although_people_differ() -> None:
    """95 of 100 intervals hold the true rate. Of those by Poisson's distribution, a third do."""
    dice = np.random.default_rng(14)
    held = poisson = 0
    for _ in range(400):
        months = dice.integers(1, 13, 250)
        # Rates of people from hardly ever to every day: the mean is 8.
        workouts = dice.poisson(dice.gamma(0.8, 10, 250) * months)
        value, low, high = insights.ratio(sums(list(workouts), list(months)))
        held += low <= 8 <= high
        reach = insights.Z * math.sqrt(value / months.sum())
        poisson += value - reach <= 8 <= value + reach
    assert 0.92 <= held / 400 <= 0.98
    assert poisson / 400 < 0.4


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(8, 2.306004), (11, 2.200985), (12, 2.178813), (100, 1.983972)]
)
def test_the_quantile_is_students(freedom: int, quantile: float) -> None:
    assert insights.t_quantile(freedom) == pytest.approx(quantile, rel=1e-3)


EFFECTS = np.array([1.25, 1.05, 0.98, 1.05, 1.22, 1.22, 0.92, 0.80, 1.00, 0.94, 0.82, 0.75])


def test_a_series_is_taken_apart_into_trend_and_season() -> None:
    months = [(3 + n) % 12 for n in range(26)]
    values = [100 * 1.012**n * EFFECTS[month] for n, month in enumerate(months)]
    found = insights.decompose(months, values)
    mean = np.exp(np.log(EFFECTS).mean())
    assert [each.value for each in found.effects] == pytest.approx(EFFECTS / mean - 1)
    assert found.yearly == pytest.approx(1.012**12 - 1)
    assert found.apart == pytest.approx([EFFECTS[month] / mean - 1 for month in months])


def test_intervals_of_seasons_hold_the_truth() -> None:
    dice = np.random.default_rng(14)
    truth = EFFECTS / np.exp(np.log(EFFECTS).mean()) - 1
    held = 0
    for _ in range(100):
        months = [n % 12 for n in range(25)]
        values = [
            1.012**n * EFFECTS[month] * math.exp(dice.normal(0, 0.03))
            for n, month in enumerate(months)
        ]
        effects = insights.decompose(months, values).effects
        held += sum(
            each.low <= true <= each.high for each, true in zip(effects, truth, strict=True)
        )
    assert 0.92 <= held / 1200 <= 0.98


def test_odds_of_two_things_that_go_together() -> None:
    value, low, high = insights.odds_ratio(10, 20, 30, 40)
    assert value == pytest.approx(10.5 * 40.5 / (20.5 * 30.5))
    assert math.log(high / value) == pytest.approx(
        insights.Z * math.sqrt(1 / 10.5 + 1 / 20.5 + 1 / 30.5 + 1 / 40.5)
    )
    assert low < value < high
    assert math.isfinite(insights.odds_ratio(0, 0, 0, 0).value)


def test_regions_are_ranked_and_small_ones_are_left_out() -> None:
    rows = [
        sums([30] * 12, [10] * 12, region="Riga"),
        sums([20] * 12, [10] * 12, region="Cēsis"),
        sums([90] * 9, [10] * 9, region="Small"),
        sums([50] * 11, [10] * 11, region="Next"),
        sums([10] * 12, [10] * 12, region="Talsi"),
    ]
    found = insights.regions({"regions": rows})
    assert isinstance(found, Finding)
    assert [(point.name, point.value) for point in found.points] == [
        ("Riga", 3000),
        ("Cēsis", 2000),
        ("Talsi", 1000),
    ]
    assert found.sentence == (
        "Riga stands out: 3,000 workouts per 1,000 registered people and month, 50% above the "
        "mean. Talsi is 50% below it."
    )
    assert (found.value, found.low, found.high) == (3000, 3000, 3000)
    assert "Of 3 regions, Riga is clearly above the mean, Talsi is clearly below." in found.advice
    assert insights.regions({"regions": rows[2:3]}) is None


def test_regions_that_are_the_same_do_not_stand_out() -> None:
    dice = np.random.default_rng(14)
    rows = [
        sums(list(dice.poisson(dice.gamma(2, 4, 60))), [1] * 60, region=str(n)) for n in range(9)
    ]
    found = insights.regions({"regions": rows})
    assert found is not None
    assert found.sentence.startswith("None of 9 regions clearly differs from the mean, ")
    whole = insights.ratio(insights.total(rows))
    assert (found.value, found.low, found.high) == tuple(1000 * each for each in whole)
    assert found.figure == "Workouts per 1,000 registered people and month"
    assert found.advice == (
        "Of 9 regions, none is clearly above the mean, none is clearly below. Treat all alike "
        "until one differs."
    )
    # One is below, and none above.
    rows.append(sums(list(dice.poisson(dice.gamma(2, 1, 20))), [1] * 20, region="Talsi"))
    found = insights.regions({"regions": rows})
    assert found is not None
    assert found.sentence.startswith("Talsi stands out: ")
    assert found.sentence.endswith("% below the mean.")
    assert found.figure.endswith("in Talsi")
    assert "none is clearly above the mean, Talsi is clearly below." in found.advice


def test_of_many_regions_few_are_called_apart_by_chance() -> None:
    """A twentieth of all intervals miss the mean although all regions are the same."""
    dice = np.random.default_rng(14)
    called = missed = 0
    for _ in range(200):
        regions = {
            str(n): insights.ratio(sums(list(dice.poisson(dice.gamma(2, 4, 60))), [1] * 60))
            for n in range(35)
        }
        called += bool(insights.apart(regions, 8))
        missed += sum(not each.low <= 8 <= each.high for each in regions.values())
    assert 0.03 < missed / 7000 < 0.09
    assert called / 200 < 0.15
    # A third more is found among them.
    regions["more"] = insights.ratio(sums(list(dice.poisson(dice.gamma(2, 5.4, 200))), [1] * 200))
    assert "more" in insights.apart(regions, 8)


def test_seasons_need_two_years_and_compare_years() -> None:
    rows = [
        {
            "month": date(2024 + n // 12, n % 12 + 1, 1),
            "workouts": round(1e6 * 1.012**n * EFFECTS[n % 12]),
            "people_days": 1000,
        }
        for n in range(25)
    ]
    found = insights.seasons({"months": rows})
    assert found is not None
    assert found.sentence == (
        "January is 27% above the trend and December 24% below it. Without the seasons, an active "
        "person trained 15% more than a year before."
    )
    assert [point.of for point in found.points][::12] == ["2024", "2025"]
    by_place = {(point.of, point.name): point.value for point in found.points}
    assert by_place["2025", "Aug"] == pytest.approx(
        0.80 / np.exp(np.log(EFFECTS).mean()) - 1, abs=1e-4
    )
    assert insights.seasons({"months": rows[:23]}) is None
    # A month that nobody tells anything of begins the series anew.
    assert insights.seasons({"months": [rows[0], *rows[2:]]}) is None
    later = [row | {"month": row["month"].replace(year=row["month"].year + 3)} for row in rows]
    after = insights.seasons({"months": [*rows, *later]})
    assert after is not None
    assert [point.of for point in after.points][::12] == ["2027", "2028"]


def test_months_that_are_the_same_need_no_campaigns() -> None:
    called = 0
    for seed in range(100):
        dice = np.random.default_rng(seed)
        rows = [
            {
                "month": date(2024 + n // 12, n % 12 + 1, 1),
                "workouts": round(1e6 * math.exp(dice.normal(0, 0.05))),
                "people_days": 1000,
            }
            for n in range(26)
        ]
        found = insights.seasons({"months": rows})
        assert found is not None
        assert "before ." not in found.advice
        assert found.advice
        if found.sentence.startswith("No month is clearly above or below the trend. "):
            assert "Campaigns and challenges are as good in one month" in found.advice
        else:
            called += 1
    assert called / 100 < 0.15


def cells(both: int) -> list[dict[str, Any]]:
    table = {
        ("Build strength", "Sports"): both,
        ("Build strength", "Books"): 25,
        ("Run 5 km", "Sports"): 12,
        ("Run 5 km", "Books"): 30,
        ("none", "Books"): 300,
        ("Build strength", None): 50,
        ("Run 5 km", None): 60,
        ("none", None): 400,
        (None, "Sports"): both + 12,
        (None, "Books"): 355,
        (None, None): 510,
    }
    return [
        {"goal_name": goal, "department_name": department, "people": people}
        for (goal, department), people in table.items()
    ]


def test_the_category_of_the_greatest_lift() -> None:
    found = insights.segments({"cells": cells(30)})
    assert found is not None
    lift = insights.odds_ratio(30, 20, 12, 448, tests=4)
    assert (found.value, found.low, found.high) == lift
    assert [point.name for point in found.points] == ["Build strength: Sports", "Run 5 km: Sports"]
    assert found.sentence.startswith("People who buy Sports have ")
    assert "chance" not in found.sentence
    assert found.figure.endswith("the clearest of 4 pairs of goal and category")
    # Nine people are too few to tell.
    found = insights.segments({"cells": cells(9)})
    assert found is not None
    assert [point.name for point in found.points] == ["Run 5 km: Sports", "Build strength: Books"]
    assert insights.segments({"cells": []}) is None


def test_pairs_that_have_nothing_to_do_with_each_other_are_chance() -> None:
    """The clearest of 48 pairs is often apart, if each is taken by itself."""
    dice = np.random.default_rng(14)
    called = alone = 0
    for _ in range(100):
        goals = dice.choice(list("abcdef"), 650, p=[0.2, 0.09, 0.22, 0.17, 0.2, 0.12])
        buys = dice.random((650, 8)) < 0.35
        goals, buys = goals[buys.any(axis=1)], buys[buys.any(axis=1)]
        cells = [
            {"goal_name": goal, "department_name": name, "people": int((of_goal & of_name).sum())}
            for goal, of_goal in [
                (None, goals != ""),
                *((each, goals == each) for each in "abcdef"),
            ]
            for name, of_name in [(None, goals != ""), *((f"D{n}", buys[:, n]) for n in range(8))]
        ]
        found = insights.segments({"cells": cells})
        assert found is not None
        assert ("may be chance" in found.sentence) == (found.low <= 1)
        called += found.low > 1
        alone += found.value / (found.value / found.low) ** (insights.Z / 3.28) > 1
    assert called / 100 < 0.15
    assert alone / 100 > 0.4


def test_ages_are_in_order_and_the_next_smallest_is_left_out() -> None:
    rows = [
        sums([20] * 40, [10] * 40, age_band="30s"),
        sums([29] * 30, [10] * 30, age_band="60s"),
        sums([17] * 50, [10] * 50, age_band="20s"),
        sums([25] * 9, [10] * 9, age_band="under 20"),
        sums([25] * 10, [10] * 10, age_band="70 and over"),
        sums([25] * 8, [10] * 8, age_band="unknown"),
    ]
    found = insights.ages({"ages": rows})
    assert found is not None
    assert [(point.name, point.value) for point in found.points] == [
        ("20s", 1.7),
        ("30s", 2.0),
        ("60s", 2.9),
    ]
    assert found.sentence == (
        "People in their 60s train most, on 2.9 days a week, and those in their 20s least, on 1.7. "
        "Too few to tell: under 20, 40s, 50s and 70 and over."
    )
    assert found.figure == "Active days a week of people in their 60s"


def test_the_peak_is_the_hour_with_most_workouts_of_all_weekdays() -> None:
    week = [
        {"weekday": 1, "hour": 18, "workouts": 30, "people": 20},
        {"weekday": 2, "hour": 18, "workouts": 20, "people": 10},
        {"weekday": 6, "hour": 9, "workouts": 40, "people": 30},
        {"weekday": 6, "hour": 10, "workouts": 10, "people": 10},
    ]
    by_hour = [
        sums([25, 25], [50, 50], hour=18, people_in_hour=20),
        sums([20, 20], [50, 50], hour=9, people_in_hour=30),
        sums([5, 5], [50, 50], hour=10, people_in_hour=10),
    ]
    bands = [
        {"age_band": band, "hour": hour} for band, hour in (("60s", 8), ("30s", 18), ("20s", 18))
    ]
    found = insights.peaks({"cells": week, "hours": by_hour, "bands": bands})
    assert found is not None
    assert found.value == 0.5
    assert found.sentence == (
        "50.0% of all workouts begin between 18:00 and 19:00, and the busiest hour of the week is "
        "Sat 9:00, on the local clock. Best hours by age: 60s at 8:00; 20s and 30s at 18:00."
    )
    assert len(found.points) == 7 * 24
    assert sum(point.value for point in found.points) == pytest.approx(1)
    assert insights.peaks({"cells": [], "hours": [], "bands": []}) is None


def test_hours_of_few_people_are_not_told() -> None:
    people = {(1, 18): 40, (2, 18): 30, (3, 18): 9, (6, 9): 20, (6, 10): 12, (6, 3): 1, (4, 9): 25}
    week = [
        # One person does more than all others.
        {"weekday": day, "hour": hour, "workouts": 900 if hour == 3 else count, "people": count}
        for (day, hour), count in people.items()
    ]
    by_hour = [
        sums([9] * 60, [17] * 60, hour=18, people_in_hour=60),
        sums([15] * 60, [17] * 60, hour=3, people_in_hour=1),
    ]
    found = insights.peaks({"cells": week, "hours": by_hour, "bands": []})
    assert found is not None
    assert (
        "between 18:00 and 19:00, and the busiest hour of the week is Mon 18:00" in found.sentence
    )
    left_out = {(point.of, int(point.name)) for point in found.points if point.value is None}
    # One and nine are ten. Of 18:00, whose sum is told, two days.
    assert left_out == {("Sat", 3), ("Wed", 18), ("Tue", 18)}
