"""What all aggregates of the shop mean by a sale and by "now".

The warehouse's `fct_order_lines` means the same.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

MONEY = "decimal(24,2)"
"""Sums of money, in one currency. A sum that does not fit is an error."""

SOLD_LINES = {
    "order_id": ("shop.order_lines.order_id",),
    "customer_id": ("shop.orders.customer_id",),
    "store_id": ("shop.orders.store_id",),
    "product_id": ("shop.order_lines.product_id",),
    "device": ("shop.orders.device",),
    "currency": ("shop.orders.currency",),
    "ordered_at": ("shop.orders.ordered_at", "shop.order_lines.created_at"),
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


def sold_lines(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """One row per line of an order that is not cancelled.

    Columns: order_id, customer_id, store_id, product_id, device, currency (of the amounts, which
    must not be added up over currencies), ordered_at, quantity, net_amount (quantity times unit
    price, less discount, before tax), margin_amount (net less cost). A line whose order is missing
    counts too: with its own time, the currency 'XXX', and nothing else known of the order.
    """
    headers = orders.select(
        F.col("id").alias("order_id"),
        "customer_id",
        "store_id",
        "status",
        "ordered_at",
        "device",
        "currency",
    )
    quantity = F.col("quantity").cast("decimal(10,0)")
    net = quantity * F.col("unit_price") - F.col("discount_amount")
    return (
        order_lines.join(headers, "order_id", "left")
        # A comparison with null is not true. It would drop the lines whose order is missing.
        .where(F.coalesce(F.col("status"), F.lit("unknown")) != "cancelled")
        .select(
            "order_id",
            F.col("customer_id").cast("bigint"),
            F.col("store_id").cast("bigint"),
            "product_id",
            "device",
            F.coalesce("currency", F.lit("XXX")).alias("currency"),
            F.coalesce("ordered_at", "created_at").alias("ordered_at"),
            F.col("quantity").cast("bigint"),
            net.cast(MONEY).alias("net_amount"),
            (net - quantity * F.col("unit_cost")).cast(MONEY).alias("margin_amount"),
        )
    )


def present(orders: DataFrame) -> DataFrame:
    """The data's "now": one row `now`, the time of the latest order of any status.

    With the wall clock, the same data would give other results an hour later.
    """
    return orders.agg(F.max("ordered_at").alias("now"))
