"""Refreshes a table: merges new change files, writes the rows, and points the table at them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pyarrow.parquet as pq
from py4j.protocol import Py4JNetworkError
from pyarrow import fs
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from spark.lake.hive import create_table, publish, quoted
from spark.lake.merge import alive, latest_versions, merged, read, remaining
from spark.lake.schema import common_schema, source_names
from spark.lake.table import ChangeFile, LakeError, LakeTable, Partition, State


@dataclass(frozen=True)
class RefreshResult:
    """What a refresh did.

    `rows`: rows of the current table.
    `partitions_rewritten`: months, or 1 for a table that is not partitioned.
    `applied_loads`: loads merged now.
    `changed`: whether there was anything to do.
    """

    rows: int
    partitions_rewritten: int
    applied_loads: tuple[str, ...]
    changed: bool


def pending_files(table: LakeTable, files: Iterable[ChangeFile]) -> list[ChangeFile]:
    """The committed files that a refresh would read, empty if nothing is new. Needs no Spark."""
    files = list(files)
    state = table.state()
    if state is None or not state.published or _must_rebuild(table, state, files):
        return files
    return _unread(state, files)


def refresh_table(
    spark: SparkSession, table: LakeTable, files: Sequence[ChangeFile]
) -> RefreshResult:
    """Merge the committed change files that the table does not have yet.

    `files`: all committed change files of the table, old and new. If a file in the table was struck
    off the list, or if the key or the partition column changed, the table is built again from all
    of them.

    New files overwrite rows of older ones. So a load must be listed before the next one begins.
    Raises `LakeError` if no type holds all values of a column without loss, or if Spark runs out of
    memory.
    """
    state = table.state()
    if state is None or _must_rebuild(table, state, files):
        return rebuild_table(spark, table, files)
    if not state.published:
        state = publish(spark, table, None, state, files)
    pending = _unread(state, files)
    if not pending:
        return RefreshResult(state.rows, 0, (), changed=False)
    schema = common_schema(table, StructType.fromJson(state.schema), pending)
    merging = _as_in_lake(table, schema)
    changes = read(spark, merging, schema, pending)
    current = spark.table(f"`{table.database}`.`{table.name}`")
    with _memory_explained(table):
        if table.key:
            # Kept, because the merge reads these rows several times. On disk, because there may be
            # as many as the table has.
            latest = latest_versions(merging, changes).persist(StorageLevel.DISK_ONLY)
            try:
                rows, touched = merged(merging, current, latest)
                written = _write(table, rows)
            finally:
                latest.unpersist()
        else:
            touched = set(state.partitions)
            written = _write(table, remaining(current, changes))
    untouched = {
        month: partition for month, partition in state.partitions.items() if month not in touched
    }
    return _commit(
        spark,
        table,
        state,
        schema,
        untouched | written,
        files,
        pending,
        len(touched | written.keys()),
    )


def rebuild_table(
    spark: SparkSession, table: LakeTable, files: Sequence[ChangeFile]
) -> RefreshResult:
    """Replay the whole history into new current rows. The old rows stay until these are complete.

    Without any file, nothing was ever loaded. Then the columns are unknown, and no table is made.
    """
    if not files:
        return RefreshResult(0, 0, (), changed=False)
    schema = common_schema(table, StructType(), files)
    merging = _as_in_lake(table, schema)
    changes = read(spark, merging, schema, files)
    with _memory_explained(table):
        rows = alive(latest_versions(merging, changes)) if table.key else remaining(None, changes)
        written = _write(table, rows)
    return _commit(spark, table, None, schema, written, files, files, len(written))


def replace_table(spark: SparkSession, table: LakeTable, rows: DataFrame) -> int:
    """Make these rows the whole content of a table without partitions. Returns their number."""
    written = _write(table, rows)[""]
    spark.sql(f"CREATE DATABASE IF NOT EXISTS `{table.database}`")
    location = quoted(table.hadoop_path(written.folder))
    create_table(spark, f"`{table.database}`.`{table.name}`", rows.schema, None, location)
    _delete_unnamed(table, {written.folder})
    return written.rows


def _must_rebuild(table: LakeTable, state: State, files: Iterable[ChangeFile]) -> bool:
    # The merged rows do not show what a file that was struck off has overwritten.
    return state.layout != table.layout or not {file.path for file in files}.issuperset(state.files)


def _unread(state: State, files: Iterable[ChangeFile]) -> list[ChangeFile]:
    held = set(state.files)
    return [file for file in files if file.path not in held]


def _as_in_lake(table: LakeTable, schema: StructType) -> LakeTable:
    """The table with the lake's names of its key and partition column, see `names`."""
    names = source_names(schema)
    column = table.partition_column
    return replace(
        table,
        key=tuple(names.get(name, name) for name in table.key),
        partition_column=column and names.get(column, column),
    )


