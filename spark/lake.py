"""The lake's tables in Spark: jobs read them here, and Hive is told of them here.

`softcart_assets.lake` makes the tables, without Spark. For a table `orders` Hive has

- `lake_<source>.orders`: the current rows, by month if a partition column is declared.
- `lake_<source>.orders_changes`: every row version that was ever loaded, by `load_date`. It is a
  view of `lake_<source>.orders_change_files`, the whole folder, that reads the merged files only.

Jobs do not need Hive for that: they read the files that the state of a table names. So they see the
table as of one refresh, whatever Hive knows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, replace

from pyarrow import fs
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructType

from softcart_assets.lake import (
    OF_CHANGES,
    LakeTable,
    Partition,
    State,
    commit,
    new_folder,
    row_count,
)
from spark import private

_CONTENT = "softcart.content"
"""The property of a table in Hive that says which content of the lake's table Hive points at."""


def read(spark: SparkSession, table: LakeTable) -> DataFrame | None:
    """The current rows of a table. None if it was never refreshed.

    The column `_month` of a table with months is last, as in Hive.
    """
    state = table.state()
    return None if state is None else read_state(spark, table, state)


def read_state(
    spark: SparkSession, table: LakeTable, state: State, months: Collection[str] | None = None
) -> DataFrame:
    """The rows that a table has in a state. `months`: only those of these months, without a look
    at the others.
    """
    columns = _columns(state)
    if state.layout["partition_column"]:
        columns = columns.add("_month", StringType())
    folders = [
        table.hadoop_path(partition.folder)
        for month, partition in state.partitions.items()
        if months is None or month in months
    ]
    if not folders:
        return spark.createDataFrame([], columns)
    # Spark finds the months between this path and those of the folders.
    options = private.LITERAL_PATHS | {"basePath": table.hadoop_path(table.folder)}
    return spark.read.schema(columns).options(**options).parquet(*folders)


def _columns(state: State) -> StructType:
    """The columns of the current rows."""
    fields = StructType.fromJson(state.schema).fields
    return StructType([field for field in fields if field.name not in OF_CHANGES])


def write_folder(table: LakeTable, rows: DataFrame) -> Partition:
    """Write rows to a new folder of a table. They count when a state names the folder."""
    folder = new_folder(table)
    rows.write.parquet(table.hadoop_path(folder))
    return Partition(folder, row_count(table, folder))


def replace_table(table: LakeTable, rows: DataFrame) -> int:
    """Make these rows the whole content of a table without months. Returns their number."""
    return commit(table, rows.schema.jsonValue(), {"": write_folder(table, rows)}, ()).rows


def register(spark: SparkSession, lake_uri: str) -> None:
    """Tell the session's Hive of all tables of a lake, as they are now.

    A table costs a look into Hive, and some seconds if it was refreshed since the last time. The
    embedded metastore serves one session only, so every session tells its own.
    """
    for table in _tables(lake_uri):
        state = table.state()
        # A table that an older release built is built anew by its next refresh.
        if state is None or state.layout != table.layout:
            continue
        if _registered(spark, table) != _digest(state):
            _register(spark, table, state, None)


def publish(spark: Callable[[], SparkSession], table: LakeTable, previous: State | None) -> None:
    """Tell a metastore server of a table that was refreshed, and note it in the table's state.

    `spark` returns the session. It is called only if there is something to tell. `previous`: the
    state before the refresh. If the server knows it, only the differences are applied, so that
    readers never find the table missing. Only the process that refreshes the table may call this.
    """
    state = table.state()
    if state is not None and not state.published:
        known = previous if previous and previous.published else None
        _register(spark(), table, state, known)
        table.write_state(replace(state, version=state.version + 1, published=True))


def _tables(lake_uri: str) -> Iterator[LakeTable]:
    """The tables of all sources in a lake, and the aggregates."""
    root = LakeTable(lake_uri, "", "").store
    databases = root.get_file_info(fs.FileSelector("warehouse", allow_not_found=True))
    for database in databases:
        if not database.base_name.startswith("lake_") and database.base_name != "aggregates.db":
            continue
        for folder in root.get_file_info(fs.FileSelector(database.path)):
            name = database.base_name.removesuffix(".db")
            table = LakeTable(lake_uri, name, folder.base_name)
            if state := table.state():
                key, column = state.layout["key"], state.layout["partition_column"]
                yield replace(table, key=tuple(key), partition_column=column)


