"""Documents decoded by the compiled way are what the plain way makes of them."""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

import bson
import pyarrow as pa
import pytest
from bson.binary import Binary
from hypothesis import example, given, settings
from hypothesis import strategies as st

from softcart_assets.ingestion.codec.doctypes import Types
from softcart_assets.ingestion.codec.documents import Decoder
from softcart_assets.ingestion.codec.hashing import double_hash_sum, hash_sum
from softcart_assets.ingestion.connectors.mongodb import values
from softcart_assets.ingestion.connectors.mongodb.columns import DOCUMENT, ID, ID_TYPE, columns_for
from softcart_assets.ingestion.connectors.mongodb.rows import batch_of
from softcart_assets.ingestion.proof import tally
from softcart_assets.lines.model import Table

TABLE = Table("docs", "", ("_id",), "snapshot", ())
NUMBERS = (
    st.integers(-(1 << 63), (1 << 63) - 1).map(bson.Int64)
    | st.integers(-100, 100)
    | st.floats()
    | st.floats(-1e6, 1e6).map(lambda number: round(number, 2))
    | st.integers(-(1 << 60), 1 << 60).map(float)
    | st.decimals(allow_nan=True, allow_infinity=True, places=None).map(
        lambda number: bson.Decimal128(
            bson.decimal128.create_decimal128_context().create_decimal(number)
        )
    )
    | st.decimals(-1000, 1000, places=3).map(bson.Decimal128)
)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | NUMBERS
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.sampled_from(
        ['"quoted\\u0000"', "tab\tline\nbell\x07\x7f", "Zoë 🛒", "\\", "\\u0000", "a\0b"]
    )
    | st.integers(-62135596800000 - 5, 253402300799999 + 5).map(bson.DatetimeMS)
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: moment.replace(microsecond=0))
    | st.binary(min_size=12, max_size=12).map(bson.ObjectId)
    | st.binary(max_size=9)
    | st.uuids()
    | st.binary(max_size=9).map(lambda data: Binary(data, 5))
    | st.sampled_from(
        [
            bson.Regex("a", "i"),
            bson.Timestamp(1, 2),
            bson.MinKey(),
            bson.Code("f()"),
            bson.DBRef("c", 1),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.just("$x"), inner, max_size=4)
    ),
    max_leaves=8,
)
IDS = (
    st.text(max_size=5)
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.binary(min_size=12, max_size=12).map(bson.ObjectId)
)
DOCUMENTS = st.lists(
    st.builds(
        lambda key, fields: {"_id": key, **fields},
        IDS | st.just(1.5) | st.uuids(),
        st.dictionaries(
            st.sampled_from(["a", "b", "cc", "aa", "document", "$y"]) | NAMES, VALUES, max_size=6
        ),
    ),
    max_size=5,
)


def _encode(documents: list[dict]) -> list[bytes]:
    return [bson.encode(document, codec_options=values.OPTIONS) for document in documents]


@settings(max_examples=400, deadline=None)
@given(DOCUMENTS)
@example([{"_id": "x", "a": 0.1, "b": bson.Decimal128("-0.00"), "cc": bson.Decimal128("1E+3")}])
@example([{"_id": 1, "a": 5}, {"_id": 2, "a": 19.99}, {"_id": 3, "a": bson.Decimal128("0.000001")}])
@example([{"_id": 1, "a": {"b": UUID(int=7), "a": b"12", "": datetime(1969, 12, 31, tzinfo=UTC)}}])
def test_the_compiled_way_and_the_plain_way_agree(documents: list[dict]) -> None:
    raws = _encode(documents)
    types = Types()
    assert types.add(b"".join(raws)) == len(raws)
    columns, _ = columns_for([ID, ID_TYPE, DOCUMENT], types.counts)
    decoder = Decoder(columns)
    done = [raw for raw in raws if not decoder.add(raw)]
    rows = decoder.take()
    rows.validate(full=True)
    plain = batch_of(TABLE, columns, [bson.decode(raw, values.OPTIONS) for raw in done])
    assert not plain.rejected
    for column in columns:
        one, other = rows.column(column.name), plain.rows.column(column.name)
        assert one.type == column.arrow_type
        if pa.types.is_floating(one.type):
            assert [struct.pack("d", v or 0) for v in one.to_pylist()] == [
                struct.pack("d", v or 0) for v in other.to_pylist()
            ]
        else:
            assert one.to_pylist() == other.to_pylist(), column
    # The usual types are all for the compiled way.
    usual = (str, bool, int, bson.ObjectId, datetime)
    for raw, document in zip(raws, documents, strict=True):
        if all(type(value) in usual and "\0" not in str(value) for value in document.values()):
            assert (
                raw in done
                or any(name[:1] == "$" for name in document)
                or _does_not_fit(columns, document)
            )


def _does_not_fit(columns: list, document: dict) -> bool:
    return bool(
        batch_of(TABLE, columns, [bson.decode(bson.encode(document), values.OPTIONS)]).rejected
    )


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, st.data())
def test_damaged_bytes_are_refused_or_handed_back(
    documents: list[dict], data: st.DataObject
) -> None:
    raw = bytearray(b"".join(_encode(documents)))
    for _ in range(data.draw(st.integers(0, 3)) if raw else 0):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    columns, _ = columns_for([ID, ID_TYPE, DOCUMENT], {"a": {"text": 1}, "b": {"bigint": 1}})
    decoder = Decoder(columns)
    with suppress(ValueError):  # the lengths lead past the end
        Types().add(bytes(raw))
        decoder.add(bytes(raw))
    rows = decoder.take()
    rows.validate(full=True)
    for text in rows.column("document").to_pylist():
        json.loads(text)


@given(st.lists(st.none() | st.text(max_size=70)), st.integers(0, 3))
def test_sums_of_hashes(texts: list[str | None], start: int) -> None:
    array = pa.array(texts, pa.string())[start:]
    kept = [text for text in texts[start:] if text is not None]
    assert hash_sum(array) == sum(map(_hash, kept))
    assert hash_sum(array, True) == sum(_hash(re.sub("[-+.0-9eE]", "", text)) for text in kept)


def _hash(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:14], 16)


@given(st.floats())
def test_doubles_are_hashed_by_their_text(value: float) -> None:
    assert double_hash_sum(pa.array([value, None]), tally._double_text) == _hash(
        tally._double_text(value)
    )


def test_types_are_counted_by_field() -> None:
    types = Types()
    assert (
        types.add(
            b"".join(
                _encode([{"_id": 1, "a": 1, "b": 2.0}, {"b": math.inf, "a": None, "_id": "x"}])
            )
        )
        == 2
    )
    assert types.counts == {
        "_id": {"bigint": 1, "text": 1},
        "a": {"bigint": 1},
        "b": {"whole double": 1, "double precision": 1},
    }
    with pytest.raises(ValueError, match="whole BSON documents"):
        types.add(b"\x05\0\0\0")
