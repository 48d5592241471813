"""Charges, and the top-ups and balances of prepaid subscribers that follow from them.

A usage is charged beyond what the plan includes in the bill cycle, in the order of the events.
Prepaid plans include nothing. A prepaid subscriber tops up before the balance would fall below
zero. A correction is in the subscriber's favour, so the balance stays above.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from seed_data.common.columns import money, timestamp
from seed_data.common.dice import Dice, div, numbers, strings
from seed_data.common.parameters import DAY, HOUR, MICROSECONDS
from seed_data.telecom import shares
from seed_data.telecom.catalogue import KINDS, PLANS, PRICE_CHANGE, tariff_id
from seed_data.telecom.parameters import MONTHS, TelecomParameters
from seed_data.telecom.usage import EVENTS_PER_MONTH, Usage

FEE = len(KINDS)
"""The number of the kind `fee`. The others are numbered as in `KINDS`."""

_SLOTS = 4
"""Ids per charge: the first one, its reversal, and the new one."""


class Rating:
    """The charges of one seed."""

    def __init__(self, parameters: TelecomParameters, dice: Dice, usage: Usage) -> None:
        self._parameters = parameters
        self._dice = dice
        self._usage = usage
        first = parameters.month_starts[0]
        self._first_month = first.year * 12 + first.month
        plans = range(1, len(PLANS) + 1)
        kinds = range(len(KINDS))
        self._fees = numbers([plan.fee for plan in PLANS])
        # By plan and kind: what is included, in thousandths, and the prices before and after.
        self._included = numbers([each * 1000 for plan in PLANS for each in plan.included])
        self._prices = [
            numbers([each for plan in PLANS for each in plan.prices]),
            numbers([each for plan in PLANS for each in plan.later or plan.prices]),
        ]
        self._tariffs = [
            numbers(
                [
                    tariff_id(plan, kind, is_later and PLANS[plan - 1].later is not None)
                    for plan in plans
                    for kind in kinds
                ]
            )
            for is_later in (False, True)
        ]

    def rated(self, months: DataFrame, last: DataFrame) -> DataFrame:
        """The intermediate table: one row per charge, corrections included.

        `period` is the first day of its bill cycle, null for prepaid. `cents` is the amount.
        """
        events = reduce(DataFrame.unionByName, self._used(months))
        charges = self._priced(events).unionByName(self._fee_charges(last))
        return self._with_corrections(charges)

    def _used(self, months: DataFrame) -> list[DataFrame]:
        usage = self._usage
        calls = usage.calls(months).where(F.col("is_out") & (F.col("seconds") > 0))
        texts = usage.texts(months).where("is_out")
        minutes = div(F.col("seconds") + 59, 60) * 1000
        return [
            self._event(calls, 0, minutes),
            self._event(texts, 1, F.col("parts") * 1000),
            self._event(usage.sessions(months), 2, F.col("milli_mb")),
        ]

    def _event(self, events: DataFrame, kind: int, quantity: Column) -> DataFrame:
        return events.select(
            "subscriber",
            "m",
            "k",
            "account",
            "zone",
            "cycle_day",
            "activated",
            "change_month",
            "first_plan",
            "next_plan",
            "plan",
            "event_id",
            "at",
            (F.col("recorded") + 2 * MICROSECONDS).alias("recorded"),
            F.lit(kind).alias("kind"),
            quantity.cast("bigint").alias("quantity"),
            F.when(
                F.col("account").isNotNull(), period_of(F.col("at"), F.col("zone"), "cycle_day")
            ).alias("period"),
        )

    def _plan_at(self, moment: Column) -> Column:
        """The plan at a moment of a frame that has the columns of a subscriber."""
        month = F.timestamp_micros(moment)
        number = F.year(month) * 12 + F.month(month) - self._first_month
        return F.when(number >= F.col("change_month"), F.col("next_plan")).otherwise(
            F.col("first_plan")
        )

    def _priced(self, events: DataFrame) -> DataFrame:
        cycle_plan = self._plan_at(
            F.greatest(starts_at(F.col("period"), F.col("zone")), F.col("activated"))
        )
        place = (F.col("plan") - 1) * len(KINDS) + F.col("kind")
        place_of_cycle = (F.col("cycle_plan") - 1) * len(KINDS) + F.col("kind")
        running = Window.partitionBy("subscriber", "period", "kind").orderBy("at", "k")
        later = F.col("m") >= PRICE_CHANGE
        frame = (
            events.select("*", F.coalesce(cycle_plan, "first_plan").alias("cycle_plan"))
            .select("*", self._included[place_of_cycle.cast("int")].alias("included"))
            .select("*", F.sum("quantity").over(running).alias("so_far"))
        )
        over = F.greatest(F.lit(0), F.col("so_far") - F.col("included")) - F.greatest(
            F.lit(0), F.col("so_far") - F.col("quantity") - F.col("included")
        )
        price = F.when(later, self._prices[1][place.cast("int")]).otherwise(
            self._prices[0][place.cast("int")]
        )
        tariff = F.when(later, self._tariffs[1][place.cast("int")]).otherwise(
            self._tariffs[0][place.cast("int")]
        )
        return frame.select(
            self._id(F.col("m"), F.col("kind"), F.col("k")).alias("id"),
            "subscriber",
            "account",
            "zone",
            "event_id",
            "kind",
            "quantity",
            (div(over + 999, 1000) * price).alias("cents"),
            tariff.alias("tariff"),
            "at",
            "recorded",
            "period",
        )

    def _id(self, month: Column, kind: Column, number: Column) -> Column:
        month_of = F.col("subscriber") * 16 + month
        return ((month_of * (FEE + 1) + kind) * EVENTS_PER_MONTH + number) * _SLOTS

    def _fee_charges(self, last: DataFrame) -> DataFrame:
        """The fee of each bill cycle that a postpaid subscriber began, or was activated in."""
        cycle = F.col("cycle")
        month = F.add_months(F.lit(self._parameters.month_starts[0].date()), cycle)
        at = F.greatest(starts_at(F.col("period"), F.col("zone")), F.col("activated"))
        end = F.coalesce("cancelled", F.lit(self._parameters.end))
        # The fee is charged minutes after the start, not everybody's at once.
        delay = self._dice.uniform("telecom.fee.delay", F.col("subscriber"), cycle) * HOUR
        none = F.lit(None)
        return (
            last.where("account IS NOT NULL")
            .select("*", F.explode(F.sequence(F.lit(-1), F.lit(MONTHS))).alias("cycle"))
            .select("*", F.date_add(month, F.col("cycle_day").cast("int") - 1).alias("period"))
            .select("*", at.alias("at"))
            .where(
                (F.col("at") < starts_at(F.add_months("period", 1), F.col("zone")))
                & (F.col("at") < end)
                & (F.col("at") >= F.lit(self._parameters.start - 31 * DAY))
            )
            .select("*", self._plan_at(F.col("at")).alias("plan_then"))
            .select(
                self._id(F.lit(0), F.lit(FEE), cycle + 1).alias("id"),
                "subscriber",
                "account",
                "zone",
                none.cast("string").alias("event_id"),
                F.lit(FEE).alias("kind"),
                F.lit(1000).cast("bigint").alias("quantity"),
                self._fees[(F.col("plan_then") - 1).cast("int")].alias("cents"),
                none.cast("bigint").alias("tariff"),
                "at",
                (F.col("at") + delay.cast("bigint")).alias("recorded"),
                "period",
            )
        )

    def _with_corrections(self, charges: DataFrame) -> DataFrame:
        dice, key, cents = self._dice, F.col("id"), F.col("cents")
        corrected_at = F.col("recorded") + (
            HOUR + dice.uniform("telecom.charge.corrected_at", key) * (10 * DAY)
        ).cast("bigint")
        is_corrected = (
            dice.chance(shares.CHARGE_CORRECTED, "telecom.charge.corrected", key)
            & (cents > 0)
            & (F.col("kind") != FEE)
            & (corrected_at <= self._parameters.end)
        )

        def entry(slot: int, quantity: Column, amount: Column, recorded: Column) -> Column:
            return F.struct(
                F.lit(slot).alias("slot"),
                quantity.alias("quantity"),
                amount.alias("cents"),
                recorded.alias("recorded"),
            )

        quantity = F.col("quantity")
        first = entry(0, quantity, cents, F.col("recorded"))
        reversal = entry(1, -quantity, -cents, corrected_at)
        renewed = entry(2, quantity, div(cents, 2), corrected_at)
        row = F.col("row")
        return (
            charges.where(F.col("recorded") <= self._parameters.end)
            .select(
                "*",
                F.explode(
                    F.when(is_corrected, F.array(first, reversal, renewed)).otherwise(
                        F.array(first)
                    )
                ).alias("row"),
            )
            .select(
                (key + row["slot"]).alias("id"),
                F.when(row["slot"] > 0, key).alias("reverses"),
                "subscriber",
                "account",
                "zone",
                "event_id",
                "kind",
                row["quantity"].alias("quantity"),
                row["cents"].alias("cents"),
                "tariff",
                "at",
                row["recorded"].alias("recorded"),
                "period",
            )
        )

    def charges(self, rated: DataFrame) -> DataFrame:
        """The table `charges`."""
        names = strings([*KINDS, "fee"])
        return rated.select(
            "id",
            F.col("subscriber").alias("subscriber_id"),
            "event_id",
            names[F.col("kind")].alias("kind"),
            (F.col("quantity").cast("decimal(18,0)") * F.lit("0.001").cast("decimal(4,3)"))
            .cast("decimal(18,3)")
            .alias("quantity"),
            money(F.col("cents")).alias("amount"),
            F.lit("EUR").alias("currency"),
            F.col("tariff").alias("tariff_id"),
            timestamp(F.col("at")).alias("event_at"),
            timestamp(F.col("recorded")).alias("recorded_at"),
            F.col("reverses").alias("reverses_id"),
        )

    def _topped_up(self, rated: DataFrame) -> DataFrame:
        """The top-ups: `id`, `subscriber`, `cents` and `topped`."""
        dice, s = self._dice, F.col("subscriber")
        lot = dice.pick(numbers([500, 1000, 1500, 2500]), 4, "telecom.top_up.lot", s)
        so_far = Window.partitionBy("subscriber").orderBy("at", "id")
        early = MICROSECONDS + (dice.uniform("telecom.top_up.early", F.col("id")) * HOUR).cast(
            "bigint"
        )
        return (
            rated.where("account IS NULL AND reverses IS NULL")
            .select(
                "id", "subscriber", "at", lot.alias("lot"), F.sum("cents").over(so_far).alias("c")
            )
            .select("*", (div(F.col("c"), F.col("lot")) + 1).alias("lots"))
            .select("*", (F.col("lots") - F.lag("lots", 1, 0).over(so_far)).alias("new"))
            .where("new > 0")
            .select(
                "id",
                "subscriber",
                (F.col("new") * F.col("lot")).alias("cents"),
                (F.col("at") - early).alias("topped"),
            )
        )

    def top_ups(self, rated: DataFrame) -> DataFrame:
        """The table `top_ups`. The first charge that needs one gives it its id."""
        channel = self._dice.weighted(
            {"app": 5, "voucher": 3, "auto": 2, "store": 1}, "telecom.top_up.channel", F.col("id")
        )
        return self._topped_up(rated).select(
            "id",
            F.col("subscriber").alias("subscriber_id"),
            money(F.col("cents")).alias("amount"),
            F.lit("EUR").alias("currency"),
            channel.alias("channel"),
            timestamp(F.col("topped")).alias("topped_up_at"),
            timestamp(F.col("topped") + MICROSECONDS).alias("recorded_at"),
        )

    def balances(self, rated: DataFrame, last: DataFrame) -> DataFrame:
        """The table `balances`: one row per prepaid subscriber."""
        entries = (
            last.where("account IS NULL")
            .select(
                "subscriber", F.lit(0).cast("bigint").alias("cents"), F.col("activated").alias("at")
            )
            .union(rated.where("account IS NULL").select("subscriber", -F.col("cents"), "recorded"))
            .union(self._topped_up(rated).select("subscriber", "cents", "topped"))
        )
        return (
            entries.groupBy("subscriber")
            .agg(F.sum("cents").alias("cents"), F.max("at").alias("at"))
            .select(
                F.col("subscriber").alias("subscriber_id"),
                money(F.col("cents")).alias("amount"),
                F.lit("EUR").alias("currency"),
                timestamp(F.col("at")).alias("updated_at"),
            )
        )


def period_of(moment: Column, zone: Column, cycle_day: str) -> Column:
    """The first day of the bill cycle of a moment."""
    local = F.to_date(F.from_utc_timestamp(F.timestamp_micros(moment), zone))
    day = F.col(cycle_day).cast("int")
    start = F.date_add(F.trunc(local, "month"), day - 1)
    return F.when(start <= local, start).otherwise(F.add_months(start, -1))


def starts_at(day: Column, zone: Column) -> Column:
    """The first instant of a local day, in epoch microseconds."""
    return F.unix_micros(F.to_utc_timestamp(day.cast("timestamp"), zone))
