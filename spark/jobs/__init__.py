"""The aggregates, and how one is computed.

Each aggregate has a module `spark/jobs/<line>/<name>.py`. It has a pure function `transform`, from
lake tables to the aggregate, and its `LINEAGE`. If `transform` needs results by month that are kept
between runs, `BY_MONTH` has the functions that compute them, see `spark.months`. This module has
the parts that all jobs share: the registry, reading the inputs, writing `aggregates.<name>` to the
lake, and the command line:

    PYTHONPATH=. spark-submit spark/jobs/<line>/<name>.py
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from pyspark.sql import DataFrame, SparkSession

from softcart_assets.assembly import LINES, Lines
from softcart_assets.lake import LakeTable, Partition
from softcart_assets.lines.model import Source, Table
from spark.lake import replace_table
from spark.months import ByMonth, Input, by_month, forget, in_one_month, is_apart, parameters
from spark.private import is_stopped
from spark.session import build_session, default_lake_uri, first_line, stop_session

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """An aggregate: its table's name, its line of business, and the lake tables that it reads.

    `transform` takes what the functions of `by_month` return, and then the `inputs` in their order.
    `history`: those inputs that are every version of the rows, see `spark.history`.
    """

    name: str
    line: str
    inputs: tuple[tuple[Source, Table], ...]
    history: tuple[tuple[Source, Table], ...] = ()

    @property
    def module(self) -> ModuleType:
        """The module with `transform` and `LINEAGE`."""
        return importlib.import_module(f"{__name__}.{self.line}.{self.name}")

    @property
    def description(self) -> str:
        """The module's docstring: grain, columns and method."""
        return self.module.__doc__ or ""

    @property
    def columns(self) -> Mapping[str, str]:
        """The description of each column, from the list after `Columns:` in that docstring.

        An entry is `- column: text`, or `- column, column: text` where one text is true of several.
        """
        _, _, rest = self.description.partition("\nColumns:\n")
        # Up to the first paragraph that is not part of the list.
        listed = re.split(r"\n(?=[^\s-])", rest)[0]
        found: dict[str, str] = {}
        if not listed:
            return found
        for entry in re.split(r"\n(?=- )", listed.strip()):
            names, _, text = " ".join(entry.removeprefix("- ").split()).partition(": ")
            found |= dict.fromkeys(names.split(", "), text)
        return found

    @property
    def lineage(self) -> Mapping[str, tuple[str, ...]]:
        """Each column, and the columns that its values come from, as `<source>.<table>.<column>`.

        Columns that only choose rows are left out.
        """
        lineage: Mapping[str, tuple[str, ...]] = self.module.LINEAGE
        return lineage

    @property
    def totals(self) -> Mapping[str, str]:
        """Columns, and a query over the lake tables for the sum of each: `TOTALS` of the module.

        The query is not Spark's. A table is named "<source>.<table>". A job whose figures do not
        add up has none.
        """
        totals: Mapping[str, str] = getattr(self.module, "TOTALS", {})
        return totals

    @property
    def code_version(self) -> str:
        """A digest of the job's module and of the modules of `spark.jobs` that it imports.

        A change in any of them computes the aggregate again. A version written by hand could be
        forgotten.
        """
        return code_version(self.module.__name__)

    @property
    def by_month(self) -> Sequence[ByMonth]:
        """The functions whose results by month the job keeps."""
        functions: Sequence[ByMonth] = getattr(self.module, "BY_MONTH", ())
        return functions

    def transform(self, *inputs: DataFrame) -> DataFrame:
        """The aggregate of these inputs, computed whole."""
        rows = [
            in_one_month(frame) if self._has_months(each) else frame
            for frame, each in zip(inputs, self.inputs, strict=True)
        ]
        return self._add_up([of(*rows[: parameters(of)]) for of in self.by_month], rows)

    def compute(self, spark: SparkSession, lake_uri: str, is_whole: bool = False) -> DataFrame:
        """The aggregate of the lake, computed from the months that changed and what is kept.

        `is_whole`: from all rows at once. Raises `MissingInput`.
        """
        inputs = self._read(lake_uri)
        named = list(zip(self.inputs, inputs, strict=True))
        rows = [
            each.read_changes(spark) if name in self.history else each.read(spark)
            for name, each in named
        ]
        # If a table is still as an older declaration wanted it, its rows are in no months.
        in_months = all(each.has_months for name, each in named if self._has_months(name))
        if in_months and not is_whole:
            months = [
                by_month(spark, function, code_version(function.__module__), inputs, lake_uri)
                for function in self.by_month
            ]
            if not any(map(is_apart, months)):
                return self._add_up(months, rows)
        return self.transform(*rows)

    def _has_months(self, name: tuple[Source, Table]) -> bool:
        """Whether the job takes the rows of this input month by month."""
        return name[1].lake_partition is not None and name not in self.history

    def _add_up(self, months: Sequence[DataFrame], inputs: Sequence[DataFrame]) -> DataFrame:
        result: DataFrame = self.module.transform(*months, *inputs)
        return result

    def _read(self, lake_uri: str) -> list[Input]:
        """The inputs, each as of its last refresh."""
        found = []
        for source, declared in self.inputs:
            table = LakeTable(lake_uri, source.lake, declared.name)
            state = table.state()
            if state is None:
                raise MissingInput(
                    f"aggregates.{self.name} needs {table.full_name}, which does not exist: load "
                    "and refresh that table first."
                )
            found.append(Input(table, declared, state))
        return found


