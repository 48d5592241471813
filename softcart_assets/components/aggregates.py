"""The aggregates of a line of business as assets: one op per line computes them with Spark.

There is one op per line, so a failing job holds back only its own line.
"""

import time
from collections.abc import Iterator, Sequence

import dagster as dg

from softcart_assets.aggregates import build_if_changed
from softcart_assets.components.columns import table_schema
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.components.failures import fail_for
from softcart_assets.components.keys import aggregate_key, lake_key
from softcart_assets.lines.model import Line, Source, Table
from softcart_assets.resources import LakeResource, PostgresResource
from softcart_assets.resources.spark import SparkResource
from spark.jobs import Job


def _spec(line: Line, job: Job) -> dg.AssetSpec:
    return dg.AssetSpec(
        aggregate_key(job.name),
        deps=[lake_key(source, table) for source, table in job.inputs],
        description=job.description,
        group_name="aggregates",
        owners=[line.owner],
        kinds={"spark", "postgres", "table"},
        automation_condition=FOLLOWS_UPSTREAM,
        skippable=True,
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
        can_subset=True,
        pool=POOL,
    )
    def compute(
        context: dg.AssetExecutionContext,
        staging: PostgresResource,
        lake: LakeResource,
        spark: SparkResource,
    ) -> Iterator[dg.MaterializeResult[None]]:
        """Compute the selected aggregates if their inputs or their code changed."""
        connection = staging.connection()
        failures: dict[str, Exception] = {}
        for job in jobs:
            if aggregate_key(job.name) not in context.selected_asset_keys:
                continue
            started = time.monotonic()
            try:
                rows, computed = build_if_changed(
                    connection, lambda: spark.spark_session, job, lake.uri
                )
            except Exception as error:
                # Dagster keeps the results that were yielded before the step fails at its end.
                context.log.exception(f"aggregates.{job.name} could not be computed")
                failures[f"aggregates.{job.name}"] = error
                continue
            schema = table_schema(connection, "aggregates", job.name)
            yield dg.MaterializeResult(
                aggregate_key(job.name),
                metadata={
                    "dagster/row_count": rows,
                    "dagster/column_schema": dg.MetadataValue.table_schema(schema),
                    "dagster/column_lineage": dg.MetadataValue.column_lineage(_lineage(job)),
                    "computed": computed,
                    "seconds": round(time.monotonic() - started, 2),
                },
            )
        fail_for(failures, "Not computed")

    return compute