def _digest(state: State) -> str:
    """A digest of everything that Hive is told of a table."""
    told = [state.schema, state.files, {m: asdict(p) for m, p in state.partitions.items()}]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _registered(spark: SparkSession, table: LakeTable) -> str | None:
    """The digest of the content that Hive points at. None if it does not know the table."""
    if not spark.catalog.tableExists(_name(table)):
        return None
    properties = spark.sql(f"SHOW TBLPROPERTIES {_name(table)}").collect()
    return dict(map(tuple, properties)).get(_CONTENT)


def _register(spark: SparkSession, table: LakeTable, state: State, previous: State | None) -> None:
    """Make Hive point at a state. `previous`: the state that it points at, if that is known."""
    current = _name(table)
    folders = _folders(table, state)
    before: dict[str, str] | None = None
    # While the columns stay, it is enough to move the table. So readers never find it missing.
    if previous and previous.schema == state.schema:
        before = _folders(table, previous)
        if not table.partition_column:
            spark.sql(f"ALTER TABLE {current} SET LOCATION {folders['']}")
    else:
        spark.sql(f"CREATE DATABASE IF NOT EXISTS `{table.database}`")
        root = folders.get("", _quoted(table.hadoop_path(table.folder)))
        month = "_month STRING" if table.partition_column else None
        _create(spark, current, _columns(state), month, root)
    if table.partition_column:
        _point_months(spark, current, before or {}, folders)
    # An aggregate is made of no change files.
    if state.files:
        _register_history(spark, table, state, is_new=before is None)
    # Last, so that a session that was killed before is followed by one that starts again.
    spark.sql(f"ALTER TABLE {current} SET TBLPROPERTIES ('{_CONTENT}' = '{_digest(state)}')")


def _register_history(spark: SparkSession, table: LakeTable, state: State, is_new: bool) -> None:
    """Make Hive point at the change files of a state. `is_new`: the columns may be others."""
    history = _name(table, "_change_files")
    if is_new:
        # All change files of a table are in one folder, with a folder inside for each date.
        changes = _quoted(table.hadoop_path(state.files[0].rsplit("/", 2)[0]))
        columns = StructType.fromJson(state.schema)
        _create(spark, history, columns, "load_date DATE", changes)
    # The partitions are whole folders, which may also hold files of killed loads. So the view
    # names the merged files.
    dates = {path.rsplit("/", 2)[1].removeprefix("load_date=") for path in state.files}
    parts = " ".join(f"PARTITION (load_date = DATE '{date}')" for date in dates)
    spark.sql(f"ALTER TABLE {history} ADD IF NOT EXISTS {parts}")
    names = ", ".join(_quoted(path.rpartition("/")[2]) for path in state.files)
    spark.sql(
        f"CREATE OR REPLACE VIEW {_name(table, '_changes')} AS "
        f"SELECT * FROM {history} WHERE _metadata.file_name IN ({names})"
    )


def _name(table: LakeTable, suffix: str = "") -> str:
    return f"`{table.database}`.`{table.name}{suffix}`"


def _folders(table: LakeTable, state: State) -> dict[str, str]:
    """The folder of each month as a SQL literal."""
    return {month: _quoted(table.hadoop_path(p.folder)) for month, p in state.partitions.items()}


def _point_months(
    spark: SparkSession, table: str, before: Mapping[str, str], folders: Mapping[str, str]
) -> None:
    """Drop, move and add partitions so that the table has exactly these months and folders."""
    for month in before.keys() - folders.keys():
        spark.sql(f"ALTER TABLE {table} DROP PARTITION (_month = '{month}')")
    for month in before.keys() & folders.keys():
        if before[month] != folders[month]:
            partition = f"PARTITION (_month = '{month}')"
            spark.sql(f"ALTER TABLE {table} {partition} SET LOCATION {folders[month]}")
    if added := folders.keys() - before.keys():
        parts = (f"PARTITION (_month = '{month}') LOCATION {folders[month]}" for month in added)
        spark.sql(f"ALTER TABLE {table} ADD {' '.join(parts)}")


def _create(
    spark: SparkSession, name: str, columns: StructType, partition: str | None, location: str
) -> None:
    """Create an external table, or create it again. Dropping an external table keeps its files."""
    definitions = ", ".join([columns.toDDL(), *([partition] if partition else [])])
    partitioned = f"PARTITIONED BY ({partition.split()[0]})" if partition else ""
    spark.sql(f"DROP TABLE IF EXISTS {name}")
    options = ", ".join(f"'{key}' '{value}'" for key, value in private.LITERAL_PATHS.items())
    spark.sql(
        f"CREATE TABLE {name} ({definitions}) USING parquet OPTIONS ({options}) {partitioned} "
        f"LOCATION {location}"
    )


def _quoted(text: str) -> str:
    """A SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
