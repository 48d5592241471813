"""Topics in Debezium's format on a real Kafka, and Debezium itself on a real MySQL."""

from __future__ import annotations

import secrets
import signal
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from support.kafka import AMOUNT, ID, NANO, NOTE, Topic, decimal

from softcart_assets import jars
from softcart_assets.connections import KafkaConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors.kafka.changes import examine
from softcart_assets.ingestion.errors import (
    IngestionError,
    LoadsFailed,
    PositionPurged,
    SourceLost,
    SourceRefused,
    UnsupportedColumn,
)
from softcart_assets.ingestion.load import changed_tables, loaded_positions, replay
from softcart_assets.ingestion.request import LoadRequest, LoadResult
from softcart_assets.lines.model import RunningTotal, Source, Table
from softcart_assets.stack.kafka import CONNECT, Connect, Kafka
from softcart_assets.stack.server import free_port
from tests.support.ingestion import classify, load_all, query, run

ROWS = Table("rows", "", ("id",), "cdc", classify(none="id amount note at"), history=True)
SOURCE = Source("t", "kafka", "", (ROWS,), owner="team:test", prefix="SOFTCART_X")


@pytest.fixture
def topic(kafka: KafkaConnection) -> Topic:
    return Topic(kafka.servers, f"{kafka.topic_prefix}rows")


@pytest.fixture
def load(kafka: KafkaConnection, postgres: PostgresConnection, lake: str) -> Loads:
    return Loads(kafka, postgres, lake)


class Loads:
    """Loads the topic and looks at what came."""

    def __init__(self, kafka: KafkaConnection, postgres: PostgresConnection, lake: str) -> None:
        self.kafka, self.postgres, self.lake = kafka, postgres, lake
        self.source = SOURCE

    def __call__(self, *, full: bool = False) -> LoadResult:
        return load_all(self.source, self.kafka, self.postgres, self.lake, full=full)["rows"]

    def fails(self, kind: type[IngestionError], *, full: bool = False) -> str:
        before = loaded_positions(self.postgres, self.source)
        with pytest.raises(LoadsFailed) as failed:
            self(full=full)
        error = failed.value.failures["rows"]
        assert isinstance(error, kind), error
        assert loaded_positions(self.postgres, self.source) == before
        return str(error)

    def rows(self, columns: str = "id, amount") -> list[tuple]:
        return query(
            self.postgres, f"SELECT {columns} FROM raw_t.rows WHERE NOT _deleted ORDER BY id"
        )


def row(id_: int, amount: int = 0, **more: object) -> dict[str, object]:
    return {"id": id_, "amount": decimal(amount), **more}


def test_what_debezium_sends_again_counts_once(topic: Topic, load: Loads) -> None:
    total = RunningTotal("sums", "", "rows", "id", {"sum": "amount", "changes": "*"})
    load.source = replace(SOURCE, totals=(total,))
    topic.send("r", (1, 100, 0), row(1, 150), snapshot="first")
    topic.send("r", (1, 100, 0), row(2, -25), snapshot="last")
    topic.flush()
    assert load().inserted == 2
    for _ in range(2):  # the second time, it is what a crash brings
        topic.send("u", (1, 200, 0), row(1, 175), later=1)
        topic.send("u", (1, 200, 1), row(2, 3), later=1)
        topic.send("d", (1, 300, 0), row(2, 3), later=2)
        topic.put(2, None)
        topic.send("c", (999_999, 300, 0), row(3, 1), later=2)
        topic.send("u", (1_000_000, 100, 0), row(3, 2), later=3)
        topic.flush()
        load()
    assert load.rows() == [(1, Decimal("1.75")), (3, Decimal("0.02"))]
    history = query(
        load.postgres,
        "SELECT id, amount, _deleted, _committed_at IS NOT NULL FROM raw_t.rows_history"
        " ORDER BY id, _version",
    )
    assert history == [
        (1, Decimal("1.50"), False, False),
        (1, Decimal("1.75"), False, True),
        (2, Decimal("-0.25"), False, False),
        (2, Decimal("0.03"), False, True),
        (2, Decimal("0.03"), True, True),
        (3, Decimal("0.01"), False, True),
        (3, Decimal("0.02"), False, True),
    ]
    sums = "SELECT sum(sum), sum(changes) FROM ods.sums"
    assert query(load.postgres, sums) == [(Decimal("1.77"), 2)]
    result = load()
    assert not result.is_changed
    positions = loaded_positions(load.postgres, load.source)
    assert not changed_tables(load.source, load.kafka, positions).tables
    topic.send("d", (1_000_000, 200, 0), row(3, 2), later=3)
    topic.flush()
    assert [*changed_tables(load.source, load.kafka, positions).tables] == ["rows"]


