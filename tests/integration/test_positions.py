"""Positions where servers order them: PostgreSQL, and MySQL's log when its file numbers get
longer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from support.ingestion import load_all, query, run, source_of
from support.positions import POSITIONS

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.load import changed_tables, loaded_positions
from softcart_assets.ingestion.position import Position, ordered
from tests.integration.test_capture import assert_equal, cdc, streaming, until


@pytest.fixture
def connection(postgres: PostgresConnection) -> Iterator[psycopg.Connection]:
    with postgres.connect(autocommit=True) as opened:
        yield opened


@given(positions=st.lists(POSITIONS, max_size=20))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_postgresql_orders_positions_as_python_does(
    connection: psycopg.Connection, positions: list[Position]
) -> None:
    statement = sql.SQL("SELECT p FROM unnest(%s::text[]) AS p ORDER BY {}").format(
        ordered(sql.SQL("p"))
    )
    rows = connection.execute(statement, ([str(each) for each in positions],)).fetchall()
    assert [Position.parse(text) for (text,) in rows] == sorted(positions)
    for one, two in pairwise(positions):
        comparison = sql.SQL("SELECT {0} < {1}, {0} = {1}").format(
            ordered(sql.Literal(one)), ordered(sql.Literal(two))
        )
        assert connection.execute(comparison).fetchone() == (one < two, one == two)


@pytest.fixture
def long_log(any_mysql: MySQLConnection) -> Iterator[MySQLConnection]:
    """A server whose log file is the last one with a number of six digits."""
    with any_mysql.connect() as session:
        is_mariadb = "MariaDB" in session.get_server_info()
    reset = "RESET MASTER" if is_mariadb else "RESET BINARY LOGS AND GTIDS"
    run(any_mysql, f"{reset} TO 999999")
    yield any_mysql
    run(any_mysql, reset)


@pytest.mark.parametrize("is_streamed", [False, True], ids=["run", "stream"])
def test_the_log_goes_on_after_file_999999(
    long_log: MySQLConnection, postgres: PostgresConnection, lake: str, is_streamed: bool
) -> None:
    """zendesk/maxwell#2251, apache/flink-cdc#4358: file names compared as text end or lose the log
    here.
    """
    source = source_of(cdc("facts", "id", history=True), cdc("keyless"))
    run(
        long_log,
        "CREATE TABLE facts (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE keyless (v INT)",
        "INSERT INTO facts VALUES (1, 1), (2, 2), (3, 3)",
        "INSERT INTO keyless VALUES (1), (1)",
    )
    first = load_all(source, long_log, postgres, lake)
    before = Position.parse(first["facts"].position)
    assert before.number == 999_999
    changes = (
        "UPDATE facts SET v = 20 WHERE id = 2",
        "FLUSH BINARY LOGS",
        "UPDATE facts SET v = 21 WHERE id = 2",
        "DELETE FROM facts WHERE id = 3",
        "INSERT INTO facts VALUES (4, 4)",
        "DELETE FROM keyless LIMIT 1",
        "INSERT INTO keyless VALUES (2)",
    )
    if is_streamed:
        with streaming(source, long_log, postgres, lake) as status:
            run(long_log, *changes)
            until(lambda: query(postgres, "SELECT v FROM raw_t.keyless ORDER BY 1") == [(1,), (2,)])
            assert status.problem is None
            until(lambda: status.lag_bytes is not None)
            assert status.lag_bytes == 0
    else:
        run(long_log, *changes)
        since = loaded_positions(postgres, source)
        assert set(changed_tables(source, long_log, since).tables) == {"facts", "keyless"}
    second = load_all(source, long_log, postgres, lake)
    assert Position.parse(second["facts"].position) > before
    assert Position.parse(second["facts"].position).number == 1_000_000
    assert_equal(long_log, postgres, "facts", "keyless")
    versions = query(postgres, "SELECT v FROM raw_t.facts_history WHERE id = 2 ORDER BY _version")
    assert versions == [(2,), (20,), (21,)]
    since = loaded_positions(postgres, source)
    assert changed_tables(source, long_log, since).tables == {}
    # A truncation empties only what is older, and nothing comes again.
    run(long_log, "TRUNCATE facts", "INSERT INTO facts VALUES (5, 5)")
    load_all(source, long_log, postgres, lake)
    assert_equal(long_log, postgres, "facts", "keyless")
