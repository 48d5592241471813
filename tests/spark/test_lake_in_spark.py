"""The lake's tables as Spark and Hive see them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pyspark.sql import DataFrame
from support.lake import FEBRUARY, INSTANT, JANUARY, ORDER, Loads, current

from softcart_assets import lake as tables
from softcart_assets.connections import LOCAL_PREFIXES
from softcart_assets.lake import LakeError, compact, discard, rebuild_table, refresh_table
from softcart_assets.lake.hive import Client, publish, publish_all
from softcart_assets.lake.upgrade import drop_predecessor
from spark.lake import read, replace_table


@pytest.fixture
def loads(spark, metastore: str, tmp_path: Path) -> Iterator[Loads]:
    # A blank and brackets in the path: Hadoop, Arrow and URIs each write them differently.
    loads = Loads((tmp_path / "the [lake]").as_uri(), f"lake_{secrets.token_hex(4)}")
    yield loads
    spark.sql(f"DROP DATABASE IF EXISTS {loads.table.database} CASCADE")


def no_message(message: str) -> None:
    raise AssertionError(message)


def table_of(spark, name: str) -> DataFrame:
    """A table of Hive's as a session finds it that has not seen it before."""
    return spark.newSession().table(name)


def in_hive(spark, loads: Loads) -> list[tuple]:
    """(id, amount, month) of the rows that Hive's table has."""
    rows = table_of(spark, loads.table.full_name).select("id", "amount", "_month").orderBy("id")
    return [tuple(row) for row in rows.collect()]


def test_a_job_reads_the_last_refresh_whatever_hive_knows(spark, loads: Loads) -> None:
    assert read(spark, loads.table) is None
    loads.add((1, JANUARY, "1.10"), (2, FEBRUARY, "2.00"), (3, None, "3.00"))
    refresh_table(loads.table, loads.files)
    before = read(spark, loads.table)
    assert before is not None
    assert before.columns[-1] == "_month"
    loads.add((1, JANUARY, "1.10", True), (3, FEBRUARY, "3.30"))
    refresh_table(loads.table, loads.files)
    # A query that has begun goes on reading what it began with.
    assert before.count() == 3
    rows = read(spark, loads.table).select("id", "amount", "_month").orderBy("id").collect()
    assert [tuple(row) for row in rows] == current(loads.table)
    loads.add((2, FEBRUARY, "2.00", True), (3, FEBRUARY, "3.30", True))
    refresh_table(loads.table, loads.files)
    assert read(spark, loads.table).schema == before.schema
    assert read(spark, loads.table).collect() == []
    assert not spark.catalog.tableExists(loads.table.full_name)


