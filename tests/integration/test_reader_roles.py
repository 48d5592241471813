"""`softcart_reader` and `softcart_reader_pii`: what each of them reads, with log-ins of members."""

from __future__ import annotations

import importlib.util
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
from support.databases import database
from support.ingestion import query

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Published
from softcart_assets.publishing.publish import AuditFailed, Publication, publish
from softcart_assets.publishing.reading import READER, READER_PII
from softcart_assets.publishing.slots import PublishError
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import PublishedTable

PERSONS = PublishedTable(
    Published("persons"),
    "warehouse",
    ("id",),
    "first",
    pii=("email", "not_there"),
    sensitive=("salary",),
)
THINGS = PublishedTable(Published("things"), "warehouse", ("id",), "first")
TABLES = (PERSONS, THINGS)


@dataclass(frozen=True)
class Rig:
    """Staging, production, and production as members of the two roles log in to it."""

    staging: PostgresConnection
    production: PostgresConnection
    reader: PostgresConnection
    reader_pii: PostgresConnection

    def publish(self, *tables: PublishedTable, told: list[str] | None = None) -> Publication:
        tell = [] if told is None else told
        return publish(self.staging, self.production, tables or TABLES, (), on_progress=tell.append)

    def change(self, statements: str) -> None:
        with self.staging.connect() as session:
            session.execute(statements.encode())


@pytest.fixture
def rig(stack: object) -> Iterator[Rig]:
    """Two published tables, and the comments that dbt wrote in staging."""
    with database() as staging, database() as production:
        found = Rig(staging, production, production, production)
        found.change(
            "CREATE SCHEMA warehouse;"
            "CREATE TABLE warehouse.persons AS SELECT 1 AS id, 'a@b.example' AS email, 9 AS salary;"
            "CREATE TABLE warehouse.things AS SELECT 1 AS id, 'spoon' AS name;"
            "COMMENT ON TABLE warehouse.persons IS 'One row per person. It''s 100% true.';"
            "COMMENT ON COLUMN warehouse.persons.email IS 'Where they are reached.'"
        )
        found.publish()
        users = {role: f"test_{secrets.token_hex(4)}" for role in (READER, READER_PII)}
        with production.connect(autocommit=True) as admin:
            for role, user in users.items():
                admin.execute(
                    f"CREATE ROLE {user} LOGIN PASSWORD 'x{user}' IN ROLE {role}".encode()
                )
        try:
            yield replace(
                found,
                **{
                    name: replace(production, user=users[role], password=f"x{users[role]}")
                    for name, role in (("reader", READER), ("reader_pii", READER_PII))
                },
            )
        finally:
            with staging.connect(autocommit=True) as admin:
                for user in users.values():
                    admin.execute(f"DROP ROLE {user}".encode())


def refused(connection: PostgresConnection, question: str) -> bool:
    try:
        query(connection, question)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def check(rig: Rig) -> None:
    """Each role sees what it shall see, and nothing else."""
    for user in (rig.reader, rig.reader_pii):
        assert query(user, "SELECT * FROM production.things") == [(1, "spoon")]
        assert query(user, "SELECT id FROM production.persons") == [(1,)]
        assert query(user, "SELECT count(*) FROM production.persons") == [(1,)]
        assert refused(user, "SELECT salary FROM production.persons")
        assert refused(user, "SELECT * FROM production.persons")
        assert refused(user, "SELECT count(*) FROM production_meta.current")
        # To a DELETE, PostgreSQL may say first that the view takes none.
        may_write = "has_table_privilege('production.things', 'INSERT, UPDATE, DELETE, TRUNCATE')"
        assert query(user, f"SELECT {may_write}") == [(False,)]
        assert refused(user, "CREATE TABLE production.mine (x int)")
    assert refused(rig.reader, "SELECT email FROM production.persons")
    assert refused(rig.reader, "SELECT id FROM production.persons WHERE email LIKE 'a%'")
    assert query(rig.reader_pii, "SELECT email FROM production.persons") == [("a@b.example",)]


