"""The parameters of a seed. Two runs with equal `Parameters` make equal rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS
"""One day in microseconds, the unit in which generators count time."""
HOUR = DAY // 24


def epoch_microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime, exact."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Parameters:
    """The parameters. A line derives its sizes and dates from these three.

    `scale`: 1 is the ordinary size for a demo. `seed`: picks the random numbers. `until` (aware,
    UTC): the "now" of the data.
    """

    scale: float
    seed: int
    until: datetime

    def __post_init__(self) -> None:
        """Raise `ValueError` for values that make no sense."""
        if not 0.001 <= self.scale <= 10_000:
            raise ValueError(f"scale must lie between 0.001 and 10000, not {self.scale}")
        if self.until.tzinfo is None:
            raise ValueError("until needs a time zone, for example 2026-01-31T12:00:00+00:00")

    @property
    def end(self) -> int:
        """`until` in epoch microseconds."""
        return epoch_microseconds(self.until)

    @property
    def people(self) -> int:
        """How many people several lines know, see `seed_data.common.people`: 10,000 at scale 1."""
        return max(10, round(10_000 * self.scale))
