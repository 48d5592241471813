"""Faults that silently lost or doubled data in other tools, each a test that an engine with that
fault fails.

The docstrings name the project and the number of the report. The servers fail here in one way at a
time, on purpose; for all at random see `torture`.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import psycopg
import pyarrow.parquet as pq
import pytest

from softcart_assets.connections import MySQLConnection, PostgresConnection, ServerUnreachable
from softcart_assets.ingestion.capture.bounded import CapturedLoad, follow_to
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job, Status
from softcart_assets.ingestion.capture.resnapshot import read_again, resnapshot
from softcart_assets.ingestion.connectors.mysql.session import current_position
from softcart_assets.ingestion.errors import (
    IngestionError,
    LoadsFailed,
    SourceLost,
    TableBehind,
)
from softcart_assets.ingestion.proof import statements
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import erase, list_quarantine
from softcart_assets.ingestion.request import LoadRequest
from softcart_assets.ingestion.sinks.changelog import ChangeLog
from softcart_assets.lines.model import Source, Table
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack import Stack
from tests.faults.torture.model import Model
from tests.faults.torture.servers import Proxy
from tests.faults.torture.verdict import Verdict
from tests.support.clock import give_clock, set_clock
from tests.support.ingestion import fill, incremental, load_all, query, run, snapshot, source_of

Load = Callable[..., Any]


def captured(name: str, *key: str) -> Table:
    return Table(name, "", key, "cdc", (), history=bool(key))


DECLARED = {"cdc": captured, "incremental": incremental, "snapshot": snapshot}
CHANGED_AT = (
    "updated_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6)"
)


@pytest.fixture
def load(mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> Load:
    """A bounded run of a source over this test's databases."""

    def load(source: Source, connection: MySQLConnection | None = None, **options):
        return load_all(source, connection or mysql, postgres, lake, **options)

    return load


