"""The lake's tables: current rows and history in Hive, made from the change files that ingestion committed.

Here belong merging, replay and compaction of change files. What the rows mean belongs to `spark.jobs`. Which files
count is decided by ingestion, whose committed list every function here is given: a file that lies in the folder but is
not on the list (of a load that was killed) is never read.

For a table `orders` with the change files `<lake>/changes/<source>/orders/load_date=…/*.parquet` there are

- `lake.orders`: the current rows, without deleted ones, by month (`_month`, 'YYYY-MM') if a partition column is
  declared;
- `lake.orders_changes`: every row version that was ever loaded, by `load_date`: a view that reads the committed files
  only, over `lake.orders_change_files`, the whole folder.

Data files are never changed. A refresh writes the months that it touches under a new name, then writes a new state
file (which change files are in, which folder holds which month), then points Hive there. Merging the same changes again
gives the same rows, and Hive is pointed anew if the state says that this was not finished: a refresh that is killed
anywhere is repaired by the next one. What a refresh replaced stays until the one after it, for queries that still read
it. One process at a time may refresh a table.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

_OF_CHANGES = ("_deleted", "_operation", "_committed_at")
"""Columns that say what a change was; the current rows do not have them."""
COMPACT_FROM_FILES = 24
"""So many change files of one date make that date due for compaction."""


class LakeError(RuntimeError):
    """A lake table cannot be refreshed; the message names table and column and says what to do."""


@dataclass(frozen=True)
class ChangeFile:
    """A committed change file: its path under the lake's root, the load that wrote it, and its date (YYYY-MM-DD)."""

    path: str
    load_id: str
    load_date: str


@dataclass(frozen=True)
class RefreshResult:
    """What a refresh did.

    `rows`: rows of the current table; `partitions_rewritten`: months, or 1 for an unpartitioned table;
    `applied_loads`: loads merged now; `changed`: whether there was anything to do.
    """

    rows: int
    partitions_rewritten: int
    applied_loads: tuple[str, ...]
    changed: bool


@dataclass(frozen=True)
class Partition:
    """The folder that holds a month's rows, under the lake's root, and their number."""

    folder: str
    rows: int


@dataclass(frozen=True)
class State:
    """What a table consists of; one JSON file per version.

    `layout`: key and partition column that it was built with. `partitions`: by month, '' if unpartitioned.
    `published`: Hive points at these partitions.
    """

    version: int
    layout: dict[str, Any]
    schema: dict[str, Any]
    files: tuple[str, ...]
    partitions: dict[str, Partition]
    published: bool

    @property
    def rows(self) -> int:
        """Rows of the current table."""
        return sum(partition.rows for partition in self.partitions.values())


@dataclass(frozen=True)
class LakeTable:
    """A table of the lake.

    `key`: the columns that identify a row; without any, the current ones are the rows of the latest load of the whole table, and what
    logged changes made of them since.
    `partition_column`: the timestamp by whose month (UTC) the current rows are partitioned, or None.
    """

    lake_uri: str
    name: str
    key: tuple[str, ...]
    partition_column: str | None = None
    database: str = "lake"

    @property
    def folder(self) -> str:
        """The table's folder under the lake's root."""
        return f"warehouse/{self.database}.db/{self.name}"

    @property
    def layout(self) -> dict[str, Any]:
        """What cannot change without building the table anew."""
        return {"key": list(self.key), "partition_column": self.partition_column}

    @cached_property
    def store(self) -> fs.FileSystem:
        """The lake's root as a file system of Arrow's."""
        return fs.SubTreeFileSystem(
            *reversed(fs.FileSystem.from_uri(self.lake_uri.replace("s3a://", "s3://", 1)))
        )

    def hadoop_path(self, path: str) -> str:
        """A path under the lake's root as Spark wants it: Hadoop takes text literally where a URI has %20."""
        return f"{unquote(self.lake_uri).rstrip('/')}/{path}"

    def state(self) -> State | None:
        """The last state, None if there is none; reads one small file and needs no Spark."""
        found = self.store.get_file_info(
            fs.FileSelector(f"{self.folder}/_state", allow_not_found=True)
        )
        versions = [info.path for info in found if info.extension == "json"]
        if not versions:
            return None
        with self.store.open_input_stream(max(versions)) as stream:
            content = json.loads(stream.read())
        partitions = {
            month: Partition(**partition) for month, partition in content["partitions"].items()
        }
        return State(**content | {"files": tuple(content["files"]), "partitions": partitions})

    def write_state(self, state: State) -> None:
        """Write a state under a temporary name, then move it, so that it is there whole or not at all."""
        folder = f"{self.folder}/_state"
        self.store.create_dir(folder)
        temporary, final = f"{folder}/{uuid.uuid4().hex}.tmp", f"{folder}/{state.version:010d}.json"
        with self.store.open_output_stream(temporary) as stream:
            stream.write(json.dumps(asdict(state)).encode())
        self.store.move(temporary, final)
        for info in self.store.get_file_info(fs.FileSelector(folder)):
            if info.path != final:
                self.store.delete_file(info.path)


