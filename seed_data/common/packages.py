"""Finds the seed data of lines of business."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from seed_data.common.databases import Database
from seed_data.common.dynamodb import DynamoDatabase
from seed_data.common.folder import FolderDatabase
from seed_data.common.model import LineSeed, SeedError, TableDesign
from seed_data.common.mongodb import MongoDatabase
from seed_data.common.mysql import MySQLDatabase
from softcart_assets.lines.model import Line, Source


def seed_of(line: Line) -> LineSeed | None:
    """The `SEED` of the package `seed_data.<line>`. None if there is no such package.

    Raises `SeedError` if the package has no `SEED`.
    """
    name = f"seed_data.{line.name}"
    if find_spec(name) is None:
        return None
    offered = getattr(importlib.import_module(name), "SEED", None)
    if not isinstance(offered, LineSeed):
        raise SeedError(
            f"The package {name} has no SEED. Write SEED = LineSeed(…) into its __init__.py. "
            "The docstring of seed_data shows a whole package."
        )
    return offered


def seeds_of(lines: Iterable[Line]) -> list[tuple[Line, LineSeed]]:
    """The lines that have seed data. Raises `SeedError` if there are none."""
    lines = list(lines)
    found = [(line, seed) for line in lines if (seed := seed_of(line))]
    if not found:
        names = ", ".join(line.name for line in lines)
        raise SeedError(f"There are no seed data: no package seed_data/<line> for {names}.")
    return found


def folder_of(line: Line) -> Path:
    """The folder of the line's package, where `<source>.sql` stands."""
    spec = find_spec(f"seed_data.{line.name}")
    if spec is None or spec.origin is None:
        raise SeedError(f"There is no package seed_data/{line.name}.")
    return Path(spec.origin).parent


def database_of(line: Line, source: Source) -> Database:
    """The database of a source of the line. Raises `SeedError` for a kind without seed data."""
    match source.kind:
        case "mysql":
            return MySQLDatabase(source, folder_of(line) / f"{source.name}.sql")
        case "mongodb":
            return MongoDatabase(source, _designs(line, source))
        case "dynamodb":
            return DynamoDatabase(source, _designs(line, source))
        case "files":
            return FolderDatabase(source)
    raise SeedError(f"Seed data cannot be written into a source of kind {source.kind!r}.")


def _designs(line: Line, source: Source) -> dict[str, TableDesign]:
    seed = seed_of(line)
    return {
        name.removeprefix(f"{source.name}."): design
        for name, design in (seed.designs if seed else {}).items()
        if name.startswith(f"{source.name}.")
    }
