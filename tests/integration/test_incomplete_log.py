"""Logs that do not contain all changes: nothing is lost silently, and nothing else stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pymysql
import pytest
from support.ingestion import load_all, mysql_rows, query, raw_rows, run, source_of
from support.own_servers import PRODUCTS, own_server

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import resnapshot
from softcart_assets.ingestion.connectors.mysql.privileges import examine
from softcart_assets.ingestion.errors import IngestionError, LoadsFailed
from softcart_assets.ingestion.load import changed_tables, loaded_positions
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.stack.mysql import MySQL
from tests.integration.test_capture import assert_equal, cdc, streaming, until

ORDERS = source_of(cdc("orders", "id"))
TABLE = (
    "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20))",
    "INSERT INTO orders VALUES (1, 'a'), (2, 'b')",
)


def blocks(connection: MySQLConnection) -> str:
    return "\n".join(found.text for found in examine(ORDERS, connection) if found.level == "blocks")


def assert_refused(
    connection: MySQLConnection, postgres: PostgresConnection, lake: str, why: str
) -> None:
    """The doctor, a load, a stream and the sensor all say why."""
    assert why in blocks(connection)
    with pytest.raises(IngestionError, match=why):
        load_all(ORDERS, connection, postgres, lake)
    with (
        pytest.raises(IngestionError, match=why),
        streaming(ORDERS, connection, postgres, lake),
    ):
        pass
    with pytest.raises(IngestionError, match=why):
        changed_tables(ORDERS, connection, {"orders": "binlog.000001:000000000004"})


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_filtered_log_is_refused(
    home: Path, postgres: PostgresConnection, lake: str, product: type[MySQL]
) -> None:
    """PeerDB-io/peerdb#3233, rusuly/MySqlCdc#10: a filtered log looks as if nothing changed."""
    with own_server(product, home) as server:
        shop = server.connection()
        run(shop, *TABLE)
        for option, value in (("binlog-ignore-db=shop", "ignored"), ("binlog-do-db=other", "no")):
            assert blocks(shop) == ""
            load_all(ORDERS, shop, postgres, lake)
            server.restart(f"--{option}")
            assert_refused(shop, postgres, lake, option)
            run(shop, f"UPDATE orders SET v = '{value}'")
            assert_refused(shop, postgres, lake, option)
            server.restart()
            # What is not in the log is found without anybody's help.
            load_all(ORDERS, shop, postgres, lake)
            assert raw_rows(postgres, "orders") == [(1, value), (2, value)]


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_replica_that_does_not_log_is_refused(
    home: Path, postgres: PostgresConnection, lake: str, product: type[MySQL]
) -> None:
    """rusuly/MySqlCdc#10: on MariaDB this is the default."""
    with own_server(product, home) as primary:
        run(primary.connection(), "CREATE DATABASE elsewhere")
        options = ("--server-id=2", "--log-slave-updates=OFF")
        if product is not MySQL:
            options = ("--server-id=2", "--log-replica-updates=OFF")
        with own_server(product, home, *options) as server:
            replica = server.connection()
            run(replica, *TABLE)
            assert blocks(replica) == ""
            follow(replica, primary.connection(), is_mariadb=product is MySQL)
            assert_refused(replica, postgres, lake, "log_replica_updates=OFF")
            # A reader with the documented grants may not see on MariaDB what it replicates from.
            run(
                replica,
                "SET sql_log_bin = 0",
                "CREATE USER reader@'%' IDENTIFIED BY 'secret'",
                "GRANT SELECT ON shop.* TO reader@'%'",
                "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader@'%'",
            )
            reader = replace(replica, user="reader", password="secret")
            until(lambda: "log_replica_updates=OFF" in blocks(reader))
            server.restart("--server-id=2", options[1].replace("OFF", "ON"))
            assert blocks(replica) == ""
            load_all(ORDERS, replica, postgres, lake)
            assert_equal(replica, postgres, "orders")


def follow(replica: MySQLConnection, primary: MySQLConnection, *, is_mariadb: bool) -> None:
    """Make a server the replica of another one."""
    word, start = ("MASTER", "START SLAVE") if is_mariadb else ("SOURCE", "START REPLICA")
    change = "CHANGE MASTER TO" if is_mariadb else "CHANGE REPLICATION SOURCE TO"
    more = "" if is_mariadb else ", GET_SOURCE_PUBLIC_KEY = 1"
    run(
        replica,
        f"{change} {word}_HOST = '{primary.host}', {word}_PORT = {primary.port}, "
        f"{word}_USER = '{primary.user}', {word}_PASSWORD = '{primary.password}'{more}",
        start,
    )


