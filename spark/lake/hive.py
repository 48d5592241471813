"""Publishing in Hive: points its tables at the folders that a state names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from spark import private
from spark.lake.schema import OF_CHANGES
from spark.lake.table import ChangeFile, LakeTable, State


def publish(
    spark: SparkSession,
    table: LakeTable,
    previous: State | None,
    state: State,
    files: Sequence[ChangeFile],
) -> State:
    """Make Hive point at a state, and mark the state as published.

    `previous`: the state that Hive points at now. Only the differences to `state` are applied. None
    if that state is unknown. The tables are then created again.
    """
    current, history = _name(table), _name(table, "_change_files")
    folders = _folders(table, state)
    before: dict[str, str] = {}
    # While the columns stay, it is enough to move the table. So readers never find it missing.
    if previous and previous.schema == state.schema:
        before = _folders(table, previous)
        if not table.partition_column:
            spark.sql(f"ALTER TABLE {current} SET LOCATION {folders['']}")
    else:
        columns = StructType.fromJson(state.schema)
        alive = StructType([field for field in columns if field.name not in OF_CHANGES])
        spark.sql(f"CREATE DATABASE IF NOT EXISTS `{table.database}`")
        root = folders.get("", quoted(table.hadoop_path(table.folder)))
        month = "_month STRING" if table.partition_column else None
        create_table(spark, current, alive, month, root)
        # All change files of a table are in one folder, with a folder inside for each date.
        changes = quoted(table.hadoop_path(files[0].path.rsplit("/", 2)[0]))
        create_table(spark, history, columns, "load_date DATE", changes)
    if table.partition_column:
        _point_months(spark, current, before, folders)
    # The partitions are whole folders, which may also hold files of killed loads. So the view
    # names the committed files.
    dates = {file.load_date for file in files}
    parts = " ".join(f"PARTITION (load_date = DATE '{date}')" for date in dates)
    spark.sql(f"ALTER TABLE {history} ADD IF NOT EXISTS {parts}")
    names = ", ".join(quoted(file.path.rpartition("/")[2]) for file in files)
    spark.sql(
        f"CREATE OR REPLACE VIEW {_name(table, '_changes')} AS "
        f"SELECT * FROM {history} WHERE _metadata.file_name IN ({names})"
    )
    published = replace(state, version=state.version + 1, published=True)
    table.write_state(published)
    return published


def _name(table: LakeTable, suffix: str = "") -> str:
    return f"`{table.database}`.`{table.name}{suffix}`"


def _folders(table: LakeTable, state: State) -> dict[str, str]:
    """The folder of each month as a SQL literal."""
    return {month: quoted(table.hadoop_path(p.folder)) for month, p in state.partitions.items()}


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


def create_table(
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


def quoted(text: str) -> str:
    """A SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
