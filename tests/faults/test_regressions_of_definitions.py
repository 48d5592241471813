"""Faults of other tools around the definitions of tables: keys, columns, versions and views that
change at the source or are not what they seem.

The docstrings name the project and the number of the report.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import jinja2
import psycopg
import pymysql
import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture.resnapshot import resnapshot
from softcart_assets.ingestion.connectors.mysql import tables
from softcart_assets.ingestion.connectors.mysql.discover import discover
from softcart_assets.ingestion.connectors.mysql.reader import snapshot as open_snapshot
from softcart_assets.ingestion.errors import LoadsFailed, MissingTable, SourceLost
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import list_quarantine
from softcart_assets.lines.model import Source, Table
from softcart_assets.paths import REPOSITORY
from tests.support.ingestion import (
    incremental,
    load_all,
    mysql_rows,
    query,
    raw_rows,
    run,
    snapshot,
    source_of,
)

CHANGED_AT = (
    "changed_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"
)
Load = Callable[..., Any]


def captured(name: str, *key: str, **more: Any) -> Table:
    return Table(name, "", key, "cdc", (), **more)


@pytest.fixture
def load(postgres: PostgresConnection, lake: str) -> Load:
    return lambda source, connection, **options: load_all(
        source, connection, postgres, lake, **options
    )


def history(postgres: PostgresConnection, columns: str) -> list[tuple]:
    return query(postgres, f"SELECT {columns}, _deleted FROM raw_t.t_history ORDER BY _version")


PERIOD = (
    "since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, until TIMESTAMP(6) GENERATED ALWAYS AS ROW "
    "END, PERIOD FOR SYSTEM_TIME (since, until)"
)


@pytest.mark.parametrize("key", [("id",), ()], ids=["key", "no key"])
@pytest.mark.parametrize(
    ("columns", "later"),
    [
        ("", None),
        (f", {PERIOD}", None),
        ("", "ADD SYSTEM VERSIONING"),
        (
            "",
            "ADD COLUMN since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, ADD COLUMN until "
            "TIMESTAMP(6) GENERATED ALWAYS AS ROW END, "
            "ADD PERIOD FOR SYSTEM_TIME (since, until), ADD SYSTEM VERSIONING",
        ),
    ],
    ids=["hidden period", "declared period", "later", "later and declared"],
)
def test_rows_of_the_past_are_no_current_rows(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
    columns: str,
    later: str | None,
    key: tuple[str, ...],
) -> None:
    """estuary/connectors#4139: MariaDB logs the end of a row as an update, and the row of the past
    as a new one.
    """
    source = source_of(captured("t", *key, history=bool(key)))
    run(
        mysql,
        f"CREATE TABLE t (id INT NOT NULL{' PRIMARY KEY' if key else ''}, v VARCHAR(20), d DATE"
        f"{columns}){'' if later else ' WITH SYSTEM VERSIONING'}",
        "INSERT INTO t (id, v) VALUES (1, 'a'), (2, 'b')",
    )
    load(source, mysql)
    [declared] = discover("t", mysql).tables
    assert (declared.key, declared.strategy) == (key, "cdc")
    if later:
        run(mysql, f"ALTER TABLE t {later}")
        load(source, mysql)
    run(
        mysql,
        "INSERT INTO t (id, v) VALUES (3, 'c'), (4, 'd'), (5, 'e')",
        "UPDATE t SET v = 'z' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "UPDATE t SET id = 40 WHERE id = 4",
        "DELETE FROM t WHERE id = 5",
        "INSERT INTO t (id, v) VALUES (5, 'again')",
    )
    load(source, mysql)
    assert _same_values(mysql, postgres)
    assert compare(source, postgres, "t").is_equal
    assert {
        name
        for (name,) in query(
            postgres, "SELECT attname FROM pg_attribute WHERE attrelid = 'raw_t.t'::regclass"
        )
    }.isdisjoint({"row_start", "row_end"})
    if key:
        assert history(postgres, "id, v")[-9:] == [
            (3, "c", False),
            (4, "d", False),
            (5, "e", False),
            (1, "z", False),
            (2, "b", True),
            (4, "d", True),
            (40, "d", False),
            (5, "e", True),
            (5, "again", False),
        ]
    run(mysql, "DELETE HISTORY FROM t")
    load(source, mysql)
    assert _same_values(mysql, postgres)


def _same_values(mysql: MySQLConnection, postgres: PostgresConnection) -> bool:
    with closing(mysql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, v, d FROM t ORDER BY id")
        rows = list(cursor.fetchall())
    return query(postgres, "SELECT id, v, d FROM raw_t.t WHERE NOT _deleted ORDER BY id") == rows


def test_unfit_rows_of_the_past_are_in_no_quarantine(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """estuary/connectors#4139, with values that raw cannot hold."""
    source = source_of(captured("t", "id"), captured("keyless"))
    for table, key in (("t", "PRIMARY KEY"), ("keyless", "")):
        run(mysql, f"CREATE TABLE {table} (id INT {key}, d DATE) WITH SYSTEM VERSIONING")
    load(source, mysql)
    for table in ("t", "keyless"):
        with closing(mysql.connect()) as connection:
            connection.query("SET SESSION sql_mode = ''")
            for statement in (
                f"INSERT INTO {table} VALUES (1, '0000-00-00'), (2, '0000-00-00')",
                f"UPDATE {table} SET d = '2026-01-01' WHERE id = 1",
            ):
                connection.query(statement)
            connection.commit()
    load(source, mysql)
    for table, key in (("t", ["2"]), ("keyless", None)):
        assert len(raw_rows(postgres, table)) == 1
        [entry] = list_quarantine(postgres, "t", table)
        assert entry.key == key
        assert entry.row == {"id": "2", "d": "0000-00-00"}


