"""Production in MySQL: what passed the audits arrives there whole, exactly and by difference."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pymysql
import pytest
from support import published
from support.databases import database
from support.mysql97 import RealMySQL
from support.own_servers import PRODUCTS, own_server
from support.two_lines import AUDITS, TABLES, change, create
from support.warehouse import create_warehouse

from softcart_assets.assembly import LINES as ALL_LINES
from softcart_assets.assembly import assemble
from softcart_assets.components.mirrored import mirrored_assets
from softcart_assets.components.publication import published_assets
from softcart_assets.connections import (
    PRODUCTION_MYSQL,
    PRODUCTION_MYSQL_LINES,
    PRODUCTION_MYSQL_READER,
    MySQLConnection,
    PostgresConnection,
    ServerUnreachable,
    SettingError,
    Tls,
    has_production_mysql,
)
from softcart_assets.defs.production import production_tables
from softcart_assets.findings import Finding
from softcart_assets.lines.model import Line, Published
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.slots import PublishError
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.publishing.targets import mysql as server_module
from softcart_assets.publishing.targets.mirror import Mirrored, mirror
from softcart_assets.publishing.targets.mysql import MySQLTarget, Server
from softcart_assets.resources import MySQLResource, PostgresResource
from softcart_assets.stack import Stack, doctor
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.server import alive_after

ROWS = 2000
NAMES = [table.name for table in TABLES]


class Warehouse:
    """Staging, production and their copy in MySQL."""

    def __init__(
        self, staging: PostgresConnection, production: PostgresConnection, target: MySQLConnection
    ) -> None:
        self.staging, self.production, self.target = staging, production, target
        self.told: list[str] = []

    def change(self, statements: str) -> None:
        change(self.staging, statements)

    def publish(self, tables: tuple[PublishedTable, ...] = TABLES) -> None:
        audits = [each for each in AUDITS if each.table in {table.name for table in tables}]
        done = publish(self.staging, self.production, tables, audits)
        assert all(outcome.passed for outcome in done.lines.values())

    def mirror(
        self, tables: tuple[PublishedTable, ...] = TABLES, target: Any = None, **options: Any
    ) -> Mirrored:
        self.told.clear()
        return mirror(
            self.staging,
            self.production,
            MySQLTarget(target or self.target),
            tables,
            on_progress=self.told.append,
            **options,
        )

    def ask(self, question: str) -> list[tuple[Any, ...]]:
        with closing(self.target.connect()) as session, session.cursor() as cursor:
            cursor.execute(question)
            return list(cursor.fetchall())

    def assert_equal(self, names: list[str] | None = None) -> None:
        """Compare every value of the small tables with production."""
        for name in names or NAMES:
            with self.production.connect() as session:
                theirs = session.execute(
                    f"SELECT * FROM production.{name} ORDER BY 1".encode()
                ).fetchall()
            assert self.ask(f"SELECT * FROM {name} ORDER BY 1") == theirs


@contextmanager
def at_version_one(target: MySQLConnection) -> Iterator[Warehouse]:
    with database() as staging, database() as production:
        create(staging, ROWS)
        found = Warehouse(staging, production, target)
        found.publish()
        yield found


@pytest.fixture
def warehouse(any_mysql: MySQLConnection) -> Iterator[Warehouse]:
    with at_version_one(any_mysql) as found:
        yield found


@pytest.fixture
def on_mariadb(mysql: MySQLConnection) -> Iterator[Warehouse]:
    """For what does not depend on the product."""
    with at_version_one(mysql) as found:
        yield found


def test_first_unchanged_and_one_percent(warehouse: Warehouse) -> None:
    first = warehouse.mirror()
    assert (first.version, first.is_new) == (1, True)
    assert first.written == {"dim_member": 11, "fct_left": ROWS, "fct_right": ROWS}
    warehouse.assert_equal()

    again = warehouse.mirror()
    assert not again.is_new
    assert again.written == dict.fromkeys(NAMES, 0)
    assert again.versions == first.versions

    warehouse.change(
        "UPDATE fct_left SET amount = 2 WHERE id <= 5; DELETE FROM fct_left WHERE id > 1995;"
        "INSERT INTO fct_left SELECT i, 1, 1 FROM generate_series(3001, 3010) i"
    )
    warehouse.publish()
    by_difference = warehouse.mirror()
    # Both slots got all rows at first, so nothing else travels.
    assert by_difference.written == {"dim_member": 0, "fct_left": 25, "fct_right": 0}
    assert by_difference.compared["fct_left"] == "changed rows"
    assert by_difference.versions["fct_right"] == first.versions["fct_right"]
    assert not [line for line in warehouse.told if "whole" in line]
    warehouse.assert_equal()

    # Production publishes twice meanwhile. It keeps the notes of what the target has not seen.
    for amount in (3, 4):
        warehouse.change(f"UPDATE fct_left SET amount = {amount} WHERE id BETWEEN 10 AND 19")
        warehouse.publish()
    assert warehouse.mirror().written["fct_left"] == 20 + 25
    warehouse.assert_equal()

    # They do not pile up.
    for amount in (5, 6, 7, 8):
        warehouse.change(f"UPDATE fct_left SET amount = {amount} WHERE id BETWEEN 10 AND 19")
        warehouse.publish()
        assert warehouse.mirror().written["fct_left"] <= 60
    with warehouse.staging.connect() as session:
        row = session.execute("SELECT count(*) FROM publication_changes.of_fct_left").fetchone()
    assert row <= (3 * 20,)


WIDER = (
    "ALTER TABLE fct_left ADD COLUMN note text DEFAULT 'new'; "
    "ALTER TABLE fct_left ALTER COLUMN amount TYPE numeric(12, 4);"
    "UPDATE fct_left SET amount = 7"
)


def test_columns_come_go_and_change(warehouse: Warehouse) -> None:
    warehouse.mirror()
    warehouse.change(WIDER)
    warehouse.publish()
    done = warehouse.mirror()
    assert done.written == {"dim_member": 0, "fct_left": ROWS, "fct_right": 0}
    assert dict(done.columns["fct_left"])["amount"] == "numeric(12,4)"
    warehouse.assert_equal()
    assert warehouse.ask("SELECT note, amount FROM fct_left WHERE id = 1") == [
        ("new", Decimal("7.0000"))
    ]
    relations = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"
    relations += " AND table_name REGEXP '^_[0-9a-f]{8}_'"
    assert warehouse.ask(relations) == [(3,)], "the table of the old shape is gone"

    # The next change is written as a difference, to the new table, too.
    warehouse.change("ALTER TABLE fct_right DROP COLUMN member CASCADE")
    right = replace(TABLES[2], declared=Published("fct_right"), references=())
    tables = (*TABLES[:2], right)
    warehouse.change("UPDATE fct_left SET note = NULL WHERE id <= 10")
    publish(warehouse.staging, warehouse.production, tables, ())
    assert warehouse.mirror(tables).written == {"dim_member": 0, "fct_left": 20, "fct_right": ROWS}
    warehouse.assert_equal()


def test_a_table_that_is_not_published_any_more_disappears(on_mariadb: Warehouse) -> None:
    on_mariadb.mirror()
    fewer = TABLES[:2]
    assert on_mariadb.mirror(fewer).version == 2
    on_mariadb.assert_equal(NAMES[:2])
    with pytest.raises(pymysql.MySQLError, match="fct_right"):
        on_mariadb.ask("SELECT * FROM fct_right")
    assert on_mariadb.mirror().version == 3
    on_mariadb.assert_equal()


def test_a_table_with_a_sensitive_key_stays_behind(on_mariadb: Warehouse) -> None:
    """MySQL's table would have a primary key of a column that it lacks."""
    on_mariadb.mirror((*TABLES[:2], replace(TABLES[2], sensitive=("id",))))
    on_mariadb.assert_equal(NAMES[:2])
    with pytest.raises(pymysql.MySQLError, match="fct_right"):
        on_mariadb.ask("SELECT * FROM fct_right")


