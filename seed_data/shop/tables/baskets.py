"""The contents of baskets, and their prices."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice, div, numbers, thresholds
from seed_data.common.parameters import DAY
from seed_data.shop import dirty
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import COMPANIONS, Products
from seed_data.shop.tables.lines import PRICED, fields, gross, line_key

LINE_COUNTS = {"1": 30, "2": 27, "3": 18, "4": 12, "5": 7, "6": 3, "7": 2, "8": 1}

ZIPF_EXPONENT = 0.92
ZIPF_SHIFT = 6.0
"""A product of popularity rank r sells in proportion to (r + 6) ** -0.92."""

COMPANION_SHARE = 0.4
"""The share of further lines of a basket that have a companion of its first product."""

PERIOD = 90 * DAY
"""Prices change once per period. The price in the product document is that of the last period."""

FREE_SHIPPING_FROM, SHIPPING, EXPRESS = 5000, 495, 995
"""Cents."""


class Baskets:
    """The baskets of one seed."""

    def __init__(self, parameters: ShopParameters, dice: Dice, products: Products) -> None:
        self._parameters = parameters
        self._dice = dice
        self._product_count = len(products.ids)
        self._prices = numbers(products.prices)
        self._costs = numbers(products.costs)
        self._tax_rates = numbers(products.tax_rates)
        self._variant_counts = numbers(products.variant_counts)
        self._introduced = numbers(products.introduced)
        self._withdrawn = numbers(products.withdrawn)
        self._ranking = numbers(products.ranking, "int")
        self._companions = numbers(products.companions, "int")
        self._substitutes = numbers(products.substitutes, "int")

    def _popular(self, purpose: str, *key: Column) -> Column:
        """A product number, drawn by popularity (inverse of a Zipf–Mandelbrot distribution)."""
        # The integral of the density can be inverted in closed form, so a draw needs no table.
        exponent = 1 - ZIPF_EXPONENT
        low, high = (1 + ZIPF_SHIFT) ** exponent, (self._product_count + 1 + ZIPF_SHIFT) ** exponent
        rank = F.pow(
            self._dice.uniform(purpose, *key) * (high - low) + low, F.lit(1 / exponent)
        ) - (1 + ZIPF_SHIFT)
        return self._ranking[F.least(F.floor(rank), F.lit(self._product_count - 1)).cast("int")]

    def baskets(self, frame: DataFrame) -> DataFrame:
        """`products`: an array of distinct product numbers that were on sale then."""
        dice, o = self._dice, F.col("id")

        def product(position: Column) -> Column:
            # The square makes the first companion the most frequent one.
            companion = self._companions[
                F.col("first") * COMPANIONS
                + F.floor(dice.uniform("line.which", o, position) ** 2 * COMPANIONS).cast("int")
            ]
            return (
                F.when(position == 0, F.col("first"))
                .when(dice.chance(COMPANION_SHARE, "line.companion", o, position), companion)
                .otherwise(self._popular("line.product", o, position))
            )

        def on_sale(number: Column) -> Column:
            ordered = F.col("ordered")
            there = (self._introduced[number] <= ordered) & (self._withdrawn[number] > ordered)
            return F.when(there, number).otherwise(self._substitutes[number])

        count = dice.weighted(LINE_COUNTS, "order.lines", o).cast("int")
        return (
            frame.select(
                "*", self._popular("order.first", o).alias("first"), count.alias("wanted_lines")
            )
            .select(
                "*",
                F.transform(F.sequence(F.lit(0), F.col("wanted_lines") - 1), product).alias(
                    "wanted_products"
                ),
            )
            .select(
                "*", F.array_distinct(F.transform("wanted_products", on_sale)).alias("products")
            )
            .drop("first", "wanted_lines", "wanted_products")
        )

    def amounts(self, frame: DataFrame) -> DataFrame:
        """What the lines cost: `lines`, `shipping`, `total`."""
        ordered = F.col("ordered")
        period = div(F.lit(self._parameters.end) - ordered, PERIOD)
        friday = F.dayofweek(timestamp(ordered)) == 6
        black_friday = (
            friday
            & (F.month(timestamp(ordered)) == 11)
            & F.dayofmonth(timestamp(ordered)).between(23, 29)
        )
        goods = F.aggregate(
            "lines", F.lit(0).cast("bigint"), lambda reached, line: reached + gross(line)
        )
        shipping = (
            F.when(~F.col("online"), 0)
            .when(self._dice.chance(0.08, "order.express", F.col("id")), EXPRESS)
            .when(F.col("goods") < FREE_SHIPPING_FROM, SHIPPING)
            .otherwise(0)
        )
        lines = F.transform(F.transform(F.transform("products", self._priced), _discounted), _taxed)
        return (
            frame.withColumns(
                {"period": period, "discounted": F.when(black_friday, 0.6).otherwise(0.18)}
            )
            .select("*", lines.alias("lines"))
            .select("*", goods.alias("goods"))
            .select("*", shipping.cast("bigint").alias("shipping"))
            .select("*", (F.col("goods") + F.col("shipping")).alias("total"))
            .drop("products", "goods", "period", "discounted")
        )

    def _then(self, base: Column, product: Column, purpose: str) -> Column:
        """The price in the period of the order, in cents."""
        drift = (
            1
            - F.col("period") * 0.012
            + (self._dice.uniform(purpose, product, F.col("period")) - 0.5) * 0.08
        )
        return F.when(F.col("period") == 0, base).otherwise(
            F.greatest(F.floor(base * drift + 0.5), F.lit(20))
        )

    def _priced(self, product: Column, position: Column) -> Column:
        """The line of a product at that position of its basket, from 0."""
        dice = self._dice
        key = line_key(F.col("id"), position + 1)
        quantity = thresholds(
            dice.uniform("line.quantity", key), {"1": 80, "2": 14, "3": 4, "6": 2}
        )
        rate = thresholds(
            dice.uniform("line.discount", key), {"5": 30, "10": 40, "20": 25, "30": 5}
        )
        variant = dice.integer(1, self._variant_counts[product], "line.variant", key).cast("string")
        return F.struct(
            (position + 1).alias("number"),
            key.alias("key"),
            product.alias("product"),
            dice.chance(dirty.LINE_UNKNOWN_PRODUCT, "line.unknown", key).alias("unknown"),
            F.when(dice.chance(0.9, "line.sku", key), variant).alias("variant"),
            quantity.cast("bigint").alias("quantity"),
            self._then(self._prices[product], product, "price").alias("price"),
            self._then(self._costs[product], product, "cost").alias("cost"),
            F.when(dice.uniform("line.discounted", key) < F.col("discounted"), rate.cast("bigint"))
            .otherwise(F.lit(0))
            .alias("discount_rate"),
            self._tax_rates[product].alias("tax_rate"),
        )


def _discounted(line: Column) -> Column:
    # Half of the divisor is added first, because integer division would always round down.
    discount = div(line["quantity"] * line["price"] * line["discount_rate"] + 50, 100)
    return F.struct(*fields(line, *PRICED), discount.alias("discount"))


def _taxed(line: Column) -> Column:
    net = line["quantity"] * line["price"] - line["discount"]
    return F.struct(
        *fields(line, *PRICED, "discount"),
        div(net * line["tax_rate"] + 5000, 10_000).alias("tax"),
    )
