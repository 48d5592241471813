"""The binary log as MariaDB and real MySQL send it."""

from __future__ import annotations

import json
import random
import re
import struct
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from softcart_assets.connections import MySQLConnection
from softcart_assets.ingestion.changes import DELETE, INSERT, UPDATE
from softcart_assets.ingestion.codec.logrows import RowsDecoder
from softcart_assets.ingestion.connectors.mysql import jsonb
from softcart_assets.ingestion.connectors.mysql.events import (
    Commit,
    Event,
    Idle,
    Rollback,
    Rows,
    Statement,
    Unreadable,
)
from softcart_assets.ingestion.connectors.mysql.gtid import GtidSet
from softcart_assets.ingestion.connectors.mysql.log import BinaryLog
from softcart_assets.ingestion.connectors.mysql.schema import source_type_of
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.connectors.mysql.state import (
    ServerState,
    bytes_behind,
    current_state,
)
from softcart_assets.ingestion.errors import PositionPurged, SourceLost
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.types import Column


@contextmanager
def session(mysql: MySQLConnection) -> Iterator[Session]:
    with closing(Session(mysql)) as opened:
        opened.query("SET autocommit = 1")
        yield opened


def run(mysql: MySQLConnection, *statements: str) -> None:
    with session(mysql) as opened:
        for statement in statements:
            opened.query(statement)


def state(mysql: MySQLConnection) -> ServerState:
    with session(mysql) as opened:
        return current_state(opened)


def is_mariadb(mysql: MySQLConnection) -> bool:
    with session(mysql) as opened:
        return opened.is_mariadb


def read(
    mysql: MySQLConnection, start: ServerState, *tables: str, end: Position | None = None, **options
) -> list[Event]:
    """The events of this database from a state to the end, or what the log has by now."""
    wanted = {table: table for table in tables}
    with BinaryLog(
        "t", mysql, wanted, start.position, end=end or state(mysql).position, **options
    ) as log:
        return [
            event
            for event in log
            if not isinstance(event, Statement) or event.database == mysql.database
        ]


def changes(events: list[Event]) -> list[tuple]:
    """Table, kind and number of rows of every event with rows."""
    return [(e.table_map.table, e.kind, len(values([e]))) for e in events if isinstance(e, Rows)]


def values(events: list[Event]) -> list[int | None]:
    """The first column, a whole number, of all rows (of updates the new ones)."""
    result = []
    for event in events:
        if isinstance(event, Rows):
            columns = event.table_map.columns
            decoder = RowsDecoder(
                columns, [0], [Column(columns[0].name, "int", "integer")], jsonb.to_text
            )
            decoder.decode(event.body, event.kind)
            batch, _, others = decoder.take()
            assert not others
            result += batch.column(0).to_pylist()
    return result


def committed(events: list[Event]) -> list[list[Event]]:
    """The transactions that have anything in them, without what was rolled back."""
    transactions, current = [], []
    for event in events:
        match event:
            case Commit():
                if current:
                    transactions.append([*current, event])
                current = []
            case Rollback():
                current = []
            case Rows() | Statement():
                current.append(event)
    assert not current
    return transactions


