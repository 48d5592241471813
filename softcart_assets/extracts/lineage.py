"""Finds the tables and columns of an extract in its SQL."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from softcart_assets import lineage
from softcart_assets.lines.model import Extract, Source


def tables(extract: Extract, published: Collection[str]) -> tuple[str, ...]:
    """The published tables that the extract reads, in the order of their names.

    `published`: the names of all published tables. Raises `ForeignTable`.
    """
    return lineage.known_tables(extract, _queries(extract), published)


def tables_read(extract: Extract) -> tuple[str, ...]:
    """The tables of `production` that the extract names, in order. Raises `ForeignTable`."""
    return lineage.tables_read(extract, _queries(extract))


def source_tables(extract: Extract, source: Source) -> tuple[str, ...]:
    """The tables that a report of a source reads, in the order of their names.

    Raises `ForeignTable` if it reads anything else.
    """
    declared = {table.name for table in source.tables}
    return lineage.known_tables(extract, _queries(extract), declared, source.name)


def _queries(extract: Extract) -> Iterator[str]:
    yield extract.sql
    # What is compared must not change by itself.
    yield from (f"SELECT {total}" for total in extract.totals.values())


def sources(extract: Extract) -> dict[str, lineage.Origins]:
    """For each column of the extract, the published columns that its values come from."""
    found = lineage.sources(extract.sql)
    return {column: found[column] for column in extract.columns}