def test_each_role_reads_its_columns(rig: Rig) -> None:
    check(rig)


def test_the_slots_themselves_stay_closed(rig: Rig) -> None:
    tables = query(
        rig.production,
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname ~ '^production_' AND tablename = 'persons'",
    )
    assert len(tables) >= 3
    for (table,) in tables:
        for user in (rig.reader, rig.reader_pii):
            assert refused(user, f"SELECT id FROM {table}"), table


def test_they_stay_when_columns_change_and_tables_come_back(rig: Rig) -> None:
    rig.change("ALTER TABLE warehouse.persons ADD town text DEFAULT 'Ulm', ALTER salary TYPE text")
    rig.publish()
    check(rig)
    assert query(rig.reader, "SELECT town FROM production.persons") == [("Ulm",)]
    rig.publish(THINGS)
    rig.publish()
    check(rig)


def test_a_column_that_becomes_personal_is_closed_at_once(rig: Rig) -> None:
    named = replace(THINGS, pii=("name",))
    rig.publish(PERSONS, named)
    assert refused(rig.reader, "SELECT name FROM production.things")
    assert query(rig.reader, "SELECT id FROM production.things") == [(1,)]
    assert query(rig.reader_pii, "SELECT * FROM production.things") == [(1, "spoon")]
    rig.publish()
    check(rig)


def test_what_somebody_granted_too_much_is_taken_back(rig: Rig) -> None:
    with rig.production.connect() as session:
        session.execute(f"GRANT SELECT ON production.persons TO {READER}".encode())
    assert not refused(rig.reader, "SELECT salary FROM production.persons")
    rig.publish()
    check(rig)