def test_changes_come_in_order_and_by_transaction(any_mysql: MySQLConnection) -> None:
    start = state(any_mysql)
    run(
        any_mysql,
        "CREATE TABLE a (id int PRIMARY KEY, x varchar(10))",
        "CREATE TABLE b (x int, y int, PRIMARY KEY (y, x))",
        "CREATE TABLE unwanted (id int)",
        "INSERT INTO a VALUES (1, 'x'), (2, 'y'), (3, NULL)",
        "UPDATE a SET id = id + 10 WHERE id < 3",
        "DELETE FROM a WHERE id = 3",
        "START TRANSACTION",
        "INSERT INTO b VALUES (1, 1)",
        "INSERT INTO unwanted VALUES (1)",
        "INSERT INTO a VALUES (5, '')",
        "INSERT INTO b VALUES (2, 2), (3, 3)",
        "COMMIT",
        "START TRANSACTION",
        "INSERT INTO b VALUES (9, 9)",
        "ROLLBACK",
        "INSERT INTO unwanted VALUES (2)",
        "TRUNCATE a",
    )
    before = time.time()
    events = read(any_mysql, start, "a", "b")
    transactions = committed(events)
    assert [e.sql.split(" (")[0] for e in events if isinstance(e, Statement)] == [
        "CREATE TABLE a",
        "CREATE TABLE b",
        "CREATE TABLE unwanted",
        "TRUNCATE a",
    ]
    assert [changes(t) for t in transactions[3:]] == [
        [("a", INSERT, 3)],
        [("a", UPDATE, 4)],  # the key changes: each counts twice
        [("a", DELETE, 1)],
        [("b", INSERT, 1), ("a", INSERT, 1), ("b", INSERT, 2)],
        [],
    ]
    assert values(transactions[3]) == [1, 2, 3]
    rows = [e for e in events if isinstance(e, Rows)]
    assert rows[0].table_map is rows[1].table_map is rows[2].table_map
    assert (rows[0].table_map.key, rows[3].table_map.key) == ((0,), (1, 0))
    commits = [e for e in events if isinstance(e, Commit)]
    assert [c.position for c in commits] == sorted(c.position for c in commits)
    assert commits[-1].position == state(any_mysql).position
    assert all(before - 60 < c.committed_at / 1e6 < before + 60 for c in commits)
    assert is_mariadb(any_mysql) or any(c.committed_at % 1_000_000 for c in commits)


def test_reading_stops_exactly_at_the_end(any_mysql: MySQLConnection) -> None:
    run(any_mysql, "CREATE TABLE a (id int PRIMARY KEY)")
    start = state(any_mysql)
    ends = []
    for number in range(5):
        run(
            any_mysql,
            f"INSERT INTO a VALUES ({number})",
            *(["FLUSH BINARY LOGS"] if number % 2 else []),
        )
        ends.append(state(any_mysql).position)
    for number, end in enumerate(ends):
        assert values(read(any_mysql, start, "a", end=end)) == list(range(number + 1))
    assert read(any_mysql, state(any_mysql), "a", end=ends[-1]) == []
    middle = next(e for e in read(any_mysql, start, "a") if isinstance(e, Commit))
    with BinaryLog("t", any_mysql, {"a": "a"}, middle.position, end=ends[-1]) as log:
        assert values(list(log)) == [1, 2, 3, 4]


def test_the_end_is_reached_even_if_nothing_is_committed_there(any_mysql: MySQLConnection) -> None:
    start = state(any_mysql)
    run(any_mysql, "FLUSH BINARY LOGS")
    assert isinstance(last := read(any_mysql, start)[-1], Idle)
    at = state(any_mysql).position
    assert last.position >= at._replace(offset=0)


def test_idle_and_caught_up(any_mysql: MySQLConnection) -> None:
    run(any_mysql, "CREATE TABLE a (id int PRIMARY KEY)")
    start = state(any_mysql)
    seen = []
    with BinaryLog("t", any_mysql, {"a": "a"}, start.position, poll=0.02) as log:
        for event in log:
            seen.append(event)
            if isinstance(event, Idle) and event.caught_up:
                if any(isinstance(e, Rows) for e in seen):
                    break
                if sum(isinstance(e, Idle) and e.caught_up for e in seen) == 1:
                    run(any_mysql, "INSERT INTO a VALUES (1)")
    assert values(seen) == [1]
    assert event.position == state(any_mysql).position


def test_another_thread_may_hang_up(any_mysql: MySQLConnection) -> None:
    log = BinaryLog("t", any_mysql, {}, state(any_mysql).position)
    threading.Timer(0.3, log.close).start()
    assert all(isinstance(event, Idle | Commit) for event in log)


