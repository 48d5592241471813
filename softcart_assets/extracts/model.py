"""What a declaration of an extract consists of: plain data, no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of an extract. `sources`: the columns of production that its values come from, as `table.column`.

    Columns that only choose rows (in WHERE or JOIN) are not among them.
    """

    name: str
    description: str
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Extract:
    """A file for people. `sql`: one SELECT over `production.*` that returns exactly `columns`, in their order.

    Every decimal in it is cast to the precision and scale that the files are to have.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    sql: str


def column(name: str, description: str, *sources: str) -> Column:
    """A `Column`, with its sources listed one by one."""
    return Column(name, description, sources)
