"""Kafka for tests, and messages as Debezium writes them."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

ID = {"type": "int32", "optional": False, "field": "id"}
AMOUNT = {
    "type": "bytes",
    "optional": True,
    "name": "org.apache.kafka.connect.data.Decimal",
    "version": 1,
    "parameters": {"scale": "2", "connect.decimal.precision": "10"},
    "field": "amount",
}
NOTE = {"type": "string", "optional": True, "field": "note"}
NANO = {"type": "int64", "optional": True, "name": "io.debezium.time.NanoTimestamp", "field": "at"}
SECOND = 1_000_000


def decimal(number: int) -> str:
    """The base64 text of an unscaled decimal."""
    length = (number.bit_length() + 8) // 8
    return base64.b64encode(number.to_bytes(length, "big", signed=True)).decode()


@dataclass
class Topic:
    """A topic whose messages look as if Debezium had written them."""

    servers: str
    name: str
    fields: Sequence[Mapping[str, Any]] = (ID, AMOUNT)
    time: int = 1_700_000_000 * SECOND
    partitions: int = 2
    settings: dict[str, Any] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # It would write to standard error when the server is stopped.
        client = {"bootstrap.servers": self.servers, "log_level": 0}
        self.admin = AdminClient(client)
        self.make()
        self.producer = Producer({**client, **self.settings})

    def make(self) -> None:
        """Make the topic."""
        new = NewTopic(self.name, self.partitions, 1, config=self.config)
        self.admin.create_topics([new])[self.name].result(30)

    def send(
        self,
        op: str,
        at: tuple[int, int, int],
        row: Mapping[str, Any] | None,
        *,
        before: Mapping[str, Any] | None = None,
        snapshot: str = "false",
        partition: int | None = None,
        later: int = 0,
        log: str = "binlog",
    ) -> None:
        """Send a message. `at`: the file's number, the offset and the row in the log."""
        struct = {"type": "struct", "fields": list(self.fields), "optional": True}
        schema = {
            "type": "struct",
            "fields": [{**struct, "field": "before"}, {**struct, "field": "after"}],
        }
        number, offset, line = at
        payload = {
            "before": row if op == "d" else before,
            "after": None if op in "dt" else row,
            "source": {
                "connector": "mysql",
                "snapshot": snapshot,
                "ts_us": self.time + later * SECOND,
                "file": f"{log}.{number:06d}",
                "pos": offset,
                "row": line,
            },
            "op": op,
        }
        value = json.dumps({"schema": schema, "payload": payload}, separators=(",", ":"))
        self.put(row and row["id"], value.encode(), partition)

    def put(self, key: Any, value: bytes | None, partition: int | None = None) -> None:
        """Send any value. Rows with one key go to one partition."""
        if partition is None:
            partition = hash(key or 0) % self.partitions
        self.producer.produce(self.name, value, key=json.dumps(key), partition=partition)
        self.producer.poll(0)

    def flush(self) -> None:
        """Wait until all is there."""
        assert not self.producer.flush(60)
