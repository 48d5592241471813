"""What is chosen for somebody's day."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.inspire_app.plan import (
    QUOTE_AGAIN_AFTER,
    Person,
    chance_of,
    choose,
    suitable,
    unseen,
)
from softcart_assets.lines.inspire.catalogue import CATALOGUE, DEFAULTS, Effort, Workout

FRIDAY = date(2026, 11, 27)
DAY = timedelta(days=1)
RUN = Workout("tempo_40", "run", "Run", 40, Effort.HEAVY, frozenset({"run_10k"}))
EASY = Workout("jog_30", "run", "Jog", 30, Effort.LIGHT, frozenset({"run_10k", "run_5k"}))
LIFT = Workout("squats", "strength", "Lift", 45, Effort.HEAVY, needs=frozenset({"barbell"}))
FIT = Person(frozenset({"run_10k"}), workouts=50)

workouts = st.builds(
    Workout,
    st.text(min_size=1),
    st.sampled_from(["run", "yoga"]),
    st.text(),
    st.integers(0, 300),
    st.sampled_from(Effort),
    st.frozensets(st.sampled_from(["run_5k", "run_10k"])),
    st.frozensets(st.sampled_from(["barbell", "mat"])),
)
people = st.builds(
    Person,
    st.frozensets(st.sampled_from(["run_5k", "run_10k"])),
    st.frozensets(st.integers(0, 6)),
    st.frozensets(st.sampled_from(["barbell", "mat"])),
    st.integers(0, 10),
    st.none() | st.dates(date(2026, 11, 20), date(2026, 12, 5)),
)
days = st.dates(date(2026, 11, 20), date(2026, 12, 5))


def test_a_workout_serves_the_goal_and_needs_what_is_there() -> None:
    other = Workout("x", "run", "x", 10, Effort.LIGHT, frozenset({"sleep_better"}))
    assert suitable([RUN, EASY, LIFT, other], FIT, FRIDAY) == [RUN, EASY]


def test_somebody_new_gets_what_is_good_for_everybody() -> None:
    assert suitable([RUN, LIFT], Person(), FRIDAY) == [*DEFAULTS]
    assert suitable([RUN, EASY], Person(), FRIDAY) == [EASY]


@given(st.lists(workouts), people, days)
def test_never_heavy_on_a_rest_day_or_after_a_heavy_day(
    offered: list[Workout], person: Person, day: date
) -> None:
    found = suitable(offered, person, day)
    assert found
    for each in found:
        assert each.needs <= person.equipment
        if day.weekday() in person.rest_days or person.workouts < 3:
            assert each.effort <= Effort.LIGHT
        if person.last_heavy in (day - DAY, day, day + DAY):
            assert each.effort < Effort.HEAVY


@given(
    st.lists(st.text(), min_size=1, unique=True),
    st.dictionaries(st.text(), st.floats(-1e6, 1e6)),
    st.integers(),
)
def test_the_propensity_is_a_probability(
    items: list[str], scores: dict[str, float], seed: int
) -> None:
    found = choose(items, scores, Random(seed))
    assert found.item in items
    assert 0 < found.propensity <= 1


def test_the_propensity_is_how_often_it_is_chosen() -> None:
    chance, scores = Random(1), {"a": 0.3, "b": 0.1}
    chosen = [choose(["a", "b", "c"], scores, chance) for _ in range(20_000)]
    told = {each.item: each.propensity for each in chosen}
    assert sum(told.values()) == pytest.approx(1)
    for item, count in Counter(each.item for each in chosen).items():
        assert count / 20_000 == pytest.approx(told[item], abs=0.015)


def test_what_cannot_be_chosen_from_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        choose([], {}, Random(1))
    with pytest.raises(ValueError, match="finite"):
        choose(["a"], {"a": float("nan")}, Random(1))


def test_two_requests_at_once_choose_the_same() -> None:
    first = choose(["a", "b", "c"], {}, chance_of(7, FRIDAY, "quote"))
    assert first == choose(["a", "b", "c"], {}, chance_of(7, FRIDAY, "quote"))
    many = {choose(["a", "b", "c"], {}, chance_of(id, FRIDAY, "quote")).item for id in range(50)}
    assert many == {"a", "b", "c"}


@given(st.integers(31, 40), st.integers(1, 120))
def test_no_quote_comes_twice_in_thirty_days(quotes: int, length: int) -> None:
    shown: dict[int, date] = {}
    for number in range(length):
        day = FRIDAY + number * DAY
        left = unseen(range(quotes), shown, day)
        quote = int(choose([str(each) for each in left], {}, chance_of(7, day, "quote")).item)
        assert quote not in shown or day - shown[quote] >= QUOTE_AGAIN_AFTER
        shown[quote] = day


def test_everybody_has_something_to_choose_from_the_catalogue() -> None:
    assert len({each.code for each in CATALOGUE}) == len(CATALOGUE)
    nobody = suitable(CATALOGUE, Person(), FRIDAY)
    assert {each.activity for each in nobody} >= {"walk", "run", "strength", "yoga"}
    assert all(each.effort <= Effort.LIGHT and not each.needs for each in nobody)
