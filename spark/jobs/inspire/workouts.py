"""What all aggregates of the fitness application mean by a workout, its day and its hour."""

from __future__ import annotations

from functools import cache
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from softcart_assets.lines.inspire.zones import ZONES
from spark.jobs.dates import UNKNOWN_DATE, is_dated_plausibly

LOGGED = "inspire_docs.activity_logs"
STARTED = (f"{LOGGED}.started_at", f"{LOGGED}.time_zone")


@cache
def _known() -> str:
    """The time zones that Java knows, too, as a list of SQL. Its list may be older than ours."""
    jvm: Any = SparkSession.active()._jvm
    java = jvm.java.time.ZoneId.getAvailableZoneIds().toString()
    both = ZONES.intersection(java.strip("[]").split(", "))
    return ", ".join(f"'{zone}'" for zone in sorted(both))


def local(at: Column) -> Column:
    """An instant on the clock of the column `time_zone`. Null if nobody knows the zone."""
    # Java stops at a zone that it does not know. As one text, because each value takes a call.
    return F.from_utc_timestamp(at, F.expr(f"if(time_zone IN ({_known()}), time_zone, NULL)"))


def day_of(at: Column) -> Column:
    """The local day of an event, by `time_zone`. If its time is implausible or nobody knows the
    zone, it is the unknown date.
    """
    day = F.when(is_dated_plausibly(at, F.col("_loaded_at")), F.to_date(local(at)))
    return F.coalesce(day, F.lit(UNKNOWN_DATE).cast("date"))


def days(activity_logs: DataFrame) -> DataFrame:
    """What each person did on each local day. Days do not keep to the months of the lake (UTC), so
    a day may be in two of them.

    Columns: _month, user_id, local_date, workout_count, duration_seconds, distance_m, latest_at.
    """
    at = F.col("started_at")
    return (
        activity_logs.select(
            "_month",
            F.col("user_id").cast("bigint").alias("user_id"),
            day_of(at).alias("local_date"),
            F.col("duration_seconds").cast("bigint").alias("duration_seconds"),
            F.col("distance_m").cast("decimal(18,3)").alias("distance_m"),
            "started_at",
        )
        .groupBy("_month", "user_id", "local_date")
        .agg(
            F.count("*").alias("workout_count"),
            F.sum("duration_seconds").alias("duration_seconds"),
            F.sum("distance_m").alias("distance_m"),
            F.max("started_at").alias("latest_at"),
        )
    )


def hours(activity_logs: DataFrame) -> DataFrame:
    """How many workouts each person began in each hour of the local day.

    Columns: _month, user_id, hour, workout_count, weekend_workout_count, latest_at. A workout with
    an implausible time or in an unknown zone has no hour.
    """
    at = F.col("started_at")
    clock = local(at)
    return (
        activity_logs.where(is_dated_plausibly(at, F.col("_loaded_at")) & clock.isNotNull())
        .select(
            "_month",
            F.col("user_id").cast("bigint").alias("user_id"),
            F.hour(clock).alias("hour"),
            (F.weekday(clock) >= 5).cast("int").alias("is_weekend"),
            "started_at",
        )
        .groupBy("_month", "user_id", "hour")
        .agg(
            F.count("*").alias("workout_count"),
            F.sum("is_weekend").alias("weekend_workout_count"),
            F.max("started_at").alias("latest_at"),
        )
    )
