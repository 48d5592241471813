"""Pairs of products that are bought together, and how much more often than by chance.

Grain: one row per unordered pair of products (product_id_a < product_id_b) that is frequent, which
means: found in at least `MIN_SUPPORT` of the baskets and in at least `MIN_BASKETS`. A basket is the
set of products of one order that was not cancelled. A product counts once, however many lines or
pieces of it there are. Only the latest `MAX_ORDERS` orders count: what people buy together now.

An order of more than `MAX_PRODUCTS` products is no basket: it is left out of every figure, also of
the supports of its products. `left_out_count` says how many there are.

Columns:

- product_id_a: the product whose key comes first
- product_id_b: the other product
- basket_count: baskets with both
- support_pct: percentage of all baskets that have both
- confidence_a_to_b_pct: percentage of the baskets with a that have b too
- confidence_b_to_a_pct: percentage of the baskets with b that have a too
- lift: support of the pair over the product of both supports; 1 is chance, 2 is twice as often
- left_out_count: orders of more than `MAX_PRODUCTS` products, the same on every row

Method: a join of the baskets with themselves, as only pairs are wanted. Every count is exact. Its
work grows with the square of the size of a basket, so that size is bounded. Before the join, all
products are dropped that are too rare to be in a frequent pair. For which products that holds, and
so every pair, depends on all of these orders. So nothing is kept by month. The months before the
latest `MAX_ORDERS` orders are not read.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from itertools import accumulate

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.shop.sales import SOLD_LINES, marks, sold_lines

_BASKETS = (*SOLD_LINES["order_id"], *SOLD_LINES["product_id"])
LINEAGE = {
    "product_id_a": SOLD_LINES["product_id"],
    "product_id_b": SOLD_LINES["product_id"],
    "basket_count": _BASKETS,
    "support_pct": _BASKETS,
    "confidence_a_to_b_pct": _BASKETS,
    "confidence_b_to_a_pct": _BASKETS,
    "lift": _BASKETS,
    "left_out_count": _BASKETS,
}

MIN_SUPPORT = 0.0005
MIN_BASKETS = 3
MAX_ORDERS = 200_000
MAX_PRODUCTS = 2_000
"""The most products of a basket. One of this size has two million pairs.

The largest of 25,900 orders of a wholesaler had 1,114 lines. Nobody chooses this many products
because of each other: such an order moves stock.
"""


BY_MONTH = (marks,)


def transform(marks: DataFrame, orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """The aggregate, as the module describes it."""
    latest = sold_lines(*_latest(marks, orders, order_lines))
    sold = latest.select("order_id", "product_id").distinct().persist()
    # `count` leaves out lines without a product.
    sizes = sold.groupBy("order_id").agg(F.count("product_id").alias("size")).persist()
    is_basket = F.col("size") <= MAX_PRODUCTS
    # A basket with one product has no pair. It still counts in every percentage.
    [(all_baskets, left_out)] = sizes.agg(F.count_if(is_basket), F.count_if(~is_basket)).collect()
    if left_out:
        logging.getLogger(__name__).warning(
            "%s orders of more than %s products are left out of all pairs.", left_out, MAX_PRODUCTS
        )
    least = max(math.ceil(MIN_SUPPORT * all_baskets), MIN_BASKETS)
    items = sold.join(sizes.where(is_basket), "order_id").where(F.col("product_id").isNotNull())
    counts = items.groupBy("product_id").count().where(F.col("count") >= least).persist()
    frequent = items.join(F.broadcast(counts), "product_id")
    first = frequent.select("order_id", F.col("product_id").alias("product_id_a"))
    second = frequent.select("order_id", F.col("product_id").alias("product_id_b"))
    pairs = (
        first.join(second, "order_id")
        .where(F.col("product_id_a") < F.col("product_id_b"))
        .groupBy("product_id_a", "product_id_b")
        .agg(F.count("*").alias("both"))
        .where(F.col("both") >= least)
    )
    with_a = counts.select(
        F.col("product_id").alias("product_id_a"), F.col("count").alias("count_a")
    )
    with_b = counts.select(
        F.col("product_id").alias("product_id_b"), F.col("count").alias("count_b")
    )
    return (
        pairs.join(F.broadcast(with_a), "product_id_a")
        .join(F.broadcast(with_b), "product_id_b")
        .select(
            "product_id_a",
            "product_id_b",
            F.col("both").alias("basket_count"),
            _percent(F.col("both"), F.lit(all_baskets)).alias("support_pct"),
            _percent(F.col("both"), F.col("count_a")).alias("confidence_a_to_b_pct"),
            _percent(F.col("both"), F.col("count_b")).alias("confidence_b_to_a_pct"),
            (F.col("both") * all_baskets / (F.col("count_a") * F.col("count_b")))
            .cast("decimal(18,4)")
            .alias("lift"),
            F.lit(left_out).cast("bigint").alias("left_out_count"),
        )
    )


def _latest(
    marks: DataFrame, orders: DataFrame, order_lines: DataFrame
) -> tuple[DataFrame, DataFrame]:
    """The latest orders, about `MAX_ORDERS` of them, and their lines.

    The `created_at` of a line is the time of its order.
    """
    counts = {row["_month"]: row["order_count"] for row in marks.where("order_count > 0").collect()}
    if sum(counts.values()) <= MAX_ORDERS:
        return orders, order_lines
    # Orders without a time are not the latest.
    months = sorted(counts.keys() - {"unknown"}, reverse=True)
    running = list(accumulate(counts[month] for month in months))
    last = min(bisect_left(running, MAX_ORDERS), len(months) - 1)
    in_months = F.col("_month") >= months[last]
    # An approximate boundary is enough, and it needs no sort of all orders.
    share = max(1 - MAX_ORDERS / running[last], 0)
    row = (
        orders.where(in_months)
        .agg(F.percentile_approx(F.unix_micros("ordered_at"), share, 10_000).alias("since"))
        .collect()[0]
    )
    since = F.timestamp_micros(F.lit(row["since"]))
    return (
        orders.where(in_months & (F.col("ordered_at") >= since)),
        order_lines.where(in_months & (F.col("created_at") >= since)),
    )


def _percent(part: Column, whole: Column) -> Column:
    return (part * 100 / whole).cast("decimal(7,4)")


if __name__ == "__main__":
    run("agg_baskets_by_product_pair")