def test_a_snapshot_counts_when_it_is_whole(topic: Topic, load: Loads) -> None:
    topic.send("r", (1, 100, 0), row(1, 1), snapshot="first")
    topic.send("r", (1, 100, 0), row(2, 1), snapshot="true")
    topic.flush()
    assert "has not finished its snapshot" in load.fails(SourceLost)
    # It broke off. Row 2 went before it began anew, which no message tells.
    topic.send("r", (1, 150, 0), row(1, 2), snapshot="first")
    topic.send("r", (1, 150, 0), row(3, 2), snapshot="last")
    topic.flush()
    load()
    assert load.rows("id") == [(1,), (3,)]
    topic.send("c", (1, 200, 0), row(4, 2))
    topic.flush()
    load()
    # Another one, over two loads, and with a change behind it in the other partition.
    topic.send("r", (1, 300, 0), row(1, 2), snapshot="first")
    topic.flush()
    assert any("not finished" in each for each in load().warnings)
    assert load.rows("id") == [(1,), (3,), (4,)]
    topic.send("r", (1, 300, 0), row(4, 9), snapshot="last")
    topic.send("c", (1, 400, 0), row(5, 2), later=9)
    topic.flush()
    load()
    assert load.rows() == [(1, Decimal("0.02")), (4, Decimal("0.09")), (5, Decimal("0.02"))]
    load(full=True)
    assert load.rows("id") == [(1,), (4,), (5,)]


def test_keys_move_tables_are_emptied_and_columns_come(topic: Topic, load: Loads) -> None:
    topic.send("r", (1, 100, 0), row(1, 1), snapshot="last")
    topic.send("c", (1, 200, 0), row(2, 1), partition=0)
    topic.send("d", (1, 300, 0), row(2, 1), partition=0)
    topic.send("c", (1, 300, 0), row(4, 1), partition=0)
    topic.flush()
    load()
    assert load.rows("id") == [(1,), (4,)]
    # The other partition tells what came before and after the statement.
    topic.send("t", (1, 400, 0), None, partition=0)
    topic.send("c", (1, 350, 0), row(5, 1), partition=1)
    topic.send("c", (1, 450, 0), row(7, 1), partition=1)
    topic.flush()
    load()
    assert load.rows("id") == [(7,)]
    topic.fields = (ID, AMOUNT, {**NOTE, "default": "x"})
    topic.send("c", (1, 500, 0), row(8, 1, note="ä"))
    topic.flush()
    assert any("'note' is new and has a default" in each for each in load().warnings)
    topic.fields = (ID, NOTE)
    topic.send("u", (1, 600, 0), {"id": 7, "note": "b"})
    topic.flush()
    load()
    assert load.rows("id, amount, note") == [(7, None, "b"), (8, Decimal("0.01"), "ä")]


