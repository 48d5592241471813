"""The lake's tables on a real metastore: merging, replay, repair after a kill, evolution,
compaction.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.types import StructType

from spark import lake
from spark.lake import (
    ChangeFile,
    LakeTable,
    compact,
    discard,
    drop_predecessor,
    has_predecessor,
    pending_files,
    rebuild_table,
    refresh,
    refresh_table,
    rename_columns,
)
from spark.lake.merge import read, remaining
from spark.lake.schema import common_schema

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JANUARY, FEBRUARY = (
    datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 2, 1, tzinfo=UTC),
)
INSTANT = pa.timestamp("us", tz="UTC")
ORDER = {"id": pa.decimal128(20, 0), "ordered_at": INSTANT, "amount": pa.decimal128(12, 2)}
OWN = {
    "_deleted": pa.bool_(),
    "_loaded_at": INSTANT,
    "_position": pa.string(),
    "_load_id": pa.string(),
    "_version": pa.int64(),
}
LOG = OWN | {"_operation": pa.string()}


class Loads:
    """Writes change files as ingestion does and keeps the list of committed ones."""

    def __init__(self, lake_uri: str, database: str) -> None:
        self.table = LakeTable(lake_uri, database, "orders", ("id",), "ordered_at")
        self.root = Path(self.table.hadoop_path("").removeprefix("file:"))
        self.files: list[ChangeFile] = []
        self._loads = 0

    def add(
        self,
        *versions: tuple,
        types: dict[str, pa.DataType] = ORDER,
        committed: bool = True,
        parts: int = 1,
        loaded_at: datetime | None = None,
        is_numbered: bool = True,
        operation: str | None = None,
    ) -> None:
        """One load; a version is a tuple of the columns' values, with a last True if it is a
        deletion. Releases until 2b4cd81 did not number their loads.
        """
        self._loads += 1
        load_id = f"load{self._loads:03}"
        loaded_at = loaded_at or NOW + timedelta(minutes=self._loads)
        folder = f"changes/shop/orders/load_date={loaded_at:%Y-%m-%d}"
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        width = len(types)
        own = dict(OWN if operation is None else LOG)
        values = (loaded_at, "p", load_id, self._loads, operation)[: len(own) - 1]
        rows = [(*v[:width], v[width:] == (True,), *values) for v in versions]
        size = -(-len(rows) // parts)
        for part in range(parts):
            columns = zip(*rows[part * size : (part + 1) * size], strict=True)
            arrays = [
                _array(values, type_)
                for values, type_ in zip(columns, (types | own).values(), strict=True)
            ]
            path = f"{folder}/{load_id}-{part}.parquet"
            file = pa.table(arrays, names=list(types | own))
            pq.write_table(file if is_numbered else file.drop("_version"), self.root / path)
            if committed:
                self.files.append(ChangeFile(path, load_id, f"{loaded_at:%Y-%m-%d}"))


def _array(values: tuple, type_: pa.DataType) -> pa.Array:
    return pa.array([Decimal(v) if pa.types.is_decimal(type_) else v for v in values], type_)


@pytest.fixture
def loads(spark, tmp_path: Path) -> Iterator[Loads]:
    # A blank in the path: Hadoop, Arrow and URIs each write it differently.
    loads = Loads((tmp_path / "the lake").as_uri(), f"lake_{secrets.token_hex(4)}")
    yield loads
    spark.sql(f"DROP DATABASE IF EXISTS {loads.table.database} CASCADE")


def current(spark, table: LakeTable) -> list[tuple]:
    """(id, amount, month) of the current rows."""
    rows = spark.sql(
        f"SELECT CAST(id AS int), amount, _month FROM {table.database}.{table.name} ORDER BY id"
    )
    return [tuple(row) for row in rows.collect()]


def test_inserts_updates_deletes_and_moves_between_months(spark, loads: Loads) -> None:
    loads.add((1, JANUARY, "1.10"), (2, JANUARY, "2.00"), (3, FEBRUARY, "3.00"), (4, None, "4.00"))
    first = refresh_table(spark, loads.table, loads.files)
    assert (first.rows, first.partitions_rewritten, first.applied_loads) == (4, 3, ("load001",))

    loads.add((1, FEBRUARY, "1.20"), (2, JANUARY, "2.00", True), (5, FEBRUARY, "5.00"))
    loads.add((5, FEBRUARY, "5.50"), (9, JANUARY, "9.00", True))
    second = refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == [
        (1, Decimal("1.20"), "2026-02"),
        (3, Decimal("3.00"), "2026-02"),
        (4, Decimal("4.00"), "unknown"),
        (5, Decimal("5.50"), "2026-02"),
    ]
    assert (second.rows, second.partitions_rewritten, second.applied_loads) == (
        4,
        2,
        ("load002", "load003"),
    )
    months = spark.sql(f"SHOW PARTITIONS {loads.table.database}.orders").collect()
    assert sorted(row[0] for row in months) == ["_month=2026-02", "_month=unknown"]
    assert spark.table(f"{loads.table.database}.orders_changes").count() == 9
    assert "_deleted" not in spark.table(f"{loads.table.database}.orders").columns


def test_the_last_version_within_a_load_wins(spark, loads: Loads) -> None:
    """Ingestion may meet a row twice in a load; eleven files, as 'load-10' comes after 'load-9' and
    not after 'load-1'.
    """
    versions = [(1, JANUARY, f"{n}.00") for n in range(22)]
    loads.add(*versions, parts=11)
    refresh_table(spark, loads.table, list(reversed(loads.files)))
    assert current(spark, loads.table) == [(1, Decimal("21.00"), "2026-01")]


def test_nothing_new_costs_nothing_and_needs_no_spark(spark, loads: Loads) -> None:
    loads.add((1, JANUARY, "1.00"))
    assert pending_files(loads.table, loads.files) == loads.files
    refresh_table(spark, loads.table, loads.files)
    assert pending_files(replace(loads.table), loads.files) == []
    again = refresh_table(None, loads.table, loads.files)
    assert (again.rows, again.changed) == (1, False)


def test_files_of_uncommitted_loads_are_never_read(spark, loads: Loads) -> None:
    loads.add((1, JANUARY, "1.00"))
    loads.add((1, JANUARY, "6.66"), (6, JANUARY, "6.66"), committed=False)
    refresh_table(spark, loads.table, loads.files)
    loads.add((2, JANUARY, "2.00"))
    refresh_table(spark, loads.table, loads.files)
    assert [row[0] for row in current(spark, loads.table)] == [1, 2]
    assert spark.table(f"{loads.table.database}.orders_changes").count() == 2


def test_random_history_incrementally_equals_its_replay_and_a_model(spark, loads: Loads) -> None:
    rng = random.Random(7)
    model: dict[int, tuple] = {}
    for _ in range(4):
        for _ in range(rng.randint(1, 2)):
            versions = []
            for key in rng.sample(range(30), 12):
                when = datetime(2026, rng.randint(1, 5), 1, tzinfo=UTC)
                amount, is_deleted = (
                    f"{rng.randint(0, 10**9)}.{rng.randint(0, 99):02}",
                    rng.random() < 0.3,
                )
                versions.append((key, when, amount, True) if is_deleted else (key, when, amount))
                model.pop(key, None)
                if not is_deleted:
                    model[key] = (key, Decimal(amount), f"{when:%Y-%m}")
            loads.add(*versions)
        result = refresh_table(spark, loads.table, loads.files)
        assert result.rows == len(model)
        assert current(spark, loads.table) == [model[key] for key in sorted(model)]
    rebuild_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == [model[key] for key in sorted(model)]


@pytest.mark.parametrize("step", ["_write", "write_state", "publish", "_delete_unnamed"])
def test_a_refresh_that_stops_at_any_step_is_repaired_by_the_next(
    spark, loads: Loads, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"))
    refresh_table(spark, loads.table, loads.files)
    loads.add((1, FEBRUARY, "1.50"), (2, JANUARY, "2.00", True), (3, JANUARY, "3.00"))

    class Stopped(BaseException):
        pass

    def stop_before(*_: object) -> None:
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(LakeTable if step == "write_state" else refresh, step, stop_before)
        with pytest.raises(Stopped):
            refresh_table(spark, loads.table, loads.files)
    if step != "_delete_unnamed":
        assert pending_files(loads.table, loads.files)
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == [
        (1, Decimal("1.50"), "2026-02"),
        (3, Decimal("3.00"), "2026-01"),
    ]


def test_kill_9_while_hive_is_being_pointed_at_the_new_months(loads: Loads, tmp_path: Path) -> None:
    """A real kill, of a process with a metastore of its own; the next process waits for the lock
    and repairs.
    """
    child = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from pyspark.sql import SparkSession
        from spark.lake import ChangeFile, LakeTable, refresh_table
        from spark.session import build_session, stop_session

        uri, kill, *paths = sys.argv[1:]
        table = LakeTable(uri, "lake_shop", "orders", ("id",), "ordered_at")
        files = [ChangeFile(path, path, "2026-03-01") for path in paths]
        spark = build_session("child", master="local[1]")
        refresh_table(spark, table, files[:1])
        if kill == "kill":
            sql = SparkSession.sql
            def die_at_the_second_month(self, text):
                SparkSession.seen = getattr(SparkSession, "seen", 0) + ("SET LOCATION" in text)
                if SparkSession.seen == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                return sql(self, text)
            SparkSession.sql = die_at_the_second_month
        refresh_table(spark, table, files)
        columns = "CAST(id AS int) AS id, CAST(amount AS string), _month"
        rows = spark.sql(f"SELECT {columns} FROM lake_shop.orders ORDER BY id")
        print(*map(tuple, rows.collect()))
        stop_session(spark)
        """
    )
    loads.add((1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))
    loads.add((1, JANUARY, "1.50"), (2, FEBRUARY, "2.50"), (3, FEBRUARY, "3.50"))
    environment = os.environ | {
        "SOFTCART_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }

    def run(kill: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            child,
            loads.table.lake_uri,
            kill,
            *(file.path for file in loads.files),
        ]
        return subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert run("kill").returncode == -signal.SIGKILL
    repaired = run("")
    assert repaired.returncode == 0, repaired.stderr
    assert (
        repaired.stdout.strip()
        == "(1, '1.50', '2026-01') (2, '2.50', '2026-02') (3, '3.50', '2026-02')"
    )
    # The metastore leaves nothing in the folder that the process happens to run in.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "the lake"]


def test_columns_appear_and_grow_without_touching_old_months(spark, loads: Loads) -> None:
    loads.add((1, JANUARY, "1.10"))
    loads.add((2, JANUARY, "2.20", 7), types=ORDER | {"pieces": pa.int32()})
    refresh_table(spark, loads.table, loads.files)
    wider = {
        "id": ORDER["id"],
        "ordered_at": INSTANT,
        "amount": pa.decimal128(20, 4),
        "pieces": pa.int64(),
    }
    loads.add((3, FEBRUARY, "1234567890123456.0003", 2**40), types=wider)
    result = refresh_table(spark, loads.table, loads.files)
    assert result.partitions_rewritten == 1
    rows = spark.sql(
        f"SELECT amount, pieces FROM {loads.table.database}.orders ORDER BY id"
    ).collect()
    assert [tuple(row) for row in rows] == [
        (Decimal("1.1000"), None),
        (Decimal("2.2000"), 7),
        (Decimal("1234567890123456.0003"), 2**40),
    ]
    history = spark.sql(
        f"SELECT amount FROM {loads.table.database}.orders_changes ORDER BY id"
    ).collect()
    assert [row[0] for row in history] == [row[0] for row in rows]


def test_a_change_of_type_that_loses_values_is_refused_until_the_old_files_are_struck_off(
    spark, loads: Loads
) -> None:
    loads.add((1, JANUARY, "1.10"))
    refresh_table(spark, loads.table, loads.files)
    loads.add((1, JANUARY, 0.1), types=ORDER | {"amount": pa.float64()})
    with pytest.raises(
        lake.LakeError, match=r"orders: column 'amount' .*decimal128\(12, 2\).* double.*lake_files"
    ):
        refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == [(1, Decimal("1.10"), "2026-01")]
    assert pending_files(loads.table, loads.files[1:]) == loads.files[1:]
    refresh_table(spark, loads.table, loads.files[1:])
    assert current(spark, loads.table) == [(1, 0.1, "2026-01")]


def test_compaction_keeps_history_and_nothing_is_merged_twice(spark, loads: Loads) -> None:
    for n in range(lake.COMPACT_FROM_FILES):
        loads.add((n % 5, JANUARY, f"{n}.00"), (99, JANUARY, f"{n}.00", *([True] if n % 2 else [])))
        if n == 1:
            assert compact(loads.table, loads.files) == []
    refresh_table(spark, loads.table, loads.files)
    before = current(spark, loads.table)
    assert [each.old for each in compact(loads.table, loads.files)] == [tuple(loads.files)]
    # Killed here, before the list is exchanged: the new file is an orphan.
    assert pending_files(loads.table, loads.files) == loads.files
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == before
    assert (
        spark.table(f"{loads.table.database}.orders_changes").count() == 2 * lake.COMPACT_FROM_FILES
    )

    written = [each.new for each in compact(loads.table, loads.files)]
    discard(loads.table, loads.files)
    assert not any((loads.root / file.path).exists() for file in loads.files)
    assert pending_files(loads.table, written) == []
    rebuild_table(spark, loads.table, written)
    assert current(spark, loads.table) == before
    assert (
        spark.table(f"{loads.table.database}.orders_changes").count() == 2 * lake.COMPACT_FROM_FILES
    )


def test_small_tables_are_switched_whole_and_old_folders_go(spark, loads: Loads) -> None:
    table = loads.table = replace(loads.table, partition_column=None)
    name = f"{table.database}.orders"
    loads.add((1, JANUARY, "1.00"), (2, None, "2.00"))
    refresh_table(spark, table, loads.files)
    read_before = spark.table(name)
    loads.add((1, JANUARY, "1.00", True))
    refresh_table(spark, table, loads.files)
    assert read_before.count() == 2  # a query that has begun goes on reading what it began with
    assert [row["id"] for row in spark.table(name).collect()] == [2]
    loads.add((2, JANUARY, "2.00", True))
    assert refresh_table(spark, table, loads.files).rows == 0
    assert spark.table(name).count() == 0
    folders = [path for path in (loads.root / table.folder).iterdir() if path.name != "_state"]
    assert len(folders) == 2  # the present one and the one before

    loads.table = replace(table, partition_column="ordered_at")  # declared anew: built anew
    loads.add((3, FEBRUARY, "3.00"))
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == [(3, Decimal("3.00"), "2026-02")]


def test_without_a_key_the_last_load_is_the_table(spark, loads: Loads) -> None:
    loads.table = replace(loads.table, key=())
    loads.add((1, JANUARY, "1.00"), (1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))
    assert refresh_table(spark, loads.table, loads.files).rows == 3
    loads.add((1, JANUARY, "1.00"), (1, JANUARY, "1.00"))
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == [(1, Decimal("1.00"), "2026-01")] * 2


YESTERDAY = NOW - timedelta(days=1)


def test_a_clock_that_was_set_back_changes_nothing(spark, loads: Loads) -> None:
    """The times of loads go back, within a refresh, between two, and over midnight."""
    loads.add((1, JANUARY, "1.00"), (2, JANUARY, "2.00"))
    loads.add((1, JANUARY, "1.10"), (3, JANUARY, "3.00"), loaded_at=YESTERDAY)
    refresh_table(spark, loads.table, loads.files)
    loads.add((2, JANUARY, "2.00", True), (3, JANUARY, "3.30"), loaded_at=NOW)
    loads.add((2, FEBRUARY, "2.20"), loaded_at=YESTERDAY)
    loads.add((3, JANUARY, "3.30", True), loaded_at=YESTERDAY - timedelta(days=400))
    right = [(1, Decimal("1.10"), "2026-01"), (2, Decimal("2.20"), "2026-02")]
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == right
    rebuild_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == right


def test_without_a_key_the_last_load_counts_whatever_its_time(spark, loads: Loads) -> None:
    loads.table = replace(loads.table, key=())
    one, two = (1, JANUARY, "1.00"), (2, FEBRUARY, "2.00")
    loads.add((9, JANUARY, "9.00"), loaded_at=NOW)
    loads.add((9, JANUARY, "9.00"), loaded_at=NOW, operation="insert")
    loads.add(one, one, one, two, loaded_at=YESTERDAY)
    loads.add((*one, True), two, loaded_at=YESTERDAY - timedelta(days=1), operation="update")
    rows = [(1, Decimal("1.00"), "2026-01")] * 2 + [(2, Decimal("2.00"), "2026-02")] * 2
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == rows
    loads.add((*one, True), (*two, True), (*two, True), operation="delete", loaded_at=YESTERDAY)
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == rows[:1]


def test_files_of_an_older_release_come_before_numbered_ones(spark, loads: Loads) -> None:
    """They have no numbers. Among them, their times decide, as they did then."""
    loads.add((1, JANUARY, "1.20"), (3, JANUARY, "3.00"), is_numbered=False)
    loads.add((1, JANUARY, "1.10"), (2, JANUARY, "2.00"), loaded_at=NOW, is_numbered=False)
    refresh_table(spark, loads.table, loads.files)
    assert [row[1] for row in current(spark, loads.table)] == [*map(Decimal, ("1.20", "2", "3"))]
    loads.add((2, JANUARY, "2.20"), loaded_at=YESTERDAY)
    loads.add((3, JANUARY, "3.00", True), loaded_at=YESTERDAY)
    refresh_table(spark, loads.table, loads.files)
    right = [(1, Decimal("1.20"), "2026-01"), (2, Decimal("2.20"), "2026-01")]
    assert current(spark, loads.table) == right
    rebuild_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == right


def renamed(loads: Loads) -> None:
    """What `softcart_assets.lake` does with the list of files before a refresh."""
    exchanges = rename_columns(loads.table, loads.files)
    instead = {old.path: each.new for each in exchanges for old in each.old}
    loads.files = [instead.get(file.path, file) for file in loads.files]
    discard(loads.table, [old for each in exchanges for old in each.old])


def test_names_that_differ_in_case_are_two_columns(spark, loads: Loads) -> None:
    """apache/flink-cdc#2144 (a column's case changes), prestodb/presto#4136 and apache/spark#22148
    (Parquet tells such names apart, Hive does not). A source's names may also be ours.
    """
    text = pa.string()
    plain = {"id": ORDER["id"], "ordered_at": INSTANT}
    loads.add((1, JANUARY, "a"), (2, JANUARY, "b"), types=plain | {"v": text})
    loads.add((1, JANUARY, "A"), types=plain | {"V": text})
    renamed(loads)
    refresh_table(spark, loads.table, loads.files)
    loads.add((3, JANUARY, "C", "m"), types=plain | {"V": text, "_MONTH": text}, parts=1)
    both = {"V_2": text, "v": text, "V": text}
    loads.add((4, JANUARY, "x", "d", "D"), (5, JANUARY, "y", "e", "E"), types=plain | both, parts=2)
    renamed(loads)
    refresh_table(spark, loads.table, loads.files)
    columns = "CAST(id AS int), v, v_2, v_2_2, _month_2, _month"
    rows = f"SELECT {columns} FROM {loads.table.database}.orders ORDER BY id"
    right = [
        (1, None, "A", None, None, "2026-01"),
        (2, "b", None, None, None, "2026-01"),
        (3, None, "C", None, "m", "2026-01"),
        (4, "d", "D", "x", None, "2026-01"),
        (5, "e", "E", "y", None, "2026-01"),
    ]
    assert [tuple(row) for row in spark.sql(rows).collect()] == right
    history = spark.table(f"{loads.table.database}.orders_changes")
    assert sorted(map(str, (row["V_2"] for row in history.select("V_2").collect()))) == [
        *"ACDE",
        "None",
        "None",
    ]
    assert rename_columns(loads.table, loads.files) == []
    assert rename_columns(replace(loads.table, name="anew"), loads.files) == []
    rebuild_table(spark, loads.table, loads.files)
    assert [tuple(row) for row in spark.sql(rows).collect()] == right


def test_the_key_may_be_a_name_that_differs_in_case(spark, loads: Loads) -> None:
    loads.table = replace(loads.table, key=("ID",), partition_column=None)
    loads.add(("x", 1), ("y", 2), types={"id": pa.string(), "ID": pa.int64()})
    loads.add(("z", 2), types={"id": pa.string(), "ID": pa.int64()})
    renamed(loads)
    refresh_table(spark, loads.table, loads.files)
    rows = spark.sql(f"SELECT id, id_2 FROM {loads.table.database}.orders ORDER BY 2").collect()
    assert [tuple(row) for row in rows] == [("x", 1), ("z", 2)]


def test_a_table_too_big_for_the_memory_is_named(
    spark, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark's own error names neither the table nor the setting."""
    loads.add((1, JANUARY, "1.00"))

    def fail(*_: object) -> None:
        raise RuntimeError("org.apache.spark.memory.SparkOutOfMemoryError: Unable to acquire")

    monkeypatch.setattr(refresh, "_write", fail)
    with pytest.raises(lake.LakeError, match=r"\.orders: .*memory.* SOFTCART_SPARK_MEMORY"):
        refresh_table(spark, loads.table, loads.files)


def test_a_whole_load_without_a_key_is_gathered_in_no_task(
    spark, loads: Loads, capsys: pytest.CaptureFixture[str]
) -> None:
    """UCI Online Retail has 541,909 rows without a key. One task of Spark got all of them."""
    loads.table = replace(loads.table, key=(), partition_column=None)
    loads.add((1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))
    schema = common_schema(loads.table, StructType(), loads.files)
    remaining(None, read(spark, loads.table, schema, loads.files)).explain()
    plan = capsys.readouterr().out
    assert "Scan parquet" in plan
    assert "Exchange" not in plan


def test_a_table_without_a_key_needs_little_memory(loads: Loads, tmp_path: Path) -> None:
    """The rows of other people's data set: 541,909 in a table without a key. In Java's smallest
    memory that Spark accepts, 600,000 rows are built, changed and read.
    """
    child = textwrap.dedent(
        """
        import sys
        from spark.lake import ChangeFile, LakeTable, refresh_table
        from spark.session import build_session, stop_session

        uri, *paths = sys.argv[1:]
        table = LakeTable(uri, "lake_shop", "orders")
        files = [ChangeFile(path, path, "2026-03-01") for path in paths]
        spark = build_session("child", master="local[2]")
        print(refresh_table(spark, table, files[:1]).rows, refresh_table(spark, table, files).rows)
        print(spark.sql("SELECT count(*) FROM lake_shop.orders WHERE id = 7").first()[0])
        stop_session(spark)
        """
    )
    folder = "changes/shop/orders/load_date=2026-03-01"
    (loads.root / folder).mkdir(parents=True)
    count = 600_000
    paths = [f"{folder}/{name}-0.parquet" for name in ("load", "log")]
    numbers = pa.array(range(count), pa.int64())
    # Texts that differ: equal ones would take no room.
    texts = [secrets.token_hex(60) for _ in range(count)]
    own = {
        "_deleted": pa.repeat(False, count),
        "_loaded_at": pa.repeat(pa.scalar(NOW, INSTANT), count),
        "_position": pa.repeat("p", count),
        "_load_id": pa.repeat("load", count),
        "_version": pa.repeat(pa.scalar(1, pa.int64()), count),
        "_operation": pa.nulls(count, pa.string()),
    }
    rows = pa.table({"id": numbers, "text": texts, **own})
    pq.write_table(rows, loads.root / paths[0], row_group_size=100_000)
    some = rows.slice(0, 1000)
    changed = {
        "_version": pa.repeat(pa.scalar(2, pa.int64()), 1000),
        "_operation": pa.repeat("delete", 1000),
        "_deleted": pa.repeat(True, 1000),
    }
    for name, values in changed.items():
        some = some.set_column(some.schema.get_field_index(name), name, values)
    pq.write_table(some, loads.root / paths[1])
    environment = os.environ | {
        "SOFTCART_HOME": str(tmp_path / "home"),
        "SOFTCART_SPARK_MEMORY": "512m",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", child, loads.table.lake_uri, *paths],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["600000", "599000", "0"]


def test_a_table_that_was_never_loaded_is_no_error(spark, loads: Loads) -> None:
    assert refresh_table(spark, loads.table, []).changed is False
    assert not spark.catalog.tableExists(f"{loads.table.database}.orders")


def test_the_database_of_an_older_installation_goes_when_its_tables_are_built_anew(
    spark, loads: Loads
) -> None:
    """It held the tables of all sources. What others keep in it stays."""
    old = replace(loads.table, database="lake")
    new = replace(loads.table, database="lake_shop")
    loads.add((1, JANUARY, "1.00"), (2, FEBRUARY, "2.00"))
    try:
        refresh_table(spark, old, loads.files)
        spark.sql("CREATE TABLE lake.theirs AS SELECT 1 AS n")
        assert has_predecessor(new)
        assert not has_predecessor(replace(new, database="lake_crm"))
        drop_predecessor(spark, new)  # the new table is not built yet
        assert spark.catalog.tableExists("lake.orders")

        refresh_table(spark, new, loads.files)
        drop_predecessor(spark, new)
        assert not has_predecessor(new)
        assert [row.tableName for row in spark.sql("SHOW TABLES IN lake").collect()] == ["theirs"]
        assert current(spark, new) == [
            (1, Decimal("1.00"), "2026-01"),
            (2, Decimal("2.00"), "2026-02"),
        ]
        assert all((loads.root / file.path).exists() for file in loads.files)

        spark.sql("DROP TABLE lake.theirs")
        refresh_table(spark, old, loads.files)
        drop_predecessor(spark, new)
        assert not spark.catalog.databaseExists("lake")
        assert not (loads.root / old.folder).exists()
        drop_predecessor(spark, new)
    finally:
        spark.sql("DROP DATABASE IF EXISTS lake CASCADE")
        spark.sql("DROP DATABASE IF EXISTS lake_shop CASCADE")