def test_hive_has_what_the_last_refresh_made(
    spark, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = f"{loads.table.full_name}_changes"

    def is_right() -> bool:
        publish(loads.table, no_message)
        return in_hive(spark, loads) == current(loads.table)

    loads.add((1, JANUARY, "1.10"), (2, JANUARY, "2.00"), (4, None, "4.00"))
    publish(loads.table, no_message)
    refresh_table(loads.table, loads.files)
    assert is_right()
    loads.add((1, FEBRUARY, "1.20"), (2, JANUARY, "2.00", True))
    loads.add((7, JANUARY, "7.00"), committed=False)
    refresh_table(loads.table, loads.files)
    assert is_right()
    months = spark.sql(f"SHOW PARTITIONS {loads.table.full_name}").collect()
    assert sorted(row[0] for row in months) == ["_month=2026-02", "_month=unknown"]
    assert table_of(spark, history).count() == 5
    assert "_deleted" in table_of(spark, history).columns
    assert "_deleted" not in table_of(spark, loads.table.full_name).columns

    # Nothing is told again.
    with monkeypatch.context() as patch:
        for change in CHANGES:
            patch.delattr(Client, change)
        assert is_right()
    for number in range(tables.COMPACT_FROM_FILES):
        loads.add((number, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    old, loads.files = loads.files, [each.new for each in compact(loads.table, loads.files)]
    discard(loads.table, old)
    assert is_right()
    assert table_of(spark, history).count() == 5 + tables.COMPACT_FROM_FILES


def test_small_tables_are_switched_whole(spark, loads: Loads) -> None:
    table = loads.table = replace(loads.table, partition_column=None)
    loads.add((1, JANUARY, "1.00"), (2, None, "2.00"))
    refresh_table(table, loads.files)
    publish(table, no_message)
    loads.add((1, JANUARY, "1.00", True), (2, None, "2.00", True))
    refresh_table(table, loads.files)
    assert read(spark, table).collect() == []
    publish(table, no_message)
    assert table_of(spark, table.full_name).count() == 0
    assert "_month" not in table_of(spark, table.full_name).columns


CHANGES = (
    "create_database",
    "create_table",
    "alter_table",
    "add_partitions",
    "alter_partitions",
    "drop_table",
    "drop_partition",
)
"""What a publication changes in a metastore."""

VALUES = {
    "tiny": (pa.int8(), -128),
    "small": (pa.int16(), -(2**15)),
    "whole": (pa.int32(), 2**31 - 1),
    "big": (pa.int64(), -(2**63)),
    "unsigned": (pa.decimal128(20, 0), Decimal(2**64 - 1)),
    "amount": (pa.decimal128(12, 2), Decimal("-9999999999.99")),
    "widest": (pa.decimal128(38, 37), Decimal("-9." + "9" * 37)),
    "single": (pa.float32(), 0.10000000149011612),
    "ratio": (pa.float64(), -5e-324),
    "flag": (pa.bool_(), True),
    "text": (pa.string(), "Zoë 🚲 \\ ' \" % \n"),
    "data": (pa.binary(), b"\x00\xff"),
    "day": (pa.date32(), date(1, 1, 1)),
    "moment": (INSTANT, datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    "early": (INSTANT, datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
}


@pytest.mark.parametrize("key", [(), ("id",)])
def test_every_type_is_exact_in_the_files_in_spark_and_in_hive(
    spark, loads: Loads, key: tuple[str, ...]
) -> None:
    loads.table = replace(loads.table, key=key, partition_column="moment")
    types = {"id": pa.int32()} | {name: type_ for name, (type_, _) in VALUES.items()}
    values = [value for _, value in VALUES.values()]
    nothing = [None] * len(values)
    for operation in (None, "insert"):
        loads.add((1, *values), (2, *nothing), types=types, operation=operation)
        loads.add((3, *values), (2, *nothing), types=types, operation="insert")
        refresh_table(loads.table, loads.files)
        state = loads.table.state()
        assert state
        folders = [partition.folder for partition in state.partitions.values()]
        wanted = ds.dataset(
            [str(path) for folder in folders for path in (loads.root / folder).iterdir()]
        ).to_table()
        assert {name: wanted.schema.field(name).type for name in types} == types
        rows = wanted.select(list(types)).sort_by("id")
        assert [row for row in rows.to_pylist() if row["id"] != 2] == [
            dict(zip(types, (number, *values), strict=True))
            for number in rows["id"].to_pylist()
            if number != 2
        ]
        publish(loads.table, no_message)
        for found in (read(spark, loads.table), table_of(spark, loads.table.full_name)):
            assert found.select(*types).orderBy("id").toArrow().cast(rows.schema) == rows


def test_columns_appear_and_grow_without_touching_old_months(spark, loads: Loads) -> None:
    loads.add((1, JANUARY, "1.10"))
    loads.add((2, JANUARY, "2.20", 7), types=ORDER | {"pieces": pa.int32()})
    refresh_table(loads.table, loads.files)
    wider = ORDER | {"amount": pa.decimal128(20, 4), "pieces": pa.int64()}
    loads.add((3, FEBRUARY, "1234567890123456.0003", 2**40), types=wider)
    refresh_table(loads.table, loads.files)
    publish(loads.table, no_message)
    right = [
        (Decimal("1.1000"), None),
        (Decimal("2.2000"), 7),
        (Decimal("1234567890123456.0003"), 2**40),
    ]
    names = (loads.table.full_name, f"{loads.table.full_name}_changes")
    for found in (read(spark, loads.table), *(table_of(spark, name) for name in names)):
        rows = found.orderBy("id").select("amount", "pieces").collect()
        assert [tuple(row) for row in rows] == right


def test_names_that_differ_in_case_are_two_columns(spark, loads: Loads) -> None:
    """prestodb/presto#4136, apache/spark#22148: Parquet tells such names apart, Hive does not."""
    plain = {"id": ORDER["id"], "ordered_at": INSTANT}
    loads.add((1, JANUARY, "a"), (2, FEBRUARY, "b"), types=plain | {"v": pa.string()})
    loads.rename()
    refresh_table(loads.table, loads.files)
    loads.add((1, JANUARY, "A", "m"), types=plain | {"V": pa.string(), "_MONTH": pa.string()})
    loads.rename()
    refresh_table(loads.table, loads.files)
    publish(loads.table, no_message)
    columns = ("v", "v_2", "_month_2", "_month")
    right = [(None, "A", "m", "2026-01"), ("b", None, None, "2026-02")]
    for found in (read(spark, loads.table), table_of(spark, loads.table.full_name)):
        assert [tuple(row) for row in found.orderBy("id").select(*columns).collect()] == right
    history = table_of(spark, f"{loads.table.full_name}_changes").select("v_2").collect()
    assert sorted(str(row[0]) for row in history) == ["A", "None", "None"]


def test_a_table_of_an_older_release_is_built_anew(spark, metastore: str, loads: Loads) -> None:
    """A folder was for a whole refresh, with the months in it."""
    table = loads.table
    loads.add((1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))
    refresh_table(table, loads.files)
    state = table.state()
    assert state
    older = {"key": ["id"], "partition_column": "ordered_at"}
    table.write_state(replace(state, version=2, layout=older))
    publish_all(metastore, table.lake_uri)
    assert not spark.catalog.tableExists(table.full_name)
    assert len(refresh_table(table, loads.files).months) == 2
    publish_all(metastore, table.lake_uri)
    assert in_hive(spark, loads) == current(table)


def test_the_database_of_an_older_installation_goes_when_its_tables_are_built_anew(
    spark, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It held the tables of all sources. What others keep in it stays."""
    # A metastore of the user's.
    monkeypatch.delenv(LOCAL_PREFIXES)
    old = replace(loads.table, database="lake")
    new = replace(loads.table, database="lake_shop")
    loads.add((1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))

    def make_old() -> None:
        rebuild_table(old, loads.files)
        publish(old, no_message)

    try:
        make_old()
        spark.sql("CREATE TABLE lake.theirs (n INT)")
        drop_predecessor(new)  # the new table is not built yet
        refresh_table(replace(new, database="lake_crm"), loads.files)
        drop_predecessor(replace(new, database="lake_crm"))
        assert spark.catalog.tableExists("lake.orders")

        refresh_table(new, loads.files)
        drop_predecessor(new)
        assert [row.tableName for row in spark.sql("SHOW TABLES IN lake").collect()] == ["theirs"]
        assert len(current(new)) == 2
        assert all((loads.root / file.path).exists() for file in loads.files)

        spark.sql("DROP TABLE lake.theirs")
        make_old()
        drop_predecessor(new)
        assert not spark.catalog.databaseExists("lake")
        assert not (loads.root / old.folder).exists()
        drop_predecessor(new)
    finally:
        spark.sql("DROP DATABASE IF EXISTS lake CASCADE")


def test_only_a_local_metastore_may_be_down(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    loads.add((1, JANUARY, "1.00"))
    refresh_table(loads.table, loads.files)
    monkeypatch.setenv("SOFTCART_HIVE_METASTORE_URI", "thrift://127.0.0.1:1")
    told: list[str] = []
    publish(loads.table, told.append)
    assert f"Hive does not know of {loads.table.full_name} yet" in told[0]
    monkeypatch.delenv(LOCAL_PREFIXES)
    with pytest.raises(LakeError, match=r"thrift://127\.0\.0\.1:1 cannot be reached"):
        publish(loads.table, told.append)


def test_an_aggregate_is_a_table_of_hive_too(spark, metastore: str, loads: Loads) -> None:
    table = replace(loads.table, name="agg_sales", key=(), partition_column=None)
    for count in (3, 5):
        assert replace_table(table, spark.range(count)) == count
        publish_all(metastore, table.lake_uri)
        assert table_of(spark, table.full_name).count() == count
    assert not spark.catalog.tableExists(f"{table.full_name}_changes")
