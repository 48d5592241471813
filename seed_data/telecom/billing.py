"""Accounts, their invoices, and what follows: payments, disputes and credits.

An invoice takes the charges of a bill cycle that were recorded before its day. Later ones, and
those of the cycle that goes on, are on no invoice.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from seed_data.common.columns import money, timestamp
from seed_data.common.dice import Dice, div, numbers
from seed_data.common.parameters import DAY
from seed_data.telecom import shares
from seed_data.telecom.catalogue import PLANS
from seed_data.telecom.parameters import BLOCK_SUBSCRIBERS, TelecomParameters
from seed_data.telecom.rating import FEE, starts_at

ISSUED_AFTER_DAYS = 3
"""Days from the end of a bill cycle to its invoice. Most late records come in this time."""
DUE_AFTER_DAYS = 14
TAX_PCT = 19
DISCOUNTED_ACCOUNTS = 0.1
DISCOUNT_PCT = 10
"""Of the fees."""


class Billing:
    """The bills of one seed."""

    def __init__(self, parameters: TelecomParameters, dice: Dice) -> None:
        self._parameters = parameters
        self._dice = dice
        first = parameters.month_starts[0]
        self._first_month = first.year * 12 + first.month
        self._fees = numbers([plan.fee for plan in PLANS])

    def lines(self, rated: DataFrame) -> DataFrame:
        """The intermediate table: one row per line of an invoice."""
        dice, period = self._dice, F.col("period")
        issued = F.date_add(F.add_months(period, 1), ISSUED_AFTER_DAYS)
        number = F.year(period) * 12 + F.month(period) - self._first_month + 2
        invoice = F.col("account") * 32 + number
        sums = (
            rated.where("period IS NOT NULL")
            .select("*", starts_at(issued, F.col("zone")).alias("issued_at"))
            .where(
                (F.col("issued_at") <= self._parameters.end)
                & (F.col("recorded") < F.col("issued_at"))
            )
            .groupBy(
                "account", "zone", "period", "subscriber", (F.col("kind") == FEE).alias("is_fee")
            )
            .agg(F.sum("cents").alias("cents"), F.count("*").alias("entries"))
        )
        is_discounted = dice.chance(DISCOUNTED_ACCOUNTS, "telecom.discounted", F.col("account"))
        line = F.col("line")

        def entry(kind: int, text: str, entries: Column, cents: Column) -> Column:
            return F.struct(
                F.lit(kind).alias("kind"),
                F.lit(text).alias("text"),
                entries.cast("bigint").alias("entries"),
                cents.cast("bigint").alias("cents"),
            )

        cents, entries = F.col("cents"), F.col("entries")
        of_fee = F.array_compact(
            F.array(
                entry(0, "Fee of the plan", entries, cents),
                F.when(
                    is_discounted,
                    entry(2, "Discount", F.lit(1), -div(cents * DISCOUNT_PCT, 100)),
                ),
            )
        )
        of_usage = F.array(entry(1, "Usage beyond the plan", entries, cents))
        return (
            sums.select(
                "*", F.explode(F.when(F.col("is_fee"), of_fee).otherwise(of_usage)).alias("line")
            )
            .select(
                invoice.alias("invoice"),
                "account",
                "zone",
                "period",
                "subscriber",
                issued.alias("issued"),
                line["kind"].alias("kind"),
                line["text"].alias("text"),
                line["entries"].alias("entries"),
                line["cents"].alias("net"),
            )
            # Half a cent is rounded up, also of a negative amount.
            .select("*", F.floor((F.col("net") * TAX_PCT + 50) / 100).cast("bigint").alias("tax"))
            .select(
                "*",
                (
                    (
                        F.col("invoice") * BLOCK_SUBSCRIBERS
                        + (F.col("subscriber") - 1) % BLOCK_SUBSCRIBERS
                    )
                    * 4
                    + F.col("kind")
                ).alias("id"),
            )
        )

    def invoice_lines(self, lines: DataFrame) -> DataFrame:
        """The table `invoice_lines`."""
        kind = F.col("kind")
        return lines.select(
            "id",
            F.col("invoice").alias("invoice_id"),
            F.col("account").alias("account_id"),
            F.col("subscriber").alias("subscriber_id"),
            F.when(kind == 0, "fee").when(kind == 1, "usage").otherwise("discount").alias("kind"),
            F.col("text").alias("description"),
            F.col("entries").cast("decimal(18,3)").alias("quantity"),
            money(F.col("net")).alias("net_amount"),
            money(F.col("tax")).alias("tax_amount"),
            timestamp(starts_at(F.col("issued"), F.col("zone"))).alias("updated_at"),
        )

    def bills(self, lines: DataFrame) -> DataFrame:
        """The intermediate table: one row per invoice, with what becomes of it."""
        dice, key, end = self._dice, F.col("id"), self._parameters.end
        issued_at, total = F.col("issued_at"), F.col("net") + F.col("tax")
        is_disputed = dice.chance(shares.INVOICE_DISPUTED, "telecom.disputed", key)
        opened = issued_at + ((1 + dice.uniform("telecom.dispute.opened", key) * 12) * DAY).cast(
            "bigint"
        )
        closed = F.col("opened") + (
            (2 + dice.uniform("telecom.dispute.closed", key) * 18) * DAY
        ).cast("bigint")
        paid = issued_at + ((2 + dice.uniform("telecom.paid", key) * 25) * DAY).cast("bigint")
        contested = F.greatest(
            F.lit(1),
            (total * (0.2 + 0.8 * dice.uniform("telecom.dispute.share", key))).cast("bigint"),
        )
        is_accepted = F.col("closed").isNotNull() & dice.chance(
            shares.DISPUTE_ACCEPTED, "telecom.dispute.accepted", key
        )
        frame = (
            lines.groupBy(F.col("invoice").alias("id"), "account", "zone", "period", "issued")
            .agg(
                F.sum("net").alias("net"),
                F.sum("tax").alias("tax"),
                F.min("subscriber").alias("subscriber"),
            )
            .select("*", starts_at(F.col("issued"), F.col("zone")).alias("issued_at"))
            .select(
                "*",
                dice.chance(shares.INVOICE_CANCELLED, "telecom.cancelled_bill", key).alias(
                    "is_cancelled"
                ),
            )
            .select(
                "*",
                F.when(is_disputed & ~F.col("is_cancelled") & (opened <= end), opened).alias(
                    "opened"
                ),
            )
            .select("*", F.when(closed <= end, closed).alias("closed"))
            .select("*", F.when(F.col("opened").isNotNull(), contested).alias("contested"))
            .select("*", F.when(is_accepted, -F.col("contested")).otherwise(0).alias("credit"))
        )
        return frame.select(
            "*",
            F.when(
                ~F.col("is_cancelled")
                & ~dice.chance(shares.INVOICE_UNPAID, "telecom.unpaid", key)
                & (total + F.col("credit") > 0)
                & (paid <= end),
                paid,
            ).alias("paid"),
        )

    def invoices(self, bills: DataFrame) -> DataFrame:
        """The table `invoices`."""
        due = F.date_add("issued", DUE_AFTER_DAYS)
        today = F.to_date(
            F.from_utc_timestamp(F.timestamp_micros(F.lit(self._parameters.end)), F.col("zone"))
        )
        is_settled = F.col("paid").isNotNull() | (
            F.col("net") + F.col("tax") + F.col("credit") <= 0
        )
        return bills.select(
            "id",
            F.col("account").alias("account_id"),
            F.concat_ws(
                "-", F.lit("R"), F.col("account").cast("string"), F.date_format("period", "yyyyMM")
            ).alias("number"),
            F.lit("EUR").alias("currency"),
            F.col("period").alias("period_start"),
            F.add_months("period", 1).alias("period_end"),
            F.col("issued").alias("issued_on"),
            due.alias("due_on"),
            money(F.col("net")).alias("net_amount"),
            money(F.col("tax")).alias("tax_amount"),
            money(F.col("net") + F.col("tax")).alias("total_amount"),
            F.when(F.col("is_cancelled"), "cancelled")
            .when(is_settled, "paid")
            .when(due < today, "overdue")
            .otherwise("open")
            .alias("state"),
            timestamp(F.coalesce("paid", "issued_at")).alias("updated_at"),
        )

    def payments(self, bills: DataFrame) -> DataFrame:
        """The table `payments`: invoices are paid as a whole, less credits."""
        method = self._dice.weighted(
            {"direct_debit": 6, "card": 2, "bank_transfer": 2, "cash": 0.1},
            "telecom.paid_by",
            F.col("account"),
        )
        paid = timestamp(F.col("paid"))
        return bills.where("paid IS NOT NULL").select(
            "id",
            F.col("account").alias("account_id"),
            F.col("id").alias("invoice_id"),
            method.alias("method"),
            money(F.col("net") + F.col("tax") + F.col("credit")).alias("amount"),
            F.lit("EUR").alias("currency"),
            paid.alias("paid_at"),
            paid.alias("updated_at"),
        )

    def disputes(self, bills: DataFrame) -> DataFrame:
        """The table `disputes`."""
        reason = self._dice.weighted(
            {"usage": 5, "fee": 3, "other": 2}, "telecom.dispute.reason", F.col("id")
        )
        return bills.where("opened IS NOT NULL").select(
            "id",
            F.col("account").alias("account_id"),
            F.col("id").alias("invoice_id"),
            F.col("subscriber").alias("subscriber_id"),
            money(F.col("contested")).alias("amount"),
            F.lit("EUR").alias("currency"),
            reason.alias("reason"),
            F.when(F.col("closed").isNull(), "open")
            .when(F.col("credit") < 0, "accepted")
            .otherwise("rejected")
            .alias("state"),
            timestamp(F.col("opened")).alias("opened_at"),
            timestamp(F.col("closed")).alias("closed_at"),
            timestamp(F.coalesce("closed", "opened")).alias("updated_at"),
        )

    def adjustments(self, bills: DataFrame, agents: int) -> DataFrame:
        """The table `adjustments`: a credit for each accepted dispute."""
        made = timestamp(F.col("closed"))
        return bills.where("credit < 0").select(
            "id",
            F.col("account").alias("account_id"),
            F.col("subscriber").alias("subscriber_id"),
            F.col("id").alias("invoice_id"),
            F.lit("dispute").alias("reason"),
            money(F.col("credit")).alias("amount"),
            F.lit("EUR").alias("currency"),
            self._dice.integer(1, agents, "telecom.credited_by", F.col("id")).alias("agent_id"),
            made.alias("made_at"),
            made.alias("updated_at"),
        )

    def _owners(self, last: DataFrame) -> DataFrame:
        """One row per account."""
        return (
            last.where("account IS NOT NULL")
            .groupBy("account", "customer", "zone", "cycle_day")
            .agg(
                F.min("activated").alias("opened"),
                F.max("cancelled").alias("closed"),
                F.count_if(F.col("cancelled").isNull()).alias("open_contracts"),
                F.sum(self._fees[(F.col("plan") - 1).cast("int")]).alias("fees"),
            )
            .select("*", F.when(F.col("open_contracts") == 0, F.col("closed")).alias("closed_at"))
        )

    def accounts(self, last: DataFrame) -> DataFrame:
        """The table `accounts`."""
        closed = F.col("closed_at")
        return self._owners(last).select(
            F.col("account").alias("id"),
            F.col("customer").alias("customer_id"),
            F.lit("EUR").alias("currency"),
            F.when(closed.isNull(), "open").otherwise("closed").alias("state"),
            timestamp(F.col("opened")).alias("opened_at"),
            timestamp(closed).alias("closed_at"),
            timestamp(F.coalesce(closed, "opened")).alias("updated_at"),
        )

    def bill_cycles(self, last: DataFrame) -> DataFrame:
        """The table `bill_cycles`."""
        return self._owners(last).select(
            F.col("account").alias("account_id"),
            "cycle_day",
            F.col("zone").alias("time_zone"),
            timestamp(F.col("opened")).alias("updated_at"),
        )

    def credit_limits(self, last: DataFrame) -> DataFrame:
        """The table `credit_limits`: whole fifties, above the fees."""
        limit = (div(F.col("fees") * 2, 5_000) + 1) * 5_000
        return self._owners(last).select(
            F.col("account").alias("account_id"),
            money(limit).alias("limit_amount"),
            F.lit("EUR").alias("currency"),
            timestamp(F.col("opened")).alias("updated_at"),
        )
