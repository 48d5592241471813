"""Kafka as a kind of source system: topics in Debezium's format.

Methods import what needs the client library, as declarations are read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING

from softcart_assets.connections import KafkaConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.kafka.names import LOG_POSITION
from softcart_assets.ingestion.connectors.protocol import (
    TLS_SETTINGS,
    Changes,
    Connector,
    Setting,
)
from softcart_assets.lines.model import Privacy, Source, Table

if TYPE_CHECKING:
    from softcart_assets.ingestion.connectors.kafka.load import TopicLoad
    from softcart_assets.ingestion.connectors.kafka.reader import KafkaReader
    from softcart_assets.ingestion.request import Call


class KafkaConnector(Connector):
    """Topics that Debezium fills from the log of a MySQL or MariaDB database, one per table."""

    title = "Kafka"
    settings = (
        Setting(
            "BOOTSTRAP_SERVERS",
            "Some of the brokers, separated by commas.",
            example="kafka-1.example.com:9092,kafka-2.example.com:9092",
        ),
        Setting(
            "TOPIC_PREFIX",
            "What the names of the topics begin with: Debezium's `topic.prefix` and the database, "
            "each with a dot behind it.",
            example="{name}.{name}.",
        ),
        Setting("USER", "The user of a login by SASL. Empty: no login.", default=""),
        Setting("PASSWORD", "Its password.", default="", is_secret=True),
        Setting("SASL_MECHANISM", "How it logs in.", default="SCRAM-SHA-512", example="PLAIN"),
        *TLS_SETTINGS,
    )
    needs = """\
The user needs READ, DESCRIBE and DESCRIBE_CONFIGS on the topics. Debezium's messages need their
schemas (`value.converter.schemas.enable=true`). Without
`value.converter.replace.null.with.default=false`, Connect sends a column's default instead of NULL,
and nobody can see it."""
    strategies = frozenset({"cdc"})
    has_schema = False
    is_comparable = False
    own_columns = MappingProxyType(
        {LOG_POSITION: "Place in the database's log at which this form of the row was told."}
    )

    def problems(self, source: Source) -> Iterator[str]:
        """See `Connector`."""
        yield from super().problems(source)
        for table in source.tables:
            where = f"{table.declared_at}: table {source.name}.{table.name}"
            if not table.key:
                yield f"{where}: a message is the change of a row with a key. Declare the key."
            if table.contract != "evolve":
                yield (
                    f"{where}: a topic's columns come with its messages, so it cannot have the "
                    f"contract {table.contract!r}. Declare 'evolve'."
                )

    def connection(self, prefix: str) -> KafkaConnection:
        """See `Connector`."""
        return KafkaConnection.from_env(prefix)

    def examine(self, source: Source, connection: KafkaConnection) -> Iterator[Finding]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.kafka.changes import examine

        return examine(source, connection)

    def changed_tables(
        self, source: Source, connection: KafkaConnection, since: Mapping[str, str]
    ) -> Changes:
        """See `Connector`. The ends of the topics tell, and no message is read."""
        from softcart_assets.ingestion.connectors.kafka.changes import changed_tables

        return changed_tables(source, connection, since)

    def listening(
        self, source: Source, connection: KafkaConnection
    ) -> AbstractContextManager[Callable[[float], Collection[str]]]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.kafka.changes import listening

        return listening(source, connection)

    def readers(
        self, source: Source, connection: KafkaConnection, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[list[KafkaReader]]:
        """See `Connector`. There are as many readers as tables can be loaded at once."""
        from softcart_assets.ingestion.connectors.kafka.reader import opened

        return opened(source, connection, wanted)

    def table_load(self, call: Call, table: Table) -> TopicLoad:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.kafka.load import TopicLoad

        return TopicLoad(call, table)

    def privacy(self, table: Table, column: str) -> Privacy | None:
        """See `Connector`."""
        return Privacy.NONE if column in self.own_columns else table.privacy.get(column)

    def column_origins(self, columns: Iterable[str]) -> dict[str, list[str]]:
        """See `Connector`."""
        return {name: [] if name in self.own_columns else [name] for name in columns}


CONNECTOR = KafkaConnector()
