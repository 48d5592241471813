"""Production in Db2, with Apache Derby in its place: the same SQL, and locks of the same kind.
H2 in its Db2 mode runs the SQL, too, and has the comments.

If DB2_TEST_HOST names a Db2 server, the tests run there. docs/db2.md describes it.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import yaml
from support.databases import database
from support.db2_documentation import KEY_BYTES, ROW_BYTES_EXTENDED, faults, row_bytes
from support.derby import (
    H2,
    REPEATABLE_READ,
    Derby,
    DerbyConnection,
    DerbySession,
    RealDb2,
    db2_or_derby,
    running,
)
from support.two_lines import AUDITS, TABLES, change, create

from softcart_assets import jars
from softcart_assets.assembly import LINES
from softcart_assets.connections import PRODUCTION_DB2, PostgresConnection
from softcart_assets.lines.model import Published
from softcart_assets.paths import REPOSITORY
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.slots import PublishError
from softcart_assets.publishing.tables import PublishedTable
from softcart_assets.publishing.targets import db2, db2_fields, db2_probe
from softcart_assets.publishing.targets.db2 import Db2Target, Refused, Relation
from softcart_assets.publishing.targets.mirror import Mirrored, mirror

ROWS = 200
NUMBERS = itertools.count(1)
LEFT, RIGHT = "fct_left", "fct_right"


def as_derby(value: Any) -> Any:
    """A value of either driver: Derby's gives texts, but for bytes."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, bytes) else str(value)


class Warehouse:
    """Staging, production and their copy in a schema of its own."""

    def __init__(
        self, staging: PostgresConnection, production: PostgresConnection, server: Any
    ) -> None:
        self.staging, self.production, self.server = staging, production, server
        self.target = server.connection(f"S{next(NUMBERS)}")
        self.told: list[str] = []
        with_schemas = server.session()
        for schema in (self.target.schema, f"{self.target.schema}_READERS"):
            with_schemas.run(f"CREATE SCHEMA {schema}")
        with_schemas.commit()
        with_schemas.close()

    def change(self, statements: str, tables: tuple[PublishedTable, ...] = TABLES) -> None:
        """Change staging and publish it."""
        change(self.staging, statements)
        names = {table.name for table in tables}
        done = publish(
            self.staging, self.production, tables, [each for each in AUDITS if each.table in names]
        )
        assert all(outcome.passed for outcome in done.lines.values())

    def mirror(self, tables: tuple[PublishedTable, ...] = TABLES, **options: Any) -> Mirrored:
        self.told.clear()
        return mirror(
            self.staging,
            self.production,
            Db2Target(self.target),
            tables,
            on_progress=self.told.append,
            **options,
        )

    def ask(self, question: str) -> list[Any]:
        session = self.target.open()
        try:
            return [[as_derby(value) for value in row] for row in session.ask(question)]
        finally:
            session.close()

    def assert_equal(self) -> None:
        """Compare every value with production, as text."""
        for name in (LEFT, RIGHT, "dim_member"):
            with self.production.connect() as session:
                theirs = session.execute(f"SELECT * FROM production.{name} ORDER BY 1".encode())
                expected = [[str(value) for value in row] for row in theirs]
            assert self.ask(f"SELECT * FROM {name} ORDER BY 1") == expected

    def amounts(self) -> set[str]:
        """What a statement sees of both facts."""
        [found] = self.ask(
            "SELECT MIN(L.AMOUNT), MAX(L.AMOUNT), MIN(R.AMOUNT), MAX(R.AMOUNT), COUNT(*)"
            f" FROM {LEFT} L JOIN {RIGHT} R ON L.ID = R.ID"
        )
        assert found[-1] == str(ROWS)
        return set(found[:-1])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Derby | RealDb2]:
    with db2_or_derby(tmp_path_factory.mktemp("derby")) as found:
        yield found


@pytest.fixture
def on_derby(warehouse: Warehouse) -> Warehouse:
    """For what cannot be done to a server of somebody's own."""
    if not isinstance(warehouse.server, Derby):
        pytest.skip("this kills the server, or needs other users")
    return warehouse


