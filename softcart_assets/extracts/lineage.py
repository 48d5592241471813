"""Finds the published tables and columns of an extract or a page in its SQL, with sqlglot."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import sqlglot
from sqlglot import exp
from sqlglot.lineage import Node, lineage

from softcart_assets.lines.model import Extract
from softcart_assets.lines.page import Listing, Measure, Page

SCHEMA = "production"
"""The only schema that an extract may read."""


class ForeignTable(RuntimeError):
    """An extract reads a table outside `production`, or one that no line publishes. The message
    names both.
    """


def tables(extract: Extract, published: Collection[str]) -> tuple[str, ...]:
    """The published tables that the extract reads, in the order of their names.

    `published`: the names of all published tables. Raises `ForeignTable`.
    """
    names = tables_read(extract)
    # Dagster would take such a table for one that somebody else makes.
    unknown = [f"{SCHEMA}.{name}" for name in names if name not in published]
    if unknown:
        raise ForeignTable(
            f"{extract.declared_at}: {extract.name} reads {', '.join(unknown)}, which no line "
            "publishes. Publish the table, or correct the name."
        )
    return names


def tables_read(extract: Extract) -> tuple[str, ...]:
    """The tables of `production` that the extract names, in order. Raises `ForeignTable`.

    Those of its totals count. What is compared must not change by itself.
    """
    queries = (extract.sql, *(f"SELECT {total}" for total in extract.totals.values()))
    found = [table for query in queries for table in _tables_of(query)]
    foreign = sorted({table.sql() for table in found if table.db != SCHEMA})
    if foreign:
        raise ForeignTable(
            f"{extract.declared_at}: {extract.name} reads {', '.join(foreign)}. An extract reads "
            f"{SCHEMA}.* only: publish the table, or read another one."
        )
    return tuple(sorted({table.name for table in found}))


def _tables_of(sql: str) -> list[exp.Table]:
    query = sqlglot.parse_one(sql, dialect="postgres")
    # A name without a schema may be a part of the query itself (WITH … AS).
    inside = {cte.alias for cte in query.find_all(exp.CTE)}
    return [
        table
        for table in query.find_all(exp.Table)
        # Not a function that returns rows.
        if isinstance(table.this, exp.Identifier) and (table.db or table.name not in inside)
    ]


_CHANGING = re.compile(
    r"\b(now|today|tomorrow|yesterday|age|random\w*|gen_random_uuid|timeofday"
    r"|current_\w+|localtime\w*|\w+_timestamp)\b",
    re.IGNORECASE,
)


def may_change_by_itself(extract: Extract) -> bool:
    """Whether the extract may differ although its tables do not: it names the time, or chance.

    A column of such a name counts too. Then the extract is written once too often.
    """
    return bool(_CHANGING.search(extract.sql))


Origins = tuple[tuple[str, str], ...]
"""Published columns that values come from, each a pair (table, column)."""


def sources(extract: Extract) -> dict[str, Origins]:
    """For each column of the extract, the published columns that its values come from.

    Columns in WHERE or JOIN only choose rows, so they are left out.
    """
    found = _columns_of(extract.sql)
    return {column: found[column] for column in extract.columns}


def page_sources(page: Page) -> dict[str, Origins]:
    """For each dimension, measure and column of a listing that a page shows, the same by its label.

    The keys of a dimension count, and the names that are shown for them.
    """
    cube = page.cube
    wanted = {"Day": cube.day, **{each.name: each.sql for each in page.measures if each.sql}}
    wanted |= {"events": cube.event}
    if cube.hour:
        wanted["Hour"] = cube.hour
    if cube.actor:
        wanted["actors"] = wanted["repeaters"] = cube.actor
    for dimension in cube.dimensions:
        for level in dimension.levels:
            wanted[f"{dimension.name}/{level.name}"] = level.sql
    columns = ", ".join(f'{expression} AS "{name}"' for name, expression in wanted.items())
    found = _columns_of(f"SELECT {columns} FROM {cube.fact} f {cube.joins}")
    shown = {name: found[name] for name in ("Day", "Hour") if name in found}
    for dimension in cube.dimensions:
        origins: set[tuple[str, str]] = set()
        for level in dimension.levels:
            origins |= {*found[f"{dimension.name}/{level.name}"]}
            if level.names:
                origins |= {each for part in _columns_of(level.names).values() for each in part}
        shown[dimension.label] = tuple(sorted(origins))
    measures = {measure.name: measure for measure in page.measures}

    def parts(measure: Measure) -> Iterator[str]:
        if measure.sql or measure.counts:
            yield measure.counts or measure.name
        for name in (*measure.plus, *(measure.of or ())):
            yield from parts(measures[name])

    for measure in page.measures:
        every = {origin for part in parts(measure) for origin in found[part]}
        shown[measure.label] = tuple(sorted(every))
    for block in page.blocks():
        if isinstance(block, Listing):
            listed = _columns_of(block.sql)
            shown |= {f"{block.title}: {each.label}": listed[each.name] for each in block.columns}
    return shown


def _columns_of(sql: str) -> dict[str, Origins]:
    """Each column of a query, and where its values come from."""
    query = sqlglot.parse_one(sql, dialect="postgres")
    # Its copies of the query with one column each, for display, take most of the time.
    nodes = lineage(None, query, {}, dialect="postgres", copy=False, trim_selects=False)
    return {column: tuple(sorted(_origins(node))) for column, node in nodes.items()}


def _origins(column: Node) -> set[tuple[str, str]]:
    return {
        (node.source.name, node.name.rpartition(".")[2])
        for node in column.walk()
        if isinstance(node.source, exp.Table) and node.name != "*"
    }
