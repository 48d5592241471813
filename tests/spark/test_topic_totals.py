"""Running totals by Spark from Debezium's topics: each change counts once, however often told."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession
from support.ingestion import query
from support.kafka import Topic, decimal
from support.totals import COUNTS, kept, recount, totals_source

from softcart_assets import jars
from softcart_assets.connections import KafkaConnection, PostgresConnection
from softcart_assets.ingestion.errors import PositionPurged
from softcart_assets.lines.model import Source
from softcart_assets.stack.kafka import KAFKA, Kafka
from softcart_assets.stack.server import free_port
from spark import topics
from spark.topics import count, in_topics
from spark.totals import TotalsError, prepared

SOURCE = totals_source()
TOTALS = {total.name: total for total in SOURCE.totals}
_EPOCH = datetime(1970, 1, 1)
_AT = datetime(2026, 3, 1, 10, 14, 59, 999_999)


def _column(named: str, type_: str, **more: object) -> dict[str, object]:
    return {"field": named, "type": type_, "optional": named != "id", **more}


_MOMENT = {"name": "io.debezium.time.MicroTimestamp"}
_AMOUNT = {
    "name": "org.apache.kafka.connect.data.Decimal",
    "parameters": {"scale": "2", "connect.decimal.precision": "12"},
}
FIELDS = {
    "calls": (
        *(_column("id", "int64"), _column("event_id", "string"), _column("direction", "string")),
        *(_column("subscriber_id", "int64"), _column("started_at", "int64", **_MOMENT)),
        _column("seconds", "int32"),
    ),
    "charges": (
        *(_column("id", "int64"), _column("subscriber_id", "int64")),
        *(_column("amount", "bytes", **_AMOUNT), _column("currency", "string")),
        _column("event_at", "int64", **_MOMENT),
    ),
}


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Kafka]:
    """A Kafka, running. Without its jars or Spark's, these tests are skipped."""
    try:
        jars.fetch("spark-kafka")
        jars.fetch("kafka")
    except jars.JarsUnavailable as reason:
        pytest.skip(str(reason))
    server = Kafka(home / "of-topic-totals", free_port(), "", {KAFKA: "kafka"})
    try:
        server.up()
        yield server
    finally:
        server.down()


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> SparkSession:
    session = prepared(spark)
    session.conf.set("spark.sql.shuffle.partitions", "1")
    return session


@dataclass
class Database:
    """A table of a database, and Debezium, which tells its changes in a topic."""

    table: str
    topic: Topic
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)
    at: int = 100
    told: list[Callable[[], None]] = field(default_factory=list)

    def put(self, id_: int, **values: Any) -> None:
        before = self.rows.get(id_)
        names = [str(each["field"]) for each in FIELDS[self.table]]
        row = dict.fromkeys(names) | (before or {"id": id_}) | values
        self.rows[id_] = row
        self._tell("u" if before else "c", row, before)

    def delete(self, id_: int) -> None:
        self._tell("d", self.rows.pop(id_), None)

    def move(self, id_: int, to: int) -> None:
        """Debezium tells an update of the key as two changes at one place."""
        row = self.rows.pop(id_)
        self.rows[to] = row | {"id": to}
        self._tell("d", row, None)
        self.at -= 100
        self._tell("c", self.rows[to], None)

    def truncate(self) -> None:
        self.rows.clear()
        self._tell("t", None, None)

    def snapshot(self, *, until: int | None = None) -> None:
        """`until`: it breaks off after so many rows."""
        self.at += 100
        for row in list(self.rows.values())[:until]:
            self._send("r", self.at, row, None)

    def again(self, count: int) -> None:
        """Tell the last changes again, as after a crash."""
        for tell in self.told[-count:]:
            tell()

    def _tell(self, op: str, row: Any, before: Any) -> None:
        self.at += 100
        at = self.at

        def tell() -> None:
            self._send(op, at, row, before)

        self.told.append(tell)
        tell()

    def _send(self, op: str, at: int, row: Any, before: Any) -> None:
        snapshot = "true" if op == "r" else "false"
        shown, was = self._shown(row), self._shown(before)
        self.topic.send(op, (1, at, 0), shown, before=was, snapshot=snapshot, later=at)

    def _shown(self, row: Mapping[str, Any] | None) -> dict[str, Any] | None:
        return row and {
            name: decimal(int(value * 100))
            if isinstance(value, Decimal)
            else (value - _EPOCH) // timedelta(microseconds=1)
            if isinstance(value, datetime)
            else value
            for name, value in row.items()
        }