def test_values_that_do_not_fit_wait_in_quarantine(topic: Topic, load: Loads) -> None:
    topic.fields = (ID, AMOUNT, NANO)
    topic.send("r", (1, 100, 0), row(1, 1, at=1_000), snapshot="first")
    topic.send("r", (1, 100, 0), row(2, 1, at=1_001), snapshot="true")
    topic.send("r", (1, 100, 0), row(3, 10**10, at=None), snapshot="last")
    topic.flush()
    assert load().quarantined == 2
    entries = (
        "SELECT id, key, column_name, reason FROM ingestion.quarantine WHERE closed_at IS NULL"
    )
    (first, *_), _ = sorted(query(load.postgres, entries), key=lambda each: each[1])
    found = {key[0]: (column, reason) for _, key, column, reason in query(load.postgres, entries)}
    assert found["2"] == ("at", "at: a time that is finer than microseconds")
    assert found["3"] == ("amount", "amount: value out of range for numeric(10,2)")
    # Its message is read again, and is still unfit.
    request = LoadRequest(load.source, load.kafka, load.postgres, load.lake, released=[first])
    [result] = replay(request)
    assert (result.quarantined, load.rows("id")) == (2, [(1,)])
    topic.send("u", (1, 200, 0), row(2, 1, at=2_000))
    topic.send("d", (1, 200, 1), row(3, 1, at=None))
    topic.flush()
    assert load().quarantined == 0
    assert load.rows("id") == [(1,), (2,)]


@pytest.mark.parametrize(
    ("field", "says"),
    [
        ({"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp"}, "microseconds"),
        ({"type": "struct", "name": "io.debezium.data.geometry.Point"}, "are not known"),
        (
            {
                "type": "int64",
                "parameters": {"__debezium.source.column.type": "BIGINT UNSIGNED"},
            },
            "bigint.unsigned.handling.mode",
        ),
        (
            {"type": "double", "parameters": {"__debezium.source.column.type": "DECIMAL"}},
            "decimal.handling.mode",
        ),
    ],
)
def test_a_type_that_is_not_exact_is_refused(
    field: dict, says: str, topic: Topic, load: Loads
) -> None:
    topic.fields = (ID, {**field, "field": "note", "optional": True})
    topic.send("c", (1, 100, 0), {"id": 1, "note": None})
    topic.flush()
    error = load.fails(UnsupportedColumn)
    assert "column 'note'" in error
    assert says in error


def test_messages_of_another_form_are_refused(topic: Topic, load: Loads) -> None:
    topic.put(1, b'{"id": 1}')
    topic.flush()
    assert "value.converter.schemas.enable" in load.fails(SourceRefused)
    assert [each.level for each in examine(load.source, load.kafka)] == ["blocks"]


def test_another_log_and_lost_offsets_are_told(topic: Topic, load: Loads) -> None:
    topic.send("r", (7, 100, 0), row(1, 1), snapshot="last")
    topic.send("u", (7, 200, 0), row(1, 2), later=5)
    topic.flush()
    load()
    topic.send("u", (1, 50, 0), row(1, 3), later=6)
    topic.flush()
    assert "follows another server, or the log began anew" in load.fails(SourceRefused)
    topic.admin.delete_topics([topic.name])[topic.name].result(30)
    again_until(topic.make)
    topic.send("r", (1, 60, 0), row(2, 1), snapshot="last")
    topic.flush()
    assert "was made anew" in load.fails(PositionPurged)
    load(full=True)
    assert load.rows("id") == [(2,)]
    for each in range(3):
        topic.send("u", (1, 100 + each, 0), row(2, each), later=9)
    topic.flush()
    part = TopicPartition(topic.name, 0, 2)
    topic.admin.delete_records([part])[TopicPartition(topic.name, 0)].result(30)
    assert "offsets 1 to 1 of partition 0 are not kept" in load.fails(PositionPurged)
    assert "the beginning is not kept" in load.fails(PositionPurged, full=True)


def test_only_committed_messages_count(kafka: KafkaConnection, load: Loads) -> None:
    topic = Topic(
        kafka.servers,
        f"{kafka.topic_prefix}rows",
        settings={"transactional.id": kafka.topic_prefix},
    )
    topic.producer.init_transactions(60)
    topic.producer.begin_transaction()
    topic.send("r", (1, 100, 0), row(1, 1), snapshot="last")
    topic.producer.commit_transaction(60)
    topic.producer.begin_transaction()
    topic.send("u", (1, 200, 0), row(1, 2))
    topic.flush()
    topic.producer.abort_transaction(60)
    load()
    assert load.rows() == [(1, Decimal("0.01"))]


