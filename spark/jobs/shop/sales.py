"""What all aggregates of the shop mean by a sale and by "now".

The warehouse's `fct_order_lines` means the same.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark.jobs.dates import (
    CALENDAR_END,
    CALENDAR_START,
    MONEY,
    UNKNOWN_DATE,
    is_dated_plausibly,
)
from spark.months import IS_APART

SOLD_LINES = {
    "order_id": ("shop.order_lines.order_id",),
    "customer_id": ("shop.orders.customer_id",),
    "store_id": ("shop.orders.store_id",),
    "product_id": ("shop.order_lines.product_id",),
    "device": ("shop.orders.device",),
    "currency": ("shop.orders.currency",),
    "ordered_at": ("shop.orders.ordered_at", "shop.order_lines.created_at"),
    "order_date": ("shop.orders.ordered_at", "shop.order_lines.created_at"),
    "quantity": ("shop.order_lines.quantity",),
    "net_amount": (
        "shop.order_lines.quantity",
        "shop.order_lines.unit_price",
        "shop.order_lines.discount_amount",
    ),
    "margin_amount": (
        "shop.order_lines.quantity",
        "shop.order_lines.unit_price",
        "shop.order_lines.discount_amount",
        "shop.order_lines.unit_cost",
    ),
}
"""The lineage of `sold_lines`: each column, and the lake's columns that its values come from."""


_SOLD = """
    FROM "shop.order_lines" AS l LEFT JOIN "shop.orders" AS o ON o.id = l.order_id
    WHERE coalesce(o.status, 'unknown') <> 'cancelled'
"""
# As wide as can be: a product gets no wider by itself, and a bar code as a quantity would not fit.
_PIECES = "l.quantity::decimal(38, 0)"
_NET = f"{_PIECES} * l.unit_price - l.discount_amount"
SOLD_UNITS = f"SELECT sum(l.quantity) {_SOLD}"
SOLD_AMOUNT = f"SELECT sum({_NET}) {_SOLD}"
SOLD_MARGIN = f"SELECT sum({_NET} - {_PIECES} * l.unit_cost) {_SOLD}"
ORDERS_OF_CUSTOMERS = f"""
    SELECT count(DISTINCT o.id) {_SOLD}
    AND o.customer_id IN (SELECT id FROM "shop.customers")
    AND coalesce(o.ordered_at, l.created_at) >= '{CALENDAR_START}'::timestamptz
    AND coalesce(o.ordered_at, l.created_at) < '{CALENDAR_END}'::timestamptz
    AND coalesce(o.ordered_at, l.created_at) <= o._loaded_at + INTERVAL 1 DAY
"""
"""Totals of `sold_lines`, by another way: see `Job.totals`. The last one leaves out orders whose
time is implausible, and those of customers whom the shop no longer has.
"""


def sold_lines(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """One row per line of an order that is not cancelled. A line finds its order in its own month.

    Columns: _month, order_id, customer_id, store_id, product_id, device, currency (of the amounts,
    which must not be added up over currencies), ordered_at, order_date (UTC, `UNKNOWN_DATE` if the
    time is implausible), quantity, net_amount (quantity times unit price, less discount, before
    tax), margin_amount (net less cost). A line whose order is missing counts too: with its own
    time, the currency 'XXX', and nothing else known of the order.
    """
    headers = orders.select(
        F.col("id").alias("order_id"),
        "customer_id",
        "store_id",
        "status",
        "ordered_at",
        "device",
        "currency",
        "_month",
        F.col("_loaded_at").alias("order_loaded_at"),
    )
    ordered_at = F.coalesce("ordered_at", "created_at")
    loaded_at = F.coalesce("order_loaded_at", "_loaded_at")
    quantity = F.col("quantity").cast("decimal(10,0)")
    net = quantity * F.col("unit_price") - F.col("discount_amount")
    return (
        order_lines.join(headers, ["order_id", "_month"], "left")
        # A comparison with null is not true. It would drop the lines whose order is missing.
        .where(F.coalesce(F.col("status"), F.lit("unknown")) != "cancelled")
        .select(
            "_month",
            "order_id",
            F.col("customer_id").cast("bigint"),
            F.col("store_id").cast("bigint"),
            "product_id",
            "device",
            F.coalesce("currency", F.lit("XXX")).alias("currency"),
            ordered_at.alias("ordered_at"),
            F.when(is_dated_plausibly(ordered_at, loaded_at), F.to_date(ordered_at))
            .otherwise(F.lit(UNKNOWN_DATE).cast("date"))
            .alias("order_date"),
            F.col("quantity").cast("bigint"),
            net.cast(MONEY).alias("net_amount"),
            (net - quantity * F.col("unit_cost")).cast(MONEY).alias("margin_amount"),
        )
    )


def marks(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """What the jobs must know of every month, at most two rows for each. All of it adds up.

    Columns: _month, order_count, latest_at (of the orders whose time is plausible), is_apart: true
    if the order of a line is not in the month of the line. It may be missing, or in another month.
    """
    plausible = is_dated_plausibly(F.col("ordered_at"), F.col("_loaded_at"))
    headers = orders.select(F.col("id").alias("order_id"), "_month")
    without = order_lines.join(headers, ["order_id", "_month"], "left_anti")
    return (
        orders.groupBy("_month")
        .agg(
            F.count("*").alias("order_count"),
            F.max(F.when(plausible, F.col("ordered_at"))).alias("latest_at"),
        )
        .unionByName(
            without.select("_month", F.lit(True).alias(IS_APART)).distinct(),
            allowMissingColumns=True,
        )
    )


def present(marks: DataFrame) -> Column:
    """The data's "now", the time of the latest order of any status. Null if there is no order.

    With the wall clock, the same data would give other results an hour later. An order that is
    dated after its load does not count. It would move every window.
    """
    # A constant, so that Spark need not read the months that it rules out. As a number, because
    # Python's times have the time zone of the machine.
    latest = marks.agg(F.max(F.unix_micros("latest_at"))).collect()[0][0]
    return F.timestamp_micros(F.lit(latest).cast("bigint"))
