"""Publishing: production becomes what staging is, and no reader notices how."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import IsolationLevel
from support.databases import database, fingerprints
from support.published import AUDITS, TABLES
from support.warehouse import create_warehouse

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Published
from softcart_assets.publishing import slots
from softcart_assets.publishing.publish import AuditFailed, PublishError, publish
from softcart_assets.publishing.tables import PublishedTable

PAIR = (
    PublishedTable(Published("one"), "warehouse", ("id",), "first"),
    PublishedTable(Published("two"), "warehouse", ("id",), "first"),
)
"""Two small tables whose rows carry the version that they belong to."""


@pytest.fixture(scope="module")
def warehouse(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_warehouse(connection, orders=1000)
        yield connection


@pytest.fixture
def staging(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        with connection.connect() as session:
            session.execute("CREATE SCHEMA warehouse")
            for table in PAIR:
                session.execute(f"CREATE TABLE warehouse.{table.name} (id int, marker int)")
        mark(connection, 1)
        yield connection


@pytest.fixture
def production(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        yield connection


def mark(staging: PostgresConnection, version: int) -> None:
    """Give both tables 1000 + `version` rows marked with it."""
    with staging.connect() as session:
        for table in PAIR:
            session.execute(f"DELETE FROM warehouse.{table.name}")
            session.execute(
                f"INSERT INTO warehouse.{table.name} (id, marker) "
                f"SELECT i, {version} FROM generate_series(1, 1000 + {version}) i"
            )


def seen(session: psycopg.Connection, table: str) -> tuple:
    return session.execute(
        f"SELECT min(marker), max(marker), count(*) - 1000 FROM production.{table}"
    ).fetchone()


def repeatable_read(production: PostgresConnection, **options) -> psycopg.Connection:
    session = production.connect(**options)
    session.isolation_level = IsolationLevel.REPEATABLE_READ
    return session


def test_production_equals_staging_again_and_again(warehouse, production):
    for version in (1, 2, 3):
        done = publish(warehouse, production, TABLES, AUDITS)
        assert done.version == version
        assert all(audit.passed for audit in done.audits)
        there = fingerprints(warehouse, [f"{table.schema}.{table.name}" for table in TABLES])
        assert fingerprints(production, [f"production.{table.name}" for table in TABLES]) == there
        assert done.row_counts == {name: rows for name, (rows, _) in there.items()}
    with warehouse.connect() as one, production.connect() as other:
        types = slots.read_shapes(one, "warehouse|aggregates")
        assert (
            slots.read_shapes(other, "production")["production"]
            == types["warehouse"] | types["aggregates"]
        )


def test_readers_never_see_a_mixture(staging, production):
    """Eight publications, two of which change columns, under readers of every kind."""
    publish(staging, production, PAIR, audits=())
    finished = threading.Event()
    wrong: list[object] = []
    reads = dict.fromkeys(("statement", "prepared", "transaction", "late"), 0)
    slowest = dict.fromkeys(reads, 0.0)

    def read(kind: str) -> None:
        options = {"prepare_threshold": 0} if kind == "prepared" else {"prepare_threshold": None}
        with production.connect(**options) as session:
            if kind in ("statement", "prepared"):
                session.autocommit = True
            else:
                session.isolation_level = IsolationLevel.REPEATABLE_READ
            while not finished.is_set():
                started = time.monotonic()
                if kind in ("statement", "prepared"):
                    answer = session.execute(
                        "SELECT * FROM (SELECT min(marker), max(marker), count(*) - 1000 FROM "
                        "production.one) a, "
                        "(SELECT min(marker), max(marker), count(*) - 1000 FROM production.two) b"
                    ).fetchone()
                elif kind == "transaction":
                    answer = seen(session, "one")
                    time.sleep(0.02)
                    answer += seen(session, "two")
                else:  # its snapshot is a publication old before it reads
                    answer = session.execute(
                        "SELECT version FROM production_meta.current"
                    ).fetchone()
                    time.sleep(0.3)
                    answer += seen(session, "one") + seen(session, "two")
                session.rollback()
                slowest[kind] = max(slowest[kind], time.monotonic() - started)
                reads[kind] += 1
                if len(set(answer)) != 1:
                    wrong.append((kind, answer))

    failures: list[BaseException] = []

    def safely(kind: str) -> None:
        try:
            read(kind)
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=safely, args=(kind,))
        for kind in (*reads, "statement", "transaction")
    ]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 10):
            with staging.connect() as session:
                if version == 4:
                    session.execute("ALTER TABLE warehouse.one ADD COLUMN extra text DEFAULT 'x'")
                if version == 7:
                    session.execute("ALTER TABLE warehouse.two ALTER COLUMN id TYPE bigint")
            mark(staging, version)
            assert publish(staging, production, PAIR, audits=()).version == version
    finally:
        finished.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert not failures
    assert min(reads.values()) >= 2
    assert slowest["statement"] < 2
    assert slowest["prepared"] < 2


def test_a_transaction_from_before_keeps_its_version(staging, production, monkeypatch):
    monkeypatch.setattr(slots, "PATIENCE_SECONDS", 0.2)
    publish(staging, production, PAIR, audits=())
    told: list[str] = []
    with repeatable_read(production) as touched, repeatable_read(production) as untouched:
        assert seen(touched, "one") == (1, 1, 1)
        untouched.execute(
            "SELECT 1 FROM pg_class LIMIT 1"
        )  # takes the snapshot, and no lock of ours
        for version in (2, 3, 4):
            mark(staging, version)
            publish(staging, production, PAIR, audits=(), on_progress=told.append)
        for session in (touched, untouched):
            assert seen(session, "one") == seen(session, "two") == (1, 1, 1)
        assert f"pid {touched.info.backend_pid} " in "".join(told)
    with production.connect() as session:
        assert seen(session, "one") == seen(session, "two") == (4, 4, 4)


def test_an_open_transaction_does_not_stop_publishing(staging, production, monkeypatch):
    """It holds no snapshot, but locks on everything that it has read."""
    monkeypatch.setattr(slots, "PATIENCE_SECONDS", 0.2)
    publish(staging, production, PAIR, audits=())
    with production.connect() as idle:
        for version in (2, 3):
            seen(idle, "one")
            seen(idle, "two")
            mark(staging, version)
            publish(staging, production, PAIR, audits=())
            assert seen(idle, "one") == seen(idle, "two") == (version,) * 3


def test_columns_and_tables_come_and_go(staging, production):
    publish(staging, production, PAIR, audits=())
    with repeatable_read(production) as before:
        before.execute("SELECT 1 FROM pg_class LIMIT 1")  # takes the snapshot, and no lock of ours
        with staging.connect() as session:
            session.execute(
                "ALTER TABLE warehouse.one ADD COLUMN extra text, ALTER COLUMN marker TYPE "
                "numeric(9, 2)"
            )
        mark(staging, 2)
        publish(staging, production, PAIR, audits=())
        # The old rows, in the new shape.
        assert before.execute(
            "SELECT sum(marker), count(extra) FROM production.one"
        ).fetchone() == (1001, 0)
    with staging.connect() as session:
        session.execute("ALTER TABLE warehouse.one DROP COLUMN extra")
    publish(staging, production, PAIR[:1], audits=())
    with production.connect() as session:
        assert slots.read_shapes(session, "production") == {
            "production": {"one": (("id", "integer"), ("marker", "numeric(9,2)"))}
        }
    publish(staging, production, PAIR[:1], audits=())
    with production.connect() as session:
        assert len(slots.read_pairs(session)) == 1, "pairs that nobody can see are to be dropped"
        assert seen(session, "one") == (2, 2, 2)


def test_readers_that_keep_a_view_stop_a_change_of_columns(staging, production, monkeypatch):
    monkeypatch.setattr(slots, "DDL_PATIENCE_SECONDS", 0.5)
    publish(staging, production, PAIR, audits=())
    with staging.connect() as session:
        session.execute("ALTER TABLE warehouse.one ADD COLUMN extra text")
    mark(staging, 2)
    with production.connect() as reader:
        seen(reader, "one")
        with pytest.raises(
            PublishError, match=rf"kept reading them: pid {reader.info.backend_pid} "
        ):
            publish(staging, production, PAIR, audits=())
        assert seen(reader, "two") == (1, 1, 1)
    assert publish(staging, production, PAIR, audits=()).version == 2


def test_what_others_built_on_a_view_stops_its_replacement(staging, production):
    publish(staging, production, PAIR, audits=())
    with production.connect() as session:
        session.execute("CREATE VIEW public.theirs AS SELECT id FROM production.one")
    with staging.connect() as session:
        session.execute("ALTER TABLE warehouse.one ALTER COLUMN id TYPE bigint")
    with pytest.raises(PublishError, match=r"view theirs depends on view production\.one"):
        publish(staging, production, PAIR, audits=())
    with production.connect() as session:
        assert seen(session, "one") == (1, 1, 1)


def test_queries_execute_one_slot_and_use_its_indexes(warehouse, production):
    publish(warehouse, production, TABLES, AUDITS)
    publish(warehouse, production, TABLES, AUDITS)

    def plan(query: str) -> str:
        with production.connect() as session:
            return "\n".join(
                line
                for (line,) in session.execute(
                    f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {query}".encode()
                )
            )

    scans = re.findall(
        r"Seq Scan on fct_payments.*", plan("SELECT sum(amount) FROM production.fct_payments")
    )
    assert sorted("never executed" in scan for scan in scans) == [False, True]
    by_customer = plan("SELECT * FROM production.fct_order_lines WHERE customer_id = 7")
    assert "fct_order_lines_customer_id" in by_customer
    assert "never executed" in by_customer
    # Through a join, and for the first few in order: what views over a union of tables cannot do.
    joined = plan(
        "SELECT sum(l.net_amount) FROM production.dim_customer c JOIN production.fct_order_lines l "
        "USING (customer_id) "
        "WHERE c.email = 'c7@example.org'"
    )
    assert re.search(r"Index Cond: \(customer_id = dim_customer\w*\.customer_id\)", joined)
    newest = plan("SELECT * FROM production.fct_order_lines ORDER BY order_date DESC LIMIT 10")
    assert "Index Scan Backward" in newest


def test_a_table_that_dbt_swaps_meanwhile_is_copied_whole(staging, production, monkeypatch):
    """A table put in place after the snapshot is empty in it; the swap has to wait."""

    def swap() -> None:
        with staging.connect() as session:
            session.execute(
                "CREATE TABLE warehouse.new AS SELECT id, 2 AS marker FROM warehouse.two"
            )
            session.execute("DROP TABLE warehouse.two; ALTER TABLE warehouse.new RENAME TO two")

    swapping = threading.Thread(target=swap)
    empty_table = slots.empty_table

    def swap_before_copying(session, slot, name, patient_until) -> None:
        if name == "two":
            swapping.start()
            swapping.join(timeout=0.5)
        empty_table(session, slot, name, patient_until)

    monkeypatch.setattr(slots, "empty_table", swap_before_copying)
    publish(staging, production, PAIR, audits=())
    swapping.join()
    with production.connect() as session:
        assert seen(session, "two") == (1, 1, 1)


def test_tables_that_dbt_keeps_swapping_are_copied_whole(staging, production):
    """Swaps also come between the locks that a publication takes one after the other."""
    finished = threading.Event()

    def swap() -> None:
        with staging.connect(autocommit=True) as session:
            while not finished.is_set():
                with session.transaction():
                    session.execute("CREATE TABLE warehouse.new AS TABLE warehouse.two")
                    session.execute(
                        "DROP TABLE warehouse.two; ALTER TABLE warehouse.new RENAME TO two"
                    )
                time.sleep(0.02)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for _ in range(5):
            publish(staging, production, PAIR, audits=())
            with production.connect() as session:
                assert seen(session, "two") == (1, 1, 1)
    finally:
        finished.set()
        swapping.join()


def test_a_second_publication_is_refused_and_told_who_is_first(staging, production):
    refusals: list[str] = []

    def publish_too(line: str) -> None:
        if "published" not in line and not refusals:
            refusals.append("")
            with pytest.raises(PublishError) as refused:
                publish(staging, production, PAIR, audits=())
            refusals[0] = str(refused.value)

    assert publish(staging, production, PAIR, audits=(), on_progress=publish_too).version == 1
    assert re.match(
        r"Another publication is under way: 'softcart publish' \(PostgreSQL process \d+ of \w+ "
        r"from ",
        refusals[0],
    )


def test_a_missing_table_is_named(staging, production):
    missing = PublishedTable(Published("dim_nothing"), "warehouse", ("id",), "first")
    with pytest.raises(AuditFailed, match=r"warehouse\.dim_nothing does not exist.*Materialise"):
        publish(staging, production, [*PAIR, missing], audits=())


def test_memory_does_not_grow_with_rows(staging, production):
    script = """
import resource, sys
from dataclasses import replace
from softcart_assets import connections
from softcart_assets.lines.model import Published
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.tables import PublishedTable
staging, production = (replace(connections.staging(), database=name) for name in sys.argv[1:])
tables = [PublishedTable(Published("one"), "warehouse", ("id",), "first")]
publish(staging, production, tables, audits=())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def kilobytes() -> int:
        run = [sys.executable, "-c", script, staging.database, production.database]
        return int(subprocess.run(run, check=True, capture_output=True, text=True).stdout)

    few = kilobytes()
    with staging.connect() as session:
        session.execute("ALTER TABLE warehouse.one ADD COLUMN filler text DEFAULT repeat('x', 500)")
        session.execute(
            "INSERT INTO warehouse.one (id, marker) SELECT i, 1 FROM generate_series(10000, "
            "160000) i"
        )
    assert kilobytes() - few < 10_000, "75 MB of rows passed through"
