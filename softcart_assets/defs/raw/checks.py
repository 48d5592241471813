"""Checks of the raw tables. What fails here with an error keeps everything after it from being built and published."""

from collections.abc import Callable, Iterator, Sequence

import dagster as dg

from softcart_assets.audits import raw
from softcart_assets.audits.model import AuditResult
from softcart_assets.connections import PostgresConnection
from softcart_assets.defs.raw.assets import raw_key
from softcart_assets.sources import SOURCES
from softcart_assets.sources.model import Source, Table

Audit = Callable[[PostgresConnection, Source, Table], AuditResult]

BLOCKING: tuple[Audit, ...] = (raw.equals_source, raw.volume_plausible)
WARNING: tuple[Audit, ...] = (raw.fresh, raw.latest_day_present)
"""Old data are true data: they are published, with a warning."""


def _audits(table: Table) -> Iterator[Audit]:
    yield from BLOCKING
    yield raw.fresh
    if table.daily:
        yield raw.latest_day_present


def _specs(source: Source) -> Sequence[dg.AssetCheckSpec]:
    return [
        dg.AssetCheckSpec(
            audit.__name__,
            asset=raw_key(source, table),
            description=(audit.__doc__ or "").strip(),
            blocking=audit in BLOCKING,
        )
        for table in source.tables
        for audit in _audits(table)
    ]


def _check_source(source: Source) -> dg.AssetChecksDefinition:
    @dg.multi_asset_check(
        name=f"check_{source.schema}",
        specs=_specs(source),
        can_subset=True,
        required_resource_keys={"staging"},
    )
    def check_tables(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Run the selected checks of a source's raw tables."""
        staging = context.resources.staging.connection()
        for table in source.tables:
            for audit in _audits(table):
                if dg.AssetCheckKey(raw_key(source, table), audit.__name__) not in context.selected_asset_check_keys:
                    continue
                result = audit(staging, source, table)
                yield dg.AssetCheckResult(
                    asset_key=raw_key(source, table),
                    check_name=result.name,
                    passed=result.passed,
                    severity=dg.AssetCheckSeverity.WARN if audit in WARNING else dg.AssetCheckSeverity.ERROR,
                    metadata=result.details,
                )

    return check_tables


@dg.definitions
def raw_checks() -> dg.Definitions:
    """The checks of every source's raw tables."""
    return dg.Definitions(asset_checks=[_check_source(source) for source in SOURCES])
