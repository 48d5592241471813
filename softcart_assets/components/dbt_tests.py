"""What a dbt test promises, in words, for its check in Dagster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from softcart_assets.dbt import PROJECT_DIR, Manifest

_OF_DBT = {
    "accepted_values": "Each value is one of these.",
    "not_null": "No value is null.",
    "relationships": "Each value is in the other table.",
    "unique": "No value is there twice.",
}
"""dbt's own tests. They have no comment that we could show."""


def description(manifest: Manifest, test: Mapping[str, Any]) -> str:
    """The description of a test: its own, or else the comment at the top of its SQL.

    The arguments of a generic test follow, which say what it is about here.
    """
    known = test.get("test_metadata")
    if not known:
        return test["description"] or _comment(test["raw_code"])
    name = known["name"]
    macro = manifest["macros"].get(f"macro.{test['package_name']}.test_{name}")
    promise = test["description"] or (
        _of_file(macro["original_file_path"]) if macro else _OF_DBT.get(name, name)
    )
    arguments = "; ".join(
        f"{argument}: {_shown(value)}"
        for argument, value in known["kwargs"].items()
        if argument != "model"
    )
    return f"{promise} ({arguments})" if arguments else promise


@cache
def _of_file(path: str) -> str:
    # The manifest has the macro without the comment before it.
    return _comment((PROJECT_DIR / path).read_text(encoding="utf-8"))


def _comment(text: str) -> str:
    """The first paragraph of the first comment in the SQL of a test."""
    found = re.search(
        r"\{#-?(?P<jinja>.*?)-?#\}|(?P<sql>(?:^[ \t]*--[^\n]*\n?)+)", text, re.S | re.M
    )
    if not found:
        return ""
    lines = (line.strip().removeprefix("--").strip() for line in found.group().splitlines())
    whole = found["jinja"] if found["jinja"] is not None else "\n".join(lines)
    return " ".join(re.split(r"\n\s*\n", whole.strip())[0].split())


def _shown(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return ", ".join(map(str, value))
    # A model, as the file has it.
    if named := re.fullmatch(r"(?:ref|source)\((.*)\)", str(value)):
        return ".".join(part.strip(" '\"") for part in named[1].split(","))
    return str(value)
