"""The published tables in another product as assets. One op brings there what production holds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from softcart_assets.assembly import Lines
from softcart_assets.components.columns import same_columns_as
from softcart_assets.components.keys import mirrored_key, production_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.components.publication import FRESH, PublicationConfig
from softcart_assets.connections import PRODUCTION_DB2, PRODUCTION_MYSQL, setting
from softcart_assets.extracts.kept import digest
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.publishing.targets import db2, mysql
from softcart_assets.publishing.targets.db2_driver import Driver
from softcart_assets.publishing.targets.mirror import Mirrored, mirror
from softcart_assets.publishing.targets.target import Target

_CHECK = "equals_production"


@dataclass(frozen=True)
class Product:
    """A product that may get the published tables. `name`: that of the resource, of the group, and
    in front of the assets. `prefix`: that of its settings. `target`: makes a target of what the
    resource connects to.
    """

    name: str
    title: str
    kind: str
    prefix: str
    target: Callable[[Any], Target]

    def key(self, table: PublishedTable) -> dg.AssetKey:
        """The key of a published table there."""
        return mirrored_key(self.name, table.name)


MYSQL = Product(mysql.NAME, "MySQL", "mysql", PRODUCTION_MYSQL, mysql.MySQLTarget)
DB2 = Product(
    db2.NAME, "Db2", "db2", PRODUCTION_DB2, lambda connection: db2.Db2Target(Driver(connection))
)
PRODUCTS = (MYSQL, DB2)


def _spec(product: Product, table: PublishedTable, owner: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        product.key(table),
        deps=[production_key(table.name)],
        description=f"production/{table.name} in {product.title}. All tables there are those of "
        "one version of production, and readers are switched to all of them at one moment. It has "
        "no sensitive columns.",
        metadata=table_name(product.key(table)),
        group_name=product.name,
        owners=[owner],
        kinds={product.kind, "table"},
        freshness_policy=FRESH,
        code_version=digest([table.key, table.declared.indexes, table.pii, table.sensitive]),
        # The tables of a held line are not materialised.
        skippable=True,
    )


def _check(product: Product, table: PublishedTable) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        _CHECK,
        asset=product.key(table),
        description="The rows are those of production, by their count and the sum of a number for "
        "each. The values that travelled have the same digest on both sides. A complete "
        "publication compares the values of all rows. If somebody changed some, it mends them, and "
        "this check warns.",
    )


def _check_result(product: Product, table: PublishedTable, done: Mirrored) -> dg.AssetCheckResult:
    mended = done.mended.get(table.name)
    return dg.AssetCheckResult(
        asset_key=product.key(table),
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


def mirrored_assets(
    lines: Lines, tables: Sequence[PublishedTable], product: Product = MYSQL
) -> dg.AssetsDefinition:
    """The op that brings those tables into the product."""

    @dg.multi_asset(
        name=f"publication_in_{product.kind}",
        specs=[_spec(product, table, lines.line(table.line).owner) for table in tables],
        check_specs=[_check(product, table) for table in tables],
        can_subset=True,
        pool=POOL,
        required_resource_keys={"staging", "production", product.name},
    )
    def publication(
        context: dg.AssetExecutionContext,
        config: PublicationConfig,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Bring all these tables to the version of production, whichever are selected."""
        servers = context.resources
        done = mirror(
            servers.staging.connection(),
            servers.production.connection(),
            product.target(getattr(servers, product.name).connection()),
            tables,
            reader=setting(f"{product.prefix}_READER", ""),
            complete=config.complete,
            on_progress=context.log.info,
        )
        for table in tables:
            if table.name not in done.versions:
                continue  # its line was never published
            key = product.key(table)
            is_checked = _check(product, table).key in context.selected_asset_check_keys
            found = [_check_result(product, table, done)] if is_checked else []
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

    return publication
