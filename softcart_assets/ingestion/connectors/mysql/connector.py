"""MySQL and MariaDB as a kind of source system.

Methods import what needs the client library, as declarations are read without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from softcart_assets.connections import MySQLConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.protocol import (
    TLS_SETTINGS,
    Changes,
    Connector,
    Setting,
    SourceMoment,
)
from softcart_assets.lines.model import Source

if TYPE_CHECKING:
    from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader


class MySQLConnector(Connector):
    """Tables with fixed columns, consistent snapshots, and a binary log of all changes."""

    title = "MySQL or MariaDB"
    settings = (
        Setting("HOST", "Name or address of the server.", example="{name}-db.example.com"),
        Setting("PORT", "Its port.", default="3306"),
        Setting("USER", "The user.", example="softcart_reader"),
        Setting("PASSWORD", "The user's password.", is_secret=True),
        Setting("DATABASE", "The database.", example="{name}"),
        *TLS_SETTINGS,
    )
    needs = """\
The user only reads. It needs:
  GRANT SELECT ON {name}.* and
  GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.*
MySQL without gtid_mode=ON also needs SELECT ON performance_schema.* or LOCK TABLES ON {name}.*.
`softcart seed` and `softcart simulate` write. They need ALL ON {name}.*. Change data capture needs
a server with binlog_format=ROW, binlog_row_image=FULL and binlog_row_metadata=FULL."""
    strategies = frozenset({"snapshot", "incremental", "cdc"})
    has_log = True
    can_report = True

    def connection(self, prefix: str) -> MySQLConnection:
        """See `Connector`."""
        return MySQLConnection.from_env(prefix)

    def examine(self, source: Source, connection: MySQLConnection) -> Iterator[Finding]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mysql.privileges import examine

        return examine(source, connection)

    def changed_tables(
        self, source: Source, connection: MySQLConnection, since: Mapping[str, str]
    ) -> Changes:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mysql.changes import changed_tables

        return changed_tables(source, connection, since)

    def readers(
        self, source: Source, connection: MySQLConnection, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[Sequence[MySQLReader]]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mysql.reader import snapshot

        return snapshot(source, connection, wanted, epoch)

    def moment(
        self, source: Source, connection: MySQLConnection
    ) -> AbstractContextManager[SourceMoment]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.mysql.reports import moment

        return moment(source, connection)


CONNECTOR = MySQLConnector()
