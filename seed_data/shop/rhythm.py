"""When people buy: growth, seasons, weekdays, hours, and the share of physical stores.

Order number k of N gets the moment at which the share k/N of all expected orders has been placed.
So numbers grow with time, like AUTO_INCREMENT numbers, without a sort. Times are UTC.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from seed_data.common.parameters import DAY, HOUR
from seed_data.shop.parameters import ShopParameters

YEARLY_GROWTH = 1.28

MONTH_WEIGHTS = (0.86, 0.84, 0.95, 0.98, 1.0, 0.95, 0.88, 0.86, 1.0, 1.05, 1.2, 1.5)
WEEKDAY_WEIGHTS = (1.02, 0.95, 0.95, 0.98, 1.1, 1.18, 0.82)
ONLINE_HOURS = (2, 1, 1, 1, 1, 2, 3, 5, 7, 8, 9, 10, 10, 9, 9, 9, 10, 12, 15, 18, 19, 16, 10, 5)
PHYSICAL_HOURS = (0, 0, 0, 0, 0, 0, 0, 0, 5, 9, 12, 13, 12, 11, 11, 13, 16, 15, 9, 2, 0, 0, 0, 0)
PHYSICAL_SHARE = 0.38
"""The share of orders in physical stores on a weekday. On Sundays these are closed."""


def day_weight(day: datetime, start: datetime) -> float:
    """The expected number of orders on a day, relative to an ordinary day at `start`."""
    weight = (
        math.pow(YEARLY_GROWTH, (day - start).days / 365)
        * MONTH_WEIGHTS[day.month - 1]
        * WEEKDAY_WEIGHTS[day.weekday()]
    )
    first_of_november = datetime(day.year, 11, 1, tzinfo=UTC)
    thanksgiving = first_of_november + timedelta(days=(3 - first_of_november.weekday()) % 7 + 21)
    match (day - thanksgiving).days:
        case 1:  # Black Friday
            weight *= 3.0
        case 2 | 3:
            weight *= 1.7
        case 4:  # Cyber Monday
            weight *= 2.3
    if day.month == 12 and day.day > 23:  # the parcels would come too late
        weight *= 0.45
    return weight


@dataclass(frozen=True)
class Hours:
    """The hours from start to end.

    `first_ids[h]` is the number of the first order at or after the start of hour h. One more
    element closes the last hour. `physical_shares` has one element per hour of the week, the first
    for the hour in which the data start.
    """

    first_ids: list[int]
    physical_shares: list[float]


def hours(parameters: ShopParameters) -> Hours:
    """Spread the orders over the hours."""
    start = datetime.fromtimestamp(parameters.start / 1e6, UTC)
    days = (parameters.end - parameters.start) // DAY + 1
    weights = np.array(
        [day_weight(start + timedelta(days=number), start) for number in range(days)]
    )
    sunday = np.array([(start + timedelta(days=number)).weekday() == 6 for number in range(days)])

    online = np.array(ONLINE_HOURS) / sum(ONLINE_HOURS) * (1 - PHYSICAL_SHARE)
    physical = np.array(PHYSICAL_HOURS) / sum(PHYSICAL_HOURS) * PHYSICAL_SHARE
    online_orders = np.outer(weights, online).ravel()
    physical_orders = np.outer(weights * ~sunday, physical).ravel()

    hour_start = parameters.start + np.arange(days * 24, dtype=np.int64) * HOUR
    expected = (online_orders + physical_orders) * np.clip(parameters.end - hour_start, 0, HOUR)
    # Without the small summand, a rounding error could lose the last order.
    reached = np.floor(np.cumsum(expected) / expected.sum() * parameters.orders + 1e-6).astype(
        np.int64
    )
    shares = (physical_orders / (online_orders + physical_orders))[: 7 * 24]
    return Hours([1, *(reached + 1).tolist()], shares.tolist())
