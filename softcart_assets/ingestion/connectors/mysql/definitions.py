"""The definitions of tables in a binary log. Each is read once, however often the log repeats
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from softcart_assets.ingestion.connectors.mysql import schema
from softcart_assets.ingestion.connectors.mysql.charsets import Charset
from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.names import Wanted
from softcart_assets.ingestion.connectors.mysql.session import Session
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
        if self.is_mariadb and any(map(schema.may_have_form, found.columns)):
            # The log shows uuid and inet columns as BINARY: only the server tells what they are.
            with self.session() as session:
                forms = schema.fetch_forms(session.query, found.database, found.table)
            found = schema.define(definition, self.charsets, forms, is_mariadb=True)
        return TableMap(*found._replace(table=name))

    def forget_forms(self) -> None:
        """Forget tables with columns that may be of MariaDB's types which look alike.

        After a statement, such a column may have another type but look the same in the log.
        """
        if self.is_mariadb:
            self.known = {
                key: table
                for key, table in self.known.items()
                if not isinstance(table, TableMap)
                or not any(map(schema.may_have_form, table.columns))
            }
