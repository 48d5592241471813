"""What a failed dbt test says: its limits, its figures, and which rows it is about.

dbt counts the rows that a test returns, and shows none. The values of most columns stay in the
warehouse, because an event log is no place for personal data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg

from softcart_assets.assembly import Lines
from softcart_assets.dbt import PROJECT_DIR, Manifest
from softcart_assets.lines.model import Privacy

_ROWS = 5
_SHOWN = ("_id", "_key", "_version")
"""Endings of columns of a model that tell which row it is."""


def explained(
    session: psycopg.Connection,
    lines: Lines,
    manifest: Manifest,
    target: Path,
    node: Mapping[str, Any],
) -> str:
    """The description of a failed test, a node of the manifest. `target`: where dbt wrote its SQL.

    The model must not have changed since, because the test's SQL runs once more.
    """
    compiled = compiled_sql(target, node)
    parts = [f"{node['name']} failed."]
    arguments = (node.get("test_metadata") or {}).get("kwargs", {})
    # The rows name the references that fail.
    if limits := [
        f"{name}: {value}"
        for name, value in arguments.items()
        if name != "model" and not isinstance(value, dict)
    ]:
        parts.append(f"It checks {', '.join(limits)}.")
    if compiled.is_file():
        parts += _rows(session, compiled.read_text(), _hidden(lines, manifest, node, arguments))
        parts.append(f"Its SQL: {os.path.relpath(compiled, PROJECT_DIR.parent)}")
    return "\n".join(parts)


def compiled_sql(target: Path, node: Mapping[str, Any]) -> Path:
    """The file with the SQL of a model or a test, as dbt names it."""
    written = Path("compiled", node["package_name"], node["original_file_path"])
    # A generic test is one of many in its file.
    return target / (written if written.name == Path(node["path"]).name else written / node["path"])


def _hidden(
    lines: Lines, manifest: Manifest, node: Mapping[str, Any], arguments: Mapping[str, Any]
) -> set[str]:
    """The personal columns of all lines, and those of the models that the test reads.

    Without those of the models that tell which row it is. A key that is personal does not tell.
    """
    nodes = manifest["nodes"]
    read = [nodes[each] for each in node["depends_on"]["nodes"] if each in nodes]
    personal = {
        column.name
        for _, table in lines.tables()
        for column in table.columns
        if column.privacy is not Privacy.NONE
    }
    # A test may read a source, or give a column to its own query. Then no model has it.
    personal |= {column for table in lines.published for column in (*table.pii, *table.sensitive)}
    keys = {*arguments.get("columns", ()), *arguments.get("natural_key", ())}
    return personal | {
        name
        for model in read
        for name in model["columns"]
        if name not in keys and not name.endswith(_SHOWN)
    }


def _rows(session: psycopg.Connection, test: str, hidden: set[str]) -> list[str]:
    """A few of the rows that the test returns, one line each."""
    try:
        # Of the project's own tests, not of a user.
        cursor = session.execute(f"SELECT * FROM ({test}\n) AS failed LIMIT {_ROWS}".encode())
    except psycopg.Error as error:
        return [f"Its SQL fails: {str(error).splitlines()[0]}"]
    names = [column.name for column in cursor.description or ()]
    lines = [
        ", ".join(
            f"{name}={value}" for name, value in zip(names, row, strict=True) if name not in hidden
        )
        for row in cursor
    ]
    if left_out := [name for name in names if name in hidden]:
        lines.append(f"Left out, because they may be personal: {', '.join(left_out)}")
    return [f"Up to {_ROWS} of its rows:", *(line for line in lines if line)]
