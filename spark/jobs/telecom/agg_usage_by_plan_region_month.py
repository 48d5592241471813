"""What subscribers use, are charged, complain about and dispute, by plan, region and month.

Grain: one row per currency, plan, region and calendar month (UTC, of the event) in which anything
happened. A subscriber is in one plan for a whole month: the one at its end. So subscribers add up
over plans and regions, and revenue per subscriber divides by the right number. Before the first
plan, it is the first one, as in the facts. Events with an implausible time are in the month of the
unknown date, 1900-01.

Columns:

- currency: of the amounts; for usage the plan's; 'XXX' where the plan is missing
- plan_id: the plan at the end of the month; 0 where nobody knows it
- region: where the subscriber lives today; 'Unknown' where nobody knows it
- month: its first day
- subscriber_count: subscribers with usage or a charge; do not add up over months
- call_count, dropped_call_count: outgoing calls, and those that the network lost
- call_seconds: how long the outgoing calls lasted
- sms_count: outgoing SMS
- data_mb: megabytes
- voice_amount, sms_amount, data_amount, roaming_amount, fee_amount: charges by kind, before tax
- charged_amount: all charges, before tax; corrections are in the month of their event
- complaint_count, network_complaint_count, open_complaint_count: complaints of the month, those
  about the network, and those still open
- dispute_count, dispute_amount, open_dispute_amount: disputes of the month, and what is still open,
  with tax
- latest_at: the latest call, SMS, data session or charge

Records of an event that the network wrote several times count once: the one with the smallest key.
They should have the same time. If their times are in two months, the totals do not match those of
the lake, and the job is computed whole.

Usage and charges are kept by month for each subscriber. They add up. Plans, regions, complaints and
disputes are few, and they change later. They are joined anew.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from spark.jobs import run
from spark.jobs.dates import MONEY, UNKNOWN_DATE, is_dated_plausibly

_KINDS = ("voice", "sms", "data", "roaming", "fee")
_COUNTS = ("call_count", "dropped_call_count", "call_seconds", "sms_count")
_AMOUNTS = (*(f"{kind}_amount" for kind in _KINDS), "charged_amount")
_LATER = ("complaint_count", "network_complaint_count", "open_complaint_count", "dispute_count")
_DISPUTED = ("dispute_amount", "open_dispute_amount")
_TYPES = {
    **dict.fromkeys((*_COUNTS, *_LATER), "bigint"),
    **dict.fromkeys((*_AMOUNTS, *_DISPUTED), MONEY),
    "data_mb": "decimal(24,3)",
}
"""The figures that add up, and their types."""

_CALL, _SMS, _SESSION = (
    "signaling.call_records",
    "signaling.sms_records",
    "signaling.data_sessions",
)
_CHARGED = ("charging.charges.amount", "charging.charges.kind")
_EVENTS = (
    f"{_CALL}.started_at",
    f"{_SMS}.sent_at",
    f"{_SESSION}.started_at",
    "charging.charges.event_at",
)
LINEAGE = {
    "currency": ("charging.charges.currency", "billing.disputes.currency", "crm.plans.currency"),
    "plan_id": ("crm.subscriptions.plan_id", "crm.subscribers.plan_id"),
    "region": ("crm.subscribers.region",),
    "month": (*_EVENTS, "crm.complaints.opened_at", "billing.disputes.opened_at"),
    "subscriber_count": tuple(
        f"{table}.subscriber_id" for table in (_CALL, _SMS, _SESSION, "charging.charges")
    ),
    "call_count": (f"{_CALL}.event_id",),
    "dropped_call_count": (f"{_CALL}.termination",),
    "call_seconds": (f"{_CALL}.duration_seconds",),
    "sms_count": (f"{_SMS}.event_id",),
    "data_mb": (f"{_SESSION}.megabytes",),
    **dict.fromkeys((f"{kind}_amount" for kind in _KINDS), _CHARGED),
    "charged_amount": ("charging.charges.amount",),
    "complaint_count": ("crm.complaints.id",),
    "network_complaint_count": ("crm.complaints.category",),
    "open_complaint_count": ("crm.complaints.state",),
    "dispute_count": ("billing.disputes.id",),
    "dispute_amount": ("billing.disputes.amount",),
    "open_dispute_amount": ("billing.disputes.amount", "billing.disputes.state"),
    "latest_at": _EVENTS,
}


def _of_events(figure: str, table: str, event: str) -> str:
    """The sum of a figure over the records that count, of each event one."""
    first = f"SELECT arg_min({figure}, id) AS figure FROM {table} GROUP BY {event}"
    return f"SELECT sum(figure) FROM ({first})"


TOTALS = {
    "call_count": f"""SELECT count(DISTINCT event_id) FROM "{_CALL}" WHERE direction = 'out'""",
    "call_seconds": _of_events(
        "duration_seconds", f"""(FROM "{_CALL}" WHERE direction = 'out')""", "event_id"
    ),
    "sms_count": f"""SELECT count(DISTINCT event_id) FROM "{_SMS}" WHERE direction = 'out'""",
    "data_mb": _of_events("megabytes", f'"{_SESSION}"', "event_id"),
    "charged_amount": 'SELECT sum(amount) FROM "charging.charges"',
    "complaint_count": 'SELECT count(*) FROM "crm.complaints"',
    "dispute_amount": 'SELECT sum(amount) FROM "billing.disputes"',
}


def used(
    call_records: DataFrame, sms_records: DataFrame, data_sessions: DataFrame, charges: DataFrame
) -> DataFrame:
    """Usage and charges by month, subscriber and currency. Usage has no currency."""
    calls = _first(call_records.where("direction = 'out'"), "duration_seconds", "termination")
    texts = _first(
        sms_records.where("direction = 'out'").withColumnRenamed("sent_at", "started_at")
    )
    sessions = _first(data_sessions, "megabytes")
    amount = F.col("amount")
    events = (
        calls.select(
            *_event(F.col("started_at")),
            F.lit(1).alias("call_count"),
            (F.col("termination") == "dropped").cast("int").alias("dropped_call_count"),
            F.col("duration_seconds").alias("call_seconds"),
        ),
        texts.select(*_event(F.col("started_at")), F.lit(1).alias("sms_count")),
        sessions.select(*_event(F.col("started_at")), F.col("megabytes").alias("data_mb")),
        charges.select(
            *_event(F.col("event_at")),
            "currency",
            *(F.when(F.col("kind") == kind, amount).alias(f"{kind}_amount") for kind in _KINDS),
            amount.alias("charged_amount"),
        ),
    )
    keys = ("_month", "subscriber_id", "currency", "month")
    return (
        _together(*events)
        .groupBy(*keys)
        .agg(*_sums(*_COUNTS, "data_mb", *_AMOUNTS), F.max("latest_at").alias("latest_at"))
    )


def _first(records: DataFrame, *columns: str) -> DataFrame:
    """Of the records of each event, the one that counts."""
    kept = F.struct("subscriber_id", "started_at", "_loaded_at", *columns)
    firsts = records.groupBy("_month", "event_id").agg(F.min_by(kept, "id").alias("first"))
    return firsts.select("_month", "first.*")


def _event(at: Column) -> tuple[Column, ...]:
    """What every event has: whose it is, its month and its time."""
    return (
        F.col("_month"),
        F.col("subscriber_id").cast("bigint").alias("subscriber_id"),
        _month_of(at),
        at.alias("latest_at"),
    )


def _month_of(at: Column) -> Column:
    """The first day of an event's month."""
    return (
        F.when(is_dated_plausibly(at, F.col("_loaded_at")), F.trunc(at, "month"))
        .otherwise(F.lit(UNKNOWN_DATE).cast("date"))
        .alias("month")
    )


