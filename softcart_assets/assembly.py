"""Finds the lines of business and validates all their declarations together.

`LINES` is the one list of everything that the platform serves. `softcart_assets.lines.model`
defines the parts of a declaration. `softcart_assets.components` makes Dagster objects from them.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from softcart_assets import lines
from softcart_assets.ingestion import connectors
from softcart_assets.lines import conformed
from softcart_assets.lines.model import (
    CONTACTS,
    CUSTOMER,
    Classifier,
    Dashboard,
    Extract,
    Job,
    Latest,
    Line,
    Model,
    Published,
    RunningTotal,
    Source,
    Table,
    Where,
)
from softcart_assets.paths import REPOSITORY

# Dagster's rule for the parts of an asset key. PostgreSQL cuts longer names off.
_NAME = re.compile(r"[A-Za-z0-9_]{1,63}")
# Names of lines and sources become Python packages, PostgreSQL schemas and Hive databases. With
# small letters only, none of these needs quotes.
LINE_NAME = re.compile(r"[a-z][a-z0-9_]*")


_LAYERS = (
    *("staging", "identities", "warehouse", "aggregates", "ml", "production", "extracts"),
    *("lake", "ods", "dagster"),
)
"""Names that begin the asset keys and the settings of the platform's own layers."""


class DeclarationError(RuntimeError):
    """Declarations contradict each other or themselves.

    The message lists all mistakes, each with file, table and remedy.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = problems
        listed = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"The declarations of the lines of business have mistakes:{listed}")


class Lines(tuple[Line, ...]):
    """Every line of business, in the order of their names."""

    @property
    def conformed(self) -> Line:
        """The line that holds what the others share. Raises `KeyError` if it is missing."""
        return self.line(conformed.LINE.name)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The source systems of all lines."""
        return tuple(source for line in self for source in line.sources)

    @property
    def published(self) -> tuple[Published, ...]:
        """The published tables of all lines."""
        return tuple(table for line in self for table in line.published)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The Spark jobs of all lines."""
        return tuple(job for line in self for job in line.jobs)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models of all lines."""
        return tuple(model for line in self for model in line.models)

    @property
    def extracts(self) -> tuple[Extract, ...]:
        """The extracts of all lines."""
        return tuple(extract for line in self for extract in line.extracts)

    @property
    def dashboards(self) -> tuple[Dashboard, ...]:
        """The dashboards of all lines."""
        return tuple(dashboard for line in self for dashboard in line.dashboards)

    @property
    def own_reports(self) -> tuple[Extract, ...]:
        """What the sources of all lines report about themselves."""
        return tuple(report for source in self.sources for report in source.reports)

    @property
    def own_dashboards(self) -> tuple[Dashboard, ...]:
        """The pages of the sources of all lines about themselves."""
        return tuple(page for source in self.sources for page in source.dashboards)

    def tables(self) -> Iterator[tuple[Source, Table]]:
        """Every source table with its source."""
        return ((source, table) for source in self.sources for table in source.tables)

    def source(self, name: str) -> Source:
        """The source of that name. Raises `KeyError` with the known names."""
        return _named(self.sources, name, "source")

    def table(self, reference: str) -> tuple[Source, Table]:
        """The source and the table that `<source>.<table>` names. Raises `KeyError`."""
        source, _, table = reference.partition(".")
        found = self.source(source)
        return found, found.table(table)

    def line(self, name: str) -> Line:
        """The line of that name. Raises `KeyError` with the known names."""
        return _named(self, name, "line")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=_Named)


def _named(items: Iterable[Item], name: str, what: str) -> Item:
    known = {item.name: item for item in items}
    if name not in known:
        raise KeyError(f"there is no {what} {name!r}; there are {', '.join(known) or 'none'}")
    return known[name]