def code_version(module: str) -> str:
    """A digest of a module of `spark.jobs` and of those modules of it that it imports."""
    sources = _sources(module)
    code = "\0".join(f"{name}\0{sources[name]}" for name in sorted(sources))
    return hashlib.sha256(code.encode()).hexdigest()


def _sources(module: str, seen: dict[str, str] | None = None) -> dict[str, str]:
    """The source texts of a module of `spark.jobs` and of those that it imports, by name."""
    sources = {} if seen is None else seen
    found = importlib.util.find_spec(module)
    if module not in sources and found and found.origin:
        sources[module] = _text(found.origin)
        for name in _imported(module, sources[module]):
            _sources(name, sources)
    return sources


@cache
def _text(file: str) -> str:
    """A source text as it was at the first call: when the definitions were loaded.

    If somebody edits the file later, this process still computes with the old code. So its results
    must have the old version.
    """
    return Path(file).read_text(encoding="utf-8")


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
        job.name: Job(
            job.name,
            line.name,
            tuple(lines.table(name) for name in job.inputs),
            tuple(lines.table(name) for name in job.history),
        )
        for line in lines
        for job in line.jobs
    }


JOBS = jobs_of(LINES)
"""Every aggregate by name."""


class SessionLost(RuntimeError):
    """The cluster has ended the session while an aggregate was computed. The old rows stay."""


class MissingInput(RuntimeError):
    """A lake table that an aggregate reads does not exist. The message names both."""


def aggregate_table(job: Job, lake_uri: str) -> LakeTable:
    """The table of the lake that has an aggregate."""
    return LakeTable(lake_uri, "aggregates", job.name)


def write_aggregate(
    spark: SparkSession,
    job: Job,
    lake_uri: str,
    audit: Callable[[Partition], None] = lambda _: None,
) -> int:
    """Compute an aggregate from the lake and make it the lake's `aggregates.<name>`.

    Returns the number of its rows. The old rows stay until the new ones are complete and `audit`
    has not raised. If it raises for months, the job is computed whole, and `audit` has the last
    word. One process at a time may call this for a lake. Raises `MissingInput` or `SessionLost`.
    """
    table, refused = aggregate_table(job, lake_uri), []

    def audited(rows: Partition) -> None:
        try:
            audit(rows)
        except Exception as refusal:
            refused.append(refusal)
            # What is wrong may be what is kept. It would stay as long as its months do not change.
            for function in job.by_month:
                forget(function, lake_uri)
            raise

    try:
        try:
            return replace_table(table, job.compute(spark, lake_uri), audited)
        except Exception:
            if not (refused and job.by_month):
                raise
        # A month may need rows of another one without a sign of it in its own rows.
        _LOG.warning(
            "aggregates.%s is computed whole, without its months: %s", job.name, refused[0]
        )
        return replace_table(table, job.compute(spark, lake_uri, is_whole=True), audit)
    except Exception as error:
        if not is_stopped(spark):
            raise
        raise SessionLost(
            f"Spark on {spark.sparkContext.master} has ended while aggregates.{job.name} was "
            f"computed, which keeps its last rows: {first_line(error)}. Look what the cluster says "
            "of the application, and run it again."
        ) from error
    finally:
        # Jobs persist intermediate tables. The session lives on for the other jobs of the run.
        if not is_stopped(spark):
            spark.catalog.clearCache()


def run(name: str) -> None:
    """The command line of each job: build the aggregate in a session of its own."""
    spark = build_session(name, hive=False)
    try:
        print(f"aggregates.{name}: {write_aggregate(spark, JOBS[name], default_lake_uri()):,} rows")
    finally:
        stop_session(spark)
