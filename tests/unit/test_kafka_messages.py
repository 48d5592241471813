"""Debezium's messages without a server: values by their schemas, places in the log, odd forms."""

from __future__ import annotations

import base64
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.ingestion.connectors.kafka.messages import Messages
from softcart_assets.ingestion.connectors.kafka.positions import (
    Place,
    log_position,
    place_of,
    position_text,
)
from softcart_assets.ingestion.connectors.kafka.values import RowSchema, key_text
from softcart_assets.ingestion.errors import SourceRefused, UnsupportedColumn
from softcart_assets.ingestion.types import Unfit
from tests.support.kafka import decimal

MOMENT, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
_INSTANT = "io.debezium.time.ZonedTimestamp"
_BITS = "io.debezium.data.Bits"


def base64_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


def schema(type_: str, name: str | None = None, **parameters: str) -> RowSchema:
    field = {"type": type_, "name": name, "parameters": parameters, "field": "v", "optional": True}
    return RowSchema.of([field], (), "raw_t/x")


@pytest.mark.parametrize(
    ("type_", "name", "parameters", "plain", "value"),
    [
        ("int64", None, {}, -(1 << 63), -(1 << 63)),
        ("int64", "io.debezium.time.MicroTimestamp", {}, -1, MOMENT - MICROSECOND),
        ("int64", "io.debezium.time.Timestamp", {}, 1, MOMENT + 1000 * MICROSECOND),
        ("int32", "io.debezium.time.Date", {}, -719_162, date(1, 1, 1)),
        ("int64", "io.debezium.time.MicroTime", {}, -3_020_399_000_001, -3_020_399_000_001),
        ("string", _INSTANT, {}, "1970-01-01T02:00:00.000001+02:00", MOMENT + MICROSECOND),
        ("bytes", _BITS, {"length": "64"}, base64_of(b"\xff" * 8), Decimal((1 << 64) - 1)),
        ("bytes", _BITS, {"length": "9"}, base64_of(b"\x01\x01"), 257),
        ("boolean", None, {}, True, True),
        ("double", None, {}, Decimal("0.1"), 0.1),
    ],
)
def test_values_are_exact(
    type_: str, name: str | None, parameters: dict[str, str], plain: Any, value: Any
) -> None:
    found = schema(type_, name, **parameters).value("v", plain)
    assert found == value
    assert type(found) is type(value)


@given(st.integers(-(10**65) + 1, 10**65 - 1), st.integers(0, 30))
def test_decimals_keep_every_digit(number: int, scale: int) -> None:
    name = "org.apache.kafka.connect.data.Decimal"
    found = schema("bytes", name, **{"scale": str(scale), "connect.decimal.precision": "65"})
    value = found.value("v", decimal(number))
    assert value == Decimal(f"{number}E-{scale}")
    [text] = key_text(found.columns, [value])
    assert Decimal(text) == value
    assert "E" not in text
    with pytest.raises(Unfit, match="out of range"):
        found.value("v", decimal(10**65))


@pytest.mark.parametrize(
    ("type_", "name", "plain"),
    [
        ("int64", "io.debezium.time.NanoTimestamp", 1_001),
        ("int64", "io.debezium.time.MicroTimestamp", 1 << 62),
        ("string", "io.debezium.time.ZonedTimestamp", "2024-02-29T12:00:00.1234567Z"),
        ("string", "io.debezium.time.ZonedTimestamp", "0000-00-00"),
        ("string", None, "a\0"),
        ("string", None, "\ud800"),
        ("string", "io.debezium.data.Json", '"\\u0000"'),
        ("int16", None, 1 << 15),
        ("double", None, "NaN"),
    ],
)
def test_what_does_not_fit_is_told(type_: str, name: str | None, plain: Any) -> None:
    with pytest.raises(Unfit):
        schema(type_, name).value("v", plain)


def test_an_unknown_type_is_told_with_its_column() -> None:
    with pytest.raises(UnsupportedColumn, match=r"column 'v': values of type array are not known"):
        schema("array")


@given(
    st.tuples(*[st.integers(0, 1 << 31)] * 3, st.integers(0, 1)),
    st.tuples(*[st.integers(0, 1 << 31)] * 3, st.integers(0, 1)),
)
def test_places_in_the_log_order_as_their_texts(one: tuple, other: tuple) -> None:
    assert (one < other) == (log_position(0, *one) < log_position(0, *other))


def test_a_position_comes_back_from_its_text() -> None:
    place = Place("t", "id", 3, {"0": 7}, {"0": ("x", 5)}, "binlog", "s", True, "f")
    assert place_of(position_text(place)) == place
    assert place_of(position_text(None)) is None


def message(op: str, **source: Any) -> bytes:
    fields = [{"type": "int32", "optional": False, "field": "id"}]
    struct = {"type": "struct", "fields": fields}
    schema = {
        "type": "struct",
        "fields": [{**struct, "field": each} for each in ("before", "after")],
    }
    payload = {
        "before": {"id": 1},
        "after": {"id": 2},
        "source": {"connector": "mysql", "file": "mysql.bin.000007", "pos": 5, "ts_ms": 9} | source,
        "op": op,
    }
    return json.dumps({"schema": schema, "payload": payload}, separators=(",", ":")).encode()


def test_messages_are_read_whatever_their_spelling() -> None:
    reading = Messages("raw_t/x", "topic", ("id",))
    usual = reading.read(message("u", row=3))
    assert usual
    assert (usual.operation, usual.row, usual.log, usual.number) == (
        "update",
        {"id": 2},
        "mysql.bin",
        7,
    )
    assert (usual.offset, usual.line, usual.part, usual.time) == (5, 3, 1, 9_000)
    again = reading.read(message("d"))
    assert again
    assert (again.operation, again.row, again.part) == ("delete", {"id": 1}, 0)
    assert again.schema is usual.schema
    whole = json.loads(message("c"))
    for odd in (
        json.dumps(whole),
        json.dumps({"payload": whole["payload"], "schema": whole["schema"]}),
    ):
        found = reading.read(odd.encode())
        assert found
        assert found.schema is usual.schema
    assert reading.read(message("r", snapshot="incremental")).operation == "update"  # type: ignore[union-attr]
    assert reading.read(message("r", snapshot="last")).is_last  # type: ignore[union-attr]
    assert reading.read(message("m")) is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "without their schema"),
        (b'{"schema":null,"payload":{}}', "without their schema"),
        (b'{"schema":{"fields":[{"field":"id"}]},"payload":{"id":1}}', "`before` and `after`"),
        (message("x"), "`op` and `source`"),
        (message("c", file=None, connector="postgresql"), "connector 'postgresql'"),
    ],
)
def test_other_messages_are_refused(value: bytes, says: str) -> None:
    with pytest.raises(SourceRefused, match=says):
        Messages("raw_t/x", "topic", ("id",)).read(value)