def pending_files(table: LakeTable, files: Iterable[ChangeFile]) -> list[ChangeFile]:
    """The committed files that a refresh would read; empty if it had nothing to do. Fast, and needs no Spark."""
    files = list(files)
    state = table.state()
    if state is None or not state.published or _must_rebuild(table, state, files):
        return files
    return _unread(state, files)


def refresh_table(
    spark: SparkSession, table: LakeTable, files: Sequence[ChangeFile]
) -> RefreshResult:
    """Bring the table up to all committed change files by merging those that it does not hold yet.

    `files`: all committed change files of the table, old and new. It is built anew from them if one that it holds was
    struck off the list, or if its key or partition column were declared differently. A load has to be listed before
    the next one begins: whatever is new here overwrites what was there. Raises `LakeError` if a column's types
    cannot be brought together without loss.
    """
    state = table.state()
    if state is None or _must_rebuild(table, state, files):
        return rebuild_table(spark, table, files)
    if not state.published:
        state = _publish(spark, table, None, state, files)
    pending = _unread(state, files)
    if not pending:
        return RefreshResult(state.rows, 0, (), changed=False)
    schema = _common_schema(table, StructType.fromJson(state.schema), pending)
    latest = _latest(table, _read(spark, table, schema, pending)).persist()
    try:
        current = spark.table(f"`{table.database}`.`{table.name}`")
        if table.key:
            rows, touched = _merged(table, current, latest, schema)
        else:
            rows, touched = _remaining(current, latest), set(state.partitions)
        written = _write(table, rows)
    finally:
        latest.unpersist()
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
    """Replay the whole history into new current rows; the old ones stay in place until these are complete.

    Without any file (nothing was ever loaded) there are no columns either, and no table is made.
    """
    if not files:
        return RefreshResult(0, 0, (), changed=False)
    schema = _common_schema(table, StructType(), files)
    latest = _latest(table, _read(spark, table, schema, files))
    written = _write(table, _alive(latest) if table.key else _remaining(None, latest))
    return _commit(spark, table, None, schema, written, files, files, len(written))


def replace_table(spark: SparkSession, table: LakeTable, rows: DataFrame) -> int:
    """Make rows the whole content of an unpartitioned table that has no change files; returns their number."""
    written = _write(table, rows)[""]
    spark.sql(f"CREATE DATABASE IF NOT EXISTS `{table.database}`")
    location = _quoted(table.hadoop_path(written.folder))
    _create_table(spark, f"`{table.database}`.`{table.name}`", rows.schema, None, location)
    _delete_unnamed(table, {written.folder})
    return written.rows


