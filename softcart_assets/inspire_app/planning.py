"""Makes the daily messages: for each hour, those of the people whose time falls into it.

Everybody has a local clock, so each hour is the right one for somebody. What an hour has made is
made once: the key of a message follows from person, day and purpose. So an hour can be planned
again, by another process or after a kill.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Protocol
from zoneinfo import ZoneInfo

from softcart_assets.inspire_app.hours import moment_of
from softcart_assets.inspire_app.outbox import Channel, Message, Purpose, message_key
from softcart_assets.inspire_app.people import age, age_band
from softcart_assets.inspire_app.preferences import Notifications

LOG: Final = logging.getLogger("softcart.messages")

AHEAD: Final = timedelta(minutes=15)
"""So long before it begins, an hour is planned."""

BACK: Final = timedelta(hours=2)
"""Hours that were missed are made up for, as far as a message is of use by then."""

PAGE: Final = 1_000

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_ALL: Final = "all"

DAILY: Final = (Purpose.REMINDER, Purpose.QUOTE)


@dataclass(frozen=True)
class Person:
    """Somebody who consents to daily messages. `consents`: on channels with an address."""

    user_id: int
    zone: ZoneInfo
    birth_date: date | None
    consents: frozenset[tuple[Channel, Purpose]]


class People(Protocol):
    """The people in the database, and their messages."""

    def page(self, after: int, most: int) -> tuple[list[Person], int | None]:
        """People with ids higher than `after`, in order, of the next `most` accounts.

        Returns them and the last id that was looked at, or None after the last account.
        """

    def add_all(self, messages: list[Message]) -> None:
        """Put messages into the outbox unless they are there, and commit."""


BestHours = Mapping[tuple[str, str], int]
"""The hour with most workouts, by time zone and age band. `all` stands for all of them."""


def best_hour(hours: BestHours, zone: str, birth_date: date | None, day: date) -> int | None:
    """The best hour for somebody on a day. Small groups have none, and get that of a larger one."""
    band = age_band(age(birth_date, day)) if birth_date else _ALL
    for group in ((zone, band), (_ALL, band), (_ALL, _ALL)):
        if group in hours:
            return hours[group]
    return None


@lru_cache(maxsize=10_000)
def moments(
    zone: ZoneInfo, at: time, start: datetime, end: datetime
) -> tuple[tuple[date, datetime], ...]:
    """The days on which the clocks of `zone` show `at` from `start` to before `end`, and when."""
    # From the day before: clocks that leap over midnight put a moment of a day into the next one.
    first = start.astimezone(zone).date() - _DAY
    days = (first + number * _DAY for number in range(4))
    found = ((day, moment_of(day, at, zone)) for day in days)
    return tuple((day, moment) for day, moment in found if start <= moment < end)


def messages_of(
    person: Person, wishes: Notifications, hours: BestHours, start: datetime, end: datetime
) -> Iterator[Message]:
    """Somebody's messages that are due from `start` to before `end`."""
    for channel, purpose in sorted(person.consents):
        if channel not in wishes.channels:
            continue
        at = _quote_at(wishes)
        if purpose is Purpose.REMINDER:
            at = wishes.reminder_at
            if wishes.best_hour:
                day = start.astimezone(person.zone).date()
                hour = best_hour(hours, person.zone.key, person.birth_date, day)
                at = at if hour is None else time(hour)
        for day, due_at in moments(person.zone, at, start, end):
            if day.weekday() in wishes.days:
                # Yesterday's plan is of no use today.
                midnight = moment_of(day + _DAY, time(), person.zone)
                yield Message(
                    message_key(f"{day} {purpose}", person.user_id, channel, purpose.value),
                    person.user_id,
                    channel,
                    purpose,
                    purpose.value,
                    due_at,
                    max(midnight, due_at + _HOUR),
                    {"day": day.isoformat()},
                )


def _quote_at(wishes: Notifications) -> time:
    """A quote is for the whole day: it comes as soon as the quiet hours end."""
    quiet = wishes.quiet
    return quiet.ends if quiet.starts != quiet.ends else time(8)


class Planner:
    """Plans each hour once. `wishes`: those of several people. `hours`: reads the best hours."""

    def __init__(
        self,
        people: People,
        wishes: Callable[[Iterable[int]], Mapping[int, Notifications]],
        hours: Callable[[], BestHours],
    ) -> None:
        self._people, self._wishes, self._hours = people, wishes, hours
        self._planned: datetime | None = None

    def plan(self, now: datetime) -> int:
        """Plan what is not planned yet. Returns how many messages there are to be.

        Never more than a page of people is in memory.
        """
        last = _hour(now + AHEAD)
        hour = _hour(now - BACK)
        if self._planned:
            hour = max(hour, self._planned + _HOUR)
        count = 0
        while hour <= last:
            count += self._plan_hour(hour)
            self._planned = hour
            hour += _HOUR
        return count

    def _plan_hour(self, hour: datetime) -> int:
        best, count, after = self._hours(), 0, 0
        while True:
            people, reached = self._people.page(after, PAGE)
            wishes = self._wishes([person.user_id for person in people]) if people else {}
            made = [
                message
                for person in people
                if person.user_id in wishes
                for message in messages_of(person, wishes[person.user_id], best, hour, hour + _HOUR)
            ]
            if made:
                self._people.add_all(made)
            count += len(made)
            if reached is None:
                break
            after = reached
        LOG.info("planned %s: %d messages", f"{hour:%Y-%m-%dT%H:%MZ}", count)
        return count


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
