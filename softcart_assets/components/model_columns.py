"""The columns of dbt models, and the columns that their values come from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import psycopg
import sqlglot
from sqlglot import exp
from sqlglot.lineage import Node, lineage

Table = tuple[str, str]
"""A schema and the name of a table or view in it."""
Origins = dict[str, list[tuple[str, str, str]]]
"""Column → where its values come from, each a schema, a table and a column."""


def column_types(
    session: psycopg.Connection, tables: Iterable[Table]
) -> dict[Table, dict[str, str]]:
    """The columns of tables with their types as PostgreSQL writes them. One query for all."""
    found: dict[Table, dict[str, str]] = {}
    for schema, table, column, type_ in session.execute(
        """
        SELECT n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
        FROM json_array_elements(%s::json) AS wanted
        JOIN pg_namespace n ON n.nspname = wanted ->> 0
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = wanted ->> 1
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY c.oid, a.attnum
        """,
        [json.dumps(list(tables))],
    ):
        found.setdefault((schema, table), {})[column] = type_
    return found


def kept_lineage(query: str, columns: Mapping[Table, Collection[str]], file: Path) -> Origins:
    """As `query_lineage`. The file keeps what was found, for the next run of the same query.

    To trace the columns of all models takes some 2 CPU seconds, and queries seldom change.
    """
    depends_on = [
        version("sqlglot"),
        # Numbers, such as the marks of an incremental model, make no columns.
        re.sub(r"\b\d+\b", "0", query),
        sorted((*table, *columns[table]) for table in columns),
    ]
    of = hashlib.sha256(json.dumps(depends_on).encode()).hexdigest()
    if file.exists() and (kept := json.loads(file.read_text()))["of"] == of:
        return {column: [tuple(each) for each in origins] for column, origins in kept["is"].items()}
    found = query_lineage(query, columns)
    file.parent.mkdir(parents=True, exist_ok=True)
    # Under another name first: a process that is killed while it writes leaves no half file.
    new = file.with_suffix(".new")
    new.write_text(json.dumps({"of": of, "is": found}))
    new.replace(file)
    return found


def query_lineage(query: str, columns: Mapping[Table, Collection[str]]) -> Origins:
    """Each column of a query, and the columns of tables that its values come from.

    `columns`: the columns of each table that is read. All of the query's columns are traced through
    one parsing of it. Columns in WHERE or JOIN only choose rows, so they are left out.
    """
    tree = sqlglot.parse_one(query, dialect="postgres")
    for table in tree.find_all(exp.Table):
        # dbt writes the database before the schema. It is the same one everywhere.
        table.set("catalog", None)
    schemas: dict[str, dict[str, dict[str, str]]] = {}
    for (schema, name), names in columns.items():
        schemas.setdefault(schema, {})[name] = dict.fromkeys(names, "unknown")
    # Its copies of the query with one column each, for display, take most of the time.
    nodes = lineage(None, tree, schemas, dialect="postgres", copy=False, trim_selects=False)
    return {column: sorted(_origins(node)) for column, node in nodes.items()}


def _origins(column: Node) -> set[tuple[str, str, str]]:
    return {
        (node.expression.db, node.expression.name, exp.to_column(node.name).name)
        for node in column.walk()
        # A name without a schema is a part of the query itself (WITH … AS).
        if isinstance(node.expression, exp.Table) and node.expression.db
    }
