"""The lake's tables in Spark: jobs read them here, and write aggregates beside them.

`softcart_assets.lake` makes the tables, without Spark, and tells Hive of them. A job does not need
Hive: it reads the files that the state of a table names. So it sees the table as of one refresh.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
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
    columns = StructType(
        [each for each in StructType.fromJson(state.schema).fields if each.name not in OF_CHANGES]
    )
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


def read_changes(spark: SparkSession, table: LakeTable, state: State) -> DataFrame:
    """Every version of the rows that a table has in a state, deletions included.

    `_place` orders the versions of a row that have the same `_version`. `_operation` and
    `_committed_at` are null for rows that were copied, not logged.
    """
    schema = StructType.fromJson(state.schema)
    for name, kind in (("_operation", "string"), ("_committed_at", "timestamp")):
        if name not in schema.names:  # nothing was ever logged
            schema = schema.add(name, kind)
    # While a compaction is under way, both the old files and the new one are there.
    files = [table.hadoop_path(path) for path in state.files if path not in state.incoming]
    if not files:
        return spark.createDataFrame([], schema.add("_place", "string"))
    file = F.col("_metadata.file_path")
    # The names of a load's files end in a number that grows, so a longer name is a later file.
    place = (F.length(file), file, F.col("_metadata.row_index"))
    return (
        spark.read.schema(schema)
        .options(**private.LITERAL_PATHS)
        .parquet(*files)
        .select("*", F.struct(*place).alias("_place"))
    )


def write_folder(table: LakeTable, rows: DataFrame) -> Partition:
    """Write rows to a new folder of a table. They count when a state names the folder."""
    folder = new_folder(table)
    rows.write.parquet(table.hadoop_path(folder))
    return Partition(folder, row_count(table, folder))


def replace_table(
    table: LakeTable, rows: DataFrame, audit: Callable[[Partition], None] = lambda _: None
) -> int:
    """Make these rows the whole content of a table without months. Returns their number.

    `audit` gets the folder with the rows before anybody reads it. If it raises, the old rows stay.
    """
    last = table.state()
    written = write_folder(table, rows)
    audit(written)
    return commit(table, last, rows.schema.jsonValue(), {"": written}, ()).rows