def test_a_reader_that_never_stops_sees_whole_versions_only(warehouse: Warehouse) -> None:
    warehouse.mirror()
    is_over, wrong, seen = threading.Event(), [], set()

    def read(level: str) -> None:
        with closing(warehouse.target.connect(autocommit=True)) as session:
            session.query(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
            while not is_over.is_set():
                with session.cursor() as cursor:
                    session.query("START TRANSACTION")
                    found: set[int] = set()
                    for name in ("fct_left", "fct_right"):
                        try:
                            cursor.execute(f"SELECT COUNT(*), MIN(amount), MAX(amount) FROM {name}")
                        except pymysql.MySQLError as error:
                            # Its snapshot is older than a table: an error, as the docs say.
                            if error.args[0] not in (1242, 1412):
                                wrong.append(error)
                            break
                        count, low, high = cursor.fetchall()[0]
                        found |= {int(low or 0), int(high or 0)}
                        # Between two statements, READ COMMITTED may see the next version.
                        if count != ROWS or (len(found) > 1 and level == "REPEATABLE READ"):
                            wrong.append((level, name, count, found))
                    session.query("COMMIT")
                    seen.update(found)

    levels = ("REPEATABLE READ", "READ COMMITTED")
    readers = [threading.Thread(target=read, args=[level]) for level in levels]
    for reader in readers:
        reader.start()
    for amount in range(2, 6):
        scale = "numeric(12, 4)" if amount % 2 else "numeric(9, 2)"
        warehouse.change(
            f"UPDATE fct_left SET amount = {amount}; UPDATE fct_right SET amount = {amount};"
            + (f"ALTER TABLE fct_left ALTER COLUMN amount TYPE {scale}" if amount > 3 else "")
        )
        warehouse.publish()
        warehouse.mirror()
    is_over.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert len(seen) > 1


KINDS = {
    "a_small": ("smallint", "-32768"),
    "a_big": ("bigint", "9223372036854775807"),
    "a_bool": ("boolean", "true"),
    "a_numeric": ("numeric(38,10)", "-1234567890123456789012345678.0123456789"),
    "a_plain": ("numeric", "0.1234567890123456789"),
    "a_double": ("double precision", "0.1::float8 + 0.2::float8"),
    "a_tiny": ("double precision", "5e-324"),
    "a_real": ("real", "0.1"),
    "a_text": ("text", r"E'it''s \\ \n \t \x01 “Zürich” 😀 100%% {}'"),
    "a_date": ("date", "'0999-12-31'"),
    "a_stamp": ("timestamp", "'2024-02-29 23:59:59.999999'"),
    "an_instant": ("timestamptz", "'2024-03-31 01:30:00.000001+02'"),
    "a_time": ("time", "'23:59:59.5'"),
    "a_uuid": ("uuid", "'6f9619ff-8b86-d011-b42d-00cf4fc964ff'"),
    "a_json": ("jsonb", """'{"b": 1.10, "a": [null, "x\\"y"]}'"""),
    "bytes": ("bytea", r"'\x00275cff'"),
}


def wide(line: str = "conformed") -> PublishedTable:
    return PublishedTable(Published("dim_kinds"), "warehouse", ("code",), line)


def test_every_type_arrives_exactly(warehouse: Warehouse) -> None:
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in KINDS.items())
    values = ", ".join(f"CAST({value} AS {kind})" for kind, value in KINDS.values())
    warehouse.change(
        f"CREATE TABLE dim_kinds (code text, {columns});"
        f"INSERT INTO dim_kinds SELECT 'a', {values};"
        # Keys that MySQL would take for one by its usual collations.
        "INSERT INTO dim_kinds (code) VALUES ('A'), ('a '), ('ä'), ('')"
    )
    tables = (*TABLES, wide())
    warehouse.publish(tables)
    done = warehouse.mirror(tables)
    assert done.row_counts["dim_kinds"] == 5
    assert warehouse.ask("SELECT COUNT(DISTINCT code), COUNT(a_bool) FROM dim_kinds") == [(5, 1)]
    # The digest, which both servers compute from the values, is compared for each table.
    [row] = warehouse.ask(
        "SELECT a_small, a_big, a_bool, a_numeric, a_plain, a_double, a_tiny, a_date,"
        " CAST(an_instant AS CHAR), a_uuid, a_text, a_json, bytes FROM dim_kinds WHERE code = 'a'"
    )
    assert row[:4] == (-32768, 2**63 - 1, 1, Decimal("-1234567890123456789012345678.0123456789"))
    assert row[4:9] == (
        *(Decimal("0.123456789012345678900000000000"), 0.1 + 0.2, 5e-324),
        *(row[7], "2024-03-30 23:30:00.000001"),
    )
    assert str(row[7]) == "0999-12-31"
    assert row[9] == "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
    assert row[10] == "it's \\ \n \t \x01 “Zürich” 😀 100%% {}"
    assert row[11] == '{"a": [null, "x\\"y"], "b": 1.10}'
    assert row[12] == b"\x00'\\\xff"


