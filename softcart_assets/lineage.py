"""Finds the published tables and columns that a query reads, with sqlglot."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import sqlglot
from sqlglot import exp
from sqlglot.lineage import Node, lineage

SCHEMA = "production"
"""The only schema that a file for people may read, except those of a source about itself."""

Origins = tuple[tuple[str, str], ...]
"""Published columns, as pairs (table, column)."""


class Declared(Protocol):
    """What is made from queries: an extract or a dashboard."""

    @property
    def name(self) -> str:
        """Its name, for messages."""

    @property
    def declared_at(self) -> str:
        """File and line of its declaration."""


class ForeignTable(RuntimeError):
    """A file for people reads a table outside its schema, or one that is not there. The message
    names both.
    """


def known_tables(
    made: Declared, queries: Iterable[str], known: Collection[str], schema: str = SCHEMA
) -> tuple[str, ...]:
    """The tables of a schema that the queries read, in the order of their names.

    `known`: all published tables, or all that a source declares if `schema` is its name. Raises
    `ForeignTable`.
    """
    names = tables_read(made, queries, schema)
    # Dagster would take such a table for one that somebody else makes.
    unknown = [f"{schema}.{name}" for name in names if name not in known]
    if unknown:
        missing = (
            "no line publishes. Publish"
            if schema == SCHEMA
            else "the source does not declare. Declare"
        )
        raise ForeignTable(
            f"{made.declared_at}: {made.name} reads {', '.join(unknown)}, which {missing} the "
            "table, or correct the name."
        )
    return names


def tables_read(made: Declared, queries: Iterable[str], schema: str = SCHEMA) -> tuple[str, ...]:
    """The tables of `schema` that the queries name, in order. Raises `ForeignTable`."""
    found = [table for query in queries for table in _tables_of(query)]
    foreign = sorted({table.sql() for table in found if table.db != schema})
    if foreign:
        remedy = "publish the table, or read another one" if schema == SCHEMA else "read another"
        raise ForeignTable(
            f"{made.declared_at}: {made.name} reads {', '.join(foreign)}. It is made from "
            f"{schema}.* only: {remedy}."
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


def may_change_by_itself(sql: str) -> bool:
    """Whether the result may differ although its tables do not: it names the time, or chance.

    A column of such a name counts too. Then the file is written once too often.
    """
    return bool(_CHANGING.search(sql))


def sources(sql: str) -> dict[str, Origins]:
    """For each column of a query, the published columns that its values come from.

    Columns in WHERE or JOIN only choose rows, so they are left out.
    """
    query = sqlglot.parse_one(sql, dialect="postgres")
    # Its copies of the query with one column each, for display, take most of the time.
    columns = lineage(None, query, {}, dialect="postgres", copy=False, trim_selects=False)
    return {name: tuple(sorted(set(_origins(node)))) for name, node in columns.items()}


def _origins(column: Node) -> Iterator[tuple[str, str]]:
    for node in column.walk():
        if isinstance(node.source, exp.Table) and node.name != "*":
            yield node.source.name, node.name.rpartition(".")[2]
