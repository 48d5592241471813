"""Workouts, as the forms have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

from softcart_assets.inspire_app.workouts import AMOUNT_PLACES, LOAD_PLACES, Set, Workout

SETS: Final = 12
"""So many sets a form has."""


@dataclass(frozen=True)
class Field:
    """A field of an activity. `factor`: what a number is multiplied by, None: it is a text."""

    name: str
    label: str
    key: str
    factor: int | None = 1
    options: tuple[str, ...] = ()


_DISTANCE: Final = Field("distance_km", "Kilometres", "distance_m", 1000)
_ASCENT: Final = Field("ascent_m", "Metres of ascent", "ascent_m")

FIELDS: Final[Mapping[str, tuple[Field, ...]]] = {
    "run": (_DISTANCE, _ASCENT),
    "walk": (_DISTANCE, _ASCENT),
    "ride": (_DISTANCE, _ASCENT, Field("average_watts", "Average watts", "average_watts")),
    "swim": (
        Field("distance_m", "Metres", "distance_m"),
        Field("pool_m", "Length of the pool in metres", "pool_m"),
        Field(
            "stroke",
            "Stroke",
            "stroke",
            None,
            ("freestyle", "breaststroke", "backstroke", "butterfly", "mixed"),
        ),
    ),
    "strength": (),
    "yoga": (Field("style", "Style", "style", None, ("hatha", "vinyasa", "yin", "power")),),
}
"""Activity → what its form asks for besides time, effort and note."""


def number(text: str) -> Decimal | None:
    """A number as people write it, with a point or a comma. None: it is none, or enormous."""
    try:
        found = Decimal(text.strip().replace(",", "."))
    except InvalidOperation:
        return None
    return found if found.is_finite() and abs(found) <= 10**9 else None


def read(
    activity: str, form: Mapping[str, str], zone: ZoneInfo, now: datetime
) -> tuple[Workout | None, dict[str, str]]:
    """The workout that a form tells, or what is wrong with it, by field."""
    errors: dict[str, str] = {}
    try:
        started = datetime.fromisoformat(form.get("started_at", "")).replace(tzinfo=zone)
    except ValueError:
        errors["started_at"] = "Write a date and a time."
    hours, minutes = (number(form.get(name) or "0") for name in ("hours", "minutes"))
    if hours is None or minutes is None or max(abs(hours), abs(minutes)) > 10_000:
        errors["duration"] = "Write hours and minutes as numbers."
    details = _details(activity, form, errors)
    effort = form.get("effort", "")
    if errors:
        return None, errors
    assert hours is not None
    assert minutes is not None
    workout = Workout(
        activity,
        started,
        zone.key,
        timedelta(minutes=float(60 * hours + minutes)),
        # Three digits are too many already.
        effort=int(effort[:3]) if effort.isascii() and effort.isdecimal() else None,
        note=form.get("note", "").strip(),
        details=details,
    )
    return workout, _named(activity, workout.problems(now))


def pace(workout: Workout) -> tuple[str, str] | None:
    """What it is called and how fast somebody was. None: there is no distance."""
    metres = float(workout.details.get("distance_m") or 0)
    if not metres:
        return None
    seconds = workout.duration.total_seconds()
    if workout.activity == "ride":
        return "Speed", f"{metres / seconds * 3.6:.1f} km/h"
    length, unit = (100, "100 m") if workout.activity == "swim" else (1000, "km")
    minutes, rest = divmod(round(seconds * length / metres), 60)
    return "Pace", f"{minutes}:{rest:02d} min per {unit}"


def _details(activity: str, form: Mapping[str, str], errors: dict[str, str]) -> dict[str, Any]:
    details: dict[str, Any] = {}
    for field in FIELDS[activity]:
        text = form.get(field.name, "").strip()
        if not text:
            continue
        if field.factor is None:
            details[field.key] = text
        elif (value := number(text)) is None:
            errors[field.name] = "Write a number."
        else:
            details[field.key] = round(value * field.factor, AMOUNT_PLACES)
    if activity == "strength":
        sets = [each for n in range(SETS) if (each := _set(n, form, errors))]
        if sets:
            details["sets"] = sets
    return details


def _set(place: int, form: Mapping[str, str], errors: dict[str, str]) -> Set | None:
    exercise = form.get(f"exercise{place}", "").strip()
    if not exercise:
        return None
    repetitions = number(form.get(f"repetitions{place}", ""))
    load = number(form.get(f"load{place}") or "0")
    if repetitions is None or load is None or not 0 < repetitions <= 10_000:
        errors["sets"] = f"Give {exercise} a number of repetitions and a load in kg."
        return None
    return Set(exercise, int(repetitions), round(load, LOAD_PLACES))


def _named(activity: str, problems: Mapping[str, str]) -> dict[str, str]:
    """The problems by the names of the fields in the form."""
    names = {field.key: field.name for field in FIELDS[activity]}
    return {names.get(name, name): told for name, told in problems.items()}
