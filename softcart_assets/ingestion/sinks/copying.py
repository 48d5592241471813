"""Typed batches as PostgreSQL's binary COPY."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import psycopg

from softcart_assets.ingestion.codec.copying import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.sinks.sql import quote
from softcart_assets.ingestion.types import Batch, Column


def copy_batches(
    connection: psycopg.Connection, into: str, columns: Sequence[Column], batches: Iterable[Batch]
) -> Generator[Batch]:
    """Copy the batches' rows into a table.

    Each batch comes out again when its rows are on their way.

    A batch with rejected rows comes out when the connection is free for other statements. Close it
    on leaving it early: until then the connection is locked and cannot even be rolled back.
    """
    statement = (
        f"COPY {into} ({', '.join(quote(c.name) for c in columns)}) FROM STDIN (FORMAT BINARY)"
    )
    remaining = iter(batches)
    while True:
        last = None
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(COPY_HEADER)
            for batch in remaining:
                copy.write(copy_rows(columns, batch.rows))
                if batch.rejected:
                    last = batch
                    break
                yield batch
            copy.write(COPY_TRAILER)
        if last is None:
            return
        yield last