def compact(
    table: LakeTable, files: Iterable[ChangeFile]
) -> tuple[list[ChangeFile], list[ChangeFile]]:
    """Write the many change files of a date as one; returns (files to list as committed, files to strike off).

    A date is due when it has `COMPACT_FROM_FILES` files that the table holds. Every row version is kept, in order.
    Needs no Spark, and one batch of memory. The caller exchanges the files in its list, in one transaction, and then
    calls `discard`; if it is killed before, the new file is one that nobody reads.
    """
    state = table.state()
    held = set(state.files if state else ())
    dates: dict[str, list[ChangeFile]] = {}
    for file in files:
        if file.path in held:
            dates.setdefault(file.load_date, []).append(file)
    due = {date: old for date, old in dates.items() if len(old) >= COMPACT_FROM_FILES}
    written = []
    for date, old in due.items():
        load_id = f"compacted-{uuid.uuid4().hex}"
        new = ChangeFile(f"{old[0].path.rpartition('/')[0]}/{load_id}-0.parquet", load_id, date)
        # The files of one load in the order that it wrote them: names end in a number that grows.
        paths = [
            file.path
            for file in sorted(old, key=lambda file: (file.load_id, len(file.path), file.path))
        ]
        schema = to_arrow_schema(_common_schema(table, StructType(), old), timezone="UTC")
        with pq.ParquetWriter(
            new.path, schema, filesystem=table.store, compression="zstd"
        ) as writer:
            for batch in ds.dataset(paths, schema=schema, filesystem=table.store).to_batches():
                writer.write_batch(batch)
        written.append(new)
    if state and written:
        files_held = (*state.files, *(file.path for file in written))
        table.write_state(replace(state, version=state.version + 1, files=files_held))
    return written, [file for old in due.values() for file in old]


def discard(table: LakeTable, files: Iterable[ChangeFile]) -> None:
    """Delete change files that were struck off the list of committed files after `compact`."""
    gone = {file.path for file in files}
    state = table.state()
    if state:
        kept = tuple(path for path in state.files if path not in gone)
        table.write_state(replace(state, version=state.version + 1, files=kept))
    for path in gone:
        table.store.delete_file(path)


def _must_rebuild(table: LakeTable, state: State, files: Iterable[ChangeFile]) -> bool:
    return state.layout != table.layout or not {file.path for file in files}.issuperset(state.files)


def _unread(state: State, files: Iterable[ChangeFile]) -> list[ChangeFile]:
    held = set(state.files)
    return [file for file in files if file.path not in held]


def _read(
    spark: SparkSession, table: LakeTable, schema: StructType, files: Iterable[ChangeFile]
) -> DataFrame:
    """The row versions of change files, with each one's place in its load."""
    rows = spark.read.schema(schema).parquet(*(table.hadoop_path(file.path) for file in files))
    return rows.select(
        "*", F.col("_metadata.file_name").alias("_file"), F.col("_metadata.row_index").alias("_row")
    )


def _latest(table: LakeTable, changes: DataFrame) -> DataFrame:
    """The last version of every row, deletions included, with its month."""
    if table.key:
        # By load, then by the load's files, whose names end in a number that grows, then by place.
        order = (F.col("_loaded_at"), F.length("_file"), F.col("_file"), F.col("_row"))
        versions = Window.partitionBy(*table.key).orderBy(*(column.desc() for column in order))
        changes = (
            changes.withColumn("_rank", F.row_number().over(versions))
            .where("_rank = 1")
            .drop("_rank")
        )
    else:
        # Of loads of the whole table, which name no operation, the last one; of changes those that came after it.
        loads = F.when(_is_load(changes), F.col("_loaded_at"))
        changes = changes.withColumn("_last", F.max(loads).over(Window.partitionBy()))
        counts = F.col("_last").isNull() | (F.col("_loaded_at") == F.col("_last"))
        changes = changes.where(
            counts | (~_is_load(changes) & (F.col("_loaded_at") > F.col("_last")))
        ).drop("_last")
    if table.partition_column:
        month = F.date_format(table.partition_column, "yyyy-MM")
        changes = changes.withColumn("_month", F.coalesce(month, F.lit("unknown")))
    return changes.drop("_file", "_row")


def _is_load(changes: DataFrame) -> Column:
    """Whether a row comes from a load of the whole table, not from the source's log."""
    return F.col("_operation").isNull() if "_operation" in changes.columns else F.lit(True)


