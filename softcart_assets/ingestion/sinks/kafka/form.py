"""Rows as messages in Debezium's format: JSON with schemas.

The fields of a row have the types that the connector `kafka` reads back as those of raw. A value
comes out exactly.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softcart_assets.ingestion.changes import DELETE, INSERT, UPDATE, Changes
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.types import Column, Kind

LETTERS = {DELETE: "d", INSERT: "c", UPDATE: "u"}
"""What Debezium calls the operations."""
_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_NULL = "null"
_TYPES: Mapping[Kind, Mapping[str, Any]] = {
    Kind.DOUBLE: {"type": "double"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.TEXT: {"type": "string"},
    Kind.BYTES: {"type": "bytes"},
    Kind.DATE: {"type": "int32", "name": "io.debezium.time.Date", "version": 1},
    Kind.DATETIME: {"type": "int64", "name": "io.debezium.time.MicroTimestamp", "version": 1},
    Kind.INSTANT: {"type": "string", "name": "io.debezium.time.ZonedTimestamp", "version": 1},
    Kind.TIME: {"type": "int64", "name": "io.debezium.time.MicroTime", "version": 1},
    Kind.JSON: {"type": "string", "name": "io.debezium.data.Json", "version": 1},
}
_INTEGERS = {"smallint": "int16", "integer": "int32", "bigint": "int64"}


class Message(NamedTuple):
    """A message of a topic. `value` is None behind a deletion, for compacted topics."""

    key: bytes | None
    value: bytes | None


class Origin(NamedTuple):
    """Where a change comes from. `snapshot`: as Debezium writes it. `moment`: microseconds."""

    position: Position
    row: int
    moment: int
    snapshot: str = "false"


class Form:
    """How the rows of one table, with some columns, become messages.

    `logical`: what Debezium calls `topic.prefix`. `key`: empty if the table has none.
    """

    def __init__(
        self,
        topic: str,
        logical: str,
        database: str,
        table: str,
        columns: Sequence[Column],
        key: Sequence[str],
    ) -> None:
        self.columns, self._key = columns, list(key)
        fields = [_field(column) for column in columns]
        by_name = {column.name: field for column, field in zip(columns, fields, strict=True)}
        keys = [{**by_name[name], "optional": False} for name in key]
        self._key_start = _opening(_struct(keys, name=f"{topic}.Key", optional=False))
        self._start = _opening(_envelope(topic, fields))
        told = [text.replace("%", "%%") for text in map(json.dumps, (logical, database, table))]
        self._source = (
            f'"source":{{"version":"softcart","connector":"mysql","name":{told[0]},"ts_ms":%d,'
            f'"snapshot":"%s","db":{told[1]},"sequence":null,"ts_us":%d,"ts_ns":%d,'
            f'"table":{told[2]},"server_id":0,"gtid":null,"file":%s,"pos":%d,"row":%d,'
            '"thread":null,"query":null}'
        )

    def changes(
        self, rows: pa.RecordBatch, operations: pa.Array, origins: Sequence[Origin]
    ) -> Iterator[Message]:
        """Yield the messages of changes. `rows` is what `with_before` returns."""
        before = _objects(self.columns, rows, prefix=BEFORE)
        after = _objects(self.columns, rows)
        keys = self._keys(rows)
        was = rows.column(HAS_BEFORE).to_pylist()
        for number, operation in enumerate(operations.to_pylist()):
            old = before[number] if was[number] else _NULL
            if operation == DELETE:
                old = old if was[number] else after[number]
            new = _NULL if operation == DELETE else after[number]
            yield Message(keys[number], self._value(LETTERS[operation], old, new, origins[number]))
            if operation == DELETE and keys[number] is not None:
                yield Message(keys[number], None)

    def copied(self, rows: pa.RecordBatch, origins: Sequence[Origin]) -> Iterator[Message]:
        """Yield the messages of a snapshot's rows."""
        after, keys = _objects(self.columns, rows), self._keys(rows)
        for key, row, origin in zip(keys, after, origins, strict=True):
            yield Message(key, self._value("r", _NULL, row, origin))

    def emptied(self, origin: Origin) -> Message:
        """Return the message that says that all rows are gone."""
        return Message(None, self._value("t", _NULL, _NULL, origin))

    def _keys(self, rows: pa.RecordBatch) -> list[bytes] | list[None]:
        if not self._key:
            return [None] * len(rows)
        by_name = {column.name: column for column in self.columns}
        texts = _objects([by_name[name] for name in self._key], rows)
        return [self._key_start + text.encode() + b"}" for text in texts]

    def _value(self, operation: str, before: str, after: str, origin: Origin) -> bytes:
        position, row, micro, snapshot = origin
        milli, nano = micro // 1000, micro * 1000
        file = encode_basestring(position.file)
        source = self._source % (milli, snapshot, micro, nano, file, position.offset, row)
        text = (
            f'{{"before":{before},"after":{after},{source},"transaction":null,"op":"{operation}",'
            f'"ts_ms":{milli},"ts_us":{micro},"ts_ns":{nano}}}}}'
        )
        return self._start + text.encode()


