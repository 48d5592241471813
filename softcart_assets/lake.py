"""Refreshes the lake's tables of the declared sources from committed change files.

`softcart_assets.ingestion` writes change files and lists them. `spark.lake` makes tables from them.
This module connects both. It does not import Dagster.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import SparkSession

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.model import Source, Table
from spark.lake import ChangeFile, LakeTable, compact, discard, pending_files, refresh_table


@dataclass(frozen=True)
class Refreshed:
    """What a refresh did. All figures but `rows` are 0 if nothing was new.

    `rows`: rows of the table now. `loads`: loads merged. `partitions`: partitions rewritten.
    `compacted`: change files replaced by larger ones.
    """

    rows: int
    loads: int = 0
    partitions: int = 0
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


def committed_files(staging: PostgresConnection, source: Source) -> dict[str, list[ChangeFile]]:
    """The committed change files of a source by table, in the order of their loads.

    Other files in the lake come from loads that were killed. Nobody may read them.
    """
    files: dict[str, list[ChangeFile]] = defaultdict(list)
    with staging.connect() as session:
        # Later loads overwrite rows of earlier ones, so the order matters.
        for table, path, load_id, load_date in session.execute(
            "SELECT table_name, path, load_id, load_date FROM ingestion.lake_files"
            " WHERE source = %s ORDER BY loaded_at, path",
            [source.name],
        ):
            files[table].append(ChangeFile(path, load_id, load_date.isoformat()))
    return files


def refresh(
    staging: PostgresConnection,
    spark: Callable[[], SparkSession],
    source: Source,
    table: LakeTable,
    files: Sequence[ChangeFile],
) -> Refreshed:
    """Merge the new ones of a table's committed change files, and compact old ones.

    `spark` returns the session. It is called only if a file is new, because Spark takes seconds to
    start.
    """
    state = table.state()
    if state is not None and not pending_files(table, files):
        return Refreshed(state.rows)
    result = refresh_table(spark(), table, files)
    return Refreshed(
        result.rows,
        len(result.applied_loads),
        result.partitions_rewritten,
        _compact(staging, source, table, files),
    )


def _compact(
    staging: PostgresConnection, source: Source, table: LakeTable, files: Sequence[ChangeFile]
) -> int:
    """Replace the many small change files of a date by one. Returns how many were replaced."""
    written, struck = compact(table, files)
    if not struck:
        return 0
    # One transaction, so that a reader sees either the old files or the new one.
    with staging.connect() as session:
        for new in written:
            old = [file.path for file in struck if file.load_date == new.load_date]
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
    return len(struck)