def _alive(latest: DataFrame) -> DataFrame:
    return latest.where(~F.col("_deleted")).drop(*_OF_CHANGES)


def _remaining(current: DataFrame | None, latest: DataFrame) -> DataFrame:
    """The rows of a table without a key: what `latest` loads anew, or is there already, and then what its changes add and take."""
    if "_operation" not in latest.columns:
        return _alive(latest)
    loads = latest.where(_is_load(latest))
    rows = _alive(loads)
    if current is not None and loads.isEmpty():
        had = set(current.columns)
        rows = current.select(
            *(
                (F.col(f.name) if f.name in had else F.lit(None)).cast(f.dataType).alias(f.name)
                for f in rows.schema
            )
        )
    changes = latest.where(~_is_load(latest))
    signed = rows.withColumn("_sign", F.lit(1)).unionByName(
        changes.withColumn("_sign", F.when(F.col("_deleted"), -1).otherwise(1)).drop(*_OF_CHANGES)
    )
    own = ("_loaded_at", "_position", "_load_id")
    names = [name for name in rows.columns if name not in own]
    counted = signed.groupBy(*names).agg(
        F.sum("_sign").alias("_count"), *(F.max(name).alias(name) for name in own)
    )
    copies = counted.where("_count > 0").withColumn(
        "_copy", F.explode(F.sequence(F.lit(1), F.col("_count").cast("int")))
    )
    return copies.select(*rows.columns)


def _merged(
    table: LakeTable, current: DataFrame, latest: DataFrame, schema: StructType
) -> tuple[DataFrame, set[str]]:
    """The new rows of the months that `latest` adds to or takes from, and these months ('' if unpartitioned).

    A row whose date was corrected moves: its old month is among them.
    """
    key = list(table.key)
    had = set(current.columns)
    columns = [
        (F.col(field.name) if field.name in had else F.lit(None))
        .cast(field.dataType)
        .alias(field.name)
        for field in schema
        if field.name not in _OF_CHANGES
    ]
    touched = {""}
    if table.partition_column:
        current = current.select(*columns, "_month")
        losing = current.join(latest.select(key), key, "left_semi").select("_month")
        gaining = _alive(latest).select("_month")
        touched = {row["_month"] for row in losing.union(gaining).distinct().collect()}
        current = current.where(F.col("_month").isin(*touched))
    else:
        current = current.select(*columns)
    return current.join(latest.select(key), key, "left_anti").unionByName(_alive(latest)), touched


def _write(table: LakeTable, rows: DataFrame) -> dict[str, Partition]:
    """Write rows to a new folder; returns them by month ('' if unpartitioned)."""
    folder = f"{table.folder}/{time.time_ns()}-{uuid.uuid4().hex[:8]}"
    if table.partition_column:
        # A month's rows come together first: one file per month, not one per month and task.
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


def _common_schema(table: LakeTable, known: StructType, files: Iterable[ChangeFile]) -> StructType:
    """The columns of `known` and of all files, each of a type that holds all its values exactly."""
    types = {field.name: field.type for field in to_arrow_schema(known, timezone="UTC")}
    for file in files:
        with table.store.open_input_file(file.path) as opened:
            schema = pq.read_schema(opened)
        for field in schema:
            types[field.name] = _common_type(
                table, field.name, types.get(field.name, field.type), field.type
            )
    return from_arrow_schema(pa.schema(list(types.items())))


