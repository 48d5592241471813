"""The published tables in MySQL as assets. One op brings there what production holds."""

from collections.abc import Iterator, Sequence

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.columns import same_columns_as
from softcart_assets.components.keys import mysql_key, production_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.components.publication import FRESH, PublicationConfig
from softcart_assets.connections import PRODUCTION_MYSQL_READER, setting
from softcart_assets.extracts.kept import digest
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.publishing.targets.mirror import Mirrored, mirror
from softcart_assets.resources import MySQLResource, PostgresResource

_CHECK = "equals_production"


def _spec(table: PublishedTable, owner: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        mysql_key(table.name),
        deps=[production_key(table.name)],
        description=f"production/{table.name} in MySQL. All tables there are those of one version "
        "of production, and readers are switched to all of them at one moment. It has no sensitive "
        "columns.",
        metadata=table_name(mysql_key(table.name)),
        group_name="production_mysql",
        owners=[owner],
        kinds={"mysql", "table"},
        freshness_policy=FRESH,
        code_version=digest([table.key, table.declared.indexes, table.pii, table.sensitive]),
        # The tables of a held line are not materialised.
        skippable=True,
    )


def _check(table: PublishedTable) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        _CHECK,
        asset=mysql_key(table.name),
        description="The rows are those of production, by their count and the sum of a number for "
        "each. The values that travelled have the same digest on both sides. A complete "
        "publication compares the values of all rows. If somebody changed some, it mends them, and "
        "this check warns.",
    )


def _check_result(table: PublishedTable, done: Mirrored) -> dg.AssetCheckResult:
    mended = done.mended.get(table.name)
    return dg.AssetCheckResult(
        asset_key=mysql_key(table.name),
        check_name=_CHECK,
        passed=mended is None,
        severity=dg.AssetCheckSeverity.WARN,
        description=mended and f"{mended}. They were written again.",
        metadata={
            "row_count": done.row_counts[table.name],
            # As text: such a number is too long for the UI.
            "digest": str(done.digests[table.name]),
            "compared": done.compared[table.name],
        },
    )


def mirrored_assets(lines: Lines, tables: Sequence[PublishedTable]) -> dg.AssetsDefinition:
    """The op that brings those tables into MySQL."""

    @dg.multi_asset(
        name="publication_in_mysql",
        specs=[_spec(table, lines.line(table.line).owner) for table in tables],
        check_specs=[_check(table) for table in tables],
        can_subset=True,
        pool=POOL,
    )
    def publication_in_mysql(
        context: dg.AssetExecutionContext,
        config: PublicationConfig,
        staging: PostgresResource,
        production: PostgresResource,
        production_mysql: MySQLResource,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Bring all these tables to the version of production, whichever are selected."""
        done = mirror(
            staging.connection(),
            production.connection(),
            production_mysql.connection(),
            tables,
            reader=setting(PRODUCTION_MYSQL_READER, ""),
            complete=config.complete,
            on_progress=context.log.info,
        )
        for table in tables:
            if table.name not in done.versions:
                continue  # its line was never published
            key = mysql_key(table.name)
            is_checked = _check(table).key in context.selected_asset_check_keys
            found = [_check_result(table, done)] if is_checked else []
            if key not in context.selected_asset_keys:
                yield from found
                continue
            columns = dg.TableSchema(
                [dg.TableColumn(name, kind) for name, kind in done.columns[table.name]]
            )
            yield dg.MaterializeResult(
                key,
                metadata={
                    "dagster/row_count": done.row_counts[table.name],
                    "version": done.version,
                    "production version": done.production_version,
                    "rows written": done.written[table.name],
                    "seconds": round(done.seconds, 2),
                    **same_columns_as(columns, production_key(table.name)),
                },
                data_version=dg.DataVersion(done.versions[table.name]),
                check_results=found,
            )

    return publication_in_mysql
