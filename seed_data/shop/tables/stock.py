"""Inventory and its movements, computed from sales and returns.

Demand (sales and lost pieces) is summed by store, product and week. A window over the weeks then
computes the supply. At the start of a week, enough whole lots have come to cover all demand up to
its end. So the stock is never below zero.

For some pairs of store and product, the supply ends at the total demand. These pairs run low or out
by the end. The stock on hand is the supply, minus the demand, plus returns that were fit for sale.
The movements add up to the same.

The last two bits of a movement's id show its origin: 0 a sale, 1 a return, 2 a written-off return,
3 a supply or a loss.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice, div, numbers, strings
from seed_data.common.parameters import DAY, HOUR
from seed_data.shop.organisation import Organisation
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import Products
from seed_data.shop.tables.lines import returned_lines

OUT_SHARE = 0.05
LOW_SHARE = 0.10
"""Shares of the pairs of store and product that end sold out, or nearly so, in open stores."""

LOSS_SHARE = 0.25
"""Share of the pairs that once lose a piece or two."""

LOTS = 10
"""Deliveries over the whole time to a pair that sells well. A lot has five pieces or more."""

WEEK = 7 * DAY
_OPENING = -1
"""The week of the opening receipt."""


class Stock:
    """The stock of one seed.

    A pair of store and product is numbered store * number of products + product, from 0.
    """

    def __init__(
        self, parameters: ShopParameters, dice: Dice, products: Products, organisation: Organisation
    ):
        self._parameters = parameters
        self._dice = dice
        self._products = len(products.ids)
        self._product_ids = strings(products.ids)
        self._introduced = numbers(products.introduced)
        self._open_from = numbers(organisation.open_from)
        self._open_until = numbers(organisation.open_until)

    def _pair(self, store: Column, product: Column) -> Column:
        return store.cast("bigint") * self._products + product

    def _store(self, pair: Column) -> Column:
        return div(pair, self._products).cast("int")

    def _product_id(self, pair: Column) -> Column:
        return self._product_ids[(pair % self._products).cast("int")]

    def _week(self, moment: Column) -> Column:
        return div(moment - self._parameters.start, WEEK).cast("int")

    def _opened(self, pair: Column) -> Column:
        """When a pair's opening receipt came: before anything could be sold."""
        product = (pair % self._products).cast("int")
        return (
            F.greatest(
                F.lit(self._parameters.start),
                self._introduced[product],
                self._open_from[self._store(pair)],
            )
            - 8 * HOUR
        )

    def _out(self, pair: Column) -> Column:
        closed = self._open_until[self._store(pair)] <= self._parameters.end
        return self._dice.chance(OUT_SHARE, "stock.short", pair) | closed

    def _written_off(self, pair: Column, line: Column) -> Column:
        """Whether a returned line is not put back on the shelf."""
        return (line["reason"] == "damaged") | self._out(pair)

    def _pairs(self, spark: SparkSession, partitions: int) -> DataFrame:
        return spark.range(
            0, self._parameters.stores * self._products, 1, partitions
        ).withColumnRenamed("id", "pair")

    def _losses(self, spark: SparkSession, partitions: int) -> DataFrame:
        """`pair`, `lost` (pieces) and `at` of pieces that went astray."""
        pair = F.col("pair")
        opened, end = (
            self._opened(pair) + 9 * HOUR,
            F.least(F.lit(self._parameters.end), self._open_until[self._store(pair)]),
        )
        at = opened + (
            self._dice.uniform("stock.lost_at", pair) * F.greatest(end - opened, F.lit(0))
        ).cast("bigint")
        return (
            self._pairs(spark, partitions)
            .where(self._dice.chance(LOSS_SHARE, "stock.loses", pair))
            .select(
                "pair", self._dice.integer(1, 2, "stock.lost", pair).alias("lost"), at.alias("at")
            )
        )

    def supply(self, spark: SparkSession, sales: DataFrame, partitions: int) -> DataFrame:
        """The pieces `received`, per pair and week with demand.

        The row of a pair's opening week also has the totals that `inventory` needs.
        """
        line = F.col("line")
        lines = _sold_lines(sales).select(
            self._pair(F.col("store"), line["product"]).alias("pair"),
            F.col("ordered").alias("at"),
            line["quantity"].alias("demand"),
            F.when(
                line["returned_at"].isNotNull()
                & ~self._written_off(self._pair(F.col("store"), line["product"]), line),
                line["returned"],
            )
            .otherwise(0)
            .alias("back"),
            F.coalesce(line["returned_at"], F.col("ordered")).alias("moved"),
        )
        zero = F.lit(0).cast("bigint")
        lost = self._losses(spark, partitions).select(
            "pair",
            "at",
            F.col("lost").alias("demand"),
            zero.alias("back"),
            F.col("at").alias("moved"),
        )
        opening = self._pairs(spark, partitions).select(
            "pair",
            F.lit(_OPENING).alias("week"),
            zero.alias("demand"),
            zero.alias("back"),
            self._opened(F.col("pair")).alias("moved"),
        )
        weekly = (
            lines.union(lost)
            .select("pair", self._week(F.col("at")).alias("week"), "demand", "back", "moved")
            .union(opening)
            .groupBy("pair", "week")
            .agg(
                F.sum("demand").alias("demand"),
                F.sum("back").alias("back"),
                F.max("moved").alias("moved"),
            )
        )
        pair, whole = F.col("pair"), Window.partitionBy("pair")
        so_far = whole.orderBy("week")
        weekly = weekly.select(
            "pair",
            "week",
            F.sum("demand").over(whole).alias("total_demand"),
            F.sum("back").over(whole).alias("total_back"),
            F.max("moved").over(whole).alias("moved"),
            F.sum("demand").over(so_far).alias("demand_so_far"),
        )
        lot = F.greatest(F.lit(5), F.ceil(F.col("total_demand") / LOTS))
        # The same draw as in `_out`, so that the two shares of pairs do not overlap.
        short = self._dice.uniform("stock.short", pair)
        spare = (
            F.when(self._out(pair), 0)
            .when(short < OUT_SHARE + LOW_SHARE, self._dice.integer(1, 3, "stock.spare", pair))
            .otherwise(F.col("lot"))
        )
        supplied = F.least(
            (div(F.col("demand_so_far"), F.col("lot")) + 1) * F.col("lot"),
            F.col("total_demand") + F.col("spare"),
        )
        return (
            weekly.select("*", lot.alias("lot"))
            .select("*", spare.alias("spare"))
            .select("*", supplied.alias("supplied"))
            .select(
                "*", (F.col("supplied") - F.lag("supplied", 1, 0).over(so_far)).alias("received")
            )
            .select("*", F.max("supplied").over(whole).alias("total_supplied"))
        )

    def inventory(self, supply: DataFrame) -> DataFrame:
        """The table `inventory`."""
        pair = F.col("pair")
        weekly_demand = (
            F.col("total_demand") * WEEK / (self._parameters.end - self._parameters.start)
        )
        return supply.where(F.col("week") == _OPENING).select(
            (self._store(pair) + 1).alias("store_id"),
            self._product_id(pair).alias("product_id"),
            (F.col("total_supplied") - F.col("total_demand") + F.col("total_back")).alias(
                "quantity_on_hand"
            ),
            F.greatest(F.lit(2), F.ceil(weekly_demand * 3)).alias("reorder_point"),
            timestamp(F.col("moved")).alias("updated_at"),
        )

    def movements(
        self, spark: SparkSession, sales: DataFrame, supply: DataFrame, partitions: int
    ) -> DataFrame:
        """The table `inventory_movements`."""
        line, pair, order = F.col("line"), F.col("pair"), F.col("order")
        none = F.lit(None).cast("bigint")

        def movement(
            key: Column, origin: int, kind: str, quantity: Column, order: Column, at: Column
        ) -> list[Column]:
            return [
                (key * 4 + origin).alias("id"),
                (self._store(pair) + 1).alias("store_id"),
                self._product_id(pair).alias("product_id"),
                F.lit(kind).alias("kind"),
                quantity.alias("quantity"),
                order.alias("order_id"),
                timestamp(at).alias("moved_at"),
                timestamp(at).alias("updated_at"),
            ]

        sold = _sold_lines(sales).select(
            "line",
            F.col("id").alias("order"),
            "ordered",
            self._pair(F.col("store"), line["product"]).alias("pair"),
        )
        back = returned_lines(sales).select(
            "line",
            F.col("id").alias("order"),
            self._pair(F.col("store"), line["product"]).alias("pair"),
        )
        # An hour after the return, but not after the end of the data.
        written_off_at = F.least(line["returned_at"] + HOUR, F.lit(self._parameters.end))
        # A pair's supplies and its loss have 1,024 numbers: the opening first, the loss last.
        week = F.col("week").cast("bigint") + 1
        arrival = (
            self._parameters.start
            + F.col("week").cast("bigint") * WEEK
            - (self._dice.uniform("stock.arrival", pair, week) * 6 * HOUR).cast("bigint")
        )
        parts = (
            sold.select(
                *movement(line["key"], 0, "sale", -line["quantity"], order, F.col("ordered"))
            ),
            back.select(
                *movement(line["key"], 1, "return", line["returned"], order, line["returned_at"])
            ),
            back.where(self._written_off(pair, line)).select(
                *movement(line["key"], 2, "adjustment", -line["returned"], order, written_off_at)
            ),
            supply.where(F.col("received") > 0).select(
                *movement(
                    pair * 1024 + week,
                    3,
                    "receipt",
                    F.col("received"),
                    none,
                    F.when(F.col("week") == _OPENING, self._opened(pair)).otherwise(
                        F.greatest(arrival, self._opened(pair))
                    ),
                )
            ),
            self._losses(spark, partitions).select(
                *movement(pair * 1024 + 1023, 3, "adjustment", -F.col("lost"), none, F.col("at"))
            ),
        )
        return reduce(DataFrame.unionByName, parts)


def _sold_lines(sales: DataFrame) -> DataFrame:
    """One row per line that took something off a shelf.

    Those are known products of orders that were not cancelled.
    """
    return (
        sales.where(F.col("cancelled_at").isNull())
        .select("*", F.explode("lines").alias("line"))
        .where(~F.col("line.unknown"))
    )
