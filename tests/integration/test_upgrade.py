"""Databases of a release without migrations (2b4cd81) are upgraded, lose nothing, and are worked
on.

`tests/data/README.md` says how the dumps were made.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import IsolationLevel, sql
from support.databases import database, fingerprints
from support.ingestion import load_all, query, run, snapshot, source_of

from softcart_assets import warehouse_state
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import bookkeeping
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.quarantine import list_quarantine
from softcart_assets.lines.model import Published
from softcart_assets.migrations import MigrationError
from softcart_assets.publishing import slots
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.tables import PublishedTable

DUMPS = Path(__file__).parent.parent / "data"

ONE_SIDED = {
    # Nothing ever read these.
    "ingestion.resnapshots": {"columns", "error"},
    # The first one is new. The others have moved into a table of their own.
    "ingestion.loads": {"number", "source_rows", "source_checksums"},
    "ingestion.quarantine": {"is_counted"},
    "ingestion.streams": {"complete_at"},
}
"""Columns that an upgrade takes away, adds or fills anew, by table. They are not compared."""

PREPARE: dict[str, Callable[[psycopg.Connection], None]] = {
    "ingestion": lambda session: bookkeeping.prepare(session, "raw_shop"),
    # Its views read tables of the first.
    "ods": lambda session: bookkeeping.prepare(session, "raw_shop"),
    "aggregates": lambda session: warehouse_state.prepare(session, "aggregates"),
    "dbt_state": lambda session: warehouse_state.prepare(session, "dbt_state"),
    "identities": lambda session: warehouse_state.prepare(session, "identities"),
    "ml": lambda session: warehouse_state.prepare(session, "ml"),
    "production_meta": slots.set_up,
}
"""What brings each schema of ours to this release."""

OF_STAGING = ("ingestion", "ods", "aggregates", "dbt_state", "identities", "ml")
TABLES = {
    "ingestion": (
        "attempts captures file_duplicates files lake_files loads positions quarantine raw_sums "
        "resnapshots snapshot_ranges statements streams table_states"
    ),
    "ods": "_builds _spark_batches _spark_topics _totals positions",
    "aggregates": "_built_from",
    "identities": "_built_with _obeyed changes decisions keys pairs people records",
    "ml": "_built_from",
    "dbt_state": "key_formulas watermarks",
    "production_meta": "acceptances contents current deviations lines versions",
}
ADDED = {
    "dbt_state.key_formulas",
    "ingestion.file_duplicates",
    "ingestion.files",
    "ingestion.raw_sums",
    *(f"identities.{name}" for name in ("_built_with", "changes", "decisions", "keys")),
    *(f"identities.{name}" for name in ("_obeyed", "pairs", "people", "records")),
    "ml._built_from",
    "ods._builds",
    "ods._spark_batches",
    "ods._spark_topics",
    "ods._totals",
    "ods.positions",
    "production_meta.acceptances",
    "production_meta.contents",
    "production_meta.deviations",
    "production_meta.lines",
}
"""Tables and views that an upgrade adds, and leaves empty."""
FILLED = {"ingestion.statements", "ingestion.table_states", "production_meta.versions"}
"""Tables and views that an upgrade adds, with what it takes from others."""

EMPTIED = {"dbt_state.watermarks"}
"""Tables whose rows an upgrade takes away. Each model reads all changes once more."""


@dataclass(frozen=True)
class Upgraded:
    """A database, and all rows of all its tables and views before and after its schemas were
    upgraded.
    """

    connection: PostgresConnection
    before: dict[str, list[str]]
    after: dict[str, list[str]]


def _upgraded(name: str, schemas: Iterable[str]) -> Iterator[Upgraded]:
    with database() as connection:
        with connection.connect(autocommit=True) as session:
            session.execute(gzip.decompress((DUMPS / f"2b4cd81-{name}.sql.gz").read_bytes()))
        with connection.connect() as session:
            before = _rows(session)
            for schema in schemas:
                PREPARE[schema](session)
            after = _rows(session)
        yield Upgraded(connection, before, after)


def _rows(session: psycopg.Connection) -> dict[str, list[str]]:
    """Every row with its columns' names, as text, without the tables that count migrations."""
    relations = session.execute(
        "SELECT format('%I.%I', schemaname, name) FROM (SELECT schemaname, tablename AS name FROM "
        "pg_tables"
        " UNION ALL SELECT schemaname, viewname FROM pg_views) r"
        " WHERE schemaname !~ '^(pg_|information_schema)' AND name <> '_migrations'"
    ).fetchall()
    rows = {}
    for (relation,) in relations:
        statement = f"SELECT (to_jsonb(t) - %s::text[])::text FROM {relation} t ORDER BY 1"
        without = ONE_SIDED.get(relation, set())
        if not relation.endswith("_history"):
            without = without | {"_version"}  # Raw tables get it. Histories had it before.
        found = session.execute(statement.encode(), [sorted(without)])
        rows[relation] = [row for (row,) in found]
    return rows