@dataclass
class Job:
    """Counts what is new in topics, and compares with the rows."""

    session: SparkSession
    postgres: PostgresConnection
    lake: str
    kafka: KafkaConnection
    source: Source = SOURCE

    def database(self, table: str) -> Database:
        name = f"{self.kafka.topic_prefix}{table}"
        return Database(table, Topic(self.kafka.servers, name, FIELDS[table]))

    def __call__(self, *databases: Database) -> None:
        for each in databases:
            each.topic.flush()
        count(self.session, self.postgres, [(self.source, self.kafka)], self.lake, None, 1_000)
        for each in databases:
            for total in SOURCE.totals:
                if total.table == each.table:
                    rows = recount(each.rows.values(), total, COUNTS[total.name])
                    assert kept(self.postgres, total, "ods_topics") == rows

    def fails(self, *databases: Database) -> str:
        with pytest.raises(StreamingQueryException) as failed:
            self(*databases)
        return str(failed.value)


@pytest.fixture
def job(session: SparkSession, server: Kafka, postgres: PostgresConnection, lake: str) -> Job:
    kafka = KafkaConnection("SOFTCART_X", server.servers, f"{secrets.token_hex(4)}.")
    return Job(session, postgres, lake, kafka)


def test_what_is_told_again_counts_once(job: Job) -> None:
    charges, calls = job.database("charges"), job.database("calls")
    for id_ in range(1, 9):
        calls.rows[id_] = {
            **{"id": id_, "event_id": f"e{id_ % 3}" if id_ < 7 else None, "direction": "out"},
            **{"subscriber_id": id_ % 2, "started_at": _AT, "seconds": id_},
        }
        charges.rows[id_] = {
            **{"id": id_, "subscriber_id": id_ % 2, "amount": Decimal(f"-{id_}.05")},
            **{"currency": "EUR" if id_ % 3 else None, "event_at": _AT if id_ % 4 else None},
        }
    for each in (charges, calls):
        each.snapshot(until=5)
        # It begins anew where it was, because nothing has changed.
        each.at -= 100
        each.snapshot()
    job(charges, calls)
    charges.put(1, amount=Decimal("1234567890.12"))
    charges.put(2, subscriber_id=None)
    charges.put(9, subscriber_id=1, amount=Decimal("0.01"), currency="USD")
    charges.delete(3)
    charges.move(4, 40)
    charges.again(4)
    calls.put(1, seconds=100, direction="in")
    calls.put(4, event_id="e2", subscriber_id=7)
    calls.delete(2)
    calls.move(7, 70)
    calls.put(2, event_id="e2", direction="out", subscriber_id=3, started_at=_AT, seconds=9)
    calls.again(5)
    job(charges, calls)
    # Also in another batch, when the rows have changed since.
    charges.put(1, amount=Decimal("5.00"))
    charges.again(6)
    calls.delete(2)
    calls.again(7)
    job(charges, calls)


def test_random_changes(job: Job) -> None:
    """A crash now and then tells some of them again."""
    chance = random.Random(7)
    databases = [job.database("charges"), job.database("calls")]
    for _ in range(3):
        for each in databases:
            for _ in range(chance.randint(20, 60)):
                _change(each, chance)
                if chance.random() < 0.1:
                    each.again(chance.randint(1, 30))
        job(*databases)


def _change(database: Database, chance: random.Random) -> None:
    id_ = chance.randint(1, 12)
    if id_ in database.rows and chance.random() < 0.3:
        database.delete(id_)
        return
    values: dict[str, Any] = {"subscriber_id": chance.choice([None, 1, 2])}
    if database.table == "charges":
        values |= {"amount": Decimal(chance.randint(-999, 999)) / 100, "event_at": _AT}
    else:
        values |= {"event_id": chance.choice([None, "a", "b"]), "seconds": chance.randint(0, 9)}
        values |= {"direction": chance.choice(["in", "out"])}
    database.put(id_, **values)