def assert_same(mysql: MySQLConnection, postgres: PostgresConnection, table: str) -> None:
    """Raw's current rows are the source's, in every column that the source has."""
    with closing(mysql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")
        names = ", ".join(f'"{column[0]}"' for column in cursor.description)
        rows = cursor.fetchall()
    raw = query(postgres, f"SELECT {names} FROM raw_t.{table} WHERE NOT _deleted")
    assert sorted(raw, key=repr) == sorted(rows, key=repr), table


def assert_same_in_lake(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, table: str, *key: str
) -> None:
    """Raw's current rows are the source's, and what the lake's files come to."""
    assert_same(mysql, postgres, table)
    verdict = Verdict(Model([]), mysql, postgres, Path(lake.removeprefix("file://")), source_of())
    with postgres.connect() as verdict.session:
        assert list(verdict.replayed(table, key)) == []


def versions(postgres: PostgresConnection, table: str, columns: str = "id, v") -> list[tuple]:
    """The history's rows in their order."""
    return query(
        postgres, f"SELECT {columns}, _deleted FROM raw_t.{table}_history ORDER BY _version"
    )


def renewal_that_dies(
    source: Source,
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A renewal of the whole source loses it before the first load."""

    def lost(*_: object) -> None:
        raise SourceLost("the source is gone")

    with monkeypatch.context() as patch:
        patch.setattr(CapturedLoad, "run", lost)
        with pytest.raises(LoadsFailed):
            resnapshot(source, mysql, postgres, lake)


def stream_position(postgres: PostgresConnection) -> str:
    return query(postgres, "SELECT position FROM ingestion.streams WHERE source = 't'")[0][0]


@pytest.mark.parametrize("key", [("id",), ()], ids=["key", "no key"])
def test_an_event_of_many_rows_is_more_than_its_first(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, key: tuple[str, ...]
) -> None:
    """Altinity/clickhouse-sink-connector#1391: a multi-row event was truncated to its first row."""
    source = source_of(captured("t", *key))
    run(mysql, f"CREATE TABLE t (id INT NOT NULL{' PRIMARY KEY' if key else ''}, v VARCHAR(20))")
    load(source)
    for statement in (
        f"INSERT INTO t VALUES {', '.join(f'({n}, {n})' for n in range(300))}",
        "UPDATE t SET v = CONCAT('x', v)",
        # Each row takes the key that the one before it in the event has just left.
        "UPDATE t SET id = id + 1 ORDER BY id DESC",
        "DELETE FROM t WHERE id % 2 = 0",
    ):
        run(mysql, statement)
        result = load(source)["t"]
        assert_same(mysql, postgres, "t")
        assert compare(source, postgres, "t").is_equal
        assert result.inserted + result.updated + result.deleted >= 150
    if key:
        counts = query(
            postgres, "SELECT _deleted, count(*) FROM raw_t.t_history GROUP BY 1 ORDER BY 1"
        )
        assert counts == [(False, 300 + 300 + 300), (True, 300 + 150)]


def test_a_failed_first_copy_does_not_move_the_start(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """airbytehq/airbyte#48717: the CDC start position moved on after a retry; what changed between
    the attempts was lost.
    """
    source = source_of(captured("first", "id"), captured("second", "id"))
    for table in ("first", "second"):
        run(mysql, f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20))")
        fill(mysql, table, ((n, "old") for n in range(500)))

    def fail(table: str, rows: int, expected: int | None) -> None:
        if table == "second":
            raise RuntimeError("as if it were killed")

    for attempt in range(2):
        with pytest.raises(Exception, match="killed"):
            load(source, on_progress=fail)
        for table in ("first", "second"):
            run(
                mysql,
                f"INSERT INTO {table} VALUES ({1000 + attempt}, 'between')",
                f"UPDATE {table} SET v = 'between {attempt}' WHERE id % 5 = {attempt}",
                f"DELETE FROM {table} WHERE id % 5 = 4 AND id % 2 = {attempt}",
            )
    load(source)
    for table in ("first", "second"):
        assert_same(mysql, postgres, table)
        assert compare(source, postgres, table).is_equal


def test_a_failed_flush_does_not_move_the_position(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """airbytehq/airbyte#48717, later: changes that the target refused are there once it takes them,
    each of them once.
    """
    source = source_of(captured("t", "id"), captured("other", "id"))
    for table in ("t", "other"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT)",
            f"INSERT INTO {table} VALUES (1, 0)",
        )
    load(source)
    before = stream_position(postgres)
    with postgres.connect() as session:
        session.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE disk_full;
              END $$;
            CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE
              ON raw_t.other EXECUTE FUNCTION refuse();
            """
        )
    for n in range(1, 4):
        run(mysql, f"UPDATE t SET v = {n}", f"UPDATE other SET v = {n}")
        with pytest.raises(IngestionError, match="disk"):
            load(source)
        # Not one table's changes without the other's: they may be of one transaction.
        assert stream_position(postgres) == before
        assert query(postgres, "SELECT v FROM raw_t.t UNION ALL SELECT v FROM raw_t.other") == [
            (0,),
            (0,),
        ]
    with postgres.connect() as session:
        session.execute("DROP FUNCTION refuse CASCADE")
    load(source)
    for table in ("t", "other"):
        assert_same(mysql, postgres, table)
        assert versions(postgres, table) == [(1, n, False) for n in range(4)]


def test_a_bounded_run_ends_where_it_says(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """pipelinewise-tap-mysql#57: the reader ran past the saved end position, so the next one had
    rows twice.
    """
    source = source_of(captured("t", "id"))
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
    load(source)
    commits: list[str] = []
    stopping = threading.Event()

    def write() -> None:
        with closing(mysql.connect()) as connection, connection.cursor() as cursor:
            while not stopping.is_set() or len(commits) < 200:
                cursor.execute("INSERT INTO t VALUES (%s, 1)", (len(commits),))
                cursor.execute("UPDATE t SET v = 2 WHERE id = %s", (len(commits),))
                connection.commit()
                cursor.execute("SHOW MASTER STATUS")
                file, offset = cursor.fetchone()[:2]
                commits.append(f"{file}:{offset:012d}")

    writer = threading.Thread(target=write)
    writer.start()
    ends = []
    try:
        for _ in range(4):
            position = load(source)["t"].position
            assert stream_position(postgres) == position
            ends.append(
                (position, query(postgres, "SELECT count(*), coalesce(sum(v), 0) FROM raw_t.t")[0])
            )
    finally:
        stopping.set()
        writer.join()
    for position, (rows, total) in ends:
        committed = sum(commit <= position for commit in commits)
        assert (rows, total) == (committed, 2 * committed), position
    assert [position for position, _ in ends] == sorted({position for position, _ in ends})
    load(source)
    assert_same(mysql, postgres, "t")
    assert versions(postgres, "t") == [(n, v, False) for n in range(len(commits)) for v in (1, 2)]


def test_a_position_of_zero_is_nobodys(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """dbtrail#1117: a position of 0 made deduplication delete everything.

    What a server sends of its own at the beginning of each file says that it ends at 0, and a new
    file begins to count anew.
    """
    source = source_of(captured("t", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, v MEDIUMTEXT)",
        "INSERT INTO t VALUES (1, 'first'), (2, 'kept')",
    )
    load(source)
    run(mysql, f"UPDATE t SET v = '{'far into its file ' * 20_000}' WHERE id = 1")
    load(source)
    far = query(postgres, "SELECT _position FROM raw_t.t WHERE id = 1")[0][0]
    for n in range(3):
        run(mysql, "FLUSH BINARY LOGS")
        result = load(source)["t"]
        assert not result.is_changed
        assert_same(mysql, postgres, "t")
        run(
            mysql,
            f"UPDATE t SET v = 'early in its file {n}' WHERE id = 1",
            "FLUSH BINARY LOGS",
            "FLUSH BINARY LOGS",
        )
        result = load(source)["t"]
        assert (result.inserted, result.updated, result.deleted) == (0, 1, 0)
        assert_same(mysql, postgres, "t")
    positions = [
        row[0]
        for row in query(
            postgres, "SELECT _position FROM raw_t.t_history WHERE id = 1 ORDER BY _version"
        )
    ]
    assert positions == sorted(positions)
    assert positions.index(far) == 1
    assert query(
        postgres, "SELECT count(*) FROM raw_t.t_history WHERE _position ~ ':0+$' OR id = 2"
    ) == [(1,)]


def test_a_restart_in_the_middle_of_a_transaction_knows_its_tables(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """apache/flink-cdc#2217: after a restart in the middle of a row event its table map was
    lost.
    """
    source = source_of(captured("one", "id"), captured("two", "id"))
    for table in ("one", "two"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(200))",
            f"INSERT INTO {table} VALUES (0, '')",
        )
    load(source)
    before = stream_position(postgres)
    rows = 2000
    with closing(mysql.connect()) as connection:
        # A table map, then some thirty events of its rows, twice; one transaction.
        for table in ("one", "two"):
            connection.query(
                f"INSERT INTO {table} VALUES "
                + ", ".join(f"({n}, '{n:0150d}')" for n in range(1, rows))
            )
        connection.query(
            "UPDATE one, two SET one.v = 'joined', two.v = 'joined' WHERE one.id = two.id AND "
            "one.id < 500"
        )
        connection.commit()
    proxy = Proxy(lambda: mysql.port)
    through = replace(mysql, port=proxy.port)
    cuts = 0
    try:
        for after in (3_000, 30_000, 100_000, 250_000, 400_000, 600_000):
            proxy.cut(after=after)
            with suppress(IngestionError, ServerUnreachable):
                load(source, through)
                break
            cuts += 1
            assert stream_position(postgres) == before
            assert query(
                postgres, "SELECT count(*) FROM raw_t.one UNION ALL SELECT count(*) FROM raw_t.two"
            ) == [
                (1,),
                (1,),
            ]
        proxy.flow()
        load(source, through)
    finally:
        proxy.close()
    assert cuts >= 3
    for table in ("one", "two"):
        assert_same(mysql, postgres, table)
        assert len(versions(postgres, table)) == 1 + (rows - 1) + 500


def test_a_table_declared_later_has_all_its_rows(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load
) -> None:
    """apache/flink-cdc#1486: a table added from a savepoint lost data."""
    for table in ("early", "late"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT)",
            f"INSERT INTO {table} VALUES (1, 1), (2, 1), (3, 1)",
        )
    load(source_of(captured("early", "id")))
    run(
        mysql,
        "UPDATE late SET v = 2 WHERE id = 1",
        "UPDATE early SET v = 2 WHERE id = 1",
        "DELETE FROM late WHERE id = 2",
        "INSERT INTO early VALUES (4, 1)",
    )
    both = source_of(captured("early", "id"), captured("late", "id"))
    stopping = threading.Event()

    def write() -> None:
        with closing(mysql.connect()) as connection, connection.cursor() as cursor:
            n = 100
            while not stopping.is_set():
                for table in ("early", "late"):
                    cursor.execute(f"INSERT INTO {table} VALUES (%s, 0)", (n,))
                    cursor.execute(f"UPDATE {table} SET v = v + 1 WHERE id IN (3, %s)", (n - 50,))
                connection.commit()
                n += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        load(both)
    finally:
        stopping.set()
        writer.join()
    run(mysql, "UPDATE late SET v = 9 WHERE id = 1")
    load(both)
    for table in ("early", "late"):
        assert_same(mysql, postgres, table)
        assert compare(both, postgres, table).is_equal
    # The table that was there before has missed nothing meanwhile: each of its versions follows the
    # one before it.
    seen = [v for key, v, _ in versions(postgres, "early") if key == 3]
    assert seen == list(range(1, len(seen) + 1))


@pytest.mark.parametrize(
    "statements",
    [
        ["ALTER TABLE t ADD COLUMN more INT NOT NULL DEFAULT 7"],
        [
            "ALTER TABLE t ADD COLUMN first_of_all VARCHAR(10) DEFAULT 'x' FIRST, ADD COLUMN c INT "
            "AFTER id"
        ],
        ["ALTER TABLE t DROP COLUMN n"],
        ["ALTER TABLE t RENAME COLUMN n TO m"],
        [
            "ALTER TABLE t DROP COLUMN n",
            "ALTER TABLE t ADD COLUMN n VARCHAR(20) NOT NULL DEFAULT 'another n'",
        ],
        ["ALTER TABLE t MODIFY COLUMN n BIGINT", "UPDATE t SET n = 5000000000 WHERE id = 1"],
        ["ALTER TABLE t MODIFY COLUMN n VARCHAR(30)", "UPDATE t SET n = 'five' WHERE id = 1"],
        [
            "ALTER TABLE t RENAME COLUMN n TO x, RENAME COLUMN v TO n",
            "ALTER TABLE t RENAME COLUMN x TO v",
        ],
        ["TRUNCATE TABLE t"],
        [
            "CREATE TABLE new LIKE t",
            "INSERT INTO new VALUES (8, 'new', 8)",
            "RENAME TABLE t TO old, new TO t",
        ],
        [
            "DROP TABLE t",
            "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), n INT)",
            "INSERT INTO t VALUES (2, 'again', 2)",
        ],
        ["RENAME TABLE t TO away", "UPDATE away SET v = 'while away'", "RENAME TABLE away TO t"],
        [
            "ALTER TABLE t MODIFY COLUMN n VARCHAR(30)",
            "UPDATE t SET n = '70' WHERE id = 1",
            "ALTER TABLE t MODIFY COLUMN n INT",
            "UPDATE t SET n = 71 WHERE id = 1",
        ],
        [
            "ALTER TABLE t DROP COLUMN n",
            "UPDATE t SET v = 'without'",
            "ALTER TABLE t ADD COLUMN n INT",
            "UPDATE t SET n = 3",
        ],
        ["ALTER TABLE t ADD COLUMN a INT", "UPDATE t SET a = id", "ALTER TABLE t DROP COLUMN a"],
    ],
    ids=lambda statements: "; ".join(statements)[:60],
)
def test_ddl_while_nobody_read(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, statements: list[str]
) -> None:
    """risingwavelabs/risingwave, pull request 22255: DDL run while the reader was offline was
    lost.
    """
    source = source_of(captured("t", "id"), captured("other", "id"))
    for table in ("t", "other"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v VARCHAR(20), n INT)",
            f"INSERT INTO {table} VALUES (1, 'one', 1), (2, 'two', 2), (3, 'three', 3)",
        )
    load(source)
    run(
        mysql,
        "UPDATE t SET v = 'before' WHERE id = 1",
        "INSERT INTO t VALUES (4, 'before', 4)",
        "UPDATE other SET n = 0",
    )
    run(mysql, *statements)
    run(
        mysql,
        "INSERT INTO t (id) VALUES (10), (11)",
        "UPDATE t SET id = 12 WHERE id = 11",
        "DELETE FROM t WHERE id = 3",
        "UPDATE other SET v = 'after' WHERE id = 1",
    )
    load(source)
    for table in ("t", "other"):
        assert_same(mysql, postgres, table)
        assert compare(source, postgres, table).is_equal
    run(mysql, "INSERT INTO t (id) VALUES (20)", "DELETE FROM t WHERE id = 10")
    load(source)
    assert_same(mysql, postgres, "t")
    newest = "SELECT DISTINCT ON (id) id, _deleted FROM raw_t.t_history ORDER BY id, _version DESC"
    assert query(postgres, newest) == query(
        postgres, "SELECT id, _deleted FROM raw_t.t ORDER BY id"
    )