@pytest.fixture(scope="module")
def h2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[H2]:
    """H2, running. Without its jar, tests that need it are skipped."""
    try:
        jars.fetch("h2")
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    with running(H2, tmp_path_factory.mktemp("h2")) as found:
        yield found


@contextmanager
def version_1(server: Derby | RealDb2) -> Iterator[Warehouse]:
    """At version 1, which is in Db2, too."""
    with database() as staging, database() as production:
        create(staging, ROWS)
        found = Warehouse(staging, production, server)
        found.change("SELECT 1")
        found.mirror()
        yield found


@pytest.fixture
def warehouse(stack: object, server: Derby | RealDb2) -> Iterator[Warehouse]:
    """`version_1` on Derby or Db2."""
    with version_1(server) as found:
        yield found


@pytest.fixture
def on_h2(stack: object, h2: H2) -> Iterator[Warehouse]:
    """`version_1` on H2."""
    h2.statements.clear()
    with version_1(h2) as found:
        yield found


@pytest.fixture(params=["warehouse", "on_h2"])
def any_warehouse(request: pytest.FixtureRequest) -> Warehouse:
    """`version_1` on each server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def with_comments(request: pytest.FixtureRequest, server: Derby | RealDb2) -> Warehouse:
    """`version_1` on Db2 or H2. Derby has no comments."""
    return request.getfixturevalue("on_h2" if isinstance(server, Derby) else "warehouse")


def set_to(amount: int, more: str = "") -> str:
    return f"UPDATE {LEFT} SET amount = {amount}; UPDATE {RIGHT} SET amount = {amount};{more}"


def test_only_changes_travel_and_columns_change(any_warehouse: Warehouse) -> None:
    warehouse = any_warehouse
    warehouse.assert_equal()
    again = warehouse.mirror()
    assert not again.is_new
    assert set(again.written.values()) == {0}

    warehouse.change(
        f"UPDATE {LEFT} SET amount = 2 WHERE id <= 5; DELETE FROM {LEFT} WHERE id > 195;"
        f"INSERT INTO {LEFT} SELECT i, 1, 1 FROM generate_series(3001, 3010) i"
    )
    done = warehouse.mirror()
    assert done.written == {"dim_member": 0, LEFT: 25, RIGHT: 0}
    assert done.compared[LEFT] == "changed rows"
    warehouse.assert_equal()

    warehouse.change(
        f"ALTER TABLE {LEFT} ADD COLUMN note text DEFAULT 'new';"
        f"ALTER TABLE {LEFT} ALTER COLUMN amount TYPE numeric(12, 4)"
    )
    warehouse.mirror()
    warehouse.assert_equal()
    complete = warehouse.mirror(complete=True)
    assert not complete.mended
    warehouse.assert_equal()
    # No place stays behind: one for each table.
    assert warehouse.ask("SELECT COUNT(*) FROM SC_PLACES") == [["3"]]

    [(place,)] = warehouse.ask(f"SELECT PLACE FROM SC_VIEWS WHERE NAME = '{RIGHT}'")
    meddler = warehouse.target.open()
    meddler.run(f'UPDATE "{place}" SET AMOUNT = 9 WHERE ID = 7')
    meddler.commit()
    meddler.close()
    assert warehouse.mirror(complete=True).mended.keys() == {RIGHT}
    warehouse.assert_equal()

    warehouse.mirror(TABLES[:2])
    with pytest.raises(Refused):
        warehouse.ask(f"SELECT * FROM {RIGHT}")


KINDS = {
    "a_small": ("smallint", "-32768"),
    "a_big": ("bigint", "9223372036854775807"),
    "a_bool": ("boolean", "true"),
    "a_numeric": ("numeric(31,10)", "-123456789012345678901.0123456789"),
    "a_plain": ("numeric", "0.123456789012"),
    "a_double": ("double precision", "0.1::float8 + 0.2::float8"),
    "a_text": ("text", r"E'it''s \\ \n \t “Zürich” 😀 100%% {} ?'"),
    "an_empty": ("text", "''"),
    "a_null": ("text", "NULL"),
    "a_long": ("character varying(20000)", "repeat('ü', 20000)"),
    "a_date": ("date", "'0999-12-31'"),
    "a_stamp": ("timestamp", "'2024-02-29 23:59:59.999999'"),
    "an_instant": ("timestamptz", "'2024-03-31 01:30:00.000001+02'"),
    "a_time": ("time", "'23:59:59.5'"),
    "a_uuid": ("uuid", "'6f9619ff-8b86-d011-b42d-00cf4fc964ff'"),
    "a_json": ("jsonb", """'{"b": 1.10, "a": [null, "x\\"y"]}'"""),
    "bytes": ("bytea", r"'\x00275cff'"),
}

UNFIT = [
    ("numeric", "'NaN'"),
    ("numeric", "1e-13"),
    ("numeric(38,2)", "123456789012345678901234567890.12"),
    ("double precision", "'Infinity'"),
    ("timestamptz", "'infinity'"),
    ("date", "'0044-03-15 BC'"),
    ("text", "repeat('ü', 2001)"),
    ("integer[]", "'{1}'"),
]


def test_every_type_arrives_exactly_or_fails_by_column(any_warehouse: Warehouse) -> None:
    warehouse = any_warehouse
    kinds = PublishedTable(Published("dim_kinds"), "warehouse", ("code",), "conformed")
    tables = (*TABLES, kinds)
    columns = ", ".join(f"{name} {kind}" for name, (kind, _) in KINDS.items())
    values = ", ".join(f"CAST({value} AS {kind})" for kind, value in KINDS.values())
    warehouse.change(
        f"CREATE TABLE dim_kinds (code text, {columns});"
        f"INSERT INTO dim_kinds SELECT 'a', {values};"
        "INSERT INTO dim_kinds (code) VALUES ('A'), ('ä'), ('')",
        tables,
    )
    warehouse.mirror(tables)
    [row] = warehouse.ask(f"SELECT {', '.join(KINDS)} FROM dim_kinds WHERE code = 'a'")
    found = dict(zip(KINDS, row, strict=True))
    assert found["bytes"] == b"\x00'\\\xff"
    assert found["a_long"] == "ü" * 20000
    assert found["a_text"] == "it's \\ \n \t “Zürich” 😀 100%% {} ?"
    assert (found["an_empty"], found["a_null"], found["a_bool"].lower()) == ("", None, "true")
    assert found["a_numeric"] == "-123456789012345678901.0123456789"
    assert found["a_big"] == str(2**63 - 1)
    assert found["a_stamp"] == "2024-02-29 23:59:59.999999"
    assert found["an_instant"] == "2024-03-30 23:30:00.000001"
    assert found["a_json"] == '{"a": [null, "x\\"y"], "b": 1.10}'

    for kind, value in UNFIT:
        warehouse.change(
            "DROP TABLE dim_kinds;"
            f"CREATE TABLE dim_kinds AS SELECT 'a' AS code, CAST({value} AS {kind}) AS a_value",
            tables,
        )
        with pytest.raises(PublishError, match=r"production_db2/dim_kinds.*column a_value"):
            warehouse.mirror(tables)
    if isinstance(warehouse.server, H2):
        return  # It tells such keys apart.
    # Db2 takes them for one key. It says so, and readers keep what they had.
    warehouse.change(
        "DROP TABLE dim_kinds; CREATE TABLE dim_kinds AS SELECT unnest('{a,\"a \"}'::text[]) code",
        tables,
    )
    with pytest.raises(PublishError, match="spaces at the end"):
        warehouse.mirror(tables)
    assert warehouse.ask("SELECT COUNT(*) FROM dim_kinds") == [["4"]]


def test_people_see_the_comments(with_comments: Warehouse) -> None:
    warehouse = with_comments

    def seen(schema: str) -> set[tuple[str, ...]]:
        where = f"V.TABSCHEMA = '{schema}' AND V.TABNAME = 'FCT_LEFT' AND V.REMARKS IS NOT NULL"
        return {
            tuple(row)
            for row in warehouse.ask(
                f"SELECT V.COLNAME, V.REMARKS FROM SYSCAT.COLUMNS V WHERE {where}"
                f" UNION ALL SELECT '', V.REMARKS FROM SYSCAT.TABLES V WHERE {where}"
            )
        }

    warehouse.change(
        f"COMMENT ON TABLE {LEFT} IS 'It''s \\ ? {{}}';"
        f"COMMENT ON COLUMN {LEFT}.member IS '{'ü' * 200}';"
        f"COMMENT ON COLUMN {LEFT}.amount IS 'In euros.'"
    )
    tables = (TABLES[0], replace(TABLES[1], pii=("amount",)), TABLES[2])
    role, schema = f"ROLE{os.getpid()}", warehouse.target.schema
    admin = warehouse.server.session()
    admin.run(f"CREATE ROLE {role}")
    admin.commit()
    # 254 bytes, and half a character is none.
    public = {("", "It's \\ ? {}"), ("MEMBER", "ü" * 127)}
    for step in range(2):
        if step:
            warehouse.change(set_to(2), tables)  # another place, and so another view
        warehouse.mirror(tables, reader=role)
        assert seen(schema) == public | {("AMOUNT", "In euros.")}
        assert seen(f"{schema}_READERS") == public
    warehouse.change(f"COMMENT ON COLUMN {LEFT}.amount IS 'In francs.'", tables)
    warehouse.mirror(tables, reader=role)
    assert seen(schema) == public | {("AMOUNT", "In francs.")}
    admin.run(f"DROP ROLE {role}")
    admin.commit()
    admin.close()


def test_the_sql_is_what_the_documentation_allows(on_h2: Warehouse) -> None:
    """All of it: of publications of every kind, of all published tables, and of the doctor."""
    told = on_h2.server.statements
    on_h2.change(f"UPDATE {LEFT} SET amount = 2 WHERE id <= 5; COMMENT ON TABLE {LEFT} IS 'a'")
    on_h2.mirror(reader="PUBLIC")
    on_h2.mirror(TABLES[:2], complete=True)
    list(db2_probe.examine(on_h2.target, "PUBLISHER", "PUBLIC"))

    published = [
        each
        for file in (REPOSITORY / "contracts" / "production").iterdir()
        for each in yaml.safe_load(file.read_text())["schema"]
    ]
    declared = {each.name: each for line in LINES for each in line.published}
    assert len(published) > 30
    session = on_h2.target.open()
    widest = 0
    for each in published:
        columns = [(found["name"], found["physicalType"]) for found in each["properties"]]
        key = tuple(found["name"] for found in each["properties"] if found.get("primaryKey"))
        indexes = declared[each["name"]].indexes
        fields = db2_fields.fields(each["name"], columns, key, indexes)
        relation = Relation(each["name"], each["name"], fields, key, indexes)
        for statement in relation.create(each["name"]):
            session.run(statement)
        types = {field.name: field.type for field in fields}
        widest = max(widest, row_bytes(types.values()))
        for index in (key, *indexes):
            assert row_bytes(types[name] for name in index) <= KEY_BYTES, (each["name"], index)
    session.close()
    assert widest < ROW_BYTES_EXTENDED

    ours = [each for each in told if not each.startswith(("CREATE SCHEMA ", "SET SCHEMA "))]
    kinds = {" ".join(each.split()[:2]) for each in ours}
    assert kinds >= {"CREATE VIEW", "CREATE INDEX", "GRANT SELECT", "COMMENT ON", "LOCK TABLE"}
    assert {each: found for each in ours if (found := faults(each))} == {}


def test_a_fault_is_found() -> None:
    assert faults("SELECT VERSION FROM T") == ["VERSION is reserved"]
    assert faults('SELECT "VERSION" FROM T') == []
    assert faults(f"COMMENT ON TABLE T IS '{'ü' * 128}'")
    assert faults(f'CREATE TABLE "{"x" * 129}" (A INTEGER)')
    assert faults("SELECT A FROM T LIMIT 1")
    for kind in ("VARCHAR(32673)", "DECIMAL(32,1)", "TEXT", "CLOB(3G)"):
        with pytest.raises((AssertionError, KeyError)):
            row_bytes([kind])


def test_the_doctor_tries_what_a_publication_does(warehouse: Warehouse) -> None:
    target = warehouse.target

    def told(connection: Any, reader: str = "") -> list[tuple[str, str]]:
        return [(f.level, f.text) for f in db2_probe.examine(connection, "SOFTCART", reader)]

    [(level, text)] = told(target)
    assert level == "ok"
    assert target.address in text
    assert told(target, "NOBODY") == [
        ("blocks", "there is no role NOBODY. Run CREATE ROLE NOBODY.")
    ]
    # It leaves nothing behind.
    warehouse.mirror()
    if not isinstance(target, DerbyConnection):
        return
    poor = replace(target, user="ADA")
    [(level, text)] = told(poor)
    assert level == "blocks"
    assert f"CREATE SCHEMA {target.schema} AUTHORIZATION SOFTCART" in text
    poor = replace(poor, schema=f"ADA_{target.schema}")
    admin = warehouse.server.session()
    admin.run(f"CREATE SCHEMA {poor.schema} AUTHORIZATION ADA")
    admin.run(f"CREATE SCHEMA {poor.schema}_READERS")
    admin.commit()
    admin.close()
    [(level, text), ok] = told(poor)
    assert level == "note"
    assert f"CREATE SCHEMA {poor.schema}_READERS AUTHORIZATION SOFTCART" in text
    assert ok[0] == "ok"
    assert [level for level, _ in told(poor, "NOBODY")] == ["blocks"]


def test_the_doctor_names_settings_that_change_values(
    on_derby: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an incompatible database would: it has a null for an empty text."""
    run = DerbySession.run

    def oracle(self: DerbySession, statement: str, *values: Any) -> None:
        run(self, statement, *(None if value == "" else value for value in values))

    monkeypatch.setattr(DerbySession, "run", oracle)
    [finding] = db2_probe.examine(on_derby.target, "SOFTCART", "")
    assert finding.level == "blocks"
    assert "varchar2_compat" in finding.text


