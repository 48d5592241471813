"""How far somebody has come in a week."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from softcart_assets.inspire_app.storage.mysql import Goal
from softcart_assets.inspire_app.workouts import Workout

WEEK = timedelta(days=7)


@dataclass(frozen=True)
class Progress:
    """`done` of `wanted`, in the unit that people use: km in the place of metres."""

    name: str
    done: float
    wanted: float
    unit: str

    @property
    def percent(self) -> int:
        """How far, from 0 to 100."""
        return 100 if self.done >= self.wanted else max(0, int(100 * self.done / self.wanted))


def monday(day: date) -> date:
    """The first day of a week."""
    return day - timedelta(days=day.weekday())


def shown(amount: float, unit: str) -> tuple[float, str]:
    """An amount in the unit that people use."""
    return (amount / 1000, "km") if unit == "metres" else (amount, unit)


def done(workout: Workout, unit: str) -> float:
    """What a workout adds in a unit."""
    if unit == "workouts":
        return 1
    if unit == "minutes":
        return workout.duration.total_seconds() / 60
    return float(workout.details.get("distance_m", 0))


def progress(goals: Iterable[Goal], workouts: Iterable[Workout]) -> list[Progress]:
    """How far somebody has come with each goal by these workouts. A goal of an activity counts
    that activity only.
    """
    made = [*workouts]
    found = []
    for goal in (each for each in goals if each.amount is not None):
        sum_ = sum(done(each, goal.unit) for each in made if goal.activity in (None, each.activity))
        amount, unit = shown(float(goal.amount or 0), goal.unit)
        found.append(Progress(goal.name, shown(sum_, goal.unit)[0], amount, unit))
    return found


def minutes_by_day(workouts: Iterable[Workout]) -> dict[date, float]:
    """Minutes of each local date."""
    found: defaultdict[date, float] = defaultdict(float)
    for each in workouts:
        found[each.local_date] += done(each, "minutes")
    return found


def workouts_by_week(workouts: Iterable[Workout], day: date, weeks: int) -> list[tuple[date, int]]:
    """How many workouts each of the last weeks has, by its Monday, the oldest first."""
    counted = Counter(monday(each.local_date) for each in workouts)
    first = monday(day) - (weeks - 1) * WEEK
    return [(first + n * WEEK, counted[first + n * WEEK]) for n in range(weeks)]
