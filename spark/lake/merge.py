"""Merging: finds the current rows of change files, and joins them with the rows of the table."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from spark import private
from spark.lake.schema import OF_CHANGES
from spark.lake.table import ChangeFile, LakeTable


def read(
    spark: SparkSession, table: LakeTable, schema: StructType, files: Iterable[ChangeFile]
) -> DataFrame:
    """The row versions in change files, each with its file and its place there.

    A load may write several versions of a row. Only file and place tell which one is the last.
    """
    paths = (table.hadoop_path(file.path) for file in files)
    rows = spark.read.schema(schema).options(**private.LITERAL_PATHS).parquet(*paths)
    return rows.select(
        "*", F.col("_metadata.file_name").alias("_file"), F.col("_metadata.row_index").alias("_row")
    )


def latest_versions(table: LakeTable, changes: DataFrame) -> DataFrame:
    """The last version of every row, deletions included, with its month."""
    if table.key:
        # By load, then by file, then by place. The names of a load's files end in a number that
        # grows, so a longer name is a later file.
        order = (F.col("_loaded_at"), F.length("_file"), F.col("_file"), F.col("_row"))
        versions = Window.partitionBy(*table.key).orderBy(*(column.desc() for column in order))
        changes = (
            changes.withColumn("_rank", F.row_number().over(versions))
            .where("_rank = 1")
            .drop("_rank")
        )
    else:
        # Without a key, a new row cannot replace an old one. So the last load of the whole table
        # counts, and the changes after it. A load of the whole table names no operation.
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
    """Whether a row comes from a load of the whole table, and not from the source's log."""
    return F.col("_operation").isNull() if "_operation" in changes.columns else F.lit(True)


def alive(latest: DataFrame) -> DataFrame:
    """The rows that are not deleted, without the columns that describe a change."""
    return latest.where(~F.col("_deleted")).drop(*OF_CHANGES)


def remaining(current: DataFrame | None, latest: DataFrame) -> DataFrame:
    """The rows of a table without a key.

    It starts with the rows of the load in `latest`, or else with the current rows. It then adds and
    removes the rows of the changes in `latest`.
    """
    if "_operation" not in latest.columns:
        return alive(latest)
    loads = latest.where(_is_load(latest))
    rows = alive(loads)
    if current is not None and loads.isEmpty():
        had = set(current.columns)
        rows = current.select(
            *(
                (F.col(f.name) if f.name in had else F.lit(None)).cast(f.dataType).alias(f.name)
                for f in rows.schema
            )
        )
    changes = latest.where(~_is_load(latest))
    # Equal rows may occur several times. So copies are counted: a deletion takes away one of them.
    signed = rows.withColumn("_sign", F.lit(1)).unionByName(
        changes.withColumn("_sign", F.when(F.col("_deleted"), -1).otherwise(1)).drop(*OF_CHANGES)
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


def merged(
    table: LakeTable, current: DataFrame, latest: DataFrame, schema: StructType
) -> tuple[DataFrame, set[str]]:
    """The new rows of the months that `latest` changes, and these months ('' if not partitioned).

    If the date of a row was corrected, the row moves to another month. Its old month changes too.
    """
    key = list(table.key)
    had = set(current.columns)
    columns = [
        (F.col(field.name) if field.name in had else F.lit(None))
        .cast(field.dataType)
        .alias(field.name)
        for field in schema
        if field.name not in OF_CHANGES
    ]
    touched = {""}
    if table.partition_column:
        current = current.select(*columns, "_month")
        losing = current.join(latest.select(key), key, "left_semi").select("_month")
        gaining = alive(latest).select("_month")
        # The driver needs the months themselves, so that Spark reads their partitions only.
        touched = {row["_month"] for row in losing.union(gaining).distinct().collect()}
        current = current.where(F.col("_month").isin(*touched))
    else:
        current = current.select(*columns)
    return current.join(latest.select(key), key, "left_anti").unionByName(alive(latest)), touched
