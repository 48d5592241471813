"""When people order, and on what device: the heat map of the week.

Grain: one row per device, weekday and hour (UTC, of the order) with at least one order that was not
cancelled.

Columns:

- device: 'laptop', 'mobile', 'tablet', or 'in_store' where an order has none
- weekday: 1 is Monday
- hour: 0 to 23
- order_count: orders with lines
- net_amount: EUR, net of discount, before tax
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.shop.sales import MONEY, SOLD_LINES, sold_lines

LINEAGE = {
    "device": SOLD_LINES["device"],
    "weekday": SOLD_LINES["ordered_at"],
    "hour": SOLD_LINES["ordered_at"],
    "order_count": SOLD_LINES["order_id"],
    "net_amount": SOLD_LINES["net_amount"],
}


def transform(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """The aggregate, as the module describes it."""
    # First one row per order, because an order with several lines counts once.
    by_order = (
        sold_lines(orders, order_lines)
        .groupBy("order_id")
        .agg(
            F.first("device").alias("device"),
            F.min("ordered_at").alias("ordered_at"),
            F.sum("net_amount").alias("net"),
        )
    )
    return by_order.groupBy(
        "device", (F.weekday("ordered_at") + 1).alias("weekday"), F.hour("ordered_at").alias("hour")
    ).agg(F.count("*").alias("order_count"), F.sum("net").cast(MONEY).alias("net_amount"))


if __name__ == "__main__":
    run("agg_orders_by_device_weekday_hour")
