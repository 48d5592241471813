"""The workouts that the application can propose: one list for it, the seed data and the jobs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Effort(IntEnum):
    """How hard a workout is."""

    REST = 0
    LIGHT = 1
    STEADY = 2
    HEAVY = 3


@dataclass(frozen=True)
class Workout:
    """A workout that can be proposed. `needs`: equipment. `goals`: the codes that it serves; none:
    all of them."""

    code: str
    activity: str
    name: str
    minutes: int
    effort: Effort
    goals: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()


DEFAULTS: Final = (
    Workout("rest", "walk", "A rest day. A stroll if you like.", 0, Effort.REST),
    Workout("walk_20", "walk", "Walk for 20 minutes", 20, Effort.LIGHT),
    Workout("stretch_15", "yoga", "Stretch for 15 minutes", 15, Effort.LIGHT),
)
"""They are good for everybody: no equipment, no strain."""

_BIKE, _POOL, _WEIGHTS = (frozenset({each}) for each in ("bike", "pool", "weights"))

CATALOGUE: Final = (
    *DEFAULTS,
    Workout("walk_40", "walk", "Walk for 40 minutes", 40, Effort.LIGHT),
    Workout("walk_brisk_30", "walk", "Walk briskly for 30 minutes", 30, Effort.STEADY),
    Workout("walk_hills_60", "walk", "Walk in the hills for an hour", 60, Effort.STEADY),
    Workout("run_walk_20", "run", "Run and walk by turns for 20 minutes", 20, Effort.LIGHT),
    Workout("run_easy_30", "run", "Run at an easy pace for 30 minutes", 30, Effort.STEADY),
    Workout("run_long_60", "run", "Run slowly for an hour", 60, Effort.STEADY),
    Workout("run_intervals_40", "run", "Run six fast intervals in 40 minutes", 40, Effort.HEAVY),
    Workout(
        "ride_easy_30", "ride", "Ride at an easy pace for 30 minutes", 30, Effort.LIGHT, needs=_BIKE
    ),
    Workout("ride_60", "ride", "Ride for an hour", 60, Effort.STEADY, needs=_BIKE),
    Workout(
        "ride_hills_75", "ride", "Ride in the hills for 75 minutes", 75, Effort.HEAVY, needs=_BIKE
    ),
    Workout(
        "swim_easy_20", "swim", "Swim at an easy pace for 20 minutes", 20, Effort.LIGHT, needs=_POOL
    ),
    Workout("swim_40", "swim", "Swim for 40 minutes", 40, Effort.STEADY, needs=_POOL),
    Workout(
        "swim_sprints_30", "swim", "Swim ten sprints in 30 minutes", 30, Effort.HEAVY, needs=_POOL
    ),
    Workout("core_15", "strength", "Strengthen the core for 15 minutes", 15, Effort.LIGHT),
    Workout("body_30", "strength", "Strength without weights for 30 minutes", 30, Effort.STEADY),
    Workout(
        "weights_45", "strength", "Lift weights for 45 minutes", 45, Effort.HEAVY, needs=_WEIGHTS
    ),
    Workout("legs_40", "strength", "Squats and lunges for 40 minutes", 40, Effort.HEAVY),
    Workout("yoga_20", "yoga", "Yoga for 20 minutes", 20, Effort.LIGHT),
    Workout("yoga_evening_30", "yoga", "Quiet yoga for 30 minutes", 30, Effort.LIGHT),
    Workout("yoga_flow_45", "yoga", "Flowing yoga for 45 minutes", 45, Effort.STEADY),
    Workout("yoga_power_60", "yoga", "Power yoga for an hour", 60, Effort.HEAVY),
)
