"""The sizes and dates of the fitness application."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from seed_data.common.parameters import DAY, Parameters, epoch_microseconds

MONTHS = 26
"""Workouts cover so many whole calendar months (UTC), and the month of `until`."""

FOUNDING_SHARE = 0.3
"""The share of the people who registered in the year before the first workout of the data."""

CHOICE_MONTHS = 5
"""Proposals cover so many whole calendar months, and the month of `until`."""

MESSAGE_DAYS = 49
"""Reminders cover so many days."""


@dataclass(frozen=True)
class InspireParameters(Parameters):
    """`scale` 1 is 2,000 people and about 60,000 workouts. 500 is a million people."""

    @property
    def users(self) -> int:
        """The number of people with an account, deleted ones included."""
        return max(20, round(2_000 * self.scale))

    @property
    def clubs(self) -> int:
        """The number of clubs."""
        return max(1, self.users // 40)

    def month_start(self, months_ago: int) -> int:
        """The first instant of a month, in epoch microseconds. 0: the month of `until`."""
        last = self.until.astimezone(UTC)
        number = last.year * 12 + last.month - 1 - months_ago
        return epoch_microseconds(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC))

    @property
    def first_day(self) -> int:
        """The first day with workouts, in days since 1970."""
        return self.month_start(MONTHS) // DAY

    @property
    def last_day(self) -> int:
        """The day of `until`."""
        return self.end // DAY
