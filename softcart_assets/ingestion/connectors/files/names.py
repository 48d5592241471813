"""What a declaration says of files: which names are a table's, and what replaces what."""

from __future__ import annotations

import codecs
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cache

from softcart_assets.lines.model import FileFormat, Table

UNFINISHED = (".tmp", ".part", ".partial", ".filepart")
"""The ends of names under which programs write files that they rename when they are complete."""
_TYPES = {
    "smallint",
    "integer",
    "bigint",
    "double precision",
    "boolean",
    "text",
    "date",
    "timestamp",
    "timestamptz",
}
_DECIMAL = r"numeric\((\d+),(\d+)\)"


@dataclass(frozen=True)
class Sequence:
    """What a file is a version of, and which version it is."""

    name: str
    version: int


@cache
def _pattern(names: str) -> re.Pattern[str]:
    return re.compile(names)


def format_of(table: Table) -> FileFormat:
    """Return the declared format, which `problems_of` has demanded."""
    assert table.format
    return table.format


def sequence_of(table: Table, name: str) -> Sequence | None:
    """Return the sequence of a file, by its path below the folder. None: it is not the table's."""
    match = _pattern(format_of(table).names).fullmatch(name)
    if match is None:
        return None
    groups = match.groupdict()
    # Without a version, it is the first: a correction has a number.
    return Sequence(groups.get("sequence") or name, int(groups.get("version") or 0))


def problems_of(table: Table, reserved: Container[str]) -> Iterator[str]:
    """Yield what is wrong with the declaration of a table of files."""
    form = table.format
    if form is None:
        yield "a table of files needs a format. Declare format=FileFormat(…)."
        return
    yield from _problems_of_names(form)
    columns = {column.name for column in table.columns}
    for name in sorted(form.types.keys() - columns):
        yield f"its format has a type for {name!r}, which is not among its columns. Declare it."
    for name in (name for name in columns if name in reserved):
        yield f"{name!r} is a column of the platform's own. Rename it in the files."
    for name, type_ in form.types.items():
        decimal = re.fullmatch(_DECIMAL, type_)
        if type_ not in _TYPES and not (decimal and 0 < int(decimal[1]) <= 76):
            yield (
                f"column {name!r} has the type {type_!r}. Declare {', '.join(sorted(_TYPES))} or "
                "numeric(precision,scale)."
            )
    if len(form.separator) != 1 or len(form.quote) > 1 or form.separator in "\r\n" + form.quote:
        yield "separator and quote must be one character each, and not the same."
    elif not (form.separator + form.quote).isascii():
        yield "separator and quote must be ASCII characters."
    try:
        codecs.lookup(form.encoding)
    except LookupError:
        yield f"there is no encoding {form.encoding!r}. Declare one of Python's, such as 'cp1252'."


def _problems_of_names(form: FileFormat) -> Iterator[str]:
    try:
        groups = re.compile(form.names).groupindex
    except re.error as error:
        yield f"{form.names!r} is no regular expression: {error}. Correct `names`."
        return
    if "version" in groups and not re.search(r"\(\?P<version>(\[0-9\]|\\d)[+*]?\)", form.names):
        yield r"the group `version` must be a number: write (?P<version>\d+)."
    if "version" in groups and "sequence" not in groups:
        yield "`names` has a group `version` and no group `sequence`. Say what has versions."
    if form.done is not None and "{name}" not in form.done:
        yield "`done` must have {name} in it, which stands for the name of the file."
