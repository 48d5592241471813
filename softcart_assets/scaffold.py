"""The first files of a source: its declaration, a staging model per table, and their contracts.

`softcart discover` writes them once. After that they belong to whoever edits them, so a file that
says something else is never written again.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import yaml
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from softcart_assets.dbt import without_jinja
from softcart_assets.ingestion.connectors.mysql.discover import as_python, constant_of
from softcart_assets.lines.model import Source, Table

_WIDTH = 100
_NAME_LENGTH = 63
"""PostgreSQL cuts longer names off."""
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

_INTEGERS = {"smallint", "integer"}
_OWN_COLUMNS = (
    ("_loaded_at", "timestamptz", "When this form of the row was loaded."),
    ("_version", "bigint", "Grows with each write to the table: the order in which rows came."),
)
_NO_ZONE = "The source does not say its time zone."


class FilesEdited(RuntimeError):
    """Files that would be written exist and say something else. The message names them."""


@dataclass(frozen=True)
class _Renamed:
    """A column of a staging model: its name at the source, its own, its expression and type."""

    source_name: str
    name: str
    expression: str
    data_type: str
    description: str


def first_files(
    line: str, source: Source, types: Mapping[str, Mapping[str, str]], repository: Path
) -> dict[str, str]:
    """Path → text of the files that bring a discovered source into a line of business.

    `types`: table → column → type of the raw column. The `LINE` is among them if the line has none.
    """
    folder = f"softcart_assets/lines/{line}"
    models = f"dbt_project/models/staging/{source.name}"
    columns = {table.name: _columns(source, table, types[table.name]) for table in source.tables}
    files = {f"{folder}/{source.name}.py": as_python(source)}
    if not (repository / folder / "__init__.py").exists():
        files[f"{folder}/__init__.py"] = _line_text(line, source)
    for table in source.tables:
        files[f"{models}/{_model_name(source, table)}.sql"] = _model_text(
            source, table, columns[table.name]
        )
    contracts = (_contract_text(source, table, columns[table.name]) for table in source.tables)
    files[f"{models}/_models.yml"] = "version: 2\n\nmodels:\n" + "\n".join(contracts)
    return files


def write_missing(files: Mapping[str, str], repository: Path) -> list[str]:
    """Write the files that do not exist, and return their paths.

    Raises `FilesEdited`, and writes nothing, if one of them exists with another text.
    """
    edited = [
        path
        for path, text in files.items()
        if (file := repository / path).exists() and file.read_text() != text
    ]
    if edited:
        raise FilesEdited(
            f"Nothing was written. These files exist and say something else: {', '.join(edited)}. "
            "To get new ones, commit them, delete them and run the command again. `git diff` then "
            "shows your own changes. Restore what you want to keep."
        )
    missing = [path for path in files if not (repository / path).exists()]
    for path in missing:
        file = repository / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(files[path])
    return missing


def _line_text(line: str, source: Source) -> str:
    constant = constant_of(source)
    imports = sorted(
        [
            f"from softcart_assets.lines.{line}.{source.name} import {constant}",
            "from softcart_assets.lines.model import Line",
        ]
    )
    return f'''\
"""The line of business `{line}`."""

{imports[0]}
{imports[1]}

LINE = Line(
    "{line}",
    "Line of business `{line}`.",
    owner="{source.owner}",
    sources=({constant},),
)
'''


def _model_name(source: Source, table: Table) -> str:
    return f"stg_{source.name}__{table.name}"


def _model_text(source: Source, table: Table, columns: list[_Renamed]) -> str:
    """The view: names and types of ours, the rows that are not deleted at the source."""
    lines = []
    for column in columns:
        # An alias only where it says something.
        is_renamed = column.expression != column.name
        text = f"    {column.expression}" + (f" as {column.name}" if is_renamed else "")
        if len(text) >= _WIDTH:
            text = f"    {column.expression}\n        as {column.name}"
        lines.append(text)
    lines += [f"    {name}" for name, _, _ in _OWN_COLUMNS]
    return (
        "select\n"
        + ",\n".join(lines)
        + f"\nfrom {{{{ source('{source.schema}', '{table.name}') }}}}\nwhere not _deleted\n"
    )


def _contract_text(source: Source, table: Table, columns: list[_Renamed]) -> str:
    """The entry in _models.yml: description, tests, and every column with its type."""
    model = _model_name(source, table)
    names = {column.source_name: column.name for column in columns}
    lines = [
        f"  - name: {model}",
        *_description(4, table.description),
        "    data_tests:",
        "      - one_to_one_with_raw:",
        f"          name: one_to_one_with_raw_{model}",
        "          arguments:",
        f"            raw: source('{source.schema}', '{table.name}')",
    ]
    if table.key:
        lines += [
            "      - primary_key:",
            f"          name: primary_key_{model}",
            "          arguments:",
            "            columns:",
            *(f"              - {names[column]}" for column in table.key),
        ]
    lines.append("    columns:")
    described = ((each.name, each.data_type, each.description) for each in columns)
    for name, data_type, description in chain(described, _OWN_COLUMNS):
        lines += [f"      - name: {name}", f"        data_type: {data_type}"]
        lines += _description(8, description)
    return "\n".join(lines) + "\n"


def _description(indent: int, text: str) -> list[str]:
    """The key `description`, on several lines if the text is long."""
    text = without_jinja(" ".join(text.split()))
    margin = indent * " "
    # YAML itself decides whether the text needs quotes. It marks the end of one that needs none.
    plain = yaml.safe_dump(text, width=10**6, allow_unicode=True).removesuffix("...\n").strip()
    if len(line := f"{margin}description: {plain}") <= _WIDTH:
        return [line]
    wrapped = textwrap.wrap(
        text, _WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False
    )
    return [f"{margin}description: >-", *(f"{margin}  {each}" for each in wrapped)]


def _columns(source: Source, table: Table, types: Mapping[str, str]) -> list[_Renamed]:
    """The columns of a table's staging model, in the order of the table."""
    entity = _singular(_plain(table.name) or "row")
    candidates = {column.name: _candidates(entity, column.name) for column in table.columns}
    # Names that can stay come first, so that a made-up name never takes one of theirs.
    used = {name for name, _, _ in _OWN_COLUMNS}
    names: dict[str, str] = {}
    for raw in sorted(candidates, key=lambda raw: next(_candidates(entity, raw)) != raw):
        names[raw] = next(name for name in candidates[raw] if name not in used)
        used.add(names[raw])
    found = []
    for column in table.columns:
        name, data_type = names[column.name], types[column.name]
        expression = _quoted(column.name)
        # Keys get room to grow. Otherwise a wider key at the source would break the contract.
        if data_type in _INTEGERS and (column.name in table.key or name.endswith("_id")):
            expression, data_type = f"{expression}::bigint", "bigint"
        description = column.description or f"`{column.name}` of `{table.at_source}`."
        if data_type == "timestamp":
            description = f"{description} {_NO_ZONE}"
        found.append(_Renamed(column.name, name, expression, data_type, description))
    return found