def _scd2(postgres: PostgresConnection) -> list[tuple]:
    """The versions that the warehouse's macro makes of a history: value, is it deleted, from, to,
    is it current.
    """
    environment = jinja2.Environment()
    macros = (REPOSITORY / "dbt_project" / "macros" / "scd2.sql").read_text()
    select = environment.from_string(
        macros + "{{ scd2_versions('history', 'id', ['v']) }}"
    ).render()
    return query(
        postgres,
        "WITH history AS (SELECT id, v, updated_at AT TIME ZONE 'UTC' AS updated_at, _deleted AS "
        "is_deleted, _loaded_at, _committed_at,"
        " _version"
        " FROM raw_t.t_history) SELECT v, is_deleted, valid_from, valid_to, is_current FROM "
        f"({select}) s ORDER BY version_number",
    )


@pytest.mark.parametrize("strategy", DECLARED)
def test_a_row_that_is_deleted_and_comes_back(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, strategy: str
) -> None:
    """dbt-labs/dbt-adapters#654: duplicate rows from dbt snapshots with hard deletes as new
    records.
    """
    source = source_of(replace(DECLARED[strategy]("t", "id"), history=True))
    run(
        mysql,
        f"CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), {CHANGED_AT})",
        "INSERT INTO t (id, v) VALUES (1, 'a')",
    )
    load(source)
    expected = [("a", False)]
    for round_ in range(3):
        run(mysql, "DELETE FROM t")
        load(source)
        load(source)
        run(mysql, "INSERT INTO t (id, v) VALUES (1, 'a')")  # the very same row
        load(source)
        load(source)
        expected += [("a", True), ("a", False)]
        assert versions(postgres, "t") == [(1, *each) for each in expected], f"round {round_}"
    if strategy == "cdc":  # which sees what comes and goes between two runs, too
        run(
            mysql,
            "DELETE FROM t",
            "INSERT INTO t (id, v) VALUES (1, 'b')",
            "DELETE FROM t",
            "INSERT INTO t (id, v) VALUES (1, 'b')",
        )
        load(source)
        expected += [("a", True), ("b", False), ("b", True), ("b", False)]
        assert versions(postgres, "t") == [(1, *each) for each in expected]
    assert_same(mysql, postgres, "t")
    assert query(postgres, "SELECT count(*) FROM raw_t.t") == [(1,)]
    dimension = _scd2(postgres)
    assert [each[:2] for each in dimension] == expected
    assert [each[4] for each in dimension] == [False] * (len(expected) - 1) + [True]
    assert all(one[3] == other[2] for one, other in itertools.pairwise(dimension))
    assert all(valid_from < valid_to for _, _, valid_from, valid_to, _ in dimension)


