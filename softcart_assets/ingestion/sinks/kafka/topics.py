"""Writes messages and the position of a source in transactions of Kafka.

A transaction brings both or neither. Whoever begins with the same source and prefix fences the one
before off, and what that one has not committed is void.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from softcart_assets.connections import KafkaConnection
from softcart_assets.ingestion.errors import MissingGrant, SourceRefused, TableBusy, TargetFailed
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.sinks.kafka.form import Message
from softcart_assets.lines.model import Source

_ANSWER_SECONDS = 30
_COMMIT_SECONDS = 120
_STEP, _FURTHER = 16, 64
_TRANSACTION_MS = 900_000
"""The most that a broker allows by default. If we die, only our own topics wait for so long."""
_BUFFERED_KB = 65_536
_MESSAGE_BYTES = 64 << 20
_ANY = -1
_PLACE, _TABLES = 0, 1
"""The partitions of the topic of positions."""
_FENCED = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
}
_DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError._AUTHENTICATION,
}
_DROPPED = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}


@dataclass
class Stored:
    """What the topics have: everything up to `place`, of `tables` with all columns ever told.

    `stale`: those of them that need a new snapshot.
    """

    place: Place
    tables: dict[str, list[str]]
    stale: list[str]


class Topics:
    """The topics of one source. After any error it cannot be used any more."""

    def __init__(
        self, connection: KafkaConnection, source: Source, *, partitions: int = -1
    ) -> None:
        self.connection, self.source, self._partitions = connection, source, partitions
        self.start = f"{connection.topic_prefix}{source.name}"
        """What the names of the topics begin with."""
        self.logical = connection.topic_prefix.rstrip(".")
        self.positions, self.unfit = f"{self.start}-positions", f"{self.start}-unfit"
        self._failed: KafkaError | None = None
        with self._explained():
            self._admin = AdminClient(connection.settings())
            self._admin.list_topics(timeout=_ANSWER_SECONDS)
            self._make({self.positions: (2, {"cleanup.policy": "compact"}), self.unfit: (1, {})})
            self._producer = Producer(
                {
                    **connection.settings(),
                    "transactional.id": f"{self.start}-softcart",
                    "transaction.timeout.ms": _TRANSACTION_MS,
                    # As Debezium's producers choose, so that a row stays in its partition.
                    "partitioner": "murmur2_random",
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "queue.buffering.max.kbytes": _BUFFERED_KB,
                    "message.max.bytes": _MESSAGE_BYTES,
                }
            )
            # It waits until the transaction of the one before is committed or void.
            self._producer.init_transactions(_COMMIT_SECONDS)

    def topic(self, table: str) -> str:
        """Return the name of the topic of a table, which `table` names as the source does."""
        return f"{self.start}.{table}"

    def stored(self) -> Stored | None:
        """Return what the topics have. None: nothing yet."""
        with self._explained():
            place, tables = self._last(_PLACE), self._last(_TABLES)
        if place is None:
            return None
        position = Position.parse(place["position"])
        found = tables or {"tables": {}, "stale": []}
        return Stored(Place(position, place["gtid"], place["server"]), **found)

    def missing(self, tables: Iterable[str]) -> set[str]:
        """Return those of some tables that have no topic."""
        with self._explained():
            known = self._admin.list_topics(timeout=_ANSWER_SECONDS).topics
        return {table for table in tables if self.topic(table) not in known}

    def make(self, tables: Iterable[str]) -> None:
        """Make the topics of tables, unless they are there."""
        with self._explained():
            self._make({self.topic(table): (self._partitions, {}) for table in tables})

    def _make(self, wanted: Mapping[str, tuple[int, dict[str, str]]]) -> None:
        known = self._admin.list_topics(timeout=_ANSWER_SECONDS).topics
        new = [
            # Kept for as long as the broker says, and never compacted: a deletion could be gone.
            NewTopic(name, count, -1, config={"cleanup.policy": "delete", **config})
            for name, (count, config) in wanted.items()
            if name not in known
        ]
        for answer in (self._admin.create_topics(new) if new else {}).values():
            try:
                answer.result(_ANSWER_SECONDS)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise

    def has_messages(self, table: str) -> bool:
        """Return whether the topic of a table has ever had a message."""
        topic = self.topic(table)
        with self._explained(), self._consumer() as consumer:
            parts = consumer.list_topics(topic, _ANSWER_SECONDS).topics[topic].partitions
            ends = (
                consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=_ANSWER_SECONDS)
                for each in parts
            )
            return any(end for _, end in ends)

    @contextmanager
    def _consumer(self) -> Iterator[Consumer]:
        consumer = Consumer(
            {
                **self.connection.settings(),
                "group.id": f"{self.start}-softcart",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "enable.auto.commit": False,
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def _last(self, partition: int) -> Any:
        """Return the last value in a partition of the topic of positions.

        Others do not write there, so it is near the end.
        """
        with self._consumer() as consumer:
            part = TopicPartition(self.positions, partition)
            low, high = consumer.get_watermark_offsets(part, timeout=_ANSWER_SECONDS)
            step, found = _STEP, None
            while found is None and high > low:
                begin = max(low, high - step)
                consumer.assign([TopicPartition(self.positions, partition, begin)])
                for message in _until_end(consumer):
                    found = message
                if begin == low:
                    break
                step *= _FURTHER
            return None if found is None else json.loads(found)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is sent in the block, all or nothing."""
        with self._explained():
            try:
                self._producer.begin_transaction()
                yield
                # It flushes, and fails if one message did not arrive.
                self._producer.commit_transaction(_COMMIT_SECONDS)
            except BaseException:
                # A commit without an answer may have come through. Whoever begins next is told.
                with suppress(KafkaException):
                    self._producer.abort_transaction(_ANSWER_SECONDS)
                raise

    def send(self, table: str, messages: Iterable[Message]) -> int:
        """Send messages of a table. Returns how many of them tell something of a row."""
        topic, count = self.topic(table), 0
        for key, value in messages:
            self._send(topic, value, key)
            count += value is not None
        return count

    def send_unfit(self, table: str, operation: str, row: Mapping[str, Any]) -> None:
        """Send a change that cannot be carried to the topic of its own."""
        text = json.dumps({"table": table, "op": operation, **row}, ensure_ascii=False)
        self._send(self.unfit, text.encode(), None)

    def state(self, stored: Stored, *, with_tables: bool) -> None:
        """Send the position up to which the topics have everything."""
        place = stored.place
        told = {"position": str(place.position), "gtid": place.gtid, "server": place.server}
        self._send(self.positions, json.dumps(told).encode(), b"place", _PLACE)
        if with_tables:
            tables = json.dumps({"tables": stored.tables, "stale": stored.stale})
            self._send(self.positions, tables.encode(), b"tables", _TABLES)

    def _send(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = _ANY
    ) -> None:
        while True:
            try:
                self._producer.produce(
                    topic, value, key, on_delivery=self._delivered, partition=partition
                )
                break
            except BufferError:
                # Memory is bounded: wait until some have arrived.
                self._producer.poll(1)
        self._producer.poll(0)
        if self._failed:
            raise KafkaException(self._failed)

    def _delivered(self, error: KafkaError | None, message: object) -> None:
        # What is dropped because of an error is not the error.
        if error and error.code() not in _DROPPED:
            self._failed = self._failed or error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Translate the client's errors into what happened and what to do."""
        prefix = self.connection.prefix
        try:
            yield
        except KafkaException as failed:
            # The reason of one message, and not that the transaction has failed for it.
            error: KafkaError = self._failed or failed.args[0]
            code = error.code()
            about = f"Kafka, topics {self.start}.…"
            if code in _FENCED:
                raise TableBusy(
                    f"{about}: another process writes them now, or one transaction took longer "
                    f"than {_TRANSACTION_MS // 60_000} minutes. Nothing of this transaction was "
                    "committed. Make sure that only one process writes the source to Kafka."
                ) from None
            if code in _DENIED:
                raise MissingGrant(
                    f"{about}: Kafka refuses us ({error.str()}). Check {prefix}_USER. It needs "
                    f"CREATE, WRITE, READ and DESCRIBE on topics that begin with {self.start!r}, "
                    f"READ on group and WRITE on transactional id {self.start}-softcart."
                ) from None
            if code in _TOO_LARGE:
                raise SourceRefused(
                    f"{about}: a row is larger than a message may be ({error.str()}). Nothing of "
                    "this transaction was committed. Raise the topic's `max.message.bytes`, then "
                    "start again."
                ) from None
            raise TargetFailed(
                # Whether the last transaction came through, only the topic of positions tells.
                f"{about}: Kafka failed ({error.str()}). A new attempt goes on behind the last "
                f"transaction that Kafka has. If it persists, check {prefix}_BOOTSTRAP_SERVERS."
            ) from None


def _until_end(consumer: Consumer) -> Iterator[bytes]:
    while True:
        message = consumer.poll(_ANSWER_SECONDS)
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        error = message.error()
        if error is None:
            value = message.value()
            if value is not None:
                yield value
        elif error.code() == KafkaError._PARTITION_EOF:
            return
        else:
            raise KafkaException(error)
