"""Debezium's messages: what each says of a row, and where in the database's log."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from softcart_assets.ingestion.connectors.kafka.positions import AFTER, BEFORE
from softcart_assets.ingestion.connectors.kafka.values import RowSchema
from softcart_assets.ingestion.errors import SourceRefused

Operation = Literal["insert", "update", "delete", "read", "truncate"]
_OPERATIONS: Mapping[str, Operation] = {
    "c": "insert",
    "u": "update",
    "d": "delete",
    "r": "read",
    "t": "truncate",
}
_LAST = {"last", "last_in_data_collection"}
_IN_BETWEEN = "incremental"
_SCHEMA, _PAYLOAD = '{"schema":', ',"payload":'
_LOADS = json.JSONDecoder(parse_float=Decimal)


@dataclass(frozen=True)
class Message:
    """The change of one row, or of all of them.

    `row`: its values as the message has them: those of before for a deletion, those of after for
    others. `before`: those of before, if the message has them. `number`, `offset`, `line`, `part`:
    the place in the database's log file, see `log_position`. `time`: when it happened at the
    database, in microseconds. `is_last`: whether a snapshot ends with it.
    """

    operation: Operation
    schema: RowSchema
    row: Mapping[str, Any]
    before: Mapping[str, Any] | None
    log: str
    number: int
    offset: int
    line: int
    part: int
    time: int
    is_last: bool


class Messages:
    """Reads the messages of one topic. A schema that comes again is not read again."""

    def __init__(self, asset: str, topic: str, key: tuple[str, ...]) -> None:
        self.asset, self.topic, self.key = asset, topic, key
        self._start = ""
        """The text of the last message up to its payload, if it has the usual form."""
        self._schemas: dict[str, RowSchema] = {}
        self._schema: RowSchema | None = None

    def read(self, value: bytes) -> Message | None:
        """Return what a message says. None: nothing of rows. Raises `SourceRefused`."""
        try:
            payload = self._payload(value.decode())
        except ValueError:
            raise self._refused("a message that is not JSON") from None
        operation = payload.get("op") if isinstance(payload, dict) else None
        if operation == "m":  # a message that somebody wrote into the database's log
            return None
        source = payload.get("source") if operation in _OPERATIONS else None
        if not isinstance(source, dict):
            raise self._refused("a message that is not in Debezium's form, with `op` and `source`")
        if not isinstance(source.get("file"), str):
            raise self._refused(
                f"messages of Debezium's connector {source.get('connector')!r}, and only those for "
                "MySQL and MariaDB tell a place in a log file"
            )
        log, _, number = source["file"].rpartition(".")
        assert self._schema
        op = _OPERATIONS[str(operation)]
        snapshot = source.get("snapshot")
        if op == "read" and snapshot == _IN_BETWEEN:
            # Such rows come between the changes, in the order in which they count.
            op = "update"
        return Message(
            op,
            self._schema,
            payload.get("before" if op == "delete" else "after") or {},
            payload.get("before"),
            log,
            int(number),
            int(source["pos"]),
            int(source.get("row") or 0),
            BEFORE if op in ("delete", "truncate") else AFTER,
            int(source.get("ts_us") or int(source["ts_ms"]) * 1000),
            op == "read" and snapshot in _LAST,
        )

    def _payload(self, text: str) -> Any:
        """Return the payload, with `_schema` set to the one that the message has."""
        if self._start and text.startswith(self._start):
            # The schema is the longer part of a message, and nearly always the same.
            return _LOADS.raw_decode(text, len(self._start))[0]
        self._start = ""
        if text.startswith(_SCHEMA + "{"):
            schema, end = _LOADS.raw_decode(text, len(_SCHEMA))
            if text.startswith(_PAYLOAD, end):
                self._begin(schema)
                self._start = text[: end + len(_PAYLOAD)]
                return self._payload(text)
        whole = json.loads(text, parse_float=Decimal)
        self._begin(whole.get("schema") if isinstance(whole, dict) else None)
        return whole.get("payload")

    def _begin(self, schema: Any) -> None:
        """Read the schema of a message."""
        if not isinstance(schema, dict):
            raise self._refused(
                "messages without their schema, which alone tells a decimal from bytes. Set "
                "`value.converter.schemas.enable=true`"
            )
        rows = {each.get("field"): each.get("fields") for each in schema.get("fields", ())}
        if not isinstance(fields := rows.get("after"), list):
            raise self._refused(
                "messages that are not in Debezium's form, with `before` and `after`"
            )
        known = json.dumps(fields)
        if known not in self._schemas:
            self._schemas[known] = RowSchema.of(fields, self.key, self.asset)
        self._schema = self._schemas[known]

    def _refused(self, what: str) -> SourceRefused:
        return SourceRefused(
            f"{self.asset}: topic {self.topic!r} has {what}. Nothing was committed."
        )
