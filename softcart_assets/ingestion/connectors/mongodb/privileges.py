"""Checks what the user of a MongoDB source may do."""

from __future__ import annotations

from collections.abc import Iterator

from pymongo.errors import PyMongoError

from softcart_assets.connections import MongoConnection
from softcart_assets.findings import Finding


def examine(connection: MongoConnection) -> Iterator[Finding]:
    """Connect, and check that the database can be read."""
    with connection.connect() as client:
        try:
            client[connection.database].list_collection_names()
        except PyMongoError as error:
            yield Finding(
                "blocks",
                f"{connection.prefix}: {connection.database} cannot be read "
                f"({type(error).__name__}): the user in {connection.prefix}_URI needs the role "
                "`read` on it.",
            )
        else:
            yield Finding("ok", f"{connection.prefix}: reaches MongoDB")
