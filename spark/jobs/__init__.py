"""The aggregates: which there are, what each reads, and how one is run.

One module per table, named after it, with a pure `transform` from lake tables to the aggregate and its `LINEAGE`. Here belong the
registry and what all jobs share: reading their inputs, writing Hive's `aggregates.<name>`, the command line.

    PYTHONPATH=. spark-submit spark/jobs/shop/agg_rfm_by_customer.py
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from softcart_assets.assembly import LINES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


@dataclass(frozen=True)
class Job:
    """An aggregate: its table's (and module's) name, its line of business, and the lake tables that
    `transform` takes, in order.
    """

    name: str
    line: str
    inputs: tuple[str, ...]

    @property
    def module(self) -> ModuleType:
        """The module with `transform` and `LINEAGE`."""
        return importlib.import_module(f"{__name__}.{self.line}.{self.name}")

    @property
    def description(self) -> str:
        """The module's docstring: grain, columns and method."""
        return self.module.__doc__ or ""

    @property
    def lineage(self) -> dict[str, tuple[str, ...]]:
        """Each column, and the lake's columns (`table.column`) that its values come from; not what chooses rows."""
        return self.module.LINEAGE  # type: ignore[no-any-return]

    def transform(self, *inputs: DataFrame) -> DataFrame:
        """The aggregate of these inputs."""
        return self.module.transform(*inputs)  # type: ignore[no-any-return]


JOBS = {
    job.name: Job(job.name, line.name, tuple(name.partition(".")[2] for name in job.inputs))
    for line in LINES
    for job in line.jobs
}
"""Every aggregate by name."""


class MissingInput(RuntimeError):
    """A lake table that an aggregate reads does not exist; the message names both."""


def write_aggregate(spark: SparkSession, job: Job, lake_uri: str) -> int:
    """Compute an aggregate from the tables in Hive's `lake` and make it `aggregates.<name>`; returns its rows.

    The one that is there stays until the new one is complete. Raises `MissingInput`.
    """
    from spark.lake import LakeTable, replace_table

    for name in job.inputs:
        if not spark.catalog.tableExists(f"lake.{name}"):
            raise MissingInput(
                f"aggregates.{job.name} needs lake.{name}, which does not exist: load and refresh that table first."
            )
    result = job.transform(*(spark.table(f"lake.{name}") for name in job.inputs))
    try:
        return replace_table(
            spark, LakeTable(lake_uri, job.name, (), database="aggregates"), result
        )
    finally:
        spark.catalog.clearCache()


def run(name: str) -> None:
    """The command line of each job: build the aggregate in a session of its own."""
    from spark.session import build_session, default_lake_uri, stop_session

    spark = build_session(name)
    try:
        print(f"aggregates.{name}: {write_aggregate(spark, JOBS[name], default_lake_uri()):,} rows")
    finally:
        stop_session(spark)
