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
)

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
}


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
    ) -> None:
        """One load; a version is a tuple of the columns' values, with a last True if it is a
        deletion.
        """
        self._loads += 1
        load_id = f"load{self._loads:03}"
        loaded_at = NOW + timedelta(minutes=self._loads)
        folder = f"changes/shop/orders/load_date={loaded_at:%Y-%m-%d}"
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        width = len(types)
        rows = [(*v[:width], v[width:] == (True,), loaded_at, "p", load_id) for v in versions]
        size = -(-len(rows) // parts)
        for part in range(parts):
            columns = zip(*rows[part * size : (part + 1) * size], strict=True)
            arrays = [
                _array(values, type_)
                for values, type_ in zip(columns, (types | OWN).values(), strict=True)
            ]
            path = f"{folder}/{load_id}-{part}.parquet"
            pq.write_table(pa.table(arrays, names=list(types | OWN)), self.root / path)
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
            assert compact(loads.table, loads.files) == ([], [])
    refresh_table(spark, loads.table, loads.files)
    before = current(spark, loads.table)
    written, struck_off = compact(loads.table, loads.files)
    assert (len(written), struck_off) == (1, loads.files)
    # Killed here, before the list is exchanged: the new file is an orphan.
    assert pending_files(loads.table, loads.files) == loads.files
    refresh_table(spark, loads.table, loads.files)
    assert current(spark, loads.table) == before
    assert (
        spark.table(f"{loads.table.database}.orders_changes").count() == 2 * lake.COMPACT_FROM_FILES
    )

    written, struck_off = compact(loads.table, loads.files)
    discard(loads.table, struck_off)
    assert not any((loads.root / file.path).exists() for file in struck_off)
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
