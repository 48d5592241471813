"""The workout and the quote of somebody's day: chosen once, and kept with how probable it was."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

from softcart_assets.inspire_app import recommendations
from softcart_assets.inspire_app.plan import QUOTE_AGAIN_AFTER, Person
from softcart_assets.inspire_app.preferences import Preferences
from softcart_assets.inspire_app.recommendations import Asked, Quote, Scores
from softcart_assets.inspire_app.storage.documents import Documents
from softcart_assets.inspire_app.storage.mysql import Tables
from softcart_assets.lines.inspire.catalogue import CATALOGUE, Effort, Workout

_WORKOUTS: Final = {each.code: each for each in CATALOGUE}

_HEAVY: Final = 7
"""An effort from which on a workout was heavy, if its person says how hard it was."""


@dataclass(frozen=True)
class Today:
    """`quote`: id, text and author. None: all were shown lately. `is_done`: the workout was."""

    workout: Workout
    reason: str
    is_done: bool
    quote: dict[str, Any] | None


def todays_choice(
    tables: Tables,
    documents: Documents,
    scores: Callable[[int], Scores],
    user_id: int,
    day: date,
    now: datetime,
) -> Today:
    """What is proposed to somebody for a local date. Whoever asks first makes the choice."""
    kept = tables.choices(user_id, day)
    if "workout" not in kept:
        asked = _asked(tables, documents, user_id, day)
        listed = [Quote(each["id"], each["mood"]) for each in tables.quotes()]
        # The workout comes last: where there is one, there may be no quote that is not too soon.
        for each in reversed(recommendations.today(asked, listed, scores(user_id))):
            tables.add_choice(
                user_id, day, each.kind, each.item, each.propensity, each.policy, each.reason, now
            )
            # Nothing is kept of a deleted account.
            kept[each.kind] = {"item": each.item, "reason": each.reason, "done_at": None}
        # Another request may have been the first.
        kept |= tables.choices(user_id, day)
    workout, quote = kept["workout"], kept.get("quote")
    return Today(
        # A code may have left the catalogue since this morning.
        _WORKOUTS.get(workout["item"], CATALOGUE[0]),
        workout["reason"],
        workout["done_at"] is not None,
        tables.quote(int(quote["item"])) if quote else None,
    )


def _asked(tables: Tables, documents: Documents, user_id: int, day: date) -> Asked:
    likes = documents.preferences(user_id)
    return Asked(
        user_id,
        day,
        Person(
            _goals(tables, likes, user_id),
            likes.rest_days,
            likes.equipment,
            documents.count(user_id),
            _last_heavy(tables, documents, user_id, day),
        ),
        likes.mood or None,
        tables.quotes_shown(user_id, day - QUOTE_AGAIN_AFTER),
    )


def _goals(tables: Tables, likes: Preferences, user_id: int) -> frozenset[str]:
    own = {goal.code for goal in tables.goals(user_id) if goal.amount is not None}
    return frozenset(own or likes.goals)


def _last_heavy(tables: Tables, documents: Documents, user_id: int, day: date) -> date | None:
    """When somebody last did something heavy: it felt so, or it was proposed as such."""
    lately = documents.since(user_id, day - timedelta(days=2))
    heavy = [each.workout.local_date for each in lately if (each.workout.effort or 0) >= _HEAVY]
    before = day - timedelta(days=1)
    proposed = tables.choices(user_id, before).get("workout")
    # Nobody has to say how hard something was.
    if proposed and proposed["done_at"] and _effort(proposed["item"]) is Effort.HEAVY:
        heavy.append(before)
    return max(heavy, default=None)


def _effort(code: str) -> Effort | None:
    workout = _WORKOUTS.get(code)
    return workout.effort if workout else None


def mark_done(
    tables: Tables, user_id: int, day: date, activities: Collection[str], now: datetime
) -> None:
    """Note what somebody did on a day, if it was proposed to them."""
    # What is chosen later was seen by nobody who did it.
    shown = tables.choices(user_id, day).get("workout")
    workout = _WORKOUTS.get(shown["item"]) if shown else None
    if workout and workout.effort is not Effort.REST and workout.activity in activities:
        tables.mark_done(user_id, day, now)