@pytest.mark.parametrize("contract", ["evolve", "freeze", "quarantine"])
@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE t DROP COLUMN v, ADD COLUMN v VARCHAR(20)"],
        ["ALTER TABLE t DROP COLUMN v, ADD (w INT, `v` VARCHAR(20))"],
        ["ALTER TABLE t DROP COLUMN v", "ALTER TABLE t ADD v VARCHAR(20) FIRST"],
        [
            "ALTER TABLE t DROP COLUMN v",
            "INSERT INTO t VALUES (4)",
            "ALTER TABLE t ADD COLUMN v VARCHAR(20)",
        ],
    ],
    ids=["one statement", "a list", "two statements", "rows between"],
)
def test_a_column_that_comes_back_has_no_values(
    any_mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    load: Load,
    statements: list[str],
    contract: str,
) -> None:
    """eventuate-foundation/eventuate-cdc#77, apache/iceberg#4930: a dropped column was added again
    under its name, and the old values stayed.
    """
    source = source_of(captured("t", "id", contract=contract))
    run(
        any_mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20))",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
    )
    load(source, any_mysql)
    run(any_mysql, *statements, "INSERT INTO t (id, v) VALUES (3, 'new')")
    if contract == "freeze":
        with pytest.raises(LoadsFailed, match="contract is 'freeze'"):
            load(source, any_mysql)
        resnapshot(source, any_mysql, postgres, lake, "t")
    else:
        load(source, any_mysql)
    with closing(any_mysql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id, v FROM t ORDER BY 1")
        rows = list(cursor.fetchall())
    assert query(postgres, "SELECT id, v FROM raw_t.t ORDER BY 1") == rows


WIDER = "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (id, region)"
DECLARED = {"cdc": captured, "incremental": incremental, "snapshot": snapshot}


def _keyed(strategy: str, *key: str) -> Source:
    more = {"cursor": "changed_at"} if strategy == "incremental" else {}
    return source_of(DECLARED[strategy]("t", *key, **more))


@pytest.mark.parametrize("strategy", DECLARED)
@pytest.mark.parametrize("change", [WIDER, "ALTER TABLE t DROP PRIMARY KEY", "a new table"])
def test_a_key_that_is_no_longer_unique_stops_the_table(
    any_mysql: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
    strategy: str,
    change: str,
) -> None:
    """airbytehq/airbyte#28698: the source's key became wider, the declared one did not, and rows
    overwrote each other.
    """
    columns = f"id INT NOT NULL, region CHAR(2) NOT NULL DEFAULT 'eu', v INT, {CHANGED_AT}"
    run(
        any_mysql,
        f"CREATE TABLE t ({columns}, PRIMARY KEY (id))",
        "INSERT INTO t (id, region, v) VALUES (1, 'eu', 1), (2, 'eu', 2)",
    )
    load(_keyed(strategy, "id"), any_mysql)
    before = raw_rows(postgres, "t")
    if change == "a new table":
        run(
            any_mysql,
            f"CREATE TABLE new ({columns}, PRIMARY KEY (id, region))",
            "INSERT INTO new SELECT * FROM t",
            "RENAME TABLE t TO old, new TO t",
        )
    else:
        run(any_mysql, change)
    run(any_mysql, "INSERT INTO t (id, region, v) VALUES (1, 'us', 10)")
    for _ in range(2):
        with pytest.raises(LoadsFailed, match=r"declared key \(id\) is (no longer|not) unique"):
            load(_keyed(strategy, "id"), any_mysql)
    if change != "a new table" or strategy != "cdc":
        assert raw_rows(postgres, "t") == before
    # The message says how it goes on.
    wider = _keyed(strategy, "id", "region")
    if change == "ALTER TABLE t DROP PRIMARY KEY":
        run(any_mysql, "ALTER TABLE t ADD UNIQUE (region, id)")
    with postgres.connect(autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS raw_t.t CASCADE")
    load(wider, any_mysql)
    run(any_mysql, "DELETE FROM t WHERE id = 1 AND region = 'us'", "UPDATE t SET v = 3")
    load(wider, any_mysql)
    assert raw_rows(postgres, "t") == mysql_rows(any_mysql, "t")


def test_a_key_is_unique_by_any_index(
    any_mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """airbytehq/airbyte#28698, where the unique key is not the primary one."""
    source = source_of(captured("t", "code"), captured("wide", "id", "v"))
    run(
        any_mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL, UNIQUE by_code (code(5)))",
        "CREATE TABLE wide (id INT PRIMARY KEY, v INT NOT NULL)",
    )
    load(source, any_mysql)
    run(any_mysql, "INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO wide VALUES (1, 1)")
    load(source, any_mysql)
    for table in ("t", "wide"):
        assert raw_rows(postgres, table) == mysql_rows(any_mysql, table)
    run(any_mysql, "DROP INDEX by_code ON t", "INSERT INTO t VALUES (3, 'b')")
    with pytest.raises(LoadsFailed, match=r"raw_t/t: .*no longer unique.*unique key \(id\)"):
        load(source, any_mysql)
    run(any_mysql, "INSERT INTO wide VALUES (2, 2)")
    with pytest.raises(LoadsFailed) as failed:
        load(source, any_mysql)
    assert list(failed.value.failures) == ["t"]
    assert raw_rows(postgres, "wide") == mysql_rows(any_mysql, "wide")


def test_a_generated_key_that_the_server_hides_is_a_column(
    mysql97: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """MaterializeInc/materialize#25570: the log has a column that the catalog does not show."""
    with closing(mysql97.connect()) as admin:
        admin.query("SET GLOBAL show_gipk_in_create_table_and_information_schema = OFF")
        try:
            admin.query("SET SESSION sql_generate_invisible_primary_key = ON")
            admin.query("CREATE TABLE t (v INT)")
            admin.query("INSERT INTO t (v) VALUES (1), (1)")
            admin.commit()
            [found] = discover("t", mysql97).tables
            assert found.key == ("my_row_id",)
            source = source_of(replace(found, columns=()))
            load(source, mysql97)
            admin.query("INSERT INTO t (v) VALUES (2)")
            admin.query("DELETE FROM t WHERE v = 1 LIMIT 1")
            admin.commit()
            load(source, mysql97)
        finally:
            admin.query("SET GLOBAL show_gipk_in_create_table_and_information_schema = ON")
    assert raw_rows(postgres, "t") == [(2, 1), (3, 2)]
    assert compare(source, postgres, "t").is_equal


@contextmanager
def _altered(mysql: MySQLConnection, table: str) -> Iterator[Callable[[], None]]:
    """A statement that alters a table and waits for another one. Yields what ends it."""
    run(mysql, "CREATE TABLE waited_for (id INT PRIMARY KEY)")
    with closing(mysql.connect()) as reading, closing(mysql.connect()) as altering:
        reading.query("START TRANSACTION")
        reading.query("SELECT * FROM waited_for")
        number = altering.thread_id()

        def alter() -> None:
            with pytest.raises(pymysql.MySQLError):
                altering.query(f"RENAME TABLE {table} TO other, waited_for TO another")

        thread = threading.Thread(target=alter)
        thread.start()
        with closing(mysql.connect()) as admin, closing(admin.cursor()) as cursor:
            while not cursor.execute(
                "SELECT 1 FROM information_schema.processlist WHERE id = %s AND state LIKE "
                "'Waiting for table metadata%%'",
                (number,),
            ):
                time.sleep(0.02)
            yield lambda: admin.query(f"KILL QUERY {number}")
        thread.join()


def test_a_table_under_ddl_is_asked_for_again(
    mysql: MySQLConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MariaDB's information_schema has no row of a table that is altered. It was taken for missing,
    or ended the load with an IndexError.
    """
    source = source_of(snapshot("first", "id"), snapshot("t", "id"))
    for table in source.tables:
        run(mysql, f"CREATE TABLE {table.name} (id INT PRIMARY KEY)")
    with open_snapshot(source, mysql, 1) as [reader]:
        [*reader.batches(source.table("first"), reader.columns(source.table("first"), ()))]
        with _altered(mysql, "t") as end:
            with monkeypatch.context() as patch:
                patch.setattr(tables, "_DDL_SECONDS", 0.3)
                with pytest.raises(SourceLost, match="raw_t/t: another session has been altering"):
                    reader.columns(source.table("t"), ())
                with pytest.raises(SourceLost, match="raw_t/t: another session has been altering"):
                    reader.warnings(source.table("t"))
            threading.Timer(0.5, end).start()
            assert [column.name for column in reader.columns(source.table("t"), ())] == ["id"]
        assert reader.warnings(source.table("t")) == []
        with pytest.raises(MissingTable):
            reader.columns(snapshot("nowhere", "id"), ())


def test_views_do_not_keep_a_column_from_growing(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """airbytehq/airbyte#71347: staging models are views on raw. INT to BIGINT stopped the table."""
    tables = (captured("t", "id", history=True), snapshot("s", "id"))
    source = source_of(*tables)
    for table in ("t", "s"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT, amount DECIMAL(5,2), w VARCHAR(5))",
            f"INSERT INTO {table} VALUES (1, 1, 1.5, '7')",
        )
    load(source, mysql)
    with postgres.connect(autocommit=True) as session:
        session.execute('CREATE SCHEMA staging; CREATE SCHEMA "A b"; CREATE ROLE reader_of_views')
        for table in ("t", "s"):
            session.execute(
                f"CREATE VIEW staging.{table} WITH (security_barrier = true) AS SELECT id, v, "
                f"amount, w FROM raw_t.{table} WHERE NOT _deleted;"
                f'CREATE VIEW "A b"."on {table}" AS SELECT a.*, \'50%\' AS "100%" FROM '
                f"staging.{table} a JOIN raw_t.{table} b USING (id);"
                f"CREATE VIEW staging.other_{table} AS SELECT id FROM raw_t.{table};"
                f"GRANT SELECT ON staging.{table} TO PUBLIC; "
                f'GRANT SELECT (id) ON "A b"."on {table}" TO reader_of_views WITH GRANT OPTION;'
                f"ALTER VIEW staging.{table} OWNER TO reader_of_views;"
                f"COMMENT ON VIEW staging.{table} IS 'it''s a view';"
                f"COMMENT ON COLUMN staging.{table}.v IS 'a column'"
            )
        session.execute("CREATE VIEW staging.versions AS SELECT id, v FROM raw_t.t_history")
        session.execute("GRANT USAGE ON SCHEMA raw_t TO reader_of_views")
        session.execute("GRANT SELECT ON ALL TABLES IN SCHEMA raw_t TO reader_of_views")
        before = _views(session)
        try:
            for table in ("t", "s"):
                run(
                    mysql,
                    f"ALTER TABLE {table} MODIFY v BIGINT, MODIFY amount DECIMAL(9,4)",
                    f"INSERT INTO {table} VALUES (2, 5000000000, 12345.6789, NULL)",
                )
            run(mysql, "ALTER TABLE t MODIFY w BIGINT")
            load(source, mysql)
            assert _views(session) == before
            for table in ("t", "s"):
                assert session.execute(
                    f'SELECT v, amount::text, "100%" FROM "A b"."on {table}" ORDER BY id'
                ).fetchall() == [(1, "1.5000", "50%"), (5000000000, "12345.6789", "50%")]
            assert session.execute("SELECT w FROM staging.t").fetchall() == [(7,), (None,)]
            # What cannot be put aside keeps it back, and the message says what helps.
            session.execute(
                "CREATE MATERIALIZED VIEW staging.copied AS SELECT id FROM raw_t.t WHERE w > 0;"
                "CREATE MATERIALIZED VIEW staging.copied_s AS SELECT v FROM staging.s"
            )
            run(mysql, "ALTER TABLE t MODIFY w DECIMAL(30,0)", "INSERT INTO t (id) VALUES (3)")
            run(mysql, "ALTER TABLE s MODIFY v DECIMAL(30,0)")
            with pytest.raises(LoadsFailed, match=r"run `softcart resnapshot t\.t`") as failed:
                load(source, mysql)
            assert "copied_s" in str(failed.value.failures["s"])
            assert "load again" in str(failed.value.failures["s"])
            session.execute("DROP MATERIALIZED VIEW staging.copied, staging.copied_s")
        finally:
            session.execute("DROP OWNED BY reader_of_views CASCADE; DROP ROLE reader_of_views")


def _views(session: psycopg.Connection) -> list[tuple]:
    """Every view of the database without the types of its columns."""
    return session.execute(
        "SELECT v.oid::regclass::text, pg_get_viewdef(v.oid), relowner::regrole::text, reloptions,"
        " coalesce(relacl, acldefault('r', relowner))::text,"
        " (SELECT array_agg(attname || ' ' || coalesce(attacl::text, '') || ' ' || "
        "coalesce(col_description(attrelid, attnum), '') ORDER BY attnum) FROM pg_attribute WHERE "
        "attrelid = v.oid), obj_description(v.oid, 'pg_class')"
        " FROM pg_class v WHERE relkind = 'v' AND relnamespace::regnamespace::text IN "
        "('staging', '\"A b\"') ORDER BY 1"
    ).fetchall()


@pytest.fixture
def reading(any_mysql: MySQLConnection) -> Iterator[MySQLConnection]:
    """The database over a user that has the privileges of the documentation, and no others."""
    user = f"u{any_mysql.database[-8:]}"
    run(
        any_mysql,
        f"CREATE USER {user} IDENTIFIED BY 'x'",
        f"GRANT SELECT ON {any_mysql.database}.* TO {user}",
        f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}",
    )
    yield replace(any_mysql, user=user, password="x")
    run(any_mysql, f"DROP USER {user}")


def test_a_reader_sees_keys_and_cascades(
    any_mysql: MySQLConnection,
    reading: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
) -> None:
    """With the documented grants, MariaDB's information_schema shows no foreign keys: children of a
    cascade were captured, and rows that it deleted stayed.
    """
    tables = ("deleted", "set_null", "updated", "restricted")
    effects = ("ON DELETE CASCADE", "ON DELETE SET NULL", "ON UPDATE CASCADE", "ON DELETE RESTRICT")
    run(any_mysql, "CREATE TABLE parent (id INT PRIMARY KEY)")
    for table, effect in zip(tables, effects, strict=True):
        run(
            any_mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY COMMENT 'FOREIGN KEY x ON DELETE CASCADE',"
            " `ON DELETE CASCADE` INT, CONSTRAINT "
            f"`{table} FOREIGN KEY` FOREIGN KEY (`ON DELETE CASCADE`) REFERENCES parent (id) "
            f"{effect})",
        )
    found = {table.name: (table.key, table.strategy) for table in discover("t", reading).tables}
    with closing(any_mysql.connect()) as connection:
        changed = "snapshot" if "MariaDB" in connection.get_server_info() else "cdc"
    assert found == {
        **dict.fromkeys(("parent", "restricted"), (("id",), "cdc")),
        **dict.fromkeys(("deleted", "set_null", "updated"), (("id",), changed)),
    }
    results = load(source_of(*(captured(table, "id") for table in tables)), reading)
    for table in tables:
        expected = changed == "snapshot" and table != "restricted"
        assert any("cascades" in each for each in results[table].warnings) == expected


def test_a_long_name_without_history(
    any_mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """A table of 60 characters was refused for the name of a history that it does not have.

    The names that `discover` gives are shorter: the names of staging models contain them.
    """
    name, longest = "n" * 60, "m" * 64
    for table in (name, longest):
        run(any_mysql, f"CREATE TABLE {table} (id INT PRIMARY KEY)", f"INSERT {table} VALUES (1)")
    found = discover("t", any_mysql).tables
    assert [table.name for table in found] == ["m" * 50, "n" * 50]
    source = source_of(snapshot(name, "id"), *found)
    load(source, any_mysql)
    for table in source.tables:
        assert raw_rows(postgres, table.name) == [(1,)]
    with pytest.raises(LoadsFailed, match=f"the name '{name}_history' cannot be used"):
        load(source_of(snapshot(name, "id", history=True)), any_mysql)


def test_a_key_that_ignores_case_is_told_and_can_be_folded(
    any_mysql: MySQLConnection, postgres: PostgresConnection
) -> None:
    """112 stock codes of a real shop met nothing: MySQL compared them without case."""
    run(
        any_mysql,
        "CREATE TABLE t (code VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY COMMENT 'Code.', "
        "v VARCHAR(20) COLLATE utf8mb4_general_ci)",
        "CREATE TABLE exact (code VARCHAR(20) COLLATE utf8mb4_bin PRIMARY KEY)",
    )
    source = discover("t", any_mysql)
    described = {
        (table.name, column.name): column.description
        for table in source.tables
        for column in table.columns
    }
    assert described == {
        ("t", "code"): "Code. Here utf8mb4_general_ci ignores case, in PostgreSQL nothing does: "
        "join on folded_key('code').",
        ("t", "v"): "",
        ("exact", "code"): "",
    }
    macros = (REPOSITORY / "dbt_project" / "macros" / "keys.sql").read_text()
    template = jinja2.Environment().from_string(macros + "{{ folded_key('code') }}")
    codes = "('A1', 1), ('a1 ', 2), ('b1', 3), (' a1', 4), ('a2', 5)"
    run(any_mysql, "CREATE TABLE codes (code VARCHAR(20) COLLATE utf8mb4_general_ci, n INT)")
    run(any_mysql, f"INSERT INTO codes VALUES {codes}")
    same = mysql_rows(any_mysql, "codes x JOIN codes y ON x.code = y.code AND x.n < y.n")
    assert same == query(
        postgres,
        f"WITH codes (code, n) AS (VALUES {codes}), folded AS (SELECT *, {template.render()} AS "
        "key FROM codes) SELECT x.code, x.n, y.code, y.n FROM folded x JOIN folded y ON x.key = "
        "y.key AND x.n < y.n",
    )
