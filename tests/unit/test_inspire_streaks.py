"""Days in a row with a workout."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.inspire_app.streaks import Streak, streak

TODAY = date(2026, 11, 27)  # a Friday
DAY = timedelta(days=1)

ages = st.frozensets(st.integers(0, 40))
rests = st.frozensets(st.integers(0, 6))


def days_ago(*numbers: int) -> set[date]:
    return {TODAY - number * DAY for number in numbers}


def test_nobody_starts_with_a_streak() -> None:
    assert streak([], TODAY) == Streak(0, 0, False)


def test_today_is_not_missed_before_it_ends() -> None:
    assert streak(days_ago(1, 2, 3), TODAY) == Streak(3, 3, False)
    assert streak(days_ago(0, 1, 2, 3), TODAY) == Streak(4, 4, True)
    assert streak(days_ago(2, 3), TODAY) == Streak(0, 2, False)


def test_a_rest_day_neither_counts_nor_ends_a_streak() -> None:
    thursday = frozenset({3})
    assert streak(days_ago(0, 2), TODAY, thursday) == Streak(2, 2, True)
    assert streak(days_ago(2), TODAY, thursday) == Streak(1, 1, False)
    assert streak(days_ago(0, 1, 2), TODAY, thursday) == Streak(3, 3, True)


def test_two_workouts_of_a_day_count_once() -> None:
    assert streak([TODAY, TODAY], TODAY) == Streak(1, 1, True)


def test_workouts_after_today_do_not_count_yet() -> None:
    assert streak([TODAY, TODAY + DAY], TODAY) == Streak(1, 1, True)


def by_hand(done: set[date], rest: frozenset[int]) -> Streak:
    """Day by day, from the first workout to today."""
    run = longest = 0
    for number in range(40, -1, -1):
        day = TODAY - number * DAY
        if day in done:
            run += 1
        elif day.weekday() not in rest and day != TODAY:
            run = 0
        longest = max(longest, run)
    return Streak(run, longest, TODAY in done)


@given(ages, rests)
def test_it_is_what_counting_by_hand_gives(numbers: frozenset[int], rest: frozenset[int]) -> None:
    done = days_ago(*numbers)
    assert streak(done, TODAY, rest) == by_hand(done, rest)


@given(ages, rests, st.integers(0, 40))
def test_another_workout_never_shortens_a_streak(
    numbers: frozenset[int], rest: frozenset[int], more: int
) -> None:
    before = streak(days_ago(*numbers), TODAY, rest)
    after = streak(days_ago(*numbers, more), TODAY, rest)
    assert after.current >= before.current
    assert after.longest >= before.longest
