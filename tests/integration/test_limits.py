"""What PostgreSQL cannot hold stops its own table only, and our own names are in nobody's
way.
"""

from __future__ import annotations

import re

import psycopg
import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import resnapshot
from softcart_assets.ingestion.captured import Captured
from softcart_assets.ingestion.connectors.mongodb.columns import DOCUMENT, ID_TYPE
from softcart_assets.ingestion.errors import IngestionError, LoadsFailed
from softcart_assets.ingestion.sinks.failures import explain
from softcart_assets.ingestion.sinks.merge import RawSink
from softcart_assets.ingestion.sinks.raw_schema import RESERVED
from softcart_assets.lines.model import Table
from tests.integration.test_capture import cdc, in_lake, streaming, until
from tests.support.ingestion import load_all, mysql_rows, query, raw_rows, run, source_of

SOURCE = source_of(cdc("bad", "id"), cdc("good", "id"))
GOOD = "CREATE TABLE good (id INT PRIMARY KEY)"
_WIDE = ", ".join(f"c{n} BIGINT UNSIGNED" for n in range(700))
_LONG = ", ".join(f"SHA2('{n}', 512)" for n in range(48))
TABLES = {
    "wide row": (
        f"id INT PRIMARY KEY, {_WIDE}",
        f"1{', 18446744073709551615' * 700}",
        r"a row is wider than PostgreSQL allows \(.*declare a view",
    ),
    "long key": (
        "id VARBINARY(3072) PRIMARY KEY",
        f"UNHEX(CONCAT({_LONG}))",
        r"a value of the declared key \(id\) is longer than PostgreSQL can index",
    ),
}


@pytest.fixture(params=TABLES)
def beyond(request: pytest.FixtureRequest, mysql: MySQLConnection) -> tuple[str, str]:
    """An empty table `bad` beside `good`: the insertion that PostgreSQL refuses, and what is told
    of it. singer-io/tap-hubspot#262 (wide rows), ooni/pipeline#139 (long keys).
    """
    columns, row, told = TABLES[request.param]
    run(mysql, f"CREATE TABLE bad ({columns})", GOOD)
    return f"INSERT INTO bad VALUES ({row})", told


def _failures(*arguments: object, **options: object) -> dict[str, Exception]:
    with pytest.raises(LoadsFailed) as failed:
        load_all(*arguments, **options)  # type: ignore[arg-type]
    return dict(failed.value.failures)


