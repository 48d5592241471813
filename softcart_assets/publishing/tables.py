"""The published tables, each with its schema, its key and the facts to audit.

Lines of business declare them. dbt's manifest adds the keys and references of a model. Each
publication reads column names and types from staging.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from softcart_assets.lines.model import AddsUp, Line


@dataclass(frozen=True)
class Reference:
    """A key column of a fact. `unknown`: the key of the unknown member, as SQL.

    `max_unknown`: the share of rows that may refer to the unknown member.
    """

    column: str
    dimension: str
    key: str
    unknown: str
    max_unknown: Decimal


@dataclass(frozen=True)
class PublishedTable:
    """One table that people may read as `production.<name>`.

    `schema`: its schema in the staging database. `line`: the line of business that owns it. `key`:
    the columns that identify a row, unique and not null. `versions_of`: for a dimension with
    history (SCD2), the column that its versions share. `lines.model.Published` explains the rest.
    """

    name: str
    schema: str
    key: tuple[str, ...]
    line: str
    indexes: tuple[tuple[str, ...], ...] = ()
    versions_of: str | None = None
    may_be_empty: bool = False
    max_drop: Decimal = Decimal("0.1")
    references: tuple[Reference, ...] = ()
    totals: tuple[str, ...] = ()
    latest: str | None = None
    adds_up: tuple[AddsUp, ...] = ()


UNKNOWN = "'00000000-0000-0000-0000-000000000000'"
"""The key of the unknown member of a dimension, unless its test in dbt says otherwise."""


class UnknownTable(RuntimeError):
    """A table to publish, or one that it refers to, is unknown. The message says where."""


def published_tables(
    lines: Iterable[Line], manifest: Mapping[str, Any]
) -> tuple[PublishedTable, ...]:
    """Every published table of these lines, completed with the tests in dbt's manifest.

    Raises `UnknownTable` if a table is neither a model nor an aggregate, or refers to a table that
    is not published.
    """
    lines = list(lines)
    models = {
        node["name"]: node["schema"]
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model"
    }
    tests = _tests(manifest)
    jobs = {job.name: job for line in lines for job in line.jobs}
    published = {table.name for line in lines for table in line.published}
    found = []
    for line in lines:
        for table in line.published:
            of_model = tests.get(table.name, {})
            if job := jobs.get(table.name):
                schema, key = "aggregates", job.key
            elif table.name in models and "primary_key" in of_model:
                schema, key = models[table.name], tuple(of_model["primary_key"][0]["columns"])
            else:
                raise UnknownTable(
                    f"{table.declared_at}: {table.name} is neither a Spark job nor a dbt model "
                    "with a primary_key test. Add the model, its test or the job, or remove the "
                    "table."
                )
            references = tuple(
                reference
                for test in of_model.get("references_resolved", [])
                for reference in _references(test)
            )
            for reference in references:
                if reference.dimension not in published:
                    raise UnknownTable(
                        f"{table.declared_at}: {table.name} refers to {reference.dimension}, which "
                        f"no line publishes. Publish it, or take {reference.column} out of the "
                        "references_resolved test."
                    )
            found.append(
                PublishedTable(
                    table.name,
                    schema=schema,
                    key=key,
                    line=line.name,
                    indexes=table.indexes,
                    versions_of=next(
                        (test["natural_key"] for test in of_model.get("scd2_intervals", [])), None
                    ),
                    may_be_empty=table.may_be_empty,
                    max_drop=table.max_drop,
                    references=references,
                    totals=table.totals,
                    latest=table.latest,
                    adds_up=table.adds_up,
                )
            )
    return tuple(found)


def _tests(manifest: Mapping[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Model → name of a generic test on it → the arguments of each such test."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and node.get("test_metadata"):
            model = (node.get("attached_node") or "").rpartition(".")[2]
            arguments = node["test_metadata"]["kwargs"]
            of_model = found.setdefault(model, {})
            of_model.setdefault(node["test_metadata"]["name"], []).append(arguments)
    return found


def _references(test: Mapping[str, Any]) -> Iterable[Reference]:
    for column, reference in test.get("references", {}).items():
        # The manifest has the arguments of a test as they are written, so a ref() is still text.
        dimension = re.sub(r"""^ref\(\s*['"](.*)['"]\s*\)$""", r"\1", reference["to"])
        yield Reference(
            column,
            dimension,
            reference.get("key", column),
            str(reference.get("unknown", UNKNOWN)),
            Decimal(str(reference["max_unknown_pct"])) / 100,
        )
