"""Pairs of products that are bought together, and how much more often than by chance.

Grain: one row per unordered pair of products (product_id_a < product_id_b) that is frequent, which
means: found in at least `MIN_SUPPORT` of the baskets and in at least `MIN_BASKETS`. A basket is the
set of products of one order that was not cancelled. A product counts once, however many lines or
pieces of it there are. Only the latest `MAX_ORDERS` orders count: what people buy together now.

Columns:

- product_id_a, product_id_b
- basket_count: baskets with both
- support_pct: their percentage of all baskets
- confidence_a_to_b_pct: percentage of the baskets with a that have b too
- confidence_b_to_a_pct: the other way round
- lift: support of the pair over the product of both supports; 1 is chance, 2 is twice as often

Method: FP-growth (Han, Pei, Yin: Mining frequent patterns without candidate generation, 2000; in
Spark parallel after Li et al., 2008). Its trees lie in memory, so both sides are bounded.
`MAX_ORDERS` bounds the baskets. `MIN_SUPPORT` bounds the products, because it is relative: with L
lines a basket, at most L / `MIN_SUPPORT` products can be frequent.
"""

from __future__ import annotations

import math

from pyspark.ml.fpm import FPGrowth
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.shop.sales import SOLD_LINES, sold_lines

_BASKETS = (*SOLD_LINES["order_id"], *SOLD_LINES["product_id"])
LINEAGE = {
    "product_id_a": SOLD_LINES["product_id"],
    "product_id_b": SOLD_LINES["product_id"],
    "basket_count": _BASKETS,
    "support_pct": _BASKETS,
    "confidence_a_to_b_pct": _BASKETS,
    "confidence_b_to_a_pct": _BASKETS,
    "lift": _BASKETS,
}

MIN_SUPPORT = 0.0005
MIN_BASKETS = 3
MAX_ORDERS = 200_000


def transform(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """The aggregate, as the module describes it."""
    baskets = (
        sold_lines(*_latest(orders, order_lines))
        .groupBy("order_id")
        .agg(F.sort_array(F.collect_set("product_id")).alias("items"))
        .persist()
    )
    # A basket with one product has no pair. It still counts in every percentage.
    pairing = baskets.where(F.size("items") > 1)
    all_baskets, pairing_baskets = baskets.count(), pairing.count()
    least = max(math.ceil(MIN_SUPPORT * all_baskets), MIN_BASKETS)
    # FPGrowth wants a share of the baskets that it sees, at most 1, and rounds it up to a count.
    # Half a basket less is safe.
    share = min((least - 0.5) / max(pairing_baskets, 1), 1.0)
    # One tree per core: Spark weighs each tree as it grows. With many, that costs more than mining.
    cores = baskets.sparkSession.sparkContext.defaultParallelism
    growth = FPGrowth(minSupport=share, itemsCol="items", numPartitions=cores)
    itemsets = growth.fit(pairing.coalesce(cores)).freqItemsets
    pairs = itemsets.where((F.size("items") == 2) & (F.col("freq") >= least)).select(
        F.sort_array("items").alias("pair"), F.col("freq").alias("both")
    )
    counts = baskets.select(F.explode("items").alias("product_id")).groupBy("product_id").count()
    with_a = counts.select(
        F.col("product_id").alias("product_id_a"), F.col("count").alias("count_a")
    )
    with_b = counts.select(
        F.col("product_id").alias("product_id_b"), F.col("count").alias("count_b")
    )
    return (
        pairs.select(
            F.col("pair")[0].alias("product_id_a"), F.col("pair")[1].alias("product_id_b"), "both"
        )
        .join(F.broadcast(with_a), "product_id_a")
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
        )
    )


def _latest(orders: DataFrame, order_lines: DataFrame) -> tuple[DataFrame, DataFrame]:
    """The latest orders, about `MAX_ORDERS` of them, and their lines.

    The `created_at` of a line is the time of its order.
    """
    count = orders.count()
    if count <= MAX_ORDERS:
        return orders, order_lines
    # An approximate boundary is enough, and it needs no sort of all orders.
    share = 1 - MAX_ORDERS / count
    row = orders.agg(
        F.percentile_approx(F.unix_micros("ordered_at"), share, 10_000).alias("since")
    ).collect()[0]
    since = F.timestamp_micros(F.lit(row["since"]))
    return orders.where(F.col("ordered_at") >= since), order_lines.where(
        F.col("created_at") >= since
    )


def _percent(part: Column, whole: Column) -> Column:
    return (part * 100 / whole).cast("decimal(7,4)")


if __name__ == "__main__":
    run("agg_baskets_by_product_pair")
