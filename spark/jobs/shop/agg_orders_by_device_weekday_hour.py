"""When people order, and on what device: the heat map of the week.

Grain: one row per currency, device, weekday and hour (UTC, of the order) with at least one order
that was not cancelled.

Columns:

- currency: 'XXX' where an order is missing
- device: 'laptop', 'mobile' or 'tablet'; where an order has none, 'in_store' if its store is
  physical, otherwise 'unknown'
- weekday: 1 is Monday
- hour: 0 to 23
- order_count: orders with lines
- net_amount: in `currency`, net of discount, before tax

Counts and amounts are kept by month, for each store. That is exact: an order is in one month with
all of its lines, so both add up. What device an order without one gets is decided afterwards, so a
changed store computes no month again.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.dates import MONEY
from spark.jobs.shop.sales import SOLD_AMOUNT, SOLD_LINES, marks, sold_lines

LINEAGE = {
    "currency": SOLD_LINES["currency"],
    "device": (*SOLD_LINES["device"], *SOLD_LINES["store_id"], "shop.stores.channel"),
    "weekday": SOLD_LINES["ordered_at"],
    "hour": SOLD_LINES["ordered_at"],
    "order_count": SOLD_LINES["order_id"],
    "net_amount": SOLD_LINES["net_amount"],
}

TOTALS = {"net_amount": SOLD_AMOUNT}


def by_hour(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """Orders and amounts by month, currency, device, store, weekday and hour."""
    # First one row per order, because an order with several lines counts once. All of its lines
    # have the same currency, device and store. `F.first` of a text would sort all lines.
    by_order = (
        sold_lines(orders, order_lines)
        .groupBy("_month", "order_id", "currency", "device", "store_id")
        .agg(F.min("ordered_at").alias("ordered_at"), F.sum("net_amount").alias("net"))
    )
    return by_order.groupBy(
        "_month",
        "currency",
        "device",
        "store_id",
        (F.weekday("ordered_at") + 1).alias("weekday"),
        F.hour("ordered_at").alias("hour"),
    ).agg(F.count("*").alias("order_count"), F.sum("net").cast(MONEY).alias("net_amount"))


BY_MONTH = (marks, by_hour)


def transform(
    _marks: DataFrame,
    by_hour: DataFrame,
    _orders: DataFrame,
    _order_lines: DataFrame,
    stores: DataFrame,
) -> DataFrame:
    """The aggregate, as the module describes it."""
    channels = stores.select(F.col("id").cast("bigint").alias("store_id"), "channel")
    # Without a device, only an order of a physical store was taken there.
    in_store = F.when(F.col("channel") == "physical", "in_store")
    device = F.coalesce("device", in_store, F.lit("unknown")).alias("device")
    known = by_hour.join(F.broadcast(channels), "store_id", "left").withColumn("device", device)
    return known.groupBy("currency", "device", "weekday", "hour").agg(
        F.sum("order_count").alias("order_count"),
        F.sum("net_amount").cast(MONEY).alias("net_amount"),
    )


if __name__ == "__main__":
    run("agg_orders_by_device_weekday_hour")
