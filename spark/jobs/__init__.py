"""The aggregates, and how one is computed.

Each aggregate has a module `spark/jobs/<line>/<name>.py`. It has a pure function `transform`, from
lake tables to the aggregate, and its `LINEAGE`. This module has the parts that all jobs share: the
registry, reading the inputs, writing the lake's `aggregates.<name>`, and the command line:

    PYTHONPATH=. spark-submit spark/jobs/<line>/<name>.py
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from softcart_assets.assembly import LINES, Lines
from softcart_assets.lake import LakeTable
from softcart_assets.lines.model import Source, Table
from spark.lake import read, replace_table
from spark.session import build_session, default_lake_uri, stop_session


@dataclass(frozen=True)
class Job:
    """An aggregate: its table's name, its line of business, and the lake tables that it reads.

    `transform` takes the `inputs` in their order.
    """

    name: str
    line: str
    inputs: tuple[tuple[Source, Table], ...]

    @property
    def module(self) -> ModuleType:
        """The module with `transform` and `LINEAGE`."""
        return importlib.import_module(f"{__name__}.{self.line}.{self.name}")

    @property
    def description(self) -> str:
        """The module's docstring: grain, columns and method."""
        return self.module.__doc__ or ""

    @property
    def lineage(self) -> Mapping[str, tuple[str, ...]]:
        """Each column, and the columns that its values come from, as `<source>.<table>.<column>`.

        Columns that only choose rows are left out.
        """
        lineage: Mapping[str, tuple[str, ...]] = self.module.LINEAGE
        return lineage

    @property
    def code_version(self) -> str:
        """A digest of the job's module and of the modules of `spark.jobs` that it imports.

        A change in any of them computes the aggregate again. A version written by hand could be
        forgotten.
        """
        sources = _sources(self.module.__name__)
        code = "\0".join(f"{name}\0{sources[name]}" for name in sorted(sources))
        return hashlib.sha256(code.encode()).hexdigest()

    def transform(self, *inputs: DataFrame) -> DataFrame:
        """The aggregate of these inputs."""
        result: DataFrame = self.module.transform(*inputs)
        return result


def _sources(module: str, seen: dict[str, str] | None = None) -> dict[str, str]:
    """The source texts of a module of `spark.jobs` and of those that it imports, by name."""
    sources = {} if seen is None else seen
    found = importlib.util.find_spec(module)
    if module not in sources and found and found.origin:
        sources[module] = Path(found.origin).read_text(encoding="utf-8")
        for name in _imported(module, sources[module]):
            _sources(name, sources)
    return sources


def _imported(module: str, source: str) -> Iterator[str]:
    """The modules below `spark.jobs` that a source text imports."""
    package = module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            # `from package import name` does not show whether the name is a module or a function.
            if name.startswith(f"{__name__}.") and _is_module(name):
                yield name


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its parent is no package
        return False


def jobs_of(lines: Lines) -> dict[str, Job]:
    """The aggregates of these lines of business by name."""
    return {
        job.name: Job(job.name, line.name, tuple(lines.table(name) for name in job.inputs))
        for line in lines
        for job in line.jobs
    }


JOBS = jobs_of(LINES)
"""Every aggregate by name."""


class MissingInput(RuntimeError):
    """A lake table that an aggregate reads does not exist. The message names both."""


def aggregate_table(job: Job, lake_uri: str) -> LakeTable:
    """The table of the lake that has an aggregate."""
    return LakeTable(lake_uri, "aggregates", job.name)


def write_aggregate(spark: SparkSession, job: Job, lake_uri: str) -> int:
    """Compute an aggregate from the lake and make it the lake's `aggregates.<name>`.

    Returns the number of its rows. The old rows stay until the new ones are complete. Raises
    `MissingInput`.
    """
    tables = [
        LakeTable(lake_uri, source.lake, table.name, partition_column=table.lake_partition)
        for source, table in job.inputs
    ]
    inputs = [read(spark, table) for table in tables]
    for table, rows in zip(tables, inputs, strict=True):
        if rows is None:
            raise MissingInput(
                f"aggregates.{job.name} needs {table.full_name}, which does not exist: load and "
                "refresh that table first."
            )
    result = job.transform(
        *(
            _with_declared(rows, declared)
            for rows, (_, declared) in zip(inputs, job.inputs, strict=True)
            if rows is not None
        )
    )
    try:
        return replace_table(aggregate_table(job, lake_uri), result)
    finally:
        # Jobs persist intermediate tables. The session lives on for the other jobs of the run.
        spark.catalog.clearCache()


def _with_declared(rows: DataFrame, table: Table) -> DataFrame:
    """The rows with every declared column.

    A collection has the columns that its documents have. A field that is declared but in no
    document, such as the parent of categories without a tree, is null.
    """
    missing = [column.name for column in table.columns if column.name not in rows.columns]
    return rows.withColumns({name: F.lit(None).cast("string") for name in missing})


def run(name: str) -> None:
    """The command line of each job: build the aggregate in a session of its own."""
    spark = build_session(name, hive=False)
    try:
        print(f"aggregates.{name}: {write_aggregate(spark, JOBS[name], default_lake_uri()):,} rows")
    finally:
        stop_session(spark)