def find_lines() -> list[Line]:
    """The `LINE` of every folder of `softcart_assets/lines/`.

    Raises `DeclarationError` if a folder has no `LINE`, or if its line has another name than the
    folder.
    """
    found, problems = [], []
    for module in pkgutil.iter_modules(lines.__path__):
        # A plain module, such as model.py, is no line.
        if not module.ispkg:
            continue
        package = importlib.import_module(f"{lines.__name__}.{module.name}")
        line = getattr(package, "LINE", None)
        if not isinstance(line, Line):
            problems.append(
                f"softcart_assets/lines/{module.name}/__init__.py: there is no LINE. Declare "
                f'LINE = Line("{module.name}", …), or remove the folder.'
            )
        elif line.name != module.name:
            problems.append(
                f"{line.declared_at}: the line is called {line.name!r}, but its folder is "
                f"{module.name!r}. Give both the same name."
            )
        else:
            found.append(line)
    if problems:
        raise DeclarationError(problems)
    return found


def assemble(declared: Iterable[Line]) -> Lines:
    """All lines together. Raises `DeclarationError` with every mistake that is found."""
    together = Lines(sorted(declared, key=lambda line: line.name))
    # All mistakes at once. Otherwise each start would show only the next one.
    problems = [
        *_lines(together),
        *_sources(together),
        *_people(together),
        *_outputs(together),
    ]
    if problems:
        raise DeclarationError(problems)
    return together


def _lines(together: Lines) -> Iterator[str]:
    yield from _repeated(together, "lines of business", "Rename one of them")
    for line in together:
        if not LINE_NAME.fullmatch(line.name):
            yield (
                f"{line.declared_at}: {line.name!r} cannot be the name of a line. Use small "
                "letters, digits and _, beginning with a letter."
            )
        if line.name == "common":
            yield (
                f"{line.declared_at}: a line cannot be called 'common', which is the folder that "
                "the seed data of all lines share. Rename it."
            )
        # Dagster accepts owners in these two forms only.
        for owner in (line.owner, *(source.owner for source in line.sources if source.owner)):
            if not re.fullmatch(r"team:\S+|\S+@\S+", owner):
                yield (
                    f"{line.declared_at}: {owner!r} cannot be an owner. Write team:<name> or an "
                    "e-mail address."
                )


def _sources(together: Lines) -> Iterator[str]:
    yield from _repeated(together.sources, "source systems", "Rename one of them")
    kept = [each for source in together.sources for each in source.kept]
    yield from _repeated(kept, "totals", "Rename one of them")
    prefixes = Counter(source.env_prefix for source in together.sources)
    # The name of the table that holds the rows of a first copy.
    parts = Counter(
        f"{source}_{table}" for source, table in {(s.name, t.name) for s, t in together.tables()}
    )
    for source in together.sources:
        if not LINE_NAME.fullmatch(source.name):
            yield (
                f"{source.declared_at}: {source.name!r} cannot be the name of a source. Use small "
                "letters, digits and _, beginning with a letter."
            )
        if source.name in _LAYERS or source.env_prefix.lower() in {
            f"softcart_{name}" for name in _LAYERS
        }:
            yield (
                f"{source.declared_at}: source {source.name!r} with the settings "
                f"{source.env_prefix}_* takes a name of the platform's own: "
                f"{', '.join(_LAYERS)}. Rename it, or declare another `prefix`."
            )
        if prefixes[source.env_prefix] > 1:
            yield (
                f"{source.declared_at}: source {source.name!r} reads its settings from "
                f"{source.env_prefix}_*, and so does another. Declare another `prefix`."
            )
        if source.kind not in connectors.KINDS:
            yield (
                f"{source.declared_at}: source {source.name!r} has the kind {source.kind!r}. "
                f"Declare a kind that has a connector: {', '.join(connectors.KINDS)}."
            )
        else:
            yield from connectors.problems(source)
        yield from _tables(source)
        for table in source.tables:
            if parts[part := f"{source.name}_{table.name}"] > 1 and "_" in table.name:
                yield (
                    f"{table.declared_at}: table {source.name}.{table.name} and a table of another "
                    f"source would both be copied by way of part_{part}. Declare another name "
                    f"with source_name={table.at_source!r}."
                )
        yield from _lake_tables(source)
        yield from _totals(source)
        for page in source.dashboards:
            if page.page.source != source.name:
                yield (
                    f"{page.declared_at}: page {page.name} is of source {source.name!r}. Declare "
                    f"Page(…, source={source.name!r}), so that it says so."
                )


