"""Checks of the raw tables. If one fails with an error, the assets after it are not built."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import dagster as dg

from softcart_assets.audits import raw
from softcart_assets.audits.history import Seen, ends_in_raw
from softcart_assets.audits.model import AuditResult
from softcart_assets.components.keys import history_key, raw_key
from softcart_assets.components.pool import PLANNED_TAG
from softcart_assets.components.resources import source_resource_key
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.ingestion.errors import IngestionError, TableBehind
from softcart_assets.ingestion.load import LoadRequest
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.proof.result import Reconciliation
from softcart_assets.lines.model import Source, Table

Audit = Callable[[PostgresConnection, Source, Table], AuditResult]

BLOCKING: tuple[Audit, ...] = (raw.equals_source, raw.quarantine_small, raw.volume_plausible)

TABLES_AT_ONCE = 2
"""Tables of a source to check at the same time. The warehouse reads one with one core."""

SOURCE_ASKED = "source_asked"
"""The check that says whether `equals_source` could tell.

It is a check of its own, because it warns, and `equals_source` blocks.
"""


def _audits(table: Table) -> Iterator[Audit]:
    yield from BLOCKING
    # These warn. Old data are still true, so they are published.
    yield raw.fresh
    if table.daily:
        yield raw.latest_day_present


def _history_check(source: Source, table: Table) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        ends_in_raw.__name__,
        asset=history_key(source, table),
        description="The last version of each row is the row that raw has, deleted or not. Each "
        "row has a version, and each version a row. Planned runs read what changed since the last "
        "time.",
        blocking=True,
    )


def _specs(source: Source) -> Sequence[dg.AssetCheckSpec]:
    asked = [
        dg.AssetCheckSpec(
            SOURCE_ASKED,
            asset=raw_key(source, table),
            description="The source was asked for its checksums within "
            f"{raw.MAX_AGE.total_seconds() / 3600:.0f} hours. Otherwise nothing is known to be "
            "wrong, but `equals_source` passes without a comparison.",
        )
        for table in source.tables
    ]
    histories = [_history_check(source, table) for table in source.tables if table.history]
    return (
        asked
        + histories
        + [
            dg.AssetCheckSpec(
                audit.__name__,
                asset=raw_key(source, table),
                description=(audit.__doc__ or "").strip(),
                blocking=audit in BLOCKING,
            )
            for table in source.tables
            for audit in _audits(table)
        ]
    )


def _check_result(key: dg.AssetCheckKey, audit: Audit, result: AuditResult) -> dg.AssetCheckResult:
    """What an audit says to a check: its own, or the one whether it could tell."""
    is_own = key.name == audit.__name__
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        # A question that is still open keeps nothing from being built: the data are not known to
        # be wrong.
        passed=result.passed if is_own else not result.is_open,
        severity=dg.AssetCheckSeverity.ERROR
        if is_own and audit in BLOCKING
        else dg.AssetCheckSeverity.WARN,
        description=result.details.get("state"),
        metadata=result.details,
    )


def raw_table_checks(source: Source) -> dg.AssetChecksDefinition:
    """The checks of the raw tables of a source, after their last load."""

    @dg.multi_asset_check(
        name=f"check_{source.schema}",
        specs=_specs(source),
        can_subset=True,
        required_resource_keys={"staging"},
    )
    def check_tables(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Run the selected checks of a source's raw tables."""
        staging = context.resources.staging.connection()
        selected = context.selected_asset_check_keys

        def check(table: Table) -> list[dg.AssetCheckResult]:
            key, found = raw_key(source, table), []
            asked = dg.AssetCheckKey(key, SOURCE_ASKED)
            for audit in _audits(table):
                own = dg.AssetCheckKey(key, audit.__name__)
                answers = {asked, own} if audit is raw.equals_source else {own}
                if not answers & selected:
                    continue
                result = audit(staging, source, table)
                found += [_check_result(each, audit, result) for each in answers & selected]
            if table.history and _history_check(source, table).key in selected:
                found.append(_checked_history(context, staging, source, table))
            return found

        with ThreadPoolExecutor(TABLES_AT_ONCE) as threads:
            for results in threads.map(check, source.tables):
                yield from results

    return check_tables


_PASSED_BEFORE = 10
"""So many results are looked through for one that passed. Longer ago, all is read again."""


