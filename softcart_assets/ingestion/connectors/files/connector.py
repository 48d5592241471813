"""Folders with files as a kind of source system.

Methods import what needs Arrow, as declarations are read without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING

from softcart_assets.connections import PostgresConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.files.names import problems_of
from softcart_assets.ingestion.connectors.protocol import Changes, Connector, Setting
from softcart_assets.lines.model import Privacy, Source, Table
from softcart_assets.stores import FolderConnection

if TYPE_CHECKING:
    from softcart_assets.ingestion.connectors.files.folder import FilesReader
    from softcart_assets.ingestion.connectors.files.load import FilesLoad
    from softcart_assets.ingestion.request import Call


class FilesConnector(Connector):
    """Files with records, one per line. Each table is the files whose names it declares.

    Raw has what all files together say, whatever the order in which they arrived.
    """

    title = "Files"
    settings = (
        Setting(
            "URI",
            "The folder, as file:///…, hdfs://… or s3://…. Subfolders belong to it.",
            is_secret=True,
            example="file:///srv/{name}",
        ),
        Setting(
            "SETTLE_SECONDS",
            "A file that was changed later than so many seconds ago may still be written, and is "
            "left alone.",
            default="60",
        ),
    )
    needs = """\
The folder is only read. Files may be moved away when they are loaded."""
    strategies = frozenset({"incremental"})
    is_comparable = False
    own_columns = MappingProxyType(
        {
            "_file": "Number of the file with the record, as in ingestion.files.",
            "_line": "Line of the file where the record begins.",
        }
    )

    def problems(self, source: Source) -> Iterator[str]:
        """See `Connector`."""
        yield from super().problems(source)
        for table in source.tables:
            for problem in problems_of(table, self.own_columns):
                yield f"{table.declared_at}: table {source.name}.{table.name}: {problem}"

    def connection(self, prefix: str) -> FolderConnection:
        """See `Connector`."""
        return FolderConnection.from_env(prefix)

    def examine(self, source: Source, connection: FolderConnection) -> Iterator[Finding]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.files.folder import examine

        return examine(source, connection)

    def changed_tables(
        self, source: Source, connection: FolderConnection, since: Mapping[str, str]
    ) -> Changes:
        """See `Connector`. It lists the folder, and reads no file."""
        from softcart_assets.ingestion.connectors.files.folder import opened

        with opened(source, connection) as [reader]:
            now = {table.name: reader.position(table) for table in source.tables}
        return Changes("", {name: at for name, at in now.items() if since.get(name) != at})

    def readers(
        self, source: Source, connection: FolderConnection, wanted: int, epoch: int = 0
    ) -> AbstractContextManager[list[FilesReader]]:
        """See `Connector`. There is one reader: all files of a load have one order."""
        from softcart_assets.ingestion.connectors.files.folder import opened

        return opened(source, connection)

    def table_load(self, call: Call, table: Table) -> FilesLoad:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.files.load import FilesLoad

        return FilesLoad(call, table)

    def privacy(self, table: Table, column: str) -> Privacy | None:
        """See `Connector`."""
        return Privacy.NONE if column in self.own_columns else table.privacy.get(column)

    def column_origins(self, columns: Iterable[str]) -> dict[str, list[str]]:
        """See `Connector`."""
        return {name: [] if name in self.own_columns else [name] for name in columns}

    def state(self, source: Source, staging: PostgresConnection) -> list[str]:
        """See `Connector`."""
        from softcart_assets.ingestion.connectors.files.state import state

        return state(source, staging)


CONNECTOR = FilesConnector()
