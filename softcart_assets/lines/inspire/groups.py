"""The groups of people that figures are told of, and those that are too small to be told of."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Final, TypeVar

FEWEST: Final = 10
"""A figure of fewer people might tell something of one of them."""

AGE_BANDS: Final = (
    (20, "under 20"),
    *((age, f"{age - 10}s") for age in range(30, 80, 10)),
)
"""The first age that is above a band, and its name. The last band has none."""
OLDEST: Final = "70 and over"

_Group = TypeVar("_Group", bound=Hashable)


def hidden(people: Mapping[_Group, int]) -> set[_Group]:
    """The groups to leave out, by how many people are in each.

    If any has fewer than `FEWEST`, the next smallest are left out, too, until at least two groups
    and `FEWEST` people are. Otherwise the sum of all, less those that are told, would tell it.
    """
    found: set[_Group] = set()
    if all(count >= FEWEST for count in people.values()):
        return found
    before = 0
    for place, group in enumerate(sorted(people, key=lambda each: (people[each], str(each)))):
        if place >= 2 and people[group] >= FEWEST and before >= FEWEST:
            break
        found.add(group)
        before += people[group]
    return found
