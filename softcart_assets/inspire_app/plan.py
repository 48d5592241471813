"""The workout and the quote of a day.

Rules come first: they say what may be chosen at all. Among that, a score decides with some chance.
The probability of each choice is kept, so that another ranker can be judged by what people did.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Final

from softcart_assets.lines.inspire.catalogue import DEFAULTS, Effort, Workout

QUOTE_AGAIN_AFTER: Final = timedelta(days=30)
"""So long a quote is not shown to the same person again."""

NEW_WORKOUTS: Final = 3
"""Until so many workouts, somebody is new and gets light ones only."""

_WARMTH: Final = 0.2
"""How much chance there is: with a score higher by this, a choice is e times as likely."""


@dataclass(frozen=True)
class Person:
    """What counts about somebody. `workouts`: how many were done. `last_heavy`: a local date."""

    goals: frozenset[str] = frozenset()
    rest_days: frozenset[int] = frozenset()
    equipment: frozenset[str] = frozenset()
    workouts: int = 0
    last_heavy: date | None = None


@dataclass(frozen=True)
class Choice:
    """What was chosen, and how probable that was."""

    item: str
    propensity: float


def suitable(
    workouts: Iterable[Workout], person: Person, day: date, *, most_minutes: int = 180
) -> list[Workout]:
    """The workouts that somebody may be proposed on a local date, at least one.

    On a rest day nothing is more than light, and there is no heavy workout the day after another.
    Somebody new gets light ones. Nothing needs what somebody does not have.
    """
    most = Effort.HEAVY
    if person.last_heavy is not None and abs((day - person.last_heavy).days) <= 1:
        most = Effort.STEADY
    if day.weekday() in person.rest_days or person.workouts < NEW_WORKOUTS:
        most = Effort.LIGHT
    found = [
        each
        for each in workouts
        if each.effort <= most
        and each.needs <= person.equipment
        and each.minutes <= most_minutes
        and (not each.goals or not person.goals or each.goals & person.goals)
    ]
    return found or [each for each in DEFAULTS if each.minutes <= most_minutes]


def choose(items: Sequence[str], scores: Mapping[str, float], chance: Random) -> Choice:
    """One of the items, the more probable the higher its score. An item without a score has 0.

    Raises `ValueError` if there is none, or a score is no finite number.
    """
    if not items:
        raise ValueError("There is nothing to choose from.")
    values = [scores.get(item, 0.0) for item in items]
    if not all(map(math.isfinite, values)):
        raise ValueError("A score is not a finite number.")
    highest = max(values)
    weights = [math.exp((value - highest) / _WARMTH) for value in values]
    [place] = chance.choices(range(len(items)), weights)
    return Choice(items[place], weights[place] / math.fsum(weights))


def unseen(quotes: Iterable[int], shown: Mapping[int, date], day: date) -> list[int]:
    """The quotes that somebody has not seen for long enough. `shown`: when each was shown last."""
    return [
        quote for quote in quotes if quote not in shown or day - shown[quote] >= QUOTE_AGAIN_AFTER
    ]


def chance_of(user_id: int, day: date, kind: str) -> Random:
    """The chance for somebody's choice of a day: two requests at once choose the same."""
    return Random(f"{kind} {user_id} {day.isoformat()}")