@pytest.mark.parametrize("strategy", DECLARED)
def test_rejected_values_are_kept(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, strategy: str, unstrict: None
) -> None:
    """dlt-hub/dlt#1980: rejected values were discarded without a trace; a dead-letter store was
    still requested.
    """
    source = source_of(DECLARED[strategy]("t", "id"))
    zero, half, nul = (
        "(7, '0000-00-00', 'whole', 1.50)",
        "(8, '2024-02-00', 'whole', 2.50)",
        "(9, NULL, 'nul \\0', 3.50)",
    )
    run(
        mysql,
        f"CREATE TABLE t (id INT PRIMARY KEY, day DATE, v TEXT, amount DECIMAL(8,2), {CHANGED_AT})",
        f"INSERT INTO t (id, day, v, amount) VALUES (1, '2024-01-01', 'good', 1), {zero}",
    )

    def quarantined(*, closed: bool = False) -> dict[str, tuple]:
        return {
            row.row["id"] or "": (
                row.row["day"],
                row.row["v"],
                row.row["amount"],
                row.column_name,
                row.closed_because,
            )
            for row in list_quarantine(postgres, "t", "t", closed=closed)
        }

    kept = {"7": ("0000-00-00", "whole", "1.50", "day", None)}
    assert load(source)["t"].quarantined == 1  # found while the table is copied
    assert quarantined() == kept
    run(
        mysql,
        f"INSERT INTO t (id, day, v, amount) VALUES (2, NULL, 'good', 2), {half}, {nul}",
        "UPDATE t SET amount = 9 WHERE id = 1",
    )
    assert load(source)["t"].quarantined == 3  # found among changes
    kept |= {"8": ("2024-02-00", "whole", "2.50", "day", None)}
    assert {key: value for key, value in quarantined().items() if key != "9"} == kept
    assert quarantined()["9"][2:] == ("3.50", "v", None)
    assert "nul" in quarantined()["9"][1] or "6e756c" in quarantined()["9"][1]
    assert query(postgres, "SELECT id FROM raw_t.t WHERE NOT _deleted ORDER BY 1") == [(1,), (2,)]
    run(
        mysql,
        "UPDATE t SET day = '2024-02-29' WHERE id = 7",
        "DELETE FROM t WHERE id = 8",
        "UPDATE t SET amount = 4.5 WHERE id = 9",
    )
    assert load(source)["t"].quarantined == 1
    assert quarantined()["9"][2] == "4.50"  # the row as it is now
    assert {key: each[4] for key, each in quarantined(closed=True).items()} == {
        "7": "mended",
        "8": "deleted",
    }
    assert query(postgres, "SELECT id FROM raw_t.t WHERE NOT _deleted ORDER BY 1") == [
        (1,),
        (2,),
        (7,),
    ]
    run(mysql, "UPDATE t SET v = 'good' WHERE id = 9")
    assert load(source)["t"].quarantined == 0
    assert_same(mysql, postgres, "t")
    assert compare(source, postgres, "t").is_equal


