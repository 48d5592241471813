"""Keeps workouts that other applications have recorded, and notes what they complete."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from softcart_assets.inspire_app import imports
from softcart_assets.inspire_app.site import Site
from softcart_assets.inspire_app.storage.documents import Kept
from softcart_assets.inspire_app.storage.mysql import Person
from softcart_assets.inspire_app.today import mark_done
from softcart_assets.inspire_app.workouts import Workout


@dataclass(frozen=True)
class Taken:
    """What came of a file. `duplicates`: how many workouts were there already."""

    added: list[Kept]
    duplicates: int
    problems: list[str]


def take(site: Site, me: Person, content: bytes, activity: str | None) -> Taken:
    """Keep the workouts of a file. `activity`: what they are if the file does not say.

    Raises `imports.NotReadable`.
    """
    now = site.clock()
    found = imports.read(content, me.time_zone, now, activity)
    ids = [site.documents.add(me.id, each, now) for each in found.workouts]
    added = [Kept(id, each) for id, each in zip(ids, found.workouts, strict=True) if id]
    note_done(site, me, [each.workout for each in added])
    return Taken(added, len(ids) - len(added), found.problems)


def note_done(site: Site, me: Person, workouts: Iterable[Workout]) -> None:
    """Note if somebody did what was proposed for today."""
    now = site.clock()
    day = now.astimezone(ZoneInfo(me.time_zone)).date()
    done = {each.activity for each in workouts if each.local_date == day}
    if done:
        with site.tables() as tables:
            mark_done(tables, me.id, day, done, now)