UNFIT = [
    ("numeric", "'NaN'", ""),
    ("numeric", "'1e40'", ""),
    ("numeric", "1e-31", ""),
    ("double precision", "'Infinity'", ""),
    ("timestamptz", "'infinity'", ""),
    ("date", "'0044-03-15 BC'", ""),
    ("integer[]", "'{1}'", " (integer[] in PostgreSQL)"),
    ("numeric(70,0)", "1", " (numeric(70,0) in PostgreSQL)"),
]


def test_what_does_not_fit_fails_by_table_and_column(on_mariadb: Warehouse) -> None:
    on_mariadb.mirror()
    on_mariadb.change("UPDATE fct_left SET amount = 2")
    tables = (*TABLES, wide())
    for kind, value, says in UNFIT:
        on_mariadb.change(
            "DROP TABLE IF EXISTS dim_kinds;"
            f"CREATE TABLE dim_kinds AS SELECT 'a' AS code, {value}::{kind} AS a_value"
        )
        on_mariadb.publish(tables)
        with pytest.raises(PublishError, match="production_mysql/dim_kinds") as refused:
            on_mariadb.mirror(tables)
        assert f"column a_value{says}" in str(refused.value), (kind, value)
        assert "Nothing was switched" in str(refused.value)
        assert on_mariadb.ask("SELECT SUM(amount) FROM fct_left") == [(ROWS,)], "the old version"


def test_the_star_schema_of_the_shop(stack: object, any_mysql: MySQLConnection) -> None:
    """With its types, keys and indexes. The digests of all values are compared on the way."""
    with database() as staging, database() as production:
        create_warehouse(staging, orders=200)
        publish(staging, production, published.TABLES, published.AUDITS)
        with closing(any_mysql.connect()) as session:
            session.query("CREATE TABLE people_s_own (id INT)")
        done = mirror(staging, production, MySQLTarget(any_mysql), published.TABLES, reader="")
    assert done.row_counts.keys() == {table.name for table in published.TABLES}
    assert all(done.row_counts.values())
    # Nobody looks after what is not ours.
    with closing(any_mysql.connect()) as session:
        session.query("SELECT * FROM people_s_own")


def test_a_key_that_is_too_long_fails(on_mariadb: Warehouse) -> None:
    on_mariadb.change("CREATE TABLE dim_kinds AS SELECT repeat('x', 256) AS code")
    tables = (*TABLES, wide())
    on_mariadb.publish(tables)
    with pytest.raises(
        PublishError, match="production_mysql/dim_kinds: a value of the column code"
    ):
        on_mariadb.mirror(tables)


def test_a_tampered_row_is_found_and_mended(on_mariadb: Warehouse) -> None:
    warehouse = on_mariadb
    warehouse.mirror()
    [(relation,)] = warehouse.ask(
        "SELECT relation FROM _softcart_contents WHERE table_name = 'fct_left' LIMIT 1"
    )
    for slot in (1, 2):
        with closing(warehouse.target.connect(autocommit=True)) as session:
            session.query(f"UPDATE `{relation}` SET amount = 9 WHERE id = 7 AND _slot = {slot}")
        assert not warehouse.mirror().is_new, "nothing changed in production"
        # It looks at both slots.
        assert warehouse.mirror(complete=True).mended.keys() == {"fct_left"}
        warehouse.assert_equal()
        done = warehouse.mirror(complete=True)
        assert not done.mended
        assert set(done.compared.values()) == {"all rows"}
        warehouse.assert_equal()
        warehouse.change(f"UPDATE fct_left SET amount = amount + 1 WHERE id = {slot + 10}")
        warehouse.publish()
        assert warehouse.mirror().written["fct_left"] in (2, 4)
        warehouse.assert_equal()


