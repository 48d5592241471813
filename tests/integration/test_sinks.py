"""A sink beside raw and the lake: running totals in PostgreSQL that commit in the transaction which
moves the position."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Iterator

import psycopg
from support.ingestion import fill, load_all, query, run, source_of

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import stream
from softcart_assets.ingestion.captured import Captured, CapturedTable
from softcart_assets.ingestion.changes import DELETE, Changes
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.request import LoadRequest
from tests.integration.test_capture import cdc, follow_and_vanish, writers

SOURCE = source_of(cdc("facts", "id"), cdc("keyless"), cdc("pairs", "x", "y"))
SUM = "coalesce(sum(amount), 0), count(amount)"


class Totals:
    """The sum and the number of amounts in `facts`; `totals.amounts` has what each row adds to
    them.
    """

    def __init__(self, connection: psycopg.Connection, captured: Captured) -> None:
        self.connection = connection
        self._taken: list[Changes] = []

    def begin(self, table: CapturedTable) -> None:
        """See `Sink`."""
        self.connection.execute(
            "CREATE SCHEMA IF NOT EXISTS totals;"
            "CREATE TABLE IF NOT EXISTS totals.amounts (id int PRIMARY KEY, amount numeric NOT "
            "NULL);"
            "CREATE TABLE IF NOT EXISTS totals.total (sum numeric, count int);"
            "INSERT INTO totals.total SELECT 0, 0 WHERE NOT EXISTS (TABLE totals.total)"
        )

    def since(self, table: CapturedTable) -> Position:
        """What was committed with the position is there for good."""
        return table.position

    def take(self, changes: Changes) -> None:
        """See `Sink`."""
        if changes.table == "facts":
            self._taken.append(changes)

    def void(self) -> None:
        """See `Sink`."""
        self._taken = [changes.committed() for changes in self._taken]

    def flush(self, place: Place, committed_at: int | None) -> None:
        """See `Sink`."""
        last = dict(self._rows())
        here = {key: amount for key, amount in last.items() if amount is not None}
        self.connection.execute(
            "WITH gone AS (DELETE FROM totals.amounts WHERE id = ANY(%s) RETURNING amount),"
            " come AS (SELECT * FROM unnest(%s::int[], %s::numeric[]) AS c (id, amount))"
            " UPDATE totals.total t SET sum = t.sum - (SELECT coalesce(sum(amount), 0) FROM gone)"
            " + (SELECT coalesce(sum(amount), 0) FROM come),"
            " count = t.count - (SELECT count(*) FROM gone) + (SELECT count(*) FROM come)",
            (list(last), list(here), list(here.values())),
        )
        self.connection.execute(
            "INSERT INTO totals.amounts SELECT * FROM unnest(%s::int[], %s::numeric[])",
            (list(here), list(here.values())),
        )
        self._taken.clear()

    def _rows(self) -> Iterator[tuple[int, object]]:
        for changes in self._taken:
            columns = changes.rows.to_pydict()
            for key, amount, operation in zip(
                columns["id"], columns["amount"], changes.operations.to_pylist(), strict=True
            ):
                yield key, None if operation == DELETE else amount

    def restate(self, connection: psycopg.Connection, table: str) -> None:
        """See `Sink`."""
        if table == "facts":
            connection.execute(
                "DELETE FROM totals.amounts;"
                "INSERT INTO totals.amounts SELECT id, amount FROM raw_t.facts WHERE NOT _deleted "
                "AND amount IS NOT NULL;"
                "UPDATE totals.total SET (sum, count) = (SELECT coalesce(sum(amount), 0), "
                "count(*) FROM totals.amounts)"
            )

    def discard(self) -> None:
        """See `Sink`."""
        self._taken.clear()


def _totals(postgres: PostgresConnection) -> tuple:
    """What the sink has, and what raw has at the same moment."""
    return query(
        postgres,
        f"SELECT t.sum, t.count, r.* FROM totals.total t, (SELECT {SUM} FROM raw_t.facts WHERE "
        "NOT _deleted) r",
    )[0]


def test_running_totals_are_exact_wherever_the_process_is_killed(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    run(
        mysql,
        "CREATE TABLE facts (id INT PRIMARY KEY, v VARCHAR(100), at DATETIME(6), amount "
        "DECIMAL(10,2))",
        "CREATE TABLE keyless (id INT, v VARCHAR(10))",
        "CREATE TABLE pairs (x INT, y VARCHAR(20), v INT, PRIMARY KEY (x, y))",
    )
    fill(mysql, "facts", [(n, "", None, "9.99") for n in range(0, 3000, 2)])
    with postgres.connect() as connection:
        Totals(connection, None).begin(None)  # type: ignore[arg-type]
    dice, seen = random.Random(7), set()
    with writers(mysql):
        for _ in range(5):
            process = multiprocessing.get_context("fork").Process(
                target=stream, args=(SOURCE, mysql, postgres, lake), kwargs={"sinks": [Totals]}
            )
            process.start()
            process.join(dice.uniform(1.0, 4.0))
            assert process.is_alive()
            process.kill()
            process.join()
            if query(postgres, "SELECT to_regclass('raw_t.facts') IS NOT NULL") == [(True,)]:
                total, count, in_raw, rows_in_raw = _totals(postgres)
                assert (total, count) == (in_raw, rows_in_raw)
                seen.add(total)
    load_all(SOURCE, mysql, postgres, lake, sinks=[Totals])
    assert len(seen) > 1, "the totals moved between the kills"
    assert _totals(postgres)[:2] == _totals(postgres)[2:] == _at_source(mysql)
    # What the log does not tell row by row reaches the sink, too.
    run(
        mysql,
        "DELETE FROM facts WHERE id > 100",
        "TRUNCATE facts",
        "INSERT INTO facts VALUES (1, '', NULL, 5)",
    )
    load_all(SOURCE, mysql, postgres, lake, sinks=[Totals])
    assert _totals(postgres)[:2] == _at_source(mysql) == (5, 1)
    run(mysql, "SET SESSION sql_log_bin = 0", "INSERT INTO facts VALUES (2, '', NULL, 7)")
    load_all(SOURCE, mysql, postgres, lake, full=True, sinks=[Totals])
    assert _totals(postgres)[:2] == _at_source(mysql) == (12, 2)


def test_what_the_log_does_not_tell_row_by_row_commits_with_the_position(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(cdc("facts", "id"))
    run(
        mysql,
        "CREATE TABLE facts (id INT PRIMARY KEY, amount INT)",
        "INSERT INTO facts VALUES (1, 5)",
    )
    with postgres.connect() as connection:
        Totals(connection, None).begin(None)  # type: ignore[arg-type]
    load_all(source, mysql, postgres, lake, sinks=[Totals])
    run(mysql, "TRUNCATE facts")
    request = LoadRequest(source, mysql, postgres, lake, sinks=[Totals])
    follow_and_vanish(request)
    assert _totals(postgres) == (0, 0, 0, 0)


def _at_source(mysql: MySQLConnection) -> tuple:
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {SUM} FROM facts")
        return tuple(cursor.fetchone())