def test_the_doctor_says_what_is_missing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(db2_probe.examine_settings()) == []
    monkeypatch.setenv(f"{PRODUCTION_DB2}_HOST", "127.0.0.1")
    [finding] = db2_probe.examine_settings()
    assert finding.level == "blocks"
    assert f"{PRODUCTION_DB2}_USER is not set" in finding.text
    for name in ("USER", "PASSWORD", "DATABASE"):
        monkeypatch.setenv(f"{PRODUCTION_DB2}_{name}", "x")
    monkeypatch.setitem(sys.modules, "ibm_db_dbi", None)
    [finding] = db2_probe.examine_settings()
    assert finding.level == "blocks"
    assert "uv pip install ibm_db" in finding.text


def test_a_statement_sees_one_version(warehouse: Warehouse) -> None:
    is_over, wrong, seen = threading.Event(), [], set()

    def read() -> None:
        while not is_over.is_set():
            try:
                found = warehouse.amounts()
            except Refused as error:
                # Superseded while it began, or waiting for locks: an error, as the docs say.
                if error.state not in ("21000", *db2._WAITED, *db2._UNKNOWN):
                    wrong.append(error)
                continue
            if len(found) > 1:
                wrong.append(found)
            seen.update(found)
            # A reader that never rests would keep its locks from the publication.
            time.sleep(0.02)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for amount in range(2, 6):
            warehouse.change(set_to(amount))
            warehouse.mirror()
            # A reader that gets nothing but errors would prove nothing.
            while reader.is_alive() and not wrong and f"{amount}.00" not in seen:
                time.sleep(0.01)
    finally:
        is_over.set()
        reader.join()
    assert not wrong
    assert seen >= {"2.00", "3.00", "4.00", "5.00"}
    assert warehouse.amounts() == {"5.00"}