@pytest.fixture
def unstrict(mysql: MySQLConnection) -> Iterator[None]:
    """A server that takes zero and partial dates, as old applications want it."""
    with closing(mysql.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT @@global.sql_mode")
        mode = cursor.fetchone()[0]
        cursor.execute("SET GLOBAL sql_mode = ''")
        yield
        cursor.execute("SET GLOBAL sql_mode = %s", (mode,))


def test_nothing_is_left_in_the_lake_by_what_failed(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, load: Load
) -> None:
    """Airbyte's, tap-mysql's and Flink's faults above, seen from the lake: each version stands in
    its files once.
    """
    source = source_of(captured("t", "id"))
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(200))")
    load(source)
    proxy = Proxy(lambda: postgres.port)
    try:
        for n in range(4):
            run(
                mysql,
                "INSERT INTO t VALUES "
                + ", ".join(f"({n * 1000 + m}, '{m:0100d}')" for m in range(1000)),
            )
            proxy.cut(after=500 * (n + 1))
            with suppress(IngestionError, ServerUnreachable, psycopg.Error):
                load_all(source, mysql, replace(postgres, port=proxy.port), lake)
            proxy.flow()
            proxy.cut()
    finally:
        proxy.close()
    load(source)
    assert_same(mysql, postgres, "t")
    listed = {path for (path,) in query(postgres, "SELECT path FROM ingestion.lake_files")}
    root = Path(lake.removeprefix("file://"))
    assert {str(path.relative_to(root)) for path in root.rglob("*.parquet")} == listed
    assert query(postgres, "SELECT sum(row_count) FROM ingestion.lake_files") == [(4000,)]


@pytest.mark.parametrize("seed", range(6))
def test_rows_that_are_fit_and_unfit_by_turns(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    load: Load,
    seed: int,
    unstrict: None,
) -> None:
    """dlt-hub/dlt#1980 again: whatever the order of good versions, bad ones and deletions, nothing
    is left over or doubled.
    """
    dice = random.Random(seed)
    source = source_of(captured("t", "id"))
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, day DATE, n INT)")
    load(source)
    log: list[str] = []
    live: dict[int, tuple[str, int]] = {}
    history: dict[int, list[tuple[int, bool]]] = {key: [] for key in range(3)}
    for n in range(60):
        key = dice.randrange(3)
        day = dice.choice(["2024-01-01", "0000-00-00"])
        if key not in live:
            log.append(f"INSERT INTO t VALUES ({key}, '{day}', {n})")
        elif dice.random() < 0.4:
            log.append(f"DELETE FROM t WHERE id = {key}")
            history[key].append((live.pop(key)[1], True))
        else:
            log.append(f"UPDATE t SET day = '{day}', n = {n} WHERE id = {key}")
        if not log[-1].startswith("DELETE"):
            live[key] = (day, n)
            if day != "0000-00-00":
                history[key].append((n, False))
        run(mysql, log[-1])
        if dice.random() < 0.4:
            load(source)
            log.append("load")
    load(source)
    told = "\n".join(log)
    for key, expected in history.items():
        found = query(
            postgres, f"SELECT n, _deleted FROM raw_t.t_history WHERE id = {key} ORDER BY _version"
        )
        assert found == expected, f"{key}\n{told}"
    fit = sorted((key, n) for key, (day, n) in live.items() if day != "0000-00-00")
    unfit = {str(key): str(n) for key, (day, n) in live.items() if day == "0000-00-00"}
    assert {row.row["id"]: row.row["n"] for row in list_quarantine(postgres, "t", "t")} == unfit, (
        told
    )
    raw = query(postgres, "SELECT id, n FROM raw_t.t WHERE NOT _deleted ORDER BY 1")
    assert [row for row in raw if str(row[0]) not in unfit] == fit, told
    held = [
        (key, versions[-1][0])
        for key, versions in history.items()
        if versions and not versions[-1][1]
    ]
    assert raw == sorted(held), told
    root = Path(lake.removeprefix("file://"))
    current: dict[int, int] = {}
    for (path,) in query(
        postgres, "SELECT path FROM ingestion.lake_files ORDER BY loaded_at, path"
    ):
        for row in pq.ParquetFile(root / path).read().to_pylist():
            current.pop(row["id"], None)
            if not row["_deleted"]:
                current[row["id"]] = row["n"]
    assert sorted(current.items()) == raw, told