def _tables(source: Source) -> Iterator[str]:
    """What is wrong with the tables of a source, whatever its kind."""
    yield from _repeated(source.tables, f"tables of source {source.name!r}", "Rename one of them")
    names = {table.name for table in source.tables}
    for table in source.tables:
        where = f"{table.declared_at}: table {source.name}.{table.name}"
        if not _NAME.fullmatch(table.name):
            yield (
                f"{where} cannot be the name of an asset or of a lake table. Declare a name of up "
                f"to 63 letters, digits and _, with source_name={table.at_source!r}."
            )
        if table.strategy == "incremental" and not (table.cursor and table.key):
            yield (
                f"{where}: an incremental table needs a cursor and a key. Declare both, or use the "
                "strategy 'snapshot'."
            )
        if table.history and not table.key:
            yield f"{where}: history needs a key. Declare the key, or leave out the history."
        history = f"{table.name}_history"
        if table.history and history in names:
            yield (
                f"{where}: its history takes the name {history}, which is a table of "
                f"the source. Declare that table with another name and source_name='{history}'."
            )
        if table.history and _NAME.fullmatch(table.name) and not _NAME.fullmatch(history):
            yield (
                f"{where}: its history would be called {history}, which is too long. Declare a "
                f"shorter name with source_name={table.at_source!r}, or leave out the history."
            )
        columns = Counter(column.name for column in table.columns)
        for name in (name for name, count in columns.items() if count > 1):
            yield f"{where}: column {name!r} is declared twice. Remove one of them."
        named = {*table.key, *filter(None, (table.cursor, table.lake_partition, table.daily))}
        for name in sorted(named - columns.keys()):
            yield (
                f"{where}: {name!r} is its key, cursor, lake_partition or daily, and is not among "
                "its columns. Declare the column, or correct the name."
            )


def _lake_tables(source: Source) -> Iterator[str]:
    """Lake tables of a source that Hive would take for one, since it ignores case in names."""
    owners: dict[str, Table] = {}
    for table in source.tables:
        # The current rows, and the two tables of the history.
        for name in (table.name, f"{table.name}_changes", f"{table.name}_change_files"):
            other = owners.setdefault(name.lower(), table)
            if other.name != table.name:
                yield (
                    f"{table.declared_at}: tables {source.name}.{other.name} and {source.name}."
                    f"{table.name} both need the lake table {name.lower()!r}. Hive ignores upper "
                    "and lower case. Declare one of them with another name and "
                    f"source_name={table.at_source!r}."
                )


_OWN_OF_TOTALS = {"bucket", "rows", "window", "starts_at", "ends_at"}
"""Names of columns that every table or function of a total may have."""
_OWN_OF_ODS = {"positions", "cycle", "local_day", "midnight"}


def _totals(source: Source) -> Iterator[str]:
    """What is wrong with the running totals of a source."""
    identities: dict[str, RunningTotal] = {}
    for each in source.kept:
        where = f"{each.declared_at}: {each.name!r} of source {source.name!r}"
        if not LINE_NAME.fullmatch(each.name) or len(each.name) > _LONGEST_TOTAL:
            yield (
                f"{where} cannot be the name of a total. Use up to {_LONGEST_TOTAL} small letters, "
                "digits and _, beginning with a letter."
            )
        if each.name in _OWN_OF_ODS:
            yield f"{where} has a name that the schema ods uses itself. Rename it."
        yield from _what_totals_read(source, each, where)
        if isinstance(each, RunningTotal):
            yield from _measures(each, where)
            other = identities.setdefault(each.table, each)
            if other.identity != each.identity:
                yield (
                    f"{where} tells the events of {each.table!r} by {each.identity or 'nothing'}, "
                    f"but {other.name!r} by {other.identity or 'nothing'}, see "
                    f"{other.declared_at}. Declare the same identity in both."
                )


