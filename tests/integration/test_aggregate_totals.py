"""Sums over an aggregate against those of the lake, without Spark."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softcart_assets.assembly import LINES
from softcart_assets.audits.aggregate import differing_totals
from softcart_assets.lake import LakeTable, Partition, State, lake_table
from softcart_assets.lake.schema import to_json
from spark.jobs import JOBS, aggregate_table

MONEY, INSTANT = pa.decimal128(12, 2), pa.timestamp("us", tz="UTC")


def write(table: LakeTable, *months: pa.Table) -> None:
    """Make these the rows of a table of the lake, in a folder each."""
    partitions = {}
    for number, rows in enumerate(months):
        folder = f"{table.folder}/{number}"
        table.store.create_dir(folder)
        pq.write_table(rows, f"{folder}/part.parquet", filesystem=table.store)
        partitions[str(number)] = Partition(folder, rows.num_rows)
    schema = to_json(pa.unify_schemas([rows.schema for rows in months]))
    before = table.state()
    version = before.version + 1 if before else 1
    table.write_state(State(version, table.layout, schema, (), partitions))


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Orders, one of them cancelled, one dated wrongly, and one of a customer who was deleted. The
    order of the last line is missing.
    """
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    uri = (tmp_path / "lake").as_uri()
    (tmp_path / "lake").mkdir()
    ids = pa.decimal128(20, 0)
    loaded = datetime(2026, 3, 2, tzinfo=UTC)
    times = [loaded, loaded, None, datetime(2049, 1, 1, tzinfo=UTC), loaded]
    orders = pa.table(
        {
            "id": pa.array(map(Decimal, (1, 2, 3, 4, 5)), ids),
            "customer_id": pa.array(map(Decimal, (7, 7, 7, 7, 8)), ids),
            "status": ["paid", "cancelled", None, "paid", "paid"],
            "ordered_at": pa.array(times, INSTANT),
            "_loaded_at": pa.array([loaded] * 5, INSTANT),
        }
    )
    prices = "1.50", "9.99", "4.00", "4.00", "2.00", "2.00", "2.00"
    lines = pa.table(
        {
            "order_id": pa.array(map(Decimal, (1, 2, 3, 3, 4, 5, 9)), ids),
            "quantity": pa.array([2, 5, 1, 1, 1, 1, 3], pa.int32()),
            "unit_price": pa.array(map(Decimal, prices), MONEY),
            "unit_cost": pa.array([Decimal("1.00")] * 7, MONEY),
            "discount_amount": pa.array([Decimal("0.50"), *[Decimal(0)] * 6], MONEY),
            "created_at": pa.array([loaded] * 7, INSTANT),
        }
    )
    customers = pa.table({"id": pa.array([Decimal(7)], ids)})
    stock = pa.table({"quantity_on_hand": pa.array([3, -1], pa.int32())})
    for name, months in {
        "shop.orders": (orders[:1], orders[1:]),
        "shop.customers": (customers,),
        "shop.order_lines": (lines,),
        "shop.inventory": (stock,),
    }.items():
        write(lake_table(*LINES.table(name), uri), *months)
    for name in ("catalog.products", "catalog.categories", "shop.stores"):
        write(lake_table(*LINES.table(name), uri), pa.table({"id": [1]}))
    return uri


RIGHT = {
    "agg_sales_by_category_month": {
        "net_amount": "20.50",
        "margin_amount": "11.50",
        "units_count": "9",
    },
    "agg_rfm_by_customer": {"frequency_count": "2"},
    "agg_orders_by_device_weekday_hour": {"net_amount": "20.50"},
    "agg_stock_cover_by_store_product": {"quantity_on_hand": "2"},
}


def compare(lake: str, name: str, **totals: str) -> list[str]:
    job = JOBS[name]
    columns = {
        column: pa.array([Decimal(total), None], pa.decimal128(24, 2))
        for column, total in totals.items()
    }
    table = aggregate_table(job, lake)
    write(table, pa.table(columns))
    state = table.state()
    assert state
    return differing_totals(job, table, state.partitions["0"], lake)


@pytest.mark.parametrize("name", RIGHT)
def test_an_aggregate_that_adds_up_passes(lake: str, name: str) -> None:
    assert set(JOBS[name].totals) == set(RIGHT[name])
    assert compare(lake, name, **RIGHT[name]) == []


@pytest.mark.parametrize("name", RIGHT)
def test_each_sum_that_is_another_is_told(lake: str, name: str) -> None:
    """By a cent or a piece: a line was lost, or a cancelled order counted."""
    for column, total in RIGHT[name].items():
        wrong = RIGHT[name] | {column: str(Decimal(total) + Decimal("0.01"))}
        [told] = compare(lake, name, **wrong)
        assert told.startswith(f"{column} is {Decimal(wrong[column])}")
        assert Decimal(told.rsplit(" ", 1)[1]) == Decimal(total)


def test_a_job_has_totals_unless_nothing_in_it_adds_up() -> None:
    """Of pairs, only the frequent ones are in the aggregate. Each row of the features counts
    several months, which overlap. Small groups of people are in no peak hour.
    """
    without = {name for name, job in JOBS.items() if not job.totals}
    assert without == {
        "agg_baskets_by_product_pair",
        "agg_choices_by_user_item_month",
        "agg_churn_features_by_subscriber_month",
        "agg_peak_hours_by_zone_age_hour",
    }


def test_a_column_that_some_documents_or_all_lack_is_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCART_HOME", str(tmp_path))
    uri = (tmp_path / "lake").as_uri()
    (tmp_path / "lake").mkdir()
    job = JOBS["agg_engagement_by_user_month"]
    for source, table in job.inputs:
        write(lake_table(source, table, uri), pa.table({"id": [1]}))
    totals = {"workout_count": "0", "duration_seconds": "0", "distance_m": "0"}
    logs = lake_table(*LINES.table("inspire_docs.activity_logs"), uri)
    write(logs, pa.table({"_id": pa.array([], pa.string())}))
    assert compare(uri, job.name, **totals) == []
    # Yoga first. Distances come with later runs.
    yoga = pa.table({"_id": ["a"], "duration_seconds": [600]})
    run = pa.table({"_id": ["b"], "distance_m": pa.array([Decimal("1.5")], pa.decimal128(38, 18))})
    write(logs, yoga, run)
    totals = {"workout_count": "2", "duration_seconds": "600", "distance_m": "1.5"}
    assert compare(uri, job.name, **totals) == []
    [told] = compare(uri, job.name, **totals | {"distance_m": "1.6"})
    assert told.startswith("distance_m is 1.6")


def test_a_job_without_totals_reads_nothing() -> None:
    job = SimpleNamespace(totals={})
    assert differing_totals(job, None, None, "nowhere") == []  # type: ignore[arg-type]
