"""Jobs compute the months that changed, add up what they kept, and get what they get whole."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileSelector
from pyspark.sql import SparkSession
from support.lake import INSTANT, OWN

from softcart_assets.assembly import LINES
from softcart_assets.lake import ChangeFile, LakeTable, Partition, lake_table, refresh_table
from spark import jobs, months
from spark import lake as spark_lake
from spark.jobs import JOBS, Job, write_aggregate
from spark.jobs.shop import agg_baskets_by_product_pair
from spark.lake import read

ID, MONEY, TEXT = pa.decimal128(20, 0), pa.decimal128(12, 2), pa.string()
COLUMNS = {
    "shop.orders": {
        "id": ID,
        "customer_id": ID,
        "store_id": ID,
        "status": TEXT,
        "device": TEXT,
        "currency": TEXT,
        "ordered_at": INSTANT,
    },
    "shop.order_lines": {
        "order_id": ID,
        "line_number": pa.int32(),
        "product_id": TEXT,
        "quantity": pa.int32(),
        "unit_price": MONEY,
        "discount_amount": MONEY,
        "unit_cost": MONEY,
        "created_at": INSTANT,
    },
    "shop.customers": {"id": ID},
    "shop.stores": {"id": ID, "channel": TEXT},
    "shop.inventory": {
        "store_id": ID,
        "product_id": TEXT,
        "quantity_on_hand": pa.int32(),
        "reorder_point": pa.int32(),
    },
    "catalog.products": {"_id": TEXT, "_id_type": TEXT, "category_id": TEXT},
    "catalog.categories": {"_id": TEXT, "_id_type": TEXT, "name": TEXT, "parent_id": TEXT},
}
KEYS = {"shop.order_lines": 2, "shop.inventory": 2, "catalog.products": 2, "catalog.categories": 2}
"""The number of the first columns that are the key of a table, if it is more than one."""

PRODUCTS = [f"p{n}" for n in range(6)]
CATEGORIES = ["c0", "c1", "c2"]
START = datetime(2025, 1, 1, tzinfo=UTC)
LOADED = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Shop:
    """The rows of a shop's tables by key, and the lake that follows them."""

    lake: str
    dice: random.Random
    rows: dict[str, dict[tuple, tuple]] = field(default_factory=dict)
    told: dict[str, dict[tuple, tuple]] = field(default_factory=dict)
    files: dict[str, list[ChangeFile]] = field(default_factory=dict)

    def fill(self) -> None:
        """A year of orders, and what belongs to them."""
        dice = self.dice
        tree = [("c0", None), ("c1", "c0"), ("c2", None)]
        self.put("catalog.categories", *((c, "string", c.upper(), above) for c, above in tree))
        for product in PRODUCTS:
            self.put("catalog.products", (product, "string", dice.choice([*CATEGORIES, "gone"])))
        self.put("shop.customers", *((customer,) for customer in range(1, 9)))
        self.put("shop.stores", (1, "physical"), (2, "online"))
        for store in (1, 2):
            stock = ((store, p, dice.randint(-1, 30), 5) for p in PRODUCTS)
            self.put("shop.inventory", *stock)
        for number in range(1, 81):
            self.order(number, START + timedelta(days=4 * number, hours=dice.randint(0, 23)))

    def order(self, number: int, time: datetime) -> None:
        """An order with its lines, new or instead of an older one."""
        dice = self.dice
        head = (
            *(number, dice.choice([None, *range(1, 10)]), dice.choice([1, 2])),
            dice.choice(["paid"] * 5 + ["cancelled"]),
            *(dice.choice([None, "mobile", "laptop"]), dice.choice(["EUR", "EUR", "JPY"]), time),
        )
        self.put("shop.orders", head)
        self.drop("shop.order_lines", number)
        for line, product in enumerate(dice.choices(PRODUCTS, k=dice.randint(1, 4))):
            price = dice.randint(1, 999)
            values = (number, line, product, dice.randint(1, 5), price, price // 3, price // 2)
            self.put("shop.order_lines", (*values, time))

    def put(self, table: str, *rows: tuple) -> None:
        """Insert or update rows."""
        for row in rows:
            self.rows.setdefault(table, {})[row[: KEYS.get(table, 1)]] = row

    def drop(self, table: str, number: Any) -> None:
        """Delete the rows whose key begins so."""
        found = self.rows.setdefault(table, {})
        for key in [key for key in found if key[0] == number]:
            del found[key]

    def table(self, name: str) -> LakeTable:
        """A table of the lake."""
        return lake_table(*LINES.table(name), self.lake)

    def refresh(self) -> None:
        """Load what changed into the lake, as ingestion does."""
        for name, columns in COLUMNS.items():
            now, before = self.rows.get(name, {}), self.told.get(name, {})
            changes = [(row, False) for key, row in now.items() if before.get(key) != row]
            changes += [(row, True) for key, row in before.items() if key not in now]
            table, files = self.table(name), self.files.setdefault(name, [])
            if not changes and files:
                continue
            load = len(files) + 1
            source, _, short = name.partition(".")
            path = f"changes/{source}/{short}/load_date=2026-03-01/{load}-0.parquet"
            table.store.create_dir(path.rpartition("/")[0])
            own = (LOADED, "p", str(load), load)
            whole = [(*row, deleted, *own) for row, deleted in changes]
            types = columns | OWN
            arrays = [
                pa.array([row[n] for row in whole], type_) for n, type_ in enumerate(types.values())
            ]
            pq.write_table(pa.table(arrays, names=list(types)), path, filesystem=table.store)
            files.append(ChangeFile(path, str(load), "2026-03-01"))
            refresh_table(table, files)
            self.told[name] = dict(now)

    def folders(self, name: str) -> dict[str, Path]:
        """The folder of each month of a table."""
        table = self.table(name)
        state = table.state()
        assert state
        root = Path(table.hadoop_path("").removeprefix("file://"))
        return {month: root / each.folder for month, each in state.partitions.items()}


@pytest.fixture
def shop(lake: str) -> Shop:
    shop = Shop(lake, random.Random(1))
    shop.fill()
    shop.refresh()
    return shop


def result(spark: SparkSession, shop: Shop, job: Job) -> list[str]:
    """What the last run of a job made."""
    found = read(spark, LakeTable(shop.lake, "aggregates", job.name))
    return sorted(map(str, found.collect())) if found else []


def whole(spark: SparkSession, shop: Shop, job: Job) -> list[str]:
    """What a job makes of all rows at once."""
    inputs = (
        read(spark, shop.table(f"{source.name}.{table.name}")) for source, table in job.inputs
    )
    return sorted(map(str, job.transform(*(rows for rows in inputs if rows)).collect()))


def kept(shop: Shop, function: str) -> dict[str, str]:
    """The folder of each month of what a job keeps."""
    state = LakeTable(shop.lake, "aggregates_by_month", f"shop_{function}").state()
    return {month: each["in"] for month, each in (state.layout["months"] if state else {}).items()}


OF_THE_SHOP = [job for job in JOBS.values() if job.line == "shop"]
RFM = JOBS["agg_rfm_by_customer"]


def test_months_added_up_are_what_all_rows_give_at_once(spark: SparkSession, shop: Shop) -> None:
    def anywhere() -> None:
        for number in shop.dice.sample(range(1, 81), 4):
            shop.order(number, START + timedelta(days=shop.dice.randint(0, 320)))
        shop.order(81, START + timedelta(days=321))
        shop.drop("shop.orders", 3)
        shop.drop("shop.order_lines", 3)
        shop.drop("shop.customers", 2)
        shop.drop("catalog.products", "p1")
        shop.put("shop.stores", (1, "online"))
        shop.put("shop.inventory", (1, "p0", 0, 9))

    def apart() -> None:
        """An order moves to another month without its lines, and another one is missing."""
        shop.put("shop.orders", (10, 1, 1, "paid", None, "EUR", START + timedelta(days=318)))
        shop.drop("shop.orders", 20)

    def together() -> None:
        shop.order(10, START + timedelta(days=318))
        shop.drop("shop.order_lines", 20)

    for job in OF_THE_SHOP:
        write_aggregate(spark, job, shop.lake)
    for change in (anywhere, apart, together):
        change()
        shop.refresh()
        for job in OF_THE_SHOP:
            write_aggregate(spark, job, shop.lake)
            assert result(spark, shop, job) == whole(spark, shop, job), (job.name, change)


def test_months_that_did_not_change_are_not_read(
    spark: SparkSession, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their files are destroyed. Only a job that reads them would see that."""
    monkeypatch.setattr(agg_baskets_by_product_pair, "MAX_ORDERS", 10)
    for job in OF_THE_SHOP:
        write_aggregate(spark, job, shop.lake)
    shop.order(81, START + timedelta(days=322))
    shop.refresh()
    right = {job.name: whole(spark, shop, job) for job in OF_THE_SHOP}
    for name in ("shop.orders", "shop.order_lines"):
        for month, folder in shop.folders(name).items():
            # The windows of two jobs begin in October.
            if month < "2025-10":
                for file in folder.glob("*.parquet"):
                    file.write_bytes(b"destroyed")
    with pytest.raises(Exception, match=r"(?i)parquet"):
        whole(spark, shop, RFM)
    for job in OF_THE_SHOP:
        write_aggregate(spark, job, shop.lake)
        assert result(spark, shop, job) == right[job.name], job.name


def test_a_job_that_is_killed_leaves_the_old_rows_and_is_right_the_next_time(
    spark: SparkSession, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object, **__: object) -> None:
        raise Stopped

    write_aggregate(spark, RFM, shop.lake)
    for step, (module, name) in enumerate(
        ((months, "write_folder"), (months, "commit"), (spark_lake, "commit"))
    ):
        before = result(spark, shop, RFM)
        shop.order(81 + step, START + timedelta(days=322))
        shop.refresh()
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stop)
            with pytest.raises(Stopped):
                write_aggregate(spark, RFM, shop.lake)
        assert result(spark, shop, RFM) == before
        write_aggregate(spark, RFM, shop.lake)
        assert result(spark, shop, RFM) == whole(spark, shop, RFM) != before
    # What was killed leaves no folders behind for ever.
    table = LakeTable(shop.lake, "aggregates", RFM.name)
    assert len(table.store.get_file_info(FileSelector(table.folder))) == 3


def test_refused_rows_stay_unread_and_all_months_are_computed_again(
    spark: SparkSession, shop: Shop
) -> None:
    """They were in the lake when their totals were compared, and what was kept stayed wrong."""

    def refuse(rows: Partition) -> None:
        read.append(rows.rows)
        raise ValueError("no")

    read: list[int] = []
    write_aggregate(spark, RFM, shop.lake)
    before, months = result(spark, shop, RFM), kept(shop, "agg_rfm_by_customer_bought")
    shop.order(81, START + timedelta(days=322))
    shop.refresh()
    with pytest.raises(ValueError, match="no"):
        write_aggregate(spark, RFM, shop.lake, refuse)
    # The second time, all of it was computed at once.
    assert read == [len(whole(spark, shop, RFM))] * 2
    assert result(spark, shop, RFM) == before
    write_aggregate(spark, RFM, shop.lake)
    assert result(spark, shop, RFM) == whole(spark, shop, RFM) != before
    assert not set(kept(shop, "agg_rfm_by_customer_bought").values()) & set(months.values())


def test_what_months_cannot_add_up_is_computed_whole(
    spark: SparkSession, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two records of one event in two months counted twice, and the result was refused for good."""

    def audit(rows: Partition) -> None:
        if rows.rows != right:
            raise ValueError("no")

    right = len(whole(spark, shop, RFM))
    by_month = months.by_month
    monkeypatch.setattr(jobs, "by_month", lambda *given: by_month(*given).limit(1))
    assert write_aggregate(spark, RFM, shop.lake, audit) == right
    assert result(spark, shop, RFM) == whole(spark, shop, RFM)


def test_other_code_computes_all_months_again(
    spark: SparkSession, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_aggregate(spark, RFM, shop.lake)
    before = kept(shop, "agg_rfm_by_customer_bought")
    assert len(before) == 11
    shop.order(81, START + timedelta(days=322))
    shop.refresh()
    write_aggregate(spark, RFM, shop.lake)
    after = kept(shop, "agg_rfm_by_customer_bought")
    assert {month for month, folder in after.items() if folder != before[month]} == {"2025-11"}
    monkeypatch.setattr(jobs, "code_version", lambda _: "another one")
    write_aggregate(spark, RFM, shop.lake)
    again = kept(shop, "agg_rfm_by_customer_bought")
    assert len(set(again.values())) == 1
    assert not set(again.values()) & set(after.values())
