"""Assets of the lake and of aggregates: tables of one name in two sources, local failures."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from pyarrow import fs
from support.clock import give_clock, set_clock
from support.databases import database, name_server
from support.hive import in_hive
from support.ingestion import load_all, query, run
from support.ingestion import source_of as source_of_mysql
from support.lake import rows_of

from softcart_assets.audits import lake as audit
from softcart_assets.components.aggregates import aggregates
from softcart_assets.components.keys import aggregate_key, lake_key
from softcart_assets.components.lake import lake_tables
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.bookkeeping import prepare
from softcart_assets.lake import LakeTable, from_json, lake_table
from softcart_assets.lake.hive import connected
from softcart_assets.lake.schema import current_schema
from softcart_assets.lines.model import NONE, Column, Line, Published, Source, Table
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.resources import LakeResource, PostgresResource, RawStateResource
from softcart_assets.resources.spark import SparkResource
from spark import jobs as spark_jobs
from spark.jobs import Job
from spark.lake import read

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


SOURCE = source_of_mysql(
    Table("orders", "", ("id",), "snapshot", (), lake_partition="at"),
    Table("plain", "", (), "snapshot", ()),
    Table("facts", "", ("id",), "cdc", (), history=True),
    Table("loose", "", (), "cdc", ()),
)
ONE, TWO = source_of("one", "customers", "broken"), source_of("two", "customers")
LINE = Line("tried", "A line.", "team:tried", (ONE, TWO))


def load(postgres: PostgresConnection, lake: str, source: Source, table: str, column: Any) -> None:
    """Write a committed change file with a column `id`."""
    rows = len(column)
    load_id = os.urandom(4).hex()
    path = f"changes/{source.name}/{table}/load_date=2026-03-01/{load_id}-0.parquet"
    with postgres.connect() as session:
        prepare(session, source.schema)
        raw = f"raw_{source.name}.{table}"
        session.execute(
            f"CREATE TABLE IF NOT EXISTS {raw} (id text, _deleted boolean NOT NULL DEFAULT false)"
        )
        # A row of an earlier load has the same key, and gives way.
        session.execute(f"DELETE FROM {raw} WHERE id = ANY(%s)", [_texts(column)])
        session.execute(f"INSERT INTO {raw} SELECT unnest(%s::text[])", [_texts(column)])
        (version,) = session.execute("SELECT nextval('ingestion.versions')").fetchone() or (0,)
    file = Path(lake.removeprefix("file://"), path)
    file.parent.mkdir(parents=True, exist_ok=True)
    loaded_at = datetime.now(UTC)
    own = {
        "_deleted": pa.repeat(False, rows),
        "_loaded_at": pa.repeat(pa.scalar(loaded_at, pa.timestamp("us", tz="UTC")), rows),
        "_position": pa.repeat("p", rows),
        "_load_id": pa.repeat(load_id, rows),
        "_version": pa.repeat(pa.scalar(version, pa.int64()), rows),
    }
    pq.write_table(pa.table({"id": column, **own}), file)
    with postgres.connect() as session:
        session.execute(
            "INSERT INTO ingestion.lake_files VALUES (%s, %s, %s, %s, %s, %s, 1, %s)",
            [path, source.name, table, load_id, NOW.date(), rows, loaded_at],
        )


def _texts(column: pa.Array) -> list[str]:
    return [str(value) for value in column.to_pylist()]


@pytest.fixture
def resources(
    spark, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
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
    return {
        "staging": PostgresResource(prefix=postgres.prefix),
        "raw_state": RawStateResource(prefix=postgres.prefix),
        "lake": LakeResource(),
        "spark": TheTestsSession(),
    }


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
    resources: dict[str, Any], postgres: PostgresConnection, lake: str
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
    assert [row["id"] for row in rows_of(LakeTable(lake, "lake_two", "customers"))] == [7]
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
            # A failed step would keep every line from being published.
            assert not failed
            assert made["aggregates/agg_bad"]["computed"] is False
            assert "dagster/row_count" not in made["aggregates/agg_bad"]
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
        for name in [name for name in sys.modules if name.startswith("spark.jobs.tried")]:
            del sys.modules[name]


@pytest.mark.parametrize(
    "fails",
    [
        "def transform(rows):\n"
        "    assert rows.count() <= 2, 'too many'\n"
        "    return rows.selectExpr('count(*) AS n')\n",
        """TOTALS = {'n': 'SELECT least(count(*), 2) FROM "one.customers"'}\n"""
        "def transform(rows): return rows.selectExpr('count(*) AS n')\n",
    ],
    ids=["by itself", "its totals"],
)
def test_an_aggregate_whose_job_fails_keeps_its_rows_and_holds_nothing_back(
    spark,
    resources: dict[str, Any],
    postgres: PostgresConnection,
    lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    """A customer's orders overflowed the stack of one job, and nothing at all was published."""
    folder = tmp_path / "jobs" / "tried"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    good = "def transform(rows): return rows.selectExpr('count(*) AS n')\n"
    for name, code in (("agg_fussy", fails), ("agg_good", good)):
        (folder / f"{name}.py").write_text(f"LINEAGE = {{}}\n{code}")
    monkeypatch.setattr(spark_jobs, "__path__", [*spark_jobs.__path__, str(tmp_path / "jobs")])
    customers = (ONE, ONE.table("customers"))
    jobs = [Job(name, "tried", (customers,)) for name in ("agg_fussy", "agg_good")]

    @dg.asset(deps=[aggregate_key(job.name) for job in jobs])
    def publication() -> None:
        """What publishes both."""

    def run_all() -> tuple[set[str], dict[str, bool]]:
        """What was made, and which aggregates were computed."""
        job = dg.Definitions(
            [lake_tables(LINE, ONE), aggregates(LINE, jobs), publication], resources=resources
        ).resolve_implicit_global_asset_job_def()
        selection = [lake_key(*customers), *(aggregate_key(j.name) for j in jobs), publication.key]
        with dg.DagsterInstance.ephemeral() as instance:
            result = job.execute_in_process(
                instance=instance, raise_on_error=False, asset_selection=selection
            )
        made = {e.asset_key.path[-1] for e in result.get_asset_materialization_events()}
        checks = {
            check.asset_key.path[-1]: check.passed
            for check in result.get_asset_check_evaluations()
            if check.check_name == "computed"
        }
        return made, checks

    def counts() -> list[int]:
        """What each aggregate counts."""
        rows = "SELECT n FROM aggregates.agg_fussy UNION ALL SELECT n FROM aggregates.agg_good"
        return [count for (count,) in query(postgres, rows)]

    everything = {"customers", "agg_fussy", "agg_good", "publication"}
    try:
        load(postgres, lake, ONE, "customers", pa.array([1, 2]))
        assert run_all() == (everything, {"agg_fussy": True, "agg_good": True})
        assert counts() == [2, 2]
        load(postgres, lake, ONE, "customers", pa.array([3]))
        for _ in range(2):
            # It is tried again each time, because its rows are not those of its inputs.
            assert run_all() == (everything, {"agg_fussy": False, "agg_good": True})
            assert counts() == [2, 3]
            # Spark and Hive read them in the lake.
            assert rows_of(LakeTable(lake, "aggregates", "agg_fussy")) == [{"n": 2, "_month": ""}]
        # If there are no rows to go on with, the publication holds the line itself.
        with postgres.connect() as session:
            session.execute("DROP TABLE aggregates.agg_fussy")
        made, checks = run_all()
        assert (made, checks) == (everything, {"agg_fussy": False, "agg_good": True})
        tables = [PublishedTable(Published("agg_good"), "aggregates", ("n",), "good")]
        tables += [PublishedTable(Published("agg_fussy"), "aggregates", ("n",), "fussy")]
        with database() as production:
            done = publish(postgres, production, tables, audits_of(tables))
        assert {line: each.passed for line, each in done.lines.items()} == {
            "good": True,
            "fussy": False,
        }
        [absent] = done.lines["fussy"].failed
        assert "aggregates.agg_fussy does not exist" in str(absent.details["note"])
    finally:
        for name in [name for name in sys.modules if name.startswith("spark.jobs.tried")]:
            del sys.modules[name]


