"""Who leaves: features from the history of the lake, and how near a model comes to the truth that
the generator knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.telecom import truth
from seed_data.telecom.generator import generate
from softcart_assets.assembly import LINES
from softcart_assets.lines.model import Feature, Limit
from softcart_assets.ml.judge import Rows, auc, judge, predictions, verdicts
from spark.jobs import JOBS

JOB = JOBS["agg_churn_features_by_subscriber_month"]
[MODEL] = LINES.line("telecom").models
PARAMETERS = Parameters(2, 42, datetime(2026, 3, 20, 15, 30, 12, 345678, tzinfo=UTC))
LOADED = datetime(2026, 6, 10, 12, tzinfo=UTC)
CUT_OFF = datetime(2026, 4, 1, tzinfo=UTC)
"""The features of May are those of this moment."""

OWN = (
    "_version long, _deleted boolean, _operation string, _committed_at timestamp, "
    "_loaded_at timestamp, _position string, _place long"
)
COLUMNS = {
    "call_records": "id long, event_id string, subscriber_id long, direction string, "
    "started_at timestamp, termination string, recorded_at timestamp",
    "complaints": "id long, subscriber_id long, opened_at timestamp",
    "subscribers": "id long, kind string, activated_at timestamp, cancelled_at timestamp",
    "subscriptions": "id long, subscriber_id long, plan_id long, started_at timestamp",
    "plans": "id long, monthly_fee decimal(12,2)",
}


class Source:
    """Tables and their history. Rows are copied at first. What comes later is logged."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._rows: dict[str, list[tuple]] = {name: [] for name in COLUMNS}

    def copied(self, table: str, *rows: tuple, loaded: datetime = LOADED) -> Source:
        for row in rows:
            self._add(table, row, (1, False, None, None, loaded, "bin:1"))
        return self

    def logged(
        self, table: str, row: tuple, at: datetime, operation: str = "update", version: int = 2
    ) -> Source:
        own = (operation == "delete", operation, at, LOADED + timedelta(days=9), f"bin:{version}")
        self._add(table, row, (version, *own))
        return self

    def _add(self, table: str, row: tuple, own: tuple) -> None:
        self._rows[table].append((*row, *own, len(self._rows[table])))

    def features(self) -> dict[tuple[int, date], dict]:
        frames = [
            self._spark.createDataFrame(self._rows[name], f"{columns}, {OWN}")
            for name, columns in COLUMNS.items()
        ]
        return {
            (row.subscriber_id, row.month): row.asDict() for row in JOB.transform(*frames).collect()
        }


def at(month: int, day: int = 10, year: int = 2026) -> datetime:
    return datetime(year, month, day, 9, tzinfo=UTC)


def call(
    number: int,
    started: datetime,
    subscriber: int = 1,
    termination: str = "normal",
    event: str | None = None,
    direction: str = "out",
    recorded: datetime | None = None,
) -> tuple:
    written = recorded or started + timedelta(minutes=5)
    return number, event or f"e{number}", subscriber, direction, started, termination, written


@pytest.fixture
def source(spark: SparkSession) -> Source:
    """A subscriber of old with a plan for 12.00, calls in December and June, and nothing else."""
    made = Source(spark)
    made.copied("subscribers", (1, "postpaid", at(1, year=2024), None))
    made.copied("subscriptions", (1, 1, 7, at(1, year=2024)))
    made.copied("plans", (7, Decimal("12.00")), (8, Decimal("30.00")))
    return made.copied("call_records", call(1, at(12, year=2025)), call(2, at(6)))


MAY = (1, date(2026, 5, 1))


