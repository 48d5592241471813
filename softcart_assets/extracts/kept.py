"""Finds out whether files for people are still right, so that nobody writes them again.

Each output has a record beside its files, `.<name>.json`. It has the version of what the files were
made of, their checksums, and what the run that wrote them told.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from softcart_assets.publishing.contents import version_of

_LIBRARIES = ("altair", "pyarrow", "seaborn", "vl-convert-python")
"""What else decides how a file looks."""


def table_version(session: psycopg.Connection, table: str) -> str:
    """A number of the version of a published table's rows, and of its columns."""
    name = sql.Identifier("production", table)
    columns = session.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(name)).description or ()
    return digest(
        [[(column.name, column.type_display) for column in columns], version_of(session, table)]
    )


@cache
def code_version(package: str) -> str:
    """A number of the code that writes files: the sources of a package, and its libraries."""
    spec = importlib.util.find_spec(package)
    assert spec
    assert spec.origin
    origin = Path(spec.origin)
    sources = sorted(origin.parent.rglob("*")) if origin.name == "__init__.py" else [origin]
    files = [
        (file.name, file.read_bytes())
        for file in sources
        if file.is_file() and "__pycache__" not in file.parts
    ]
    return digest([files, [metadata.version(library) for library in _LIBRARIES]])


def digest(parts: object) -> str:
    """A short text that differs if the parts do. They are texts, numbers, bytes and lists."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def find(directory: Path, name: str, version: str) -> dict[str, Any] | None:
    """What was told of an output, if it is of this version and its files are as they were written.

    Otherwise, or if it was never written, None.
    """
    try:
        record = json.loads(_record(directory, name).read_text())
        unchanged = record["version"] == version and all(
            checksum(directory / file) == expected for file, expected in record["files"].items()
        )
    # Whatever is wrong with the record or a file: writing both again mends it.
    except (OSError, ValueError, KeyError):
        return None
    return dict(record["told"]) if unchanged else None


def keep(
    directory: Path, name: str, version: str, files: Iterable[Path], told: Mapping[str, Any]
) -> None:
    """Record an output whose files have just been written to this folder. `told` is JSON."""
    record = {
        "version": version,
        "files": {str(file.relative_to(directory)): checksum(file) for file in files},
        "told": told,
    }
    unfinished = _record(directory, name).with_suffix(".unfinished")
    unfinished.write_text(json.dumps(record))
    unfinished.replace(_record(directory, name))


def told(directory: Path, names: Iterable[str]) -> list[dict[str, Any]]:
    """What was told of those of these outputs that have a record which can be read."""
    found = []
    for name in names:
        # An output with a damaged record is written again, and then it has another one.
        with suppress(OSError, ValueError, KeyError):
            found.append(dict(json.loads(_record(directory, name).read_text())["told"]))
    return found


def _record(directory: Path, name: str) -> Path:
    return directory / f".{name}.json"


def checksum(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
