"""The definitions of tables in a binary log. Each is read once, however often the log repeats
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import pymysql

from softcart_assets.ingestion.connectors.mysql import schema
from softcart_assets.ingestion.connectors.mysql.charsets import Charset
from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.names import Wanted
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.connectors.mysql.tables import definition_of, system_period
from softcart_assets.ingestion.errors import IngestionError

_MOST = 10_000
"""The number of remembered definitions: an update of many unwanted tables must not fill the
memory.
"""


@dataclass
class Definitions:
    """Table maps by their bytes. None: nobody wants the table."""

    wanted: Wanted
    charsets: Mapping[int, Charset]
    is_mariadb: bool
    session: Callable[[], AbstractContextManager[Session]]
    known: dict[bytes, TableMap | Unreadable | None] = field(default_factory=dict)

    def add(self, definition: bytes) -> TableMap | Unreadable | None:
        """Return the table of a new table map event. None if nobody wants it."""
        if len(self.known) > _MOST:
            self.known = {key: table for key, table in self.known.items() if table}
        name = self.wanted.name(*schema.names_in(definition))
        table = None if name is None else self._define(definition, name)
        self.known[definition] = table
        return table

    def _define(self, definition: bytes, name: str) -> TableMap | Unreadable:
        """Read the definition of a wanted table, which is called `name` here."""
        try:
            found = schema.define(definition, self.charsets, is_mariadb=self.is_mariadb)
        except IngestionError as error:
            # Only this table cannot be read. The message says what to do at the source.
            return Unreadable((name,), str(error), "")
        row_end: str | None = None
        hidden: tuple[str, ...] = ()
        if self.is_mariadb and _needs_server(found.columns):
            with self.session() as session:
                forms = schema.fetch_forms(session.query, found.database, found.table)
                row_end, hidden = _period(session, found)
            found = schema.define(definition, self.charsets, forms, is_mariadb=True)
        return TableMap(*found._replace(table=name), row_end, hidden)

    def forget_forms(self) -> None:
        """Forget tables of which the server had to tell something.

        After a statement, such a column may have another type but look the same in the log.
        """
        if self.is_mariadb:
            self.known = {
                key: table
                for key, table in self.known.items()
                if not isinstance(table, TableMap) or not _needs_server(table.columns)
            }


def _needs_server(columns: Sequence[schema.LogColumn]) -> bool:
    """Return whether the log alone does not tell what the columns mean.

    It shows MariaDB's uuid and inet columns as BINARY. It does not tell which columns are the
    period of system versioning.
    """
    return any(map(schema.may_have_form, columns)) or sum(map(schema.may_be_period, columns)) > 1


def _period(session: Session, found: schema.Definition) -> tuple[str | None, tuple[str, ...]]:
    """Return the column with the end of a row's version, if there are versions, and the columns
    that only the log has.
    """
    try:
        period = system_period(definition_of(session, found.database, found.table))
    # It is gone, so its rows go, too, when the log comes to the statement.
    except pymysql.ProgrammingError:
        period = None
    if period is None or not set(period.columns) <= {column.name for column in found.columns}:
        return None, ()
    return period.columns[1], period.columns if period.is_hidden else ()
