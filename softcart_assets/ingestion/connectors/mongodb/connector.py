"""MongoDB as a kind of source system.

Methods import what needs the client library, as declarations are read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING

from softcart_assets.connections import MongoConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.mongodb.names import field_of
from softcart_assets.ingestion.connectors.protocol import Changes, Connector, Setting
from softcart_assets.lines.model import Privacy, Source, Table

if TYPE_CHECKING:
    from softcart_assets.ingestion.connectors.mongodb.collection import CollectionLoad
    from softcart_assets.ingestion.connectors.mongodb.reader import MongoReader
    from softcart_assets.ingestion.request import Call


class MongoConnector(Connector):
    """Collections of documents, whose fields become columns as they turn up.

    The raw key includes the type of `_id`, because the ids `1` and `"1"` are different.
    """

    title = "MongoDB"
    settings = (
        Setting(
            "URI",
            "Connection string, with user and password if there are any. In them, write characters "
            "such as @ as %40. With &tls=true&tlsCAFile=/etc/ssl/certs/ca.pem the connection is "
            "encrypted, and a server that cannot prove its name is refused. If it asks for our own "
            "certificate, add &tlsCertificateKeyFile=….",
            is_secret=True,
            example="mongodb://softcart_reader:…@{name}-db.example.com:27017/?replicaSet=rs0",
        ),
        Setting("DATABASE", "The database.", example="{name}"),
    )
    needs = """\
The user needs the role `read` on the database. `softcart seed` and `softcart simulate` need
`readWrite`."""
    strategies = frozenset({"snapshot", "incremental", "cdc"})
    has_schema = False
    own_columns = MappingProxyType(
        {
            "_id_type": "BSON type of the key in the collection.",
            "document": "The whole document as relaxed Extended JSON.",
        }
    )

    def problems(self, source: Source) -> Iterator[str]:
        """See `Connector`."""
        yield from super().problems(source)
        for table in source.tables:
            if table.strategy != "cdc":
                continue
            where = f"{table.declared_at}: collection {source.name}.{table.name}"
            if table.key != ("_id",):
                yield (f"{where}: the key of a MongoDB document is '_id'. Declare key=('_id',).")
            if table.contract != "evolve":
                yield (
                    f"{where}: documents have no fixed columns, so a followed collection cannot "
                    "have "
                    f"the contract {table.contract!r}. Declare 'evolve'; a document that does not "
                    "fit the columns found so far goes to quarantine."
                )

    def connection(self, prefix: str) -> MongoConnection:
        """See `Connector`."""
        return MongoConnection.from_env(prefix)

    def examine(self, source: Source, connection: MongoConnection) -> Iterator[Finding]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mongodb.privileges import examine

        return examine(connection)

    def changed_tables(
        self, source: Source, connection: MongoConnection, since: Mapping[str, str]
    ) -> Changes:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mongodb.changes import changed_tables

        return changed_tables(source, connection, since)

    def listening(
        self, source: Source, connection: MongoConnection
    ) -> AbstractContextManager[Callable[[float], Collection[str]]]:
        """See `Connector`. The change stream of the whole database tells."""
        from softcart_assets.ingestion.connectors.mongodb.changes import listening

        return listening(source, connection)

    def readers(
        self, source: Source, connection: MongoConnection, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[list[MongoReader]]:
        """See `Connector`.

        There is one reader, because only the sessions of one connection would see the same
        documents.
        """
        from softcart_assets.ingestion.connectors.mongodb.reader import opened

        return opened(source, connection)

    def table_load(self, call: Call, table: Table) -> CollectionLoad:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mongodb.collection import CollectionLoad
        from softcart_assets.ingestion.connectors.mongodb.followed import FollowedLoad

        return (FollowedLoad if table.strategy == "cdc" else CollectionLoad)(call, table)

    def raw_key(self, table: Table) -> tuple[str, ...]:
        """See `Connector`."""
        return (*table.key, "_id_type")

    def privacy(self, table: Table, column: str) -> Privacy | None:
        """See `Connector`.

        A whole document is as private as its most private field, and a column of other values is as
        private as the field.
        """
        # The type of an id says nothing of a person.
        if column == "_id_type":
            return Privacy.NONE
        if column == "document":
            # The classes are declared in the order of their strictness.
            return max(table.privacy.values(), key=list(Privacy).index, default=Privacy.NONE)
        return table.privacy.get(field_of(column, table.privacy))

    def column_origins(self, columns: Iterable[str]) -> dict[str, list[str]]:
        """See `Connector`.

        A document contains all fields. The type of `_id` comes from `_id`.
        """
        names = list(columns)
        fields = [field_of(name, names) for name in names if name not in ("document", "_id_type")]
        own = {"document": list(dict.fromkeys(fields)), "_id_type": ["_id"]}
        return {name: own.get(name, [field_of(name, names)]) for name in names}


CONNECTOR = MongoConnector()
