"""The progress of orders: paid, shipped, delivered, cancelled, returned."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import timestamp
from seed_data.common.dice import Dice, div, numbers
from seed_data.common.parameters import DAY, HOUR, MICROSECONDS
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import Products
from seed_data.shop.tables.lines import MINUTE, PRICED, fields, gross

ONLINE_CANCELLATIONS = 0.043
PHYSICAL_CANCELLATIONS = 0.008
"""Together about 3 % of all orders."""

RETURN_REASONS = {
    "changed_mind": 45,
    "not_as_described": 20,
    "damaged": 15,
    "wrong_item": 12,
    "late": 8,
}


class Fulfilment:
    """The progress of the orders of one seed."""

    def __init__(self, parameters: ShopParameters, dice: Dice, products: Products) -> None:
        self._parameters = parameters
        self._dice = dice
        self._return_shares = numbers([round(share * 10_000) for share in products.return_shares])

    def progress(self, frame: DataFrame) -> DataFrame:
        """The progress of orders: `method`, `status`, and the time of each step."""
        return self._status(self._steps(frame))

    def _later(self, moment: Column, low: int, high: int, purpose: str) -> Column:
        return (
            moment + low + (self._dice.uniform(purpose, F.col("id")) * (high - low)).cast("bigint")
        )

    def _steps(self, frame: DataFrame) -> DataFrame:
        """`method`, and when the order is paid, ships, arrives and is cancelled."""
        dice, o, online, ordered = self._dice, F.col("id"), F.col("online"), F.col("ordered")
        end, later = F.lit(self._parameters.end), self._later
        method = F.when(
            online,
            dice.weighted(
                {"card": 52, "paypal": 36, "bank_transfer": 10, "voucher": 2}, "order.method", o
            ),
        ).otherwise(dice.weighted({"card": 66, "cash": 31, "voucher": 3}, "order.method", o))
        slow = F.col("method") == "bank_transfer"
        paid = (
            F.when(~online, ordered)
            .when(slow, later(ordered, DAY, 3 * DAY, "order.paid"))
            .otherwise(later(ordered, MICROSECONDS, 8 * MINUTE, "order.paid"))
        )
        cancels = dice.uniform("order.cancelled", o) < F.when(
            online, ONLINE_CANCELLATIONS
        ).otherwise(PHYSICAL_CANCELLATIONS)
        cancelled = F.when(
            online, later(ordered, 10 * MINUTE, 3 * HOUR, "order.cancelled_at")
        ).otherwise(later(ordered, MINUTE, 10 * MINUTE, "order.cancelled_at"))
        return (
            frame.select("*", method.alias("method"))
            .select(
                "*",
                paid.alias("paid_at"),
                F.when(cancels & (cancelled <= end), cancelled).alias("cancelled_at"),
            )
            .select(
                "*",
                F.when(~online, F.col("paid_at"))
                .otherwise(later(F.col("paid_at"), 4 * HOUR, 2 * DAY, "order.shipped"))
                .alias("ships"),
            )
            .select(
                "*",
                F.when(~online, F.col("ships"))
                .otherwise(later(F.col("ships"), DAY, 5 * DAY, "order.delivered"))
                .alias("arrives"),
            )
        )

    def _status(self, frame: DataFrame) -> DataFrame:
        """`status`, and the steps that were taken before the end."""
        # A step after the end of the data has not happened yet.
        end, active = F.lit(self._parameters.end), F.col("cancelled_at").isNull()
        promised = self._later(F.col("ordered"), 3 * DAY, 7 * DAY, "order.promised")
        return (
            frame.select(
                "*",
                F.when(~active, "cancelled")
                .when(F.col("arrives") <= end, "delivered")
                .when(F.col("ships") <= end, "shipped")
                .when(F.col("paid_at") <= end, "paid")
                .otherwise("placed")
                .alias("status"),
                F.when(active & (F.col("ships") <= end), F.col("ships")).alias("shipped_at"),
                F.when(active & (F.col("arrives") <= end), F.col("arrives")).alias("delivered_at"),
                F.when(F.col("online"), F.to_date(timestamp(promised))).alias("promised_on"),
            )
            .withColumn(
                "paid_at",
                F.when(
                    F.col("paid_at") <= F.least(end, F.coalesce("cancelled_at", end)),
                    F.col("paid_at"),
                ),
            )
            .drop("ships", "arrives")
        )

    def returned(self, frame: DataFrame) -> DataFrame:
        """The returns: `returned` (pieces), `refund`, `reason` and `returned_at` of each line.

        They are null if the customer kept the line.
        """
        dice = self._dice

        def judged(line: Column) -> Column:
            key = line["key"]
            returned_at = (
                F.col("delivered_at")
                + DAY
                + (dice.uniform("return.at", key) * 27 * DAY).cast("bigint")
            )
            comes = (
                dice.uniform("return", key) < self._return_shares[line["product"]] / 10_000
            ) & ~line["unknown"]
            return F.struct(
                *fields(line, *PRICED, "discount", "tax"),
                F.when(comes & (returned_at <= self._parameters.end), returned_at).alias(
                    "returned_at"
                ),
            )

        def refunded(line: Column) -> Column:
            came = line["returned_at"].isNotNull()
            pieces = F.when(
                dice.chance(0.8, "return.whole", line["key"]), line["quantity"]
            ).otherwise(F.lit(1).cast("bigint"))
            # The share of the pieces in the price of the line, in cents, rounded half up.
            refund = div(gross(line) * pieces * 2 + line["quantity"], line["quantity"] * 2)
            return F.struct(
                *fields(line, *PRICED, "discount", "tax", "returned_at"),
                F.when(came, pieces).alias("returned"),
                F.when(came, refund).alias("refund"),
                F.when(came, dice.weighted(RETURN_REASONS, "return.reason", line["key"])).alias(
                    "reason"
                ),
            )

        return frame.withColumn("lines", F.transform(F.transform("lines", judged), refunded))