ROWS = """
CREATE TABLE orders (id INT UNSIGNED PRIMARY KEY, at DATETIME(6), v VARCHAR(20),
  amount DECIMAL(12,2), wide DECIMAL(65,30), ratio DOUBLE, small TINYINT, big BIGINT UNSIGNED,
  day DATE, span TIME(6), data BLOB, document JSON, bits BIT(9));
CREATE TABLE plain (v VARCHAR(20), n INT);
CREATE TABLE facts (id INT PRIMARY KEY, v VARCHAR(20), ratio FLOAT, amount DECIMAL(40,20));
CREATE TABLE loose (v VARCHAR(20), n INT);
INSERT INTO orders VALUES
  (1, '2026-01-31 23:59:59.999999', 'Zoë 🚲', -0.01, 0.000000000000000000000000000001, 1e-300,
    -128, 18446744073709551615, '0001-01-01', '-838:59:59', x'00ff', '{"a": [1, "b"]}', 511),
  (4294967295, '2026-02-01', '', 9999999999.99, -12345678901234567890123456789012345.5, -0.1,
    127, 0, '9999-12-31', '00:00:00.000001', '', '[]', 0);
INSERT INTO orders (id) VALUES (3);
INSERT INTO plain VALUES ('a', 1), ('a', 1), ('b', 2);
INSERT INTO facts VALUES
  (1, 'a', 0.1, 1.5), (2, 'b', 1e20, -0.00000000000000000001), (3, 'c', NULL, 0);
INSERT INTO loose VALUES ('a', 1), ('a', 1), ('b', 2)
"""


