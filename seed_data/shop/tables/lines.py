"""Order lines as structs in the array `lines` of an order, before they become rows."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.parameters import MICROSECONDS

MINUTE = 60 * MICROSECONDS

PRICED = (
    "number",
    "key",
    "product",
    "unknown",
    "variant",
    "quantity",
    "price",
    "cost",
    "discount_rate",
    "tax_rate",
)
"""The fields of a line after its price is known."""


def line_key(order: Column, line: Column) -> Column:
    """One number per order line: the key of its draws, and the base of ids that depend on it."""
    # An order has at most 8 lines and 11 payments, so 16 numbers keep the ids of orders apart.
    return order * 16 + line


def fields(line: Column, *names: str) -> list[Column]:
    """These fields of a line, for a new struct."""
    return [line[name].alias(name) for name in names]


def gross(line: Column) -> Column:
    """What the customer pays for a line, in cents."""
    return line["quantity"] * line["price"] - line["discount"] + line["tax"]


def returned_lines(sales: DataFrame) -> DataFrame:
    """One row per line that came back: the order's columns and `line`."""
    return sales.select("*", F.explode("lines").alias("line")).where(
        F.col("line.returned_at").isNotNull()
    )
