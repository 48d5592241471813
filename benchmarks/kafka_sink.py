"""Changes of a MySQL database on their way into Kafka: our own stream beside Debezium.

    python -m benchmarks kafka_sink [--scale 1]

Both follow one real MySQL 9.7 into one Kafka on this machine. First each gets the same backlog,
while the other one rests. Then both follow it at the same time, and a reader times each change from
its statement until it has its message. Results go to `benchmarks/results/kafka_sink.md`.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from confluent_kafka import Consumer, TopicPartition

from benchmarks import rig
from softcart_assets import jars
from softcart_assets.connections import KAFKA, KafkaConnection, MySQLConnection
from softcart_assets.ingestion.capture.to_kafka import to_kafka
from softcart_assets.lines.model import Source, Table
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.kafka import CONNECT, Connect, Kafka
from softcart_assets.stack.server import free_port
from tests.support.mysql97 import RealMySQL

CHANGES = 200_000
RATE = 200
SECONDS = 30
_A_TRANSACTION = 100
_PATIENCE_SECONDS = 900
TABLE = Table("calls", "", ("id",), "cdc", ())
SOURCE = Source("bench", "mysql", "", (TABLE,), owner="team:bench")
OURS, DEBEZIUM = "our stream", "Debezium"
TOPICS = {OURS: "ours.bench.calls", DEBEZIUM: "theirs.bench.calls"}


@dataclass
class Reader:
    """Reads a topic's committed messages, and notes when each came."""

    servers: str
    topic: str
    count: int = 0
    first_at: float = 0
    last_at: float = 0
    lags: list[float] = field(default_factory=list)
    _consumer: Consumer | None = None

    def read(self, wanted: int, done: threading.Event | None = None, *, parse: bool) -> None:
        """Read on until `wanted` messages have come, or until `done`."""
        self.count, self.lags = 0, []
        deadline = time.monotonic() + _PATIENCE_SECONDS
        assert self._consumer
        while self.count < wanted and not (done and done.is_set()):
            if time.monotonic() > deadline:
                raise rig.Failed(f"{self.topic} has {self.count} of {wanted} changes")
            for message in self._consumer.consume(5_000, timeout=0.2):
                if error := message.error():
                    raise rig.Failed(f"{self.topic}: {error}")
                value = message.value()
                if not value:
                    continue
                now = time.time()
                self.first_at = self.first_at if self.count else now
                self.last_at = now
                self.count += 1
                if parse:
                    payload = json.loads(value)["payload"]
                    self.lags.append(now - payload["after"]["sent"] / 1_000_000)

    def close(self) -> None:
        """Hang up, while Kafka still runs."""
        if self._consumer:
            self._consumer.close()
        self._consumer = None

    def open(self, *, at_end: bool) -> None:
        """Begin at the start of the topic, or at its end."""
        self.close()
        self._consumer = Consumer(
            {
                "bootstrap.servers": self.servers,
                "log_level": 0,
                "group.id": "bench",
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 20,
                "auto.offset.reset": "error",
            }
        )
        parts = self._consumer.list_topics(self.topic, 30).topics[self.topic].partitions
        if not parts:
            raise rig.Failed(f"there is no topic {self.topic} yet")
        places = [TopicPartition(self.topic, part, 0) for part in parts]
        if at_end:
            for place in places:
                place.offset = self._consumer.get_watermark_offsets(place)[1]
        self._consumer.assign(places)