def test_a_publisher_that_may_not_grant_says_so_and_publishes(rig: Rig) -> None:
    """The database is another's, and with it a view and the right to grant."""
    publisher = f"test_{secrets.token_hex(4)}"
    with rig.production.connect(autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {publisher} LOGIN PASSWORD 'x{publisher}'".encode())
    try:
        with database() as production:
            with production.connect(autocommit=True) as admin:
                admin.execute(
                    f"ALTER DATABASE {production.database} OWNER TO {publisher};"
                    f"GRANT pg_read_all_stats TO {publisher}".encode()
                )
            own = replace(production, user=publisher, password=f"x{publisher}")
            publish(rig.staging, own, TABLES, ())
            with production.connect() as admin:
                admin.execute(
                    f"ALTER VIEW production.things OWNER TO {admin.info.user};"
                    f"REVOKE SELECT ON production.things FROM {READER}".encode()
                )
            told: list[str] = []
            assert publish(rig.staging, own, TABLES, (), on_progress=told.append).version == 2
            assert [line for line in told if "stay as they were" in line]
            # What it cannot take back is more than a remark.
            with production.connect() as admin:
                admin.execute(f"GRANT SELECT ON production.things TO {READER}".encode())
            tables = (TABLES[0], replace(THINGS, pii=("name",)))
            with pytest.raises(PublishError, match=f"things: the role {READER} may read name"):
                publish(rig.staging, own, tables, ())
            with production.connect() as admin:
                row = admin.execute("SELECT version FROM production_meta.current").fetchone()
                assert row == (2,)
                admin.execute(f"ALTER VIEW production.things OWNER TO {publisher}".encode())
            assert publish(rig.staging, own, tables, ()).version == 3
    finally:
        with rig.staging.connect(autocommit=True) as admin:
            admin.execute(f"DROP ROLE {publisher}".encode())


def test_comments_reach_production_and_follow(rig: Rig) -> None:
    comments = (
        "SELECT obj_description('production.persons'::regclass),"
        " col_description('production.persons'::regclass, 2)"
    )
    assert query(rig.production, comments) == [
        ("One row per person. It's 100% true.", "Where they are reached.")
    ]
    with rig.production.connect() as session:
        session.execute("COMMENT ON VIEW production.things IS 'Ours.'")
    rig.change("COMMENT ON COLUMN warehouse.persons.email IS 'Their address.'")
    rig.publish()
    assert query(rig.production, comments)[0][1] == "Their address."
    # What staging says nothing about keeps what people wrote.
    ours = "SELECT obj_description('production.things'::regclass)"
    assert query(rig.production, ours) == [("Ours.",)]


def test_a_description_may_begin_with_any_word(rig: Rig) -> None:
    """Only dbt's note on a view is left out: it is no description."""
    note = f"dbt {'0f' * 16} {'a9' * 16}"
    rig.change(
        "COMMENT ON TABLE warehouse.persons IS 'dbt makes it.';"
        f"COMMENT ON COLUMN warehouse.persons.email IS '{note}';"
        f"COMMENT ON TABLE warehouse.things IS '{note}'"
    )
    rig.publish()
    assert query(
        rig.production,
        "SELECT obj_description('production.persons'::regclass),"
        " col_description('production.persons'::regclass, 2),"
        " obj_description('production.things'::regclass)",
    ) == [("dbt makes it.", note, None)]


@pytest.mark.parametrize("audits", [audits_of, lambda tables: ()])
def test_a_duplicate_of_a_personal_key_stays_unnamed(rig: Rig, audits) -> None:
    """With the audits, and where only the unique index finds it."""
    keyed = replace(PERSONS, key=("email",))
    rig.change("INSERT INTO warehouse.persons VALUES (2, 'a@b.example', 8)")
    tables = (keyed, THINGS)
    with pytest.raises(PublishError) as failed:
        publish(rig.staging, rig.production, tables, audits(tables))
    chain, error = [], failed.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "persons" in chain[0]
    assert "a@b.example" not in " ".join(chain)
    if isinstance(failed.value, AuditFailed):
        [audit] = [each for each in failed.value.failed if each.name == "persons_key_unique"]
        assert (audit.details["offending"], audit.details["sample"]) == (2, None)


def through_java(connection: PostgresConnection, question: str) -> subprocess.CompletedProcess[str]:
    """The answer as CSV, by the driver that most BI tools use, in Hive's shell for JDBC."""
    spark = importlib.util.find_spec("pyspark")
    assert spark
    assert spark.origin
    jars = Path(spark.origin).parent / "jars" / "*"
    place = f"{connection.host}:{connection.port}/{connection.database}"
    return subprocess.run(
        [
            *("java", "-XX:TieredStopAtLevel=1", "-cp", f"/usr/share/java/postgresql.jar:{jars}"),
            "org.apache.hive.beeline.BeeLine",
            *("-u", f"jdbc:postgresql://{place}", "-n", connection.user, "-p", connection.password),
            *("--silent=true", "--outputformat=csv2", "-e", question),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_tool_in_java_logs_in_and_sees_what_the_role_reads(rig: Rig) -> None:
    """By SCRAM. pgjdbc/pgjdbc refuses a server that asks for fewer than 4096 iterations."""
    [(stored,)] = query(
        rig.production,
        f"SELECT rolpassword FROM pg_authid WHERE rolname = '{rig.reader.user}'",
    )
    assert re.match(r"SCRAM-SHA-256\$(4096|[1-9]\d{4,}):", stored)
    # The server's own user, whose password has a single iteration.
    assert "No current connection" in through_java(rig.production, "SELECT 1").stderr
    seen = through_java(rig.reader, "SELECT id FROM production.persons")
    assert (seen.returncode, seen.stdout.split()[-2:]) == (0, ["id", "1"]), seen.stderr
    hidden = through_java(rig.reader, "SELECT email FROM production.persons")
    assert "permission denied for view persons" in hidden.stderr
    assert "a@b.example" not in hidden.stdout + hidden.stderr
