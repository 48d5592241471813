"""The published tables, each with its schema, its key and the facts to audit.

Lines of business declare them. dbt's manifest adds the keys and references of a model. Each
publication reads column names and types from staging.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from softcart_assets.lines.model import Limit, Line, Privacy, Published, Table


@dataclass(frozen=True)
class Reference:
    """A key column of a fact. `unknown`: the key of the unknown member, as SQL.

    `max_unknown`: the share of rows that may refer to the unknown member. `where`: the rows that
    are counted, as SQL. Empty: all of them.
    """

    column: str
    dimension: str
    key: str
    unknown: str
    max_unknown: Limit
    where: str = ""


@dataclass(frozen=True)
class PublishedTable:
    """One table that people may read as `production.<name>`.

    `declared`: what its line of business says of it. `schema`: its schema in the staging database.
    `key`: the columns that identify a row, unique and not null. `line`: the line of business that
    owns it. `versions_of`: for a dimension with history (SCD2), the columns that its versions
    share. `pii`, `sensitive`: names of columns with personal data. The table may lack some of them.
    """

    declared: Published
    schema: str
    key: tuple[str, ...]
    line: str
    versions_of: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    pii: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the table, in staging and in production."""
        return self.declared.name


UNKNOWN = "'00000000-0000-0000-0000-000000000000'"
"""The key of the unknown member of a dimension, unless its test in dbt says otherwise."""


class UnknownTable(RuntimeError):
    """A table to publish, or one that it refers to, is unknown. The message says where."""


class UnexplainedLimit(RuntimeError):
    """A reference has no limit, or one without a reason. The message says where."""


class UnknownColumn(RuntimeError):
    """A declaration names columns that a published model does not have. The message says where."""


Lineage = Mapping[str, Mapping[str, Iterable[str]]]
"""Spark job → column of its aggregate → the columns `<source>.<table>.<column>` it comes from."""


def published_tables(
    lines: Iterable[Line], manifest: Mapping[str, Any], lineage: Lineage
) -> tuple[PublishedTable, ...]:
    """Every published table of these lines, completed with the tests in dbt's manifest.

    `lineage`: that of all jobs of these lines.

    Raises `UnknownTable` if a table is neither a model nor an aggregate, or refers to a table that
    is not published. Raises `UnknownColumn` if a declared column is not in the model. Raises
    `UnexplainedLimit` if a reference has no limit or no reason for it.
    """
    lines = list(lines)
    models = {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }
    tests, classes = _tests(manifest), _Classes(lines, manifest, lineage)
    found = tuple(
        classes.classified(_published_table(line, table, models, tests.get(table.name, {})), line)
        for line in lines
        for table in line.published
    )
    names = {table.name for table in found}
    for table in found:
        for reference in table.references:
            if reference.dimension not in names:
                raise UnknownTable(
                    f"{table.declared.declared_at}: {table.name} refers to {reference.dimension}, "
                    f"which no line publishes. Publish it, or take {reference.column} out of the "
                    "references_resolved test."
                )
        _refuse_unknown_columns(table.declared, models)
    return found


def _published_table(
    line: Line,
    table: Published,
    models: Mapping[str, Mapping[str, Any]],
    tests: Mapping[str, list[dict[str, Any]]],
) -> PublishedTable:
    """The table with its key and its references. `tests`: the generic tests of its model."""
    if job := {job.name: job for job in line.jobs}.get(table.name):
        return PublishedTable(table, "aggregates", job.key, line.name)
    if model := {model.scores: model for model in line.models}.get(table.name):
        return PublishedTable(table, "ml", model.key, line.name)
    if table.name not in models or "primary_key" not in tests:
        raise UnknownTable(
            f"{table.declared_at}: {table.name} is neither a Spark job nor the scores of a model, "
            "nor a dbt model with a primary_key test. Add one of them, or remove the table."
        )
    return PublishedTable(
        table,
        schema=models[table.name]["schema"],
        key=tuple(tests["primary_key"][0]["columns"]),
        line=line.name,
        versions_of=next(
            (tuple(test["natural_key"]) for test in tests.get("scd2_intervals", [])), ()
        ),
        references=tuple(
            reference
            for test in tests.get("references_resolved", [])
            for reference in _references(test)
        ),
    )


