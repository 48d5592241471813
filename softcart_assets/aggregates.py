"""Computes aggregates with Spark and copies them into the staging warehouse, if anything changed.

`spark.jobs` has the aggregates themselves. Nothing here imports Dagster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import psycopg
from pyspark.sql import SparkSession

from softcart_assets import comments, locks, warehouse_state
from softcart_assets.audits.aggregate import differing_totals
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.sinks.parquet import replace_table
from softcart_assets.lake import Partition, State, lake_table
from softcart_assets.warehouse_state import built_from
from spark.jobs import Job, aggregate_table, write_aggregate


class TotalsDiffer(RuntimeError):
    """Sums over an aggregate are not those of the lake. The message names them."""


def build_if_changed(
    staging: PostgresConnection, spark: Callable[[int], SparkSession], job: Job, lake_uri: str
) -> tuple[int, bool]:
    """Compute an aggregate if its inputs or its code changed.

    Returns the number of its rows, and whether it was computed. `spark` returns the session, given
    the number of rows that the job reads. It is called only if there is something to compute,
    because Spark takes seconds to start. Raises `TotalsDiffer`, and keeps the last rows.
    """
    with staging.connect(autocommit=True) as alone:
        # Another process would take the files that this one writes for those of a killed one.
        locks.take(alone, "softcart aggregates")
        tables = [lake_table(source, table, lake_uri) for source, table in job.inputs]
        states = {table.full_name: table.state() for table in tables}
        inputs = _inputs(job, states)
        last = _last_build(alone, job)
        if last and last[1] == inputs:
            return last[0], False
        session = spark(sum(state.rows for state in states.values() if state))
        return _build(staging, session, job, inputs, lake_uri), True


def rows_to_read(jobs: Iterable[Job], lake_uri: str) -> int | None:
    """The most rows that one of the jobs reads. None if a table of theirs was never refreshed."""
    counts = [0]
    for job in jobs:
        states = [lake_table(*each, lake_uri).state() for each in job.inputs]
        if None in states:
            return None
        counts.append(sum(state.rows for state in states if state))
    return max(counts)


def rows_kept(staging: PostgresConnection, job: Job) -> int | None:
    """The number of rows of an aggregate as it was computed last. None if there is none."""
    with staging.connect() as session:
        last = _last_build(session, job)
    return last[0] if last else None


def _inputs(job: Job, states: Mapping[str, State | None]) -> dict[str, object]:
    """The version of a job's code, and what each lake table that it reads holds."""
    read: dict[str, object] = {
        name: state.content if state else None for name, state in states.items()
    }
    if job.history:
        # A row that came and went again is in the history only.
        read |= {f"{name}_changes": list(s.files) for name, s in states.items() if s}
    return {"code": job.code_version, **read}


def _last_build(session: psycopg.Connection, job: Job) -> tuple[int, dict[str, object]] | None:
    """The number of rows of an aggregate, and what it was computed from. None if there is none."""
    warehouse_state.prepare(session, "aggregates")
    return built_from.read(session, "aggregates", job.name)


def _build(
    staging: PostgresConnection,
    spark: SparkSession,
    job: Job,
    inputs: dict[str, object],
    lake_uri: str,
) -> int:
    """Compute an aggregate and copy it into the warehouse. Returns the number of its rows."""
    # It imports pandas: 0.4 CPU seconds, while the definitions take 1.4.
    import pyarrow.dataset as ds

    table = aggregate_table(job, lake_uri)

    def audit(computed: Partition) -> None:
        if wrong := differing_totals(job, table, computed, lake_uri):
            raise TotalsDiffer(
                f"aggregates.{job.name} does not add up to the lake: {'; '.join(wrong)}. Correct "
                f"the job, or its TOTALS, in {job.module.__name__}."
            )

    write_aggregate(spark, job, lake_uri, audit)
    state = table.state()
    assert state
    rows = ds.dataset(state.partitions[""].folder, filesystem=table.store, format="parquet")
    with staging.connect() as session:
        count = replace_table(session, "aggregates", job.name, rows)
        texts = {(job.name, column): text for column, text in job.columns.items()}
        # The first line. The rest is about the computation.
        texts[job.name, ""] = job.description.partition("\n")[0]
        comments.write(session, "aggregates", texts)
        built_from.note(session, "aggregates", job.name, inputs, count)
    return count
