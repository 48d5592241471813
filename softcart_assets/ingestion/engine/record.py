"""The record of a load: its lake files, its figures and the table's position."""

from __future__ import annotations

from collections.abc import Iterable

import psycopg
from psycopg.types.json import Jsonb

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.errors import TableBusy
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.proof.statements import Statement
from softcart_assets.ingestion.request import LoadResult
from softcart_assets.ingestion.sinks.lake import LakeFile, list_file
from softcart_assets.lines.model import Source


def record(
    connection: psycopg.Connection,
    source: Source,
    result: LoadResult,
    files: Iterable[LakeFile],
    statement: Statement,
    cursor_value: str | None,
    last: LastLoad | None,
) -> None:
    """Write the record in the load's own transaction.

    Raises `TableBusy` if another load than `last` has committed since this one began.
    """
    key = (source.name, result.table)
    # From here on, the files count: a lake file is valid if it is listed, and the list commits
    # together with the rows.
    for file in files:
        list_file(connection, source, result.table, result.load_id, file)
    statements.write(connection, source.name, {result.table: statement})
    connection.execute(
        "INSERT INTO ingestion.loads (load_id, source, table_name, strategy, position, loaded_at,"
        " seconds, rows_read, bytes_read, rows_inserted, rows_updated, rows_deleted,"
        " rows_quarantined, rows_total, is_changed, columns, warnings)"
        " VALUES (%s, %s, %s, %s, %s, now(), %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            result.load_id,
            *key,
            result.strategy,
            result.position,
            result.seconds,
            result.rows_read,
            result.bytes_read,
            result.inserted,
            result.updated,
            result.deleted,
            result.quarantined,
            result.total,
            result.is_changed,
            Jsonb(result.columns),
            Jsonb(result.warnings),
        ),
    )
    # The lock of the table protects from other loads only as long as its connection lives. So the
    # position moves on only from the load that this one found.
    taken = connection.execute(
        "INSERT INTO ingestion.positions AS p"
        " (source, table_name, position, cursor_value, load_id, loaded_at)"
        " VALUES (%s, %s, %s, %s, %s, now()) ON CONFLICT (source, table_name) DO UPDATE SET"
        " position = EXCLUDED.position, cursor_value = EXCLUDED.cursor_value,"
        " load_id = EXCLUDED.load_id, loaded_at = EXCLUDED.loaded_at"
        " WHERE p.load_id IS NOT DISTINCT FROM %s",
        (*key, result.position, cursor_value, result.load_id, last.load_id if last else None),
    )
    if not taken.rowcount:
        raise TableBusy(
            f"{source.schema}/{result.table}: another load has committed meanwhile. Nothing of "
            "this load was committed. Run it again."
        )