@pytest.mark.parametrize("shift", ["-1 day", "1 day"])
def test_the_quarantine_is_counted_whatever_the_clock_says(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, unstrict: None, shift: str
) -> None:
    """Found by the torture (seed 600120): after the clock of the warehouse was set back, every load
    found the old entries of the quarantine again. With a clock that ran ahead, none counted the new
    ones, and the number of rows became wrong.
    """
    source = source_of(captured("t", "id"))
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, day DATE)")
    give_clock(postgres)
    load(source)
    run(mysql, "INSERT INTO t VALUES (1, '0000-00-00'), (2, '0000-00-00'), (3, '2024-01-01')")
    assert load(source)["t"].quarantined == 2

    def found() -> list[tuple[bool, int, int]]:
        """What a load finds, and what the next one does."""
        results = [load(source)["t"] for _ in range(2)]
        return [(result.is_changed, result.quarantined, result.total) for result in results]

    set_clock(postgres, shift, shift)
    assert found() == [(False, 2, 1), (False, 2, 1)]
    set_clock(postgres, "0", "0")
    # The log tells of updates, and to raw they are new rows.
    run(mysql, "UPDATE t SET day = '2024-01-02' WHERE id < 3")
    assert found() == [(True, 0, 3), (False, 0, 3)]
    assert compare(source, postgres, "t").is_equal
    run(mysql, "INSERT INTO t VALUES (4, '0000-00-00')")
    assert found() == [(True, 1, 3), (False, 1, 3)]
    [entry] = list_quarantine(postgres, "t", "t")
    erase(postgres, [entry.id], "somebody")
    with postgres.connect() as session:
        session.execute("SELECT FROM ingestion.quarantine FOR UPDATE")
        assert load(source)["t"].is_changed, "without waiting for the end of that transaction"
    assert found() == [(True, 0, 3), (False, 0, 3)]


def test_versions_go_on_counting_after_a_crash(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, stack: Stack
) -> None:
    """Our own torture's, seed 101: numbers of versions were given out twice after PostgreSQL had
    been killed, and the table stopped.
    """
    source = source_of(captured("t", "id"), snapshot("whole", "id", history=True))
    for table in ("t", "whole"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT)",
            f"INSERT INTO {table} VALUES (1, 0), (2, 0), (3, 0)",
        )
    load(source)
    run(mysql, "UPDATE t SET v = 1", "UPDATE whole SET v = 1")
    load(source)
    server = stack.servers()[1]
    process = server.process()
    assert process
    process.kill()
    process.wait()
    server.up()
    run(mysql, "UPDATE t SET v = 2", "UPDATE whole SET v = 2")
    load(source)
    for table in ("t", "whole"):
        assert_same(mysql, postgres, table)
        assert versions(postgres, table) == [(id, v, False) for v in range(3) for id in (1, 2, 3)]