BEFORE = "before "
"""In front of the names of columns with the values of before."""
HAS_BEFORE = "has before"


def with_before(changes: Changes) -> pa.RecordBatch:
    """Return the rows, and next to them what the log tells of the rows before.

    The log may tell the values of before without those of after, or the other way round, if some
    cannot be carried. Then an update of that transaction comes without those of before.
    """
    rows, before = changes.rows, changes.before
    names, arrays = list(rows.schema.names), list(rows.columns)
    has = np.zeros(len(rows), bool)
    if before is not None and len(before):
        operations = changes.operations.to_numpy()
        numbers = changes.run_of_row
        is_changed = (operations == UPDATE) | (operations == DELETE)
        told = np.array([run.before for run in changes.runs])
        found = np.bincount(numbers[is_changed], minlength=len(told))
        is_whole = found == told
        for each in changes.run_of_rejected():
            is_whole[[run is each for run in changes.runs]] = False
        has = is_changed & is_whole[numbers]
        # How many changed rows of its run come before each row.
        counted = np.cumsum(is_changed) - is_changed
        first = np.concatenate([[0], np.cumsum(found)[:-1]])
        index = (np.cumsum(told) - told)[numbers] + counted - first[numbers]
        indices = pa.array(np.where(has, index, 0), pa.int64(), mask=~has)
        for name in before.schema.names:
            names.append(f"{BEFORE}{name}")
            arrays.append(before.column(name).take(indices))
    return pa.RecordBatch.from_arrays([*arrays, pa.array(has)], names=[*names, HAS_BEFORE])


def _objects(columns: Sequence[Column], rows: pa.RecordBatch, prefix: str = "") -> list[str]:
    """Return each row as the text of a JSON object."""
    names = set(rows.schema.names)
    values = [
        _texts(column, rows.column(prefix + column.name))
        if prefix + column.name in names
        else [_NULL] * len(rows)
        for column in columns
    ]
    pattern = ",".join(
        json.dumps(column.name, ensure_ascii=False).replace("%", "%%") + ":%s" for column in columns
    )
    return [f"{{{pattern % row}}}" for row in zip(*values, strict=True)]


def _texts(column: Column, array: pa.Array) -> list[str]:
    """Return values as JSON."""
    match column.kind:
        case Kind.INTEGER | Kind.BOOLEAN:
            return _or_null(array.cast(pa.string()))
        case Kind.DATE:
            return _or_null(array.cast(pa.int32()).cast(pa.string()))
        case Kind.DATETIME:
            return _or_null(array.cast(pa.int64()).cast(pa.string()))
        case Kind.TIME:
            return _or_null(array.cast(pa.string()))
        case Kind.INSTANT:
            texts = array.cast(pa.timestamp("us")).cast(pa.string()).to_pylist()
            return [_NULL if t is None else f'"{t.replace(" ", "T")}Z"' for t in texts]
        case Kind.DOUBLE:
            return _each(array, repr)
        case Kind.BYTES:
            return _each(array, lambda value: f'"{b64encode(value).decode()}"')
        case Kind.DECIMAL:
            return _decimals(array)
        case _:
            return _each(array, encode_basestring)


