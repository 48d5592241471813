"""Assets of the lake and of aggregates: tables of one name in two sources, local failures."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.databases import name_server

from softcart_assets.components.aggregates import aggregates
from softcart_assets.components.keys import lake_key
from softcart_assets.components.lake import lake_tables
from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.bookkeeping import prepare
from softcart_assets.lines.model import NONE, Column, Line, Source, Table
from softcart_assets.resources import LakeResource, PostgresResource
from softcart_assets.resources.spark import SparkResource
from spark import jobs as spark_jobs
from spark.jobs import Job

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


@pytest.fixture
def resources(
    spark, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    """What the ops need: an empty lake, and a staging warehouse that knows of no change files."""

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
    yield {
        "staging": PostgresResource(prefix=postgres.prefix),
        "lake": LakeResource(),
        "spark": TheTestsSession(),
    }
    for source in LINE.sources:
        spark.sql(f"DROP DATABASE IF EXISTS {source.lake} CASCADE")


def execute(
    resources: dict[str, Any], *assets: dg.AssetsDefinition
) -> tuple[dict[str, dict[str, Any]], list[tuple[str, str]]]:
    """Run these assets: the metadata of those that were made, and each failed step with its
    error.
    """
    job = dg.Definitions(assets=assets, resources=resources).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    made = {
        event.asset_key.to_user_string(): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in result.get_asset_materialization_events()
    }
    failed = [
        (event.step_key, f"{event.step_failure_data.user_failure_data}")
        for event in result.get_step_failure_events()
    ]
    return made, failed


def test_equal_names_are_two_tables_and_a_table_fails_alone(
    spark, resources: dict[str, Any], postgres: PostgresConnection, lake: str
) -> None:
    load(postgres, lake, ONE, "customers", pa.array([1, 2]))
    load(postgres, lake, TWO, "customers", pa.array([7]))
    load(postgres, lake, ONE, "broken", pa.array([1]))
    load(postgres, lake, ONE, "broken", pa.array(["text"]))

    def after(source: Source) -> dg.AssetsDefinition:
        @dg.asset(name=f"after_{source.name}", deps=[lake_key(source, source.tables[0])])
        def made() -> None:
            """Made from a lake table."""

        return made

    made, failed = execute(
        resources,
        *(lake_tables(LINE, source) for source in LINE.sources),
        *map(after, LINE.sources),
    )
    # Dagster skips what is behind the failed step, and not what is behind the other.
    assert made.keys() == {"lake_one/customers", "lake_two/customers", "after_two"}
    assert made["lake_one/customers"]["dagster/row_count"] == 2
    assert made["lake_two/customers"]["dagster/row_count"] == 1
    assert [row.id for row in spark.table("lake_two.customers").collect()] == [7]
    (origin,) = made["lake_two/customers"]["dagster/column_lineage"].deps_by_column["id"]
    assert origin == dg.TableColumnDep(dg.AssetKey(["raw_two", "customers"]), "id")
    ((step, error),) = failed
    assert step == "refresh_lake_one"
    assert "lake_one.broken: column 'id' was loaded as int64 and as string" in error


def test_an_aggregate_is_computed_when_it_changed_and_fails_alone(
    spark,
    resources: dict[str, Any],
    postgres: PostgresConnection,
    lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "jobs" / "tried"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "agg_bad.py").write_text(
        "LINEAGE = {}\ndef transform(rows): raise ValueError('no')\n"
    )
    (folder / "agg_good.py").write_text(
        "LINEAGE = {'n': ('one.customers.id', 'two.customers.id')}\n"
        "def transform(one, two): return one.union(two).selectExpr('count(*) AS n')\n"
    )
    monkeypatch.setattr(spark_jobs, "__path__", [*spark_jobs.__path__, str(tmp_path / "jobs")])
    customers = [(source, source.table("customers")) for source in LINE.sources]
    jobs = [
        Job("agg_bad", "tried", (customers[0],)),
        Job("agg_good", "tried", tuple(customers)),
    ]
    load(postgres, lake, ONE, "customers", pa.array([1, 2]))
    load(postgres, lake, TWO, "customers", pa.array([7]))
    assets = (
        *(lake_tables(LINE, source) for source in LINE.sources),
        aggregates(LINE, jobs),
    )
    try:
        for expected, computed in ((3, True), (3, False), (4, True)):
            if expected == 4:
                load(postgres, lake, TWO, "customers", pa.array([7, 8]))
            made, failed = execute(resources, *assets)
            assert made["aggregates/agg_good"]["computed"] is computed
            assert "aggregates/agg_bad" not in made
            assert failed[0][0] == "aggregates_tried"
            assert "aggregates.agg_bad: no" in failed[0][1]
            with postgres.connect() as session:
                assert session.execute("SELECT n FROM aggregates.agg_good").fetchall() == [
                    (expected,)
                ]
        origins = made["aggregates/agg_good"]["dagster/column_lineage"].deps_by_column["n"]
        assert [origin.asset_key.to_user_string() for origin in origins] == [
            "lake_one/customers",
            "lake_two/customers",
        ]
    finally:
        spark.sql("DROP DATABASE IF EXISTS aggregates CASCADE")
        for name in [name for name in sys.modules if name.startswith("spark.jobs.tried")]:
            del sys.modules[name]
