"""What seeding needs of a database of any kind.

The database itself says whose data it holds. What we make carries a mark. It names the source from
the start, and behind it the seed's parameters once everything is loaded, in all databases of the
line. So a seed that was killed is seen as unfinished and made again, a finished one is left alone,
and what we did not make, or made for another source, is never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from softcart_assets.lines.model import Source, Table

Advance = Callable[[int], object]
"""Told how many more rows went from Parquet to the server."""


def mark_of(source: Source) -> str:
    """The start of the marks in the database of a source."""
    return f"SoftCart seed data for {source.name}:"


class Database(Protocol):
    """The database of one source."""

    mark: str
    """The start of its marks."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other seeds away from this database, as far as the server can do that."""
        ...

    def marks(self) -> Mapping[str, str]:
        """The mark of each table that is there. Raises `SeedError` if anything is not ours."""
        ...

    def recreate(self, tables: Collection[Table]) -> None:
        """Replace everything, which must be ours (`marks` says so), by these tables, empty."""
        ...

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Load a table's Parquet files; the number of rows. All rows arrive as they are."""
        ...

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that everything is loaded, in every database, with these parameters."""
        ...


def some(names: Collection[str]) -> str:
    """The first few names, for an error text."""
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")


def refusal(what: str, names: Collection[str], setting: str) -> str:
    """The text of the error about tables that are not ours."""
    return (
        f"{what} that `softcart seed` did not make for it ({some(names)}). Nothing was changed. "
        f"Name an empty database in {setting}, or go on without seeding."
    )
