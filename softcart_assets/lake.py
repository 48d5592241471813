"""The lake's tables of the declared sources: refreshed from the change files that are committed.

How change files become tables stands in `spark.lake`; how ingestion writes and lists them, in
`softcart_assets.ingestion`. Here both meet. No Dagster here.
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
    """What a refresh did; zeros beside `rows` if nothing was new."""

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
    """The change files of a source that count, in the order of their loads, by table."""
    files: dict[str, list[ChangeFile]] = defaultdict(list)
    with staging.connect() as session:
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
    """Merge a table's new change files.

    `spark` gives the session. It is asked only if there are any: Spark takes seconds to start.
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
    """Exchange the many small change files of a date for one; returns how many went."""
    written, struck = compact(table, files)
    if not struck:
        return 0
    with (
        staging.connect() as session
    ):  # one transaction: a reader sees the old files or the new one
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
    discard(table, struck)
    return len(struck)