STATEMENTS = {
    "a table": ["UPDATE orders SET v = 'z' WHERE id = 1"],
    "a view": ["UPDATE w SET v = 'z' WHERE id = 1"],
    "all of a view": ["DELETE FROM w"],
    "a trigger": ["INSERT INTO other VALUES (1)"],
    "a function": ["SELECT f()"],
    "a file": ["LOAD DATA LOCAL INFILE '{file}' INTO TABLE w"],
    "a new table": [
        "DROP TABLE orders",
        "CREATE TABLE orders (PRIMARY KEY (id)) SELECT 5 id, 'e' v",
    ],
}


@pytest.mark.parametrize("case", STATEMENTS)
def test_rows_changed_by_a_logged_statement_are_read_again(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, tmp_path: Path, case: str
) -> None:
    """dbtrail/dbtrail#776, apache/flink-cdc#1454: nobody noticed what views and triggers
    changed.
    """
    source = source_of(cdc("orders", "id"), cdc("apart", "id"))
    run(
        any_mysql,
        *TABLE,
        "CREATE TABLE apart (id INT PRIMARY KEY)",
        "CREATE VIEW w AS SELECT * FROM orders",
        "CREATE TABLE other (id INT)",
        "CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW UPDATE orders SET v = 't'",
        "SET GLOBAL log_bin_trust_function_creators = ON",
        "CREATE FUNCTION f() RETURNS INT BEGIN UPDATE orders SET v = 'f'; RETURN 1; END",
    )
    load_all(source, any_mysql, postgres, lake)
    file = tmp_path / "rows"
    file.write_text("7\tg\n")
    with any_mysql.connect(local_infile=True, autocommit=True) as session:
        if case == "a new table" and "MariaDB" not in session.get_server_info():
            pytest.skip("MySQL with GTIDs refuses that statement in this form")
        session.query("SET SESSION binlog_format = 'STATEMENT'")
        for statement in STATEMENTS[case]:
            session.query(statement.format(file=file))
        session.query("SET GLOBAL log_bin_trust_function_creators = OFF")
    since = loaded_positions(postgres, source)
    assert "orders" in changed_tables(source, any_mysql, since).tables
    if case == "a new table":
        # A table that comes anew is read again by itself.
        load_all(source, any_mysql, postgres, lake)
    else:
        with pytest.raises(LoadsFailed, match=r"`softcart resnapshot t\.orders`") as failed:
            load_all(source, any_mysql, postgres, lake)
        # A trigger or a view can change any table.
        assert set(failed.value.failures) == {"orders", "apart"}
        assert "SET GLOBAL binlog_format = ROW" in str(failed.value)
        for table in ("orders", "apart"):
            resnapshot(source, any_mysql, postgres, lake, table)
    assert_equal(any_mysql, postgres, "orders", "apart")
    run(any_mysql, "INSERT INTO orders VALUES (9, 'i')", "INSERT INTO apart VALUES (1)")
    load_all(source, any_mysql, postgres, lake)
    assert_equal(any_mysql, postgres, "orders", "apart")


