"""The aggregates: PySpark jobs over the lake, copied into the staging warehouse for audit and publication."""

import hashlib
import inspect
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg
from psycopg.types.json import Jsonb

from softcart_assets import warehouse_state
from softcart_assets.assembly import LINES
from softcart_assets.components.columns import table_schema
from softcart_assets.components.conditions import FOLLOWS_UPSTREAM, POOL
from softcart_assets.connections import PostgresConnection
from softcart_assets.defs.lake.assets import lake_key, lake_table
from softcart_assets.ingestion.sinks.lake import open_lake
from softcart_assets.ingestion.sinks.parquet import replace_table
from softcart_assets.resources import LakeResource, PostgresResource, SparkResource
from spark.jobs import JOBS, Job

if TYPE_CHECKING:
    import psycopg


def aggregate_key(name: str) -> dg.AssetKey:
    """Key of an aggregate."""
    return dg.AssetKey(["aggregates", name])


SPECS = [
    dg.AssetSpec(
        aggregate_key(job.name),
        deps=[lake_key(table) for table in job.inputs],
        description=job.description,
        group_name="aggregates",
        owners=[LINES.line(job.line).owner],
        kinds={"spark", "postgres", "table"},
        automation_condition=FOLLOWS_UPSTREAM,
        skippable=True,
    )
    for job in JOBS.values()
]


def _lineage(job: Job) -> dg.TableColumnLineage:
    """Columns of the lake's tables that each column comes from."""
    return dg.TableColumnLineage(
        {
            column: [
                dg.TableColumnDep(lake_key(table), name)
                for table, name in (s.split(".") for s in sources)
            ]
            for column, sources in job.lineage.items()
        }
    )


def _inputs(job: Job, lake_uri: str) -> dict[str, object]:
    """The versions of the lake tables that a job reads, and of its code."""
    states = {table: lake_table(table, lake_uri).state() for table in job.inputs}
    code = inspect.getsource(job.module)
    return {
        "lake": lake_uri,
        "code": hashlib.sha256(code.encode()).hexdigest(),
        **{table: state.version if state else None for table, state in states.items()},
    }


def _rows_if_current(
    session: "psycopg.Connection", job: Job, inputs: dict[str, object]
) -> int | None:
    warehouse_state.prepare(session, "aggregates")
    row = session.execute(
        "SELECT row_count FROM aggregates._built_from WHERE table_name = %s AND inputs = %s"
        " AND to_regclass('aggregates.' || table_name) IS NOT NULL",
        [job.name, Jsonb(inputs)],
    ).fetchone()
    return row[0] if row else None


def _build(
    staging: PostgresConnection,
    job: Job,
    inputs: dict[str, object],
    lake_uri: str,
    spark: SparkResource,
) -> int:
    """Compute an aggregate and put it into the warehouse in one transaction; returns its rows."""
    import pyarrow.dataset as ds

    from spark.jobs import write_aggregate

    write_aggregate(spark.session, job, lake_uri)
    files = [open_lake(uri) for uri in spark.session.table(f"aggregates.{job.name}").inputFiles()]
    rows = ds.dataset([path for _, path in files], filesystem=files[0][0], format="parquet")
    with staging.connect() as session:
        count = replace_table(session, "aggregates", job.name, rows)
        session.execute(
            "INSERT INTO aggregates._built_from VALUES (%s, %s, %s) ON CONFLICT (table_name)"
            " DO UPDATE SET inputs = excluded.inputs, row_count = excluded.row_count",
            [job.name, Jsonb(inputs), count],
        )
    return count


@dg.multi_asset(name="spark_aggregates", specs=SPECS, can_subset=True, pool=POOL)
def spark_aggregates(
    context: dg.AssetExecutionContext,
    staging: PostgresResource,
    lake: LakeResource,
    spark: SparkResource,
) -> Iterator[dg.MaterializeResult]:
    """Compute the selected aggregates whose inputs or code changed since they were last built."""
    for job in JOBS.values():
        if aggregate_key(job.name) not in context.selected_asset_keys:
            continue
        started = time.monotonic()
        connection, inputs = staging.connection(), _inputs(job, lake.uri)
        with connection.connect() as session:
            rows = _rows_if_current(session, job, inputs)
        computed = rows is None
        if rows is None:
            rows = _build(connection, job, inputs, lake.uri, spark)
        yield dg.MaterializeResult(
            aggregate_key(job.name),
            metadata={
                "dagster/row_count": rows,
                "dagster/column_schema": dg.MetadataValue.table_schema(
                    table_schema(connection, "aggregates", job.name)
                ),
                "dagster/column_lineage": dg.MetadataValue.column_lineage(_lineage(job)),
                "computed": computed,
                "seconds": round(time.monotonic() - started, 2),
            },
        )


@dg.definitions
def aggregates() -> dg.Definitions:
    """The aggregates."""
    return dg.Definitions(assets=[spark_aggregates])
