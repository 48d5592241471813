"""The data dictionary beside the extracts: `datapackage.json`, after the standard Data Package 2.0.

It describes each file, its columns and their types, so that a program can read them rightly. See
https://datapackage.org.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow as pa

from softcart_assets.extracts import kept
from softcart_assets.lines.model import Extract

NAME = "datapackage.json"

MARK = "'"
"""What the CSV file has before a text that a spreadsheet may run as a formula.

Spreadsheets take a text that begins with it for text.
"""

_SIGNS = rf"{MARK}=+\-@＝＋－＠"
"""How such a text begins; some spreadsheets treat the wide signs alike. The mark itself is one, so
whoever removes one mark from each place has the exact text again."""

SEPARATORS = r"[;\t\r\n]"
"""After these, a cell begins for a spreadsheet that separates at semicolons, as Excel does in much
of Europe: then a quote in the middle of what it takes for a cell is a letter like others."""

BEGINS = rf"^ *[{_SIGNS}\t\r\n]"
"""A regular expression: the texts that get a mark before them."""

INSIDE = rf"({SEPARATORS})(?= *[\"{_SIGNS}])"
"""A regular expression: the separators that get a mark after them."""

_NOTE = (
    "The CSV files are for spreadsheets. In them, a text that begins with one of = + - @, a tab or "
    f"a line break has {MARK} before it, so that no spreadsheet runs it as a formula. So has a "
    f"text that begins with {MARK}, and what follows a semicolon, a tab or a line break in a text "
    f"and begins like that. Remove one {MARK} from each of these places to get the exact text. A "
    "quoted empty text is an empty text, and nothing between two commas is a missing value. The "
    "Parquet files have the exact values."
)


def marked(text: str) -> str:
    """A text as a CSV file has it."""
    marked = re.sub(INSIDE, rf"\1{MARK}", text)
    return f"{MARK}{marked}" if re.match(BEGINS, text) else marked


def resources(
    extract: Extract, schema: pa.Schema, csv: Path, parquet: Path, version: int | None = None
) -> list[dict[str, Any]]:
    """The entries of an extract: its CSV file and its Parquet file. Both are complete.

    `version`: the production version of its rows. None: they are not from production.
    """
    fields = [
        {"name": field.name, "description": extract.columns[field.name], **_field_type(field.type)}
        for field in schema
    ]
    common: dict[str, Any] = {"description": extract.description}
    if version is not None:
        common["softcart:production_version"] = version
    return [
        {
            "name": extract.name,
            "path": csv.name,
            **common,
            "type": "table",
            "format": "csv",
            "mediatype": "text/csv",
            "encoding": "utf-8",
            "dialect": {"delimiter": ",", "quoteChar": '"', "header": True},
            "bytes": csv.stat().st_size,
            "hash": f"sha256:{kept.checksum(csv)}",
            "schema": {"fields": fields, "missingValues": [""]},
        },
        {
            "name": f"{extract.name}-parquet",
            "path": parquet.name,
            **common,
            "type": "table",
            "format": "parquet",
            "mediatype": "application/vnd.apache.parquet",
            "bytes": parquet.stat().st_size,
            "hash": f"sha256:{kept.checksum(parquet)}",
            # The formats are those of the texts in CSV.
            "schema": {
                "fields": [
                    {name: value for name, value in field.items() if name != "format"}
                    for field in fields
                ]
            },
        },
    ]


def update(directory: Path, names: Collection[str]) -> None:
    """Write the dictionary of the extracts of these names, unless it says the same already.

    The folder may still have the files of one that nobody declares any more.
    """
    # Whoever writes some of them knows of the others by their records.
    told = [each for told in kept.told(directory, names) for each in told["entries"]]
    entries = [entry for entry in told if (directory / entry["path"]).is_file()]
    package = {
        "$schema": "https://datapackage.org/profiles/2.0/datapackage.json",
        "name": "softcart-extracts",
        "title": "SoftCart extracts",
        "description": _NOTE,
        "resources": sorted(entries, key=lambda entry: str(entry["name"])),
    }
    text = json.dumps(package, indent=2, ensure_ascii=False) + "\n"
    file = directory / NAME
    if file.is_file() and file.read_bytes() == text.encode():
        return
    unfinished = directory / f".{NAME}.unfinished"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(file)


def _field_type(kind: pa.DataType) -> dict[str, str]:
    """The type of a column after the standard Table Schema."""
    if pa.types.is_timestamp(kind):
        return {"type": "datetime", "format": "%Y-%m-%d %H:%M:%S.%fZ"}
    for matches, name in (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_integer, "integer"),
        (pa.types.is_decimal, "number"),
        (pa.types.is_date, "date"),
    ):
        if matches(kind):
            return {"type": name}
    return {"type": "string"}
