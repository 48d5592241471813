"""What each person did in each month: workouts, the goal that they serve, and visits.

Grain: one row per person and local calendar month with a workout or a session. Events with an
implausible time or in an unknown time zone are in the month of the unknown date, 1900-01. It joins
the people and goals of MySQL, the workouts of MongoDB and the sessions of DynamoDB.

Columns:

- user_id: the person
- month: its first day, on the clock where the workout was done or the session began
- region: where the person lives today; 'Unknown' where nobody knows it
- goal_code: the person's main goal at the end of the month; 'none' without one
- workout_count: workouts
- active_days: local days with a workout
- duration_seconds: how long the workouts lasted
- distance_m: metres
- session_count: sessions that began, those included that have expired since
- page_views: pages that they saw
- latest_at: the beginning of the last workout or session

What people did on a day is kept by month. A local day may be in two months of the lake, which are
months of UTC. So days are added up before they are counted.

A session is deleted when it ends, so every version of it is read, and the last one with its figures
counts.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.inspire.workouts import LOGGED, STARTED, day_of, days

_SESSION, _GOAL = "inspire_sessions.sessions", "inspire.user_goals"
_BEGAN = (f"{_SESSION}.started_at", f"{_SESSION}.time_zone")

LINEAGE = {
    "user_id": (f"{LOGGED}.user_id", f"{_SESSION}.user_id"),
    "month": (*STARTED, *_BEGAN),
    "region": ("inspire.users.region",),
    "goal_code": ("inspire.goals.code", f"{_GOAL}.goal_id"),
    "workout_count": (f"{LOGGED}._id",),
    "active_days": STARTED,
    "duration_seconds": (f"{LOGGED}.duration_seconds",),
    "distance_m": (f"{LOGGED}.distance_m",),
    "session_count": (f"{_SESSION}.session_id",),
    "page_views": (f"{_SESSION}.page_views",),
    "latest_at": (f"{LOGGED}.started_at", f"{_SESSION}.started_at"),
}

TOTALS = {
    "workout_count": f'SELECT count(*) FROM "{LOGGED}"',
    "duration_seconds": f'SELECT sum(duration_seconds) FROM "{LOGGED}"',
    "distance_m": f'SELECT sum(distance_m::decimal(18, 3)) FROM "{LOGGED}"',
}

BY_MONTH = (days,)

_METRES = "decimal(24,3)"


def transform(
    days: DataFrame,
    _activity_logs: DataFrame,
    users: DataFrame,
    user_goals: DataFrame,
    goals: DataFrame,
    sessions: DataFrame,
) -> DataFrame:
    """The aggregate, as the module describes it."""
    active = (
        days.groupBy("user_id", "local_date")
        .agg(
            F.sum("workout_count").alias("workout_count"),
            F.sum("duration_seconds").alias("duration_seconds"),
            F.sum("distance_m").alias("distance_m"),
            F.max("latest_at").alias("latest_at"),
        )
        .withColumn("active_days", F.lit(1))
    )
    both = active.unionByName(_visits(sessions), allowMissingColumns=True).withColumn(
        "month", F.trunc("local_date", "month")
    )
    zero = F.lit(0)
    by_month = both.groupBy("user_id", "month").agg(
        *(
            F.coalesce(F.sum(name), zero).cast("bigint").alias(name)
            for name in ("workout_count", "active_days", "duration_seconds")
        ),
        F.coalesce(F.sum("distance_m"), zero).cast(_METRES).alias("distance_m"),
        *(
            F.coalesce(F.sum(name), zero).cast("bigint").alias(name)
            for name in ("session_count", "page_views")
        ),
        F.max("latest_at").alias("latest_at"),
    )
    known = users.select(F.col("id").cast("bigint").alias("user_id"), "region")
    return (
        by_month.join(_goals(by_month, user_goals, goals), ["user_id", "month"], "left")
        .join(known, "user_id", "left")
        .select(
            "user_id",
            "month",
            F.coalesce("region", F.lit("Unknown")).alias("region"),
            F.coalesce("goal_code", F.lit("none")).alias("goal_code"),
            "workout_count",
            "active_days",
            "duration_seconds",
            "distance_m",
            "session_count",
            "page_views",
            "latest_at",
        )
    )


def _visits(sessions: DataFrame) -> DataFrame:
    """The sessions of each person by local day, from all versions of their rows."""
    last = (
        sessions.where(~F.col("_deleted"))
        .groupBy("session_id")
        .agg(
            F.max_by(
                F.struct("user_id", "started_at", "time_zone", "page_views", "_loaded_at"),
                F.struct("_version", "_place"),
            ).alias("last")
        )
        .select("last.*")
    )
    at = F.timestamp_seconds(F.col("started_at").cast("bigint"))
    return (
        last.select(
            F.col("user_id").cast("bigint").alias("user_id"),
            day_of(at).alias("local_date"),
            F.col("page_views").cast("bigint").alias("page_views"),
            at.alias("began_at"),
        )
        .groupBy("user_id", "local_date")
        .agg(
            F.count("*").alias("session_count"),
            F.sum("page_views").alias("page_views"),
            F.max("began_at").alias("latest_at"),
        )
    )


def _goals(by_month: DataFrame, user_goals: DataFrame, goals: DataFrame) -> DataFrame:
    """The main goal of each person at the end of each month: of the open ones, the oldest."""
    codes = goals.select(F.col("id").cast("bigint").alias("goal_id"), F.col("code"))
    periods = user_goals.select(
        F.col("user_id").cast("bigint").alias("user_id"),
        F.col("goal_id").cast("bigint").alias("goal_id"),
        F.col("started_on").cast("date").alias("started_on"),
        F.col("ended_on").cast("date").alias("ended_on"),
        "id",
    ).join(F.broadcast(codes), "goal_id")
    last_day = F.last_day("month")
    return (
        by_month.select("user_id", "month")
        .join(periods, "user_id")
        .where(F.col("started_on") <= last_day)
        .where(F.col("ended_on").isNull() | (F.col("ended_on") > last_day))
        .groupBy("user_id", "month")
        .agg(F.min_by("code", "id").alias("goal_code"))
    )


if __name__ == "__main__":
    run("agg_engagement_by_user_month")