def _common_type(
    table: LakeTable, column: str, one: pa.DataType, other: pa.DataType
) -> pa.DataType:
    if one == other:
        return one
    try:
        schemas = [pa.schema([(column, one)]), pa.schema([(column, other)])]
        both = pa.unify_schemas(schemas, promote_options="permissive").field(column).type
    except pa.ArrowException:
        both = None
    floats = {pa.types.is_floating(one), pa.types.is_floating(other)}
    if both is None or pa.types.is_decimal256(both) or len(floats) == 2:
        raise LakeError(
            f"{table.database}.{table.name}: column {column!r} was loaded as {one} and as {other}, and no type holds "
            "the values of both exactly. Give the changed column another name at the source; or, to keep only what "
            "was loaded since the change, delete the files of before from ingestion.lake_files. Then refresh again."
        )
    return both


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
    """Make written partitions the table's: in its state, then in Hive; then delete what the state before last held."""
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
    state = _publish(spark, table, previous, state, files)
    _delete_unnamed(table, {p.folder for s in (last, state) if s for p in s.partitions.values()})
    loads = tuple(dict.fromkeys(file.load_id for file in pending))
    return RefreshResult(state.rows, rewritten, loads, changed=True)


def _publish(
    spark: SparkSession,
    table: LakeTable,
    previous: State | None,
    state: State,
    files: Sequence[ChangeFile],
) -> State:
    """Point Hive at a state: by its difference to the one that Hive points at, or all anew if that is not known."""
    current, history = (
        f"`{table.database}`.`{table.name}`",
        f"`{table.database}`.`{table.name}_change_files`",
    )
    folders = {month: _quoted(table.hadoop_path(p.folder)) for month, p in state.partitions.items()}
    before: dict[str, str] = {}
    if previous and previous.schema == state.schema:
        before = {
            month: _quoted(table.hadoop_path(p.folder)) for month, p in previous.partitions.items()
        }
        if not table.partition_column:
            spark.sql(f"ALTER TABLE {current} SET LOCATION {folders['']}")
    else:
        columns = StructType.fromJson(state.schema)
        alive = StructType([field for field in columns if field.name not in _OF_CHANGES])
        spark.sql(f"CREATE DATABASE IF NOT EXISTS `{table.database}`")
        root = folders.get("", _quoted(table.hadoop_path(table.folder)))
        _create_table(
            spark, current, alive, "_month STRING" if table.partition_column else None, root
        )
        changes = _quoted(table.hadoop_path(files[0].path.rsplit("/", 2)[0]))
        _create_table(spark, history, columns, "load_date DATE", changes)
    if table.partition_column:
        for month in before.keys() - folders.keys():
            spark.sql(f"ALTER TABLE {current} DROP PARTITION (_month = '{month}')")
        for month in before.keys() & folders.keys():
            if before[month] != folders[month]:
                spark.sql(
                    f"ALTER TABLE {current} PARTITION (_month = '{month}') SET LOCATION {folders[month]}"
                )
        if added := folders.keys() - before.keys():
            parts = " ".join(
                f"PARTITION (_month = '{month}') LOCATION {folders[month]}" for month in added
            )
            spark.sql(f"ALTER TABLE {current} ADD {parts}")
    dates = " ".join(
        f"PARTITION (load_date = DATE '{date}')" for date in {file.load_date for file in files}
    )
    spark.sql(f"ALTER TABLE {history} ADD IF NOT EXISTS {dates}")
    names = ", ".join(_quoted(file.path.rpartition("/")[2]) for file in files)
    spark.sql(
        f"CREATE OR REPLACE VIEW `{table.database}`.`{table.name}_changes` AS "
        f"SELECT * FROM {history} WHERE _metadata.file_name IN ({names})"
    )
    published = replace(state, version=state.version + 1, published=True)
    table.write_state(published)
    return published


def _create_table(
    spark: SparkSession, name: str, columns: StructType, partition: str | None, location: str
) -> None:
    """(Re)create an external table; dropping one leaves its files alone."""
    definitions = ", ".join([columns.toDDL(), *([partition] if partition else [])])
    partitioned = f"PARTITIONED BY ({partition.split()[0]})" if partition else ""
    spark.sql(f"DROP TABLE IF EXISTS {name}")
    spark.sql(
        f"CREATE TABLE {name} ({definitions}) USING parquet {partitioned} LOCATION {location}"
    )


def _delete_unnamed(table: LakeTable, named: set[str]) -> None:
    """Delete the folders of replaced months and of killed refreshes, that is all but those named."""
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


def _quoted(text: str) -> str:
    """A SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