@pytest.fixture(scope="module")
def staging(stack: object) -> Iterator[Upgraded]:
    yield from _upgraded("staging", OF_STAGING)


@pytest.fixture(scope="module")
def production(stack: object) -> Iterator[Upgraded]:
    yield from _upgraded("production", ["production_meta"])


@pytest.fixture(scope="module")
def fresh(stack: object) -> Iterator[PostgresConnection]:
    """A new database with all schemas of ours."""
    with database() as connection:
        with connection.connect() as session:
            for prepare in PREPARE.values():
                prepare(session)
        yield connection


def test_an_upgrade_loses_nothing(staging: Upgraded, production: Upgraded) -> None:
    for upgraded, schemas in ((staging, OF_STAGING), (production, ["production_meta"])):
        for schema in schemas:
            for table in TABLES[schema].split():
                relation = f"{schema}.{table}"
                if relation not in ADDED | FILLED:
                    assert upgraded.before[relation], "the dump has rows of every table"
        added = {relation: [] for relation in ADDED if relation.partition(".")[0] in schemas}
        filled = {relation: upgraded.after[relation] for relation in FILLED & set(upgraded.after)}
        assert all(filled.values())
        emptied = {relation: [] for relation in EMPTIED & set(upgraded.before)}
        assert upgraded.after == upgraded.before | added | filled | emptied


@pytest.mark.parametrize("schema", PREPARE)
def test_an_upgraded_schema_is_made_like_a_fresh_one(
    staging: Upgraded, production: Upgraded, fresh: PostgresConnection, schema: str
) -> None:
    upgraded = staging if schema in OF_STAGING else production
    found = _structure(fresh, schema)
    assert _structure(upgraded.connection, schema) == found
    assert {table for table, *_ in found} == {*TABLES[schema].split(), "_migrations"}
    versions = f"SELECT version, name, checksum FROM {schema}._migrations ORDER BY 1"
    assert query(upgraded.connection, versions) == query(fresh, versions)


def _structure(connection: PostgresConnection, schema: str) -> set[tuple]:
    """Columns, constraints, indexes and comments of our tables in a schema."""
    tables = TABLES[schema].split()
    return set(
        query(
            connection,
            """
            WITH ours AS (
              SELECT oid, relname FROM pg_class
              WHERE relnamespace = to_regnamespace(%s) AND relname = ANY(%s)
            )
            SELECT relname, 'column', attname, format_type(atttypid, atttypmod),
                   concat_ws(' ', attnotnull, attidentity, pg_get_expr(adbin, adrelid))
            FROM ours JOIN pg_attribute ON attrelid = ours.oid AND attnum > 0 AND NOT attisdropped
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            UNION ALL
            SELECT relname, 'constraint', conname, pg_get_constraintdef(c.oid), ''
            FROM ours JOIN pg_constraint c ON conrelid = ours.oid
            UNION ALL
            SELECT relname, 'index', '', pg_get_indexdef(indexrelid), ''
            FROM ours JOIN pg_index ON indrelid = ours.oid
            UNION ALL
            SELECT relname, 'comment', '', obj_description(oid, 'pg_class'), '' FROM ours
            """,
            schema,
            [*tables, "_migrations"],
        )
    )


@pytest.mark.parametrize("schema", PREPARE)
def test_a_database_of_a_newer_release_is_refused(fresh: PostgresConnection, schema: str) -> None:
    later = sql.SQL("INSERT INTO {} VALUES (999, '0999_later.sql', 'x')")
    with fresh.connect() as session:
        session.execute(later.format(sql.Identifier(schema, "_migrations")))
        with pytest.raises(MigrationError, match="was upgraded by a newer release of SoftCart"):
            PREPARE[schema](session)
        session.rollback()


