"""The lake's tables in Spark: jobs read them here, and write aggregates beside them.

`softcart_assets.lake` makes the tables, without Spark, and tells Hive of them. A job does not need
Hive: it reads the files that the state of a table names. So it sees the table as of one refresh.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StringType, StructType

from softcart_assets.lake import OF_CHANGES, LakeTable, Partition, commit, new_folder, row_count
from spark import private


def read(spark: SparkSession, table: LakeTable) -> DataFrame | None:
    """The current rows of a table. None if it was never refreshed.

    The column `_month` of a table with months is last, as in Hive.
    """
    state = table.state()
    if state is None:
        return None
    fields = StructType.fromJson(state.schema).fields
    columns = StructType([field for field in fields if field.name not in OF_CHANGES])
    if table.partition_column:
        columns = columns.add("_month", StringType())
    folders = [table.hadoop_path(partition.folder) for partition in state.partitions.values()]
    if not folders:
        return spark.createDataFrame([], columns)
    # Spark finds the months between this path and those of the folders.
    options = private.LITERAL_PATHS | {"basePath": table.hadoop_path(table.folder)}
    return spark.read.schema(columns).options(**options).parquet(*folders)


def replace_table(table: LakeTable, rows: DataFrame) -> int:
    """Make these rows the whole content of a table without months. Returns their number."""
    folder = new_folder(table)
    rows.write.parquet(table.hadoop_path(folder))
    count = row_count(table, folder)
    commit(table, rows.schema.jsonValue(), {"": Partition(folder, count)}, ())
    return count