def _or_null(texts: pa.Array) -> list[str]:
    found: list[str] = pc.fill_null(texts, _NULL).to_pylist()
    return found


def _each(array: pa.Array, shown: Callable[[Any], str]) -> list[str]:
    return [_NULL if value is None else shown(value) for value in array.to_pylist()]


def _decimals(array: pa.Array) -> list[str]:
    """Return decimals as Connect writes them: the bytes of the number without its point."""
    width = array.type.byte_width
    data = array.buffers()[1]
    body = memoryview(data)[array.offset * width :] if data is not None else b""
    found = []
    for number, is_valid in enumerate(array.is_valid().to_pylist()):
        if not is_valid:
            found.append(_NULL)
            continue
        # Arrow's own bytes, since no arithmetic of decimals rounds those.
        value = int.from_bytes(body[number * width : (number + 1) * width], "little", signed=True)
        length = (value + (value < 0)).bit_length() // 8 + 1
        found.append(f'"{b64encode(value.to_bytes(length, "big", signed=True)).decode()}"')
    return found


def _field(column: Column) -> dict[str, Any]:
    """Return the schema of a column's values."""
    found: dict[str, Any]
    if column.decimal:
        precision, scale = column.decimal
        parameters = {"scale": str(scale), "connect.decimal.precision": str(precision)}
        found = {"type": "bytes", "name": _DECIMAL, "version": 1, "parameters": parameters}
    elif column.kind is Kind.INTEGER:
        found = {"type": _INTEGERS[column.target_type]}
    else:
        found = dict(_TYPES[column.kind])
    return {**found, "optional": column.nullable, "field": column.name}


def _struct(fields: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {"type": "struct", "fields": list(fields), **more}


def _plain(type_: str, field: str, *, optional: bool = False) -> dict[str, Any]:
    return {"type": type_, "optional": optional, "field": field}


def _envelope(topic: str, fields: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    row = {"optional": True, "name": f"{topic}.Value"}
    source = [
        *(_plain("string", name) for name in ("version", "connector", "name")),
        _plain("int64", "ts_ms"),
        _plain("string", "snapshot", optional=True),
        _plain("string", "db"),
        _plain("string", "sequence", optional=True),
        *(_plain("int64", name, optional=True) for name in ("ts_us", "ts_ns")),
        _plain("string", "table", optional=True),
        _plain("int64", "server_id"),
        _plain("string", "gtid", optional=True),
        _plain("string", "file"),
        _plain("int64", "pos"),
        _plain("int32", "row"),
        _plain("int64", "thread", optional=True),
        _plain("string", "query", optional=True),
    ]
    transaction = [
        _plain("string", "id"),
        _plain("int64", "total_order"),
        _plain("int64", "data_collection_order"),
    ]
    return _struct(
        [
            _struct(fields, **row, field="before"),
            _struct(fields, **row, field="after"),
            _struct(
                source,
                optional=False,
                name="io.debezium.connector.mysql.Source",
                version=1,
                field="source",
            ),
            _struct(transaction, optional=True, name="event.block", version=1, field="transaction"),
            _plain("string", "op"),
            *(_plain("int64", name, optional=True) for name in ("ts_ms", "ts_us", "ts_ns")),
        ],
        optional=False,
        name=f"{topic}.Envelope",
        version=2,
    )


def _opening(schema: Mapping[str, Any]) -> bytes:
    """Return what a message with this schema begins with."""
    text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
    return f'{{"schema":{text},"payload":'.encode()
