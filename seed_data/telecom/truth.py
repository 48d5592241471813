"""What the generator knows and no source holds, for tests of models and of identity resolution."""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.parameters import Parameters
from seed_data.telecom.generator import World, sizes_of
from seed_data.telecom.parameters import MONTHS


def leaving(spark: SparkSession, parameters: Parameters) -> DataFrame:
    """The true hazard: one row per subscriber and whole month in which the subscriber could leave.

    `hazard` is the probability to leave in the `month`, `leaves` says whether it happened.
    `calls_out`, `dropped_calls` and `complaints` count the three months before the last one,
    `fee_per_call` and `tenure_months` are as in `seed_data.telecom.subscribers.HAZARD`.
    """
    months = World(sizes_of(parameters), spark).months()
    month_length = F.lit(30.4 * 86_400e6)
    return months.where((F.col("months_before") > 0) & (F.col("m") < MONTHS - 1)).select(
        F.col("subscriber").alias("subscriber_id"),
        F.timestamp_micros("month_start").alias("month"),
        "hazard",
        "leaves",
        F.col("calls_out_before").alias("calls_out"),
        F.col("dropped_before").alias("dropped_calls"),
        F.col("complaints_before").alias("complaints"),
        "fee_per_call",
        ((F.col("month_start") - F.col("activated")) / month_length).alias("tenure_months"),
        "is_prepaid",
    )


def identities(spark: SparkSession, parameters: Parameters) -> DataFrame:
    """Which customer (`customer_id`) is which person (`person_id`) whom other lines may know.

    A line that numbers its customers like the people has the same number for this person.
    """
    sizes = sizes_of(parameters)
    world = World(sizes, spark)
    return (
        spark.range(1, sizes.customers + 1)
        .select(
            F.col("id").alias("customer_id"),
            world.subscribers.person(F.col("id")).alias("person_id"),
        )
        .where(F.col("person_id") <= sizes.people)
    )
