"""Visits and what was paid, per drink.

Grain: one row per drink that was sold.

Columns:

- drink_id: the drink
- drink_name: null if the menu lacks the drink
- visit_count: visits with the drink
- amount: what was paid, EUR
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark.jobs import run

LINEAGE = {
    "drink_id": ("cafe.visits.drink_id",),
    "drink_name": ("cafe_menu.drinks.name",),
    "visit_count": ("cafe.visits.id",),
    "amount": ("cafe.visits.amount",),
}


def transform(visits: DataFrame, drinks: DataFrame) -> DataFrame:
    """The aggregate, as the module describes it."""
    names = drinks.select(F.col("_id").alias("drink_id"), F.col("name").alias("drink_name"))
    return (
        visits.groupBy("drink_id")
        .agg(
            F.count("id").alias("visit_count"),
            F.sum("amount").cast("decimal(18,2)").alias("amount"),
        )
        .join(names, "drink_id", "left")
        .select("drink_id", "drink_name", "visit_count", "amount")
    )


if __name__ == "__main__":
    run("agg_visits_by_drink")
