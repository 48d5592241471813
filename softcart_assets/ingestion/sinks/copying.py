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
    """Copy the batches' rows into a table, in PostgreSQL's binary format.

    Each batch is yielded when its rows have been sent. A batch with rejected rows is yielded when
    the connection is free for other statements. If you leave the generator early, close it: until
    then the connection is locked and cannot even be rolled back.
    """
    statement = (
        f"COPY {into} ({', '.join(quote(c.name) for c in columns)}) FROM STDIN (FORMAT BINARY)"
    )
    # One iterator for all COPY statements: the next one goes on where the last one stopped.
    remaining = iter(batches)
    while True:
        last = None
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.write(COPY_HEADER)
            for batch in remaining:
                copy.write(copy_rows(columns, batch.rows))
                # The COPY ends here. During a COPY, PostgreSQL accepts no other statement over this
                # connection, and psycopg would wait for ever. Rejected rows have to be recorded,
                # though.
                if batch.rejected:
                    last = batch
                    break
                yield batch
            copy.write(COPY_TRAILER)
        if last is None:
            return
        yield last