def test_transactions_keep_their_version(warehouse: Warehouse) -> None:
    """Every isolation level, and tables that the reader looks at only after the switch."""
    warehouse.mirror()
    with ExitStack() as stack:

        def reader(begin: str, level: str = "REPEATABLE READ") -> pymysql.Connection[Any]:
            session = stack.enter_context(closing(warehouse.target.connect(autocommit=True)))
            session.query(f"SET SESSION TRANSACTION ISOLATION LEVEL {level}")
            session.query(begin)
            return session

        def seen(session: pymysql.Connection[Any]) -> Any:
            with session.cursor() as cursor:
                cursor.execute(
                    "SELECT MIN(l.amount), MAX(l.amount), MIN(r.amount), MAX(r.amount)"
                    " FROM fct_left l JOIN fct_right r ON l.id = r.id"
                )
                return {int(value) for value in cursor.fetchall()[0]}

        repeatable = reader("START TRANSACTION")
        repeatable.query("SELECT COUNT(*) FROM dim_member")
        committed = reader("START TRANSACTION", "READ COMMITTED")
        # The second publication writes to the slot that the old reader sees.
        for amount in (2, 3):
            warehouse.change(f"UPDATE fct_left SET amount = {amount}")
            warehouse.change(f"UPDATE fct_right SET amount = {amount}")
            warehouse.publish()
            warehouse.mirror()
            assert seen(repeatable) == {1}
            assert seen(committed) == {amount}
        for session in (repeatable, committed):
            session.query("COMMIT")

        # Other columns: an old snapshot gets an error, and neither an empty table nor new rows.
        early = reader("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        warehouse.change(WIDER)
        warehouse.publish()
        warehouse.mirror()
        with pytest.raises(pymysql.MySQLError) as refused:
            seen(early)
        assert refused.value.args[0] in (1242, 1412)
        early.query("SELECT MAX(amount) FROM fct_right")
        early.query("COMMIT")
        assert seen(early) == {7, 3}


def test_who_keeps_a_table_in_use_is_waited_for_and_told(
    on_mariadb: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_mariadb.mirror()
    monkeypatch.setattr(server_module, "DDL_PATIENCE_SECONDS", 0.5)
    with closing(on_mariadb.target.connect()) as reader:
        reader.query("START TRANSACTION")
        reader.query("SELECT COUNT(*) FROM fct_left")
        on_mariadb.change("UPDATE fct_right SET amount = 2")
        on_mariadb.publish()
        on_mariadb.mirror()  # a change of rows waits for nobody
        on_mariadb.change(WIDER)
        on_mariadb.publish()
        with pytest.raises(PublishError, match="metadata_locks"):
            on_mariadb.mirror()
        assert on_mariadb.ask("SELECT MAX(amount) FROM fct_left") == [(1,)]
    on_mariadb.mirror()
    on_mariadb.assert_equal()


def test_a_role_reads_what_is_not_personal(warehouse: Warehouse) -> None:
    reader = f"reader_{os.getpid()}"
    tables = (
        TABLES[0],
        replace(TABLES[1], pii=("amount",)),
        replace(TABLES[2], sensitive=("amount",)),
    )
    with closing(warehouse.target.connect(autocommit=True)) as admin:
        admin.query(f"CREATE USER {reader}_1 IDENTIFIED BY 'Q7-hushed'")
        try:
            warehouse.mirror(tables, reader=reader)
            admin.query(f"GRANT {reader} TO {reader}_1")
            person = replace(
                warehouse.target, user=f"{reader}_1", password="Q7-hushed", database=""
            )
            with closing(person.connect()) as session:
                session.query(f"SET ROLE {reader}")
                session.query(f"USE {warehouse.target.database}")
                session.query("SELECT id, member FROM fct_left")
                for refused in (
                    "SELECT amount FROM fct_left",
                    "SELECT * FROM _softcart_current",
                    "DELETE FROM dim_member",
                ):
                    with pytest.raises(pymysql.MySQLError, match="denied"):
                        session.query(refused)
            # A sensitive column does not even arrive.
            assert "amount" not in dict(warehouse.mirror(tables).columns["fct_right"])
            # The next version is not readable where it has become personal.
            tables = (replace(TABLES[0], pii=("member",)), *tables[1:])
            warehouse.change("UPDATE fct_left SET amount = 2 WHERE id = 1")
            warehouse.publish(tables)
            warehouse.mirror(tables, reader=reader)
            with closing(person.connect()) as session:
                session.query(f"SET ROLE {reader}")
                session.query(f"USE {warehouse.target.database}")
                with pytest.raises(pymysql.MySQLError, match="denied"):
                    session.query("SELECT member FROM dim_member")
        finally:
            admin.query(f"DROP USER {reader}_1")
            admin.query(f"DROP ROLE {reader}")


@contextmanager
def named_user(warehouse: Warehouse, user: str) -> Iterator[MySQLConnection]:
    """A user without privileges."""
    with closing(warehouse.target.connect(autocommit=True)) as admin:
        admin.query(f"CREATE USER {user} IDENTIFIED BY 'Q7-hushed'")
        try:
            yield replace(warehouse.target, user=user, password="Q7-hushed")
        finally:
            admin.query(f"DROP USER {user}")


@contextmanager
def role(warehouse: Warehouse, name: str) -> Iterator[Callable[[str], bool]]:
    """A role without privileges. Yields what tells whether it may ask a question."""
    with (
        closing(warehouse.target.connect(autocommit=True)) as admin,
        named_user(warehouse, f"{name}_1") as member,
    ):
        admin.query(f"CREATE ROLE {name}")

        def may_ask(question: str) -> bool:
            with closing(replace(member, database="").connect()) as session:
                session.query(f"SET ROLE {name}")
                try:
                    session.query(f"USE {warehouse.target.database}")
                    session.query(question)
                except pymysql.MySQLError as error:
                    if "denied" in str(error):
                        return False
                    raise
            return True

        try:
            admin.query(f"GRANT {name} TO {name}_1")
            yield may_ask
        finally:
            admin.query(f"DROP ROLE {name}")


def test_who_is_no_longer_the_reader_reads_nothing(warehouse: Warehouse) -> None:
    """Another one takes its place, or none."""
    first, second = (f"reader_{os.getpid()}_{number}" for number in (1, 2))
    questions = [
        "SELECT id FROM fct_left",
        "SELECT member FROM dim_member",
        "SELECT id FROM fct_right",
    ]
    with role(warehouse, first) as one, role(warehouse, second) as other:

        def readers() -> list[tuple[bool, bool]]:
            return [(one(each), other(each)) for each in questions]

        def given_by_a_killed_publication() -> None:
            run = Server.run

            def killed(self: Server, statement: str) -> int:
                done = run(self, statement)
                if statement.startswith("GRANT"):
                    raise KeyboardInterrupt
                return done

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Server, "run", killed)
                with pytest.raises(KeyboardInterrupt):
                    warehouse.mirror(reader=second)

        warehouse.mirror(reader=first)
        assert readers() == [(True, False)] * 3
        # A column that a person has taken back is no obstacle to taking the others back.
        with closing(warehouse.target.connect(autocommit=True)) as admin:
            admin.query(f"REVOKE SELECT (amount) ON fct_left FROM {first}")
        assert not warehouse.mirror(reader=second).is_new
        assert readers() == [(False, True)] * 3
        warehouse.mirror(reader="")
        assert readers() == [(False, False)] * 3
        given_by_a_killed_publication()
        assert (False, True) in readers()
        warehouse.mirror(reader="")
        assert readers() == [(False, False)] * 3


def test_a_privilege_that_cannot_be_taken_back_stops_the_publication(warehouse: Warehouse) -> None:
    publisher, reader = (f"{name}_{os.getpid()}" for name in ("publisher", "reader"))
    tables = (TABLES[0], replace(TABLES[1], pii=("amount",)), TABLES[2])
    database = warehouse.target.database
    with named_user(warehouse, publisher) as own, role(warehouse, reader) as may_ask:
        with closing(warehouse.target.connect(autocommit=True)) as admin:
            grant = f"GRANT ALL ON `{database}`.* TO {publisher}"
            admin.query(f"{grant} WITH GRANT OPTION")
            warehouse.mirror(target=own, reader=reader)
            admin.query(f"REVOKE GRANT OPTION ON `{database}`.* FROM {publisher}")
            warehouse.change("UPDATE fct_left SET amount = 2")
            warehouse.publish(tables)
            for setting, column in ((reader, "amount"), ("", "")):
                with pytest.raises(PublishError, match=rf"read the column .{column}.*GRANT OPTION"):
                    warehouse.mirror(tables, target=own, reader=setting)
            assert may_ask("SELECT amount FROM fct_left")
            assert warehouse.ask("SELECT MAX(amount) FROM fct_left") == [(1,)], "the old version"
            # What the message says helps.
            admin.query(f"{grant} WITH GRANT OPTION")
            warehouse.mirror(tables, target=own, reader=reader)
            assert not may_ask("SELECT amount FROM fct_left")
            assert may_ask("SELECT id FROM fct_left")

            # What somebody else has given, as far as the publishing user may see it.
            for given in (f"`{database}`.*", "*.*", f"`{database}`.fct_left"):
                admin.query(f"GRANT SELECT ON {given} TO {reader}")
                with pytest.raises(PublishError, match=r"may read amount.*somebody ran: GRANT"):
                    warehouse.mirror(tables, reader=reader)
                admin.query(f"REVOKE SELECT ON {given} FROM {reader}")
            # Other privileges, and those on other databases, are nobody's concern.
            admin.query(f"GRANT SELECT (id), INSERT ON fct_left TO {reader}")
            admin.query(f"GRANT SELECT ON `{database}x`.* TO {reader}")
            warehouse.mirror(tables, reader=reader)


def test_a_publisher_that_may_not_grant_says_so_and_publishes_in_mysql(
    warehouse: Warehouse,
) -> None:
    publisher, reader = (f"{name}_{os.getpid()}" for name in ("publisher", "reader"))
    database = warehouse.target.database
    with (
        named_user(warehouse, publisher) as own,
        closing(warehouse.target.connect(autocommit=True)) as admin,
    ):
        admin.query(f"GRANT ALL ON `{database}`.* TO {publisher}")
        for amount in (2, 3):
            warehouse.change(f"UPDATE fct_left SET amount = {amount}")
            warehouse.publish()
            warehouse.mirror(target=own, reader=reader)
            assert any("may not read all" in line for line in warehouse.told)
            assert warehouse.ask("SELECT MAX(amount) FROM fct_left") == [(amount,)]
        # Who may grant need not be who may create roles.
        with role(warehouse, reader) as may_ask:
            admin.query(f"GRANT ALL ON `{database}`.* TO {publisher} WITH GRANT OPTION")
            warehouse.mirror(target=own, reader=reader)
            assert may_ask("SELECT id FROM fct_left")


def test_nothing_in_mysql_tells_a_sensitive_value(on_mariadb: Warehouse) -> None:
    """No number is made of it: who knows the rest of a row could try which value leads to it."""
    tables = (*TABLES[:2], replace(TABLES[2], sensitive=("amount",)))
    on_mariadb.publish(tables)
    first = on_mariadb.mirror(tables)

    def told() -> list[tuple[Any, ...]]:
        [(relation,)] = on_mariadb.ask(
            "SELECT relation FROM _softcart_contents WHERE table_name = 'fct_right' LIMIT 1"
        )
        return [
            *on_mariadb.ask(f"SELECT * FROM `{relation}` WHERE _slot = 1 ORDER BY id"),
            *on_mariadb.ask(
                "SELECT row_count, number, digest FROM _softcart_contents"
                " WHERE table_name = 'fct_right' ORDER BY slot"
            ),
            *on_mariadb.ask(
                "SELECT SUBSTRING(label, LOCATE('/', label)) FROM _softcart_contents"
                " WHERE table_name = 'fct_right' ORDER BY slot"
            ),
        ]

    before = told()
    assert len(before) == ROWS + 4
    on_mariadb.change("UPDATE fct_right SET amount = 17 WHERE id <= 500")
    on_mariadb.publish(tables)
    second = on_mariadb.mirror(tables)
    assert second.is_new
    assert second.versions["fct_right"] != first.versions["fct_right"]
    on_mariadb.mirror(tables, complete=True)
    assert told() == before
    # The other columns travel by difference, and are proven, as those of any table.
    on_mariadb.change("UPDATE fct_right SET member = 0, amount = 5 WHERE id <= 3")
    on_mariadb.publish(tables)
    done = on_mariadb.mirror(tables)
    assert (done.compared["fct_right"], done.written["fct_right"]) == ("changed rows", 6)
    assert on_mariadb.ask("SELECT COUNT(*) FROM fct_right WHERE member = 0") == [(3,)]
    assert not on_mariadb.mirror(tables, complete=True).mended


def test_keys_indexes_and_comments(warehouse: Warehouse) -> None:
    warehouse.change(
        "COMMENT ON TABLE fct_left IS 'What is left.';"
        "COMMENT ON COLUMN fct_left.id IS 'It''s \\ %.'"
    )
    warehouse.publish()
    warehouse.mirror()
    [(relation, text)] = warehouse.ask(
        "SELECT table_name, table_comment FROM information_schema.tables WHERE"
        " table_schema = DATABASE() AND table_name LIKE '%fct\\_left' AND table_type <> 'VIEW'"
    )
    assert text == "What is left."
    comment = "SELECT column_comment FROM information_schema.columns WHERE table_name ="
    assert warehouse.ask(f"{comment} '{relation}' AND column_name = 'id'") == [("It's \\ %.",)]
    keys = "SELECT non_unique, GROUP_CONCAT(column_name ORDER BY seq_in_index) FROM "
    keys += f"information_schema.statistics WHERE table_name = '{relation}' GROUP BY index_name, 1"
    assert sorted(warehouse.ask(keys)) == [(0, "_slot,id"), (1, "_slot,member")]
    plan = warehouse.ask("EXPLAIN SELECT amount FROM fct_left WHERE id = 7")
    # One row is looked up by its key, through the view. MySQL does it while it plans.
    assert "Rows fetched before execution" in str(plan) or "PRIMARY" in str(
        [row for row in plan if relation in str(row)]
    ), plan


def kill_at(step: int, warehouse: Warehouse) -> bool:
    """Mirror in a process that ends by SIGKILL before its statement number `step` that writes.

    Returns whether it came so far.
    """

    def work() -> None:
        done = 0
        run = Server.run

        def counted(self: Server, statement: str) -> int:
            nonlocal done
            if not statement.startswith("SET "):
                done += 1
                if done == step:
                    os.kill(os.getpid(), 9)
            return run(self, statement)

        Server.run = counted  # type: ignore[method-assign]
        warehouse.mirror()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode in (0, -9)
    return process.exitcode == -9


def version_of(warehouse: Warehouse) -> tuple[Any, ...]:
    """What a reader sees of the facts: one amount each, or an error for a mixture."""
    [left] = warehouse.ask("SELECT COUNT(*), MIN(amount), MAX(amount) FROM fct_left")
    [right] = warehouse.ask("SELECT COUNT(*), MIN(amount), MAX(amount) FROM fct_right")
    assert left == right
    assert left[0] == ROWS
    assert left[1] == left[2]
    return left[1]


def test_killed_at_every_step_of_changed_rows(on_mariadb: Warehouse) -> None:
    killed_at_every_step(on_mariadb, "changed rows")


def test_killed_at_every_step_of_other_columns(warehouse: Warehouse) -> None:
    """On both products: their DDL is in no transaction, so each statement may be the last one."""
    killed_at_every_step(warehouse, "other columns")


def killed_at_every_step(warehouse: Warehouse, kind: str) -> None:
    """Each time, the next publication reaches production, whatever was left."""
    warehouse.mirror()
    step, amount, reached = 0, 1, True
    while reached:
        # Long enough without every single one.
        step += 2 if kind == "changed rows" else 6
        old, amount = amount, amount + 1
        warehouse.change(f"UPDATE fct_left SET amount = {amount}")
        warehouse.change(f"UPDATE fct_right SET amount = {amount}")
        if kind == "other columns":
            scale = "numeric(12, 4)" if amount % 2 else "numeric(9, 3)"
            warehouse.change(f"ALTER TABLE fct_left ALTER COLUMN amount TYPE {scale}")
        warehouse.publish()
        reached = kill_at(step, warehouse)
        assert version_of(warehouse) in (old, amount)
        warehouse.mirror()
        assert version_of(warehouse) == amount
    assert step > 10
    warehouse.assert_equal()


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_server_is_killed(product: type[MySQL], stack: object, tmp_path: Path) -> None:
    """In the midst of what makes and shows a version. The disk has the old one whole, or the new
    one.
    """
    moments = ("CREATE OR REPLACE", "REPLACE INTO _softcart_current")
    run = Server.run
    with own_server(product, tmp_path) as server, at_version_one(server.connection()) as warehouse:
        warehouse.mirror()
        for amount, moment in enumerate(moments, 2):
            scale = "numeric(12, 4)" if amount % 2 else "numeric(9, 3)"
            warehouse.change(
                f"UPDATE fct_left SET amount = {amount}; UPDATE fct_right SET amount = {amount};"
                f"ALTER TABLE fct_left ALTER COLUMN amount TYPE {scale};"
                f"ALTER TABLE fct_right ALTER COLUMN amount TYPE {scale};"
            )
            warehouse.publish()
            killed = threading.Timer(0.001, server.process().kill)

            def risky(self: Server, statement: str, moment=moment, killed=killed) -> int:
                if statement.startswith(moment) and killed.ident is None:
                    killed.start()
                    if "INTO" in moment:
                        time.sleep(0.05)  # the switch is written, and not committed
                return run(self, statement)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Server, "run", risky)
                with suppress(PublishError, ServerUnreachable):
                    warehouse.mirror()
            assert killed.ident, f"nothing began with {moment}"
            killed.join()
            # Until the dead process is gone, it looks as if the server ran.
            alive_after([each] if (each := server.process()) else [], 10)
            server.up()
            warehouse.target = server.connection()
            assert version_of(warehouse) in (amount - 1, amount)
            warehouse.mirror()
            assert version_of(warehouse) == amount
            warehouse.assert_equal()


