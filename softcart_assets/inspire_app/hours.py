"""When a person may be written to, on the person's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

EVERY_DAY = frozenset(range(7))
"""All weekdays. Monday is 0."""

_DAY = timedelta(days=1)

# A week has every weekday. Two days more, as a zone may skip one when it moves over the date line.
_DAYS_AHEAD = 9


@dataclass(frozen=True)
class QuietHours:
    """Hours of the local clock without messages, over midnight if `starts` is after `ends`.

    `ends` is the first moment that is not quiet. If both are the same, no hour is quiet.
    """

    starts: time = time(21)
    ends: time = time(8)

    def hold_at(self, local: time) -> bool:
        """Whether they hold when the local clock shows `local`."""
        if self.starts <= self.ends:
            return self.starts <= local < self.ends
        return local >= self.starts or local < self.ends


def is_allowed(
    moment: datetime, zone: ZoneInfo, quiet: QuietHours, days: frozenset[int] = EVERY_DAY
) -> bool:
    """Whether a message may reach somebody in `zone` at `moment`. `days`: the weekdays for it."""
    local = moment.astimezone(zone)
    return local.weekday() in days and not quiet.hold_at(local.time())


def next_allowed(
    moment: datetime, zone: ZoneInfo, quiet: QuietHours, days: frozenset[int] = EVERY_DAY
) -> datetime | None:
    """The first moment from `moment` on at which a message is allowed, in UTC. None: never."""
    moment = moment.astimezone(UTC)
    for each in sorted(_candidates(moment, zone, quiet)):
        if is_allowed(each, zone, quiet, days):
            return each
    return None


def _candidates(moment: datetime, zone: ZoneInfo, quiet: QuietHours) -> Iterator[datetime]:
    """Every moment at which what is allowed can change from no to yes, and `moment` itself."""
    yield moment
    today = moment.astimezone(zone).date()
    found = []
    for number in range(_DAYS_AHEAD):
        day = today + number * _DAY
        found += [
            datetime.combine(day, at.replace(fold=fold), zone).astimezone(UTC)
            for at in (time(), quiet.ends)
            for fold in (0, 1)
        ]
        # A clock that is put forward may leap over the end of the quiet hours. One that is put back
        # may return to before their start.
        change = _change(moment + number * _DAY, moment + (number + 1) * _DAY, zone)
        if change:
            found.append(change)
    yield from (each for each in found if each > moment)


def _change(after: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
    """When the clocks of `zone` change between two moments, to the second. None: they do not."""
    offset = after.astimezone(zone).utcoffset()
    if until.astimezone(zone).utcoffset() == offset:
        return None
    low, high = int(after.timestamp()), int(until.timestamp())
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return datetime.fromtimestamp(high, UTC)


def moment_of(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The moment in UTC at which the clocks of `zone` show `at` on `day`.

    If they show it twice, it is the first time. If they leap over it, it is as much later as they
    leap.
    """
    return datetime.combine(day, at, zone).astimezone(UTC)