def test_a_repeatable_transaction_keeps_its_version(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db2, "DDL_PATIENCE_SECONDS", 0)
    reader = warehouse.server.session(isolation=REPEATABLE_READ)
    reader.run(f"SET SCHEMA {warehouse.target.schema}")
    [row] = reader.ask(f"SELECT MAX(AMOUNT) FROM {LEFT}")
    assert str(row[0]) == "1.00"
    warehouse.change(set_to(2))
    with pytest.raises(PublishError, match="kept reading the version before"):
        warehouse.mirror()
    [row] = reader.ask(f"SELECT MAX(AMOUNT) FROM {RIGHT}")
    assert str(row[0]) == "1.00"
    reader.close()
    warehouse.mirror()
    assert warehouse.amounts() == {"2.00"}


def test_readers_read_what_is_not_personal(on_derby: Warehouse) -> None:
    admin = on_derby.server.session()
    roles = [f"ROLE{os.getpid()}_{number}" for number in (1, 2)]
    for role in roles:
        admin.run(f"CREATE ROLE {role}")
        admin.run(f"GRANT {role} TO ADA")
    admin.commit()
    admin.close()
    schema = on_derby.target.schema
    tables = (TABLES[0], replace(TABLES[1], pii=("amount",)), TABLES[2])

    def may(role: str, question: str) -> bool:
        ada = on_derby.server.session("ADA")
        try:
            ada.run(f"SET ROLE {role}")
            return bool(list(ada.ask(question)))
        except Refused as error:
            if error.state not in ("42502", "42X04", "42X05"):
                raise
            return False
        finally:
            ada.close()

    facts = f"SELECT ID FROM {schema}_READERS.{LEFT}"
    on_derby.mirror(tables, reader=roles[0])
    assert may(roles[0], facts)
    assert not may(roles[1], facts)
    assert not may(roles[0], facts.replace("ID", "AMOUNT"))
    assert not may(roles[0], f"SELECT ID FROM {schema}.{LEFT}")
    # It keeps its rights over a version, and loses them to another.
    on_derby.change(set_to(2), tables)
    on_derby.mirror(tables, reader=roles[0])
    assert may(roles[0], facts)
    assert not on_derby.mirror(tables, reader=roles[1]).is_new
    assert (may(roles[0], facts), may(roles[1], facts)) == (False, True)
    on_derby.mirror(tables)
    assert not may(roles[1], facts)


