"""Checks what the credentials of a DynamoDB source may do."""

from __future__ import annotations

from collections.abc import Iterator

from softcart_assets.connections import DynamoConnection, ServerUnreachable
from softcart_assets.findings import Finding
from softcart_assets.ingestion.connectors.dynamodb.reader import DynamoReader
from softcart_assets.ingestion.errors import IngestionError, MissingTable, SourceLost
from softcart_assets.lines.model import Source, Table


def examine(source: Source, connection: DynamoConnection) -> Iterator[Finding]:
    """Connect, and check that each table, and the stream of each followed one, can be read.

    Raises `ServerUnreachable`.
    """
    reader = DynamoReader(source, connection)
    found = False
    for table in source.tables:
        try:
            reader.try_out(table)
        except SourceLost as error:
            raise ServerUnreachable(str(error)) from None
        except MissingTable as error:
            # It may come later, as the tables of other sources.
            found = True
            yield Finding("note", f"{connection.prefix}: {error}")
            continue
        except IngestionError as error:
            found = True
            yield Finding("blocks", f"{connection.prefix}: {error}")
            continue
        yield from _doubts(reader, table)
    if not found:
        yield Finding("ok", f"{connection.prefix}: reaches DynamoDB")


def _doubts(reader: DynamoReader, table: Table) -> Iterator[Finding]:
    if table.strategy == "cdc" and reader.view_of(table) == "KEYS_ONLY":
        yield Finding(
            "note",
            f"{reader.connection.prefix}: the stream of {reader.at_source(table)!r} has keys only, "
            "so each changed item is read once more, and versions between two loads are not seen. "
            "Give it the view type NEW_IMAGE.",
        )
