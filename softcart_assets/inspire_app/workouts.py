"""Workouts as people log them or other applications export them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from softcart_assets.lines.inspire.zones import ZONES

_LONGEST: Final = timedelta(hours=48)
_LARGEST: Final = Decimal(10**7)

_FIELDS: Final = {
    "run": {"distance_m", "ascent_m"},
    "walk": {"distance_m", "ascent_m"},
    "ride": {"distance_m", "ascent_m", "average_watts"},
    "swim": {"distance_m", "pool_m", "stroke"},
    "strength": {"sets"},
    "yoga": {"style"},
}
ACTIVITIES: Final = tuple(_FIELDS)
NUMBERS: Final = {"distance_m", "ascent_m", "average_watts", "pool_m"}
AMOUNT_PLACES: Final = 2
LOAD_PLACES: Final = 3
"""Decimal places of a number and of a set's load. The warehouse has no more, so none are kept."""


class Origin(StrEnum):
    """Where a workout comes from."""

    APP = "app"
    API = "api"
    GPX = "gpx"
    TCX = "tcx"
    FIT = "fit"


@dataclass(frozen=True)
class Set:
    """Repetitions of an exercise without a pause between them."""

    exercise: str
    repetitions: int
    load_kg: Decimal


@dataclass(frozen=True)
class Workout:
    """A workout that was done. `details`: what its activity knows besides.

    `time_zone`: of the place where it was done. It says to which day the workout belongs.
    """

    activity: str
    started_at: datetime
    time_zone: str
    duration: timedelta
    origin: Origin = Origin.APP
    effort: int | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def local_date(self) -> date:
        """The day on which it was begun."""
        return self.started_at.astimezone(ZoneInfo(self.time_zone)).date()

    @property
    def fingerprint(self) -> str:
        """The same for one workout from two devices: activity, start and length to the minute."""
        start = self.started_at.astimezone(UTC)
        minutes = round(self.duration.total_seconds() / 60)
        return f"{self.activity}:{start:%Y-%m-%dT%H:%M}:{minutes}"

    def problems(self, now: datetime) -> dict[str, str]:
        """Field → what to do. Empty: it can be kept."""
        found = {}
        if self.activity not in _FIELDS:
            found["activity"] = f"Choose one of {', '.join(_FIELDS)}."
        if self.time_zone not in ZONES:
            found["time_zone"] = "Choose a time zone, such as Europe/Berlin."
        # A clock may be a little fast.
        if not now - timedelta(days=3660) < self.started_at <= now + timedelta(minutes=5):
            found["started_at"] = "Give a start in the last ten years, and not to come."
        if not timedelta() < self.duration <= _LONGEST:
            found["duration"] = "Give a length of up to 48 hours."
        if self.effort is not None and not 1 <= self.effort <= 10:
            found["effort"] = "Give an effort from 1 to 10."
        if len(self.note) > 2000:
            found["note"] = "Write up to 2,000 characters."
        for name, value in self.details.items():
            problem = _problem(self.activity, name, value)
            if problem:
                found[name] = problem
        return found


def _problem(activity: str, name: str, value: Any) -> str | None:
    if name not in _FIELDS.get(activity, ()):
        return "This activity does not have it."
    if name in NUMBERS:
        is_good = isinstance(value, Decimal) and value.is_finite() and 0 <= value <= _LARGEST
        return None if is_good else "Give a number that is not negative."
    if name != "sets":
        return None if isinstance(value, str) and len(value) <= 100 else "Write one word."
    is_good = all(
        0 < len(each.exercise) <= 100
        and 0 < each.repetitions <= 10_000
        and each.load_kg.is_finite()
        and 0 <= each.load_kg <= 1000
        for each in value
    )
    return None if is_good else "Give each set an exercise, repetitions and up to 1,000 kg."