def test_a_new_snapshot_and_an_emptied_table_begin_anew(job: Job) -> None:
    """Also if the first one broke off, and rows went that no message tells."""
    charges = job.database("charges")
    for id_ in range(1, 7):
        charges.rows[id_] = {
            **{"id": id_, "subscriber_id": 1, "amount": Decimal("1.10"), "currency": "EUR"},
            "event_at": _AT,
        }
    charges.snapshot(until=4)
    charges.topic.flush()
    job()
    del charges.rows[2]
    charges.snapshot()
    charges.put(3, amount=Decimal("9.99"))
    job(charges)
    # The new snapshot has the same keys, and a value that no other message tells.
    charges.rows[1] = charges.rows[1] | {"amount": Decimal("7.00")}
    charges.snapshot()
    job(charges)
    charges.truncate()
    charges.put(7, subscriber_id=1, amount=Decimal("3.00"), currency="EUR")
    job(charges)
    assert query(job.postgres, "SELECT floor <> '', generation FROM ods._spark_topics") == [
        (True, 3)
    ]


def test_a_batch_counts_once(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    charges = job.database("charges")
    write = topics.Sink._write
    for number, after_commit in enumerate((True, False), start=1):
        charges.put(number, subscriber_id=1, amount=Decimal("1.00"), event_at=_AT)

        def fail(sink: Any, connection: Any, *batch: Any, commit: bool = after_commit) -> None:
            write(sink, connection, *batch)
            if commit:
                connection.commit()
            raise RuntimeError("broken")

        with monkeypatch.context() as patch:
            patch.setattr(topics.Sink, "_write", fail)
            assert "broken" in job.fails(charges)
        job(charges)
    with job.postgres.connect() as connection:
        connection.execute("UPDATE ods._spark_topics SET batch = 0")
    charges.delete(1)
    assert "The warehouse was set back" in job.fails(charges)


def test_what_cannot_be_exact_is_refused(job: Job) -> None:
    charges = job.database("charges")
    charges.put(1, subscriber_id=1, amount=Decimal("1.00"))
    job(charges)
    # Another server, whose log lies before.
    charges.topic.send("c", (1, 50, 0), {"id": 1}, later=999)
    assert "follows another server" in job.fails(charges)

    job.kafka = replace(job.kafka, topic_prefix=f"{secrets.token_hex(4)}.")
    charges = job.database("charges")
    charges.topic.send("u", (1, 50, 0), {"id": 2})
    assert "does not tell what the row was before" in job.fails(charges)

    job.kafka = replace(job.kafka, topic_prefix=f"{secrets.token_hex(4)}.")
    charges = job.database("charges")
    charges.put(1, subscriber_id=1, amount=Decimal("1.00"))
    wider = {**_AMOUNT, "parameters": {"scale": "4", "connect.decimal.precision": "12"}}
    charges.topic.fields = [
        _column("amount", "bytes", **wider) if each["field"] == "amount" else each
        for each in FIELDS["charges"]
    ]
    charges.put(1, amount=Decimal("1.00"))
    assert "'amount' was numeric(12,2), and is numeric(12,4) now" in job.fails(charges)

    with job.postgres.connect() as connection:
        connection.execute("UPDATE ods._spark_topics SET partitions = 1")
    with pytest.raises(TotalsError, match="had 1 partitions, and has more now"):
        in_topics(job.postgres, SOURCE, job.kafka, job.lake)
    with job.postgres.connect() as connection:
        connection.execute("UPDATE ods._spark_topics SET topic_id = 'x'")
    with pytest.raises(PositionPurged, match="was made anew"):
        in_topics(job.postgres, SOURCE, job.kafka, job.lake)
    job.kafka = replace(job.kafka, topic_prefix=f"{secrets.token_hex(4)}.")
    with pytest.raises(TotalsError, match="No table with totals has a topic"):
        job()