class _Classes:
    """Finds the columns of published tables that are personal.

    A column is if it has the name of a personal column of a source table that the published table
    is made from. That errs on the safe side, and a new column of a source is hidden without anybody
    having to think of it. A column of an aggregate, or of the scores of a model, is, too, if the
    lineage of the job leads to one. `Published` says what is otherwise. The lineage of models is
    known when they are built, see `personal`.
    """

    def __init__(
        self, lines: Iterable[Line], manifest: Mapping[str, Any], lineage: Lineage
    ) -> None:
        self._lineage = lineage
        self._nodes = {**manifest["nodes"], **manifest.get("sources", {})}
        self._models = {
            node["name"]: node
            for node in manifest["nodes"].values()
            if node["resource_type"] == "model"
        }
        self._tables = {
            (source.schema, name): table
            for line in lines
            for source, table in line.tables()
            for name in (table.name, f"{table.name}_history")
        }

    def classified(self, table: PublishedTable, line: Line) -> PublishedTable:
        """The table with its personal columns. `line`: the one that publishes it."""
        model = {model.scores: model for model in line.models}.get(table.name)
        jobs = {job.name: job for job in line.jobs}
        lineage = self._lineage.get(model.features if model else table.name, {})
        if model:
            lineage = {
                column: [origin for name in names for origin in lineage.get(name, ())]
                for column, names in model.origins.items()
            }
        if job := jobs.get(model.features if model else table.name):
            sources = [
                read
                for (schema, name), read in self._tables.items()
                if f"{schema}.{name}".removeprefix("raw_") in job.inputs
            ]
        else:
            sources = self._sources(self._models[table.name])
        classed = [each for source in sources for each in source.privacy.items()]
        for column, origins in lineage.items():
            for origin in origins:
                source, name, origin_column = origin.split(".")
                read = self._tables[f"raw_{source}", name]
                classed.append((column, read.privacy.get(origin_column, Privacy.NONE)))
        found = {
            each: {column for column, privacy in classed if privacy is each}
            for each in (Privacy.PII, Privacy.SENSITIVE)
        }
        declared = table.declared
        sensitive = {*found[Privacy.SENSITIVE], *declared.sensitive} - declared.not_pii.keys()
        pii = {*found[Privacy.PII], *declared.pii} - declared.not_pii.keys()
        return replace(table, pii=tuple(sorted(pii)), sensitive=tuple(sorted(sensitive)))

    def _sources(self, model: Mapping[str, Any]) -> list[Table]:
        """The source tables that a model is made from, by way of other models."""
        found, seen, wanted = [], set(), list(model.get("depends_on", {}).get("nodes", ()))
        while wanted:
            if (each := wanted.pop()) in seen:
                continue
            seen.add(each)
            node = self._nodes[each]
            wanted += node.get("depends_on", {}).get("nodes", ())
            if table := self._tables.get((node["schema"], node["name"])):
                found.append(table)
        return found


def _refuse_unknown_columns(table: Published, models: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `UnknownColumn` for declared columns that the models do not have."""
    named = [(table.name, column) for columns in table.indexes for column in columns]
    named += [(table.name, column) for column in (*table.pii, *table.sensitive, *table.not_pii)]
    named += [(table.name, column) for column in (*table.totals, *filter(None, (table.latest,)))]
    for sums in table.adds_up:
        named += [(table.name, sums.column), (sums.other_table, sums.other_column)]
    # The columns of an aggregate are not known before Spark has made it.
    unknown = [
        f"{name}.{column}"
        for name, column in dict.fromkeys(named)
        if name in models and column not in models[name]["columns"]
    ]
    if unknown:
        raise UnknownColumn(
            f"{table.declared_at}: {table.name} names columns that its dbt models do not have: "
            f"{', '.join(unknown)}. Correct the declaration, or add the columns to the models and "
            "their _models.yml."
        )


def _tests(manifest: Mapping[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Model → name of a generic test on it → the arguments of each such test.

    Beside the arguments is `declared_at`, the test and its file.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and node.get("test_metadata"):
            model = (node.get("attached_node") or "").rpartition(".")[2]
            place = f"dbt_project/{node['original_file_path']}: {node['name']}"
            arguments = {**node["test_metadata"]["kwargs"], "declared_at": place}
            of_model = found.setdefault(model, {})
            of_model.setdefault(node["test_metadata"]["name"], []).append(arguments)
    return found


def _references(test: Mapping[str, Any]) -> Iterable[Reference]:
    for column, reference in test.get("references", {}).items():
        # The manifest has the arguments of a test as they are written, so a ref() is still text.
        dimension = re.sub(r"""^ref\(\s*['"](.*)['"]\s*\)$""", r"\1", reference["to"])
        if "max_unknown_pct" not in reference:
            raise UnexplainedLimit(
                f"{test['declared_at']}: {column} has no max_unknown_pct. Write how many percent "
                "of the rows may refer to the unknown member."
            )
        most = Decimal(str(reference["max_unknown_pct"])) / 100
        reason = str(reference.get("reason") or "").strip()
        # Who is held by a limit sees its reason, and decides by it whether to accept.
        if most < 1 and not reason:
            raise UnexplainedLimit(
                f"{test['declared_at']}: max_unknown_pct of {column} is "
                f"{reference['max_unknown_pct']} without a reason. Write the reason next to it, "
                "or 100 if any number of rows may refer to the unknown member."
            )
        yield Reference(
            column,
            dimension,
            reference.get("key", column),
            str(reference.get("unknown", UNKNOWN)),
            Limit(
                most,
                reason or "Any number is right.",
                f"{test['declared_at']}, max_unknown_pct of {column}",
            ),
            reference.get("where", ""),
        )
