"""The aggregates of a line of business as assets: one op per line computes them with Spark.

A failing job holds back its own aggregate only, which keeps its last rows. If the step failed, or
had no output for an aggregate, Dagster would skip the publication of all lines in that run. So each
job ends with a materialisation, and the check `computed` says what it is worth. The audits of a
publication tell whether the kept rows still fit the other tables. If there are no rows at all, a
publication holds the line.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from softcart_assets.aggregates import build_if_changed, rows_kept
from softcart_assets.components.columns import table_schema
from softcart_assets.components.failures import told
from softcart_assets.components.keys import aggregate_key, lake_key, table_name
from softcart_assets.components.pool import POOL
from softcart_assets.lake.hive import publish
from softcart_assets.lines.model import Line, Source, Table
from softcart_assets.resources import LakeResource, PostgresResource
from softcart_assets.resources.spark import SparkResource
from spark.jobs import Job, aggregate_table


def _spec(line: Line, job: Job) -> dg.AssetSpec:
    return dg.AssetSpec(
        aggregate_key(job.name),
        deps=[lake_key(source, table) for source, table in job.inputs],
        description=job.description,
        metadata=table_name(aggregate_key(job.name)),
        group_name="aggregates",
        owners=[line.owner],
        kinds={"spark", "postgres", "table"},
        code_version=job.code_version,
        skippable=True,
    )


def _check(job: Job) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        "computed",
        asset=aggregate_key(job.name),
        description="The job succeeded and its sums are those of the lake, or there was nothing "
        "new to compute. Otherwise the aggregate keeps its last rows, and they are what a "
        "publication publishes. If it has none, its line is held.",
    )


def _result(job: Job, failed: Exception | None) -> dg.AssetCheckResult:
    """The result of the check. `failed`: the error of the job."""
    return dg.AssetCheckResult(
        asset_key=aggregate_key(job.name),
        check_name=_check(job).name,
        passed=failed is None,
        # The first lines say what happened. Java's stack traces have hundreds.
        metadata=told(failed),
    )


def _lineage(job: Job) -> dg.TableColumnLineage:
    """For each column, the columns of lake tables that it is computed from."""
    tables: dict[tuple[str, str], tuple[Source, Table]] = {
        (source.name, table.name): (source, table) for source, table in job.inputs
    }
    # The LINEAGE of a job is plain text, so that a job module does not need Dagster.
    lineage: dict[str, list[dg.TableColumnDep]] = {}
    for column, origins in job.lineage.items():
        lineage[column] = []
        for origin in origins:
            source, table, name = origin.split(".")
            key = lake_key(*tables[source, table])
            lineage[column].append(dg.TableColumnDep(key, name))
    return dg.TableColumnLineage(lineage)


def aggregates(line: Line, jobs: Sequence[Job]) -> dg.AssetsDefinition:
    """The aggregates of a line. If one fails, the others are still computed."""

    @dg.multi_asset(
        name=f"aggregates_{line.name}",
        specs=[_spec(line, job) for job in jobs],
        check_specs=[_check(job) for job in jobs],
        can_subset=True,
        pool=POOL,
    )
    def compute(
        context: dg.AssetExecutionContext,
        staging: PostgresResource,
        lake: LakeResource,
        spark: SparkResource,
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
        """Compute the selected aggregates if their inputs or their code changed.

        A job whose check alone is selected is computed, too.
        """
        connection = staging.connection()
        assets, checks = context.selected_asset_keys, context.selected_asset_check_keys
        for job in jobs:
            key, is_checked = aggregate_key(job.name), _check(job).key in checks
            if key not in assets and not is_checked:
                continue
            started = time.monotonic()
            rows: int | None
            failed: Exception | None = None
            try:
                rows, computed = build_if_changed(connection, spark.session_for, job, lake.uri)
                publish(aggregate_table(job, lake.uri), context.log.info)
            except Exception as error:
                context.log.exception(f"aggregates.{job.name} could not be computed")
                rows, computed, failed = rows_kept(connection, job), False, error
            check = _result(job, failed)
            if key not in assets:
                yield check
                continue
            metadata: dict[str, Any] = {
                "dagster/column_lineage": dg.MetadataValue.column_lineage(_lineage(job)),
                "computed": computed,
                "seconds": round(time.monotonic() - started, 2),
            }
            if rows is not None:
                schema = table_schema(connection, "aggregates", job.name)
                metadata |= {
                    "dagster/row_count": rows,
                    "dagster/column_schema": dg.MetadataValue.table_schema(schema),
                }
            yield dg.MaterializeResult(
                key, metadata=metadata, check_results=[check] if is_checked else []
            )

    return compute