def compared(resources: dict[str, Any], source: Source = SOURCE) -> dict[str, list[str] | bool]:
    """Refresh and check the lake tables of a source: whether each equals raw, or what differs."""
    line = Line("tried", "A line.", "team:tried", (source,))
    assets = lake_tables(line, source)
    job = dg.Definitions(
        assets=[assets], resources=resources
    ).resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance, raise_on_error=False)
    found = {
        each.asset_key.path[-1]: each.passed or each.metadata["differing columns"].value
        for each in result.get_asset_check_evaluations()
    }
    assert result.success is all(value is True for value in found.values())
    return found


def test_the_lake_equals_raw_whatever_the_clock_says(
    spark,
    metastore: str,
    resources: dict[str, Any],
    postgres: PostgresConnection,
    mysql: MySQLConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The warehouse's clock is set back by a day between two loads, and around midnight two of its
    readings differ. The lake's check sees what is wrong, and names it.
    """
    give_clock(postgres)
    right = dict.fromkeys(("orders", "plain", "facts", "loose"), True)
    run(mysql, *filter(str.strip, ROWS.split(";\n")))
    load_all(SOURCE, mysql, postgres, lake)
    set_clock(postgres, "-1 day", "-1 day")
    run(
        mysql,
        "UPDATE orders SET v = 'later' WHERE id = 1",
        "DELETE FROM orders WHERE id = 3",
        "DELETE FROM plain LIMIT 1",
        "UPDATE facts SET v = 'later' WHERE id = 1",
        "DELETE FROM facts WHERE id = 3",
        "DELETE FROM loose WHERE v = 'a' LIMIT 1",
    )
    load_all(SOURCE, mysql, postgres, lake)
    assert compared(resources) == right
    times = query(postgres, "SELECT _loaded_at FROM raw_t.orders ORDER BY id")
    assert times[0] < times[-1], "the later load has the earlier time"
    assert [row["v"] for row in rows_of(LakeTable(lake, "lake_t", "plain"))].count("a") == 1

    # A file's folder has the date of one reading of the clock, and the list of files another's.
    set_clock(postgres, "-1 day", "-2 days")
    run(mysql, "UPDATE facts SET v = 'midnight' WHERE id = 2")
    load_all(SOURCE, mysql, postgres, lake)
    assert compared(resources) == right
    history = spark.newSession().table("lake_t.facts_changes").select("id", "v").collect()
    assert sorted(map(tuple, history)) == [
        *((1, "a"), (1, "later"), (2, "b"), (2, "midnight"), (3, "c"), (3, "c")),
    ]

    # Files that somebody strikes off the list are missing in the lake, and the check says so.
    with postgres.connect() as session:
        session.execute(
            "DELETE FROM ingestion.lake_files WHERE load_date <"
            " (SELECT max(load_date) FROM ingestion.lake_files)"
        )
    assert compared(resources) == {
        "orders": ["id", "v"],
        "plain": ["v", "n"],
        "facts": ["id", "v", "amount"],
        "loose": ["v", "n"],
    }
    load_all(SOURCE, mysql, postgres, lake, restate=True)
    assert compared(resources) == right

    # Of the lake, the check reads only what the refresh has written.
    read: list[str] = []
    add_up = audit._add_up
    monkeypatch.setattr(audit, "_add_up", lambda *of: (read.append(of[1].folder), add_up(*of))[1])
    run(mysql, "UPDATE orders SET v = 'last' WHERE id = 1")
    load_all(SOURCE, mysql, postgres, lake, ["orders"])
    assert compared(resources) == right
    assert [PurePosixPath(folder).parent.name for folder in read] == ["_month=2026-01"]


def test_every_reader_finds_what_raw_has(
    spark,
    metastore: str,
    resources: dict[str, Any],
    postgres: PostgresConnection,
    mysql: MySQLConnection,
    lake: str,
) -> None:
    """Jobs in Spark, SQL in Spark, any client of the metastore, and DuckDB."""
    run(mysql, *filter(str.strip, ROWS.split(";\n")))
    changes = ("", "UPDATE orders SET at = '2026-03-01' WHERE id = 1", "DELETE FROM orders")
    for change in changes:
        run(mysql, *filter(None, [change]))
        load_all(SOURCE, mysql, postgres, lake)
        # That the files have what raw has.
        assert set(compared(resources).values()) == {True}
        for declared in SOURCE.tables:
            table = lake_table(SOURCE, declared, lake)
            state = table.state()
            assert state
            folders = [partition.folder for partition in state.partitions.values()]
            schema = current_schema(from_json(state.schema))
            wanted = pa.concat_tables(
                [schema.empty_table(), *(_read(table.store, folder) for folder in folders)]
            )
            duck = duckdb.connect()
            files = [f"{table.hadoop_path(folder)}/*.parquet"[7:] for folder in folders]
            sql = spark.newSession().table(table.full_name)
            with connected(metastore) as client:
                told = in_hive(client, table, schema)
            for found in (
                read(spark, table).toArrow(),
                sql.toArrow(),
                told,
                duck.read_parquet(files).to_arrow_table() if files else wanted,
            ):
                rows = found.select(schema.names).cast(schema).to_pylist()
                assert sorted(map(repr, rows)) == sorted(map(repr, wanted.to_pylist()))


def _read(store: fs.FileSystem, folder: str) -> pa.Table:
    return ds.dataset(folder, filesystem=store, format="parquet").to_table()


def test_names_that_differ_only_in_case_stay_apart(
    resources: dict[str, Any],
    postgres: PostgresConnection,
    mysql: MySQLConnection,
    mongo: MongoConnection,
    lake: str,
) -> None:
    """apache/flink-cdc#2144 (a column's case changes), prestodb/presto#4136, apache/spark#22148."""
    source = source_of_mysql(Table("orders", "", ("id",), "cdc", ()))
    run(
        mysql,
        "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20))",
        "INSERT INTO orders VALUES (1, 'a'), (2, 'b')",
    )
    load_all(source, mysql, postgres, lake)
    run(mysql, "ALTER TABLE orders CHANGE v V VARCHAR(20)", "INSERT INTO orders VALUES (3, 'c')")
    load_all(source, mysql, postgres, lake)
    assert compared(resources, source) == {"orders": True}
    run(mysql, "UPDATE orders SET V = 'B' WHERE id = 2")
    load_all(source, mysql, postgres, lake)
    assert compared(resources, source) == {"orders": True}
    found = rows_of(LakeTable(lake, "lake_t", "orders"))
    assert sorted((row["id"], row["v"], row["V_2"]) for row in found) == query(
        postgres, 'SELECT id, v, "V" FROM raw_t.orders ORDER BY 1'
    )

    documents = source_of_mysql(Table("docs", "", ("_id",), "cdc", ()), kind="mongodb")
    with mongo.connect() as client:
        collection = client[mongo.database].docs
        collection.insert_one({"_id": "1", "Name": "A", "name": "b", "_LOADED_AT": 7})
        load_all(documents, mongo, postgres, lake)
        assert compared(resources, documents) == {"docs": True}
        collection.insert_one({"_id": "2", "NAME": "C"})
    load_all(documents, mongo, postgres, lake)
    assert compared(resources, documents) == {"docs": True}
    rows = rows_of(LakeTable(lake, "lake_t", "docs"))
    found = next(row for row in rows if row["_id"] == "1")
    # The other spellings have no column of their own, but stay in the document.
    assert [found[name] for name in found if name.lower().startswith("name")] == ["A"]
    assert json.loads(found["document"])["name"] == "b"
