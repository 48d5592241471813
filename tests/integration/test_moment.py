"""Readers know the position of their rows exactly, and do not hold up the source's writers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pymysql
import pytest
from support.ingestion import load_all, mysql_rows, raw_rows, run, source_of
from support.mysql97 import RealMySQL
from support.own_servers import own_server

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mysql import moment
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.reader import snapshot
from softcart_assets.ingestion.connectors.mysql.session import Session, current_position
from softcart_assets.ingestion.connectors.mysql.state import current_state
from softcart_assets.ingestion.errors import LoadsFailed, MissingGrant, SourceLost
from softcart_assets.ingestion.proof.verify import compare
from tests.integration.test_capture import cdc, until

ORDERS = source_of(cdc("orders", "id"), cdc("keyless"))
TABLES = (
    "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20))",
    "INSERT INTO orders VALUES (1, 'a'), (2, 'b')",
    "CREATE TABLE keyless (n INT)",
    "CREATE TABLE other (id INT)",
    "INSERT INTO other VALUES (1)",
)


@contextmanager
def in_thread(work: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextmanager
def writing(mysql: MySQLConnection, pause: float = 0.02) -> Iterator[list[float]]:
    """Write in the background. Gives the times that the writes took, in seconds."""
    stop, waits = threading.Event(), []

    def write() -> None:
        number = 0
        with mysql.connect(autocommit=True) as session:
            while not stop.wait(pause):
                number += 1
                started = time.monotonic()
                session.query(f"REPLACE INTO orders VALUES (9, '{number}')")
                waits.append(time.monotonic() - started)
                session.query(f"INSERT INTO keyless VALUES ({number})")

    with in_thread(write):
        try:
            yield waits
        finally:
            stop.set()


@pytest.mark.parametrize("is_first", [True, False], ids=["first", "followed"])
def test_a_load_beside_a_long_query_holds_up_no_writer(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str, is_first: bool
) -> None:
    """debezium/debezium#177, ClickHouse/ClickHouse#23541, alestic/ec2-consistent-snapshot#23: a
    global read lock waits for the query, and all writers wait for the lock.
    """
    run(any_mysql, *TABLES)
    if not is_first:
        load_all(ORDERS, any_mysql, postgres, lake)

    with any_mysql.connect() as reporting, any_mysql.connect(autocommit=True) as other:

        def report() -> None:
            with suppress(pymysql.MySQLError):  # the end of the test ends the session
                reporting.query("SELECT SLEEP(600) FROM other")

        def is_reporting() -> bool:
            with other.cursor() as cursor:
                cursor.execute(
                    "SELECT count(*) FROM information_schema.processlist"
                    f" WHERE id = {number} AND info LIKE '%SLEEP(600)%'"
                )
                return cursor.fetchone() == (1,)

        number = reporting.thread_id()
        with in_thread(report):
            try:
                with writing(any_mysql) as waits:
                    until(is_reporting)
                    load_all(ORDERS, any_mysql, postgres, lake)
                    assert is_reporting()
            finally:
                other.query(f"KILL {number}")
    assert max(waits) < 1


def assert_loads_are_exact(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, rounds: int = 6
) -> None:
    """Whatever the source states at its position, raw has there."""
    with writing(mysql, pause=0.001):
        for _ in range(rounds):
            results = load_all(ORDERS, mysql, postgres, lake)
            for name, result in results.items():
                assert result.asked_position == result.position
                assert compare(ORDERS, postgres, name).is_equal
            time.sleep(0.1)
    load_all(ORDERS, mysql, postgres, lake)
    assert raw_rows(postgres, "keyless") == mysql_rows(mysql, "keyless")


def test_the_position_is_that_of_the_rows_while_others_write(
    any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(any_mysql, *TABLES)
    assert_loads_are_exact(any_mysql, postgres, lake)


@pytest.mark.parametrize("way", ["waits", "locks"])
def test_a_logged_transaction_that_nobody_sees_yet_is_not_missed(
    mysql97: MySQLConnection, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The log's end is the same before and after the snapshot, which lacks the last rows."""
    run(mysql97, *TABLES)
    if way == "locks":
        monkeypatch.setattr(moment, "commits_query", lambda session: None)
    before = current_position(mysql97)
    run(mysql97, "SET GLOBAL binlog_group_commit_sync_delay = 500000")
    try:
        with in_thread(lambda: run(mysql97, "INSERT INTO keyless VALUES (1)")):
            until(lambda: current_position(mysql97) > before)
            assert mysql_rows(mysql97, "keyless") == []
            with snapshot(ORDERS, mysql97, 3) as readers:
                assert len(readers) == 3
                for reader in readers:
                    assert reader.is_exact
                    assert reader.session.query("SELECT n FROM keyless") == [("1",)]
    finally:
        run(mysql97, "SET GLOBAL binlog_group_commit_sync_delay = 0")


