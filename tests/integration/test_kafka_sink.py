"""Our own stream into a real Kafka: what a reader of committed messages sees, and our own connector
reads back.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from softcart_assets import cli
from softcart_assets.connections import KafkaConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import reading
from softcart_assets.ingestion.capture.to_kafka import to_kafka
from softcart_assets.ingestion.connectors.mysql import reader
from softcart_assets.ingestion.errors import (
    IngestionError,
    PositionPurged,
    TableBusy,
    TargetFailed,
)
from softcart_assets.ingestion.sinks.kafka import topics
from softcart_assets.ingestion.sinks.kafka.form import Message
from softcart_assets.lines.model import Source, Table
from softcart_assets.stack.kafka import Kafka
from tests.support.ingestion import load_all, query, run

KILLS = int(os.environ.get("SOFTCART_TEST_KILLS", "3"))
"""How often the writer is killed, and each tenth time Kafka as well. 200 take some minutes."""
REPOSITORY = Path(__file__).parents[2]
ROWS = Table("rows", "", ("id",), "cdc", ())
SOURCE = Source("t", "mysql", "", (ROWS,), owner="team:test", prefix="SOFTCART_SHOP")
TYPES = """CREATE TABLE `rows` (id bigint unsigned PRIMARY KEY, amount decimal(20,4),
wide decimal(65,30), big bigint unsigned, small tinyint, f float, d double, dt datetime(6),
dt0 datetime, ts timestamp(6) NULL, da date, ti time(6), y year, b bit(9), b64 bit(64), j json,
e enum('a','b'), st set('x','y'), bl blob, bi binary(3), tx text, `per % cent` int,
n int NOT NULL DEFAULT 5)"""
VALUES = """
(1, -1234567890123456.7891, -12345678901234567890123456789012345.123456789012345678901234567891,
18446744073709551615, -128, 0.1, 0.1, '2024-02-29 12:34:56.123456', '1970-01-01',
'2024-02-29 12:34:56.123456', '1000-01-01', '-100:34:56.123456', 2155, b'101010101',
x'ffffffffffffffff', '{"a": [1, null, "ä\\\\"😀"]}', 'b', 'x,y', x'00ff', 'ab',
'hä 😀 "\\\\ \\n', 7, 1),
(18446744073709551615, 0, -1, 0, 127, -1e30, 1e-300, '9999-12-31 23:59:59.999999',
'1000-01-01 00:00:01', '2038-01-19 03:14:07', '9999-12-31', '838:59:59', 1901, b'0', x'00', '[]',
'a', '', '', '', '', -1, -2147483648),
(3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
NULL, NULL, NULL, NULL, NULL, 2),
(4, -0.0128, 128, 255, 1, 2, 3, '2024-01-01 00:00:00', NULL, '1970-01-01 00:00:01', NULL, '0', NULL,
NULL, NULL, '"x"', NULL, NULL, 'x', NULL, 'x', 1, 3)"""


@dataclass
class Writer:
    """Brings a database's rows into the topics and reads them back, next to raw itself."""

    mysql: MySQLConnection
    kafka: KafkaConnection
    postgres: PostgresConnection
    lake: str
    source: Source = SOURCE

    def once(self, **more: Any) -> None:
        to_kafka(self.source, self.mysql, self.kafka, partitions=2, once=True, **more)

    def run(self, *statements: str) -> None:
        run(self.mysql, *statements)

    def check(self) -> None:
        """Check that raw from the topics is raw from the database."""
        self.once()
        load_all(self.source, self.mysql, self.postgres, self.lake)
        back = replace(
            self.source, name="k", kind="kafka", tables=self.source.tables, prefix="SOFTCART_X"
        )
        connection = replace(self.kafka, topic_prefix=f"{self.kafka.topic_prefix}t.")
        load_all(back, connection, self.postgres, self.lake)
        for table in self.source.tables:
            columns = self._columns("raw_t", table.name)
            have = self._columns("raw_k", table.name)
            assert {name: have[name] for name in columns} == columns
            names = ", ".join(f'"{name}"::text' for name in columns)
            wanted, found = (
                query(
                    self.postgres,
                    f"SELECT {names} FROM {schema}.{table.name} WHERE NOT _deleted ORDER BY 1",
                )
                for schema in ("raw_t", "raw_k")
            )
            assert found == wanted
            assert wanted

    def _columns(self, schema: str, table: str) -> dict[str, tuple]:
        rows = query(
            self.postgres,
            "SELECT column_name, data_type, numeric_precision, numeric_scale FROM "
            "information_schema.columns WHERE table_schema = %s AND table_name = %s AND "
            "column_name NOT LIKE '\\_%%'",
            schema,
            table,
        )
        return {name: tuple(rest) for name, *rest in rows}

    def messages(self, name: str = "t.rows") -> list[dict[str, Any] | None]:
        """The payloads that a reader of committed messages gets, each partition's in order."""
        topic = f"{self.kafka.topic_prefix}{name}"
        consumer = Consumer(
            {
                **self.kafka.settings(),
                "group.id": "test",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        parts = consumer.list_topics(topic, 30).topics[topic].partitions
        consumer.assign([TopicPartition(topic, part, 0) for part in parts])
        found: dict[int, list[dict[str, Any] | None]] = {part: [] for part in parts}
        ended = 0
        while ended < len(parts):
            message = consumer.poll(30)
            # A message without a value is false.
            assert message is not None
            if message.error():
                ended += 1
            else:
                value = message.value()
                told = value and json.loads(value)
                part = message.partition()
                assert part is not None
                found[part].append(told and told.get("payload", told))
        consumer.close()
        return [each for part in found.values() for each in part]

    def operations(self) -> str:
        return "".join(each["op"] if each else "-" for each in self.messages())


@pytest.fixture
def writer(
    mysql: MySQLConnection, kafka: KafkaConnection, postgres: PostgresConnection, lake: str
) -> Writer:
    return Writer(mysql, kafka, postgres, lake)


def test_what_the_topics_tell_is_what_raw_has(
    any_mysql: MySQLConnection,
    kafka: KafkaConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    writer = Writer(any_mysql, kafka, postgres, lake)
    writer.run(TYPES, f"INSERT INTO `rows` VALUES {VALUES}")
    writer.check()
    writer.run(
        "UPDATE `rows` SET amount = amount + 1, tx = NULL, n = n + 1 WHERE id <> 3",
        "UPDATE `rows` SET id = 30 WHERE id = 3",
        "DELETE FROM `rows` WHERE id = 4",
        "INSERT INTO `rows` SELECT 40, amount, wide, big, small, f, d, dt, dt0, ts, da, ti, y, b, "
        "b64, j, e, st, bl, bi, tx, `per % cent`, n FROM `rows` WHERE id = 1",
    )
    writer.check()
    # A transaction that does not fit into one piece, and does not come in one piece either.
    monkeypatch.setattr(reading, "_PIECE_ROWS", 10)
    many = ", ".join(f"({each}, {each})" for each in range(100, 160))
    writer.run(
        f"INSERT INTO `rows` (id, n) VALUES {many}",
        "UPDATE `rows` SET n = n + 1",
        "DELETE FROM `rows` WHERE id > 130 AND id < 1000",
    )
    writer.check()
    # What the log does not tell row by row. The snapshot has a place behind the rows of the update.
    writer.run(
        "ALTER TABLE `rows` ADD COLUMN more varchar(9) DEFAULT 'x', DROP COLUMN wide",
        "UPDATE `rows` SET n = n + 1",
    )
    writer.check()
    writer.run("TRUNCATE TABLE `rows`", "INSERT INTO `rows` (id, n) VALUES (7, 7)")
    writer.check()
    writer.run(
        "CREATE TABLE other LIKE `rows`",
        "INSERT INTO other (id, n) VALUES (8, 8)",
        "RENAME TABLE `rows` TO gone, other TO `rows`",
        "UPDATE `rows` SET n = 9",
    )
    writer.check()


def test_messages_have_debeziums_form(writer: Writer) -> None:
    writer.run("CREATE TABLE `rows` (id int PRIMARY KEY, n int)", "INSERT INTO `rows` VALUES (1,1)")
    writer.once()
    writer.run(
        "INSERT INTO `rows` VALUES (2, 2)",
        "UPDATE `rows` SET n = 3 WHERE id = 2",
        "UPDATE `rows` SET id = 4 WHERE id = 2",
        "DELETE FROM `rows` WHERE id = 4",
        "TRUNCATE TABLE `rows`",
    )
    writer.once()
    by_op: dict[str, list[dict[str, Any]]] = {}
    for each in writer.messages():
        if each:
            by_op.setdefault(each["op"], []).append(each)
    counts = {op: len(found) for op, found in by_op.items()}
    assert counts == {"r": 1, "c": 2, "u": 1, "d": 2, "t": 1}
    assert writer.operations().count("-") == 2
    [read] = by_op["r"]
    assert (read["after"], read["source"]["snapshot"]) == ({"id": 1, "n": 1}, "last")
    [update] = by_op["u"]
    assert (update["before"], update["after"]) == ({"id": 2, "n": 2}, {"id": 2, "n": 3})
    source = update["source"]
    assert (source["db"], source["table"], source["snapshot"]) == ("t", "rows", "false")
    assert time.time() - 600 < source["ts_ms"] / 1000 < time.time() + 5
    gone = [(each["before"], each["after"]) for each in by_op["d"]]
    assert sorted(gone, key=str) == [({"id": 2, "n": 3}, None), ({"id": 4, "n": 3}, None)]
    sources = [each["source"] for each in writer.messages() if each]
    places = {(each["file"], each["pos"], each["row"]) for each in sources}
    assert len(places) == 7
    # A new snapshot without rows says so, behind all that came before.
    writer.once(anew=True)
    last = max((each for each in writer.messages() if each), key=_place)
    assert (last["op"], _place(last) > max(places)) == ("t", True)


def _place(message: dict[str, Any]) -> tuple[str, int, int]:
    source = message["source"]
    return source["file"], source["pos"], source["row"]


def test_what_is_rolled_back_is_not_written(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has such a transaction whole if a table without transactions took part in it."""
    monkeypatch.setattr(reading, "_PIECE_ROWS", 7)
    writer.run(
        "CREATE TABLE `rows` (id int PRIMARY KEY, v varchar(9))",
        "CREATE TABLE plain (id int) ENGINE = MyISAM",
        "INSERT INTO `rows` SELECT seq, 'x' FROM seq_1_to_20",
    )
    writer.once()
    for rows in (3, 15):
        writer.run(
            "UPDATE `rows` SET v = 'kept' WHERE id = 1",
            "START TRANSACTION",
            f"UPDATE `rows` SET v = 'lost' WHERE id <= {rows}",
            "INSERT INTO plain VALUES (1)",
            f"DELETE FROM `rows` WHERE id <= {rows}",
            "ROLLBACK",
            "UPDATE `rows` SET v = 'also' WHERE id = 2",
            "UPDATE `rows` SET v = 'x'",
        )
    writer.check()
    told = Counter(each["op"] for each in writer.messages() if each)
    # Those that changed nothing are not in the log.
    assert told == {"r": 20, "u": 8}


def test_nothing_is_written_twice_and_a_lost_topic_is_filled_again(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = topics.Topics.make

    def killed(self: topics.Topics, tables: Iterable[str]) -> None:
        make(self, tables)
        raise RuntimeError("killed")

    def killed_before_the_snapshot(**more: Any) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(topics.Topics, "make", killed)
            with pytest.raises(RuntimeError, match="killed"):
                writer.once(**more)

    writer.run("CREATE TABLE `rows` (id int PRIMARY KEY, n int)", "INSERT INTO `rows` VALUES (1,1)")
    for _ in range(2):
        writer.once()
    assert writer.operations() == "r"
    admin = AdminClient(writer.kafka.settings())
    topic = f"{writer.kafka.topic_prefix}t.rows"
    admin.delete_topics([topic])[topic].result(30)
    until(lambda: topic not in admin.list_topics(timeout=30).topics)
    writer.run("UPDATE `rows` SET n = 2")
    killed_before_the_snapshot()
    writer.once()
    [found] = writer.messages()
    assert found
    assert (found["op"], found["after"]) == ("r", {"id": 1, "n": 2})
    killed_before_the_snapshot(anew=True)
    writer.once()
    assert writer.operations() == "rr"


def test_a_log_that_was_set_back_is_told(writer: Writer) -> None:
    writer.run("CREATE TABLE `rows` (id int PRIMARY KEY)", "INSERT INTO `rows` VALUES (1)")
    writer.once()
    kept = topics.Topics(writer.kafka, writer.source)
    stored = kept.stored()
    assert stored
    position = stored.place.position
    stored.place.position = position._replace(number=position.number + 1000)
    with kept.transaction():
        kept.state(stored, with_tables=False)
    with pytest.raises(PositionPurged, match=r"its binary log ends at .* --anew"):
        writer.once()
    writer.once(anew=True)
    assert writer.operations() == "rr"


def test_no_change_comes_behind_a_part_of_a_snapshot(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.run(
        "CREATE TABLE `rows` (id int PRIMARY KEY, n int)",
        "INSERT INTO `rows` VALUES (1, 1), (2, 2), (3, 3), (4, 4)",
    )
    writer.once()
    monkeypatch.setattr("softcart_assets.ingestion.capture.to_kafka._ROWS_A_COMMIT", 2)
    monkeypatch.setattr(reader, "_BATCH_ROWS", 2)
    sent: list[int] = []
    send = topics.Topics.send

    def killed(self: topics.Topics, table: str, messages: Iterable[Message]) -> int:
        if sent:
            raise RuntimeError("killed")
        sent.append(send(self, table, messages))
        return sent[0]

    # The log does not tell the values of this column, so a new snapshot is taken.
    writer.run("ALTER TABLE `rows` ADD COLUMN more int NOT NULL DEFAULT 3")
    with monkeypatch.context() as patch:
        patch.setattr(topics.Topics, "send", killed)
        with pytest.raises(RuntimeError, match="killed"):
            writer.once()
    assert sent == [2]
    writer.run("UPDATE `rows` SET n = 9")
    writer.once()
    # A reader takes a change for the end of the snapshot, and the rows that it lacks for deleted.
    assert writer.operations() == "r" * 10


def test_values_that_cannot_be_carried_have_a_topic(writer: Writer) -> None:
    writer.run(
        "CREATE TABLE `rows` (id int PRIMARY KEY, d date)",
        "SET sql_mode = ''",
        "INSERT INTO `rows` VALUES (1, '0000-00-00'), (2, '2024-01-01')",
    )
    writer.once()
    writer.run(
        "SET sql_mode = ''",
        "UPDATE `rows` SET d = '2024-00-00'",
        "UPDATE `rows` SET d = '2024-01-02' WHERE id = 1",
    )
    writer.once()
    unfit = filter(None, writer.messages("t-unfit"))
    told = [(each["op"], each["key"], each["column"]) for each in unfit]
    assert told == [("r", ["1"], "d"), ("u", ["1"], "d"), ("u", ["2"], "d")]
    updates = [each for each in writer.messages() if each and each["op"] == "u"]
    assert [(each["before"], each["after"]["id"]) for each in updates] == [(None, 1)]


def test_a_table_that_cannot_go_on_leaves_the_others(writer: Writer) -> None:
    others = Table("others", "", ("id",), "cdc", ())
    writer.source = replace(SOURCE, tables=(ROWS, others))
    writer.run("CREATE TABLE others (id int PRIMARY KEY)", "INSERT INTO others VALUES (1)")
    with pytest.raises(IngestionError, match=r"rows.*begins it with a new snapshot"):
        writer.once()
    assert len(writer.messages("t.others")) == 1
    # It comes while the stream runs.
    stopped = threading.Event()
    thread = threading.Thread(
        target=to_kafka,
        args=(writer.source, writer.mysql, writer.kafka),
        kwargs={"stopped": stopped, "partitions": 2},
        daemon=True,
    )
    thread.start()
    try:
        writer.run("CREATE TABLE `rows` (id int PRIMARY KEY)", "INSERT INTO `rows` VALUES (1)")
        until(lambda: len(writer.messages()) == 1)
        writer.run("INSERT INTO `rows` VALUES (2)", "DROP TABLE others")
        until(lambda: len(writer.messages()) == 2)
    finally:
        stopped.set()
        thread.join(60)
    assert not thread.is_alive()


def test_who_comes_later_fences_the_one_before_off(writer: Writer) -> None:
    writer.run("CREATE TABLE `rows` (id int PRIMARY KEY)", "INSERT INTO `rows` VALUES (1)")
    failed: list[BaseException] = []
    reported = threading.Event()

    def first() -> None:
        try:
            to_kafka(
                writer.source,
                writer.mysql,
                writer.kafka,
                partitions=2,
                on_report=lambda status: reported.set(),
            )
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    assert reported.wait(60)
    writer.once()
    writer.run("INSERT INTO `rows` VALUES (2)")
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(failed[0], TableBusy), failed
    writer.once()
    assert sorted(writer.operations()) == ["c", "r"]


def test_a_kafka_that_is_down_is_told(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.run("CREATE TABLE `rows` (id int PRIMARY KEY)")
    monkeypatch.setattr(topics, "_ANSWER_SECONDS", 1)
    away = replace(writer.kafka, servers="127.0.0.1:1")
    with pytest.raises(TargetFailed, match="check SOFTCART_X_BOOTSTRAP_SERVERS"):
        to_kafka(writer.source, writer.mysql, away, once=True)
    problems: list[str | None] = []
    stopped = threading.Event()

    def on_report(status: Any) -> None:
        problems.append(status.problem)
        stopped.set()

    to_kafka(writer.source, writer.mysql, away, stopped=stopped, on_report=on_report)
    assert "Kafka failed" in str(problems[0])


def test_the_command_writes_as_its_settings_say(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.run("CREATE TABLE `rows` (id int PRIMARY KEY)", "INSERT INTO `rows` VALUES (1)")
    monkeypatch.setattr(cli.settings, "read_dotenv", lambda **_: None)
    monkeypatch.setattr(cli.settings, "apply", lambda **_: None)
    monkeypatch.setattr(cli.settings, "chosen", lambda names: [(writer.source, [])])
    monkeypatch.setattr(cli.settings, "database", lambda source: writer.mysql)
    monkeypatch.setenv("SOFTCART_KAFKA_BOOTSTRAP_SERVERS", writer.kafka.servers)
    monkeypatch.setenv("SOFTCART_KAFKA_TOPIC_PREFIX", writer.kafka.topic_prefix)
    monkeypatch.setenv("SOFTCART_KAFKA_PARTITIONS", "3")

    def told(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.app, ["stream", "t", *arguments])
        return result.exit_code, " ".join(result.output.replace("│", " ").split())

    code, text = told("--to", "kafka", "--once")
    assert code == 0, text
    assert "Everything up to there is committed." in text
    assert writer.operations() == "r"
    topic = f"{writer.kafka.topic_prefix}t.rows"
    found = AdminClient(writer.kafka.settings()).list_topics(topic, 30).topics[topic]
    assert len(found.partitions) == 3
    assert "--once and --anew belong to --to kafka" in told("--once")[1]
    writer.source = replace(SOURCE, kind="mongodb")
    assert "only a MySQL source can be written" in told("--to", "kafka")[1]
    writer.source = SOURCE
    monkeypatch.setenv("SOFTCART_KAFKA_PARTITIONS", "0")
    assert "must be a number from 1 on" in told("--to", "kafka")[1]


def until(holds: Any, seconds: float = 120) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


class Traffic(threading.Thread):
    """Transactions on two tables: each counts, and adds rows."""

    def __init__(self, mysql: MySQLConnection) -> None:
        super().__init__()
        self.mysql, self.done = mysql, threading.Event()
        self.sizes: list[int] = []

    def run(self) -> None:
        chance = random.Random(5)
        with self.mysql.connect() as connection, connection.cursor() as cursor:
            while not self.done.wait(0.005):
                number = len(self.sizes) + 1
                size = 1 if chance.random() < 0.9 else chance.randrange(2, 400)
                rows = [(number, each) for each in range(size)]
                cursor.execute("UPDATE counters SET n = n + 1")
                cursor.executemany("INSERT INTO `rows` (tx, part) VALUES (%s, %s)", rows)
                connection.commit()
                self.sizes.append(size)


@pytest.fixture
def traffic(mysql: MySQLConnection) -> Iterator[Traffic]:
    run(
        mysql,
        "CREATE TABLE `rows` (tx int, part int, PRIMARY KEY (tx, part))",
        "CREATE TABLE counters (id int PRIMARY KEY, n int)",
        "INSERT INTO counters VALUES (1, 0)",
    )
    found = Traffic(mysql)
    yield found
    found.done.set()
    if found.ident:
        found.join(60)


def test_each_transaction_is_seen_once_and_whole_through_kills(
    writer: Writer, traffic: Traffic, kafka_server: Kafka
) -> None:
    writer.source = replace(
        SOURCE,
        tables=(
            Table("rows", "", ("tx", "part"), "cdc", ()),
            Table("counters", "", ("id",), "cdc", ()),
        ),
    )
    # The snapshot of the counter. What follows comes as changes.
    writer.once()
    traffic.start()
    chance = random.Random(7)
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.kafka_writer"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdin
        assert program.stdout
        pickle.dump((writer.source, writer.mysql, writer.kafka), program.stdin)
        for number in range(KILLS):
            program.stdin.write(b"\n")
            program.stdin.flush()
            process = int(program.stdout.readline())
            # It follows the log now, and is killed before, while or after it writes.
            assert program.stdout.readline().startswith(b"at")
            time.sleep(chance.random() * 0.8)
            if number % 10 == 9:  # only where many kills are asked for
                broker = kafka_server.process()
                assert broker
                broker.kill()
                broker.wait(60)
                kafka_server.up()
                time.sleep(chance.random() * 3)
            os.kill(process, signal.SIGKILL)
            while program.stdout.readline().startswith(b"at"):
                pass
        program.stdin.close()
    traffic.done.set()
    traffic.join(60)
    writer.once()
    rows = [each for each in writer.messages("t.rows") if each]
    assert {each["op"] for each in rows} == {"c"}
    seen = Counter((each["after"]["tx"], each["after"]["part"]) for each in rows)
    wanted = {(n + 1, part) for n, size in enumerate(traffic.sizes) for part in range(size)}
    assert seen.keys() == wanted
    assert set(seen.values()) == {1}
    # One row lies in one partition, so all changes of it come in their order.
    counters = [each["after"]["n"] for each in writer.messages("t.counters") if each]
    assert counters == list(range(len(traffic.sizes) + 1))
    # All changes of a transaction have one place in the log.
    places: dict[int, set[tuple[str, int]]] = {}
    for each in rows:
        place = each["source"]["file"], each["source"]["pos"]
        places.setdefault(each["after"]["tx"], set()).add(place)
    assert all(len(found) == 1 for found in places.values())
    assert len({place for found in places.values() for place in found}) == len(traffic.sizes)
