"""Made-up people with tastes, what was shown to them and what they took, with the probabilities."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import numpy as np

from softcart_assets.lines.model import Limit, Ranker
from softcart_assets.ml.rank import Events, Items

RANKER = Ranker(
    "dish",
    "What a guest would like to eat.",
    features="agg_dishes",
    subject="guest_id",
    item="item",
    only=("kind", "dish"),
    alike=("goal",),
    traits=("activity", "effort"),
    reasons={
        "goal": "Guests with your goal like it.",
        "own": "You like it.",
        "similar": "Guests like you like it.",
    },
    ceiling=Limit(Decimal("0.88"), "Taste is partly chance."),
)

GOALS, KINDS = 6, 8
FIRST = 2026 * 12


def items(traits: tuple[int, int] = (6, 3), each: int = 1) -> Items:
    """Items with every pair of two traits."""
    pairs = [(a, b) for a in range(traits[0]) for b in range(traits[1]) for _ in range(each)]
    columns = ("popular", "goal", "own", "activity", "effort", "similar", "seen")
    names = tuple(f"i{number:02}" for number in range(len(pairs)))
    return Items(names, np.array(pairs), columns, (GOALS,))


def events(
    of: Items, people: int = 600, months: int = 5, seed: int = 5, taste: float = 1.8
) -> tuple[Events, np.ndarray]:
    """Events and the probability of each row's item when it was shown. `taste` 0: all are alike."""
    dice = np.random.default_rng(seed)
    firsts, seconds = (int(column.max()) + 1 for column in of.traits.T)
    goals, kinds = dice.integers(0, GOALS, people), dice.integers(0, KINDS, people)
    rows = []
    for person in range(people):
        for month in range(months):
            shown = np.bincount(dice.integers(0, len(of.names), 15), minlength=len(of.names))
            for item in np.flatnonzero(shown):
                rows.append((person, item, FIRST + month, shown[item]))
    person, item, month, shown = np.array(rows).T
    first, second = of.traits[item].T
    likes = (first == kinds[person] % firsts) | (first == (kinds[person] + 1) % firsts)
    odds = -1.6 + (first == goals[person] % firsts) * 1.0
    odds += np.where(likes, taste, -taste * 0.44)
    odds += np.where(second == kinds[person] % seconds, taste * 0.44, -taste * 0.22)
    truth = 1 / (1 + np.exp(-odds))
    taken = dice.binomial(shown, truth)
    found = Events(
        person, item, month, shown.astype(float), taken.astype(float), goals[person][:, None]
    )
    return found, truth


def shown_to_people(of: Items, found: Events) -> list[tuple]:
    """The rows of the features' table: subject, kind, item, month, counts, traits, position."""
    return [
        (
            int(person) + 1,
            "dish",
            of.names[item],
            date(int(month) // 12, int(month) % 12 + 1, 1),
            int(shown),
            int(taken),
            f"goal {goal}",
            f"a{of.traits[item][0]}",
            f"b{of.traits[item][1]}",
            "kitchen:7",
        )
        for person, item, month, shown, taken, [goal] in zip(
            found.subjects,
            found.items,
            found.months,
            found.shown,
            found.taken,
            found.alike,
            strict=True,
        )
    ]