def _checked_history(
    context: dg.AssetCheckExecutionContext,
    staging: PostgresConnection,
    source: Source,
    table: Table,
) -> dg.AssetCheckResult:
    """Audit a history, in a planned run only what was written since it last passed."""
    key = _history_check(source, table).key
    passed = _last_seen(context.instance, key) if PLANNED_TAG in context.run.tags else None
    result, seen = ends_in_raw(staging, source, table, passed)
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.passed,
        metadata={**result.details, _SEEN: asdict(seen)},
    )


_SEEN = "read until"


def _last_seen(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> Seen | None:
    """How far the check had read when it last passed."""
    storage = instance.event_log_storage
    for record in storage.get_asset_check_execution_history(key, limit=_PASSED_BEFORE):
        # The newest is the present run's own, which has no result yet.
        found = record.evaluation
        if isinstance(found, dg.AssetCheckEvaluation) and found.passed:
            value: Any = found.metadata[_SEEN].value
            return Seen(**value)
    return None


RECONCILES = "reconciles"
"""The check that compares every row with the source. It takes long, so it has its own job, which
runs nightly and on demand.
"""


def _figures(table: Table, found: Reconciliation) -> dict[str, Any]:
    """A comparison as metadata: figures, and some keys of rows that differ if there is a key."""
    return {
        "position": found.position,
        "rows at the source": found.rows,
        "segments": found.segments,
        "missing": found.missing,
        "extra": found.extra,
        "differing": found.differing,
        "unfit": found.unfit,
        "rows in quarantine": found.quarantined,
        "seconds": round(found.seconds, 2),
        **({"differing columns": found.columns} if found.columns else {}),
        **({"sample": [str(each) for each in found.sample]} if found.sample and table.key else {}),
        **({"before the load": found.before_load} if found.before_load else {}),
        **({"warnings": found.warnings} if found.warnings else {}),
    }


def comparison_checks(source: Source) -> dg.AssetChecksDefinition:
    """The checks that compare every raw row with its source."""
    database = source_resource_key(source)

    @dg.multi_asset_check(
        name=f"reconcile_{source.schema}",
        specs=[
            dg.AssetCheckSpec(
                RECONCILES,
                asset=raw_key(source, table),
                description="Every row equals that at the source, at one position. Otherwise the "
                "check shows how many rows differ, which ones, and in which columns. "
                "`softcart reconcile --repair` repairs those rows.",
            )
            for table in source.tables
        ],
        can_subset=True,
        required_resource_keys={database, "staging", "lake", "raw_state"},
    )
    def reconcile_tables(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        """Compare the selected tables.

        A table that changed since its last load is loaded first. The next plan then requests it, so
        that the assets after it follow. In a run that makes assets, such a table is left out: it
        must not change while others are built from it. Planned runs compare nothing, as there are
        many.
        """
        if PLANNED_TAG in context.run.tags:
            return
        makes_assets = bool(context.job_def.asset_layer.selected_asset_keys)
        resources = context.resources
        request = LoadRequest(
            source,
            getattr(resources, database).connection(),
            resources.staging.connection(),
            resources.lake.uri,
            tell=context.log.info,
        )
        with resources.raw_state.loading(context):
            for table in source.tables:
                key = raw_key(source, table)
                if dg.AssetCheckKey(key, RECONCILES) not in context.selected_asset_check_keys:
                    continue
                try:
                    found = reconcile(request, table.name, may_load=not makes_assets)
                except TableBehind as error:
                    context.log.info(str(error))
                    continue
                except IngestionError as error:
                    # As a failed check and not a failed step: the other tables are still compared.
                    yield dg.AssetCheckResult(
                        asset_key=key,
                        check_name=RECONCILES,
                        passed=False,
                        metadata={"error": str(error)},
                    )
                    continue
                yield dg.AssetCheckResult(
                    asset_key=key,
                    check_name=RECONCILES,
                    passed=not found.differences,
                    metadata=_figures(table, found),
                )

    return reconcile_tables


def comparisons(sources: Iterable[Source]) -> dg.AssetSelection:
    """The checks that compare every row of these sources."""
    return dg.AssetSelection.checks(
        *(
            dg.AssetCheckKey(raw_key(source, table), RECONCILES)
            for source in comparable(sources)
            for table in source.tables
        )
    )


def comparable(sources: Iterable[Source]) -> list[Source]:
    """Those of these sources whose rows can all be read again at any time."""
    return [source for source in sources if connector(source.kind).is_comparable]
