"""Sales by product category and month, beside the same month a year before.

Grain: one row per currency, category and calendar month (UTC, of the order), from the first month
in which the category sold in the currency to the latest month of any sale. A month without sales in
between is a row of zeros. So each month's previous-year amounts sum to the total of that earlier
month. Sales with an implausible time are in the month of the unknown date, 1900-01.

Columns:

- category_id: 'unknown' for products or categories that the catalog does not have
- category_name: 'Unknown' for those
- department_name: the category at the top of the tree; 'Unknown' for those
- currency: 'XXX' where an order is missing
- month: its first day
- order_count: orders with a line in the category
- units_count: pieces
- net_amount, margin_amount: in `currency`, before tax; returns are not subtracted
- net_amount_previous_year: null where the sales history does not reach back to that month, 0
  where the category sold nothing in it
- net_amount_yoy_pct: change in percent of the size of the previous year's amount, so that growth is
  positive, also from a loss; null where that amount is null or 0. The latest month is not over: its
  change compares part of a month with a whole one.

Sales are kept by month of the order and category. That is exact: an order is in one month with all
of its lines, so everything adds up, also where several months are in 1900-01. Orders add up over
months, but not over categories. So products and categories count as inputs of every month. The
comparison with the year before is made anew, from the sums.
"""

from __future__ import annotations

import pyarrow as pa
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.dates import MONEY, UNKNOWN_DATE
from spark.jobs.shop.sales import (
    SOLD_AMOUNT,
    SOLD_LINES,
    SOLD_MARGIN,
    SOLD_UNITS,
    marks,
    sold_lines,
)

LINEAGE = {
    "category_id": ("catalog.products.category_id",),
    "category_name": ("catalog.categories.name",),
    "department_name": ("catalog.categories.name", "catalog.categories.parent_id"),
    "currency": SOLD_LINES["currency"],
    "month": SOLD_LINES["order_date"],
    "order_count": SOLD_LINES["order_id"],
    "units_count": SOLD_LINES["quantity"],
    "net_amount": SOLD_LINES["net_amount"],
    "margin_amount": SOLD_LINES["margin_amount"],
    "net_amount_previous_year": SOLD_LINES["net_amount"],
    "net_amount_yoy_pct": SOLD_LINES["net_amount"],
}

TOTALS = {
    "net_amount": SOLD_AMOUNT,
    "margin_amount": SOLD_MARGIN,
    "units_count": SOLD_UNITS,
}

_MEASURES = ("order_count", "units_count", "net_amount", "margin_amount")


def sales(
    orders: DataFrame, order_lines: DataFrame, products: DataFrame, categories: DataFrame
) -> DataFrame:
    """The sales by category and month. A product whose category is unknown has `unknown`."""
    # 5 and "5" are two products with one text. As in the warehouse, a sale is of the string.
    types = F.struct(F.col("_id_type") != "string", "_id_type")
    category_of = (
        products.groupBy(F.col("_id").alias("product_id"))
        .agg(F.min_by("category_id", types).alias("category_id"))
        .join(
            F.broadcast(categories.select(F.col("_id").alias("category_id"))),
            "category_id",
            "left_semi",
        )
    )
    return (
        sold_lines(orders, order_lines)
        .join(F.broadcast(category_of), "product_id", "left")
        .groupBy(
            "_month",
            F.coalesce("category_id", F.lit("unknown")).alias("category_id"),
            "currency",
            F.trunc("order_date", "month").alias("month"),
        )
        .agg(
            F.countDistinct("order_id").alias("order_count"),
            F.sum("quantity").alias("units_count"),
            F.sum("net_amount").cast(MONEY).alias("net_amount"),
            F.sum("margin_amount").cast(MONEY).alias("margin_amount"),
        )
    )


BY_MONTH = (marks, sales)


def transform(
    _marks: DataFrame,
    sales: DataFrame,
    _orders: DataFrame,
    _order_lines: DataFrame,
    _products: DataFrame,
    categories: DataFrame,
) -> DataFrame:
    """The aggregate, as the module describes it."""
    tree = category_tree(categories)
    sales = (
        sales.groupBy("category_id", "currency", "month")
        .agg(
            F.sum("order_count").alias("order_count"),
            F.sum("units_count").alias("units_count"),
            F.sum("net_amount").cast(MONEY).alias("net_amount"),
            F.sum("margin_amount").cast(MONEY).alias("margin_amount"),
        )
        # Categories times months are few rows. From here on, one task is faster than any exchange.
        .repartition(1)
        .persist()
    )
    # One mistyped year would otherwise make a row of zeros for every month until then.
    dated = sales.where(F.col("month") != F.lit(UNKNOWN_DATE).cast("date"))
    history = dated.agg(F.min("month").alias("first_month"), F.max("month").alias("last_month"))
    months = (
        dated.groupBy("category_id", "currency")
        .agg(F.min("month").alias("month"))
        .crossJoin(F.broadcast(history))
        .select(
            "category_id",
            "currency",
            "first_month",
            F.explode(F.expr("sequence(month, last_month, interval 1 month)")).alias("month"),
        )
    )
    # `months` has no gaps, so twelve rows before is always the same month of the year before. The
    # unknown month is not among them: it has no `first_month`.
    by_month = Window.partitionBy("category_id", "currency", "first_month").orderBy("month")
    previous = F.when(
        F.add_months("month", -12) >= F.col("first_month"),
        F.coalesce(F.lag("net_amount", 12).over(by_month), F.lit(0)),
    )
    change = (F.col("net_amount") - F.col("net_amount_previous_year")) * 100
    return (
        months.join(sales, ["category_id", "currency", "month"], "full")
        .fillna(0, list(_MEASURES))
        .withColumn("net_amount_previous_year", previous.cast(MONEY))
        .join(F.broadcast(tree), "category_id", "left")
        .select(
            "category_id",
            F.coalesce("category_name", F.lit("Unknown")).alias("category_name"),
            F.coalesce("department_name", F.lit("Unknown")).alias("department_name"),
            "currency",
            "month",
            *_MEASURES,
            "net_amount_previous_year",
            F.round(change / F.nullif(F.abs("net_amount_previous_year"), F.lit(0)), 2)
            .cast(MONEY)
            .alias("net_amount_yoy_pct"),
        )
    )


def category_tree(categories: DataFrame) -> DataFrame:
    """category_id, category_name and department_name.

    The department is the topmost ancestor's name, or its own for a top category. The tree is small
    and its depth unknown, so it is walked here. A parent that is missing ends the walk. A category
    that is its own ancestor has no department.
    """
    found = categories.select("_id", "_id_type", "name", "parent_id").collect()
    # 5 and "5" are two categories with one text. The string stays because it comes last. It is the
    # same with products.
    found.sort(key=lambda row: (row["_id_type"] != "string", row["_id_type"]), reverse=True)
    rows = {row["_id"]: row for row in found}

    def department(category_id: str) -> str | None:
        seen = set()
        while (parent := rows[category_id]["parent_id"]) in rows:
            if category_id in seen:
                return None
            seen.add(category_id)
            category_id = parent
        name: str | None = rows[category_id]["name"]
        return name

    columns = {
        "category_id": list(rows),
        "category_name": [row["name"] for row in rows.values()],
        "department_name": [department(key) for key in rows],
    }
    schema = pa.schema([(name, pa.string()) for name in columns])
    # From a list of rows, Spark makes a table with the help of Python processes: seconds.
    return categories.sparkSession.createDataFrame(pa.table(columns, schema=schema))


if __name__ == "__main__":
    run("agg_sales_by_category_month")