def _together(*frames: DataFrame) -> DataFrame:
    """All rows. What one of the frames does not have is null there."""
    return reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), frames)


def _sums(*names: str) -> list[Column]:
    """The sums of these figures; of no row that has one, 0."""
    zero = F.lit(0)
    return [F.coalesce(F.sum(name), zero).cast(_TYPES[name]).alias(name) for name in names]


BY_MONTH = (used,)


def transform(
    used: DataFrame,
    _call_records: DataFrame,
    _sms_records: DataFrame,
    _data_sessions: DataFrame,
    _charges: DataFrame,
    complaints: DataFrame,
    disputes: DataFrame,
    subscriptions: DataFrame,
    subscribers: DataFrame,
    plans: DataFrame,
) -> DataFrame:
    """The aggregate, as the module describes it."""
    one, is_open = F.lit(1), F.col("state") == "open"
    complained = complaints.select(
        F.col("subscriber_id").cast("bigint").alias("subscriber_id"),
        _month_of(F.col("opened_at")),
        one.alias("complaint_count"),
        F.when(F.col("category") == "network", one).alias("network_complaint_count"),
        F.when(is_open, one).alias("open_complaint_count"),
    )
    disputed = disputes.select(
        F.col("subscriber_id").cast("bigint").alias("subscriber_id"),
        _month_of(F.col("opened_at")),
        "currency",
        one.alias("dispute_count"),
        F.col("amount").alias("dispute_amount"),
        F.when(is_open, F.col("amount")).alias("open_dispute_amount"),
    )
    active = used.drop("_month").withColumn("active_id", F.col("subscriber_id"))
    figures = (*_COUNTS, "data_mb", *_AMOUNTS, *_LATER, *_DISPUTED)
    keys = ("subscriber_id", "currency", "month")
    rows = _together(active, complained, disputed)
    by_subscriber = rows.groupBy(*keys).agg(
        *_sums(*figures),
        F.max("active_id").alias("active_id"),
        F.max("latest_at").alias("latest_at"),
    )
    known = subscribers.select(
        F.col("id").cast("bigint").alias("subscriber_id"),
        F.col("plan_id").cast("bigint").alias("plan_today"),
        "region",
    )
    fees = plans.select(
        F.col("id").cast("bigint").alias("plan_id"), F.col("currency").alias("plan_currency")
    )
    plan_id = F.coalesce("plan_then", "plan_today", F.lit(0)).cast("bigint")
    currency = F.coalesce("currency", "plan_currency", F.lit("XXX"))
    return (
        by_subscriber.join(
            _plan_at_the_end(by_subscriber, subscriptions), ["subscriber_id", "month"], "left"
        )
        .join(known, "subscriber_id", "left")
        .withColumn("plan_id", plan_id)
        .join(F.broadcast(fees), "plan_id", "left")
        .groupBy(
            currency.alias("currency"),
            "plan_id",
            F.coalesce("region", F.lit("Unknown")).alias("region"),
            "month",
        )
        .agg(
            F.countDistinct("active_id").alias("subscriber_count"),
            *_sums(*figures),
            F.max("latest_at").alias("latest_at"),
        )
    )


def _plan_at_the_end(by_subscriber: DataFrame, subscriptions: DataFrame) -> DataFrame:
    """The plan of each subscriber at the end of each month. Before the first one, the first."""
    periods = subscriptions.select(
        F.col("subscriber_id").cast("bigint").alias("subscriber_id"),
        F.col("plan_id").cast("bigint").alias("plan_id"),
        "started_at",
        "id",
    )
    months = by_subscriber.select("subscriber_id", "month").distinct()
    by_time = F.struct("started_at", "id")
    has_started = F.col("started_at") < F.add_months("month", 1).cast("timestamp")
    plan = F.coalesce(
        F.max_by("plan_id", F.when(has_started, by_time)), F.min_by("plan_id", by_time)
    )
    return (
        months.join(periods, "subscriber_id")
        .groupBy("subscriber_id", "month")
        .agg(plan.alias("plan_then"))
    )


if __name__ == "__main__":
    run("agg_usage_by_plan_region_month")
