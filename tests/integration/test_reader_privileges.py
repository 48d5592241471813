"""Readers keep their privileges, and what they built, when a published table changes its columns.

dbt-labs/dbt-core#7280 and Significant-Gravitas/AutoGPT#13796: a view that is made again has no
grants. ankane/blazer#521 and movetokube/postgres-operator#318: default privileges hold for the role
that set them, and for no other.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psycopg
import pytest
from support.databases import database
from support.ingestion import query

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Published
from softcart_assets.publishing import slots
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.slots import PublishError
from softcart_assets.publishing.tables import PublishedTable

ONE = (PublishedTable(Published("one"), "warehouse", ("id",), "first"),)
TWO = (*ONE, PublishedTable(Published("two"), "warehouse", ("id",), "first"))


@dataclass(frozen=True)
class Rig:
    """Staging, and production as three roles see it: `admin` is a superuser, `publisher` owns the
    database, and `reader` has no privileges.
    """

    staging: PostgresConnection
    admin: PostgresConnection
    publisher: PostgresConnection
    reader: PostgresConnection

    def publish(self, tables: tuple[PublishedTable, ...] = ONE) -> None:
        publish(self.staging, self.publisher, tables, ())

    def run(self, statements: str, *, admin: bool = False) -> None:
        """Run SQL in production. `{reader}` and `{publisher}` stand for the names of the roles."""
        names = {"reader": self.reader.user, "publisher": self.publisher.user}
        with (self.admin if admin else self.publisher).connect() as session:
            session.execute(statements.format(**names).encode())

    def read(self, question: str = "SELECT count(*) FROM production.one") -> object:
        """What the reader gets."""
        return query(self.reader, question)[0][0]

    def change(self, change: str) -> None:
        with self.staging.connect() as session:
            session.execute(f"ALTER TABLE warehouse.one {change}".encode())


@pytest.fixture
def rig(stack: object) -> Iterator[Rig]:
    """One published table with two rows."""
    roles = [f"test_{secrets.token_hex(4)}" for _ in range(2)]
    with database() as staging:
        try:
            with database() as admin:
                with admin.connect(autocommit=True) as session:
                    for role in roles:
                        session.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x{role}'".encode())
                    session.execute(
                        f"ALTER DATABASE {admin.database} OWNER TO {roles[0]};"
                        f"GRANT pg_read_all_stats TO {roles[0]}".encode()
                    )
                with staging.connect() as session:
                    for name in ("one", "two"):
                        session.execute(
                            f"CREATE SCHEMA IF NOT EXISTS warehouse; CREATE TABLE warehouse.{name}"
                            " (id int, marker int);"
                            f"INSERT INTO warehouse.{name} VALUES (1, 1), (2, 2)".encode()
                        )
                own = [replace(admin, user=role, password=f"x{role}") for role in roles]
                found = Rig(staging, admin, *own)
                found.publish()
                yield found
        finally:
            with staging.connect(autocommit=True) as session:
                for role in roles:
                    session.execute(f"DROP ROLE IF EXISTS {role}".encode())


CHANGES = ("ALTER marker TYPE bigint", "ADD more text", "DROP more", "ADD more int")


def test_a_reader_keeps_a_view_whose_columns_change(rig: Rig) -> None:
    rig.run(
        "GRANT USAGE ON SCHEMA production TO {reader}; GRANT SELECT ON production.one TO {reader}"
    )
    for change in CHANGES:
        rig.change(change)
        rig.publish()
        assert rig.read() == 2


def test_privileges_on_columns_comments_and_options_stay(rig: Rig) -> None:
    rig.run(
        "GRANT USAGE ON SCHEMA production TO {reader};"
        "GRANT SELECT (id, marker) ON production.one TO {reader} WITH GRANT OPTION;"
        "COMMENT ON VIEW production.one IS 'Ours: it''s';"
        "COMMENT ON COLUMN production.one.id IS 'no';"
        "ALTER VIEW production.one SET (security_barrier = true)"
    )
    comments = (
        "SELECT obj_description(c), col_description(c, 1), (SELECT reloptions FROM pg_class"
        " WHERE oid = c) FROM (SELECT 'production.one'::regclass::oid AS c) one"
    )
    for change in ("ADD more text", "ALTER marker TYPE bigint", "DROP marker"):
        rig.change(change)
        rig.publish()
        assert query(rig.admin, comments) == [("Ours: it's", "no", ["security_barrier=true"])]
        assert rig.read("SELECT count(id) FROM production.one") == 2
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            rig.read("SELECT count(more) FROM production.one")
    assert rig.read(
        "SELECT has_column_privilege('production.one', 'id', 'SELECT WITH GRANT OPTION')"
    )


def test_what_was_revoked_stays_revoked(rig: Rig) -> None:
    """A view that is made again must not fall back to the default privileges either."""
    rig.run(
        "GRANT USAGE ON SCHEMA production TO {reader};"
        "ALTER DEFAULT PRIVILEGES IN SCHEMA production GRANT SELECT ON TABLES TO {reader}, PUBLIC"
    )
    rig.change("ALTER marker TYPE bigint")
    rig.publish()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        rig.read()


def test_views_of_views_are_made_again_with_all_they_had(rig: Rig) -> None:
    rig.run(
        "CREATE SCHEMA theirs;"
        "CREATE VIEW theirs.few AS SELECT id FROM production.one WHERE id > 1;"
        "CREATE VIEW theirs.fewer AS"
        " SELECT few.id AS n FROM theirs.few JOIN production.one USING (id);"
        "GRANT USAGE ON SCHEMA theirs TO {reader}; GRANT SELECT ON theirs.fewer TO {reader};"
        "COMMENT ON COLUMN theirs.fewer.n IS 'a number'"
    )
    rig.change("ALTER id TYPE bigint")
    rig.publish()
    assert rig.read("SELECT sum(n) FROM theirs.fewer") == 2
    assert rig.read("SELECT col_description('theirs.fewer'::regclass, 1)") == "a number"


def test_a_view_that_belongs_to_somebody_else_stays_theirs(rig: Rig) -> None:
    """The publisher may make it again if it is a member of the role, and says so otherwise."""
    rig.run(
        "GRANT USAGE ON SCHEMA production TO {reader}; GRANT SELECT ON production.one TO {reader};"
        "CREATE SCHEMA theirs AUTHORIZATION {reader}; SET ROLE {reader};"
        "CREATE VIEW theirs.own AS SELECT id FROM production.one; RESET ROLE",
        admin=True,
    )
    rig.change("ALTER id TYPE bigint")
    with pytest.raises(
        PublishError, match=r"view theirs\.own cannot be made again.*GRANT the view"
    ):
        rig.publish()
    assert rig.read("SELECT count(*) FROM theirs.own") == 2
    rig.run("GRANT {reader} TO {publisher}", admin=True)
    rig.publish()
    owners = "SELECT viewowner FROM pg_views WHERE viewname = 'own'"
    assert query(rig.admin, owners) == [(rig.reader.user,)]
    assert rig.read("SELECT pg_typeof(id)::text FROM theirs.own LIMIT 1") == "bigint"


def test_another_owner_of_a_published_view_keeps_reading(rig: Rig) -> None:
    rig.run(
        "GRANT USAGE, CREATE ON SCHEMA production TO {reader};"
        "GRANT USAGE ON SCHEMA production_pair_1, production_meta TO {reader};"
        "GRANT SELECT ON production_pair_1.one, production_meta.current TO {reader};"
        "ALTER VIEW production.one OWNER TO {reader}; GRANT {reader} TO {publisher}",
        admin=True,
    )
    assert rig.read() == 2
    for change in CHANGES:
        rig.change(change)
        rig.publish()
        owners = "SELECT viewowner FROM pg_views WHERE schemaname = 'production'"
        assert query(rig.admin, owners) == [(rig.reader.user,)]
        assert rig.read() == 2


def test_a_view_that_reads_a_lost_column_is_named(rig: Rig) -> None:
    rig.run("CREATE VIEW public.theirs AS SELECT marker FROM production.one")
    rig.change("DROP marker")
    with pytest.raises(PublishError, match=r"view public\.theirs cannot be made again.*marker"):
        rig.publish()
    assert query(rig.publisher, "SELECT sum(marker) FROM public.theirs") == [(3,)]


def test_triggers_are_not_lost_silently(rig: Rig) -> None:
    rig.run(
        "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$;"
        "CREATE TRIGGER theirs INSTEAD OF INSERT ON production.one FOR EACH ROW"
        " EXECUTE FUNCTION public.refuse()"
    )
    rig.change("DROP marker")
    with pytest.raises(PublishError, match=r"triggers, rules and defaults: theirs\. Drop"):
        rig.publish()


@pytest.mark.parametrize(
    "extra",
    [
        "CREATE RULE theirs AS ON INSERT TO public.noted DO INSTEAD NOTHING",
        "ALTER VIEW public.noted ALTER COLUMN id SET DEFAULT 7",
    ],
)
def test_rules_and_defaults_of_a_view_that_reads_it_are_not_lost_silently(
    rig: Rig, extra: str
) -> None:
    rig.run(f"CREATE VIEW public.noted AS SELECT id FROM production.one; {extra}")
    rig.change("ALTER id TYPE bigint")
    with pytest.raises(PublishError, match=r"noted depends on view production\.one.*Drop it"):
        rig.publish()
    assert query(rig.publisher, "SELECT count(*) FROM public.noted") == [(2,)]


def test_a_privilege_on_a_column_that_is_lost_stops_nothing(rig: Rig) -> None:
    """The table under the view has it for another owner of the view."""
    rig.run(
        "GRANT USAGE ON SCHEMA production TO {reader}; GRANT SELECT ON production.one TO {reader};"
        "GRANT SELECT (id, marker) ON production_pair_1.one TO {reader}"
    )
    rig.change("DROP marker")
    rig.publish()
    assert rig.read() == 2


def test_the_documented_commands_let_a_role_read_what_is_and_what_comes(rig: Rig) -> None:
    """As an administrator runs them. Without FOR ROLE, the last one would give nothing."""
    text = " ".join((slots.__doc__ or "").split())
    assert "ALTER DEFAULT PRIVILEGES FOR ROLE <user> IN SCHEMA production" in text
    rig.run(
        "GRANT USAGE ON SCHEMA production TO {reader};"
        "GRANT SELECT ON ALL TABLES IN SCHEMA production TO {reader};"
        "ALTER DEFAULT PRIVILEGES FOR ROLE {publisher} IN SCHEMA production"
        " GRANT SELECT ON TABLES TO {reader}",
        admin=True,
    )
    rig.change("ALTER marker TYPE bigint")
    rig.publish(TWO)
    assert rig.read() == 2
    assert rig.read("SELECT count(*) FROM production.two") == 2


def test_a_prepared_statement_over_named_columns_survives(rig: Rig) -> None:
    """MaterializeInc/materialize#24196 and pgbouncer/pgbouncer#1038: its plan is not outdated."""
    with rig.publisher.connect(autocommit=True, prepare_threshold=0) as session:
        for change in CHANGES:
            for _ in range(2):
                rows = session.execute("SELECT id, count(*) FROM production.one GROUP BY id")
                assert len(rows.fetchall()) == 2
            rig.change(change)
            rig.publish()