MANAGED = (
    "--lower-case-table-names=1",  # Azure allows no other
    "--sql-generate-invisible-primary-key=ON",
    "--sql-require-primary-key=ON",
    "--local-infile=OFF",
    "--performance-schema=ON",
)


def test_a_managed_server(stack: object, tmp_path: Path) -> None:
    """It demands TLS, with a certificate for another host, and gives nobody RELOAD or SUPER.

    The master user may give away what it may do itself.
    """
    with own_server(RealMySQL, tmp_path, *MANAGED) as server:
        shop = server.connection()
        with closing(shop.connect(autocommit=True)) as admin:
            for statement in (
                "CREATE USER master IDENTIFIED BY 'Q7-hushed'",
                "GRANT ALL ON shop.* TO master WITH GRANT OPTION",
                "GRANT CREATE USER ON *.* TO master",
                "CREATE ROLE readers",
                "SET GLOBAL require_secure_transport = ON",
            ):
                admin.query(statement)
        with pytest.raises(ServerUnreachable, match="_TLS_CA"):
            shop.connect()
        tls = Tls(str(server.data / "ca.pem"), verify_host=False)
        master = replace(shop, user="master", password="Q7-hushed", tls=tls)
        with closing(master.connect()) as session:
            with pytest.raises(pymysql.MySQLError, match="RELOAD"):
                session.query("FLUSH TABLES WITH READ LOCK")
            with pytest.raises(pymysql.MySQLError, match="SUPER"):
                session.query("SET GLOBAL binlog_expire_logs_seconds = 1")
        with at_version_one(master) as warehouse:
            warehouse.mirror(reader="readers")
            # The second change goes to a slot with rows, and the third to another table.
            for amount, more in ((2, ""), (3, ""), (7, f";{WIDER}")):
                warehouse.change(f"UPDATE fct_left SET amount = {amount} WHERE id <= 5{more}")
                warehouse.publish()
                done = warehouse.mirror(reader="readers")
                assert done.written["fct_left"] in (10, 20, ROWS)
                warehouse.assert_equal()
            warehouse.target = replace(shop, tls=tls)
            assert "`shop`.`fct_left` TO `readers`" in str(warehouse.ask("SHOW GRANTS FOR readers"))