def _what_totals_read(source: Source, each: RunningTotal | Latest, where: str) -> Iterator[str]:
    """What is wrong with the table, the columns and the conditions of a total."""
    table = {table.name: table for table in source.tables}.get(each.table)
    if table is None:
        yield (
            f"{where} reads the table {each.table!r}, which the source does not declare. "
            "Declare the table, or correct the name."
        )
        return
    if not table.key:
        yield f"{where} needs a table with a key. Declare the key of {each.table!r}."
    read = {*each.reads, *(each.identity if isinstance(each, RunningTotal) else ())}
    for name in sorted(read - table.privacy.keys()):
        yield (
            f"{where} reads the column {name!r}, which is not declared in {each.table!r}. "
            "Declare the column, or correct the name."
        )
    for condition in each.where:
        if problem := _condition(condition):
            yield f"{where} has a condition on {condition.column!r} {problem}"


# `_later_` before it and `_between` after it must fit into a name of PostgreSQL.
_LONGEST_TOTAL = 48


def _measures(total: RunningTotal, where: str) -> Iterator[str]:
    if not total.measures:
        yield f"{where} has no measure. Declare one, such as {{'rows_counted': '*'}}."
    for name in total.measures:
        if not LINE_NAME.fullmatch(name) or name in {*_OWN_OF_TOTALS, total.key, total.by}:
            yield (
                f"{where} has a measure called {name!r}. Use small letters, digits and _, and none "
                f"of {', '.join(sorted(_OWN_OF_TOTALS))} or the names of `key` and `by`."
            )
    for taken in {total.key, total.by} & _OWN_OF_TOTALS:
        yield f"{where}: {taken!r} is the name of a column of ours. Choose another column."
    if total.by == total.key:
        yield f"{where} stands apart by its key. Leave out `by`."
    if not total.windows:
        yield f"{where} has no window. Declare one, such as windows=('life',)."
    if not total.at and set(total.windows) - {"life"}:
        yield f"{where} has windows of time, but no `at`. Declare the column with the event's time."


def _condition(condition: Where) -> str | None:
    """What is wrong with a condition, None if nothing is."""
    value = condition.value
    match condition.operator:
        case "in" | "not in":
            if not isinstance(value, tuple) or not value:
                return f"with {condition.operator!r}, but not a tuple of values. Give it one."
        case "is null" | "is not null":
            if value is not None:
                return f"with {condition.operator!r} and a value. Leave out the value."
        case _:
            if value is None or isinstance(value, tuple):
                return f"with {condition.operator!r}, but not one value. Give it one."
    return None


def _people(together: Lines) -> Iterator[str]:
    """What is wrong with how people are found in tables."""
    known = {f"{source.name}.{table.name}": table for source, table in together.tables()}

    def further(table: Table) -> Iterator[str]:
        """The tables by which people are found in a table."""
        for told in (*table.person.values(), *table.mentions.values()):
            if told != CUSTOMER and told not in CONTACTS:
                yield told.rpartition(".")[0]

    for name, table in known.items():
        where = f"{table.declared_at}: table {name}"
        for column, told in (*table.person.items(), *table.mentions.items()):
            if column not in table.privacy:
                yield (
                    f"{where} finds people by {column!r}, which is not among its columns. Declare "
                    "the column, or correct the name."
                )
            if told == CUSTOMER or told in CONTACTS:
                continue
            other, _, other_column = told.rpartition(".")
            if other not in known or other_column not in known[other].privacy:
                yield (
                    f"{where} finds people by {column!r}, which is to be {told!r}. No source "
                    f"declares that. Write {CUSTOMER}, {', '.join(CONTACTS)} or "
                    "<source>.<table>.<column>."
                )
            elif not known[other].person:
                yield (
                    f"{where} finds people by {told!r}, and {other} does not say how they are "
                    "found in it. Declare its `person`."
                )
        seen: set[str] = set()
        wanted = [name]
        while wanted:
            found = {each for each in further(known[wanted.pop()]) if each in known}
            wanted += found - seen
            seen |= found
        if name in seen:
            yield f"{where} finds people by way of itself. Declare another way in `person`."


