"""Finds the published tables and columns of an extract in its SQL, with sqlglot."""

from __future__ import annotations

import re
from collections.abc import Collection

import sqlglot
from sqlglot import exp
from sqlglot.lineage import lineage

from softcart_assets.lines.model import Extract

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


def sources(extract: Extract) -> dict[str, tuple[tuple[str, str], ...]]:
    """For each column of the extract, the published columns that its values come from.

    Each of them is a pair (table, column). Columns in WHERE or JOIN only choose rows, so they are
    left out.
    """
    query = sqlglot.parse_one(extract.sql, dialect="postgres")
    return {column: tuple(sorted(_origins(column, query))) for column in extract.columns}


def _origins(column: str, query: exp.Expr) -> set[tuple[str, str]]:
    return {
        (node.source.name, node.name.rpartition(".")[2])
        for node in lineage(column, query, {}, dialect="postgres").walk()
        if isinstance(node.source, exp.Table) and node.name != "*"
    }