def test_a_new_start_leaves_the_lake_nothing_short(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Our own torture's: raw had changes that were not in the lake yet when the log was left
    behind, or the table stopped.
    """
    source = source_of(
        captured("t", "id"), captured("keyless"), captured("emptied"), captured("stopping", "id")
    )
    for table in ("t", "keyless", "emptied"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT, v INT)",
            f"INSERT INTO {table} VALUES (1, 0), (2, 0), (2, 0), (3, 0)",
        )
    run(
        mysql,
        "DELETE FROM t WHERE id = 2 LIMIT 1",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "CREATE TABLE stopping LIKE t",
    )
    run(mysql, "INSERT INTO stopping SELECT * FROM t")
    load(source)
    changes = (
        "UPDATE {0} SET v = 1 WHERE id = 1",
        "DELETE FROM {0} WHERE id = 2",
        "INSERT INTO {0} VALUES (4, 4)",
    )
    run(
        mysql,
        *(change.format(table) for table in ("t", "keyless", "stopping") for change in changes),
        "DELETE FROM emptied",
    )

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ChangeLog, "list_in", killed)
        with pytest.raises(KeyboardInterrupt):
            load(source)
    assert query(postgres, "SELECT position > lake_position FROM ingestion.streams") == [(True,)]
    query(
        postgres,
        "UPDATE ingestion.captures c SET state = 'stopped', reason = 'test', position = "
        "s.position, lake_position = s.lake_position"
        " FROM ingestion.streams s WHERE table_name = 'stopping' RETURNING true",
    )

    resnapshot(source, mysql, postgres, lake, "stopping")
    assert_same_in_lake(mysql, postgres, lake, "stopping", "id")
    with monkeypatch.context() as patch:
        patch.setattr(ChangeLog, "list_in", killed)
        run(
            mysql,
            "DELETE FROM t WHERE id = 3",
            "DELETE FROM keyless WHERE id = 3",
            "DELETE FROM emptied",
        )
        with pytest.raises(KeyboardInterrupt):
            load(source)
    resnapshot(source, mysql, postgres, lake)
    for table, *key in (("t", "id"), ("keyless",), ("emptied",), ("stopping", "id")):
        assert_same_in_lake(mysql, postgres, lake, table, *key)


@pytest.mark.parametrize("key", [("id",), ()], ids=["keyed", "keyless"])
def test_a_comparison_after_a_new_start_that_died_reads_the_table_again(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    key: tuple[str, ...],
) -> None:
    """Our own torture's, seed 559932: rows that a new start had skipped were reported as
    differences, although the table was waiting to be read again.
    """
    source = source_of(captured("t", *key), captured("other", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, v INT)",
        "CREATE TABLE other LIKE t",
        "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
        "INSERT INTO other SELECT * FROM t",
    )
    load(source)
    skipped = (
        "UPDATE {} SET v = 9 WHERE id = 1",
        "DELETE FROM {} WHERE id = 2",
        "INSERT INTO {} VALUES (4, 4)",
    )
    run(mysql, *(change.format(table) for table in ("t", "other") for change in skipped))
    renewal_that_dies(source, mysql, postgres, lake, monkeypatch)
    request = LoadRequest(source, mysql, postgres, lake)
    with pytest.raises(TableBehind):
        reconcile(request, "t", may_load=False)
    found = reconcile(request, "t")
    assert (found.differences, found.rows) == (0, 3)
    assert found.load
    assert reconcile(request, "t", may_load=False).load is None  # and it waits no longer
    query(postgres, "UPDATE raw_t.other SET v = 8 WHERE id = 3 RETURNING true")
    assert reconcile(request, "other", repair=True).repair is None  # the load has mended all
    # What nobody announced is a difference as ever.
    query(postgres, "UPDATE raw_t.t SET v = 8 WHERE id = 3 RETURNING true")
    found = reconcile(request, "t")
    assert found.differences
    assert found.load is None
    assert reconcile(request, "t", repair=True).is_repaired
    for table, *its_key in (("t", *key), ("other", "id")):
        assert_same_in_lake(mysql, postgres, lake, table, *its_key)


def test_what_was_read_again_settles_no_later_quarantine(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, lake: str, unstrict: None
) -> None:
    """Our own torture's, seed 800000: a row that became unfit after it was read again, and before
    that was merged, was neither in raw nor in quarantine.
    """
    source = source_of(captured("t", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, day DATE, v INT)",
        "INSERT INTO t VALUES (1, '2024-01-01', 1), (2, '2024-01-01', 1), (3, '2024-01-01', 1), "
        "(4, '2024-01-01', 1)",
    )
    load(source)
    run(mysql, "UPDATE t SET day = '0000-00-00' WHERE id IN (3, 4)")
    load(source)
    job = Job(source, mysql, postgres, lake, Status("t"))
    run(mysql, "UPDATE t SET v = 2 WHERE id = 4")
    number, _ = read_again(job, source.tables[0])
    run(
        mysql,
        "UPDATE t SET day = '0000-00-00' WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO t VALUES (2, '0000-00-00', 2)",
        "UPDATE t SET v = 2 WHERE id = 3",
    )
    load(source)
    assert query(
        postgres, f"SELECT rows_changed FROM ingestion.resnapshots WHERE id = {number}"
    ) == [(0,)]
    assert {row.row["id"]: row.row["v"] for row in list_quarantine(postgres, "t", "t")} == {
        "1": "1",
        "2": "2",
        "3": "2",
        "4": "2",
    }
    assert versions(postgres, "t") == [
        *((n, 1, False) for n in (1, 2, 3, 4)),
        (2, 1, True),
    ]


def test_what_was_read_again_settles_the_quarantine_of_rows_that_went_unseen(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    unstrict: None,
) -> None:
    """Our own torture's, with renewals that die: rows that went while the log was skipped, and that
    raw never had, stayed in quarantine.
    """
    source = source_of(captured("t", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, day DATE, v INT)",
        "INSERT INTO t VALUES (1, '0000-00-00', 1), (2, '0000-00-00', 1), (3, '0000-00-00', 1)",
    )
    load(source)
    run(mysql, "DELETE FROM t WHERE id = 1", "UPDATE t SET day = '2024-01-01' WHERE id = 2")
    renewal_that_dies(source, mysql, postgres, lake, monkeypatch)
    job = Job(source, mysql, postgres, lake, Status("t"))
    # The first does not reach the row that went. The second is of the whole table, as a stream's.
    for key_range, left in ((("2", None), {"1", "3"}), (None, {"3"})):
        read_again(job, source.tables[0], key_range)
        with hold(job) as holder, postgres.connect(autocommit=True) as control:
            follower = Follower(job, holder, control)
            follow_to(follower, current_position(mysql))
            follower.merge_reread()
        assert {row.row["id"] for row in list_quarantine(postgres, "t", "t")} == left
    closed = list_quarantine(postgres, "t", "t", closed=True)
    assert {row.row["id"]: row.closed_because for row in closed} == {"1": "deleted", "2": "mended"}


@pytest.mark.parametrize("moment", ["of the comparison", "of the source's answer"])
def test_what_was_read_again_is_in_quarantine_no_sooner_than_raw_is_there(
    mysql: MySQLConnection,
    postgres: PostgresConnection,
    load: Load,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    unstrict: None,
    moment: str,
) -> None:
    """Our own torture's, seed 597551: a row was in quarantine since it was read again, though raw
    stood where the row was fit. So raw was not what the source had stated. A source that answered
    meanwhile left out the row, and the log took it away once more.
    """
    source = source_of(captured("t", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, day DATE)",
        "INSERT INTO t VALUES (1, '2024-01-01'), (2, '2024-01-01'), (3, '0000-00-00')",
    )
    load(source, ask_after=timedelta(0))

    def become_unfit() -> None:
        run(mysql, "UPDATE t SET day = '0000-00-00' WHERE id = 1")
        read_again(Job(source, mysql, postgres, lake, Status("t")), source.tables[0])

    if moment == "of the comparison":
        become_unfit()
    else:
        ask = statements.ask

        def ask_later(*arguments: Any) -> Any:
            become_unfit()
            return ask(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(statements, "ask", ask_later)
            load(source, ask_after=timedelta(0))
    found = compare(source, postgres, "t")
    assert (found.is_equal, found.raw_rows, found.quarantined_rows) == (True, 2, 1)
    # Only what the log tells, so that what the source has answered must have been right.
    load(source, ask_after=None)
    found = compare(source, postgres, "t")
    assert (found.is_equal, found.raw_rows, found.quarantined_rows) == (True, 1, 2)


def test_what_was_read_again_settles_no_quarantine_that_the_log_told_meanwhile(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, lake: str, unstrict: None
) -> None:
    """Rows that are still unfit, fit or gone before the reading ends, and is merged later."""
    source = source_of(captured("t", "id"))
    run(
        mysql,
        "CREATE TABLE t (id INT PRIMARY KEY, day DATE, v INT)",
        "INSERT INTO t VALUES (0, '2024-01-01', 1), (1, '0000-00-00', 1), (2, '0000-00-00', 1), "
        "(3, '0000-00-00', 1), (4, '0000-00-00', 1)",
    )
    load(source)

    def go_on(*_: object) -> None:
        run(
            mysql,
            "UPDATE t SET v = 2 WHERE id = 1",
            "UPDATE t SET day = '2024-01-01' WHERE id = 2",
            "DELETE FROM t WHERE id = 3",
        )
        load(source)

    read_again(Job(source, mysql, postgres, lake, Status("t")), source.tables[0], None, go_on)
    load(source, ask_after=timedelta(0))
    entries = list_quarantine(postgres, "t", "t")
    assert {row.row["id"]: row.row["v"] for row in entries} == {"1": "2", "4": "1"}
    found = compare(source, postgres, "t")
    assert (found.is_equal, found.raw_rows) == (True, 2)


def test_what_was_read_again_and_has_no_key_leaves_quarantine_with_the_row(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, lake: str, unstrict: None
) -> None:
    """A deletion is all that tells of such a row, and it may come before the merge."""
    source = source_of(captured("t", "day"))
    run(mysql, "CREATE TABLE t (day DATE PRIMARY KEY)", "INSERT INTO t VALUES ('2024-01-01')")
    load(source)
    read = (Job(source, mysql, postgres, lake, Status("t")), source.tables[0])
    for merged_before in (True, False):
        run(mysql, "SET sql_log_bin = 0", "INSERT INTO t VALUES ('0000-00-00')")
        read_again(*read)
        if merged_before:
            load(source)
        assert [row.key for row in list_quarantine(postgres, "t", "t")] == [None]
        run(mysql, "DELETE FROM t WHERE day = '0000-00-00'")
        load(source)
        assert list_quarantine(postgres, "t", "t") == []
        assert compare(source, postgres, "t").is_equal


def test_what_was_read_again_before_a_truncation_stays_gone(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, lake: str
) -> None:
    """Our own torture's, seed 9035: rows that came with a RENAME, were read again, and were
    truncated before they were merged.
    """
    source = source_of(captured("t", "id"))
    run(mysql, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, 2)")
    load(source)
    run(
        mysql,
        "CREATE TABLE t_new LIKE t",
        "INSERT INTO t_new VALUES (5, 5)",
        "RENAME TABLE t TO t_old, t_new TO t",
    )
    read_again(Job(source, mysql, postgres, lake, Status("t")), source.tables[0])
    run(mysql, "TRUNCATE t", "INSERT INTO t VALUES (7, 7)")
    load(source)
    assert_same_in_lake(mysql, postgres, lake, "t", "id")


@pytest.mark.parametrize("is_logged", [True, False], ids=["logged", "not logged"])
def test_values_of_another_type_are_in_the_lake_too(
    mysql: MySQLConnection, postgres: PostgresConnection, load: Load, lake: str, is_logged: bool
) -> None:
    """Our own torture's: a type that went and came back left values in the lake that were raw's as
    text only. Values of a dropped column, which raw keeps, went from the lake (seed 26).
    """
    source = source_of(captured("t", "id"), captured("keyless"))
    for table in ("t", "keyless"):
        run(
            mysql,
            f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT, dropped INT)",
            f"INSERT INTO {table} VALUES (1, 7, 1), (2, 8, 2), (3, 9, 3)",
        )
    run(mysql, "ALTER TABLE keyless DROP PRIMARY KEY")
    load(source)
    for table in ("t", "keyless"):
        run(mysql, f"ALTER TABLE {table} DROP COLUMN dropped")
    for number, type_ in enumerate(("VARCHAR(30)", "INT")):
        for table in ("t", "keyless"):
            run(mysql, f"ALTER TABLE {table} MODIFY v {type_}")
            if is_logged:
                run(mysql, f"INSERT INTO {table} VALUES ({10 + number}, 7)")
        load(source)
        assert_same_in_lake(mysql, postgres, lake, "t", "id")
        assert_same_in_lake(mysql, postgres, lake, "keyless")
