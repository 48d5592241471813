"""What sources state of their tables: added up from the log, asked in full from time to time, and
never green where it cannot be known.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from support.ingestion import fill, load_all, query, run, snapshot, source_of

from softcart_assets.audits import raw as audits
from softcart_assets.audits.model import AuditResult
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import reading, resnapshot, stream
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job
from softcart_assets.ingestion.captured import Captured
from softcart_assets.ingestion.connectors.mysql.session import current_position
from softcart_assets.ingestion.load import LoadRequest
from softcart_assets.ingestion.proof import carried
from softcart_assets.ingestion.proof.carried import CarriedSums
from softcart_assets.ingestion.proof.reconcile import reconcile
from softcart_assets.ingestion.proof.statements import ASK_EVERY
from softcart_assets.ingestion.proof.verify import Comparison, compare
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.lines.model import Source, Table


def cdc(name: str, *key: str, contract: str = "evolve", history: bool = False) -> Table:
    return Table(name, "", key, "cdc", (), contract=contract, history=history)  # type: ignore[arg-type]


ORDERS = source_of(cdc("orders", "id"))
ALL = source_of(cdc("orders", "id", history=True), cdc("keyless"))


class Copy:
    """A source and its copy. `tick` loads like a sensor's run, which asks the source once a day."""

    def __init__(self, mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> None:
        self.mysql, self.postgres, self.lake = mysql, postgres, lake

    def run(self, *statements: str) -> None:
        run(self.mysql, *statements)

    def tick(self, source: Source = ORDERS, **options: object) -> None:
        load_all(source, self.mysql, self.postgres, self.lake, **{"ask_after": ASK_EVERY} | options)

    def compare(self, source: Source = ORDERS, table: str = "orders") -> Comparison:
        return compare(source, self.postgres, table)

    def audit(self, after: timedelta = timedelta(0), source: Source = ORDERS) -> AuditResult:
        now = datetime.now(UTC) + after
        return audits.equals_source(self.postgres, source, source.tables[0], now=now)

    def is_proved(self, source: Source = ORDERS) -> bool:
        """Whether the audit passes, and not only because nobody can tell."""
        result = self.audit(source=source)
        return result.passed and not result.is_open

    def assert_added_up(self, source: Source = ORDERS, table: str = "orders") -> None:
        """What is stated was not asked anew, and is what the source says when it is asked."""
        before = self.compare(source, table)
        assert before.is_equal, before
        self.tick(source, ask_after=timedelta(0))
        after = self.compare(source, table)
        assert before.statement.asked_at != after.statement.asked_at
        assert (before.statement.rows, before.statement.columns) == (
            after.statement.rows,
            after.statement.columns,
        )


@pytest.fixture
def copy(any_mysql: MySQLConnection, postgres: PostgresConnection, lake: str) -> Copy:
    """Two orders, loaded once."""
    copy = Copy(any_mysql, postgres, lake)
    copy.run(
        "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20), d DATE)",
        "INSERT INTO orders VALUES (1, 'a', NULL), (2, 'b', '2026-01-01')",
    )
    copy.tick()
    return copy


def test_what_the_log_did_not_tell_is_never_green_once_the_source_is_asked(copy: Copy) -> None:
    """dbtrail/dbtrail#776: this is not in the log. The checksums of the last load were used again,
    and passed just then. A change that is logged as a statement stops the table.
    """
    copy.tick()
    copy.run("SET SESSION sql_log_bin = 0", "UPDATE orders SET v = 'z'")
    copy.tick(ask_after=timedelta(0))
    result = copy.audit()
    assert not result.passed
    assert not result.is_open
    assert result.details["state"] == "different"
    assert result.details["differing columns"] == ["v"]


def test_a_source_that_was_not_asked_for_too_long_is_not_green(copy: Copy) -> None:
    copy.run("UPDATE orders SET v = 'c' WHERE id = 1")
    copy.tick()
    assert copy.is_proved()
    late = copy.audit(after=audits.MAX_AGE + timedelta(seconds=1))
    assert (late.passed, late.is_open) == (True, True)
    assert late.details["state"] == "not asked within its interval"
    assert late.details["source asked at position"] < late.details["position"]
    # A clock that was set back does not make the last question younger.
    assert copy.audit(after=-timedelta(days=3)).is_open


def test_a_tick_asks_again_after_the_interval(copy: Copy) -> None:
    asked = copy.compare().statement.asked_at
    copy.tick()
    assert copy.compare().statement.asked_at == asked
    query(
        copy.postgres,
        "UPDATE ingestion.statements SET asked_at = asked_at - interval '1 day' RETURNING 1",
    )
    copy.run("SET SESSION sql_log_bin = 0", "DELETE FROM orders WHERE id = 1")
    copy.tick()
    found = copy.compare()
    assert found.statement.asked_at
    assert asked
    assert found.statement.asked_at > asked
    assert (found.statement.rows, found.raw_rows) == (1, 2)


def test_a_full_load_tells_that_it_repaired_what_the_log_did_not_tell(copy: Copy) -> None:
    copy.run("SET SESSION sql_log_bin = 0", "UPDATE orders SET v = 'z' WHERE id = 1")
    [result] = load_all(ORDERS, copy.mysql, copy.postgres, copy.lake, full=True).values()
    assert copy.is_proved()
    assert "updated 1" in "".join(result.warnings)
    [result] = load_all(ORDERS, copy.mysql, copy.postgres, copy.lake, full=True).values()
    assert "repair" not in "".join(result.warnings)


def _rows_read(mysql: MySQLConnection) -> int:
    with mysql.connect() as connection, connection.cursor() as cursor:
        # MySQL's name and MariaDB's. Temporary tables do not count.
        cursor.execute(
            "SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_rows_read', 'Rows_read')"
        )
        [(_, rows)] = cursor.fetchall()
        return int(rows)


def test_a_tick_with_a_changed_row_does_not_read_the_table(copy: Copy) -> None:
    rows = 5_000
    fill(copy.mysql, "orders", [(n, f"row {n}", None) for n in range(10, rows + 10)])
    copy.tick()
    before = copy.compare()
    copy.run("UPDATE orders SET v = 'changed' WHERE id = 77")
    read = _rows_read(copy.mysql)
    copy.tick()
    assert _rows_read(copy.mysql) - read < 100
    after = copy.compare()
    assert after.is_equal
    assert after.position > before.position
    assert after.statement.asked_at == before.statement.asked_at
    read = _rows_read(copy.mysql)
    copy.tick(ask_after=timedelta(0))
    assert _rows_read(copy.mysql) - read >= rows
    copy.assert_added_up()


def _change(dice: random.Random) -> Iterator[str]:
    """The statements of a transaction, which may be rolled back."""
    yield "START TRANSACTION"
    for _ in range(dice.randrange(1, 6)):
        id_, other = dice.randrange(40), dice.randrange(40)
        yield dice.choice(
            [
                f"REPLACE INTO orders VALUES ({id_}, 'v{other}', '2026-01-{1 + id_ % 28}')",
                f"UPDATE orders SET v = 'w{other}', d = NULL WHERE id > {id_}",
                f"UPDATE orders SET d = '0000-00-00' WHERE id IN ({id_}, {other})",
                f"UPDATE IGNORE orders SET id = {other} WHERE id = {id_}",
                f"DELETE FROM orders WHERE id BETWEEN {id_} AND {other}",
                f"INSERT INTO keyless VALUES ({id_}, 'x'), ({id_}, 'x'), (NULL, NULL)",
                f"UPDATE keyless SET v = 'y{other}' WHERE id = {id_}",
                f"DELETE FROM keyless WHERE id < {id_} LIMIT 3",
            ]
        )
    yield "COMMIT" if dice.random() < 0.8 else "ROLLBACK"


@pytest.mark.parametrize("seed", range(3))
def test_what_the_log_tells_is_added_up_exactly(
    copy: Copy, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Updates, new keys, deletions, rows in and out of quarantine, and large transactions in
    parts.
    """
    monkeypatch.setattr(reading, "_PIECE_ROWS", 7)
    dice = random.Random(seed)
    copy.run("CREATE TABLE keyless (id INT, v VARCHAR(10))")
    copy.tick(ALL)
    asked = copy.compare(ALL).statement.asked_at
    for _ in range(6):
        for _ in range(5):
            copy.run("SET sql_mode = ''", *_change(dice))
        copy.tick(ALL)
        for table in ("orders", "keyless"):
            found = copy.compare(ALL, table)
            assert found.is_equal, found
            assert not found.unstated
        assert copy.compare(ALL).statement.asked_at == asked
    for table in ("orders", "keyless"):
        copy.assert_added_up(ALL, table)
        copy.tick(ALL)


def test_a_transaction_that_is_rolled_back_in_the_log_adds_nothing(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has such a transaction whole if a table without transactions took part in it."""
    monkeypatch.setattr(reading, "_PIECE_ROWS", 7)
    copy = Copy(mysql, postgres, lake)
    copy.run(
        "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20))",
        "CREATE TABLE plain (id INT) ENGINE = MyISAM",
        "INSERT INTO orders SELECT seq, 'x' FROM seq_1_to_20",
    )
    copy.tick()
    for rows in (3, 15):
        copy.run(
            "UPDATE orders SET v = 'kept' WHERE id = 1",
            "START TRANSACTION",
            f"UPDATE orders SET v = 'lost' WHERE id <= {rows}",
            "INSERT INTO plain VALUES (1)",
            f"DELETE FROM orders WHERE id <= {rows}",
            "ROLLBACK",
            "UPDATE orders SET v = 'kept, too' WHERE id = 2",
        )
        copy.tick()
        assert copy.compare().is_equal
    copy.assert_added_up()


def test_what_is_read_again_for_the_lake_is_added_once(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lake lists its files more rarely than raw commits. After a kill, the log is read again
    from there, in parts of transactions whose end is not known yet.
    """
    monkeypatch.setattr(reading, "_PIECE_ROWS", 7)
    fill(copy.mysql, "orders", [(n, "before", None) for n in range(10, 60)])
    copy.tick()
    copy.run("UPDATE orders SET v = 'large'", "DELETE FROM orders WHERE id < 30")
    request = LoadRequest(ORDERS, copy.mysql, copy.postgres, copy.lake)
    job = Job.of(request)
    with hold(job) as holder, copy.postgres.connect(autocommit=True) as control:
        # Gone before the lake's files are listed, as if killed.
        Follower(job, holder, control).follow(current_position(copy.mysql))
    assert query(copy.postgres, "SELECT position = lake_position FROM ingestion.streams") == [
        (False,)
    ]
    assert copy.compare().is_equal
    copy.run("INSERT INTO orders VALUES (1000, 'last', NULL)")
    copy.tick()
    copy.assert_added_up()


def test_a_flush_that_fails_adds_nothing(copy: Copy) -> None:
    """Otherwise the changes would count twice when the log is read again."""
    copy.run("INSERT INTO orders VALUES (3, 'c', NULL)", "DELETE FROM orders WHERE id = 1")
    commit = Captured.commit

    def killed(*_: object) -> None:
        raise RuntimeError("killed before the commit")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Captured, "commit", killed)
        with pytest.raises(RuntimeError):
            copy.tick()
    assert Captured.commit is commit
    assert copy.compare().is_equal
    copy.tick()
    copy.assert_added_up()


def test_columns_that_come_go_and_change(copy: Copy) -> None:
    copy.run(
        "ALTER TABLE orders ADD n INT",
        "INSERT INTO orders VALUES (3, 'c', NULL, 7)",
        "UPDATE orders SET n = 1 WHERE id = 1",
    )
    copy.tick()
    assert copy.compare().is_equal
    assert not copy.compare().unstated
    # What the log no longer has is not stated any more: raw keeps its old values.
    copy.run("ALTER TABLE orders DROP n", "UPDATE orders SET v = 'd' WHERE id = 1")
    copy.tick()
    assert copy.compare().is_equal
    assert copy.compare().unstated == ["n"]
    copy.run(
        "ALTER TABLE orders MODIFY id BIGINT, ADD amount DECIMAL(28,2)",
        "INSERT INTO orders VALUES (3000000000, 'big', NULL, 1.5)",
    )
    copy.tick()
    copy.run(
        "ALTER TABLE orders MODIFY amount DECIMAL(40,2)",
        "UPDATE orders SET amount = 2.50 WHERE id = 1",
    )
    copy.tick()
    assert copy.compare().is_equal
    assert copy.compare().unstated == ["n"]
    copy.assert_added_up()


def test_a_table_that_is_emptied_or_renamed(copy: Copy) -> None:
    asked = copy.compare().statement.asked_at
    copy.run("INSERT INTO orders VALUES (3, 'c', NULL)", "TRUNCATE orders")
    copy.run("INSERT INTO orders VALUES (4, 'd', NULL)")
    copy.tick()
    found = copy.compare()
    assert (found.statement.rows, found.statement.asked_at) == (1, asked)
    copy.assert_added_up()
    copy.run(
        "CREATE TABLE fresh LIKE orders",
        "INSERT INTO fresh VALUES (8, 'h', NULL), (9, 'i', NULL)",
        "RENAME TABLE orders TO gone, fresh TO orders",
        "INSERT INTO orders VALUES (10, 'j', NULL)",
    )
    copy.tick()
    found = copy.compare()
    assert found.is_equal
    assert found.statement.rows == 3
    copy.assert_added_up()


def test_rows_with_new_columns_that_go_to_quarantine(copy: Copy) -> None:
    """Such rows fit, and are not in raw. So the log alone does not tell what raw has to have."""
    source = source_of(cdc("orders", "id", contract="quarantine"))
    copy.tick(source)
    copy.run("ALTER TABLE orders ADD n INT", "INSERT INTO orders VALUES (3, 'c', NULL, 7)")
    copy.tick(source)
    assert copy.compare(source).is_equal
    copy.run("UPDATE orders SET n = NULL WHERE id = 3", "UPDATE orders SET n = 1 WHERE id = 1")
    copy.tick(source)
    found = copy.compare(source)
    assert found.is_equal
    assert found.quarantined_rows == 1


def test_a_table_that_was_read_again_is_asked_at_the_next_load(copy: Copy) -> None:
    copy.run("INSERT INTO orders VALUES (3, 'c', NULL)")
    resnapshot(ORDERS, copy.mysql, copy.postgres, copy.lake)
    result = copy.audit()
    assert (result.passed, result.is_open) == (True, True)
    assert "read from the source again" in result.details["state"]
    copy.tick()
    assert copy.is_proved()


@pytest.mark.parametrize("strategy", ["cdc", "snapshot"])
def test_reconcile_asks_and_the_check_knows_what_it_found(copy: Copy, strategy: str) -> None:
    source = ORDERS if strategy == "cdc" else source_of(snapshot("orders", "id"))
    copy.tick(source)
    before = copy.compare(source).statement
    with copy.postgres.connect() as session:
        session.execute("UPDATE raw_t.orders SET v = 'not so' WHERE id = 2")
    assert copy.audit(source=source).details["differing columns"] == ["v"]
    if strategy == "cdc":
        copy.run("SET SESSION sql_log_bin = 0", "UPDATE orders SET d = '2026-02-02' WHERE id = 1")
    request = LoadRequest(source, copy.mysql, copy.postgres, copy.lake)
    assert reconcile(request, "orders").differing == 1 + (strategy == "cdc")
    after = copy.compare(source)
    assert before.asked_at
    assert after.statement.asked_at
    assert after.statement.asked_at > before.asked_at
    assert after.differing == (["v", "d"] if strategy == "cdc" else ["v"])
    reconcile(request, "orders", repair=True)
    assert copy.is_proved(source)


def test_a_stream_keeps_the_statement_and_a_comparison_sees_both_at_one_moment(
    copy: Copy,
) -> None:
    over, request = threading.Event(), LoadRequest(ORDERS, copy.mysql, copy.postgres, copy.lake)
    follower = threading.Thread(
        target=stream, args=(ORDERS, copy.mysql, copy.postgres, copy.lake), kwargs={"stopped": over}
    )
    asked = copy.compare().statement.asked_at
    follower.start()
    try:
        for turn in range(40):
            copy.run(
                f"REPLACE INTO orders VALUES ({turn % 7}, 'v{turn}', NULL)",
                f"UPDATE orders SET v = 'w{turn}' WHERE id <> {turn % 3}",
            )
            found = copy.compare()
            assert found.is_equal, found
            if turn == 20:
                # The answer is of the position where it was given, and the log has gone on since.
                assert reconcile(request, "orders").differences == 0
                assert copy.compare().statement.asked_at != asked
            time.sleep(0.02)
    finally:
        over.set()
        follower.join(60)
    copy.tick()
    copy.assert_added_up()


def test_a_table_of_900_columns_is_compared(
    mysql: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """PostgreSQL takes 1,664 items in a select list. Two are needed for each column."""
    copy = Copy(mysql, postgres, lake)
    columns = ", ".join(f"c{n} SMALLINT" for n in range(900))
    copy.run(
        f"CREATE TABLE orders (id INT PRIMARY KEY, {columns})",
        "INSERT INTO orders (id, c0, c899) VALUES (1, 5, 6)",
    )
    copy.tick()
    copy.run("UPDATE orders SET c899 = 7", "INSERT INTO orders (id, c450) VALUES (2, 1)")
    copy.tick()
    assert len(copy.compare().compared) == 901
    copy.assert_added_up()
    with postgres.connect() as session:
        session.execute("UPDATE raw_t.orders SET c899 = 0 WHERE id = 1")
    assert copy.audit().details["differing columns"] == ["c899"]


@pytest.fixture
def unread(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> Copy:
    """The orders, compared once. Whoever reads all of raw again fails."""
    assert copy.compare().is_equal
    checksums = RawTable.checksums

    def watched(self: RawTable, *of: object, held: bool | None = None) -> object:
        assert held, "all of raw was read"
        return checksums(self, *of, held=held)

    monkeypatch.setattr(RawTable, "checksums", watched)
    monkeypatch.setattr(RawTable, "rows", watched)
    return copy


def test_a_check_reads_nothing_of_raw_but_what_has_changed(unread: Copy) -> None:
    read_at = unread.compare().raw_read_at
    assert read_at
    unread.run(
        "INSERT INTO orders VALUES (3, NULL, '2026-03-03'), (4, 'é🛒', NULL)",
        "UPDATE orders SET v = 'B', d = NULL WHERE id = 2",
        "DELETE FROM orders WHERE id = 1",
        "UPDATE orders SET id = 5 WHERE id = 4",
    )
    unread.tick()
    found = unread.compare()
    assert (found.is_equal, found.raw_rows, found.raw_read_at) == (True, 3, read_at)
    assert unread.is_proved()
    for audit in (audits.volume_plausible, audits.quarantine_small):
        assert audit(unread.postgres, ORDERS, ORDERS.tables[0]).passed


@pytest.mark.parametrize(
    ("statement", "differing"),
    [
        ("UPDATE raw_t.orders SET v = 'x' WHERE id = 1", ["v"]),
        ("UPDATE raw_t.orders SET _deleted = true WHERE id = 1", ["id", "v"]),
        ("DELETE FROM raw_t.orders", ["id", "v", "d"]),
        ("INSERT INTO raw_t.orders SELECT 3, v, d, _deleted, now(), '' FROM raw_t.orders", None),
    ],
)
def test_what_somebody_else_did_to_raw_is_seen_without_reading_it(
    unread: Copy, statement: str, differing: list[str] | None
) -> None:
    with unread.postgres.connect() as session:
        session.execute(statement.replace("SELECT 3", "SELECT id + 2").encode())
    assert not unread.audit().passed
    assert differing is None or unread.compare().differing == differing


def test_all_of_raw_is_read_when_the_source_was_asked_anew(copy: Copy) -> None:
    """A superuser can change rows without any trigger, and a disk can."""
    first = copy.compare()
    with copy.postgres.connect() as session:
        session.execute("SET session_replication_role = replica")
        session.execute("UPDATE raw_t.orders SET v = 'x' WHERE id = 1")
    copy.tick(ask_after=timedelta(0))
    found = copy.compare()
    assert first.raw_read_at
    assert found.raw_read_at
    assert found.raw_read_at > first.raw_read_at
    assert found.differing == ["v"]


def test_a_write_of_many_rows_is_not_followed_and_read_later(
    copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Following it would take a catch-up several times as long."""
    monkeypatch.setattr(carried, "_MOST_ROWS", 2)
    first = copy.compare()
    copy.run("INSERT INTO orders VALUES (3, 'c', NULL), (4, 'd', NULL), (5, 'e', NULL)")
    copy.tick()
    assert query(copy.postgres, "SELECT read_at FROM ingestion.raw_sums") == [(None,)]
    second = copy.compare()
    assert (second.is_equal, second.raw_rows) == (True, 5)
    assert first.raw_read_at != second.raw_read_at
    copy.run("UPDATE orders SET v = 'z' WHERE id < 3")
    copy.tick()
    third = copy.compare()
    assert (third.is_equal, third.raw_read_at) == (True, second.raw_read_at)


def test_columns_that_change_their_type_or_name_keep_no_write_from_raw(copy: Copy) -> None:
    copy.compare()
    copy.run(
        "ALTER TABLE orders MODIFY v VARBINARY(20), ADD `more` INT DEFAULT 4, ADD `many` INT, "
        "ADD `rows_now` INT, ADD `sums` INT, ADD `a%b` INT DEFAULT 5",
        "INSERT INTO orders (id, `more`) VALUES (3, 3)",
    )
    copy.tick()
    copy.run("UPDATE orders SET `more` = 5, `a%b` = 6 WHERE id = 1")
    copy.tick(ask_after=timedelta(0))
    assert len(copy.compare().compared) == 8
    copy.run("UPDATE orders SET `sums` = 5, v = 'q' WHERE id = 2", "DELETE FROM orders WHERE id=3")
    copy.tick()
    before = copy.compare()
    assert before.is_equal, before
    copy.run("ALTER TABLE orders DROP `more`", "UPDATE orders SET v = 'r'")
    copy.tick()
    with copy.postgres.connect() as session:
        session.execute("ALTER TABLE raw_t.orders DROP many")
    copy.run("ALTER TABLE orders DROP `many`", "UPDATE orders SET v = 's'")
    copy.tick()
    there = query(copy.postgres, "SELECT DISTINCT v FROM raw_t.orders WHERE NOT _deleted")
    assert there == [(b"s",)]
    assert not copy.compare().differing


def test_writes_while_all_rows_are_read_are_not_lost(copy: Copy) -> None:
    """The sums of all rows are those of a moment, and the table goes on."""
    with copy.postgres.connect() as session:
        sums = CarriedSums(session, ("t", "orders"), "raw_t.orders", ["count(*)", "sum(id)"])
        sums.follow()
        then = sums.read()
        assert then
        moment = session.execute("SELECT now()").fetchone()
        assert moment
        session.execute("DELETE FROM raw_t.orders WHERE id = 2")
        sums.complete(then, [Decimal(2), Decimal(3)], moment[0])
        session.execute("UPDATE raw_t.orders SET id = 9 WHERE id = 1")
        after = sums.read()
        assert after
        assert (after.sums, after.is_whole_since(moment[0])) == ([1, 9], True)
        session.execute("TRUNCATE raw_t.orders")
        # Of the generation before.
        sums.complete(then, [Decimal(2), Decimal(3)], moment[0])
        assert sums.read() is None
        kept = session.execute("SELECT read_at, sums FROM ingestion.raw_sums").fetchall()
        assert kept == [(None, [0, 0])]


@pytest.mark.parametrize(
    ("statement", "differing"),
    [
        ("ALTER TABLE raw_t.orders ALTER v TYPE text USING upper(v)", ["v"]),
        ("ALTER TABLE raw_t.orders DROP d, ADD d date", ["d"]),
        (
            "ALTER TABLE raw_t.orders RENAME v TO w; ALTER TABLE raw_t.orders ADD v text;"
            "ALTER TABLE raw_t.orders DROP w",
            ["v"],
        ),
    ],
)
def test_values_that_an_altered_table_lost_are_seen(
    copy: Copy, statement: str, differing: list[str]
) -> None:
    """No trigger sees them. The column has its name and type, as the sums know it."""
    copy.run("UPDATE orders SET d = '2026-01-01'")
    copy.tick()
    assert copy.compare().is_equal
    with copy.postgres.connect() as session:
        session.execute(statement.encode())
    assert copy.compare().differing == differing


def test_sums_begin_beside_readers_and_in_two_sessions(copy: Copy) -> None:
    copy.compare()
    began, failed = threading.Event(), []

    def follow() -> None:
        try:
            with copy.postgres.connect() as session:
                session.execute("SET lock_timeout = '10s'")
                began.set()
                other_sums(session).follow()
        except Exception as error:
            failed.append(error)

    def other_sums(session: psycopg.Connection) -> CarriedSums:
        return CarriedSums(session, ("t", "orders"), "raw_t.orders", ["count(*)", "sum(id)"])

    with copy.postgres.connect() as reader, copy.postgres.connect() as session:
        reader.execute("SELECT FROM raw_t.orders")
        session.execute("SET lock_timeout = '2s'")
        other_sums(session).follow()
        second = threading.Thread(target=follow)
        second.start()
        assert began.wait(10)
        time.sleep(0.5)
        session.commit()
        second.join(20)
        assert not failed
        assert other_sums(session).read()


def test_a_check_does_not_wait_for_whoever_writes_for_long(copy: Copy) -> None:
    copy.compare()
    with copy.postgres.connect() as session:
        # The next check reads all rows, and would like to keep what they add up to.
        session.execute("UPDATE ingestion.raw_sums SET read_at = NULL")
        session.commit()
        session.execute("SELECT FROM ingestion.raw_sums FOR UPDATE")
        with ThreadPoolExecutor(1) as executor:
            checked = executor.submit(copy.compare)
            try:
                assert checked.result(timeout=20).is_equal
            finally:
                session.rollback()
    assert query(copy.postgres, "SELECT read_at FROM ingestion.raw_sums") == [(None,)]
    assert copy.compare().is_equal
    assert query(copy.postgres, "SELECT read_at FROM ingestion.raw_sums") != [(None,)]