def test_what_is_counted(source: Source) -> None:
    source.copied(
        "call_records",
        call(10, at(1, 1) - timedelta(hours=10)),  # before the three months
        call(11, at(1, 1)),
        call(12, at(2), termination="dropped"),
        call(13, at(2), direction="in", termination="dropped"),
        call(14, at(3, 31)),
        call(15, CUT_OFF),
        # The network wrote the same call twice.
        call(16, at(2), event="twice"),
        call(17, at(2), event="twice", termination="dropped"),
        call(18, at(3), subscriber=2),
    )
    source.copied(
        "complaints", (1, 1, at(3)), (2, 1, at(4)), (3, 2, at(3)), (4, 1, at(12, 1, 2025))
    )
    found = source.features()[MAY]
    assert (found["calls_out"], found["dropped_calls"], found["complaints"]) == (4, 1, 1)
    assert found["cut_off_date"] == date(2026, 4, 1)
    assert found["monthly_fee"] == Decimal("12.00")
    assert found["fee_per_call"] == Decimal("5.142857")  # 12 / (1 + 4/3)
    assert found["is_prepaid"] == 0
    assert found["leaves"] is False
    months = (datetime(2026, 5, 1, tzinfo=UTC) - at(1, year=2024)).total_seconds() / 86_400 / 30.4
    assert float(found["tenure_months"]) == pytest.approx(months, abs=1e-6)
    assert found["data_position"] == "crm bin:1, signaling bin:1"


def test_the_months_of_a_row(source: Source) -> None:
    """From the first whole month of calls to the month that has not begun. Two are not over."""
    found = source.features()
    assert [month for _, month in sorted(found)] == [
        *(date(2026, month, 1) for month in range(2, 8)),
    ]
    told = {month: row["leaves"] for (_, month), row in found.items()}
    assert told == {
        **{date(2026, month, 1): False for month in range(2, 6)},
        date(2026, 6, 1): None,
        date(2026, 7, 1): None,
    }


def test_what_changes_at_the_source_later_does_not_alter_an_old_row(source: Source) -> None:
    source.copied("call_records", call(10, at(2)), call(11, at(3), termination="dropped"))
    source.copied("complaints", (1, 1, at(3)))
    before = source.features()[MAY]
    later = LOADED + timedelta(days=1)
    source.logged("call_records", call(10, at(2)), later, "delete")
    source.logged("call_records", call(11, at(3)), later)  # not dropped after all
    source.logged("call_records", call(12, at(3)), later, "insert")  # somebody filled a gap
    source.logged("complaints", (1, 1, at(3)), later, "delete")
    source.logged("complaints", (2, 1, at(2)), later, "insert")
    source.logged("plans", (7, Decimal("99.00")), later)
    source.logged("subscriptions", (1, 1, 8, at(1, year=2024)), later)
    source.logged("subscribers", (1, "prepaid", at(1, year=2024), None), later)
    after = source.features()[MAY]
    assert (before["calls_out"], before["dropped_calls"], before["complaints"]) == (2, 1, 1)
    position = after.pop("data_position")
    assert after == {name: before[name] for name in after}
    assert position == "crm bin:2, signaling bin:2"


def test_what_changed_before_the_cut_off_counts(source: Source) -> None:
    source.copied("call_records", call(11, at(3)))
    earlier = CUT_OFF - timedelta(seconds=1)
    source.logged("call_records", call(11, at(3), termination="dropped"), earlier)
    source.logged("complaints", (1, 1, at(3)), earlier, "insert")
    source.logged("complaints", (2, 1, at(3)), CUT_OFF, "insert")
    source.logged("subscriptions", (2, 1, 8, at(3)), earlier, "insert")
    found = source.features()[MAY]
    assert (found["dropped_calls"], found["complaints"]) == (1, 1)
    assert found["monthly_fee"] == Decimal("30.00")


def test_a_record_that_was_written_after_the_cut_off_was_not_known(source: Source) -> None:
    source.copied("call_records", call(10, at(3), recorded=CUT_OFF), call(11, at(3)))
    found = source.features()
    assert found[MAY]["calls_out"] == 1
    assert found[1, date(2026, 6, 1)]["calls_out"] == 2


