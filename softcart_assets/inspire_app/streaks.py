"""Days in a row with a workout."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Streak:
    """`current`: days in a row until today. `longest`: the most ever. `today`: one was done today.

    Both count days with a workout. A rest day without one does not end a streak.
    """

    current: int
    longest: int
    today: bool


def streak(
    workouts: Collection[date], today: date, rest_days: frozenset[int] = frozenset()
) -> Streak:
    """The streak of somebody who did workouts on these local dates.

    `rest_days`: the person's weekdays for rest, Monday is 0. Workouts after `today` do not count
    yet: somebody who has flown west may have them.
    """
    done = sorted({day for day in workouts if day <= today})
    longest = run = 0
    last: date | None = None
    for day in done:
        run = run + 1 if last and not _missed(last, day, rest_days) else 1
        longest, last = max(longest, run), day
    # Today is not over: it is not missed before it ends.
    is_alive = last is not None and not _missed(last, today, rest_days)
    return Streak(run if is_alive else 0, longest, last == today)


def _missed(last: date, day: date, rest_days: frozenset[int]) -> bool:
    """Whether a day between two dates should have had a workout."""
    between = (day - last).days - 1
    # Each weekday comes in seven days. With seven rest days, nothing can be missed.
    return any(
        (last + number * _DAY).weekday() not in rest_days
        for number in range(1, min(between, 7) + 1)
    )