def _insert(mysql: MySQLConnection, count: int) -> None:
    with closing(mysql.connect()) as connection, connection.cursor() as cursor:
        for _ in range(count // _A_TRANSACTION):
            now = int(time.time() * 1_000_000)
            rows = [(now % 100_000 + each, 60, "0.1234", now) for each in range(_A_TRANSACTION)]
            cursor.executemany(
                "INSERT INTO calls (caller, seconds, cost, sent) VALUES (%s, %s, %s, %s)", rows
            )
            connection.commit()


def _trickle(mysql: MySQLConnection, seconds: float) -> int:
    """Commit single rows at the rate. Returns their number."""
    count, began = 0, time.monotonic()
    with closing(mysql.connect(autocommit=True)) as connection, connection.cursor() as cursor:
        while (passed := time.monotonic() - began) < seconds:
            while count < passed * RATE:
                cursor.execute(
                    "INSERT INTO calls (caller, seconds, cost, sent) VALUES (1, 60, '0.1', %s)",
                    (int(time.time() * 1_000_000),),
                )
                count += 1
            time.sleep(0.001)
    return count


@contextmanager
def _writer(mysql: MySQLConnection, kafka: KafkaConnection) -> Iterator[psutil.Process]:
    """Our stream in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.kafka_writer"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    pickle.dump((SOURCE, mysql, kafka), process.stdin)
    process.stdin.write(b"\n")
    process.stdin.flush()
    writer = int(process.stdout.readline())
    try:
        yield psutil.Process(writer)
    finally:
        os.kill(writer, signal.SIGTERM)
        process.communicate(timeout=60)


def measure(home: Path, changes: int) -> list[tuple[Any, ...]]:
    """Return for each way: changes per second, CPU seconds for all, bytes of each, and the lags."""
    for kind in ("kafka", "debezium"):
        jars.fetch(kind)
    server = RealMySQL(home, free_port(), "bench-only", {"SOFTCART_BENCH": "bench"})
    broker = Kafka(home, free_port(), "", {KAFKA: "kafka"})
    connect = Connect(home, free_port(), "", {CONNECT: "connect"}, kafka=broker)
    with ExitStack() as stack:
        for each in (server, broker, connect):
            stack.callback(each.down)
            each.up()
        mysql = server.connection()
        with closing(mysql.connect(autocommit=True)) as connection:
            connection.query(
                "CREATE TABLE calls (id bigint AUTO_INCREMENT PRIMARY KEY, caller bigint, "
                "seconds int, cost decimal(10,4), sent bigint)"
            )
            connection.query("INSERT INTO calls VALUES (1, 1, 1, 1, 1)")
        kafka = KafkaConnection(KAFKA, broker.servers, "ours.")
        to_kafka(SOURCE, mysql, kafka, partitions=4, once=True)
        _try(lambda: connect.follow("theirs", mysql))
        readers = {way: Reader(broker.servers, topic) for way, topic in TOPICS.items()}
        for reader in readers.values():
            stack.callback(reader.close)
        # The snapshot's row.
        for reader in readers.values():
            _try(lambda: reader.open(at_end=False))  # noqa: B023
            reader.read(1, parse=False)
        connect.ask("connectors/theirs/pause", method="PUT")
        _try(lambda: _is_paused(connect))
        time.sleep(2)
        _insert(mysql, changes)
        java = connect.process()
        assert java
        cpu = {}
        with _writer(mysql, kafka) as ours:
            readers[OURS].read(changes, parse=False)
            cpu[OURS] = rig.cpu_seconds(ours)
        before = rig.cpu_seconds(java)
        connect.ask("connectors/theirs/resume", method="PUT")
        readers[DEBEZIUM].read(changes, parse=False)
        cpu[DEBEZIUM] = rig.cpu_seconds(java) - before
        rates = {
            way: reader.count / (reader.last_at - reader.first_at)
            for way, reader in readers.items()
        }
        sizes = {way: _bytes(broker.data, topic) / changes for way, topic in TOPICS.items()}
        with _writer(mysql, kafka):
            time.sleep(5)
            for reader in readers.values():
                reader.open(at_end=True)
            done = threading.Event()
            threads = [
                threading.Thread(
                    target=reader.read, args=(SECONDS * RATE * 2, done), kwargs={"parse": True}
                )
                for reader in readers.values()
            ]
            for thread in threads:
                thread.start()
            try:
                count = _trickle(mysql, SECONDS)
                deadline = time.monotonic() + 60
                while any(reader.count < count for reader in readers.values()):
                    if time.monotonic() > deadline:
                        raise rig.Failed(f"not all of {count} changes came")
                    time.sleep(0.1)
            finally:
                done.set()
                for thread in threads:
                    thread.join()
        return [(way, rates[way], cpu[way], sizes[way], readers[way].lags) for way in readers]


def _bytes(data: Path, topic: str) -> int:
    """The bytes of a topic's messages on the disk."""
    return sum(file.stat().st_size for file in data.glob(f"{topic}-*/*.log"))


def _is_paused(connect: Connect) -> None:
    state = connect.ask("connectors/theirs/status")["connector"]["state"]
    if state != "PAUSED":
        raise rig.Failed(f"Debezium is {state}")


def _try(what: Any) -> None:
    """Do something until it works."""
    deadline = time.monotonic() + 120
    while True:
        try:
            what()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def run(scale: float) -> None:
    """Measure both ways and write the report."""
    changes = int(CHANGES * scale)
    with tempfile.TemporaryDirectory(prefix="softcart-bench-kafka-") as home:
        found = measure(Path(home), changes)
    lines = [
        "# Changes into Kafka: our stream beside Debezium",
        "",
        f"A backlog of {changes:,} rows in transactions of {_A_TRANSACTION}, each way by itself. "
        f"Then {RATE} rows per second for {SECONDS} seconds, both ways at once. The time is "
        "from a row's statement until a reader of committed messages has it.",
        "",
        "| | changes/s | CPU s per million | bytes each on disk | p50 ms | p95 ms | greatest ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for way, rate, cpu, size, lags in found:
        ranked = sorted(1000 * lag for lag in lags)
        p95 = ranked[int(0.95 * (len(ranked) - 1))]
        lines.append(
            f"| {way} | {rate:,.0f} | {cpu / changes * 1e6:,.0f} | {size:,.0f} "
            f"| {statistics.median(ranked):.0f} "
            f"| {p95:.0f} | {ranked[-1]:.0f} |"
        )
    rig.write_result("kafka_sink", lines)
