"""Customers by recency, frequency and monetary value (RFM), and the segment that follows.

Grain: one row per customer who has bought at least once (not cancelled) and whom the shop still
has. An order with an implausible time does not count, because nobody knows how recent it is.

Columns:

- customer_id: the customer
- last_order_date: day of the customer's last order, UTC
- recency_days: whole days from the last order to the day of the latest order in the lake
- frequency_count: orders of the customer
- currency: the one in which the customer has ordered most often; of equals, the first by name
- monetary_amount: the orders in `currency`, net of discount, before tax; returns are not subtracted
- recency_score, frequency_score, monetary_score: 1 to 5, 5 is best
- segment: what the scores make of the customer, such as 'Champions'

Method: quintiles after A. M. Hughes, Strategic Database Marketing (1994), by value and not by
rank. A score is 1 plus the number of quintile boundaries (20, 40, 60, 80 %) that a value exceeds,
reversed for recency. Customers are compared with those of the same currency. Equal values get equal
scores. Sorting into five equal heaps (`ntile`) would split ties at random. Where many values are
equal, a score may be skipped.

The boundaries are approximate percentiles: the error in rank is below 1 in 100,000, and they are
exact for smaller tables. Unlike `ntile` they need no sort of all customers in one task. The
segments are the usual ten of the grid of recency by the mean of the other two scores (Putler, "RFM
Analysis for Successful Customer Segmentation").

What a customer bought is kept by month. That is exact: an order is in one month with all of its
lines, so numbers of orders and amounts add up, and the latest order is the latest of all months.
The boundaries do not add up. They are computed anew, from one row per customer.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.dates import MONEY, UNKNOWN_DATE
from spark.jobs.shop.sales import (
    ORDERS_OF_CUSTOMERS,
    SOLD_LINES,
    marks,
    present,
    sold_lines,
)

_RECENCY, _FREQUENCY, _MONETARY = (
    SOLD_LINES["ordered_at"],
    SOLD_LINES["order_id"],
    SOLD_LINES["net_amount"],
)
LINEAGE = {
    "customer_id": SOLD_LINES["customer_id"],
    "currency": SOLD_LINES["currency"],
    "last_order_date": _RECENCY,
    "recency_days": _RECENCY,
    "frequency_count": _FREQUENCY,
    "monetary_amount": _MONETARY,
    "recency_score": _RECENCY,
    "frequency_score": _FREQUENCY,
    "monetary_score": _MONETARY,
    "segment": (*_RECENCY, *_FREQUENCY, *_MONETARY),
}

TOTALS = {"frequency_count": ORDERS_OF_CUSTOMERS}
# Amounts in other currencies than that of the customer are left out, so they do not add up.

_ACCURACY = 100_000

SEGMENTS = (
    # Range of the recency score, range of the mean of the others, name. The first match counts.
    ((5, 5), (4, 5), "Champions"),
    ((3, 4), (4, 5), "Loyal customers"),
    ((1, 2), (5, 5), "Cannot lose them"),
    ((1, 2), (3, 4), "At risk"),
    ((1, 2), (1, 2), "Hibernating"),
    ((4, 5), (2, 3), "Potential loyalists"),
    ((3, 3), (3, 3), "Needs attention"),
    ((3, 3), (1, 2), "About to sleep"),
    ((4, 4), (1, 1), "Promising"),
    ((5, 5), (1, 1), "New customers"),
)


def bought(orders: DataFrame, order_lines: DataFrame) -> DataFrame:
    """What each customer bought by month and currency."""
    return (
        sold_lines(orders, order_lines)
        .where("customer_id IS NOT NULL")
        .where(F.col("order_date") != F.lit(UNKNOWN_DATE).cast("date"))
        .groupBy("_month", "customer_id", "currency")
        .agg(
            F.max("ordered_at").alias("last_ordered_at"),
            F.countDistinct("order_id").alias("orders"),
            F.sum("net_amount").cast(MONEY).alias("amount"),
        )
    )


BY_MONTH = (marks, bought)


def transform(
    marks: DataFrame,
    bought: DataFrame,
    _orders: DataFrame,
    _order_lines: DataFrame,
    customers: DataFrame,
) -> DataFrame:
    """The aggregate, as the module describes it."""
    # A customer who was deleted is not in this table. The orders of that customer are still there.
    known = customers.select(F.col("id").cast("bigint").alias("customer_id"))
    by_customer = (
        bought.groupBy("customer_id", "currency")
        .agg(
            F.max("last_ordered_at").alias("last_ordered_at"),
            F.sum("orders").alias("orders"),
            F.sum("amount").cast(MONEY).alias("amount"),
        )
        # An order has one currency, so its numbers add up over them. Amounts do not.
        .groupBy("customer_id")
        .agg(
            F.to_date(F.max("last_ordered_at")).alias("last_order_date"),
            F.sum("orders").alias("frequency_count"),
            F.min(F.struct(-F.col("orders"), "currency", "amount")).alias("main"),
        )
        .select(
            "customer_id",
            F.col("main.currency").alias("currency"),
            "last_order_date",
            "frequency_count",
            F.col("main.amount").alias("monetary_amount"),
        )
        .join(known, "customer_id", "left_semi")
        .withColumn("recency_days", F.datediff(F.to_date(present(marks)), "last_order_date"))
    )
    measures = ("recency_days", "frequency_count", "monetary_amount")
    quintiles = by_customer.groupBy("currency").agg(
        *(
            F.percentile_approx(m, [0.2, 0.4, 0.6, 0.8], _ACCURACY).alias(f"{m}_boundaries")
            for m in measures
        )
    )
    exceeded = {measure: _exceeded(measure) for measure in measures}
    scored = by_customer.join(F.broadcast(quintiles), "currency").select(
        "customer_id",
        "currency",
        "last_order_date",
        *measures,
        (5 - exceeded["recency_days"]).alias("recency_score"),
        (1 + exceeded["frequency_count"]).alias("frequency_score"),
        (1 + exceeded["monetary_amount"]).alias("monetary_score"),
    )
    return scored.withColumn(
        "segment",
        segment(F.col("recency_score"), F.col("frequency_score"), F.col("monetary_score")),
    )


def _exceeded(measure: str) -> Column:
    """How many of the four boundaries a value exceeds."""
    boundaries = F.col(f"{measure}_boundaries")
    return reduce(add, ((F.col(measure) > boundaries[i]).cast("int") for i in range(4)))


def segment(recency: Column, frequency: Column, monetary: Column) -> Column:
    """The segment of three scores of 1 to 5. The mean of the latter two is rounded half up."""
    # The grid of segments has two axes, so two of the three scores become one.
    both = F.floor((frequency + monetary + 1) / 2)
    whens = (
        (recency.between(*recencies) & both.between(*values), name)
        for recencies, values, name in SEGMENTS
    )
    return F.coalesce(*(F.when(condition, name) for condition, name in whens))


if __name__ == "__main__":
    run("agg_rfm_by_customer")
