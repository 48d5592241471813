"""What the API takes and gives. Amounts are decimals: JSON numbers, as exact as they are kept."""

from __future__ import annotations

from decimal import ROUND_HALF_UP
from typing import Any, Final

from apiflask import Schema
from apiflask.fields import (
    AwareDateTime,
    Boolean,
    Date,
    Decimal,
    File,
    Float,
    Integer,
    List,
    Nested,
    String,
    Time,
)
from apiflask.validators import Length, OneOf, Range, Regexp

from softcart_assets.inspire_app.preferences import EQUIPMENT, EXPERIENCES, MOODS
from softcart_assets.inspire_app.workouts import ACTIVITIES, AMOUNT_PLACES, LOAD_PLACES

PRINTABLE: Final = r"^[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]*$"
"""Texts that every database and every file of ours can hold."""


def _text(most: int, what: str = "", **more: Any) -> String:
    checks = [Length(max=most), Regexp(PRINTABLE, error="It has characters that are no text.")]
    return String(validate=checks, metadata={"description": what}, **more)


def _amount(what: str) -> Decimal:
    limits = Range(min=0, max=10_000_000)
    return Decimal(
        places=AMOUNT_PLACES,
        rounding=ROUND_HALF_UP,
        validate=limits,
        metadata={"description": what},
        allow_none=True,
    )


def _days(what: str) -> List[int]:
    return List(
        Integer(validate=Range(min=0, max=6)),
        validate=Length(max=7),
        metadata={"description": f"{what} 0 is Monday."},
    )


class SetOfRepetitions(Schema):
    """Repetitions of an exercise without a pause between them."""

    exercise = _text(100, required=True)
    repetitions = Integer(required=True, strict=True, validate=Range(min=1, max=10_000))
    load_kg = Decimal(places=LOAD_PLACES, load_default=0, validate=Range(min=0, max=1000))


class WorkoutIn(Schema):
    """A workout. Each activity has some of the amounts."""

    activity = String(required=True, validate=OneOf(ACTIVITIES))
    started_at = AwareDateTime(
        required=True, metadata={"description": "With its offset, as `2026-03-01T07:30:00+01:00`."}
    )
    time_zone = _text(64, "Of the place where it was done, IANA. The default is the person's.")
    duration_seconds = Integer(required=True, strict=True, validate=Range(min=1, max=172_800))
    effort = Integer(strict=True, validate=Range(min=1, max=10), allow_none=True)
    note = _text(2000)
    distance_m = _amount("Of a run, walk, ride or swim.")
    ascent_m = _amount("Of a run, walk or ride.")
    average_watts = _amount("Of a ride.")
    pool_m = _amount("The length of the pool, of a swim.")
    stroke = _text(100, "Of a swim.", allow_none=True)
    style = _text(100, "Of yoga.", allow_none=True)
    sets = List(
        Nested(SetOfRepetitions),
        validate=Length(max=200),
        allow_none=True,
        metadata={"description": "Of strength."},
    )


class WorkoutOut(WorkoutIn):
    """A workout as it is kept. `etag`: what `If-Match` of a change has to say."""

    id = String(required=True)
    local_date = Date(required=True)
    origin = String(required=True)
    updated_at = AwareDateTime(required=True)
    etag = String(required=True)


class Page(Schema):
    """Some workouts, the newest first. `next`: the cursor of those that follow."""

    items = List(Nested(WorkoutOut), required=True)
    next = String(required=True, allow_none=True)


class PageQuery(Schema):
    """Which workouts are wanted."""

    limit = Integer(load_default=50, validate=Range(min=1, max=200))
    cursor = String(validate=Regexp(r"^[A-Za-z0-9_-]{1,400}$"))


class IfMatch(Schema):
    """The version that is to be changed: somebody else may have changed it since."""

    if_match = String(
        data_key="If-Match",
        required=True,
        validate=Length(max=100),
        metadata={"description": "The `ETag` of the version that is changed, or `*`."},
    )


