"""DynamoDB as a kind of source system.

Methods import what needs the client library, as declarations are read without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING

from softcart_assets.connections import DynamoConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.dynamodb.names import attribute_of
from softcart_assets.ingestion.connectors.protocol import Changes, Connector, Setting
from softcart_assets.lines.model import Privacy, Source, Table

if TYPE_CHECKING:
    from softcart_assets.ingestion.connectors.dynamodb.followed import FollowedLoad
    from softcart_assets.ingestion.connectors.dynamodb.reader import DynamoReader
    from softcart_assets.ingestion.request import Call


class DynamoConnector(Connector):
    """Tables of items, whose attributes become columns as they turn up."""

    title = "DynamoDB"
    settings = (
        Setting("REGION", "The region of the tables.", example="eu-central-1"),
        Setting(
            "ENDPOINT",
            "Address of a server that stands in for DynamoDB. Empty: Amazon's own.",
            default="",
            example="https://{name}-dynamodb.example.com",
        ),
        Setting(
            "ACCESS_KEY_ID",
            "Access key. Empty: credentials are looked for as Amazon's tools do it, in the "
            "environment, in ~/.aws and in the machine's role.",
            default="",
            example="AKIA…",
        ),
        Setting("SECRET_ACCESS_KEY", "Its secret.", default="", is_secret=True),
        Setting(
            "TABLE_PREFIX",
            "What the names of the tables begin with, such as a stage.",
            default="",
            example="production-",
        ),
        Setting(
            "CONSISTENT_READS",
            "yes: scans of tables that are not followed read each item as it is, for twice the "
            "capacity. Scans of followed tables always do.",
            default="no",
            example="yes",
        ),
        Setting(
            "RCU_PER_SECOND",
            "Read capacity units that a load may use per second, over all its requests to a "
            "source's tables. 0: any number.",
            default="0",
            example="500",
        ),
        Setting(
            "READ_UNITS",
            "Read capacity units of each table that `softcart seed` makes, and of its indexes. 0, "
            "for WRITE_UNITS, too: on demand.",
            default="0",
            example="50",
        ),
        Setting("WRITE_UNITS", "The same for write capacity units.", default="0", example="50"),
    )
    needs = """\
The credentials need dynamodb:DescribeTable, Scan and BatchGetItem on the tables. For tables with
strategy `cdc`, they also need DescribeStream, GetShardIterator and GetRecords on their streams, and
behind an ENDPOINT, DescribeTimeToLive. `softcart seed` also needs CreateTable, DeleteTable,
ListTables, UpdateTimeToLive and BatchWriteItem. `softcart simulate` needs PutItem, UpdateItem,
DeleteItem and Query."""
    strategies = frozenset({"snapshot", "cdc"})
    has_schema = False
    own_columns = MappingProxyType(
        {
            "document": "The whole item as JSON. Numbers are exact.",
            "removed_by": "How a deleted item went: `expiry` or `request`. NULL: no record told.",
        }
    )

    def problems(self, source: Source) -> Iterator[str]:
        """See `Connector`."""
        yield from super().problems(source)
        for table in source.tables:
            where = f"{table.declared_at}: table {source.name}.{table.name}"
            if not 1 <= len(table.key) <= 2:
                yield f"{where}: a DynamoDB table has a key of one or two attributes. Declare it."
            if table.strategy == "cdc" and table.contract != "evolve":
                yield (
                    f"{where}: items have no fixed columns, so a followed table cannot have the "
                    f"contract {table.contract!r}. Declare 'evolve'."
                )

    def connection(self, prefix: str) -> DynamoConnection:
        """See `Connector`."""
        return DynamoConnection.from_env(prefix)

    def examine(self, source: Source, connection: DynamoConnection) -> Iterator[Finding]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.dynamodb.privileges import examine

        return examine(source, connection)

    def changed_tables(
        self, source: Source, connection: DynamoConnection, since: Mapping[str, str]
    ) -> Changes:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.dynamodb.changes import changed_tables

        return changed_tables(source, connection, since)

    def readers(
        self, source: Source, connection: DynamoConnection, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[list[DynamoReader]]:
        """See `Connector`.

        There is one reader, which scans by as many segments as readers are wanted: columns are
        found in the items of all segments together.
        """
        from softcart_assets.ingestion.connectors.dynamodb.reader import opened

        return opened(source, connection, wanted)

    def table_load(self, call: Call, table: Table) -> FollowedLoad | None:
        """See `Connector`."""
        if table.strategy != "cdc":
            return None
        from softcart_assets.ingestion.connectors.dynamodb.followed import FollowedLoad

        return FollowedLoad(call, table)

    def privacy(self, table: Table, column: str) -> Privacy | None:
        """See `Connector`.

        A whole item is as private as its most private attribute, and a column of other values is as
        private as the attribute.
        """
        # How an item went says nothing of a person.
        if column == "removed_by":
            return Privacy.NONE
        if column == "document":
            # The classes are declared in the order of their strictness.
            return max(table.privacy.values(), key=list(Privacy).index, default=Privacy.NONE)
        return table.privacy.get(attribute_of(column, table.privacy))

    def column_origins(self, columns: Iterable[str]) -> dict[str, list[str]]:
        """See `Connector`.

        A document contains all attributes. No attribute says how an item went.
        """
        names = list(columns)
        attributes = [
            attribute_of(name, names) for name in names if name not in ("document", "removed_by")
        ]
        own: dict[str, list[str]] = {"document": list(dict.fromkeys(attributes)), "removed_by": []}
        return {name: own.get(name, [attribute_of(name, names)]) for name in names}


CONNECTOR = DynamoConnector()
