"""In which hours of the local day people begin their workouts, by time zone and age band.

Grain: one row per time zone, age band and hour with a workout. The zone is that of the person
today, the hour is that of the place of the workout. `all` stands for all zones, and for all ages of
all zones. A workout with an implausible time or in an unknown time zone has no hour.

Columns:

- time_zone: the person's zone (IANA); 'all' for people of all zones
- age_band: such as '30s', of the age on the day of the last workout of all; 'unknown' without a day
  of birth; 'all' for all people
- hour: 0 to 23
- workout_count: workouts that began in that hour
- weekend_workout_count: those of them on Saturday and Sunday
- people_count: people of the zone and band with any workout; the same in all hours of a group
- is_best: whether it is the hour with most workouts of its group; of equals, the first one

Groups of fewer than 10 people are left out, and with them the next smallest of the same band, so
that the row of all zones does not tell them. So are hours in which fewer than 10 people of a group
have trained, with the same hour of the next smallest group. Who wants the best hour of what is left
out takes that of the band in all zones, and else that of all.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from softcart_assets.lines.inspire.groups import AGE_BANDS, FEWEST, OLDEST
from spark.jobs import run
from spark.jobs.inspire.workouts import LOGGED, STARTED, hours

_COUNTED = (f"{LOGGED}._id",)

LINEAGE = {
    "time_zone": ("inspire.users.time_zone",),
    "age_band": ("inspire.users.birth_date", f"{LOGGED}.started_at"),
    "hour": STARTED,
    "workout_count": _COUNTED,
    "weekend_workout_count": (*_COUNTED, *STARTED),
    "people_count": (f"{LOGGED}.user_id",),
    "is_best": (*_COUNTED, *STARTED),
}

BY_MONTH = (hours,)

ALL = "all"
_GROUP = ("time_zone", "age_band")


def transform(hours: DataFrame, _activity_logs: DataFrame, users: DataFrame) -> DataFrame:
    """The aggregate, as the module describes it."""
    by_person = hours.groupBy("user_id", "hour").agg(
        F.sum("workout_count").alias("workout_count"),
        F.sum("weekend_workout_count").alias("weekend_workout_count"),
        F.max("latest_at").alias("latest_at"),
    )
    today = by_person.agg(F.to_date(F.max("latest_at")).alias("today"))
    people = users.select(
        F.col("id").cast("bigint").alias("user_id"),
        F.coalesce("time_zone", F.lit("unknown")).alias("time_zone"),
        F.col("birth_date").cast("date").alias("birth_date"),
    )
    told = (
        by_person.join(people, "user_id", "left")
        .crossJoin(F.broadcast(today))
        .withColumn("age_band", _band(F.floor(F.months_between("today", "birth_date") / 12)))
        .fillna("unknown", ["time_zone"])
    )
    # Each workout is in the rows of its zone and band, of its band, and of all.
    every = F.lit(ALL)
    levels = told.withColumn(
        "group",
        F.explode(
            F.array(
                F.struct("time_zone", "age_band"),
                F.struct(every.alias("time_zone"), F.col("age_band")),
                F.struct(every.alias("time_zone"), every.alias("age_band")),
            )
        ),
    ).select("user_id", "hour", "workout_count", "weekend_workout_count", "group.*")
    by_hour = Window.partitionBy(*_GROUP).orderBy(F.desc("workout_count"), "hour")
    hours_of_groups = (
        levels.groupBy(*_GROUP, "hour")
        .agg(
            F.sum("workout_count").alias("workout_count"),
            F.sum("weekend_workout_count").alias("weekend_workout_count"),
            # A person has one row for each hour.
            F.count("*").alias("people_in_hour"),
        )
        # Before any hour is left out, as another one is not the best one.
        .withColumn("is_best", F.row_number().over(by_hour) == 1)
    )
    groups = levels.groupBy(*_GROUP).agg(F.countDistinct("user_id").alias("people_count"))
    return (
        _shown(hours_of_groups, "people_in_hour", "hour")
        .join(_shown(groups, "people_count"), list(_GROUP))
        .select(
            *_GROUP,
            "hour",
            "workout_count",
            "weekend_workout_count",
            "people_count",
            "is_best",
        )
    )


def _band(years: Column) -> Column:
    bands = reduce(
        lambda found, band: found.when(years < band[0], band[1]),
        AGE_BANDS,
        F.when(years.isNull(), "unknown"),
    )
    return bands.otherwise(OLDEST)


def _shown(groups: DataFrame, people: str, *among_alike: str) -> DataFrame:
    """The groups that are large enough, as `softcart_assets.lines.inspire.groups.hidden` says.

    `people`: the column with their size. `among_alike`: groups that have these columns alike add
    up.
    """
    # Zones add up to their band, bands to all, and all is alone.
    is_zone, is_all = F.col("time_zone") != ALL, F.col("age_band") == ALL
    siblings = F.when(is_zone, F.col("age_band")).when(is_all, F.lit("")).otherwise(F.lit(ALL))
    among = Window.partitionBy("siblings", *among_alike)
    by_size = among.orderBy(people, *_GROUP)
    before = by_size.rowsBetween(Window.unboundedPreceding, -1)
    is_small = F.col(people) < FEWEST
    has_small = F.max(is_small).over(among)
    told = (F.row_number().over(by_size) > 2) & ~is_small
    is_shown = ~has_small | (told & (F.sum(people).over(before) >= FEWEST))
    marked = groups.withColumn("siblings", siblings).withColumn("is_shown", is_shown)
    # A band that is left out is also the sum of its zones.
    whole = F.min(F.when(is_zone, True).otherwise(F.col("is_shown"))).over(
        Window.partitionBy("age_band", *among_alike)
    )
    return (
        marked.withColumn("whole", whole)
        .where(F.col("is_shown") & F.col("whole"))
        .drop("siblings", "is_shown", "whole")
    )


if __name__ == "__main__":
    run("agg_peak_hours_by_zone_age_hour")
