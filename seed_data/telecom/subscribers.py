"""Subscribers month by month: what they use, what goes wrong, and when they leave.

The months come first, with the number of calls, dropped calls and complaints in each. The events
are made from these numbers. So a subscriber's hazard is a function of what the sources will hold.

The hazard of a month is the probability that the subscriber cancels in it. It follows from the
three months that ended a month before: who leaves gives a month's notice. It is in no source.
`truth` tells it to tests.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from seed_data.common.dice import Dice, div, numbers, strings
from seed_data.common.parameters import DAY
from seed_data.common.people import People
from seed_data.common.words import Pools
from seed_data.telecom import shares
from seed_data.telecom.catalogue import BUSINESS, PLANS, POSTPAID, PREPAID
from seed_data.telecom.parameters import (
    ACCOUNT_BASE,
    BLOCK_CUSTOMERS,
    BLOCK_SUBSCRIBERS,
    MONTHS,
    TelecomParameters,
)
from seed_data.telecom.rhythm import Rhythm

FOUNDING_SHARE = 0.78
"""The share of the subscribers who were there when the data begin, up to `FOUNDING_YEARS` old."""
FOUNDING_YEARS = 6
PREPAID_SHARE = 0.45
"""Of private subscribers."""
PLAN_CHANGES = 0.12
"""Subscribers who change their plan once, at the start of a month."""

# Events per month of a subscriber of average eagerness.
CALLS_OUT, CALLS_IN, SMS_OUT, SMS_IN, SESSIONS = 5.6, 3.8, 1.3, 1.0, 2.2

BAD_COVERAGE = 0.16
"""Subscribers who live where many calls drop."""

HAZARD = {
    "intercept": -4.3,
    "dropped_calls": 0.42,
    "complaints": 0.9,
    "fee_per_call": 0.32,
    "log_tenure_months": -0.38,
    "is_prepaid": 0.7,
}
"""The coefficients of the log odds. `dropped_calls` (at most 6) and `complaints` (at most 2) are
counts, `fee_per_call` is the plan's fee over one more than the outgoing calls of a month, at most
8, and `log_tenure_months` is ln(1 + months since the activation)."""


class Subscribers:
    """The subscribers of one seed. Needs a running session."""

    def __init__(self, parameters: TelecomParameters, dice: Dice, pools: Pools, rhythm: Rhythm):
        self._parameters = parameters
        self._dice = dice
        self._rhythm = rhythm
        self._pools = pools
        self._people = People(dice, pools)
        self._fees = numbers([0] + [plan.fee for plan in PLANS])

    def person(self, customer: Column) -> Column:
        """The number of the person that a customer is. It is above `people` if no other line may
        know it."""
        shared = customer * 5
        is_known = (
            (customer % BLOCK_CUSTOMERS != 0)
            & self._dice.chance(shares.KNOWN_PERSON, "telecom.known", customer)
            & (shared <= self._parameters.people)
        )
        return F.when(is_known, shared).otherwise(customer + self._parameters.people)

    def first_subscriber(self, customer: Column) -> Column:
        """The first subscriber of a customer."""
        block = div(customer - 1, BLOCK_CUSTOMERS)
        return block * BLOCK_SUBSCRIBERS + (customer - 1) % BLOCK_CUSTOMERS + 1

    def activated(self, subscriber: Column) -> Column:
        """When a subscriber was activated. It grows with the number."""
        start, end = self._parameters.start, self._parameters.end
        share = (subscriber - self._dice.uniform("telecom.activated", subscriber)) / F.lit(
            float(self._parameters.subscribers)
        )
        before = F.pow(F.greatest(F.lit(0.0), 1 - share / FOUNDING_SHARE), F.lit(1.5))
        since = (share - FOUNDING_SHARE) / (1 - FOUNDING_SHARE)
        return F.when(
            share < FOUNDING_SHARE,
            F.lit(start) - (before * (FOUNDING_YEARS * 365.25 * DAY)).cast("bigint"),
        ).otherwise(F.lit(start) + (since * float(end - start - 2 * DAY)).cast("bigint"))

    def _base(self, spark: SparkSession, partitions: int) -> DataFrame:
        """What does not change: one row per subscriber."""
        dice, s = self._dice, F.col("subscriber")
        position = (s - 1) % BLOCK_SUBSCRIBERS
        customer = (
            div(s - 1, BLOCK_SUBSCRIBERS) * BLOCK_CUSTOMERS
            + F.least(position, F.lit(BLOCK_CUSTOMERS - 1))
            + 1
        )
        is_business = position >= BLOCK_CUSTOMERS - 1

        def plan(purpose: str) -> Column:
            pick = dice.pick
            return (
                F.when(
                    F.col("is_business"),
                    pick(numbers(BUSINESS), len(BUSINESS), f"{purpose}.business", s),
                )
                .when(
                    F.col("is_prepaid"),
                    pick(numbers(PREPAID), len(PREPAID), f"{purpose}.prepaid", s),
                )
                .otherwise(pick(numbers(POSTPAID), len(POSTPAID), f"{purpose}.postpaid", s))
            )

        drawn_month = dice.integer(1, MONTHS - 1, "telecom.change_month", s).cast("int")
        return (
            spark.range(1, self._parameters.subscribers + 1, 1, partitions)
            .withColumnRenamed("id", "subscriber")
            .select(
                "subscriber",
                customer.alias("customer"),
                is_business.alias("is_business"),
                (~is_business & dice.chance(PREPAID_SHARE, "telecom.prepaid", s)).alias(
                    "is_prepaid"
                ),
                self.activated(s).alias("activated"),
            )
            .select("*", self._people.place(self.person(F.col("customer"))).alias("place"))
            .select(
                "*",
                self._pools.countries[F.col("place")].alias("country"),
                F.when(~F.col("is_prepaid"), F.col("customer") + ACCOUNT_BASE).alias("account"),
                plan("telecom.plan").alias("first_plan"),
                plan("telecom.next_plan").alias("next_plan"),
                F.when(
                    dice.chance(PLAN_CHANGES, "telecom.changes_plan", s)
                    & (self._rhythm.month_starts[drawn_month] > F.col("activated")),
                    drawn_month,
                )
                .otherwise(MONTHS)
                .alias("change_month"),
                dice.integer(1, 28, "telecom.cycle_day", F.col("customer")).alias("cycle_day"),
                # Most people call little, some call much.
                (0.3 + 1.9 * F.pow(dice.uniform("telecom.eager", s), F.lit(1.7))).alias("eager"),
                F.when(
                    dice.chance(BAD_COVERAGE, "telecom.bad_coverage", s),
                    0.06 + 0.26 * dice.uniform("telecom.coverage", s),
                )
                .otherwise(0.025 * dice.uniform("telecom.coverage", s))
                .alias("drops"),
            )
            .select(
                "*",
                self._rhythm.zones[F.col("country")].alias("zone"),
                self._pools.regions[F.col("place")].alias("region"),
                # Own numbers go on with 16, those of other networks with 15.
                F.concat(
                    F.regexp_replace(self._pools.dials[F.col("country")], r"^\+", ""),
                    F.lit("16"),
                    F.lpad(((s * 7919) % 100_000_000).cast("string"), 8, "0"),
                ).alias("msisdn"),
            )
        )

    def months(self, spark: SparkSession, partitions: int) -> DataFrame:
        """The intermediate table: one row per subscriber and month up to the one of leaving.

        `cancelled` (epoch microseconds) is null for those who stay. `is_last` marks one row per
        subscriber.
        """
        s, m, activated = F.col("subscriber"), F.col("m"), F.col("activated")
        start, end = F.col("month_start"), F.col("month_end")
        length = (end - start).cast("double")
        frame = (
            self._base(spark, partitions)
            .select("*", F.explode(F.sequence(F.lit(0), F.lit(MONTHS - 1))).alias("m"))
            .select(
                "*",
                self._rhythm.month_starts[m].alias("month_start"),
                self._rhythm.month_starts[m + 1].alias("month_end"),
            )
            .where(activated < end)
            .select(
                "*",
                F.when(m >= F.col("change_month"), F.col("next_plan"))
                .otherwise(F.col("first_plan"))
                .alias("plan"),
                (
                    F.col("eager")
                    * F.when(F.col("is_business"), 1.2).otherwise(1.0)
                    * (end - F.greatest(start, activated))
                    / length
                ).alias("pace"),
            )
            .select(
                "*",
                self._count(CALLS_OUT, "out").alias("calls_out"),
                self._count(CALLS_IN, "in").alias("calls_in"),
                self._count(SMS_OUT, "sms_out").alias("sms_out"),
                self._count(SMS_IN, "sms_in").alias("sms_in"),
                self._count(SESSIONS, "sessions").alias("sessions"),
            )
            .select("*", self._dropped().alias("dropped"))
            .select(
                "*",
                (
                    self._dice.uniform("telecom.complains", s, m)
                    < shares.COMPLAINT + shares.COMPLAINT_PER_DROPPED_CALL * F.col("dropped")
                )
                .cast("int")
                .alias("complaints"),
            )
        )
        return self._until_they_leave(frame)

    def _count(self, mean: float, what: str) -> Column:
        key = (F.col("subscriber"), F.col("m"))
        swing = 0.4 + 1.2 * self._dice.uniform(f"telecom.{what}.swing", *key)
        return F.floor(
            mean * F.col("pace") * swing + self._dice.uniform(f"telecom.{what}.rest", *key)
        ).cast("int")

    def _dropped(self) -> Column:
        key = (F.col("subscriber"), F.col("m"))
        swing = 0.5 + self._dice.uniform("telecom.dropped.swing", *key)
        drawn = F.floor(
            F.col("calls_out") * F.col("drops") * swing
            + self._dice.uniform("telecom.dropped.rest", *key)
        )
        return F.least(F.col("calls_out"), drawn).cast("int")

    def _until_they_leave(self, frame: DataFrame) -> DataFrame:
        dice, s, m = self._dice, F.col("subscriber"), F.col("m")
        start, end = F.col("month_start"), F.col("month_end")
        whole = Window.partitionBy("subscriber")
        before = whole.orderBy("m").rowsBetween(-4, -2)
        frame = frame.select(
            "*",
            *(
                F.coalesce(F.sum(name).over(before), F.lit(0)).alias(f"{name}_before")
                for name in ("dropped", "complaints", "calls_out")
            ),
            F.count("m").over(before).alias("months_before"),
            F.lag("plan", 2).over(whole.orderBy("m")).alias("plan_before"),
        ).select(
            "*",
            F.least(
                self._fees[F.coalesce("plan_before", "plan").cast("int")]
                / 100
                / (1 + F.col("calls_out_before") / F.greatest(F.col("months_before"), F.lit(1))),
                F.lit(8.0),
            ).alias("fee_per_call"),
        )
        frame = frame.select("*", self._hazard().alias("hazard")).select(
            "*",
            # Nobody leaves in the month of the activation or the one after.
            (
                (dice.uniform("telecom.leaves", s, m) < F.col("hazard"))
                & (F.col("months_before") > 0)
            ).alias("leaves"),
        )
        left = start + (dice.uniform("telecom.left", s, m) * (end - start)).cast("bigint")
        frame = (
            frame.select("*", F.min(F.when(F.col("leaves"), m)).over(whole).alias("left_month"))
            .where(m <= F.coalesce("left_month", F.lit(MONTHS)))
            .select(
                "*",
                F.max(F.when(m == F.col("left_month"), left)).over(whole).alias("left"),
                self._reason().alias("reason_of_month"),
            )
        )
        return frame.select(
            "*",
            # Who would leave after the end of the data has not left.
            F.when(F.col("left") <= self._parameters.end, F.col("left")).alias("cancelled"),
            (m == F.coalesce("left_month", F.lit(MONTHS - 1))).alias("is_last"),
        )

    def _hazard(self) -> Column:
        tenure = F.greatest(F.lit(0.0), (F.col("month_start") - F.col("activated")) / (30.4 * DAY))
        odds = (
            F.lit(HAZARD["intercept"])
            + HAZARD["dropped_calls"] * F.least(F.col("dropped_before"), F.lit(6))
            + HAZARD["complaints"] * F.least(F.col("complaints_before"), F.lit(2))
            + HAZARD["fee_per_call"] * F.col("fee_per_call")
            + HAZARD["log_tenure_months"] * F.log1p(tenure)
            + HAZARD["is_prepaid"] * F.col("is_prepaid").cast("int")
        )
        return 1 / (1 + F.exp(-odds))

    def _reason(self) -> Column:
        """Why somebody leaves, if it is in this month."""
        other = self._dice.weighted(
            {"price": 4, "moved": 3, "other": 3}, "telecom.reason", F.col("subscriber")
        )
        return (
            F.when(F.col("dropped_before") > 1, "network")
            .when(F.col("complaints_before") > 0, "service")
            .when(F.col("fee_per_call") > 4, "price")
            .otherwise(other)
        )

    def subscribers(self, last: DataFrame) -> DataFrame:
        """The table `subscribers`, from the months that are `is_last`."""
        s, cancelled = F.col("subscriber"), F.col("cancelled")
        is_suspended = self._dice.chance(0.01, "telecom.suspended", s)
        return last.select(
            s.alias("id"),
            F.col("customer").alias("customer_id"),
            F.col("account").alias("account_id"),
            "msisdn",
            F.concat(F.lit("26299"), F.lpad((s * 7 + 11).cast("string"), 10, "0")).alias("imsi"),
            F.when(F.col("is_prepaid"), "prepaid").otherwise("postpaid").alias("kind"),
            F.when(cancelled.isNotNull(), "cancelled")
            .when(is_suspended, "suspended")
            .otherwise("active")
            .alias("state"),
            F.col("plan").alias("plan_id"),
            "region",
            F.col("zone").alias("time_zone"),
            F.timestamp_micros("activated").alias("activated_at"),
            F.timestamp_micros(cancelled).alias("cancelled_at"),
            F.when(cancelled.isNotNull(), F.col("reason_of_month")).alias("cancel_reason"),
            F.timestamp_micros(F.coalesce(cancelled, self._plan_changed(), "activated")).alias(
                "updated_at"
            ),
        )

    def _plan_changed(self) -> Column:
        """When the plan was changed; null if it was not, for a month that is `is_last`."""
        has_changed = (F.col("change_month") <= F.col("m")) & (
            F.col("next_plan") != F.col("first_plan")
        )
        return F.when(has_changed, self._rhythm.month_starts[F.col("change_month")])

    def subscriptions(self, last: DataFrame, agents: int) -> DataFrame:
        """The table `subscriptions`."""
        s, changed = F.col("subscriber"), F.col("changed")
        row, cancelled = F.col("row"), F.col("cancelled")

        def period(number: int, plan: Column, start: Column, end: Column) -> Column:
            return F.struct(
                F.lit(number).alias("number"),
                plan.alias("plan"),
                start.alias("start"),
                end.alias("end"),
            )

        return (
            last.select("*", self._plan_changed().alias("changed"))
            .select(
                "*",
                F.explode(
                    F.array_compact(
                        F.array(
                            period(
                                0,
                                F.col("first_plan"),
                                F.col("activated"),
                                F.coalesce(changed, cancelled),
                            ),
                            F.when(
                                changed.isNotNull(),
                                period(1, F.col("next_plan"), changed, cancelled),
                            ),
                        )
                    )
                ).alias("row"),
            )
            .select(
                (s * 2 + row["number"]).alias("id"),
                s.alias("subscriber_id"),
                row["plan"].alias("plan_id"),
                F.timestamp_micros(row["start"]).alias("started_at"),
                F.timestamp_micros(row["end"]).alias("ended_at"),
                F.when(
                    self._dice.chance(0.5, "telecom.changed_by", s, row["number"]),
                    self._dice.integer(1, agents, "telecom.changing_agent", s, row["number"]),
                ).alias("agent_id"),
                F.timestamp_micros(F.coalesce(row["end"], row["start"])).alias("updated_at"),
            )
        )

    def sales(self, last: DataFrame, agents: int) -> DataFrame:
        """The table `sales`: one per subscriber."""
        dice, s = self._dice, F.col("subscriber")
        channel = dice.weighted({"store": 5, "online": 3, "phone": 2}, "telecom.sold_in", s)
        sold = F.timestamp_micros("activated")
        return last.select(
            s.alias("id"),
            F.col("customer").alias("customer_id"),
            s.alias("subscriber_id"),
            F.when(channel != "online", dice.integer(1, agents, "telecom.sold_by", s)).alias(
                "agent_id"
            ),
            F.col("first_plan").alias("plan_id"),
            channel.alias("channel"),
            dice.pick(strings(["0.00", "9.99", "19.99", "29.99"]), 4, "telecom.sold_for", s)
            .cast("decimal(12,2)")
            .alias("amount"),
            F.lit("EUR").alias("currency"),
            sold.alias("sold_at"),
            sold.alias("updated_at"),
        )
