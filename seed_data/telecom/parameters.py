"""The sizes and dates of a mobile operator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from seed_data.common.parameters import Parameters, epoch_microseconds

MONTHS = 13
"""Twelve whole calendar months (UTC), and the month of `until`."""

BLOCK_SUBSCRIBERS = 20
BLOCK_CUSTOMERS = 16
"""Subscribers and customers come in blocks. The last customer of a block is a company with five
subscribers, the others are people with one. So one is found from the other without a join."""

ACCOUNT_BASE = 1_000_000
"""Account number less customer number. They differ, so that a wrong join is seen."""


@dataclass(frozen=True)
class TelecomParameters(Parameters):
    """`scale` 1 is about 2,000 subscribers and 200,000 call records."""

    @property
    def subscribers(self) -> int:
        """The number of subscribers, cancelled ones included: whole blocks."""
        return max(1, round(2_000 * self.scale / BLOCK_SUBSCRIBERS)) * BLOCK_SUBSCRIBERS

    @property
    def customers(self) -> int:
        """The number of customers."""
        return self.subscribers // BLOCK_SUBSCRIBERS * BLOCK_CUSTOMERS

    @property
    def agents(self) -> int:
        """The number of agents, past ones included."""
        return max(8, round(40 * math.sqrt(self.scale)))

    @property
    def month_starts(self) -> list[datetime]:
        """The first instant of each month, and of the month after the last."""
        last = self.until.astimezone(UTC)
        number = last.year * 12 + last.month - MONTHS
        return [
            datetime((number + month) // 12, (number + month) % 12 + 1, 1, tzinfo=UTC)
            for month in range(MONTHS + 1)
        ]

    @property
    def start(self) -> int:
        """The first instant with usage."""
        return epoch_microseconds(self.month_starts[0])