def test_who_left_is_known_as_far_as_both_sources_tell(spark: SparkSession) -> None:
    """The calls go on to June, and the other source was loaded on 20 May last."""
    made, loaded = Source(spark), at(5, 20)
    made.copied("subscribers", (1, "postpaid", at(1, year=2024), None), loaded=loaded)
    made.copied("subscriptions", (1, 1, 7, at(1, year=2024)), loaded=loaded)
    made.copied("plans", (7, Decimal("12.00")), loaded=loaded)
    made.copied("call_records", call(1, at(12, year=2025)), call(2, at(6)))
    told = {month: row["leaves"] for (_, month), row in made.features().items()}
    assert told[date(2026, 4, 1)] is False
    assert told[date(2026, 5, 1)] is None


def test_the_position_is_that_of_the_table_that_changed_last(source: Source) -> None:
    later = LOADED + timedelta(days=1)
    source.logged("call_records", call(10, at(2)), later, "insert", version=3)
    source.logged("plans", (8, Decimal("31.00")), later, version=9)
    source.logged("complaints", (1, 1, at(3)), later, "insert", version=5)
    assert source.features()[MAY]["data_position"] == "crm bin:9, signaling bin:3"


def test_a_record_of_a_clock_that_was_reset_makes_no_months(source: Source) -> None:
    before = set(source.features())
    source.copied("call_records", call(10, datetime(1970, 1, 1, 9, tzinfo=UTC)))
    assert set(source.features()) == before


def test_who_left_before_in_and_after_the_gap(source: Source) -> None:
    left = {2: at(3), 3: at(4), 4: at(5), 5: at(6)}
    for subscriber, when in left.items():
        source.copied("subscribers", (subscriber, "prepaid", at(1, year=2025), when))
    source.copied("subscriptions", (7, 7, 7, at(2)))
    source.copied("call_records", call(30, at(3), subscriber=7))
    source.copied("subscribers", (6, "prepaid", at(4), None), (7, "prepaid", at(2), None))
    found = source.features()
    told = {
        subscriber: row["leaves"]
        for (subscriber, month), row in found.items()
        if month == date(2026, 5, 1)
    }
    assert told == {1: False, 3: None, 4: True, 5: False, 7: False}
    # February and March: the month of the activation counts as one.
    assert found[7, date(2026, 5, 1)]["fee_per_call"] == 8


def test_somebody_who_is_deleted_later_stays_without_an_answer(source: Source) -> None:
    source.copied("subscribers", (2, "prepaid", at(1, year=2025), None))
    gone = (2, "prepaid", at(1, year=2025), None)
    source.logged("subscribers", gone, LOADED + timedelta(days=1), "delete")
    assert source.features()[2, date(2026, 5, 1)]["leaves"] is None


def _history(spark: SparkSession, directory: Path, name: str) -> DataFrame:
    return spark.read.parquet(str(directory / name)).select(
        "*",
        F.lit(1).cast("long").alias("_version"),
        F.lit(False).alias("_deleted"),
        F.lit(None).cast("string").alias("_operation"),
        F.lit(None).cast("timestamp").alias("_committed_at"),
        F.lit(PARAMETERS.until).alias("_loaded_at"),
        F.lit("p").alias("_position"),
        F.lit(0).alias("_place"),
    )