@contextmanager
def _memory_explained(table: LakeTable) -> Iterator[None]:
    """Say which table was too big for Spark's memory, and which setting helps."""
    try:
        yield
    except Exception as error:
        # Spark's own error is a Java class's name in a long text. If Java itself runs out of
        # memory, its process ends, and only the connection to it fails.
        is_gone = isinstance(error, Py4JNetworkError | ConnectionError)
        if not is_gone and "OutOfMemory" not in str(error):
            raise
        raise LakeError(
            f"{table.full_name}: Spark ran out of memory while it refreshed the table, or its "
            "Java process was ended. Nothing was changed. Give it more memory with "
            "SOFTCART_SPARK_MEMORY (2g by default), then refresh again."
        ) from error


def _write(table: LakeTable, rows: DataFrame) -> dict[str, Partition]:
    """Write rows to a new folder. Returns its partitions by month ('' if not partitioned)."""
    folder = f"{table.folder}/{time.time_ns()}-{uuid.uuid4().hex[:8]}"
    if table.partition_column:
        # Without this, each task would write a file of its own for each month.
        rows.repartition("_month").write.partitionBy("_month").parquet(table.hadoop_path(folder))
    else:
        rows.write.parquet(table.hadoop_path(folder))
    written: dict[str, Partition] = {}
    for info in table.store.get_file_info(fs.FileSelector(folder, recursive=True)):
        if info.extension == "parquet":
            inside = info.path.rpartition("/")[0]
            month = inside.partition("_month=")[2]
            with table.store.open_input_file(info.path) as file:
                count = pq.read_metadata(file).num_rows
            written[month] = Partition(
                inside, count + (written[month].rows if month in written else 0)
            )
    return written


def _commit(
    spark: SparkSession,
    table: LakeTable,
    previous: State | None,
    schema: StructType,
    partitions: dict[str, Partition],
    files: Sequence[ChangeFile],
    pending: Iterable[ChangeFile],
    rewritten: int,
) -> RefreshResult:
    """Make the written partitions those of the table, and delete old folders.

    The state comes first and Hive second. If a kill comes in between, the next refresh sees a state
    that is not published, and points Hive at it. The folders of the last state stay, for queries
    that still read them.
    """
    last = table.state()
    state = State(
        version=last.version + 1 if last else 1,
        layout=table.layout,
        schema=schema.jsonValue(),
        files=tuple(file.path for file in files),
        partitions=partitions,
        published=False,
    )
    table.write_state(state)
    state = publish(spark, table, previous, state, files)
    _delete_unnamed(table, {p.folder for s in (last, state) if s for p in s.partitions.values()})
    loads = tuple(dict.fromkeys(file.load_id for file in pending))
    return RefreshResult(state.rows, rewritten, loads, changed=True)


def _delete_unnamed(table: LakeTable, named: set[str]) -> None:
    """Delete all folders but the named ones: those of replaced months and killed refreshes."""
    for version in table.store.get_file_info(fs.FileSelector(table.folder)):
        if version.base_name == "_state" or version.path in named:
            continue
        months = table.store.get_file_info(fs.FileSelector(version.path))
        unnamed = [month for month in months if month.path not in named]
        if len(unnamed) == len(months):
            table.store.delete_dir(version.path)
            continue
        for month in unnamed:
            if month.type == fs.FileType.Directory:
                table.store.delete_dir(month.path)
