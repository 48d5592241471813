"""What is proposed to somebody for a day, from published scores."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.inspire_app.plan import Person
from softcart_assets.inspire_app.recommendations import Asked, Quote, Score, today
from softcart_assets.lines.inspire.catalogue import CATALOGUE, Effort

FRIDAY = date(2026, 11, 27)
BY_CODE = {each.code: each for each in CATALOGUE}
QUOTES = [Quote(number, ("calm", "firm", "bright")[number % 3]) for number in range(1, 91)]
GOALS = ("run_5k", "run_10k", "lose_weight", "build_strength", "move_daily", "sleep_better")
ODD = st.floats(allow_nan=False)

people = st.builds(
    Person,
    goals=st.frozensets(st.sampled_from(GOALS)),
    rest_days=st.frozensets(st.integers(0, 6)),
    equipment=st.frozensets(st.sampled_from(["bike", "pool", "weights"])),
    workouts=st.integers(0, 9),
    last_heavy=st.none() | st.dates(FRIDAY - timedelta(days=9), FRIDAY),
)
of_workouts = st.dictionaries(
    st.sampled_from([*BY_CODE, "unknown"]), st.builds(Score, ODD, st.text(), st.integers(1, 9))
)
of_quotes = st.dictionaries(
    st.integers(1, 95).map(str), st.builds(Score, ODD, st.text(), st.integers(1, 9))
)
shown = st.dictionaries(
    st.integers(1, 90), st.integers(0, 60).map(lambda days: FRIDAY - timedelta(days=days))
)


@given(people, of_workouts, st.integers(0, 40), st.integers(1, 10**9))
def test_never_a_heavy_session_on_a_rest_day_and_only_light_ones_for_new_people(
    person, scores, days, user
):
    day = FRIDAY + timedelta(days=days)
    [workout, _] = today(Asked(user, day, person), QUOTES, {"workout": scores})
    chosen = BY_CODE[workout.item]
    if day.weekday() in person.rest_days or person.workouts < 3:
        assert chosen.effort <= Effort.LIGHT
    if person.last_heavy and abs((day - person.last_heavy).days) <= 1:
        assert chosen.effort < Effort.HEAVY
    assert chosen.needs <= person.equipment
    assert 0 < workout.propensity <= 1
    if person.workouts < 3:
        assert workout.policy == "default"


@given(of_quotes, shown, st.sampled_from(["calm", "firm", "bright", None]), st.integers(1, 10**9))
def test_no_quote_twice_in_30_days(scores, shown, mood, user):
    found = today(Asked(user, FRIDAY, mood=mood, shown=shown), QUOTES, {"quote": scores})
    for quote in found[1:]:
        assert FRIDAY - shown.get(int(quote.item), date.min) >= timedelta(days=30)
        assert 0 < quote.propensity <= 1
    seen = {number for number, day in shown.items() if FRIDAY - day < timedelta(days=30)}
    assert (len(found) == 2) == (len(seen) < 90)


def test_a_year_of_quotes_never_repeats_one_within_30_days():
    scores = {"quote": {"7": Score(1.0, "You like it.", 1), "8": Score(0.9, "", 1)}}
    last: dict[int, date] = {}
    for number in range(365):
        day = FRIDAY + timedelta(days=number)
        [_, quote] = today(Asked(5, day, shown=last), QUOTES, scores)
        assert day - last.get(int(quote.item), date.min) >= timedelta(days=30)
        last[int(quote.item)] = day


def test_the_propensity_is_how_often_it_is_chosen():
    fit = Person(workouts=9)
    scores = {"workout": {"yoga_20": Score(1.0, "Yoga is yours.", 4), "walk_20": Score(0.8, "", 4)}}
    counts, told = Counter(), {}
    for user in range(6_000):
        [workout, _] = today(Asked(user, FRIDAY, fit), QUOTES, scores)
        counts[workout.item] += 1
        told[workout.item] = workout
    assert sum(each.propensity for each in told.values()) == pytest.approx(1)
    for item, workout in told.items():
        assert counts[item] / 6_000 == pytest.approx(workout.propensity, abs=0.02)
    assert told["yoga_20"].propensity > 2 * told["walk_20"].propensity
    assert (told["yoga_20"].reason, told["yoga_20"].policy) == ("Yoga is yours.", "model:4")
    # Everything that is suitable may come, so that there is something to learn from.
    assert len(counts) > 10


def test_the_same_day_gives_the_same_choices_and_no_scores_give_the_default():
    asked = Asked(3, FRIDAY, mood="firm")
    assert today(asked, QUOTES, {}) == today(asked, QUOTES, {})
    [workout, quote] = today(asked, QUOTES, {})
    assert (workout.policy, quote.policy) == ("default", "default")
    assert {each.id: each.mood for each in QUOTES}[int(quote.item)] == "firm"
    assert quote.propensity == pytest.approx(1 / 30)
    some = {today(replace(asked, user_id=user), QUOTES, {})[1].item for user in range(200)}
    assert len(some) > 20
