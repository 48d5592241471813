"""Keeps workouts that other applications have recorded, and notes what they complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from softcart_assets.inspire_app import imports
from softcart_assets.inspire_app.site import Site
from softcart_assets.inspire_app.storage.mysql import Person
from softcart_assets.inspire_app.today import is_proposed, todays_choice
from softcart_assets.inspire_app.workouts import Workout


@dataclass(frozen=True)
class Taken:
    """What came of a file. `added`: ids. `duplicates`: workouts that were there already."""

    added: list[str]
    duplicates: int
    problems: list[str]


def take(site: Site, me: Person, content: bytes, activity: str | None) -> Taken:
    """Keep the workouts of a file. `activity`: what they are if the file does not say.

    Raises `imports.NotReadable`.
    """
    now = site.clock()
    found = imports.read(content, me.time_zone, now, activity)
    kept = [(site.documents.add(me.id, each, now), each) for each in found.workouts]
    note_done(site, me, [each for id, each in kept if id])
    added = [id for id, _ in kept if id]
    return Taken(added, len(kept) - len(added), found.problems)


def note_done(site: Site, me: Person, workouts: Iterable[Workout]) -> None:
    """Note if somebody did what was proposed for today."""
    now = site.clock()
    day = now.astimezone(ZoneInfo(me.time_zone)).date()
    for each in (workout for workout in workouts if workout.local_date == day):
        with site.tables() as tables:
            plan = todays_choice(tables, site.documents, site.scores, me.id, day, now)
            if is_proposed(plan.workout, each.activity):
                tables.mark_done(me.id, day, now)
