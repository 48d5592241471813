"""Writes what is known about a person into a folder: JSON for programs, CSV for people.

Everything is in it that sources told about the person and that was computed about the person. Rows
of others that only name the person are not: they belong to others.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import psycopg
from psycopg import sql

from softcart_assets.assembly import Lines
from softcart_assets.lines.model import Line, Source
from softcart_assets.privacy.find import tables_of
from softcart_assets.privacy.made import Lineage, Tracing
from softcart_assets.privacy.person import Person

_COMPUTED = ("aggregates", "ml")
"""The schemas with what is computed about people. The star schema repeats what sources told."""
_FETCH_ROWS = 10_000


class ExportRefused(RuntimeError):
    """The export was not written. The message says why."""


@dataclass(frozen=True)
class Part:
    """The rows of one table that are about the person, as texts.

    `purpose`: why the company has them. `columns`: their names and descriptions.
    """

    name: str
    source: str
    purpose: str
    retention: str
    columns: Mapping[str, str]
    query: sql.Composed


KEPT = "Kept until the source deletes it and somebody erases it here. No other term is declared."
"""How long copies are kept."""
_COMPUTED_KEPT = "Replaced by each computation. It is gone after the first one without the person."


def parts(
    session: psycopg.Connection, lines: Lines, person: Person, lineage: Lineage
) -> Iterator[Part]:
    """What there is about the person, table by table.

    Raises `ExportRefused` if nobody knows whether a computed table has rows of the person.
    """
    for line in lines:
        for source in line.sources:
            yield from _of_source(line, source, person)
    known, unknown = Tracing(lines, lineage).made(), []
    for schema, table in tables_of(session, _COMPUTED):
        columns = _columns(session, schema, table)
        if not (made := known.get((schema, table))):
            unknown.append(
                f"{schema}.{table}: No build has recorded where its columns come from. Materialise "
                "it."
            )
        elif wrong := made.wrong(columns):
            unknown.append(f"{schema}.{table}: {wrong}")
        elif condition := person.matching(made.found_by, columns):
            yield Part(
                f"{schema}.{table}",
                "computed by SoftCart",
                "Figures and forecasts for the lines of business.",
                _COMPUTED_KEPT,
                dict.fromkeys(columns, ""),
                _query(schema, table, columns, condition),
            )
    if unknown:
        raise ExportRefused(
            "Nothing was written, as rows of the person may be missing.\n" + "\n".join(unknown)
        )


def _of_source(line: Line, source: Source, person: Person) -> Iterator[Part]:
    for table in source.tables:
        present = person.relations.get((source.schema, table.name), set())
        columns = {each.name: each.description for each in table.columns if each.name in present}
        if condition := person.rows_of(source, table):
            condition = sql.SQL("NOT _deleted AND {}").format(condition)
            yield Part(
                f"{source.name}.{table.name}",
                f"{source.name}: {source.description} ({line.owner_of(source)})",
                source.purpose or "Not declared.",
                KEPT,
                columns,
                _query(source.schema, table.name, list(columns), condition),
            )


def _query(
    schema: str, table: str, columns: Sequence[str], condition: sql.Composable
) -> sql.Composed:
    # As text: nothing is lost on the way, and both files say the same.
    values = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(c)) for c in columns)
    name = sql.Identifier(schema, table)
    return sql.SQL("SELECT {} FROM {} WHERE {}").format(values, name, condition)


def _columns(session: psycopg.Connection, schema: str, table: str) -> list[str]:
    rows = session.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE (table_schema, table_name) = (%s, %s) ORDER BY ordinal_position",
        [schema, table],
    )
    return [name for (name,) in rows]


def export(
    session: psycopg.Connection, lines: Lines, person: Person, lineage: Lineage, folder: Path
) -> dict[str, int]:
    """Write `person.json` and one CSV file per table. Returns the rows by table.

    Only the user of this process may read the files. Raises `ExportRefused`, and writes nothing,
    if the folder has anything in it or a table may have more about the person.
    """
    # All of them first: what is refused leaves no half folder.
    found = list(parts(session, lines, person, lineage))
    if folder.exists() and any(folder.iterdir()):
        raise ExportRefused(f"{folder} is not empty. Name a new folder, so that nothing is mixed.")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    written: dict[str, int] = {}
    with _private(folder / "person.json") as file:
        about = {
            "made_at": datetime.now(UTC).isoformat(),
            "customers": [{"line": line, "number": number} for line, number in person.customers],
        }
        file.write(json.dumps(about, ensure_ascii=False, indent=2).removesuffix("\n}"))
        file.write(',\n  "tables": [')
        for part in found:
            if rows := _write_part(session, part, folder, file, is_first=not written):
                written[part.name] = rows
        file.write("\n  ]\n}\n")
    return written


def _private(path: Path) -> TextIO:
    """Open a new file that nobody else may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    return os.fdopen(descriptor, "w", encoding="utf-8", newline="")


def _write_part(
    session: psycopg.Connection, part: Part, folder: Path, file: TextIO, *, is_first: bool
) -> int:
    """Write the rows of a table into a CSV file of its own and into `file`. Returns their number.

    A table without rows of the person leaves nothing.
    """
    names, count = list(part.columns), 0
    # A cursor on the server: somebody may have a million calls.
    with session.cursor(name="export") as cursor:
        cursor.execute(part.query)
        if not (rows := cursor.fetchmany(_FETCH_ROWS)):
            return 0
        about = {
            "table": part.name,
            "source": part.source,
            "purpose": part.purpose,
            "retention": part.retention,
            "columns": dict(part.columns),
        }
        file.write("\n    " if is_first else ",\n    ")
        file.write(json.dumps(about, ensure_ascii=False).removesuffix("}"))
        file.write(', "rows": [')
        with _private(folder / f"{part.name}.csv") as table:
            writer = csv.writer(table)
            writer.writerow(names)
            while rows:
                for row in rows:
                    file.write(",\n      " if count else "\n      ")
                    json.dump(dict(zip(names, row, strict=True)), file, ensure_ascii=False)
                    writer.writerow(row)
                    count += 1
                rows = cursor.fetchmany(_FETCH_ROWS)
        file.write("\n    ]}")
    return count
