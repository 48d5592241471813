"""Reads topics: where they begin and end, and their messages in between."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    OffsetSpec,
)

from softcart_assets.connections import KafkaConnection, ServerUnreachable
from softcart_assets.ingestion.connectors.kafka.errors import explained, missing
from softcart_assets.ingestion.connectors.kafka.messages import Messages
from softcart_assets.ingestion.connectors.kafka.positions import Place, position_text
from softcart_assets.ingestion.connectors.kafka.values import POSITION_COLUMN
from softcart_assets.ingestion.errors import (
    NotComparable,
    PositionPurged,
    SourceLost,
    SourceRefused,
)
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Source, Table

_ANSWER_SECONDS = 15
_SILENT_SECONDS = 60
_MESSAGES = 1_000


class KafkaReader:
    """The topics of one source. Its clients connect when they are needed."""

    def __init__(self, source: Source, connection: KafkaConnection) -> None:
        self.source, self.connection = source, connection
        self._admin = AdminClient(connection.settings())
        self.starts: dict[str, int] = {}
        """Of the table whose position was stated last: per partition, the first kept offset."""

    def asset(self, table: Table) -> str:
        """Return the asset's name, for error texts."""
        return f"{self.source.schema}/{table.name}"

    def topic(self, table: Table) -> str:
        """Return the name of a table's topic."""
        return f"{self.connection.topic_prefix}{table.at_source}"

    def check(self) -> None:
        """Raise `ServerUnreachable` if no broker answers."""
        try:
            self._admin.list_topics(timeout=_ANSWER_SECONDS)
        except KafkaException as error:
            raise ServerUnreachable(
                f"Kafka does not answer ({error.args[0].str()}). Check "
                f"{self.connection.prefix}_BOOTSTRAP_SERVERS and the settings next to it."
            ) from None

    def place(self, table: Table) -> Place:
        """Return the topic's present end, as a place of epoch 0. Only whole transactions count.

        Raises `MissingTable`.
        """
        topic = self.topic(table)
        with explained(self.connection, self.asset(table), topic):
            found = self._admin.describe_topics(
                TopicCollection([topic]), request_timeout=_ANSWER_SECONDS
            )
            described = _answer(found[topic])
            parts = [TopicPartition(topic, each.id) for each in described.partitions]
            place = Place(topic, str(described.topic_id), 0)
            place.offsets = self._offsets(parts, OffsetSpec.latest())  # type: ignore[no-untyped-call]
            self.starts = self._offsets(parts, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
            self._check_policy(table)
        if not any(place.offsets.values()):
            raise missing(self.connection, self.asset(table), topic)
        return place

    def _offsets(self, parts: Sequence[TopicPartition], spec: OffsetSpec) -> dict[str, int]:
        answers: Mapping[TopicPartition, Future[Any]] = self._admin.list_offsets(
            dict.fromkeys(parts, spec),
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=_ANSWER_SECONDS,
        )
        return {str(part.partition): _answer(each).offset for part, each in answers.items()}

    def _check_policy(self, table: Table) -> None:
        """Raise `SourceRefused` if the topic does not keep every message for its time."""
        topic = self.topic(table)
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        answers = self._admin.describe_configs([resource], request_timeout=_ANSWER_SECONDS)
        policy = _answer(answers[resource])["cleanup.policy"].value
        if "compact" in policy:
            raise SourceRefused(
                f"{self.asset(table)}: topic {topic!r} is compacted, so a deletion may be gone "
                "before anybody has read it. Set its `cleanup.policy` to `delete`, and have "
                "Debezium take a new snapshot into a new topic."
            )

    def messages(
        self, table: Table, since: Mapping[str, int], until: Mapping[str, int]
    ) -> Iterator[Message]:
        """Yield the messages of a topic from some offsets on, each partition's in order.

        `until`: per partition, the offset to stop before.
        """
        topic = self.topic(table)
        open_parts = {part for part, end in until.items() if since.get(part, 0) < end}
        if not open_parts:
            return
        with explained(self.connection, self.asset(table), topic):
            consumer = Consumer(
                self.connection.settings()
                | {
                    # It takes no part in a group: our offsets are where the rows are.
                    "group.id": "softcart",
                    "enable.auto.commit": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "enable.partition.eof": True,
                    "queued.max.messages.kbytes": 16 << 10,
                }
            )
            try:
                consumer.assign(
                    [TopicPartition(topic, int(part), since.get(part, 0)) for part in open_parts]
                )
                yield from self._consumed(consumer, table, open_parts, until)
            finally:
                consumer.close()

    def _consumed(
        self, consumer: Consumer, table: Table, open_parts: set[str], until: Mapping[str, int]
    ) -> Iterator[Message]:
        heard = time.monotonic()
        while open_parts:
            found = consumer.consume(_MESSAGES, 0.2)
            if found:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENT_SECONDS:
                raise SourceLost(
                    f"{self.asset(table)}: Kafka has sent nothing for {_SILENT_SECONDS} s. Nothing "
                    "was committed. Run the load again."
                )
            for message in found:
                part, offset = str(message.partition()), message.offset() or 0
                if error := message.error():
                    # Behind the last message there may be marks of transactions, which are no
                    # messages. So the end tells more than the last offset.
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise KafkaException(error)
                    if offset >= until[part]:
                        open_parts.discard(part)
                elif part in open_parts:
                    if offset < until[part]:
                        yield message
                    if offset + 1 >= until[part]:
                        open_parts.discard(part)

    def message_at(self, table: Table, part: str, offset: int) -> Message | None:
        """Return the message at an offset. None: it is not kept any more."""
        try:
            found = self.messages(table, {part: offset}, {part: offset + 1})
            return next((each for each in found if each.offset() == offset), None)
        except PositionPurged:
            return None

    # What every reader has.

    def columns(self, table: Table, known: Sequence[Column]) -> Sequence[Column]:
        """Return raw's columns, or those of the topic's first message of a row."""
        if known:
            return (
                known
                if POSITION_COLUMN.name in {c.name for c in known}
                else [
                    POSITION_COLUMN,
                    *known,
                ]
            )
        place = self.place(table)
        reading = Messages(self.asset(table), self.topic(table), table.key)
        for each in self.messages(table, self.starts, place.offsets):
            value = each.value()
            if value is not None and (message := reading.read(value)):
                return [POSITION_COLUMN, *message.schema.columns]
        raise missing(self.connection, self.asset(table), self.topic(table))

    def position(self, table: Table) -> str:
        """Return the present end of a table's topic."""
        return position_text(self.place(table))

    def warnings(self, table: Table) -> list[str]:
        """Return nothing: the load knows more."""
        return []

    def expected_rows(self, table: Table) -> int | None:
        """Return nothing: messages are not rows."""
        return None

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Raise `NotComparable`: a topic has changes, not rows."""
        raise NotComparable(
            f"{self.asset(table)}: a topic has changes and not rows, so raw cannot be compared "
            f"with it. `softcart load --full {self.source.name}.{table.name}` reads all its "
            "messages again."
        )

    def reset(self) -> None:
        """Do nothing: topics do not block each other."""


def _answer(future: Future[Any]) -> Any:
    return future.result(timeout=2 * _ANSWER_SECONDS)


@contextmanager
def opened(
    source: Source, connection: KafkaConnection, wanted: int = 1
) -> Iterator[list[KafkaReader]]:
    """Open readers of a source's topics. Raises `ServerUnreachable`."""
    readers = [KafkaReader(source, connection) for _ in range(min(wanted, len(source.tables)) or 1)]
    readers[0].check()
    yield readers