def _candidates(entity: str, column: str) -> Iterator[str]:
    """Names for a column, the best first: as docs/naming.md has them, and never reserved."""
    plain = _plain(column) or "column"
    if plain == "id" or plain in RESERVED_WORDS:
        yield f"{entity}_{plain}"[:_NAME_LENGTH]
    if plain not in RESERVED_WORDS:
        yield plain
    yield from (f"{plain[: _NAME_LENGTH - 5]}_{number}" for number in count(2))


def _plain(name: str) -> str:
    """A name in small letters, digits and _. Empty: nothing of it can stay."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", letters)
    plain = re.sub(r"[^a-z0-9_]+", "_", words.lower()).rstrip("_")[:_NAME_LENGTH]
    # Names that begin with _ are the engine's own.
    plain = plain.lstrip("_")
    return f"column_{plain}"[:_NAME_LENGTH] if plain[:1].isdigit() else plain


def _singular(name: str) -> str:
    """What a table called so has in each row, by the common rules of English."""
    for pattern, ending in ((r"(?<=[a-z]{2})ies", "y"), (r"(?<=ss|ch|sh)es", ""), (r"xes", "x")):
        if re.search(f"{pattern}$", name):
            return re.sub(f"{pattern}$", ending, name)
    return re.sub(r"(?<=[^sui])s$", "", name)


def _quoted(name: str) -> str:
    """A column of a raw table in SQL, in quotes where PostgreSQL needs them."""
    if _PLAIN.fullmatch(name) and name not in RESERVED_WORDS:
        return name
    return '"' + name.replace('"', '""') + '"'
