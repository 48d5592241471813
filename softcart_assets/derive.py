"""Files of the repository that are derived from the declarations, and how each of them is made.

They are in the repository because dbt, Docker and people read files. `softcart derive` writes them.
A test compares them with its output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from softcart_assets.assembly import LINES, Lines
from softcart_assets.dbt import without_jinja
from softcart_assets.ingestion import described
from softcart_assets.lines.model import Source, Table
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import derived as stack

COMMAND = "softcart derive"
_STAGING = "dbt_project/models/staging"


def derived_files(
    lines: Lines = LINES, repository: Path = REPOSITORY
) -> dict[str, Callable[[], str]]:
    """Path of every derived file within the repository → the function that gives its text."""
    models = repository / "dbt_project" / "models" / "warehouse"
    files: dict[str, Callable[[], str]] = {
        "dbt_project/macros/derived/lines.sql": partial(_contributors, lines, models),
        "docker-compose.yml": partial(stack.compose, lines.sources),
        "docker/mysql.sh": partial(stack.mysql_script, lines.sources),
        "docker/passwords.sh": partial(stack.passwords_script, lines.sources),
        ".env.example": partial(stack.dotenv, lines.sources, lines),
    }
    for source in lines.sources:
        path = f"{_STAGING}/{source.name}/_sources.yml"
        files[path] = partial(_dbt_sources, source)
    return files


def outdated(lines: Lines = LINES, repository: Path = REPOSITORY) -> dict[str, str | None]:
    """Path → text of every derived file that is missing or says something else.

    The text is None for a file of a source that is no longer declared. It has to go.
    """
    texts: dict[str, str | None] = {
        path: text() for path, text in derived_files(lines, repository).items()
    }
    # dbt would still offer the tables of such a source to the models.
    for file in sorted((repository / _STAGING).glob("*/_sources.yml")):
        path = file.relative_to(repository).as_posix()
        # What somebody wrote by hand is not ours to delete.
        if path not in texts and _read(file).startswith(f"# Written by `{COMMAND}`"):
            texts[path] = None
    return {
        path: text
        for path, text in texts.items()
        if (_read(file) if (file := repository / path).is_file() else None) != text
    }


def derive(lines: Lines = LINES, repository: Path = REPOSITORY) -> list[str]:
    """Write the derived files that are out of date, delete those that have to go, and return the
    paths of both.
    """
    changed = outdated(lines, repository)
    # Other files stay untouched, because a younger file makes dbt parse its project again.
    for path, text in changed.items():
        file = repository / path
        if text is None:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    return list(changed)


def _read(file: Path) -> str:
    # Descriptions may have any letter, whatever the locale.
    return file.read_text(encoding="utf-8")


def _contributors(lines: Lines, models: Path) -> str:
    """The macro that tells a conformed model which lines have rows for it.

    dbt must know what a model reads when it parses the model. Only a macro can tell it then: the
    other models are not known yet.
    """
    asked = {
        what
        for file in (models / lines.conformed.name).glob("*.sql")
        for what in re.findall(r"union_of_lines\('(\w+)'", _read(file))
    }
    found = {
        what: [
            line.name
            for line in lines
            if (models / line.name / f"int_{line.name}__{what}.sql").is_file()
        ]
        for what in sorted(asked)
    }
    entries = "".join(f"        {what!r}: {names!r},\n" for what, names in found.items())
    return f"""\
{{#- Written by `{COMMAND}`; do not edit. The lines that have a model int_<line>__<what>. -#}}
{{% macro contributors(what) %}}
    {{% do return({{
{entries}    }}[what]) %}}
{{% endmacro %}}
"""


def _dbt_sources(source: Source) -> str:
    """The raw tables of a source as dbt's sources."""
    document = {
        "version": 2,
        "sources": [
            {
                "name": source.schema,
                "schema": source.schema,
                "description": without_jinja(f"{source.description} Exact copies of its tables."),
                "tables": [
                    entry for table in source.tables for entry in _raw_tables(source, table)
                ],
            }
        ],
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return f"# Written by `{COMMAND}` from the declared source; do not edit.\n{text}"


def _raw_tables(source: Source, table: Table) -> Iterator[dict[str, Any]]:
    yield _raw_table(
        table.name,
        f"{table.description} Rows that are deleted at the source stay, marked `_deleted`.",
        described.columns(source, table),
    )
    if table.history:
        yield _raw_table(
            f"{table.name}_history",
            f"One row per version of a row of {table.name} that a load saw. A deletion is one.",
            described.columns(source, table, is_history=True),
        )


def _raw_table(name: str, description: str, columns: Mapping[str, str]) -> dict[str, Any]:
    texts = [{"name": name, "description": without_jinja(text)} for name, text in columns.items()]
    return {"name": name, "description": without_jinja(description), "columns": texts}
