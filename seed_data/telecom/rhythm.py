"""When people call: weekdays and hours of private and business subscribers, in their time zones."""

from __future__ import annotations

import itertools
from datetime import timedelta

from pyspark.sql import Column
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, numbers, strings
from seed_data.common.parameters import DAY, HOUR, epoch_microseconds
from seed_data.common.places import COUNTRIES, ZONES
from seed_data.telecom.parameters import TelecomParameters

# Monday first.
PRIVATE_DAYS = (10, 10, 10, 10, 12, 9, 7)
BUSINESS_DAYS = (13, 14, 14, 14, 12, 2, 1)
PRIVATE_HOURS = (2, 1, 1, 1, 1, 2, 4, 7, 9, 10, 10, 10, 11, 10, 9, 10, 11, 13, 15, 14, 11, 8, 5, 3)
BUSINESS_HOURS = (0, 0, 0, 0, 0, 1, 3, 8, 14, 15, 14, 13, 10, 13, 15, 14, 13, 9, 4, 2, 1, 1, 0, 0)


class _Tickets:
    """Numbers that are drawn as often as their weight says, in one list per month."""

    def __init__(self, lists: list[list[int]]) -> None:
        self._all = numbers(list(itertools.chain.from_iterable(lists)), "int")
        self._sizes = numbers([len(each) for each in lists])
        self._offsets = numbers(list(itertools.accumulate(map(len, lists), initial=0))[:-1])

    def at(self, number: Column, uniform: Column) -> Column:
        index = self._offsets[number] + F.floor(uniform * self._sizes[number])
        return self._all[index.cast("int")]


def _by_weight(weights: tuple[int, ...]) -> list[int]:
    return [number for number, weight in enumerate(weights) for _ in range(weight)]


class Rhythm:
    """The moments of events. Needs a running session."""

    def __init__(self, parameters: TelecomParameters, dice: Dice) -> None:
        self._dice = dice
        months = parameters.month_starts
        self.month_starts = numbers([epoch_microseconds(month) for month in months])
        days = []
        for weights in (PRIVATE_DAYS, BUSINESS_DAYS):
            for month, following in itertools.pairwise(months):
                count = (following - month).days
                dates = [month + timedelta(days=day) for day in range(count)]
                days.append(
                    [day for day in range(count) for _ in range(weights[dates[day].weekday()])]
                )
        self._months = len(months) - 1
        self._days = _Tickets(days)
        self._hours = _Tickets([_by_weight(PRIVATE_HOURS), _by_weight(BUSINESS_HOURS)])
        self.zones = strings([ZONES[country][0] for country in COUNTRIES])
        self._offsets = numbers([ZONES[country][1] for country in COUNTRIES])

    def moment(self, purpose: str, *key: Column) -> Column:
        """A moment in month `m` for a row of `Subscribers.months`, in epoch microseconds.

        Moments stay in their month in UTC, so a month has as many events as were drawn for it. In
        the month of the activation, they are pressed together behind it.
        """
        draw, business = self._dice.uniform, F.col("is_business").cast("int")
        month, start, end = F.col("m"), F.col("month_start"), F.col("month_end")
        day = self._days.at(month + business * self._months, draw(f"telecom.{purpose}.day", *key))
        local = self._hours.at(business, draw(f"telecom.{purpose}.hour", *key))
        hour = (local - self._offsets[F.col("country")] + 24) % 24
        within = (draw(f"telecom.{purpose}.minute", *key) * HOUR).cast("bigint")
        moment = start + day * F.lit(DAY) + hour * F.lit(HOUR) + within
        activated = F.col("activated")
        pressed = activated + (
            (moment - start).cast("double") * (end - activated) / (end - start)
        ).cast("bigint")
        return F.when(activated > start, pressed).otherwise(moment)