def test_raw_tables_get_numbers_that_grow(staging: Upgraded) -> None:
    """Present rows have the number 0. Models read them once more, because no mark is above it."""
    tables = query(
        staging.connection,
        "SELECT table_schema || '.' || table_name FROM information_schema.columns WHERE"
        " column_name = '_position' AND (table_schema LIKE 'raw%' OR table_schema = 'ingestion')"
        " AND table_name NOT LIKE '%history'",
    )
    assert {"raw_shop.orders", "raw_catalog.products"} < {name for (name,) in tables}
    for (table,) in tables:
        assert query(staging.connection, f"SELECT DISTINCT _version FROM {table}") in ([(0,)], [])
    assert query(staging.connection, "SELECT FROM dbt_state.watermarks") == []
    with staging.connection.connect() as session:
        for _ in range(2):
            session.execute(
                "UPDATE raw_shop.stores SET _version = DEFAULT, name = 'x' WHERE id = 1"
            )
            row = session.execute("SELECT max(_version) FROM raw_shop.stores").fetchone()
            assert row == session.execute("SELECT last_value FROM ingestion.versions").fetchone()
        session.rollback()


def test_a_file_is_listed_under_the_date_of_its_folder(staging: Upgraded) -> None:
    listed = (
        "SELECT count(*) FROM ingestion.lake_files WHERE path NOT LIKE '%' || load_date || '/%'"
    )
    assert query(staging.connection, listed) == [(0,)]


def test_the_bookkeeping_is_read_and_written_after_an_upgrade(
    staging: Upgraded, mysql: MySQLConnection, lake: str
) -> None:
    connection = staging.connection
    stood = "binlog.000001:000000342363"
    run(mysql, "CREATE TABLE items (id INT PRIMARY KEY)", "INSERT INTO items VALUES (1), (2)")
    assert load_all(source_of(snapshot("items", "id")), mysql, connection, lake)["items"].total == 2
    with connection.connect() as session:
        positions = bookkeeping.loaded_positions(session, "shop")
        assert positions["orders"] == positions["employees"] == stood
        assert len(positions) == 11
        last = bookkeeping.last_load(session, "shop", "stores")
        assert last is not None
        assert (last.position, last.rows_total) == (stood, 4)
        stated = statements.read(session, "shop", "stores")
        assert (stated.rows, stated.asked_position) == (4, stood)
        assert stated.columns
        assert set(stated.columns) == {column["name"] for column in last.columns}
        assert bookkeeping.last_load(session, "t", "items") is not None
    entries = list_quarantine(connection, "shop")
    assert [(entry.table_name, entry.key, entry.row["name"]) for entry in entries] == [
        ("customers", ["1001"], "Zoë 🚲")
    ]
    assert len(list_quarantine(connection, "shop", closed=True)) == 2


def test_a_publication_goes_over_the_version_that_an_old_release_published(
    staging: Upgraded, production: Upgraded
) -> None:
    source, target = staging.connection, production.connection
    tables = [
        PublishedTable(Published(name), schema, tuple(key), "shop")
        for name, schema, key in query(
            target,
            """
            SELECT relname, CASE WHEN relname LIKE 'agg\\_%%' THEN 'aggregates'
              ELSE 'warehouse' END,
                   array_agg(attname::text ORDER BY array_position(indkey::int[], attnum::int))
            FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
            JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)
            WHERE indisunique AND relnamespace = to_regnamespace(%s) GROUP BY relname
            """,
            slots.slot_schema(11),
        )
    ]
    assert len(tables) == 17
    views = [f"production.{table.name}" for table in tables]
    published = fingerprints(target, views)
    with source.connect() as session:
        session.execute("DELETE FROM warehouse.fct_payments WHERE payment_id % 2 = 0")
    with target.connect() as reader:
        reader.isolation_level = IsolationLevel.REPEATABLE_READ
        assert reader.execute("SELECT count(*) FROM production.dim_vendor").fetchone() == (9,)
        assert publish(source, target, tables, audits=()).version == 2
        count = reader.execute("SELECT count(*) FROM production.fct_payments").fetchone()
        assert count == (published["fct_payments"][0],), "an open transaction keeps its version"
    of_staging = fingerprints(source, [f"{table.schema}.{table.name}" for table in tables])
    assert fingerprints(target, views) == of_staging
    assert of_staging["fct_payments"] != published["fct_payments"]
