"""How long the stock on hand lasts, and where it runs out.

Grain: one row per store and product that the store keeps an inventory row of.

Columns:

- store_id: the store
- product_id: the product
- quantity_on_hand: pieces, now
- reorder_point: pieces on hand at which the store orders again
- sold_quantity_28d: pieces of orders that were not cancelled, in the 28 days up to the latest order
  in the lake; returns are not subtracted, and orders with an implausible time are not counted
- daily_sales_avg: pieces a day over those 28 days
- cover_days: days that the stock lasts at that rate; null when nothing was sold, 0 when nothing is
  on hand
- stock_risk: the first of these that holds

  - 'out': nothing on hand
  - 'critical': cover below `CRITICAL_DAYS`
  - 'low': cover below `LOW_DAYS`, or no more on hand than the reorder point
  - 'overstock': cover above `OVERSTOCK_DAYS`
  - 'ok': the rest, including products that do not sell: without demand, cover means nothing

Method: days of cover (also called days of inventory) over a trailing mean. Four whole weeks, so
that all weekdays count alike.

Of orders and lines, only the months of those 28 days are read. That is exact: a line of an order in
these days is in the month of its order, or the job is computed whole. The stock is read whole: it
has no months, and all of its rows are in the result.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.dates import UNKNOWN_DATE
from spark.jobs.shop.sales import SOLD_LINES, marks, present, sold_lines

_ON_HAND, _SOLD = ("shop.inventory.quantity_on_hand",), SOLD_LINES["quantity"]
LINEAGE = {
    "store_id": ("shop.inventory.store_id",),
    "product_id": ("shop.inventory.product_id",),
    "quantity_on_hand": _ON_HAND,
    "reorder_point": ("shop.inventory.reorder_point",),
    "sold_quantity_28d": _SOLD,
    "daily_sales_avg": _SOLD,
    "cover_days": (*_ON_HAND, *_SOLD),
    "stock_risk": (*_ON_HAND, *_SOLD, "shop.inventory.reorder_point"),
}

TOTALS = {"quantity_on_hand": 'SELECT sum(quantity_on_hand) FROM "shop.inventory"'}

WINDOW_DAYS = 28
CRITICAL_DAYS = 7
LOW_DAYS = 14
OVERSTOCK_DAYS = 180

BY_MONTH = (marks,)


def transform(
    marks: DataFrame, orders: DataFrame, order_lines: DataFrame, inventory: DataFrame
) -> DataFrame:
    """The aggregate, as the module describes it."""
    since = present(marks) - F.expr(f"INTERVAL {WINDOW_DAYS} DAYS")
    # What is not a month, such as `unknown`, comes after all months.
    in_months = F.col("_month") >= F.date_format(since, "yyyy-MM")
    sold = (
        sold_lines(orders.where(in_months), order_lines.where(in_months))
        .where(F.col("ordered_at") > since)
        .where(F.col("order_date") != F.lit(UNKNOWN_DATE).cast("date"))
        .groupBy("store_id", "product_id")
        .agg(F.sum("quantity").alias("sold"))
    )
    stock = inventory.select(
        F.col("store_id").cast("bigint"),
        "product_id",
        F.col("quantity_on_hand").cast("bigint"),
        F.col("reorder_point").cast("bigint"),
    )
    # A negative stock lasts 0 days, and not fewer.
    on_hand, cover = F.greatest("quantity_on_hand", F.lit(0)), F.col("cover_days")
    sold_in_window = F.col("sold_quantity_28d").cast("decimal(18,0)")
    return (
        stock.join(sold, ["store_id", "product_id"], "left")
        .withColumn("sold_quantity_28d", F.coalesce("sold", F.lit(0)))
        .withColumn("daily_sales_avg", (sold_in_window / WINDOW_DAYS).cast("decimal(18,4)"))
        .withColumn(
            "cover_days",
            F.when(F.col("sold_quantity_28d") > 0, on_hand * WINDOW_DAYS / sold_in_window).cast(
                "decimal(18,1)"
            ),
        )
        .drop("sold")
        .withColumn(
            "stock_risk",
            F.when(F.col("quantity_on_hand") <= 0, "out")
            .when(cover < CRITICAL_DAYS, "critical")
            .when((cover < LOW_DAYS) | (F.col("quantity_on_hand") <= F.col("reorder_point")), "low")
            .when(cover > OVERSTOCK_DAYS, "overstock")
            .otherwise("ok"),
        )
    )


if __name__ == "__main__":
    run("agg_stock_cover_by_store_product")
