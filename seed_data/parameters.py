"""What a seed is determined by, and the sizes and dates that follow from it.

Two runs with equal `Parameters` make equal rows. How rows are made does not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MONTHS = 25
"""Orders cover this many months up to `until`: two full years can be compared."""

MICROSECONDS = 1_000_000
DAY = 86_400 * MICROSECONDS
"""One day in microseconds, the unit in which the generator counts time."""


def epoch_microseconds(moment: datetime) -> int:
    """Microseconds since 1970-01-01 UTC of an aware datetime, exact."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@dataclass(frozen=True)
class Parameters:
    """`scale` 1 is about 10,000 customers; `seed` picks the random numbers; `until` (aware, UTC) is the data's present.

    Customers and orders grow linearly with `scale`, products with its square root, stores with its cube root.
    """

    scale: float
    seed: int
    until: datetime

    def __post_init__(self) -> None:
        """Refuse sizes that make no shop."""
        if not 0.001 <= self.scale <= 10_000:
            raise ValueError(f"scale must lie between 0.001 and 10000, not {self.scale}")
        if self.until.tzinfo is None:
            raise ValueError(
                "until needs a time zone; UTC is meant, e.g. 2026-01-31T12:00:00+00:00"
            )

    @property
    def customers(self) -> int:
        """The number of registered customers."""
        return max(10, round(10_000 * self.scale))

    @property
    def orders(self) -> int:
        """The number of orders."""
        return max(60, round(60_000 * self.scale))

    @property
    def products(self) -> int:
        """The number of products, discontinued ones included."""
        return max(80, round(600 * self.scale**0.5))

    @property
    def stores(self) -> int:
        """The number of stores; every fifth or so is an online one."""
        return max(4, round(12 * self.scale ** (1 / 3)))

    @property
    def vendors(self) -> int:
        """The number of vendors."""
        return max(8, self.products // 15)

    @property
    def end(self) -> int:
        """`until` in epoch microseconds."""
        return epoch_microseconds(self.until)

    @property
    def start(self) -> int:
        """The first moment with orders: midnight, `MONTHS` months (of 365.25/12 days) before `until`."""
        return (self.end - round(MONTHS * 365.25 / 12) * DAY) // DAY * DAY

    @property
    def founded(self) -> int:
        """When the first customers registered: five years before `until`."""
        return self.end - 5 * 365 * DAY