@pytest.fixture(scope="module")
def features(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """The features of a made-up operator with 4,000 subscribers."""
    directory = tmp_path_factory.mktemp("telecom")
    names = [f"{source.name}.{table.name}" for source, table in JOB.inputs]
    generate(PARAMETERS, Output(directory, names, lambda: spark, lambda table, path: None))
    frames = [_history(spark, directory, name) for name in names]
    return [row.asDict() for row in JOB.transform(*frames).collect()]


def rows_of(features: Iterable[dict], names: Iterable[str]) -> Rows:
    told = sorted(features, key=lambda row: (row["month"], row["subscriber_id"]))
    return Rows(
        np.array([row["subscriber_id"] for row in told]),
        np.array([row["month"].year * 12 + row["month"].month - 1 for row in told]),
        np.array([[float(row[name]) for name in names] for row in told]),
        np.array([np.nan if row["leaves"] is None else float(row["leaves"]) for row in told]),
    )


NAMES = [each.name for each in MODEL.inputs]


@pytest.fixture(scope="module")
def oracle(spark: SparkSession, features: list[dict]) -> tuple[np.ndarray, Rows]:
    """The true hazards of the predicted months, and the rows that they belong to."""
    _, rows = predictions(MODEL, rows_of(features, NAMES))
    known = truth.leaving(spark, PARAMETERS).select("subscriber_id", "month", "hazard").collect()
    hazards = {
        (row.subscriber_id, row.month.year * 12 + row.month.month - 1): row.hazard for row in known
    }
    pairs = zip(rows.subjects.tolist(), rows.months.tolist(), strict=True)
    return np.array([hazards[pair] for pair in pairs]), rows


def test_features_are_what_the_hazard_follows_from(
    spark: SparkSession, features: list[dict]
) -> None:
    """They see only what was known at the cut-off, so late records and complaints make a small
    difference.
    """
    known = truth.leaving(spark, PARAMETERS).collect()
    found = {(row["subscriber_id"], row["month"]): row for row in features}
    pairs = [(row, found[row.subscriber_id, row.month.date()]) for row in known]
    for name in ("calls_out", "dropped_calls", "complaints"):
        same = [mine[name] == getattr(true, name) for true, mine in pairs]
        assert np.mean(same) > 0.97, name
    assert (
        np.mean(
            [mine["leaves"] == true.leaves for true, mine in pairs if mine["leaves"] is not None]
        )
        == 1
    )
    for name in ("fee_per_call", "tenure_months"):
        near = [
            abs(min(float(mine[name]), 8 if name == "fee_per_call" else 999) - getattr(true, name))
            < 0.01
            for true, mine in pairs
        ]
        assert np.mean(near) > 0.97, name


def test_the_model_comes_as_near_to_the_oracle_as_it_must(
    features: list[dict], oracle: tuple[np.ndarray, Rows]
) -> None:
    hazards, rows = oracle
    targets = rows.targets.astype(bool)
    best = auc(hazards, targets, np.ones((1, len(targets)))).value
    assert 0.74 <= best <= 0.80
    found = judge(MODEL, rows_of(features, NAMES))
    assert found
    assert found.auc.value - 0.5 >= 0.95 * (best - 0.5), (found.auc, best)
    assert found.calibration_error <= 0.02
    assert found.lift.low > 1.5
    # Against the oracle itself, and not only against the ceiling that the line declares.
    model = replace(MODEL, ceiling=Limit(Decimal(str(best)), "The oracle."))
    assert [each.name for each in verdicts(model, found) if not each.passed] == []


def test_a_column_that_leaks_is_better_than_the_oracle_and_fails(
    features: list[dict], oracle: tuple[np.ndarray, Rows]
) -> None:
    """The reason of cancelling: a column that is filled after the fact."""
    hazards, rows = oracle
    best = auc(hazards, rows.targets.astype(bool), np.ones((1, len(hazards)))).value
    leaking = [row | {"has_reason": float(bool(row["leaves"]))} for row in features]
    model = replace(
        MODEL,
        inputs=(*MODEL.inputs, Feature("has_reason", "Gave a reason")),
        ceiling=Limit(Decimal(str(best)), "The oracle."),
    )
    found = judge(model, rows_of(leaking, [*NAMES, "has_reason"]))
    assert found
    [failed] = [each for each in verdicts(model, found) if not each.passed]
    assert failed.name == "plausible"
    assert "has_reason" in failed.message
