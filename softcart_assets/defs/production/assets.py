"""The published tables: one publication makes them all, audited and switched together."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.audits.model import AuditResult
from softcart_assets.audits.suite import audits_of
from softcart_assets.components.columns import same_columns_as, table_schema
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.dbt import read_manifest
from softcart_assets.publishing.publish import AuditFailed, publish
from softcart_assets.publishing.tables import PublishedTable, published_tables
from softcart_assets.resources import PostgresResource

PUBLISHED = published_tables(LINES, read_manifest())
AUDITS = audits_of(PUBLISHED)


def _key(table: str) -> dg.AssetKey:
    return dg.AssetKey(["production", table])


def _upstream(table: PublishedTable) -> dg.AssetKey:
    return dg.AssetKey([table.schema, table.name])


SPECS = [
    dg.AssetSpec(
        _key(table.name),
        deps=[_upstream(table)],
        description=f"The published copy of {table.schema}/{table.name}, audited and switched with all others at once. "
        f"One row per {', '.join(table.key)}.",
        group_name="production",
        owners=[LINES.line(table.line).owner],
        kinds={"postgres", "table"},
        automation_condition=FOLLOWS_UPSTREAM,
    )
    for table in PUBLISHED
]

CHECKS = [
    dg.AssetCheckSpec(
        audit.name, asset=_key(audit.table), description=audit.description, blocking=True
    )
    for audit in AUDITS
]


def _check_result(audit: AuditResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=_key(audit.table),
        check_name=audit.name,
        passed=audit.passed,
        metadata=audit.details,
    )


@dg.multi_asset(name="publication", specs=SPECS, check_specs=CHECKS, can_subset=True, pool=POOL)
def publication(
    context: dg.AssetExecutionContext, staging: PostgresResource, production: PostgresResource
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Publish everything, whatever is selected: tables that go live one by one would not fit together."""
    wanted = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
    try:
        done = publish(
            staging.connection(),
            production.connection(),
            PUBLISHED,
            AUDITS,
            on_progress=context.log.info,
        )
    except AuditFailed as error:
        for audit in error.failed:
            if (_key(audit.table), audit.name) in wanted:
                yield _check_result(audit)
        raise dg.Failure(str(error)) from None
    connection = production.connection()
    for table in PUBLISHED:
        key = _key(table.name)
        metadata: dict[str, Any] = {
            "dagster/row_count": done.row_counts[table.name],
            "version": done.version,
            "seconds": round(done.seconds, 2),
            **same_columns_as(table_schema(connection, "production", table.name), _upstream(table)),
        }
        if key in context.selected_asset_keys:
            yield dg.MaterializeResult(key, metadata=metadata)
        else:
            context.log_event(dg.AssetMaterialization(key, metadata=metadata))
    for audit in done.audits:
        if (_key(audit.table), audit.name) in wanted:
            yield _check_result(audit)


@dg.definitions
def production_tables() -> dg.Definitions:
    """The published tables."""
    return dg.Definitions(assets=[publication])
