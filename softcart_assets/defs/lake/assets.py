"""The lake's tables in Hive, kept current from the change files that ingestion committed."""

from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.columns import same_columns_as
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.components.keys import raw_key
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.sinks.raw import key_columns
from softcart_assets.lines.model import Table
from softcart_assets.resources import LakeResource, PostgresResource, SparkResource

if TYPE_CHECKING:
    from spark.lake import ChangeFile, LakeTable


TABLES_AT_ONCE = 4


def lake_key(table: str) -> dg.AssetKey:
    """Key of a lake table."""
    return dg.AssetKey(["lake", table])


def _description(table: Table) -> str:
    by_month = f", by month of {table.lake_partition}" if table.lake_partition else ""
    return (
        f"{table.description} Current rows as Parquet in Hive table lake.{table.name}{by_month}; every version that "
        f"was ever loaded is in lake.{table.name}_changes."
    )


SPECS = [
    dg.AssetSpec(
        lake_key(table.name),
        deps=[raw_key(source, table)],
        description=_description(table),
        group_name="lake",
        owners=[LINES.line_of(source).owner_of(source)],
        kinds={"spark", "hive", "parquet"},
        automation_condition=FOLLOWS_UPSTREAM,
        skippable=True,
    )
    for source in LINES.sources
    for table in source.tables
]


def lake_table(name: str, lake_uri: str) -> "LakeTable":
    """The lake's table of a declared source table."""
    from spark.lake import LakeTable

    [(source, table)] = [(s, t) for s in LINES.sources for t in s.tables if t.name == name]
    return LakeTable(lake_uri, name, key_columns(source, table), table.lake_partition)


def _committed_files(staging: PostgresConnection) -> dict[tuple[str, str], "list[ChangeFile]"]:
    """The change files that count, in the order of their loads, by source and table."""
    # Not at the top: pyspark's import takes a second that other runs, and loading the definitions, need not pay.
    from spark.lake import ChangeFile

    files: dict[tuple[str, str], list[ChangeFile]] = defaultdict(list)
    with staging.connect() as session:
        for source, table, path, load_id, load_date in session.execute(
            "SELECT source, table_name, path, load_id, load_date FROM ingestion.lake_files ORDER BY loaded_at, path"
        ):
            files[source, table].append(ChangeFile(path, load_id, load_date.isoformat()))
    return files


def _compact(
    staging: PostgresConnection, source: str, table: "LakeTable", files: "list[ChangeFile]"
) -> int:
    """Exchange the many small change files of a date for one, in one transaction; returns how many went."""
    from spark.lake import compact, discard

    written, struck = compact(table, files)
    if not struck:
        return 0
    with staging.connect() as session:
        for new in written:
            old = [file.path for file in struck if file.load_date == new.load_date]
            session.execute(
                "INSERT INTO ingestion.lake_files"
                " SELECT %s, source, table_name, %s, load_date, sum(row_count), %s, max(loaded_at)"
                " FROM ingestion.lake_files WHERE path = ANY(%s) AND source = %s"
                " GROUP BY source, table_name, load_date",
                [new.path, new.load_id, table.store.get_file_info(new.path).size, old, source],
            )
        session.execute(
            "DELETE FROM ingestion.lake_files WHERE path = ANY(%s)",
            [[file.path for file in struck]],
        )
    discard(table, struck)
    return len(struck)


def _columns(table: "LakeTable", upstream: dg.AssetKey) -> dict[str, dg.MetadataValue]:
    """Column schema, from the table's state, and lineage to the raw table; the change files' own columns left out."""
    state = table.state()
    fields = state.schema["fields"] if state else []
    columns = [
        dg.TableColumn(f["name"], str(f["type"]))
        for f in fields
        if f["name"] not in ("_deleted", "_load_id")
    ]
    return same_columns_as(dg.TableSchema(columns), upstream)


@dataclass(frozen=True)
class _Refreshed:
    rows: int
    loads: int
    partitions: int
    compacted: int


def _refresh(
    staging: PostgresConnection,
    spark: SparkResource,
    source: str,
    table: "LakeTable",
    files: "list[ChangeFile]",
) -> _Refreshed:
    """Merge a table's new change files, if there are any: only then is Spark needed."""
    from spark.lake import pending_files, refresh_table

    state = table.state()
    if state is not None and not pending_files(table, files):
        return _Refreshed(state.rows, 0, 0, 0)
    result = refresh_table(spark.session, table, files)
    compacted = _compact(staging, source, table, files)
    return _Refreshed(
        result.rows, len(result.applied_loads), result.partitions_rewritten, compacted
    )


@dg.multi_asset(name="lake_tables", specs=SPECS, can_subset=True, pool=POOL)
def lake_tables(
    context: dg.AssetExecutionContext,
    staging: PostgresResource,
    lake: LakeResource,
    spark: SparkResource,
) -> Iterator[dg.MaterializeResult]:
    """Merge new change files into the selected tables, several at a time: each alone leaves cores idle."""
    connection = staging.connection()
    committed = _committed_files(connection)
    selected = [
        (source, declared, lake_table(declared.name, lake.uri))
        for source in LINES.sources
        for declared in source.tables
        if lake_key(declared.name) in context.selected_asset_keys
    ]
    with ThreadPoolExecutor(TABLES_AT_ONCE) as threads:
        jobs = [
            threads.submit(
                _refresh,
                connection,
                spark,
                source.name,
                table,
                committed[source.name, declared.name],
            )
            for source, declared, table in selected
        ]
        for (source, declared, table), job in zip(selected, jobs, strict=True):
            done = job.result()
            context.log.info(
                f"lake.{table.name}: {done.rows:,} rows, {done.partitions} partitions rewritten"
            )
            yield dg.MaterializeResult(
                lake_key(declared.name),
                metadata={
                    "dagster/row_count": done.rows,
                    "dagster/uri": f"{lake.uri}/{table.folder}",
                    **_columns(table, raw_key(source, declared)),
                    "loads merged": done.loads,
                    "partitions rewritten": done.partitions,
                    "change files": len(committed[source.name, declared.name]),
                    "change files compacted": done.compacted,
                },
            )


@dg.definitions
def lake() -> dg.Definitions:
    """The lake's tables."""
    return dg.Definitions(assets=[lake_tables])
