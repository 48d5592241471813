"""What was proposed to each person in each month, and how often the person did it.

Grain: one row per person, kind, item and local calendar month in which it was shown. Rankers learn
from it what people like. Proposals that nobody has seen do not count, and neither do those whose
day or time is implausible. A proposal is taken if it is done within a day.

Columns:

- user_id: the person
- kind: 'workout' or 'quote'
- item: code of the workout, or key of the quote
- month: its first day
- shown_count: how often it was shown
- taken_count: how often it was done
- goal: code of the person's main goal at the moment of the month, see below; 'none' without one
- mood: which quotes the person liked to get at that moment; 'none' if nothing was said
- activity_or_topic: the activity of a workout, or the topic of a quote; 'unknown' if it is gone
- effort_or_mood: how hard a workout is, or the mood of a quote; 'unknown' if it is gone
- data_position: where the last changes in the proposals and goals, and in the preferences, stand in
  the logs of the sources

The moment of a month is its beginning, so that a later change does not alter what was known. That
of the last month is its last day with a proposal: what is to come is proposed to the person of
today.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from softcart_assets.lines.inspire.catalogue import CATALOGUE
from spark.history import known_before, last_position, versions
from spark.jobs import run
from spark.jobs.dates import is_dated_plausibly

_CHOICE, _GOAL, _QUOTE = "inspire.choices", "inspire.user_goals", "inspire.quotes"

LINEAGE = {
    "user_id": (f"{_CHOICE}.user_id",),
    "kind": (f"{_CHOICE}.kind",),
    "item": (f"{_CHOICE}.item",),
    "month": (f"{_CHOICE}.local_date",),
    "shown_count": (f"{_CHOICE}.id",),
    "taken_count": (f"{_CHOICE}.done_at", f"{_CHOICE}.shown_at"),
    "goal": (f"{_GOAL}.goal_id", "inspire.goals.code"),
    "mood": ("inspire_docs.preferences.mood",),
    "activity_or_topic": (f"{_CHOICE}.item", f"{_QUOTE}.topic"),
    "effort_or_mood": (f"{_CHOICE}.item", f"{_QUOTE}.mood"),
    "data_position": (),
}

_NONE, _UNKNOWN = "none", "unknown"
_WORKOUT = "workout"


def transform(
    choices: DataFrame,
    user_goals: DataFrame,
    goals: DataFrame,
    quotes: DataFrame,
    preferences: DataFrame,
) -> DataFrame:
    """The aggregate, as the module describes it."""
    counted = _counted(choices)
    months = F.broadcast(_moments(counted))
    of_quotes = quotes.select(
        F.col("id").cast("string").alias("item"),
        F.lit("quote").alias("kind"),
        "topic",
        F.col("mood").alias("quote_mood"),
    )
    is_workout = F.col("kind") == _WORKOUT
    return (
        counted.join(_goals(user_goals, goals, months), ["user_id", "month"], "left")
        .join(_moods(preferences, months), ["user_id", "month"], "left")
        .join(F.broadcast(of_quotes), ["kind", "item"], "left")
        .crossJoin(F.broadcast(_position((choices, user_goals, goals, quotes), preferences)))
        .select(
            "user_id",
            "kind",
            "item",
            "month",
            "shown_count",
            "taken_count",
            F.coalesce("goal", F.lit(_NONE)).alias("goal"),
            F.coalesce("mood", F.lit(_NONE)).alias("mood"),
            F.coalesce(
                F.when(is_workout, _of_workout("activity")).otherwise(F.col("topic")),
                F.lit(_UNKNOWN),
            ).alias("activity_or_topic"),
            F.coalesce(
                F.when(is_workout, _of_workout("effort")).otherwise(F.col("quote_mood")),
                F.lit(_UNKNOWN),
            ).alias("effort_or_mood"),
            "data_position",
        )
    )


def _counted(choices: DataFrame) -> DataFrame:
    """The proposals that were seen, by person, kind, item and month."""
    day = F.to_date("local_date")
    is_taken = F.col("done_at") < F.col("shown_at") + F.expr("INTERVAL 1 DAY")
    return (
        choices.where(is_dated_plausibly(F.col("shown_at"), F.col("_loaded_at")))
        # The clocks of all zones are within a day of UTC.
        .where(F.abs(F.datediff(day, F.to_date("shown_at"))) <= 1)
        .groupBy(
            F.col("user_id").cast("bigint").alias("user_id"),
            "kind",
            F.col("item").cast("string").alias("item"),
            F.trunc(day, "month").alias("month"),
        )
        .agg(
            F.count("*").alias("shown_count"),
            F.sum(F.coalesce(is_taken.cast("int"), F.lit(0))).alias("taken_count"),
            F.max(day).alias("last_day"),
        )
    )


def _moments(counted: DataFrame) -> DataFrame:
    """The months, each with the day on which people are as the month takes them to be."""
    last = counted.agg(F.max("last_day").alias("last_of_all"))
    is_last = F.trunc("last_of_all", "month") == F.col("month")
    day = F.when(is_last, F.col("last_of_all")).otherwise(F.col("month"))
    return (
        counted.select("month")
        .distinct()
        .crossJoin(F.broadcast(last))
        .select("month", day.alias("day"))
    )


def _goals(user_goals: DataFrame, goals: DataFrame, months: DataFrame) -> DataFrame:
    """The main goal of each person with one, in each month: of the open ones, the first."""
    is_open = (F.to_date("started_on") <= F.col("day")) & F.coalesce(
        F.to_date("ended_on") > F.col("day"), F.lit(True)
    )
    codes = goals.select(F.col("id").alias("goal_id"), "code")
    return (
        user_goals.join(months, is_open)
        .groupBy(F.col("user_id").cast("bigint").alias("user_id"), "month")
        .agg(F.min_by("goal_id", "id").alias("goal_id"))
        .join(F.broadcast(codes), "goal_id")
        .select("user_id", "month", F.col("code").alias("goal"))
    )


def _moods(preferences: DataFrame, months: DataFrame) -> DataFrame:
    """Which quotes each person liked to get, in each month."""
    return (
        versions(preferences, "_id")
        .join(months, known_before(F.date_add("day", 1).cast("timestamp")))
        .select(F.expr("try_cast(_id AS bigint)").alias("user_id"), "month", "mood")
    )


def _of_workout(what: str) -> Column:
    """What the catalogue says of the workout `item`."""
    told = {
        each.code: each.activity if what == "activity" else each.effort.name.lower()
        for each in CATALOGUE
    }
    return F.create_map(*(F.lit(each) for pair in told.items() for each in pair))[F.col("item")]


def _position(tables: tuple[DataFrame, ...], preferences: DataFrame) -> DataFrame:
    own = reduce(DataFrame.unionAll, (each.select("_position", "_version") for each in tables))
    return (
        own.agg(F.max_by("_position", "_version").alias("own"))
        .crossJoin(preferences.agg(last_position().alias("docs")))
        .select(
            F.concat_ws(
                ", ",
                F.concat(F.lit("inspire "), F.col("own")),
                F.concat(F.lit("inspire_docs "), F.col("docs")),
            ).alias("data_position")
        )
    )


if __name__ == "__main__":
    run("agg_choices_by_user_item_month")