def test_another_publication_is_under_way(warehouse: Warehouse) -> None:
    with db2.Server.open(warehouse.target), pytest.raises(PublishError, match="is under way"):
        warehouse.mirror()
    warehouse.mirror()


@pytest.mark.parametrize("more", ["", f"ALTER TABLE {LEFT} ALTER amount TYPE numeric(%s, 2)"])
def test_killed_at_every_step(on_derby: Warehouse, more: str) -> None:
    """Each time, the next publication reaches production, whatever was left."""
    step, amount, run = 0, 1, DerbySession.run
    reached = True
    while reached:
        step += 7
        old, amount = amount, amount + 1
        on_derby.change(set_to(amount, more and more % (10 + amount % 2)))
        done, reached = 0, False

        def killed(self: DerbySession, statement: str, *values: Any, at: int = step) -> None:
            nonlocal done, reached
            done += 1
            if done == at:
                reached = True
                raise KeyboardInterrupt
            run(self, statement, *values)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DerbySession, "run", killed)
            with suppress(KeyboardInterrupt):
                on_derby.mirror()
        assert on_derby.amounts() in ({f"{old}.00"}, {f"{amount}.00"})
        on_derby.mirror()
        assert on_derby.amounts() == {f"{amount}.00"}
    assert step > 20
    on_derby.assert_equal()


@pytest.mark.parametrize("moment", ["CREATE VIEW", "INSERT INTO SC_CURRENT", "INSERT INTO"])
def test_the_server_is_killed(on_derby: Warehouse, moment: str) -> None:
    """Its disk has the old version whole, or the new one."""
    on_derby.change(set_to(2))
    run = DerbySession.run

    def risky(self: DerbySession, statement: str, *values: Any) -> None:
        run(self, statement, *values)
        if statement.startswith(moment):
            on_derby.server.kill()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DerbySession, "run", risky)
        with pytest.raises(PublishError):
            on_derby.mirror()
    on_derby.server.start()
    assert on_derby.amounts() == {"1.00"}
    on_derby.mirror()
    assert on_derby.amounts() == {"2.00"}
    on_derby.assert_equal()