def test_a_compacted_topic_is_refused(kafka: KafkaConnection, load: Loads) -> None:
    topic = Topic(kafka.servers, f"{kafka.topic_prefix}rows", config={"cleanup.policy": "compact"})
    topic.send("c", (1, 100, 0), row(1))
    topic.flush()
    assert "is compacted" in load.fails(SourceRefused)


def again_until(what: object, seconds: float = 240) -> object:
    """Do something until it fails no more."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return what()  # type: ignore[operator]
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


TYPES = """CREATE TABLE `rows` (id int unsigned PRIMARY KEY, amount decimal(20,4),
big bigint unsigned, f float, d double, dt datetime(6), dt0 datetime, ts timestamp(6) NULL, da date,
ti time(6), y year, b bit(9), j json, e enum('a','b'), st set('x','y'), bl blob, tx text,
n int DEFAULT 5)"""
VALUES = """(1, -1234567890123456.7891, 18446744073709551615, 0.1, 0.1,
'2024-02-29 12:34:56.123456', '1970-01-01', '2024-02-29 12:34:56.123456', '1000-01-01',
'-100:34:56.123456', 2155, b'101010101', '{"a": [1, null]}', 'b', 'x,y', x'00ff', 'hä 😀', NULL)"""


def test_debezium_on_real_mysql(
    kafka_server: Kafka, mysql97: MySQLConnection, load: Loads, home: Path
) -> None:
    try:
        jars.fetch("debezium")
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    run(mysql97, TYPES, f"INSERT INTO `rows` VALUES {VALUES}")
    name = f"d{secrets.token_hex(4)}"
    load.kafka = replace(load.kafka, topic_prefix=f"{name}.{mysql97.database}.")
    load.source = replace(SOURCE, tables=(replace(ROWS, columns=()),))
    connect = Connect(home, free_port(), "", {CONNECT: "connect"}, kafka=kafka_server)
    try:
        connect.up()
        # It may still be electing its leader, which is itself.
        again_until(lambda: connect.follow(name, mysql97))
        again_until(load)
        shown = (
            "id, amount::text, big::text, f, d, dt::text, dt0::text, ts::text, da::text, ti::text, "
            "y, b, j::text, e, st, bl, tx, n"
        )
        assert load.rows(shown) == [
            (
                *(1, "-1234567890123456.7891", "18446744073709551615", 0.1, 0.1),
                *("2024-02-29 12:34:56.123456", "1970-01-01 00:00:00"),
                *("2024-02-29 12:34:56.123456+00", "1000-01-01", "-100:34:56.123456"),
                *(2155, 0b101010101, '{"a": [1, null]}', "b", "x,y", b"\x00\xff", "hä 😀", None),
            )
        ]
        # It is killed while rows change, and goes on.
        for number in range(2, 40):
            run(
                mysql97,
                f"INSERT INTO `rows` (id, amount) VALUES ({number}, {number}.0001)",
                f"UPDATE `rows` SET amount = amount + 1 WHERE id = {number - 1}",
                f"DELETE FROM `rows` WHERE id = {number} AND id % 5 = 0",
            )
            if number == 20:
                process = connect.process()
                assert process
                process.send_signal(signal.SIGKILL)
                process.wait(30)
        run(mysql97, "UPDATE `rows` SET id = 1000 WHERE id = 7")
        connect.up()

        def is_equal() -> None:
            load()
            with mysql97.connect() as session, session.cursor() as cursor:
                cursor.execute("SELECT id, amount FROM `rows` ORDER BY id")
                assert load.rows() == list(cursor.fetchall())

        again_until(is_equal)
    finally:
        connect.down()
