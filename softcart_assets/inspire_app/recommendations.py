"""Today's workout and quote of a person, from the scores that the models published.

`plan` says what may be chosen at all. A score makes a choice more probable, and nothing certain:
what is never shown teaches nobody. Each choice comes with its exact probability. The application
keeps it in `choices`, where the models learn from it.

Who has no scores, because the person is new or because production cannot be read, gets what is good
for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final, Literal

import psycopg

from softcart_assets.inspire_app import plan
from softcart_assets.inspire_app.plan import Person
from softcart_assets.lines.inspire.catalogue import CATALOGUE, Workout

Kind = Literal["workout", "quote"]

_TABLES: Final[Mapping[Kind, str]] = {"workout": "workout_scores", "quote": "quote_scores"}
_DEFAULT: Final = "default"
_NO_REASON: Final = {
    "workout": "Good for everybody.",
    "quote": "One that you have not seen lately.",
}


@dataclass(frozen=True)
class Quote:
    """A quote that is on."""

    id: int
    mood: str


@dataclass(frozen=True)
class Score:
    """What a model says of an item for a person. `value`: 1 for the best one, down to 0."""

    value: float
    reason: str
    version: int


Scores = Mapping[Kind, Mapping[str, Score]]
"""The scores of one person: kind → item → score. Both may be empty."""


@dataclass(frozen=True)
class Proposal:
    """A choice as `choices` has it. `propensity`: how probable it was when it was made."""

    kind: Kind
    item: str
    propensity: float
    policy: str
    reason: str


@dataclass(frozen=True)
class Asked:
    """Who asks, and what counts. `mood`: what kind of quotes the person likes, if it is known.

    `shown`: when each quote was shown to the person last, as local dates.
    """

    user_id: int
    day: date
    person: Person = field(default_factory=Person)
    mood: str | None = None
    shown: Mapping[int, date] = field(default_factory=dict)


def today(
    asked: Asked, quotes: Iterable[Quote], scores: Scores, workouts: Iterable[Workout] = CATALOGUE
) -> list[Proposal]:
    """The workout of a person's day and, if there is one that is not shown too soon, the quote.

    The same day and the same facts give the same choices.
    """
    may_be = [each.code for each in plan.suitable(workouts, asked.person, asked.day)]
    is_new = asked.person.workouts < plan.NEW_WORKOUTS
    found = [_proposal(asked, "workout", may_be, {} if is_new else scores.get("workout", {}))]
    unseen = _unseen(asked, quotes, has_scores=bool(scores.get("quote")))
    if unseen:
        found.append(_proposal(asked, "quote", unseen, scores.get("quote", {})))
    return found


def published(session: psycopg.Connection, user_id: int) -> Scores:
    """The published scores of a person. Empty for somebody whom no model knows yet.

    Raises `psycopg.Error` if production cannot be read. Then `today` does without scores.
    """
    found: dict[Kind, dict[str, Score]] = {}
    for kind, table in _TABLES.items():
        [there] = session.execute("SELECT to_regclass(%s)", [f"production.{table}"]).fetchone() or [
            None
        ]
        rows = (
            session.execute(
                f"SELECT item, score, reason, model_version FROM production.{table}"
                " WHERE user_id = %s",
                [user_id],
            ).fetchall()
            if there
            else []
        )
        found[kind] = {
            item: Score(float(value), reason or "", version)
            for item, value, reason, version in rows
        }
    return found


def _unseen(asked: Asked, quotes: Iterable[Quote], has_scores: bool) -> list[str]:
    """The quotes that may be shown. Without scores, those of the person's mood if there are any."""
    known = {each.id: each.mood for each in quotes}
    unseen = plan.unseen(known, asked.shown, asked.day)
    in_mood = [each for each in unseen if known[each] == asked.mood]
    return [str(each) for each in (unseen if has_scores or not in_mood else in_mood)]


def _proposal(
    asked: Asked, kind: Kind, items: Sequence[str], scores: Mapping[str, Score]
) -> Proposal:
    of = {item: scores[item] for item in items if item in scores}
    chance = plan.chance_of(asked.user_id, asked.day, kind)
    # Whatever was published: no item is more than e^5 times as probable as another one.
    values = {item: min(max(score.value, 0.0), 1.0) for item, score in of.items()}
    choice = plan.choose(items, values, chance)
    chosen = of.get(choice.item)
    policy = f"model:{max(each.version for each in of.values())}" if of else _DEFAULT
    reason = (chosen.reason if chosen else "") or _NO_REASON[kind]
    return Proposal(kind, choice.item, choice.propensity, policy, reason)
