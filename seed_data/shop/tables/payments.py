"""The payments of orders.

First, there may be a `failed` attempt and a voucher for a part. Then the main payment follows.
Payments that are `authorized` or `captured` add up to the total of the order, unless nothing is
paid yet (`placed`). A `refunded` row is money paid back: the total of a paid order that was
cancelled, or the refund of a return.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import money, timestamp
from seed_data.common.dice import Dice
from seed_data.common.parameters import MICROSECONDS

FAILED_PAYMENTS = 0.04
VOUCHER_SHARE = 0.03


def payments(dice: Dice, sales: DataFrame) -> DataFrame:
    """The table `payments`."""
    o, row = F.col("id"), F.col("row")
    voucher = F.when(
        dice.chance(VOUCHER_SHARE, "payment.split", o) & _electronic() & (F.col("total") > 3000),
        F.lit(1000),
    ).otherwise(F.lit(0))
    return (
        sales.select("*", voucher.alias("voucher"))
        .select("id", F.explode(F.concat(_of_order(dice), _of_returns())).alias("row"))
        .select(
            (o * 16 + row["slot"]).alias("id"),
            o.alias("order_id"),
            row["method"].alias("method"),
            row["status"].alias("status"),
            money(row["cents"]).alias("amount"),
            F.lit("EUR").alias("currency"),
            timestamp(row["at"]).alias("paid_at"),
            F.when(
                row["method"] == "card",
                F.lpad(dice.integer(0, 10_000, "payment.card", o).cast("string"), 4, "0"),
            ).alias("card_last4"),
            timestamp(row["changed"]).alias("updated_at"),
        )
    )


def _electronic() -> Column:
    return F.col("method").isin("card", "paypal")


def _payment(
    slot: Column, method: Column, status: Column, cents: Column, at: Column, changed: Column
) -> Column:
    """A payment as a struct. `slot` numbers the payments of an order."""
    return F.struct(
        slot.alias("slot"),
        method.alias("method"),
        status.alias("status"),
        cents.cast("bigint").alias("cents"),
        at.alias("at"),
        changed.alias("changed"),
    )


def _of_order(dice: Dice) -> Column:
    """The payments for an order and its refund after a cancellation, as an array."""
    paid_at, method, cancelled_at = F.col("paid_at"), F.col("method"), F.col("cancelled_at")
    online, voucher, total = F.col("online"), F.col("voucher"), F.col("total")
    paid = paid_at.isNotNull()
    settled = (
        ~_electronic()
        | ~online
        | F.col("shipped_at").isNotNull()
        | F.col("cancelled_at").isNotNull()
    )
    failed = (
        paid & _electronic() & online & dice.chance(FAILED_PAYMENTS, "payment.failed", F.col("id"))
    )
    # An attempt that failed came before the payment that did not.
    failed_at = F.least(F.col("ordered") + MICROSECONDS, paid_at - 1)
    status = F.when(settled, "captured").otherwise("authorized")
    # Money is captured when the goods leave.
    captured_at = F.when(_electronic() & online, F.coalesce("shipped_at", paid_at)).otherwise(
        paid_at
    )
    attempt = _payment(F.lit(0), method, F.lit("failed"), total - voucher, failed_at, failed_at)
    by_voucher = _payment(F.lit(1), F.lit("voucher"), F.lit("captured"), voucher, paid_at, paid_at)
    main = _payment(F.lit(2), method, status, total - voucher, paid_at, captured_at)
    refund = _payment(F.lit(3), method, F.lit("refunded"), total, cancelled_at, cancelled_at)
    return F.array_compact(
        F.array(
            F.when(failed, attempt),
            F.when(paid & (voucher > 0), by_voucher),
            F.when(paid, main),
            F.when(paid & cancelled_at.isNotNull(), refund),
        )
    )


def _of_returns() -> Column:
    """The refunds of returned lines, as an array of payments."""
    return F.transform(
        F.filter("lines", lambda line: line["returned_at"].isNotNull()),
        lambda line: _payment(
            # The slots 0 to 3 belong to the order, and lines are numbered from 1.
            line["number"] + 3,
            F.col("method"),
            F.lit("refunded"),
            line["refund"],
            line["returned_at"],
            line["returned_at"],
        ),
    )
