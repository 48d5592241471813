"""What Spark's workers do with Debezium's messages: they tell which images of rows come and go.

Every worker imports this module. So it imports little.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.connectors.kafka.messages import Message, Messages
from softcart_assets.ingestion.connectors.kafka.positions import AFTER, BEFORE, log_position
from softcart_assets.ingestion.connectors.kafka.values import RowSchema
from softcart_assets.ingestion.errors import SourceRefused
from softcart_assets.ingestion.types import Unfit, widens

OUT = (
    "part INT, offset LONG, kind STRING, at STRING, time LONG, log STRING, key STRING, "
    "event STRING, sign INT, image STRING"
)
_ARROW = pa.schema(
    [
        ("part", pa.int32()),
        ("offset", pa.int64()),
        ("kind", pa.string()),
        ("at", pa.string()),
        ("time", pa.int64()),
        ("log", pa.string()),
        ("key", pa.string()),
        ("event", pa.string()),
        ("sign", pa.int32()),
        ("image", pa.string()),
    ]
)
_WIDTH = 70
"""Longer than any number of MySQL."""
_NINES = str.maketrans("0123456789", "9876543210")
_Line = tuple[Any, ...]


@dataclass(frozen=True)
class Images:
    """Turns messages into the images of rows that begin to count (`sign` 1) and end to (-1).

    `asset`, `topic`: names, for error texts. `key`: the columns of the row's key. `identity`: see
    `RunningTotal`. `types`: PostgreSQL's types of the columns that an image has, and of those of
    key and identity. `used`: the columns of an image, in their order. `floor`: the place in the
    log of the last snapshot, or of the statement that emptied the table. What lies before does not
    count. `reads`: whether only rows of a snapshot are wanted, or only others. None: all.

    `at` is a place in the log, and orders as the log does. `kind` is `read` for a row of a
    snapshot, `truncate`, or `change`. `key` is a text that orders as the row's key does. `event` is
    NULL for a row that is an event of its own. `image` is a JSON array of texts.
    """

    asset: str
    topic: str
    key: tuple[str, ...]
    identity: tuple[str, ...]
    types: Mapping[str, str]
    used: tuple[str, ...]
    floor: str
    reads: bool | None = None

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Take batches with the columns `partition`, `offset` and `value`. Raises `SourceRefused`
        for what cannot be counted exactly.
        """
        reading = Messages(self.asset, self.topic, self.key)
        checked: set[int] = set()
        for batch in batches:
            lines: list[_Line] = []
            for part, offset, value in zip(*(c.to_pylist() for c in batch.columns), strict=True):
                # Without a value: Debezium sends one behind each deletion, for compacted topics.
                message = None if value is None else reading.read(value)
                if message is None:
                    continue
                if id(message.schema) not in checked:
                    self._check(message.schema)
                    checked.add(id(message.schema))
                lines += self._lines(message, part, offset)
            columns = zip(*lines, strict=True) if lines else [()] * len(_ARROW)
            yield pa.RecordBatch.from_arrays(
                [pa.array(c, f.type) for c, f in zip(columns, _ARROW, strict=True)], schema=_ARROW
            )

    def _check(self, schema: RowSchema) -> None:
        found = {column.name: column.target_type for column in schema.columns}
        for name, wanted in self.types.items():
            if name not in found:
                raise SourceRefused(
                    f"{self.asset}: topic {self.topic!r} has rows without the column {name!r}, "
                    "which running totals read."
                )
            if not widens(found[name], wanted):
                raise SourceRefused(
                    f"{self.asset}: in topic {self.topic!r} the column {name!r} was {wanted}, and "
                    f"is {found[name]} now. Have a connector of Debezium with another "
                    "`topic.prefix` take a new snapshot, and count that."
                )

    def _lines(self, message: Message, part: int, offset: int) -> Iterator[_Line]:
        is_read = message.operation == "read"
        if self.reads is not None and is_read != self.reads:
            return

        def at(half: int) -> str:
            return log_position(0, message.number, message.offset, message.line, half)

        kind = message.operation if message.operation in ("read", "truncate") else "change"
        place = (part, offset, kind)
        told = (message.time, message.log)
        if at(message.part) < self.floor:
            return
        if kind == "truncate":
            yield (*place, at(BEFORE), *told, None, None, None, None)
            return
        if message.operation in ("update", "delete"):
            if message.before is None:
                raise SourceRefused(
                    f"{self.asset}: topic {self.topic!r} has a change at offset {part}:{offset} "
                    "that does not tell what the row was before, such as a row of an incremental "
                    "snapshot. Its totals cannot be exact. Have a connector of Debezium with "
                    "another `topic.prefix` take a new snapshot, and count that."
                )
            yield (*place, at(BEFORE), *told, *self._image(message, message.before, -1, offset))
        if message.operation != "delete":
            yield (*place, at(AFTER), *told, *self._image(message, message.row, 1, offset))

    def _image(
        self, message: Message, row: Mapping[str, Any], sign: int, offset: int
    ) -> tuple[str, str | None, int, str]:
        """Key, event, sign and image of a row."""
        try:
            values = {name: message.schema.value(name, row.get(name)) for name in self.types}
        except Unfit as reason:
            raise SourceRefused(
                f"{self.asset}: topic {self.topic!r} has a row at offset {offset} that cannot be "
                f"counted: {reason}. Correct it at the source, and have a connector of Debezium "
                "with another `topic.prefix` take a new snapshot."
            ) from None
        key = "\0".join(_ordered(values[name]) for name in self.key)
        has_event = self.identity and values[self.identity[0]] is not None
        event = _joined(values[name] for name in self.identity) if has_event else None
        return key, event, sign, _joined(values[name] for name in self.used)


def _joined(values: Iterable[Any]) -> str:
    return json.dumps([_text(value) for value in values])


def _ordered(value: Any) -> str:
    """A text that is less than another one if its value is."""
    text = _text(value) or ""
    if not isinstance(value, (int, Decimal)):
        return text
    # The values of one column have the same number of digits behind the point.
    if text.startswith("-"):
        return f"-{text[1:].rjust(_WIDTH, '0').translate(_NINES)}"
    return text.rjust(_WIDTH, "0")


def _text(value: Any) -> str | None:
    """A value's text, from which Spark reads it exactly."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        # Without an exponent.
        return format(value, "f")
    if isinstance(value, date):  # a point in time, too
        return str(value)
    return value.hex() if isinstance(value, bytes) else str(value)
