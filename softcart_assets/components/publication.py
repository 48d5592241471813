"""The published tables of all lines as assets. One op audits and publishes them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg
from pydantic import Field

from softcart_assets.assembly import Lines
from softcart_assets.audits.model import AnyAudit, AuditResult
from softcart_assets.components.columns import same_columns_as, table_schema
from softcart_assets.components.keys import production_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.components.recorded import column_origins
from softcart_assets.extracts.kept import digest
from softcart_assets.publishing.acceptances import Acceptance
from softcart_assets.publishing.personal import unclassed
from softcart_assets.publishing.publish import AuditFailed, Publication, publish, remedy
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.resources import PostgresResource

FRESH = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(hours=27), warn_window=timedelta(hours=26)
)
"""What is published, and the files for people, are made or confirmed every 24 hours by the job
`nightly_publication`. The rest is the time that it takes, after a repair that goes before it."""


class PublicationConfig(dg.Config):
    """How to publish."""

    complete: bool = Field(
        default=False,
        description="Compare every row with staging and let all audits read all rows, not only "
        "those that changed. A table that differs is copied whole.",
    )


def _upstream(table: PublishedTable) -> dg.AssetKey:
    return dg.AssetKey([table.schema, table.name])


def _spec(table: PublishedTable, owner: str) -> dg.AssetSpec:
    return dg.AssetSpec(
        production_key(table.name),
        deps=[_upstream(table)],
        description=f"The published copy of {table.schema}/{table.name}. It is audited, and goes "
        f"live together with all tables of the line {table.line}. "
        f"One row per {', '.join(table.key)}.",
        metadata=table_name(production_key(table.name)),
        group_name="production",
        owners=[owner],
        kinds={"postgres", "table"},
        freshness_policy=FRESH,
        # Another limit counts, too: what it held may go live.
        code_version=digest([table]),
        # The tables of a held line are not materialised. Dagster then skips what reads them.
        skippable=True,
    )


def _check(audit: AnyAudit) -> dg.AssetCheckSpec:
    # These checks do not block in Dagster's sense. If a blocking check fails, Dagster fails the
    # whole step and skips everything after it, for all lines. Here, the publication holds the
    # failed line and does not materialise its tables. So Dagster skips only assets that read them.
    return dg.AssetCheckSpec(
        audit.name, asset=production_key(audit.table), description=audit.description
    )


def _results(
    context: dg.AssetExecutionContext,
    audits: Sequence[AuditResult],
    accepted: Mapping[str, Acceptance],
) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks that were selected. One that a person accepted is a warning."""
    wanted = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
    for audit in audits:
        key = production_key(audit.table)
        if (key, audit.name) in wanted:
            acceptance = accepted.get(audit.name)
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=audit.name,
                passed=audit.passed,
                severity=dg.AssetCheckSeverity.WARN if acceptance else dg.AssetCheckSeverity.ERROR,
                description=None if audit.passed or not audit.limit else audit.message,
                metadata=audit.details | ({"accepted": str(acceptance)} if acceptance else {}),
            )


def published_assets(
    lines: Lines, tables: Sequence[PublishedTable], audits: Sequence[AnyAudit]
) -> dg.AssetsDefinition:
    """The op that publishes those tables, with the audits as checks."""

    @dg.multi_asset(
        name="publication",
        specs=[_spec(table, lines.line(table.line).owner) for table in tables],
        check_specs=[_check(audit) for audit in audits],
        can_subset=True,
        pool=POOL,
    )
    def publication(
        context: dg.AssetExecutionContext,
        config: PublicationConfig,
        staging: PostgresResource,
        production: PostgresResource,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Publish the lines of the selected tables and the conformed tables, in one switch.

        If the tables of a line went live one by one, they would not fit together. Without the
        conformed dimensions, new facts would refer to rows that are not live yet.
        """
        asked = {
            table.line
            for table in tables
            if production_key(table.name) in context.selected_asset_keys
            or table.line == lines.conformed.name
        }
        refused = _refused(context.instance, lines, tables)
        try:
            done = publish(
                staging.connection(),
                production.connection(),
                tables,
                audits,
                lines=asked,
                on_progress=context.log.info,
                complete=config.complete,
                refused=refused,
            )
        except AuditFailed as error:
            # The results of the checks come before the failure, so that the UI shows them.
            yield from _results(context, error.failed, {})
            # A retry would find the same tables in staging.
            raise dg.Failure(str(error), allow_retries=False) from None
        for line, outcome in done.lines.items():
            if not outcome.passed:
                failed = "".join(f"\n  {audit.message}" for audit in outcome.failed)
                context.log.error(
                    f"{line} was not published and keeps its version, "
                    f"{len(outcome.failed)} audit(s) failed:{failed}\n{remedy(outcome.failed)}"
                )
        for table in tables:
            # Others of a line that went live were not selected, so their checks have no result.
            # The plan requests them if there was anything new in them.
            if (
                table.name in done.row_counts
                and production_key(table.name) in context.selected_asset_keys
            ):
                metadata = _metadata(table, done, production)
                # The same rows keep their version, so what reads them stays up to date.
                version = dg.DataVersion(done.versions[table.name])
                yield dg.MaterializeResult(
                    production_key(table.name), metadata=metadata, data_version=version
                )
        yield from _results(context, done.audits, done.accepted)

    return publication


def _refused(
    instance: dg.DagsterInstance, lines: Lines, tables: Sequence[PublishedTable]
) -> dict[str, str]:
    """The tables that would show personal values to everybody, each with what to do about it."""
    ends = {schema for source in lines.sources for schema in (source.schema, source.lake)}
    origins = column_origins(instance, map(_upstream, tables), ends)
    found = unclassed(tables, lines, origins)
    return {
        table.name: " ".join(
            f"{column} has values of {'.'.join(source)}, which is personal, and has no class."
            for column, source in sorted(found[table.name].items())
        )
        + " Add it to `pii` or, with a reason, to `not_pii` of its Published at "
        f"{table.declared.declared_at}."
        for table in tables
        if table.name in found
    }


def go_live_together(lines: Lines) -> dict[dg.AssetKey, set[dg.AssetKey]]:
    """For each published table, all tables that go live with it, even if they are not selected.

    They are the tables of its line and those that the lines share.
    """
    of_line = {line.name: {production_key(t.name) for t in line.published} for line in lines}
    shared = of_line[lines.conformed.name]
    return {key: keys | shared for keys in of_line.values() for key in keys}


def _metadata(
    table: PublishedTable, done: Publication, production: PostgresResource
) -> dict[str, Any]:
    columns = table_schema(production.connection(), "production", table.name)
    accepted = {
        f"accepted {audit.name}": f"{audit.message} Accepted: {done.accepted[audit.name]}"
        for audit in done.audits
        if audit.table == table.name and audit.name in done.accepted
    }
    return {
        "dagster/row_count": done.row_counts[table.name],
        "version": done.version,
        "rows written": done.written[table.name],
        "seconds": round(done.seconds, 2),
        **accepted,
        **same_columns_as(columns, _upstream(table)),
    }
