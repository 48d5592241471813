"""The definitions of tables in a binary log. Each is read once, however often the log repeats
it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from softcart_assets.ingestion.connectors.mysql import schema
from softcart_assets.ingestion.connectors.mysql.charsets import Charset
from softcart_assets.ingestion.connectors.mysql.events import TableMap
from softcart_assets.ingestion.connectors.mysql.session import Session

_MOST = 10_000
"""The number of remembered definitions: an update of many unwanted tables must not fill the
memory.
"""


@dataclass
class Definitions:
    """Table maps by their bytes.

    `names`: what a wanted table is called here, if not as at the source.
    """

    wanted: Collection[tuple[str, str]]
    names: Mapping[str, str]
    charsets: Mapping[int, Charset]
    is_mariadb: bool
    session: Callable[[], AbstractContextManager[Session]]
    known: dict[bytes, TableMap | None] = field(default_factory=dict)

    def add(self, definition: bytes) -> TableMap | None:
        """Return the table of a new table map event. None if nobody wants it."""
        if len(self.known) > _MOST:
            self.known = {key: table for key, table in self.known.items() if table}
        database, name = schema.names_in(definition)
        table = None
        if (database, name) in self.wanted:
            found = schema.define(definition, self.charsets, is_mariadb=self.is_mariadb)
            if self.is_mariadb and any(map(schema.may_have_form, found.columns)):
                # The log shows uuid and inet columns as BINARY: only the server tells what they
                # are.
                with self.session() as session:
                    forms = schema.fetch_forms(session.query, database, name)
                found = schema.define(definition, self.charsets, forms, is_mariadb=True)
            table = TableMap(*found._replace(table=self.names.get(name, name)))
        self.known[definition] = table
        return table

    def forget_forms(self) -> None:
        """Forget tables with columns that may be of MariaDB's types which look alike.

        After a statement, such a column may have another type but look the same in the log.
        """
        if self.is_mariadb:
            self.known = {
                key: table
                for key, table in self.known.items()
                if table is None or not any(map(schema.may_have_form, table.columns))
            }
