"""The lake's assets: tables of one name in two sources, and failures that stay local."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.databases import name_server

from softcart_assets.components.keys import lake_key
from softcart_assets.components.lake import lake_tables
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.bookkeeping import prepare
from softcart_assets.lines.model import NONE, Column, Line, Source, Table
from softcart_assets.resources import LakeResource, PostgresResource
from softcart_assets.resources.spark import SparkResource

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def source_of(name: str, *tables: str) -> Source:
    return Source(
        name,
        "mysql",
        "A source.",
        tuple(
            Table(table, "A table.", ("id",), "snapshot", columns=(Column("id", NONE),))
            for table in tables
        ),
    )


ONE, TWO = source_of("one", "customers", "broken"), source_of("two", "customers")
LINE = Line("tried", "A line.", "team:tried", (ONE, TWO))


def load(postgres: PostgresConnection, lake: str, source: Source, table: str, column: Any) -> None:
    """Write a committed change file with a column `id`."""
    rows = len(column)
    load_id = os.urandom(4).hex()
    path = f"changes/{source.name}/{table}/load_date=2026-03-01/{load_id}-0.parquet"
    file = Path(lake.removeprefix("file://"), path)
    file.parent.mkdir(parents=True, exist_ok=True)
    loaded_at = datetime.now(UTC)
    own = {
        "_deleted": pa.repeat(False, rows),
        "_loaded_at": pa.repeat(pa.scalar(loaded_at, pa.timestamp("us", tz="UTC")), rows),
        "_position": pa.repeat("p", rows),
        "_load_id": pa.repeat(load_id, rows),
    }
    pq.write_table(pa.table({"id": column, **own}), file)
    with postgres.connect() as session:
        session.execute(
            "INSERT INTO ingestion.lake_files VALUES (%s, %s, %s, %s, %s, %s, 1, %s)",
            [path, source.name, table, load_id, NOW.date(), rows, loaded_at],
        )


def test_equal_names_are_two_tables_and_a_table_fails_alone(
    spark, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TheTestsSession(SparkResource):
        """The session that all tests share, which a run must not stop."""

        def _init_session(self) -> None:
            self._spark_session = spark

        def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
            self._spark_session = None

    name_server(monkeypatch, postgres)
    monkeypatch.setenv("SOFTCART_LAKE_URI", lake)
    with postgres.connect() as session:
        prepare(session, "raw_one")
    load(postgres, lake, ONE, "customers", pa.array([1, 2]))
    load(postgres, lake, TWO, "customers", pa.array([7]))
    load(postgres, lake, ONE, "broken", pa.array([1]))
    load(postgres, lake, ONE, "broken", pa.array(["text"]))

    def after(source: Source) -> dg.AssetsDefinition:
        @dg.asset(name=f"after_{source.name}", deps=[lake_key(source, source.tables[0])])
        def made() -> None:
            """Made from a lake table."""

        return made

    definitions = dg.Definitions(
        assets=[
            *(lake_tables(LINE, source) for source in LINE.sources),
            *map(after, LINE.sources),
        ],
        resources={
            "staging": PostgresResource(prefix=postgres.prefix),
            "lake": LakeResource(),
            "spark": TheTestsSession(),
        },
    )
    job = definitions.resolve_implicit_global_asset_job_def()
    try:
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(instance=instance, raise_on_error=False)
        made = {m.asset_key: m for m in result.get_asset_materialization_events()}
        customers = [lake_key(source, source.tables[0]) for source in LINE.sources]
        # Dagster skips what is behind the failed step, and not what is behind the other.
        assert made.keys() == {*customers, dg.AssetKey("after_two")}
        counts = [
            made[key].materialization.metadata["dagster/row_count"].value for key in customers
        ]
        assert counts == [2, 1]
        assert [row.id for row in spark.table("lake_two.customers").collect()] == [7]
        lineage = made[customers[1]].materialization.metadata["dagster/column_lineage"].value
        assert lineage.deps_by_column["id"][0].asset_key == dg.AssetKey(["raw_two", "customers"])
        (failed,) = result.get_step_failure_events()
        assert failed.step_key == "refresh_lake_one"
        assert "lake_one.broken: " in failed.step_failure_data.error.message + str(
            failed.step_failure_data.user_failure_data
        )
    finally:
        for source in LINE.sources:
            spark.sql(f"DROP DATABASE IF EXISTS {source.lake} CASCADE")
