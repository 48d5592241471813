"""The lake's tables of a source as assets: one op per source refreshes them.

There is one op per source, and not one for all. If a step fails, Dagster skips everything
downstream of it in the same run. So a failing source holds back only its own assets. A further step
costs little, because all steps run in one process.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import dagster as dg

from softcart_assets.audits.lake import content_of_raw, equals_raw
from softcart_assets.audits.model import AuditResult
from softcart_assets.components.columns import same_columns_as
from softcart_assets.components.failures import fail_for
from softcart_assets.components.keys import lake_key, raw_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.extracts.kept import digest
from softcart_assets.ingestion.described import describe
from softcart_assets.lake import (
    LakeTable,
    Refreshed,
    committed_files,
    lake_table,
    refresh,
)
from softcart_assets.lake.hive import publish
from softcart_assets.lake.upgrade import drop_predecessor
from softcart_assets.lines.model import Line, Source, Table
from softcart_assets.resources import (
    BUILDS_FROM_RAW,
    LakeResource,
    PostgresResource,
    RawStateResource,
)
from softcart_assets.stores import without_keys

TABLES_AT_ONCE = 4
"""Tables of a source to refresh at the same time. One alone leaves cores idle."""


def _description(source: Source, table: Table) -> str:
    by_month = f", by month of {table.lake_partition}" if table.lake_partition else ""
    name = f"{source.lake}.{table.name}"
    return (
        f"{table.description} Current rows as Parquet in Hive table {name}{by_month}. Every "
        f"version that was ever loaded is in {name}_changes."
    )


def _specs(line: Line, source: Source) -> Iterator[dg.AssetSpec]:
    for table in source.tables:
        yield dg.AssetSpec(
            lake_key(source, table),
            deps=[raw_key(source, table)],
            description=_description(source, table),
            metadata=table_name(lake_key(source, table)),
            group_name=source.lake,
            owners=[line.owner_of(source)],
            kinds={"duckdb", "hive", "parquet"},
            # What the refresh makes of the same files. The format is the lake's own affair.
            code_version=digest([table.key, table.lake_partition]),
            skippable=True,
        )


def _columns(table: LakeTable, source: Source, declared: Table) -> dict[str, dg.MetadataValue]:
    """Column schema from the state of the table, and lineage to the raw table.

    The columns that only change files have are left out.
    """
    state = table.state()
    fields = state.schema["fields"] if state else []
    types = {f["name"]: str(f["type"]) for f in fields if f["name"] not in ("_deleted", "_load_id")}
    texts = describe(source, declared, types)
    columns = [dg.TableColumn(name, kind, texts[name] or None) for name, kind in types.items()]
    return same_columns_as(dg.TableSchema(columns), raw_key(source, declared))


def _check(source: Source, table: Table) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        equals_raw.__name__,
        asset=lake_key(source, table),
        description="Row count and every column's checksum are those of the raw table. This takes "
        "one pass over the raw table in PostgreSQL, and reads the rewritten months of the lake. "
        "If it fails, `softcart load SOURCE.TABLE --restate` writes all rows of raw to the lake "
        "again.",
        blocking=True,
    )


def _check_result(source: Source, table: Table, compared: AuditResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=lake_key(source, table),
        check_name=compared.name,
        passed=compared.passed,
        metadata=compared.details,
    )


def lake_tables(line: Line, source: Source) -> dg.AssetsDefinition:
    """The lake tables of a source, refreshed by one op."""

    @dg.multi_asset(
        name=f"refresh_{source.lake}",
        specs=list(_specs(line, source)),
        check_specs=[_check(source, table) for table in source.tables],
        can_subset=True,
        pool=POOL,
        op_tags=BUILDS_FROM_RAW,
    )
    def refresh_tables(
        context: dg.AssetExecutionContext,
        staging: PostgresResource,
        raw_state: RawStateResource,
        lake: LakeResource,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Merge new change files into the selected tables, then compare each with its raw table.

        Others go on if one fails.
        """
        connection = staging.connection()
        assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
        tables = [
            (declared, lake_table(source, declared, lake.uri))
            for declared in source.tables
            # To check a table alone brings it up to date, too. Otherwise it would lack what is new.
            if lake_key(source, declared) in assets or _check(source, declared).key in checks
        ]
        # What the tables must hold once the committed files are merged.
        names = [table.name for _, table in tables]
        with raw_state.moment(context, source, names) as session:
            committed = committed_files(session, source.name)
            contents = {
                table.name: content_of_raw(session, source, declared)
                for declared, table in tables
                if _check(source, declared).key in checks
            }

        def work(table: LakeTable) -> tuple[Refreshed, AuditResult | None]:
            done = refresh(connection, source, table, committed.get(table.name, []))
            publish(table, context.log.info)
            # Only now, because until its own table is there, people may read the old one.
            drop_predecessor(table)
            content = contents.get(table.name)
            return done, equals_raw(table, content) if content else None

        failures: dict[str, Exception] = {}
        with ThreadPoolExecutor(TABLES_AT_ONCE) as threads:
            jobs = [threads.submit(work, table) for _, table in tables]
            for (declared, table), job in zip(tables, jobs, strict=True):
                try:
                    done, compared = job.result()
                except Exception as error:
                    context.log.exception(f"{table.full_name} could not be refreshed")
                    failures[table.full_name] = error
                    continue
                written = len(done.months)
                context.log.info(
                    f"{table.full_name}: {done.rows:,} rows, {written} partitions rewritten"
                )
                found = [_check_result(source, declared, compared)] if compared else []
                if lake_key(source, declared) not in assets:
                    yield from found
                    continue
                yield dg.MaterializeResult(
                    lake_key(source, declared),
                    metadata={
                        "dagster/row_count": done.rows,
                        "dagster/uri": f"{without_keys(lake.uri)}/{table.folder}",
                        **_columns(table, source, declared),
                        "loads merged": done.loads,
                        "partitions rewritten": written,
                        "change files": len(committed.get(table.name, [])),
                        "change files compacted": done.compacted,
                    },
                    check_results=found,
                )
        fail_for(failures, "Not refreshed")

    return refresh_tables