def test_the_end_of_a_log_has_the_gtids_of_all_that_is_in_it(mysql97: MySQLConnection) -> None:
    """Otherwise another server would send the last transactions again."""
    run(mysql97, *TABLES)
    with closing(Session(mysql97)) as session:
        before = current_state(session)
        run(mysql97, "SET GLOBAL binlog_group_commit_sync_delay = 500000")
        try:
            with in_thread(lambda: run(mysql97, "INSERT INTO keyless VALUES (1)")):
                until(lambda: current_position(mysql97) > before.position)
                found = current_state(session)
        finally:
            run(mysql97, "SET GLOBAL binlog_group_commit_sync_delay = 0")
        (executed,) = session.query("SELECT @@GLOBAL.gtid_executed")[0]
        assert found.gtids == GtidSet(str(executed)) != before.gtids


WITHOUT_GTIDS = ("--gtid-mode=OFF", "--enforce-gtid-consistency=OFF")


def test_without_gtids_performance_schema_shows_commits(
    home: Path, postgres: PostgresConnection, lake: str
) -> None:
    """RDS has no GTIDs by default, and does not grant RELOAD."""
    with own_server(RealMySQL, home, *WITHOUT_GTIDS, "--performance-schema=ON") as server:
        admin = server.connection()
        run(
            admin,
            *TABLES,
            "CREATE USER reader@'%' IDENTIFIED BY 'secret'",
            "GRANT SELECT ON shop.* TO reader@'%'",
            "GRANT SELECT ON performance_schema.* TO reader@'%'",
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader@'%'",
        )
        reader = replace(admin, user="reader", password="secret")
        with writing(admin):
            for _ in range(3):
                results = load_all(ORDERS, reader, postgres, lake)
                assert all(compare(ORDERS, postgres, name).is_equal for name in results)
        before = current_position(admin)
        run(admin, "SET GLOBAL binlog_group_commit_sync_delay = 500000")
        with in_thread(lambda: run(admin, "INSERT INTO keyless VALUES (-1)")):
            until(lambda: current_position(admin) > before)
            with snapshot(ORDERS, reader, 1) as [opened]:
                assert opened.session.query("SELECT n FROM keyless WHERE n < 0") == [("-1",)]


def test_without_any_sign_of_commits_only_a_first_copy_locks(
    home: Path, postgres: PostgresConnection, lake: str
) -> None:
    with own_server(RealMySQL, home, *WITHOUT_GTIDS) as server:
        admin = server.connection()
        run(
            admin,
            *TABLES,
            "CREATE USER reader@'%' IDENTIFIED BY 'secret'",
            "GRANT SELECT ON shop.* TO reader@'%'",
            "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO reader@'%'",
        )
        reader = replace(admin, user="reader", password="secret")
        with pytest.raises(MissingGrant, match=r"GRANT LOCK TABLES ON `shop`.*gtid_mode=ON"):
            load_all(ORDERS, reader, postgres, lake)
        run(admin, "GRANT LOCK TABLES ON shop.* TO reader@'%'")
        with admin.connect() as changing, writing(admin) as waits:
            changing.query("INSERT INTO orders VALUES (3, 'open')")
            with pytest.raises(SourceLost, match="was open for more than 1 s"):
                load_all(ORDERS, reader, postgres, lake)
            changing.commit()
            results = load_all(ORDERS, reader, postgres, lake)
            assert "the source was not asked" in str(results["orders"].warnings)
            run(admin, "REVOKE LOCK TABLES ON shop.* FROM reader@'%'")
            # Rows exist, so nothing is locked, and no privilege is missed.
            changing.query("INSERT INTO orders VALUES (4, 'open')")
            load_all(ORDERS, reader, postgres, lake)
            changing.commit()
            # An order to read all rows needs their position.
            with pytest.raises((MissingGrant, LoadsFailed), match="GRANT LOCK TABLES"):
                load_all(ORDERS, reader, postgres, lake, full=True)
        assert max(waits) < 1.5
        load_all(ORDERS, reader, postgres, lake)
        for table in ("orders", "keyless"):
            assert raw_rows(postgres, table) == mysql_rows(admin, table)
        run(admin, "GRANT LOCK TABLES ON shop.* TO reader@'%'")
        results = load_all(ORDERS, reader, postgres, lake, full=True)
        assert all(compare(ORDERS, postgres, name).is_equal for name in results)