def _outputs(together: Lines) -> Iterator[str]:
    """What is wrong with jobs, models, published tables, extracts and dashboards."""
    yield from _repeated(together.jobs, "Spark jobs", "Rename one of them")
    yield from _repeated(together.models, "models", "Rename one of them")
    yield from _repeated(together.published, "published tables", "Rename one of them")
    own = (*together.own_reports, *together.own_dashboards)
    files = (*together.extracts, *together.dashboards, *own)
    yield from _repeated(files, "extracts and dashboards", "Rename one of them")
    published = {table.name for table in together.published}
    tables = {f"{source.name}.{table.name}" for source, table in together.tables()}
    for line in together:
        for job in line.jobs:
            # As a file. An import would load PySpark, and `spark.jobs` imports this module.
            module = Path("spark", "jobs", line.name, f"{job.name}.py")
            if not (REPOSITORY / module).is_file():
                yield f"{job.declared_at}: job {job.name} has no module {module}. Write it."
            for name in (name for name in job.inputs if name not in tables):
                yield (
                    f"{job.declared_at}: job {job.name} reads {name!r}, which no source declares. "
                    "Name a lake table as <source>.<table>."
                )
        yield from _models(line)
    for table in together.published:
        for each in table.adds_up:
            if each.other_table not in published:
                yield (
                    f"{table.declared_at}: {table.name} is to add up to {each.other_table!r}, "
                    "which is not published. Publish it, or remove the sum."
                )


def _models(line: Line) -> Iterator[str]:
    jobs = {job.name: job for job in line.jobs}
    for model in line.models:
        where = f"{model.declared_at}: model {model.name}"
        if not LINE_NAME.fullmatch(model.name):
            yield f"{where}: use small letters, digits and _, beginning with a letter."
        if (job := jobs.get(model.features)) is None:
            yield (
                f"{where} takes its features from {model.features!r}, which is no Spark job of the "
                "line. Declare the job, or correct the name."
            )
        elif set(job.key) != {*model.grain}:
            yield (
                f"{where}: {job.name} has the key {', '.join(job.key)}. The features need one row "
                f"per {', '.join(model.grain[:-1])} and {model.grain[-1]}."
            )
        if isinstance(model, Classifier):
            yield from _inputs(model, where)
        elif unknown := sorted(
            model.reasons.keys() - {"popular", "own", "similar", *model.alike, *model.traits}
        ):
            yield f"{where} has reasons for {', '.join(unknown)}, which it does not know."


def _inputs(model: Classifier, where: str) -> Iterator[str]:
    names = Counter(each.name for each in model.inputs)
    for name in (name for name, count in names.items() if count > 1):
        yield f"{where}: the feature {name!r} is declared twice. Remove one of them."
    if model.target in names:
        yield f"{where}: its target {model.target!r} is among its features. Remove it there."


def _repeated(items: Iterable[Any], what: str, remedy: str) -> Iterator[str]:
    first: dict[str, Any] = {}
    for item in items:
        # Hive ignores case: the lake tables `orders` and `Orders` would be one.
        name = item.name.lower()
        if name in first:
            other = first[name]
            names = " or ".join(repr(each) for each in dict.fromkeys((item.name, other.name)))
            place = other.declared_at
            yield f"{item.declared_at}: two {what} are called {names}, see {place}. {remedy}."
        first.setdefault(name, item)


LINES = assemble(find_lines())
"""Every line of business, validated together.

A line with mistakes stops the whole code location. To load the other lines would hide the mistake.
"""