def test_columns_are_those_of_the_catalog(any_mysql: MySQLConnection) -> None:
    own = (
        "k uuid, l inet6, l4 inet4, m json, gc geometrycollection"
        if is_mariadb(any_mysql)
        else "m json, vec vector(5), gb varchar(10) CHARACTER SET gb18030, gc geomcollection"
    )
    run(
        any_mysql,
        f"""CREATE TABLE t (
            id int unsigned AUTO_INCREMENT PRIMARY KEY, a varchar(20),
              b varchar(10) CHARACTER SET latin1, c char(5), d decimal(10,2)
            unsigned, d2 decimal(65,30), e enum('x','y''z','ä') CHARACTER SET latin1,
              f set('p','q') CHARACTER SET ucs2, g text, h blob,
            i binary(16), j varbinary(300), {own}, n point, o bit(10), p year, q date,
              r datetime(3), s timestamp NULL, u time(6),
            v double, w float unsigned, x bigint unsigned, y tinyint, y2 tinyint unsigned,
              z mediumint, s2 smallint unsigned,
            aa char(200) CHARACTER SET utf8mb4, ab longtext CHARACTER SET ucs2, ad geometry,
              ae tinyblob, af longblob, ag mediumtext,
            ah varchar(9) CHARACTER SET greek, ai char(9) CHARACTER SET cp932, aj binary(4),
              `odd `` näme` int,
            gen int GENERATED ALWAYS AS (y + 1) VIRTUAL, bits bit(64), multi multipolygon)""",
    )
    start = state(any_mysql)
    run(any_mysql, "INSERT INTO t () VALUES ()")
    rows = next(e for e in read(any_mysql, start, "t") if isinstance(e, Rows))
    with session(any_mysql) as opened:
        catalog = opened.query(
            "SELECT column_name, column_type, is_nullable, character_set_name FROM "
            "information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = 't' ORDER BY ordinal_position"
        )
    expected = [
        (name, re.sub(r"^(\w*int|year)\(\d+\)", r"\1", kind or ""), nullable == "YES")
        for name, kind, nullable, _ in catalog
    ]
    assert [(c.name, source_type_of(c), c.nullable) for c in rows.table_map.columns] == expected
    assert {c.name for c in rows.table_map.columns if c.charset != "binary"} == {
        name
        for name, kind, _, charset in catalog
        if charset and kind not in ("uuid", "inet6", "inet4")
    }
    assert next(c for c in rows.table_map.columns if c.name == "e").labels == ("x", "y'z", "ä")


def test_a_form_that_changes_is_noticed(mysql: MySQLConnection) -> None:
    start = state(mysql)
    run(mysql, "CREATE TABLE t (id int, u binary(16))", "INSERT INTO t VALUES (1, 'x')")
    with BinaryLog("t", mysql, {"t": "t"}, start.position) as log:
        events = iter(log)
        first = next(e for e in events if isinstance(e, Rows))
        run(
            mysql,
            "DELETE FROM t",
            "ALTER TABLE t MODIFY u uuid",
            "INSERT INTO t VALUES (1, uuid())",
        )
        last = [next(e for e in events if isinstance(e, Rows)) for _ in range(2)][-1]
    assert [c.form for c in first.table_map.columns] == ["", ""]
    assert [c.form for c in last.table_map.columns] == ["", "uuid"]


def test_every_character_of_a_charset_of_one_byte(any_mysql: MySQLConnection) -> None:
    run(
        any_mysql,
        "CREATE TABLE t (id int, a varchar(256) CHARACTER SET latin1, b varchar(256) CHARACTER SET "
        "armscii8)",
    )
    start = state(any_mysql)
    run(
        any_mysql,
        f"INSERT INTO t VALUES (1, X'{bytes(range(256)).hex()}', X'{bytes(range(256)).hex()}')",
    )
    rows = next(e for e in read(any_mysql, start, "t") if isinstance(e, Rows))
    with session(any_mysql) as opened:
        expected = opened.query("SELECT a, b FROM t")[0]
    columns = [Column(c.name, "text", "text") for c in rows.table_map.columns[1:]]
    assert [bytes(range(256)).decode(c.charset) for c in rows.table_map.columns[1:]] == list(
        expected
    )
    assert [c.name for c in columns] == ["a", "b"]