LINES = assemble(
    [
        Line(name, "A line.", owner=f"team:{name}", published=(Published(table),))
        for name, table in (
            ("conformed", "dim_member"),
            ("left", "fct_left"),
            ("right", "fct_right"),
        )
    ]
)


def test_the_assets_follow_production_and_hold_nothing_back(
    on_mariadb: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = asdict(on_mariadb.target)
    for prefix, connection in (
        ("SOFTCART_STAGING", asdict(on_mariadb.staging)),
        ("SOFTCART_PRODUCTION", asdict(on_mariadb.production)),
        (PRODUCTION_MYSQL, target),
    ):
        for name in ("host", "port", "user", "password", "database"):
            monkeypatch.setenv(f"{prefix}_{name.upper()}", str(connection[name]))
    assets = [published_assets(LINES, TABLES, AUDITS), mirrored_assets(LINES, TABLES)]

    def build(run_config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            assets,
            run_config=run_config,
            resources={
                "staging": PostgresResource(prefix="SOFTCART_STAGING"),
                "production": PostgresResource(prefix="SOFTCART_PRODUCTION"),
                "production_mysql": MySQLResource(prefix=PRODUCTION_MYSQL),
            },
            raise_on_error=False,
        )

    def materialised(run: dg.ExecuteInProcessResult, schema: str) -> dict[str, str]:
        return {
            event.asset_key.path[1]: event.materialization.tags["dagster/data_version"]
            for event in run.get_asset_materialization_events()
            if event.asset_key.path[0] == schema
        }

    first = build()
    assert first.success
    # The version is that of production's rows. So nothing follows where they are the same.
    assert materialised(first, "production_mysql") == materialised(first, "production")
    results = [
        e for e in first.get_asset_check_evaluations() if e.check_name == "equals_production"
    ]
    assert len(results) == len(TABLES)
    assert all(result.passed for result in results)
    [event] = [
        each
        for each in first.get_asset_materialization_events()
        if each.asset_key == dg.AssetKey(["production_mysql", "fct_left"])
    ]
    lineage = event.materialization.metadata["dagster/column_lineage"].value.deps_by_column
    assert lineage["amount"][0].asset_key == dg.AssetKey(["production", "fct_left"])

    # The nightly publication finds what somebody has changed in MySQL, and mends it.
    [(relation,)] = on_mariadb.ask(
        "SELECT relation FROM _softcart_contents WHERE table_name = 'fct_left' LIMIT 1"
    )
    with closing(on_mariadb.target.connect(autocommit=True)) as session:
        session.query(f"UPDATE `{relation}` SET amount = 9 WHERE id = 7")
    complete = {"publication_in_mysql": {"config": {"complete": True}}}
    results = build({"ops": complete}).get_asset_check_evaluations()
    [found] = [each for each in results if not each.passed]
    assert found.asset_key == dg.AssetKey(["production_mysql", "fct_left"])
    assert found.severity is dg.AssetCheckSeverity.WARN
    on_mariadb.assert_equal()

    # A target that cannot be reached holds nothing else back.
    monkeypatch.setenv(f"{PRODUCTION_MYSQL}_PORT", "1")
    on_mariadb.change("UPDATE fct_left SET amount = 2")
    failed = build()
    assert not failed.success
    assert materialised(failed, "production").keys() == set(NAMES)
    assert not materialised(failed, "production_mysql")


def test_without_a_setting_there_are_no_assets(monkeypatch: pytest.MonkeyPatch) -> None:
    def tables() -> set[str]:
        keys = {key for each in production_tables().assets or () for key in each.keys}
        return {key.path[1] for key in keys if key.path[0] == "production_mysql"}

    assert tables() == set()
    monkeypatch.setenv(f"{PRODUCTION_MYSQL}_HOST", "mysql.example.com")
    published = {table.name for line in ALL_LINES for table in line.published}
    stays = {"agg_engagement_by_user_month"}  # its key says in which month somebody trained
    assert tables() == published - stays
    # Each line has what the lines share.
    line = next(each for each in ALL_LINES if each.published and each is not ALL_LINES.conformed)
    monkeypatch.setenv(PRODUCTION_MYSQL_LINES, line.name)
    shared = {table.name for table in ALL_LINES.conformed.published}
    assert tables() == (shared | {table.name for table in line.published}) - stays
    monkeypatch.setenv(PRODUCTION_MYSQL_LINES, "elsewhere")
    with pytest.raises(SettingError, match="elsewhere"):
        tables()


def test_the_local_server_has_the_database_when_asked(
    stack: Stack, on_mariadb: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = stack.home / "stack.json"
    before = state.read_bytes()
    asked = Stack(stack.home, sources=stack.sources, ignore_environment=True)
    try:
        assert f"{PRODUCTION_MYSQL}_HOST" not in asked.env()
        settings = asked.up(extras=["production-mysql"])
        # It stays, for whoever opens the stack later.
        later = Stack(stack.home, sources=stack.sources, ignore_environment=True).env()
        assert later[f"{PRODUCTION_MYSQL}_DATABASE"] == "production"
    finally:
        state.write_bytes(before)
    for name, value in settings.items():
        if name.startswith(PRODUCTION_MYSQL):
            monkeypatch.setenv(name, value)
    on_mariadb.target = MySQLConnection.from_env(PRODUCTION_MYSQL)
    on_mariadb.mirror()
    on_mariadb.assert_equal()


def test_the_doctor_knows_it(any_mysql: MySQLConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    user = f"doctor_{os.getpid()}"
    monkeypatch.setenv(PRODUCTION_MYSQL_READER, "readers")

    def findings() -> list[Finding]:
        for name, value in asdict(any_mysql).items():
            monkeypatch.setenv(f"{PRODUCTION_MYSQL}_{name.upper()}", str(value or ""))
        if has_production_mysql():
            return list(doctor._production_mysql(PRODUCTION_MYSQL))
        return []

    assert [each.level for each in findings()] == ["ok"]
    with closing(any_mysql.connect(autocommit=True)) as admin:
        admin.query(f"CREATE USER {user} IDENTIFIED BY 'Q7-hushed'")
        try:
            admin.query(f"GRANT ALL ON `{any_mysql.database}`.* TO {user}")
            any_mysql = replace(any_mysql, user=user, password="Q7-hushed")
            ok, note = findings()
            assert (ok.level, note.level) == ("ok", "note")
            assert "WITH GRANT OPTION" in note.text
            admin.query(f"REVOKE CREATE VIEW ON `{any_mysql.database}`.* FROM {user}")
            assert "may not CREATE VIEW. Run GRANT ALL" in findings()[0].text
        finally:
            admin.query(f"DROP USER {user}")
