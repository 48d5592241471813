"""On which days people train. A day follows from the days before, so numpy goes from day to day.

Each Spark task has some people at once. Draws depend on the person and the day alone, so it does
not matter which people these are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from seed_data.common.dice import Dice, draws
from seed_data.inspire import truth

Numbers = npt.NDArray[Any]

PEOPLE_AT_ONCE = 2_000

DAYS = "user_id bigint, day int, streak int"
"""One row per person and day with a workout. `day`: the local date, in days since 1970."""

_EPOCH = date(1970, 1, 1)
_LOWER_AGES = np.array([years for years, _ in truth.AGE_BANDS])
_RATES = np.array([truth.ACTIVE_DAYS[truth.age_band(years - 1)] for years, _ in truth.AGE_BANDS])
_RATES = np.append(_RATES, truth.ACTIVE_DAYS[truth.LAST_BAND])
_HIGHEST = 0.9
"""The highest share of days with a workout."""


def shares_of(odds: Numbers) -> Numbers:
    """The share of days with a workout in the long run, by the odds after a day without one."""
    bonus = 1 + truth.STREAK_BONUS * np.arange(truth.LONGEST_STREAK + 1)
    chances = (odds[:, None] * bonus) / (1 + odds[:, None] * bonus)
    # How often the streak is 0, 1, …: each comes from the one before. The last one stays.
    reached = np.ones_like(chances)
    reached[:, 1:] = np.cumprod(chances[:, :-1], axis=1)
    reached[:, -1] /= 1 - chances[:, -1]
    weights: Numbers = (reached * chances).sum(axis=1) / reached.sum(axis=1)
    return weights


_ODDS = np.exp(np.linspace(-7, 4, 400))
_SHARES = shares_of(_ODDS)


def odds_of(share: Numbers) -> Numbers:
    """The odds after a day without a workout that lead to this share of days in the long run."""
    found: Numbers = np.exp(np.interp(np.minimum(share, _HIGHEST), _SHARES, np.log(_ODDS)))
    return found


def in_pieces(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same people, few at once. Each has hundreds of rows, which are all in memory."""
    for batch in batches:
        for start in range(0, batch.num_rows, PEOPLE_AT_ONCE):
            yield batch.slice(start, PEOPLE_AT_ONCE)


@dataclass(frozen=True)
class Habits:
    """The days of one seed, from `begin` to `last`. Rows are made from `first` on."""

    dice: Dice
    begin: int
    first: int
    last: int

    def days(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows `DAYS` of people with `user_id`, `created_day`, `born_day`, `region`."""
        salts = {
            name: self.dice.salt(f"inspire.{name}") for name in ("pace", "train", "lapse", "return")
        }
        for batch in batches:
            if batch.num_rows:
                yield self._some(batch, salts)

    def _some(self, batch: pa.RecordBatch, salts: dict[str, int]) -> pa.RecordBatch:
        users = batch["user_id"].to_numpy()
        created, born = batch["created_day"].to_numpy(), batch["born_day"].to_numpy()
        regions = batch["region"].to_pylist()
        pace = (0.5 + draws(salts["pace"], users)) * np.array(
            [truth.REGIONS.get(region, 1.0) for region in regions]
        )
        streak, idle = np.zeros(len(users), np.int32), np.zeros(len(users), np.int32)
        has_stopped = np.zeros(len(users), bool)
        odds, found = np.zeros(len(users)), []
        for day in range(self.begin, self.last + 1):
            today = _EPOCH + timedelta(days=day)
            if day == self.begin or today.day == 1:
                odds = odds_of(self._rates(today, born) * pace / 7)
            comes_back = truth.RETURN_IN_JANUARY if today.month == 1 else truth.RETURN
            is_there = created <= day
            returns = has_stopped & (draws(salts["return"], users, day) < comes_back)
            idle[returns] = 0
            has_stopped &= ~returns
            chance = odds * (1 + truth.STREAK_BONUS * np.minimum(streak, truth.LONGEST_STREAK))
            trains = is_there & ~has_stopped
            trains &= draws(salts["train"], users, day) * (1 + chance) < chance
            before = streak
            streak = np.where(trains, streak + 1, 0)
            idle = np.where(trains | ~is_there, 0, idle + 1)
            stops = (idle == truth.IDLE_DAYS) & ~has_stopped
            has_stopped |= stops & (draws(salts["lapse"], users, day) < truth.LAPSE)
            if day >= self.first:
                who = np.flatnonzero(trains)
                found.append((users[who], np.full(len(who), day, np.int32), before[who]))
        columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
        return pa.record_batch(
            [
                pa.array(columns[0], pa.int64()),
                pa.array(columns[1], pa.int32()),
                pa.array(columns[2], pa.int32()),
            ],
            names=["user_id", "day", "streak"],
        )

    def _rates(self, today: date, born: Numbers) -> Numbers:
        """Days a week with a workout, by age, season and trend."""
        day = (today - _EPOCH).days
        years = (day - born) / 365.25
        months = (day - (self.first + self.last) / 2) / 30.44
        season = truth.MONTHS[today.month - 1] * truth.MONTHLY_TREND**months
        rates: Numbers = _RATES[np.searchsorted(_LOWER_AGES, years, side="right")] * season
        return rates
