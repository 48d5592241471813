"""Merging: finds the current rows of change files, and joins them with the rows of the table.

Nothing here holds a table in memory. Spark sorts and joins on disk what does not fit.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from spark import private
from spark.lake.schema import OF_CHANGES, OF_WRITES
from spark.lake.table import ChangeFile, LakeTable

# A source's column may have almost any name. These are not in its way.
_FILE, _ROW, _RANK, _HASH, _SIGN, _COUNT, _COPY = (
    f"_softcart_{name}" for name in ("file", "row", "rank", "hash", "sign", "count", "copy")
)


def read(
    spark: SparkSession, table: LakeTable, schema: StructType, files: Iterable[ChangeFile]
) -> DataFrame:
    """The row versions in change files, each with its month, its file and its place there."""
    paths = (table.hadoop_path(file.path) for file in files)
    rows = spark.read.schema(schema).options(**private.LITERAL_PATHS).parquet(*paths)
    rows = rows.select(
        "*", F.col("_metadata.file_name").alias(_FILE), F.col("_metadata.row_index").alias(_ROW)
    )
    if table.partition_column:
        month = F.date_format(table.partition_column, "yyyy-MM")
        rows = rows.withColumn("_month", F.coalesce(month, F.lit("unknown")))
    return rows


def _order(changes: DataFrame) -> list[Column]:
    """Values that order row versions: by load, then by file, then by place.

    The number of the load decides. No clock does, because clocks are set back. Files of older
    releases have no number: they come first, in the order of their times, as they did then. The
    names of a load's files end in a number that grows, so a longer name is a later file.
    """
    version = F.col("_version") if "_version" in changes.columns else F.lit(None)
    return [
        F.coalesce(version.cast("bigint"), F.lit(0)),
        F.unix_micros("_loaded_at"),
        F.length(_FILE),
        F.col(_FILE),
        F.col(_ROW),
    ]


def latest_versions(table: LakeTable, changes: DataFrame) -> DataFrame:
    """The last version of every row of a table with a key, deletions included."""
    order = (column.desc() for column in _order(changes))
    versions = Window.partitionBy(*table.key).orderBy(*order)
    latest = changes.withColumn(_RANK, F.row_number().over(versions)).where(F.col(_RANK) == 1)
    return latest.drop(_RANK, _FILE, _ROW)


def _is_load(changes: DataFrame) -> Column:
    """Whether a row comes from a load of the whole table, and not from the source's log."""
    return F.col("_operation").isNull() if "_operation" in changes.columns else F.lit(True)


def alive(latest: DataFrame) -> DataFrame:
    """The rows that are not deleted, without the columns that describe a change."""
    return latest.where(~F.col("_deleted")).drop(*OF_CHANGES)


def remaining(current: DataFrame | None, changes: DataFrame) -> DataFrame:
    """The rows of a table without a key, from its current rows and new row versions.

    Without a key, a new row cannot replace an old one. So the last load of the whole table counts,
    and the changes after it. If there is no such load, the changes apply to the current rows.
    """
    place = F.struct(*(value.alias(f"_{at}") for at, value in enumerate(_order(changes))))
    loads = changes.where(_is_load(changes))
    # Only the places go through these two queries, so they need little memory.
    last = loads.agg(F.max(F.struct(place.alias("place"), "_load_id")).alias("last")).head()
    rows = alive(loads).drop(_FILE, _ROW)
    if last and last["last"]:
        is_last = F.col("_load_id") == last["last"]["_load_id"]
        found = loads.where(is_last).agg(F.min(place).alias("first")).select("first.*")
        values = zip(found.schema, found.collect()[0], strict=True)
        first = F.struct(*(F.lit(v).cast(f.dataType).alias(f.name) for f, v in values))
        changes = changes.where(place >= first)
        rows = alive(changes.where(_is_load(changes))).drop(_FILE, _ROW)
    elif current is not None:
        rows = as_of(current, rows)
    changes = changes.where(~_is_load(changes)).drop(_FILE, _ROW)
    return rows if changes.isEmpty() else _applied(rows, changes)


def as_of(current: DataFrame, rows: DataFrame) -> DataFrame:
    """The current rows with the columns and types of `rows`."""
    had = set(current.columns)
    return current.select(
        *(
            (F.col(f.name) if f.name in had else F.lit(None)).cast(f.dataType).alias(f.name)
            for f in rows.schema
        )
    )


def _applied(rows: DataFrame, changes: DataFrame) -> DataFrame:
    """Rows without a key, after insertions and deletions."""
    own = [name for name in rows.columns if name in OF_WRITES]
    names = [name for name in rows.columns if name not in own]
    is_hash = F.xxhash64(*names).alias(_HASH)
    signed = changes.withColumn(_SIGN, F.when(F.col("_deleted"), -1).otherwise(1)).drop(*OF_CHANGES)
    # Only rows that equal a changed one are counted. The others pass through without being sorted.
    # Different rows may have one hash. Then they are counted in vain.
    touched = changes.select(is_hash).distinct()
    hashed = rows.withColumn(_HASH, is_hash)
    counted = hashed.join(touched, _HASH, "left_semi").drop(_HASH).withColumn(_SIGN, F.lit(1))
    # Equal rows may occur several times. So copies are counted: a deletion takes away one of them.
    sums = (
        counted.unionByName(signed)
        .groupBy(*names)
        .agg(F.sum(_SIGN).alias(_COUNT), *(F.max(name).alias(name) for name in own))
    )
    copies = sums.where(F.col(_COUNT) > 0).withColumn(
        _COPY, F.explode(F.sequence(F.lit(1), F.col(_COUNT).cast("int")))
    )
    untouched = hashed.join(touched, _HASH, "left_anti").drop(_HASH)
    return untouched.unionByName(copies.select(*rows.columns))


def merged(table: LakeTable, current: DataFrame, latest: DataFrame) -> tuple[DataFrame, set[str]]:
    """The new rows of the months that `latest` changes, and these months ('' if not partitioned).

    If the date of a row was corrected, the row moves to another month. Its old month changes too.
    """
    key = list(table.key)
    rows = alive(latest)
    touched = {""}
    if table.partition_column:
        losing = current.join(latest.select(key), key, "left_semi").select("_month")
        gaining = rows.select("_month")
        # The driver needs the months themselves, so that Spark reads their partitions only.
        touched = {row["_month"] for row in losing.union(gaining).distinct().collect()}
        current = current.where(F.col("_month").isin(*touched))
    return as_of(current, rows).join(latest.select(key), key, "left_anti").unionByName(
        rows
    ), touched
