"""What was proposed on a day, with its probability, and whether it was done."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice, draws
from seed_data.common.parameters import DAY, HOUR
from seed_data.inspire import shares, truth
from seed_data.inspire.habits import in_pieces
from seed_data.inspire.parameters import CHOICE_MONTHS, InspireParameters
from seed_data.inspire.texts import QUOTES
from seed_data.inspire.workouts import day_key, utc
from softcart_assets.lines.inspire.catalogue import CATALOGUE, Effort

Numbers = npt.NDArray[Any]

PROPOSED = "user_id bigint, day int, kind string, item string, propensity double, is_done boolean"
WORKOUTS = tuple(each for each in CATALOGUE if each.effort != Effort.REST)
AGAIN_AFTER = 30
"""Days until a quote may come again."""


def _chance(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def chances() -> tuple[Numbers, Numbers]:
    """The probability that a workout, and a quote, is done: by goal, taste and item.

    The goals are those of `truth.GOALS`. The last one is no goal.
    """
    done = truth.DONE
    workouts = np.zeros((len(truth.GOALS) + 1, truth.TASTES, len(WORKOUTS)))
    quotes = np.zeros((len(truth.GOALS) + 1, truth.TASTES, len(QUOTES)))
    for goal, code in enumerate([*truth.GOALS, None]):
        for taste in range(truth.TASTES):
            liked = {
                truth.TASTE_ACTIVITIES[taste],
                truth.TASTE_ACTIVITIES[(taste + 1) % truth.TASTES],
            }
            for place, each in enumerate(WORKOUTS):
                suits = code is not None and each.activity in truth.GOAL_ACTIVITIES[code]
                is_light = each.effort == Effort.LIGHT
                workouts[goal, taste, place] = _chance(
                    done["intercept"]
                    + done["goal"] * suits
                    + done["activity" if each.activity in liked else "other activity"]
                    + done["effort" if is_light == (taste % 2 == 0) else "other effort"]
                )
            for place, (_, _, topic, mood) in enumerate(QUOTES):
                suits = code is not None and topic == truth.GOAL_TOPICS[code]
                likes = topic == truth.TOPICS[taste % len(truth.TOPICS)]
                quotes[goal, taste, place] = _chance(
                    done["intercept"]
                    + done["goal"] * suits
                    + done["topic" if likes else "other topic"]
                    + done["mood" if mood == truth.MOODS[taste % 3] else "other mood"]
                )
    return workouts, quotes


@dataclass(frozen=True)
class Proposals:
    """The proposals of one seed, from `first` to `last`."""

    dice: Dice
    first: int
    last: int

    def proposed(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows `PROPOSED` of people with `user_id`, `created_day`, `goal_number`, `taste`."""
        names = ("opened", "workout", "workout_done", "quote", "quote_done")
        salts = {name: self.dice.salt(f"inspire.{name}") for name in names}
        for batch in batches:
            if batch.num_rows:
                yield self._some(batch, salts)

    def _some(self, batch: pa.RecordBatch, salts: dict[str, int]) -> pa.RecordBatch:
        users, created, goals, tastes = (
            batch[name].to_numpy() for name in ("user_id", "created_day", "goal_number", "taste")
        )
        workout_chances, quote_chances = chances()
        codes = np.array([each.code for each in WORKOUTS])
        shown = np.full((len(users), len(QUOTES)), -AGAIN_AFTER, np.int32)
        parts: list[tuple[Numbers, ...]] = []
        for day in range(self.first, self.last + 1):
            opened = (created <= day) & (draws(salts["opened"], users, day) < 0.5)
            who = np.flatnonzero(opened)
            people, goal, taste = users[who], goals[who], tastes[who]
            days = np.full(len(who), day, np.int32)

            item = (draws(salts["workout"], people, day) * len(WORKOUTS)).astype(int)
            done = draws(salts["workout_done"], people, day) < workout_chances[goal, taste, item]
            kinds = np.full(len(who), "workout")
            even = np.full(len(who), 1 / len(WORKOUTS))
            parts.append((people, days, kinds, codes[item], even, done))

            may = day - self.first - shown[who] >= AGAIN_AFTER
            count = may.sum(axis=1)
            wanted = (draws(salts["quote"], people, day) * count).astype(int) + 1
            quote = (may.cumsum(axis=1) == wanted[:, None]).argmax(axis=1)
            shown[who, quote] = day - self.first
            done = draws(salts["quote_done"], people, day) < quote_chances[goal, taste, quote]
            kinds = np.full(len(who), "quote")
            parts.append((people, days, kinds, (quote + 1).astype(str), 1 / count, done))
        columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
        types = (pa.int64(), pa.int32(), pa.string(), pa.string(), pa.float64(), pa.bool_())
        arrays = [pa.array(each, type_) for each, type_ in zip(columns, types, strict=True)]
        return pa.record_batch(arrays, names=[each.split()[0] for each in PROPOSED.split(", ")])


def choices(parameters: InspireParameters, dice: Dice, base: DataFrame) -> DataFrame:
    """The table `choices`."""
    codes = list(truth.GOALS)
    number = F.coalesce(
        F.array_position(F.array(*map(F.lit, codes)), F.col("goal")), F.lit(len(codes) + 1)
    )
    user, day = F.col("user_id"), F.col("day")
    proposals = Proposals(dice, parameters.month_start(CHOICE_MONTHS) // DAY, parameters.last_day)
    who = base.where(
        dice.chance(shares.PROPOSED_TO, "inspire.proposed_to", user) & ~F.col("is_deleted")
    )
    rows = who.select(
        "user_id", "created_day", (number - 1).cast("int").alias("goal_number"), "taste"
    ).mapInArrow(lambda people: proposals.proposed(in_pieces(people)), PROPOSED)
    # People look in the morning. The workout and the quote are shown together.
    morning = day * F.lit(DAY) + ((6 + 3 * dice.uniform("inspire.shown", user, day)) * HOUR).cast(
        "bigint"
    )
    is_quote = (F.col("kind") == "quote").cast("int")
    wait = (dice.uniform("inspire.waited", user, day, is_quote) * (10 * HOUR)).cast("bigint")
    done = F.when(
        F.col("is_done") & (F.col("shown") + wait <= parameters.end), F.col("shown") + wait
    )
    zones = F.broadcast(who.select("user_id", "zone"))  # see `Workouts`
    return (
        rows.join(zones, "user_id")
        .select("*", utc(morning, F.col("zone")).alias("shown"))
        .where(F.col("shown") <= parameters.end)
        .select(
            (day_key(user, day) * 2 + is_quote).alias("id"),
            "user_id",
            F.date_from_unix_date("day").alias("local_date"),
            "kind",
            "item",
            F.round("propensity", 8).cast("decimal(9,8)").alias("propensity"),
            F.lit("default").alias("policy"),
            F.lit("").alias("reason"),
            timestamp(F.col("shown")).alias("shown_at"),
            timestamp(done).alias("done_at"),
            timestamp(F.coalesce(done, F.col("shown"))).alias("updated_at"),
        )
    )