def test_statements_of_other_databases_stop_nothing(
    mysql97: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """MySQL logs which databases a statement uses, also through triggers."""
    here, there = mysql97.database, f"{mysql97.database}_x"
    run(mysql97, *TABLE, f"CREATE DATABASE {there}")
    try:
        run(
            mysql97,
            f"CREATE TABLE {there}.sums (n INT)",
            f"CREATE TABLE {there}.calls (n INT)",
            f"CREATE TRIGGER {there}.tr AFTER INSERT ON {there}.calls FOR EACH ROW "
            f"UPDATE {here}.orders SET v = 'called'",
        )
        load_all(ORDERS, mysql97, postgres, lake)
        run(
            mysql97,
            "SET SESSION binlog_format = 'STATEMENT'",
            f"REPLACE INTO {there}.sums VALUES ((SELECT 1)) /* {here}.orders */",
        )
        load_all(ORDERS, mysql97, postgres, lake)
        run(
            mysql97,
            "SET SESSION binlog_format = 'STATEMENT'",
            f"USE {there}",
            "INSERT INTO calls VALUES (1)",
        )
        with pytest.raises(LoadsFailed, match="holds as text"):
            load_all(ORDERS, mysql97, postgres, lake)
    finally:
        run(mysql97, f"DROP DATABASE {there}")


SESSIONS = {
    "binlog_row_image = 'MINIMAL'": "binlog_row_image = FULL",
    "binlog_row_image = 'NOBLOB'": "binlog_row_image = FULL",
    "binlog_row_value_options = 'PARTIAL_JSON'": "binlog_row_value_options = ''",
}


@pytest.fixture
def two(any_mysql: MySQLConnection) -> MySQLConnection:
    run(
        any_mysql,
        "CREATE TABLE good (id INT PRIMARY KEY, n INT)",
        "INSERT INTO good VALUES (1, 0), (2, 0)",
        "CREATE TABLE bad (id INT PRIMARY KEY, n INT, t TEXT, j JSON)",
        "INSERT INTO bad VALUES (1, 0, 'one', '[1, 2]'), (2, 0, 'two', '{}')",
    )
    return any_mysql


TWO = source_of(cdc("good", "id"), cdc("bad", "id"))


def partly_logged(mysql: MySQLConnection, setting: str, statements: Sequence[str]) -> None:
    try:
        run(mysql, f"SET SESSION {setting}", "START TRANSACTION", *statements, "COMMIT")
    except pymysql.MySQLError as error:
        pytest.skip(f"a setting of MySQL: {error}")


@pytest.mark.parametrize("setting", SESSIONS)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["run", "stream"])
def test_a_session_that_logs_parts_of_rows_stops_one_table(
    two: MySQLConnection, postgres: PostgresConnection, lake: str, setting: str, is_streamed: bool
) -> None:
    load_all(TWO, two, postgres, lake)
    # Whole rows of both tables, then parts of one, in one transaction.
    partly_logged(
        two,
        setting,
        [
            "INSERT INTO good VALUES (0, 0)",
            "INSERT INTO bad VALUES (3, 0, 'three', '[]')",
            "UPDATE bad SET n = 1, j = JSON_SET(j, '$[0]', 3) WHERE id = 1",
        ],
    )
    run(
        two,
        # In one transaction. A change that kept the position of the one before would be dropped.
        "UPDATE good SET n = n + 1 WHERE id < 2",
        "INSERT INTO bad VALUES (4, 4, 'four', NULL)",
    )
    told = rf"SET GLOBAL {SESSIONS[setting]} .*Then run `softcart resnapshot t\.bad`"
    if is_streamed:
        with streaming(TWO, two, postgres, lake) as status:
            until(lambda: status.tables.get("bad", ("", ""))[0] == "stopped")
            until(lambda: raw_rows(postgres, "good") == mysql_rows(two, "good"))
            assert status.problem is None
            resnapshot(TWO, two, postgres, lake, "bad")
            run(two, "UPDATE bad SET t = 'whole again'")
            until(lambda: query(postgres, "SELECT t FROM raw_t.bad") == [("whole again",)] * 4)
    else:
        with pytest.raises(LoadsFailed, match=told) as failed:
            load_all(TWO, two, postgres, lake)
        assert set(failed.value.failures) == {"bad"}
        assert_equal(two, postgres, "good")
        resnapshot(TWO, two, postgres, lake, "bad")
        run(two, "UPDATE bad SET t = 'whole again'")
    load_all(TWO, two, postgres, lake)
    assert all(compare(TWO, postgres, table.name).is_equal for table in TWO.tables)


def test_rows_without_names_stop_their_table(
    two: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    load_all(TWO, two, postgres, lake)
    run(
        two,
        "SET GLOBAL binlog_row_metadata = 'MINIMAL'",
        "UPDATE bad SET n = 3",
        "SET GLOBAL binlog_row_metadata = 'FULL'",
        "UPDATE good SET n = 3",
    )
    told = r"no column names. .*SET GLOBAL binlog_row_metadata .*`softcart resnapshot t\.bad`"
    with pytest.raises(LoadsFailed, match=told) as failed:
        load_all(TWO, two, postgres, lake)
    assert set(failed.value.failures) == {"bad"}
    resnapshot(TWO, two, postgres, lake, "bad")
    load_all(TWO, two, postgres, lake)
    assert all(compare(TWO, postgres, table.name).is_equal for table in TWO.tables)


def test_the_sensor_notices_that_an_xa_transaction_commits(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """apache/flink-cdc#1239, zendesk/maxwell#1358: its rows were logged long before."""
    source = source_of(cdc("orders", "id"), cdc("apart", "id"))
    run(any_mysql, *TABLE, "CREATE TABLE apart (id INT PRIMARY KEY)")
    load_all(source, any_mysql, postgres, lake)

    def xa(*statements: str) -> None:
        with any_mysql.connect(autocommit=True) as session:
            for statement in statements:
                session.query(statement)

    prepare = (
        "XA START 'x'",
        "INSERT INTO orders VALUES (3, 'c')",
        "XA END 'x'",
        "XA PREPARE 'x'",
    )

    def behind() -> set[str]:
        return set(changed_tables(source, any_mysql, loaded_positions(postgres, source)).tables)

    xa(*prepare)
    load_all(source, any_mysql, postgres, lake)
    assert behind() == set()
    xa("XA COMMIT 'x'")
    # Its rows lie before what is looked at, so it may have changed any table.
    assert behind() == {"orders", "apart"}
    load_all(source, any_mysql, postgres, lake)
    assert_equal(any_mysql, postgres, "orders")
    assert behind() == set()
    xa("DELETE FROM orders WHERE id = 3", *prepare, "XA ROLLBACK 'x'")
    xa(*prepare, "XA COMMIT 'x'")
    assert behind() == {"orders"}
    load_all(source, any_mysql, postgres, lake)
    assert_equal(any_mysql, postgres, "orders")
