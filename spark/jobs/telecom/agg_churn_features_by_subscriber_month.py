"""What was known of each subscriber a month before a month, and whether the subscriber left in it.

Grain: one row per subscriber and month (UTC) in which the subscriber could leave. The cut-off is
the beginning of the month before. The first row is of the first cut-off with a whole month of calls
before it. The last one is of a month that has not begun: it is to be predicted.

Columns:

- subscriber_id: a subscriber who was activated before the cut-off, and not cancelled
- month: its first day
- cut_off_date: the first day of the month before; features count what was known when it began
- calls_out: outgoing calls in the three months before the cut-off
- dropped_calls: those of them that dropped
- complaints: complaints that were opened in these months
- monthly_fee: fee of the plan at the cut-off
- fee_per_call: that fee by one more than the outgoing calls of a month
- tenure_months: months of 30.4 days from the activation to the beginning of the month
- is_prepaid: 1 for a prepaid subscriber, 0 for others
- leaves: whether the subscriber left in the month. Null while the month is not over, and for those
  who left in the month between, the gap.
- data_position: where the last changes in the features stand in the logs of the sources

Everything but `leaves` and `data_position` is of the cut-off, from the history of the tables (see
`spark.history`). What a source changes, adds or deletes later does not alter a row. So a record of
a call that was written after the cut-off is not counted, and a complaint that was withdrawn later
is. The same call is often recorded twice. It counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark.history import known_before, known_now, last_position, versions
from spark.jobs import run
from spark.jobs.dates import is_dated_plausibly

_CALL, _COMPLAINT = "signaling.call_records", "crm.complaints"
_SUBSCRIBER, _PLAN = "crm.subscribers", "crm.plans"
_MONTH = (f"{_CALL}.recorded_at",)
_CALLS = (f"{_CALL}.event_id", f"{_CALL}.subscriber_id")
_FEE = (f"{_PLAN}.monthly_fee", "crm.subscriptions.plan_id")

LINEAGE = {
    "subscriber_id": (f"{_SUBSCRIBER}.id",),
    "month": _MONTH,
    "cut_off_date": _MONTH,
    "calls_out": _CALLS,
    "dropped_calls": (*_CALLS, f"{_CALL}.termination"),
    "complaints": (f"{_COMPLAINT}.id",),
    "monthly_fee": _FEE,
    "fee_per_call": (*_FEE, *_CALLS),
    "tenure_months": (f"{_SUBSCRIBER}.activated_at", *_MONTH),
    "is_prepaid": (f"{_SUBSCRIBER}.kind",),
    "leaves": (f"{_SUBSCRIBER}.cancelled_at", *_MONTH),
    "data_position": (),
}

WINDOW_MONTHS = 3
"""The months before the cut-off whose events are counted."""
_MONTH_SECONDS = 30.4 * 86_400
_EXACT = "decimal(18,6)"


def transform(
    calls: DataFrame,
    complaints: DataFrame,
    subscribers: DataFrame,
    subscriptions: DataFrame,
    plans: DataFrame,
) -> DataFrame:
    """The features, as the module describes them."""
    # Kept, because each of the parts below reads them, and they are made of all calls.
    crm = (complaints, subscribers, subscriptions, plans)
    cut_offs = F.broadcast(_cut_offs(calls, crm).persist())
    people = versions(subscribers, "id")
    known = (
        people.join(cut_offs, known_before(F.col("cut_off")))
        .where(F.col("activated_at") < F.col("cut_off"))
        .where(F.coalesce(F.col("cancelled_at") >= F.col("cut_off"), F.lit(True)))
        .select(
            F.col("id").cast("bigint").alias("subscriber_id"),
            "cut_off",
            "month",
            "ends",
            "first_month",
            "present",
            "position",
            "activated_at",
            (F.col("kind") == "prepaid").cast("int").alias("is_prepaid"),
        )
    )
    keys = ["subscriber_id", "cut_off"]
    rows = (
        known.join(_calls(calls, cut_offs), keys, "left")
        .join(_complaints(complaints, cut_offs), keys, "left")
        .join(_fees(subscriptions, plans, cut_offs), keys, "left")
        .join(_ends(people), "subscriber_id", "left")
        .fillna(0, ["calls_out", "dropped_calls", "complaints", "monthly_fee"])
    )
    # Fewer months for new subscribers, and for the first cut-offs.
    begin = F.greatest("first_month", F.date_trunc("month", "activated_at"))
    seen = F.least(F.months_between("cut_off", begin), F.lit(float(WINDOW_MONTHS)))
    tenure = F.unix_micros("month") - F.unix_micros("activated_at")
    return rows.select(
        "subscriber_id",
        F.to_date("month").alias("month"),
        F.to_date("cut_off").alias("cut_off_date"),
        "calls_out",
        "dropped_calls",
        "complaints",
        F.col("monthly_fee").cast("decimal(12,2)").alias("monthly_fee"),
        (F.col("monthly_fee").cast("double") / (1 + F.col("calls_out") / seen))
        .cast(_EXACT)
        .alias("fee_per_call"),
        (tenure / F.lit(_MONTH_SECONDS * 1e6)).cast(_EXACT).alias("tenure_months"),
        "is_prepaid",
        _leaves().alias("leaves"),
        F.col("position").alias("data_position"),
    )


def _cut_offs(calls: DataFrame, crm: Sequence[DataFrame]) -> DataFrame:
    """One row per cut-off, with the `month` that follows the gap, and where that `ends`.

    `present` is the time up to which both sources tell what happened. A clock at the source that is
    ahead does not move it beyond the load, and one that was reset makes no months of its own.
    `position` is that of both sources, each with the table that changed last.
    """
    plausible = calls.where(is_dated_plausibly(F.col("recorded_at"), F.col("_loaded_at")))
    spans = plausible.agg(
        F.date_trunc("month", F.min("recorded_at")).alias("first_month"),
        F.least(F.max("recorded_at"), F.max("_loaded_at")).alias("told_by_calls"),
    ).crossJoin(calls.agg(last_position().alias("signaling")))
    own = [each.select("_position", "_version", "_place", "_loaded_at") for each in crm]
    # The calls may go on while the loads of the other source stand still: then nobody knows yet
    # who has left.
    others = reduce(DataFrame.unionAll, own).agg(
        last_position().alias("crm"), F.max("_loaded_at").alias("told_by_crm")
    )
    span = spans.crossJoin(others).select(
        "first_month",
        F.least("told_by_calls", "told_by_crm").alias("present"),
        F.concat_ws(", ", *(_named(source) for source in ("crm", "signaling"))).alias("position"),
    )
    first, last = F.add_months("first_month", 1), F.trunc(F.to_date("present"), "month")
    months = F.sequence(first, last, F.expr("interval 1 month"))
    # The first call may be of this month. Then there is nothing to count yet.
    has_any = first <= last
    return (
        span.where(has_any)
        .select("*", F.explode(months).alias("day"))
        .select(
            "first_month",
            "present",
            "position",
            F.col("day").cast("timestamp").alias("cut_off"),
            F.add_months("day", -WINDOW_MONTHS).cast("timestamp").alias("since"),
            F.add_months("day", 1).cast("timestamp").alias("month"),
            F.add_months("day", 2).cast("timestamp").alias("ends"),
        )
    )


def _in_window(event: str) -> Column:
    return (F.col(event) >= F.col("since")) & (F.col(event) < F.col("cut_off"))


def _calls(calls: DataFrame, cut_offs: DataFrame) -> DataFrame:
    return (
        versions(calls, "id")
        .where(F.col("direction") == "out")
        .join(
            cut_offs,
            known_before(F.col("cut_off"))
            & _in_window("started_at")
            & (F.col("recorded_at") < F.col("cut_off")),
        )
        # Of the records of a call, the one with the smallest id counts. Numbers and no structures
        # or texts: Spark would sort all records, instead of hashing them.
        .select(
            "cut_off",
            "event_id",
            "id",
            F.col("subscriber_id").cast("bigint").alias("subscriber_id"),
            (F.col("termination") == "dropped").cast("int").alias("dropped"),
        )
        .groupBy("cut_off", "event_id")
        .agg(
            F.min_by("subscriber_id", "id").alias("subscriber_id"),
            F.min_by("dropped", "id").alias("dropped"),
        )
        .groupBy("subscriber_id", "cut_off")
        .agg(F.count("*").alias("calls_out"), F.sum("dropped").alias("dropped_calls"))
    )


def _complaints(complaints: DataFrame, cut_offs: DataFrame) -> DataFrame:
    return (
        versions(complaints, "id")
        .join(cut_offs, known_before(F.col("cut_off")) & _in_window("opened_at"))
        .groupBy(F.col("subscriber_id").cast("bigint").alias("subscriber_id"), "cut_off")
        .agg(F.count("*").alias("complaints"))
    )


def _fees(subscriptions: DataFrame, plans: DataFrame, cut_offs: DataFrame) -> DataFrame:
    """The fee of the plan that each subscriber had just before each cut-off."""
    fees = (
        versions(plans, "id")
        .join(cut_offs, known_before(F.col("cut_off")))
        .select(F.col("id").alias("plan_id"), "cut_off", "monthly_fee")
    )
    return (
        versions(subscriptions, "id")
        .join(
            cut_offs,
            known_before(F.col("cut_off")) & (F.col("started_at") < F.col("cut_off")),
        )
        .groupBy(F.col("subscriber_id").cast("bigint").alias("subscriber_id"), "cut_off")
        .agg(F.max(F.struct("started_at", "id", "plan_id"))["plan_id"].alias("plan_id"))
        .join(F.broadcast(fees), ["plan_id", "cut_off"])
        .select("subscriber_id", "cut_off", "monthly_fee")
    )


def _ends(people: DataFrame) -> DataFrame:
    """When each subscriber left, as it is known now. Null in `cancelled_at`: not yet."""
    return people.where(known_now()).select(
        F.col("id").cast("bigint").alias("subscriber_id"),
        "cancelled_at",
        F.lit(True).alias("is_there"),
    )


def _leaves() -> Column:
    left, month, ends = F.col("cancelled_at"), F.col("month"), F.col("ends")
    # A subscriber whom the source deleted, instead of cancelling, tells nothing.
    is_told = F.col("is_there") & (ends <= F.col("present")) & (left.isNull() | (left >= month))
    return F.when(is_told, F.coalesce(left < ends, F.lit(False)))


def _named(source: str) -> Column:
    return F.concat(F.lit(f"{source} "), F.col(source))


if __name__ == "__main__":
    run("agg_churn_features_by_subscriber_month")
