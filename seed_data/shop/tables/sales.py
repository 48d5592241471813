"""Orders with their lines, payments and returns.

All four tables are projections of one intermediate table, `sales`: one row per order with its lines
in an array. So an order and its lines agree without a join or a shuffle. Money is counted in cents
(long integers), time in epoch microseconds. Both become decimals and timestamps in the projections.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.columns import money, timestamp
from seed_data.common.dice import Dice, strings
from seed_data.common.parameters import HOUR
from seed_data.shop import dirty
from seed_data.shop.organisation import Organisation
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import Products
from seed_data.shop.tables.baskets import Baskets
from seed_data.shop.tables.buyers import Buyers
from seed_data.shop.tables.customers import Customers
from seed_data.shop.tables.fulfilment import Fulfilment
from seed_data.shop.tables.lines import returned_lines
from seed_data.shop.tables.payments import payments


class Sales:
    """The sales of one seed."""

    def __init__(
        self,
        parameters: ShopParameters,
        dice: Dice,
        customers: Customers,
        products: Products,
        organisation: Organisation,
    ) -> None:
        self._parameters = parameters
        self._dice = dice
        self._product_ids = strings(products.ids)
        self._buyers = Buyers(parameters, dice, customers, organisation)
        self._baskets = Baskets(parameters, dice, products)
        self._fulfilment = Fulfilment(parameters, dice, products)

    def sales(self, spark: SparkSession, partitions: int) -> DataFrame:
        """The intermediate table. Its `lines` are an array of structs, with products by number."""
        steps = (
            self._buyers.moments,
            self._buyers.buyers,
            self._baskets.baskets,
            self._baskets.amounts,
            self._fulfilment.progress,
            self._fulfilment.returned,
        )
        frame = spark.range(
            0, (self._parameters.end - self._parameters.start) // HOUR + 1, 1, partitions
        )
        return reduce(lambda frame, step: step(frame), steps, frame.withColumnRenamed("id", "hour"))

    def orders(self, sales: DataFrame) -> DataFrame:
        """The table `orders`."""
        return sales.select(
            "id",
            "customer_id",
            (F.col("store") + 1).alias("store_id"),
            "employee_id",
            "shipping_address_id",
            "device",
            "status",
            F.lit("EUR").alias("currency"),
            timestamp(F.col("ordered")).alias("ordered_at"),
            "promised_on",
            money(F.col("shipping")).alias("shipping_amount"),
            money(F.col("total"), 14).alias("total_amount"),
            "note",
            timestamp(
                F.coalesce("cancelled_at", "delivered_at", "shipped_at", "paid_at", "ordered")
            ).alias("updated_at"),
        )

    def order_lines(self, sales: DataFrame) -> DataFrame:
        """The table `order_lines`."""
        line = F.col("line")
        known = self._product_ids[line["product"]]
        unknown = F.concat(
            F.lit("P9990"), F.lpad((line["key"] % dirty.UNKNOWN_PRODUCTS).cast("string"), 2, "0")
        )
        return sales.select("id", "ordered", F.explode("lines").alias("line")).select(
            F.col("id").alias("order_id"),
            line["number"].alias("line_number"),
            F.when(line["unknown"], unknown).otherwise(known).alias("product_id"),
            F.when(~line["unknown"], F.concat(known, F.lit("-"), line["variant"])).alias(
                "variant_sku"
            ),
            line["quantity"].alias("quantity"),
            money(line["price"]).alias("unit_price"),
            money(line["cost"]).alias("unit_cost"),
            money(line["discount"]).alias("discount_amount"),
            (line["tax_rate"].cast("decimal(5,0)") * F.lit("0.0001").cast("decimal(5,4)"))
            .cast("decimal(5,4)")
            .alias("tax_rate"),
            money(line["tax"]).alias("tax_amount"),
            timestamp(F.col("ordered")).alias("created_at"),
            timestamp(F.col("ordered")).alias("updated_at"),
        )

    def returns(self, sales: DataFrame) -> DataFrame:
        """The table `returns`."""
        line = F.col("line")
        returned_at = timestamp(line["returned_at"])
        return returned_lines(sales).select(
            line["key"].alias("id"),
            F.col("id").alias("order_id"),
            line["number"].alias("line_number"),
            line["returned"].alias("quantity"),
            line["reason"].alias("reason"),
            money(line["refund"]).alias("refund_amount"),
            returned_at.alias("returned_at"),
            returned_at.alias("updated_at"),
        )

    def payments(self, sales: DataFrame) -> DataFrame:
        """The table `payments`."""
        return payments(self._dice, sales)