class IdempotencyKey(Schema):
    """A key of the caller's own for a request that may be sent again."""

    key = String(
        data_key="Idempotency-Key",
        validate=Regexp(r"^[!-~]{1,100}$"),
        metadata={"description": "The same for all attempts to log one workout."},
    )


class Upload(Schema):
    """A file of another application, and what it does not say."""

    file = File(  # type: ignore[no-untyped-call]
        required=True, metadata={"description": "GPX, TCX or FIT, perhaps compressed with gzip."}
    )
    activity = String(
        validate=OneOf(ACTIVITIES),
        metadata={"description": "What it is if the file does not say."},
    )


class Imported(Schema):
    """What came of a file. `duplicates`: workouts that were there already."""

    added = List(String(), required=True)
    duplicates = Integer(required=True)
    problems = List(String(), required=True)


class GoalOut(Schema):
    """A goal that people can have. `amount`: what the person wants in a week, or null."""

    code = String(required=True)
    name = String(required=True)
    activity = String(required=True, allow_none=True)
    unit = String(required=True)
    amount = Decimal(required=True, allow_none=True)


class GoalIn(Schema):
    """A goal and how much of it in a week."""

    code = _text(50, required=True)
    amount = Decimal(required=True, places=2, validate=Range(min=1, max=10_000_000))


class Goals(Schema):
    """The goals that the person has from today on. Others end."""

    goals = List(Nested(GoalIn), required=True, validate=Length(max=20))


class Streak(Schema):
    """Days in a row with a workout. Rest days do not end a streak."""

    current = Integer(required=True)
    longest = Integer(required=True)
    today = Boolean(required=True, metadata={"description": "Whether one was done today."})


class Sums(Schema):
    """What was done in a time."""

    workouts = Integer(required=True)
    minutes = Float(required=True)
    metres = Float(required=True)


class Quote(Schema):
    """A quote."""

    text = String(required=True)
    author = String(required=True)


class Plan(Schema):
    """The workout that is proposed."""

    code = String(required=True)
    activity = String(required=True)
    name = String(required=True)
    minutes = Integer(required=True)
    reason = String(required=True)
    is_done = Boolean(required=True)


class Today(Schema):
    """The person's day, on the person's own clock."""

    date = Date(required=True)
    plan = Nested(Plan, required=True)
    quote = Nested(Quote, required=True, allow_none=True)
    today = Nested(Sums, required=True)
    week = Nested(Sums, required=True, metadata={"description": "From Monday on."})
    streak = Nested(Streak, required=True)


class HistoryQuery(Schema):
    """How far back."""

    days = Integer(load_default=91, validate=Range(min=1, max=366))


class Day(Sums):
    """A day with workouts."""

    date = Date(required=True)


class History(Schema):
    """The days with workouts, the newest first."""

    days = List(Nested(Day), required=True)


class Notifications(Schema):
    """When messages may come. Whether any do is a consent, which only the person's page takes."""

    reminder_at = Time(required=True, format="%H:%M")
    best_hour = Boolean(required=True, truthy={True}, falsy={False})
    quiet_from = Time(required=True, format="%H:%M")
    quiet_until = Time(required=True, format="%H:%M")
    days = _days("The weekdays for messages.")


class Settings(Schema):
    """How the person wants to train and to be written to."""

    experience = String(required=True, validate=OneOf(EXPERIENCES))
    mood = String(required=True, validate=OneOf(("", *MOODS)))
    equipment = List(
        String(validate=OneOf(EQUIPMENT)), required=True, validate=Length(max=len(EQUIPMENT))
    )
    rest_days = _days("Weekdays without training.")
    notifications = Nested(Notifications, required=True)


class SettingsOut(Settings):
    """The settings, with what is only read here."""

    time_zone = String(required=True)


class Version(Schema):
    """The header with the version of what is answered."""

    etag = String(data_key="ETag", metadata={"description": "For `If-Match` of a change."})
