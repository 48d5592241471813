"""Refreshes the lake's tables of the declared sources from the list of committed change files.

`softcart_assets.ingestion` writes change files and lists them in PostgreSQL. The other modules of
this package make tables from them. This module connects both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lake.compaction import compact, discard, settle
from softcart_assets.lake.names import rename_columns
from softcart_assets.lake.refreshing import pending_files, refresh_table
from softcart_assets.lake.table import ChangeFile, Exchange, LakeError, LakeTable
from softcart_assets.lines.model import Source, Table
from softcart_assets.stores import LAKE, reason_without_keys, without_keys


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did. All figures but `rows` are 0 if nothing was new.

    `rows`: rows of the table now. `loads`: loads merged. `months`: the months that were written or
    dropped, '' for a table that is not partitioned. `compacted`: change files replaced by larger
    ones.
    """

    rows: int
    loads: int = 0
    months: tuple[str, ...] = ()
    compacted: int = 0


def lake_table(source: Source, table: Table, lake_uri: str) -> LakeTable:
    """The lake's table of a declared source table."""
    return LakeTable(
        lake_uri,
        source.lake,
        table.name,
        connector(source.kind).raw_key(table),
        table.lake_partition,
    )


def committed_files(session: psycopg.Connection, source: str) -> dict[str, list[ChangeFile]]:
    """The committed change files of a source, which is named, by table.

    Other files in the lake come from loads that were killed. Nobody may read them.
    """
    files: dict[str, list[ChangeFile]] = defaultdict(list)
    for table, path, load_id, load_date in session.execute(
        # The columns of a lake table come in this order. Which row is the latest, the files say.
        "SELECT table_name, path, load_id, load_date FROM ingestion.lake_files"
        " WHERE source = %s ORDER BY loaded_at, path",
        [source],
    ):
        files[table].append(ChangeFile(path, load_id, load_date.isoformat()))
    return files


def refresh(
    staging: PostgresConnection,
    source: Source,
    table: LakeTable,
    files: Sequence[ChangeFile],
) -> Refreshed:
    """Merge the new ones of a table's committed change files, and compact old ones.

    Raises `LakeError`.
    """
    try:
        return _refresh(staging, source, table, files)
    except OSError as error:
        raise LakeError(
            f"{table.full_name}: the lake at {without_keys(table.lake_uri)} cannot be used: "
            f"{reason_without_keys(table.lake_uri, error)}. Readers still have the rows of the "
            f"last refresh. Check {LAKE} and its server, then refresh again."
        ) from None


def _refresh(
    staging: PostgresConnection,
    source: Source,
    table: LakeTable,
    files: Sequence[ChangeFile],
) -> Refreshed:
    settle(table, files)
    state = table.state()
    if state is not None and not pending_files(table, files):
        return Refreshed(state.rows)
    renamed = rename_columns(table, files)
    _exchange(staging, source, table, renamed)
    instead = {old.path: each.new for each in renamed for old in each.old}
    files = [instead.get(file.path, file) for file in files]
    result = refresh_table(table, files)
    compacted = compact(table, files)
    _exchange(staging, source, table, compacted)
    return Refreshed(
        result.rows,
        len(result.applied_loads),
        result.months,
        sum(len(each.old) for each in compacted),
    )


def _exchange(
    staging: PostgresConnection, source: Source, table: LakeTable, exchanges: Iterable[Exchange]
) -> None:
    """List the new files in the place of the old ones, and delete these."""
    exchanges = list(exchanges)
    if not exchanges:
        return
    struck = [old for each in exchanges for old in each.old]
    # One transaction, so that a reader sees either the old files or the new ones.
    with staging.connect() as session:
        for each in exchanges:
            new, old = each.new, [file.path for file in each.old]
            session.execute(
                "INSERT INTO ingestion.lake_files"
                " SELECT %s, source, table_name, %s, load_date, sum(row_count), %s, max(loaded_at)"
                " FROM ingestion.lake_files WHERE path = ANY(%s) AND source = %s"
                " GROUP BY source, table_name, load_date",
                [new.path, new.load_id, table.store.get_file_info(new.path).size, old, source.name],
            )
        session.execute(
            "DELETE FROM ingestion.lake_files WHERE path = ANY(%s)",
            [[file.path for file in struck]],
        )
    # After the commit. A kill before it leaves the list as it was, with files that still exist.
    discard(table, struck)
