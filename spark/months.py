"""Results by month that a job keeps, so that a run computes only the months that changed.

A module of a job may name functions in `BY_MONTH`. Each takes the first inputs of the job, as many
as it has parameters, and returns rows with their `_month`. It computes every month from the rows of
that month alone, and from tables that have no months. `transform` takes these results before the
inputs, and adds up the months.

The results are Parquet beside the aggregates. Their state file names what each month was computed
from: the folders of the lake's tables, which never change. So a month is computed again if a folder
of it is another one, and all months are if the code, the columns or a table without months changed.
The state file is the switch, as for all tables of the lake: after a kill, the old results count.

This is exact if a month needs no rows of another one. A result says where it does, by true in a
column `is_apart`. Then the job is computed whole, from all rows at once. It also is if its totals
are not those of the lake.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from inspect import signature
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from softcart_assets.lake import LakeTable, State, commit
from softcart_assets.lines.model import Table
from spark import private
from spark.lake import read_changes, read_state, write_folder

ByMonth = Callable[..., DataFrame]
"""A function in `BY_MONTH`."""

IS_APART = "is_apart"


@dataclass(frozen=True)
class Input:
    """A table of the lake as a job reads it: its declaration and its state."""

    table: LakeTable
    declared: Table
    state: State

    @property
    def has_months(self) -> bool:
        """Whether its rows are in a folder for each month."""
        return self.state.layout["partition_column"] is not None

    def read(self, spark: SparkSession, months: Sequence[str] | None = None) -> DataFrame:
        """The rows with every declared column. `months`: only those of these months.

        A collection has the columns that its documents have. A field that is declared but in no
        document, such as the parent of categories without a tree, is null.
        """
        only = months if self.has_months else None
        return self._with_all_columns(read_state(spark, self.table, self.state, only))

    def read_changes(self, spark: SparkSession) -> DataFrame:
        """Every version of the rows, see `spark.lake`, with every declared column, as in `read`."""
        return self._with_all_columns(read_changes(spark, self.table, self.state))

    def _with_all_columns(self, rows: DataFrame) -> DataFrame:
        missing = [each.name for each in self.declared.columns if each.name not in rows.columns]
        return rows.withColumns({name: F.lit(None).cast("string") for name in missing})


def parameters(function: ByMonth) -> int:
    """How many of a job's inputs a function of `BY_MONTH` takes."""
    return len(signature(function).parameters)


def in_one_month(rows: DataFrame) -> DataFrame:
    """The rows, all in the same month, so that rows of any two months meet."""
    return rows.withColumn("_month", F.lit("whole"))


def is_apart(rows: DataFrame) -> bool:
    """Whether a month needs rows of another one."""
    return IS_APART in rows.columns and bool(rows.where(IS_APART).head(1))


def by_month(
    spark: SparkSession, function: ByMonth, code: str, inputs: Sequence[Input], lake_uri: str
) -> DataFrame:
    """The result of a function of `BY_MONTH` for all months. Computes those that changed.

    `code`: the version of the function's code. One process at a time may call this for a lake.
    """
    inputs = inputs[: parameters(function)]
    table = _kept(function, lake_uri)
    # What every month depends on.
    common = {
        "code": code,
        "inputs": [each.state.schema if each.has_months else each.state.content for each in inputs],
    }
    folders = _folders_by_month(inputs)
    state = table.state()
    known: dict[str, dict[str, Any]] | None = None
    if state and state.layout["common"] == common:
        known = state.layout["months"]
    months = {m: kept for m, kept in (known or {}).items() if kept["of"] == folders.get(m)}
    changed = [month for month in folders if month not in months]
    partitions = dict(state.partitions) if state else {}
    schema = state.schema if state else {}
    if changed or known is None:
        rows = function(*(each.read(spark, changed) for each in inputs))
        written = write_folder(table, rows)
        schema, partitions[written.folder] = rows.schema.jsonValue(), written
        months |= {month: {"of": folders[month], "in": written.folder} for month in changed}
    if months != known:
        used = {kept["in"] for kept in months.values()}
        commit(
            table,
            state,
            schema,
            {folder: each for folder, each in partitions.items() if folder in used},
            (),
            layout={"common": common, "months": months},
        )
    return _read(spark, table, schema, months)


def forget(function: ByMonth, lake_uri: str) -> None:
    """Have all months of a function of `BY_MONTH` computed again the next time."""
    table = _kept(function, lake_uri)
    if state := table.state():
        commit(table, state, state.schema, {}, (), layout={"common": None, "months": {}})


def _kept(function: ByMonth, lake_uri: str) -> LakeTable:
    name = f"{function.__module__}.{function.__name__}".removeprefix("spark.jobs.")
    return LakeTable(lake_uri, "aggregates_by_month", name.replace(".", "_"))


def _folders_by_month(inputs: Sequence[Input]) -> dict[str, list[str | None]]:
    """The folders that each month is computed from, one for each input with months."""
    states = [each.state.partitions for each in inputs if each.has_months]
    return {
        month: [partitions[month].folder if month in partitions else None for partitions in states]
        for month in sorted(set().union(*states))
    }


def _read(
    spark: SparkSession, table: LakeTable, schema: Mapping[str, Any], months: Mapping[str, Any]
) -> DataFrame:
    """The rows of these months. A folder may have rows of others, which count no more."""
    months_in: dict[str, list[str]] = defaultdict(list)
    for month, kept in months.items():
        months_in[kept["in"]].append(month)
    columns = StructType.fromJson(dict(schema))
    reader = spark.read.schema(columns).options(**private.LITERAL_PATHS)
    frames = [
        reader.parquet(table.hadoop_path(folder)).where(F.col("_month").isin(those))
        for folder, those in months_in.items()
    ]
    return reduce(DataFrame.union, frames) if frames else spark.createDataFrame([], columns)
