"""The sizes and dates of a shop."""

from __future__ import annotations

import math
from dataclasses import dataclass

from seed_data.common.parameters import DAY, Parameters

MONTHS = 25
"""Orders cover this many months up to `until`, so that two full years can be compared."""


@dataclass(frozen=True)
class ShopParameters(Parameters):
    """`scale` 1 is about 10,000 customers and 60,000 orders.

    Customers and orders grow linearly with the scale, products with its square root, stores with
    its cube root.
    """

    @property
    def customers(self) -> int:
        """The number of registered customers."""
        return self.people

    @property
    def orders(self) -> int:
        """The number of orders."""
        return max(60, round(60_000 * self.scale))

    @property
    def products(self) -> int:
        """The number of products, discontinued ones included."""
        return max(80, round(600 * math.pow(self.scale, 0.5)))

    @property
    def stores(self) -> int:
        """The number of stores. About every fifth is an online store."""
        return max(4, round(12 * math.pow(self.scale, 1 / 3)))

    @property
    def vendors(self) -> int:
        """The number of vendors."""
        return max(8, self.products // 15)

    @property
    def start(self) -> int:
        """The first moment with orders: midnight, `MONTHS` months (of 365.25/12 days) ago."""
        return (self.end - round(MONTHS * 365.25 / 12) * DAY) // DAY * DAY

    @property
    def founded(self) -> int:
        """When the first customers registered: five years before `until`."""
        return self.end - 5 * 365 * DAY
