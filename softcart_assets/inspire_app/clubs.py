"""How far clubs have come with their challenges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from softcart_assets.inspire_app.goals import Progress, shown
from softcart_assets.inspire_app.site import Site
from softcart_assets.inspire_app.storage.mysql import Challenge, Tables
from softcart_assets.web.live import Unavailable

Joined = list[tuple[Challenge, list[int]]]
"""Challenges, each with the members of its club."""


@dataclass(frozen=True)
class Team:
    """How far a club has come with a challenge, and what somebody has done for it."""

    challenge: Challenge
    all: Progress
    mine: float
    active: int
    days_left: int


def joined(tables: Tables, user_id: int, day: date) -> Joined:
    """What goes on in somebody's clubs on a day."""
    return [(each, tables.members(each.club_id)) for each in tables.challenges(user_id, day)]


def teams(site: Site, challenges: Joined, user_id: int, day: date) -> list[Team]:
    """How far these challenges are, for somebody who looks at them on a day."""
    found = []
    for each, members in challenges:
        sums = _sums(site, each, members, user_id)
        (amount, unit), (all_, _), (mine, _) = (
            shown(value, each.unit)
            for value in (float(each.amount), sum(sums.values()), sums.get(user_id, 0.0))
        )
        progress = Progress(each.name, all_, amount, unit)
        found.append(Team(each, progress, mine, len(sums), (each.ends_on - day).days))
    return found


def _sums(site: Site, each: Challenge, members: Iterable[int], user_id: int) -> dict[int, float]:
    """What members have done, by the running totals. Without these, workouts are added up."""
    asked = each.unit, each.starts_on, each.ends_on
    try:
        sums = site.totals.together(members, *asked)
    except Unavailable:
        return site.documents.together(members, *asked)
    # Nobody has to wait for what they have just done themselves.
    sums.pop(user_id, None)
    return sums | site.documents.together([user_id], *asked)
