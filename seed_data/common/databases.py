"""The interface of a database for seeding, whatever its kind.

The database itself says whose data it holds, by a mark on each of our tables. The mark begins with
the name of the source. The parameters of the seed follow when all databases of the line are loaded.

So an unfinished seed is seen and made again. A finished one is left alone. Tables that we did not
make, or made for another source, are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from softcart_assets.lines.model import Source, Table

Advance = Callable[[int], object]
"""Called with the number of further rows that went from Parquet to the server."""


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
        """The mark of each existing table. Raises `SeedError` if any table is not ours."""
        ...

    def recreate(self, tables: Collection[Table]) -> None:
        """Make these tables anew, empty. Call `marks` first: all tables must be ours.

        Other declared tables stay. Tables that are no longer declared are dropped.
        """
        ...

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Load the Parquet files of a table. Returns the number of rows. No value changes."""
        ...

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that these tables of all databases are loaded, with these parameters."""
        ...


def some(names: Collection[str]) -> str:
    """The first few names, for an error text."""
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")


def refusal(what: str, names: Collection[str], setting: str) -> str:
    """The text of the error about tables that are not ours."""
    return (
        f"{what} that `softcart seed` did not make for it ({some(names)}). Nothing was changed. "
        f"Name an empty database in {setting}, or go on without seed data."
    )
