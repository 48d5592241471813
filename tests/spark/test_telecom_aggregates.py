"""The aggregate of the mobile operator on small data whose results can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pytest
from pyspark.sql import DataFrame, Row, SparkSession

from spark.jobs import JOBS, Job

LOADED = datetime(2026, 3, 10, tzinfo=UTC)
JANUARY, FEBRUARY, MARCH = date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)

SCHEMAS = {
    "signaling.call_records": "id bigint, event_id string, subscriber_id bigint, direction string, "
    "started_at timestamp, duration_seconds int, termination string",
    "signaling.sms_records": "id bigint, event_id string, subscriber_id bigint, direction string, "
    "sent_at timestamp",
    "signaling.data_sessions": "id bigint, event_id string, subscriber_id bigint, "
    "started_at timestamp, megabytes decimal(18,3)",
    "charging.charges": "id bigint, subscriber_id bigint, kind string, amount decimal(12,2), "
    "currency string, event_at timestamp",
    "crm.complaints": "id bigint, subscriber_id bigint, category string, state string, "
    "opened_at timestamp",
    "billing.disputes": "id bigint, subscriber_id bigint, amount decimal(12,2), currency string, "
    "state string, opened_at timestamp",
    "crm.subscriptions": "id bigint, subscriber_id bigint, plan_id bigint, started_at timestamp",
    "crm.subscribers": "id bigint, plan_id bigint, region string",
    "crm.plans": "id bigint, currency string",
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


ROWS: dict[str, Sequence[tuple]] = {
    "signaling.call_records": [
        (1, "A", 1, "out", at("2026-01-31 23:59:59.999999"), 60, "normal"),
        # Written twice, and the copy says otherwise, even the month. The first one counts.
        (2, "A", 2, "out", at("2026-02-01"), 61, "dropped"),
        (3, "A", 2, "in", at("2026-01-31 23:59:59.999999"), 60, "normal"),
        (4, "B", 1, "out", at("2026-02-01"), 5, "dropped"),
        (5, "C", 9, "out", at("2026-02-03"), 7, "normal"),  # nobody knows this subscriber
        (6, "D", 1, "out", at("2027-01-01"), 1, "normal"),  # after the load
    ],
    "signaling.sms_records": [
        (1, "S", 1, "out", at("2026-02-02")),
        (2, "S", 1, "out", at("2026-02-02")),
    ],
    "signaling.data_sessions": [
        (1, "T", 2, at("2026-02-05"), Decimal("1.500")),
        (2, "U", 2, at("2026-02-06"), Decimal("0.001")),
    ],
    "charging.charges": [
        (1, 1, "fee", Decimal("9.99"), "EUR", at("2026-02-01")),
        (2, 1, "voice", Decimal("0.18"), "EUR", at("2026-02-01")),
        (3, 1, "voice", Decimal("-0.18"), "EUR", at("2026-02-01")),
        (4, 1, "voice", Decimal("0.09"), "EUR", at("2026-02-01")),
        (5, 2, "data", Decimal("0.50"), "USD", at("2026-02-05")),
    ],
    "crm.complaints": [
        (1, 1, "network", "open", at("2026-02-10")),
        (2, 1, "billing", "resolved", at("2026-02-10")),
        (3, None, "network", "open", at("2026-03-01")),
    ],
    "billing.disputes": [(1, 1, Decimal("3.33"), "EUR", "open", at("2026-02-11"))],
    "crm.subscriptions": [
        (1, 1, 10, at("2025-01-01")),
        # At the last instant of February, so the whole month is of the new plan.
        (2, 1, 20, at("2026-02-28 23:59:59.999999")),
        (3, 2, 30, at("2025-01-01")),
    ],
    "crm.subscribers": [(1, 20, "Riga"), (2, 30, None)],
    "crm.plans": [(10, "EUR"), (20, "EUR"), (30, "USD")],
}


@pytest.fixture(scope="module")
def job() -> Job:
    return JOBS["agg_usage_by_plan_region_month"]


@pytest.fixture(scope="module")
def inputs(spark: SparkSession) -> list[DataFrame]:
    return [
        spark.createDataFrame(
            [(*row, LOADED) for row in ROWS[name]], f"{schema}, _loaded_at timestamp"
        )
        for name, schema in SCHEMAS.items()
    ]


@pytest.fixture(scope="module")
def found(job: Job, inputs: list[DataFrame]) -> dict[tuple, Row]:
    assert [f"{source.name}.{table.name}" for source, table in job.inputs] == list(SCHEMAS)
    rows = job.transform(*inputs).collect()
    return {(row.currency, row.plan_id, row.region, row.month): row for row in rows}


def test_a_month_is_of_the_plan_at_its_end(found: dict[tuple, Row]) -> None:
    assert {*found} == {
        ("EUR", 10, "Riga", JANUARY),
        ("EUR", 20, "Riga", FEBRUARY),
        ("USD", 30, "Unknown", FEBRUARY),
        ("XXX", 0, "Unknown", FEBRUARY),
        ("XXX", 0, "Unknown", MARCH),
        # Before the first plan, it is the first one.
        ("EUR", 10, "Riga", date(1900, 1, 1)),
    }


def test_events_count_once_and_corrections_add_up(found: dict[tuple, Row]) -> None:
    january, february = found["EUR", 10, "Riga", JANUARY], found["EUR", 20, "Riga", FEBRUARY]
    assert (january.call_count, january.dropped_call_count, january.call_seconds) == (1, 0, 60)
    assert january.charged_amount == 0
    assert (february.call_count, february.dropped_call_count, february.sms_count) == (1, 1, 1)
    assert (february.fee_amount, february.voice_amount) == (Decimal("9.99"), Decimal("0.09"))
    assert february.charged_amount == Decimal("10.08")
    assert february.latest_at == datetime(2026, 2, 2)
    abroad = found["USD", 30, "Unknown", FEBRUARY]
    assert (abroad.data_mb, abroad.data_amount) == (Decimal("1.501"), Decimal("0.50"))


def test_complaints_and_disputes_stand_beside_usage(found: dict[tuple, Row]) -> None:
    row = found["EUR", 20, "Riga", FEBRUARY]
    assert (row.complaint_count, row.network_complaint_count, row.open_complaint_count) == (2, 1, 1)
    assert (row.dispute_count, row.dispute_amount, row.open_dispute_amount) == (
        1,
        Decimal("3.33"),
        Decimal("3.33"),
    )
    assert found["XXX", 0, "Unknown", MARCH].complaint_count == 1


def test_subscribers_are_those_with_usage_or_a_charge(found: dict[tuple, Row]) -> None:
    assert {key: row.subscriber_count for key, row in found.items()} == {
        ("EUR", 10, "Riga", JANUARY): 1,
        ("EUR", 20, "Riga", FEBRUARY): 1,
        ("USD", 30, "Unknown", FEBRUARY): 1,
        ("XXX", 0, "Unknown", FEBRUARY): 1,
        # A complaint of nobody is no usage.
        ("XXX", 0, "Unknown", MARCH): 0,
        ("EUR", 10, "Riga", date(1900, 1, 1)): 1,
    }


def test_totals_are_those_of_the_lake(
    job: Job, inputs: list[DataFrame], found: dict[tuple, Row]
) -> None:
    with duckdb.connect() as engine:
        for name, frame in zip(SCHEMAS, inputs, strict=True):
            engine.register(name, frame.toArrow())
        for column, query in job.totals.items():
            [(total,)] = engine.execute(query).fetchall()
            assert sum(row[column] for row in found.values()) == total, column


def test_columns_are_described(job: Job, found: dict[tuple, Row]) -> None:
    [*_, row] = found.values()
    assert {*row.asDict()} == {*job.columns} == {*job.lineage}


def test_a_young_operator_has_an_empty_aggregate(spark: SparkSession, job: Job) -> None:
    empty = [
        spark.createDataFrame([], f"{schema}, _loaded_at timestamp") for schema in SCHEMAS.values()
    ]
    assert job.transform(*empty).collect() == []