def test_a_row_of_the_log_beyond_the_limits_stops_its_table(
    beyond: tuple[str, str], mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    insertion, told = beyond
    load_all(SOURCE, mysql, postgres, lake)
    run(mysql, insertion, "INSERT INTO good VALUES (1)")
    failures = _failures(SOURCE, mysql, postgres, lake)
    assert failures.keys() == {"bad"}
    assert re.search(f"raw_t/bad: {told}", str(failures["bad"]))
    assert query(postgres, "SELECT id FROM raw_t.good") == [(1,)]
    # Once the row is gone, the table goes on.
    run(mysql, "DELETE FROM bad")
    resnapshot(SOURCE, mysql, postgres, lake, "bad")
    run(mysql, "INSERT INTO good VALUES (2)")
    assert load_all(SOURCE, mysql, postgres, lake)["good"].total == 2


def test_a_row_of_the_first_copy_beyond_the_limits_stops_its_table(
    beyond: tuple[str, str], mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    insertion, told = beyond
    run(mysql, insertion, "INSERT INTO good VALUES (1)")
    failures = _failures(SOURCE, mysql, postgres, lake)
    assert failures.keys() == {"bad"}
    assert re.search(told, str(failures["bad"]))
    assert query(postgres, "SELECT id FROM raw_t.good") == [(1,)]


def test_a_row_that_is_read_again_beyond_the_limits_stops_its_table(
    beyond: tuple[str, str], mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    insertion, told = beyond
    load_all(SOURCE, mysql, postgres, lake)
    with streaming(SOURCE, mysql, postgres, lake) as status:
        # The log does not have this row, so only reading again brings it.
        run(mysql, "SET sql_log_bin = 0", insertion)
        with pytest.raises(IngestionError, match=f"{told}|has stopped"):
            resnapshot(SOURCE, mysql, postgres, lake, "bad")
        run(mysql, "INSERT INTO good VALUES (1)")
        until(lambda: query(postgres, "SELECT id FROM raw_t.good") == [(1,)])
        assert status.tables["good"][0] == "live"
    assert query(postgres, "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'reread%'") == [
        (0,)
    ]


def test_columns_named_like_parts_of_our_statements(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Without a key, the merge counts rows in a query of its own."""
    names = [
        "position",
        "count",
        "row",
        "hash",
        "number",
        "s",
        "r",
        "gone",
        "found",
        "generate_series",
        "a",
        "staged",
    ]
    definitions = ", ".join(f"`{name}` VARCHAR(9)" for name in names)
    source = source_of(cdc("t"), cdc("keyed", "_number"))
    run(
        mysql,
        f"CREATE TABLE t ({definitions})",
        f"CREATE TABLE keyed (_number INT PRIMARY KEY, {definitions})",
    )
    load_all(source, mysql, postgres, lake)
    values = ", ".join(f"'{name[:5]}'" for name in names)
    run(
        mysql,
        f"INSERT INTO t VALUES ({values}), ({values}), ({values})",
        f"INSERT INTO keyed VALUES (1, {values}), (2, {values})",
        "DELETE FROM keyed WHERE _number = 2",
    )
    load_all(source, mysql, postgres, lake)
    run(mysql, "DELETE FROM t LIMIT 1")
    load_all(source, mysql, postgres, lake)
    for table in ("t", "keyed"):
        assert raw_rows(postgres, table) == mysql_rows(mysql, table)


def test_every_column_of_ours_is_reserved(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """A source's column of such a name would be taken for ours."""
    source = source_of(cdc("t", "id", history=True), cdc("keyless"))
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE keyless (id INT)")
    load_all(source, mysql, postgres, lake)
    run(mysql, "INSERT INTO t VALUES (1)", "INSERT INTO keyless VALUES (1)")
    load_all(source, mysql, postgres, lake)
    with postgres.connect() as connection:
        captured = Captured(source, connection)
        sink = RawSink(captured, connection, source)
        for table in captured.read():
            sink.begin(table)
            raw = sink.staged[table.name].raw
            raw.stage(table.columns)
            raw.hold(table.columns, "SELECT 1 AS entry, '{1}'::text[] AS key, NULL AS cursor_value,"
                     " true AS is_released, true AS is_seen")  # fmt: skip
        rows = connection.execute(
            "SELECT DISTINCT attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
            " WHERE relkind = 'r' AND attnum <> 0 AND (relnamespace = 'raw_t'::regnamespace"
            " OR relnamespace = pg_my_temp_schema())"
        ).fetchall()
    ours = {name for (name,) in rows} | {
        name for row in in_lake(postgres, lake, "t") for name in row
    }
    assert {"_sequence", "_last", "_held_seen", "_is_new", "_version", "_load_id", "ctid"} < ours
    assert ours - {"id"} <= RESERVED


def test_documents_with_fields_named_like_our_columns_are_loaded(
    mongo, postgres: PostgresConnection, lake: str
) -> None:
    with mongo.connect() as client:
        client[mongo.database].docs.insert_one({"_id": 1, **dict.fromkeys(RESERVED, 1), "n": 1})
    source = source_of(Table("docs", "", ("_id",), "snapshot", (), history=True), kind="mongodb")
    result = load_all(source, mongo, postgres, lake)["docs"]
    assert (result.total, result.quarantined) == (1, 0)
    assert [column["name"] for column in result.columns] == [
        "_id",
        ID_TYPE.name,
        DOCUMENT.name,
        "n",
    ]
    assert query(postgres, "SELECT document ->> '_sequence' FROM raw_t.docs") == [("1",)]


def test_only_two_equal_keys_of_the_table_itself_are_told_as_such(
    postgres: PostgresConnection,
) -> None:
    def told(table: str) -> str:
        with postgres.connect() as connection:
            connection.execute(
                "CREATE SCHEMA raw_t; CREATE TABLE raw_t.t (id int PRIMARY KEY);"
                "CREATE TABLE raw_t.t_history (id int PRIMARY KEY)"
            )
            with pytest.raises(psycopg.errors.UniqueViolation) as error:
                connection.execute(f"INSERT INTO raw_t.{table} VALUES (1), (1)".encode())
            connection.rollback()
        return str(explain(error.value, "raw_t/t", ("id",)))

    assert "the declared key (id) is not unique at the source" in told("t")
    assert "refused the rows" in told("t_history")
