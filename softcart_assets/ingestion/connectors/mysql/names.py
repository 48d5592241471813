"""The wanted tables of a database, by the names that its server uses for them.

A server whose `lower_case_table_names` is 1 or 2 takes `Orders` and `orders` for one table, and
logs it in small letters. So names from declarations, settings, statements and the log are compared
as the server compares them. Others compared them letter by letter, and such a table received
nothing (pingcap/dm#1646, apache/flink-cdc#3996).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from softcart_assets.ingestion.connectors.mysql.charsets import Query


def ignores_case(query: Query) -> bool:
    """Return whether the server ignores the case of the names of databases and tables."""
    rows = query("SHOW GLOBAL VARIABLES LIKE 'lower_case_table_names'")
    return bool(rows) and rows[0][1] != "0"


@dataclass(frozen=True)
class Wanted:
    """Tables of one database. `tables`: their names at the source, by their names here."""

    database: str
    tables: Mapping[str, str]
    ignores_case: bool

    def fold(self, name: str) -> str:
        """Return the form of a name, or of a text with names, that is equal for equal names."""
        return name.lower() if self.ignores_case else name

    def is_here(self, database: str) -> bool:
        """Return whether this is the database of the tables."""
        return self.fold(database) == self.fold(self.database)

    def name(self, database: str, table: str) -> str | None:
        """Return what a table of the source is called here. None if it is not wanted."""
        if not self.is_here(database):
            return None
        return self._names.get(self.fold(table))

    @cached_property
    def _names(self) -> Mapping[str, str]:
        return {self.fold(at_source): name for name, at_source in self.tables.items()}

    def twice(self) -> tuple[str, str] | None:
        """Return two names here that mean the same table at the source, if there are any."""
        seen: dict[str, str] = {}
        for name, at_source in self.tables.items():
            other = seen.setdefault(self.fold(at_source), name)
            if other != name:
                return other, name
        return None