def test_purged_position(any_mysql: MySQLConnection) -> None:
    start = state(any_mysql)
    run(any_mysql, "CREATE TABLE a (id int)", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS")
    with session(any_mysql) as opened:
        current = current_state(opened).position.file
        while True:  # a file may still be in use for a moment
            opened.query(f"PURGE BINARY LOGS TO '{current}'")
            if len(files := opened.query("SHOW BINARY LOGS")) == 1:
                break
            time.sleep(0.1)
    for options in ({}, {"server": "another", "gtids": start.gtids}):
        with pytest.raises(PositionPurged) as raised:
            read(any_mysql, start, **options)
        assert str(start.position) in str(raised.value)
        # Another server's list of files says nothing about the log that was followed.
        expected = options.get("server") or files[0][0]
        assert str(expected) in str(raised.value)
        assert "softcart resnapshot t" in str(raised.value)


def test_another_server_is_read_by_gtid(any_mysql: MySQLConnection) -> None:
    run(any_mysql, "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1)")
    middle = state(any_mysql)
    run(any_mysql, "INSERT INTO a VALUES (2)", "FLUSH BINARY LOGS", "INSERT INTO a VALUES (3)")
    end = state(any_mysql)
    same = read(any_mysql, middle, "a", server=middle.server)
    other = read(any_mysql, middle, "a", server="another", gtids=middle.gtids)
    assert values(same) == values(other) == [2, 3]
    positions = [e.position for e in other if isinstance(e, Commit)]
    assert positions == [e.position.in_epoch(1) for e in same if isinstance(e, Commit)]
    # On from there: the same server again, then yet another one.
    wanted = {"a": "a"}
    with BinaryLog(
        "t", any_mysql, wanted, positions[0], server=end.server, end=end.position
    ) as log:
        third = list(log)
    assert values(third) == [3]
    gtids = GtidSet(str(middle.gtids))
    for event in same:
        if isinstance(event, Commit) and event.gtid:
            gtids.add(event.gtid)
    assert str(gtids) == str(end.gtids)
    with pytest.raises(PositionPurged, match="no GTIDs"):
        BinaryLog("t", any_mysql, wanted, middle.position, server="another")
    lost = "0-9-999999" if is_mariadb(any_mysql) else f"{uuid.uuid4()}:1-3"
    with pytest.raises(PositionPurged, match="softcart resnapshot t"):
        read(any_mysql, end, "a", server="another", gtids=GtidSet(f"{end.gtids},{lost}"))


def test_transactions_and_rows_beyond_a_packet(any_mysql: MySQLConnection) -> None:
    run(any_mysql, "CREATE TABLE a (id int PRIMARY KEY, x longblob)")
    start = state(any_mysql)
    lengths = (
        [(1 << 24) - 200 + n for n in range(150, 190, 3)]
        if is_mariadb(any_mysql)
        else [(1 << 24) - 30]
    )
    run(
        any_mysql,
        "INSERT INTO a VALUES (1, REPEAT('x', 40 << 20))",
        "INSERT INTO a SELECT 2, REPEAT('y', 1 << 20)",
    )
    run(any_mysql, *(f"REPLACE INTO a VALUES (3, REPEAT('z', {length}))" for length in lengths))
    run(
        any_mysql,
        "START TRANSACTION",
        *(f"INSERT INTO a VALUES ({n}, REPEAT('x', 1 << 20))" for n in range(10, 40)),
        "COMMIT",
    )
    transactions = committed(read(any_mysql, start, "a"))
    assert values(transactions[0]) == [1]
    assert len(transactions[0][0].body) > 40 << 20
    assert values(transactions[1]) == [2]
    assert values(transactions[-1]) == list(range(10, 40))
    assert len(transactions) == 3 + len(lengths)


def test_compressed_transactions(any_mysql: MySQLConnection) -> None:
    run(any_mysql, "CREATE TABLE a (id int PRIMARY KEY, x mediumtext)")
    start = state(any_mysql)
    statements = [
        "INSERT INTO a SELECT 1, REPEAT('x', 100000)",
        "START TRANSACTION",
        "INSERT INTO a VALUES (2, REPEAT('y', 300)), (3, '')",
        "UPDATE a SET x = CONCAT(x, 'z') WHERE id < 3",
        "COMMIT",
        "CREATE TABLE b (id int, x text COMMENT '" + "long " * 60 + "')",
        "DELETE FROM a",
    ]
    if is_mariadb(any_mysql):
        run(any_mysql, "SET GLOBAL log_bin_compress = ON, log_bin_compress_min_len = 10")
        try:
            run(any_mysql, *statements)
        finally:
            run(any_mysql, "SET GLOBAL log_bin_compress = OFF, log_bin_compress_min_len = DEFAULT")
    else:
        run(any_mysql, "SET SESSION binlog_transaction_compression = ON", *statements)
    events = read(any_mysql, start, "a")
    assert bytes_behind_of(any_mysql, start.position) < 50_000
    assert [e.sql.startswith("CREATE TABLE b") for e in events if isinstance(e, Statement)] == [
        True
    ]
    assert [values(t) for t in committed(events)] == [[1], [2, 3, 1, 2], [], [1, 2, 3]]


def bytes_behind_of(mysql: MySQLConnection, position: Position) -> int:
    with session(mysql) as opened:
        return bytes_behind(opened, position)


def test_bytes_behind(any_mysql: MySQLConnection) -> None:
    start = state(any_mysql).position
    assert bytes_behind_of(any_mysql, start) == 0
    run(
        any_mysql,
        "CREATE TABLE a (x longblob)",
        "FLUSH BINARY LOGS",
        "INSERT INTO a VALUES (REPEAT('x', 1000000))",
    )
    assert 1_000_000 < bytes_behind_of(any_mysql, start) < 1_010_000
    assert bytes_behind_of(any_mysql, state(any_mysql).position.in_epoch(1)) < 1_000


def test_xa_transactions_count_when_they_are_committed(any_mysql: MySQLConnection) -> None:
    run(any_mysql, "CREATE TABLE a (id int PRIMARY KEY)", "CREATE TABLE b (id int PRIMARY KEY)")
    start = state(any_mysql)
    xid = f"'{any_mysql.database}','branch',7"
    run(
        any_mysql,
        f"XA START {xid}",
        "INSERT INTO a VALUES (1), (2)",
        f"XA END {xid}",
        f"XA PREPARE {xid}",
    )
    run(any_mysql, "INSERT INTO a VALUES (3)", "FLUSH BINARY LOGS")
    prepared = state(any_mysql)
    run(any_mysql, f"XA COMMIT {xid}", "INSERT INTO a VALUES (4)")
    run(
        any_mysql,
        f"XA START {xid}",
        "INSERT INTO a VALUES (5)",
        f"XA END {xid}",
        f"XA PREPARE {xid}",
    )
    run(any_mysql, f"XA ROLLBACK {xid}")
    run(
        any_mysql,
        f"XA START {xid}",
        "INSERT INTO a VALUES (6)",
        f"XA END {xid}",
        f"XA COMMIT {xid} ONE PHASE",
    )
    expected = [[3], [1, 2], [4], [6]]
    assert [values(t) for t in committed(read(any_mysql, start, "a"))] == expected
    # Prepared before reading starts, it is looked for.
    assert [values(t) for t in committed(read(any_mysql, prepared, "a"))] == expected[1:]
    assert read(any_mysql, prepared, "b")


def test_what_is_rolled_back_to_a_savepoint(mysql: MySQLConnection) -> None:
    """That reaches the log only together with changes that cannot be rolled back."""
    run(
        mysql,
        "CREATE TABLE a (id int PRIMARY KEY)",
        "CREATE TABLE m (id int) ENGINE = Aria TRANSACTIONAL = 0",
    )
    start = state(mysql)
    run(
        mysql,
        *(
            "START TRANSACTION",
            "INSERT INTO a VALUES (1)",
            "SAVEPOINT `one`",
            "INSERT INTO a VALUES (2)",
        ),
        *("CREATE TEMPORARY TABLE t (x int)", "DROP TEMPORARY TABLE t", "INSERT INTO m VALUES (1)"),
        *(
            "ROLLBACK TO one",
            "INSERT INTO a VALUES (3)",
            "SAVEPOINT two",
            "INSERT INTO a VALUES (4)",
        ),
        *(
            "INSERT INTO m VALUES (2)",
            "ROLLBACK TO one",
            "INSERT INTO a VALUES (5)",
            "COMMIT",
            "INSERT INTO a VALUES (6)",
        ),
    )
    assert [values(t) for t in committed(read(mysql, start, "a"))] == [[1, 5], [6]]
    assert [values(t) for t in committed(read(mysql, start, "m"))] == [[1], [2]]


def test_alter_in_two_phases(mysql: MySQLConnection) -> None:
    run(mysql, "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1), (2)")
    start = state(mysql)
    run(mysql, "SET SESSION binlog_alter_two_phase = ON", "ALTER TABLE a ADD x int DEFAULT 7")
    with pytest.raises(Exception, match="Duplicate"):
        run(mysql, "SET SESSION binlog_alter_two_phase = ON", "ALTER TABLE a ADD UNIQUE (x)")
    run(mysql, "INSERT INTO a VALUES (3, 3)")
    events = read(mysql, start, "a")
    assert [e.sql for e in events if isinstance(e, Statement)] == [
        "ALTER TABLE a ADD x int DEFAULT 7"
    ]
    assert values(events) == [3]


@pytest.mark.parametrize(
    ("setting", "fix"),
    [
        ("binlog_row_image = 'MINIMAL'", "binlog_row_image = FULL"),
        ("binlog_row_image = 'NOBLOB'", "binlog_row_image = FULL"),
        ("binlog_format = 'STATEMENT'", "binlog_format = ROW"),
        ("binlog_row_value_options = 'PARTIAL_JSON'", "binlog_row_value_options = ''"),
        ("GLOBAL binlog_row_metadata = 'MINIMAL'", "binlog_row_metadata = FULL"),
    ],
)
def test_settings_under_which_the_log_does_not_tell_enough(
    any_mysql: MySQLConnection, setting: str, fix: str
) -> None:
    if "PARTIAL" in setting and is_mariadb(any_mysql):
        pytest.skip("a setting of MySQL")
    run(
        any_mysql,
        "CREATE TABLE a (id int PRIMARY KEY, x text, j json)",
        "CREATE TABLE unwanted LIKE a",
        "CREATE TABLE b LIKE a",
    )
    run(
        any_mysql, "INSERT INTO a VALUES (1, 'x', '[1, 2]')", "INSERT INTO unwanted SELECT * FROM a"
    )
    start = state(any_mysql)
    try:
        for table in ("unwanted", "a"):
            run(
                any_mysql,
                f"SET {setting}",
                f"UPDATE {table} SET id = 2, j = json_set(j, '$[0]', 3)",
            )
    finally:
        run(any_mysql, "SET GLOBAL binlog_row_metadata = 'FULL'")
    run(any_mysql, "INSERT INTO b VALUES (1, 'x', '{}')")
    events = read(any_mysql, start, "a", "b")
    refused = [event for event in events if isinstance(event, Unreadable)]
    assert {f"SET GLOBAL {fix}" in each.what + each.remedy for each in refused} == {True}
    # Which tables a statement changes, only the server knows.
    every = {("a", "b")} if "STATEMENT" in setting else {("a",)}
    assert {each.tables for each in refused} == every
    assert changes(events) == [("b", INSERT, 1)]
    assert changes(read(any_mysql, start, "other")) == []


def test_a_server_that_is_killed(mysql97: MySQLConnection, mysql97_server) -> None:
    run(mysql97, "CREATE TABLE a (id int PRIMARY KEY)")
    start = state(mysql97)
    run(mysql97, "INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)")
    wanted = {"a": "a"}
    seen: list[Event] = []

    def read_until_killed() -> None:
        with BinaryLog("t", mysql97, wanted, start.position) as log:
            for event in log:
                seen.append(event)
                if isinstance(event, Commit) and values(seen) == [1]:
                    process = mysql97_server.process()
                    process.kill()
                    process.wait()

    try:
        with pytest.raises(SourceLost, match="the next run continues"):
            read_until_killed()
        with pytest.raises(SourceLost):
            BinaryLog("t", mysql97, wanted, start.position)
    finally:
        mysql97_server.up()  # other tests need it
    position = [e.position for e in seen if isinstance(e, Commit)][-1]
    run(mysql97, "INSERT INTO a VALUES (3)")
    with BinaryLog(
        "t", mysql97, wanted, position, server=start.server, end=state(mysql97).position
    ) as log:
        seen += log
    assert values(seen) == [1, 2, 3]


def test_json_as_the_server_writes_it(mysql97: MySQLConnection) -> None:
    generator = random.Random(7)

    def document(depth: int = 0) -> object:
        match generator.randrange(8 if depth < 4 else 5):
            case 0:
                return generator.choice([None, True, False])
            case 1:
                return generator.choice(
                    [generator.randrange(-(2**b), 2**b) for b in (15, 31, 63)] + [2**64 - 1]
                )
            case 2:
                value = struct.unpack("<d", generator.randbytes(8))[0]
                return value if abs(value) < 1e308 else 0.5
            case 3:
                return generator.random() * 10 ** generator.randrange(-20, 25)
            case 4:
                return "".join(
                    generator.choices(
                        'ab\n\t"\\\x01é€😀 /\x7f', k=generator.choice([0, 3, 130, 1000])
                    )
                )
            case 5:
                return [document(depth + 1) for _ in range(generator.randrange(12))]
        return {
            f"k{generator.randrange(1000)}" * generator.randrange(1, 5): document(depth + 1)
            for _ in range(generator.randrange(8))
        }

    large = {
        "a": [1.5, 70_000, -70_000, 2**40, "x"] * 4_000,
        "b": {str(n): n for n in range(9_000)},
        "c": None,
    }
    run(mysql97, "CREATE TABLE j (id int PRIMARY KEY AUTO_INCREMENT, m json)")
    start = state(mysql97)
    with mysql97.connect() as connection, connection.cursor() as cursor:
        documents = [(json.dumps(document()),) for _ in range(300)] + [(json.dumps(large),)]
        cursor.executemany("INSERT INTO j (m) VALUES (%s)", documents)
        connection.commit()
    run(
        mysql97,
        "INSERT INTO j (m) VALUES (JSON_ARRAY(CAST(1.50 AS DECIMAL(10,2)), CAST(-0.001 AS "
        "DECIMAL(10,3)),"
        " CAST(12345678901234567890123456789012345678.123456789012 AS DECIMAL(60,12)), CAST(0 AS "
        "DECIMAL(5,0))))",
        "INSERT INTO j (m) VALUES (JSON_ARRAY(DATE'2024-02-29', TIMESTAMP'2024-02-29 "
        "12:13:14.123456', TIME'-838:59:58.5',"
        " CAST('12:00' AS TIME), CAST('-00:00:01' AS TIME), CAST('00:00:00' AS TIME)))",
        "INSERT INTO j (m) VALUES (JSON_ARRAY(CAST(REPEAT('abc', 100) AS BINARY), CAST('' AS "
        "BINARY), b'101',"
        " CAST(2001 AS YEAR), CAST(3.25 AS FLOAT), ST_GeomFromText('POINT(1 2)')))",
    )
    with session(mysql97) as opened:
        expected = [row[0] for row in opened.query("SELECT m FROM j ORDER BY id")]
    found = []
    for event in read(mysql97, start, "j"):
        if isinstance(event, Rows):
            decoder = RowsDecoder(
                event.table_map.columns, [0], [Column("m", "json", "jsonb")], jsonb.to_text
            )
            decoder.decode(event.body, event.kind)
            batch, _, others = decoder.take()
            found += batch.column(0).to_pylist()
            # What jsonb cannot hold comes apart.
            assert not others
    assert found == expected
