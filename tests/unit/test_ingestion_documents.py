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
from softcart_assets.ingestion.codec.hashing import double_hash_sum, hash_sum
from softcart_assets.ingestion.connectors.mongodb import values
from softcart_assets.ingestion.connectors.mongodb.columns import (
    DOCUMENT,
    ID,
    ID_TYPE,
    MOST_FIELDS,
    columns_for,
)
from softcart_assets.ingestion.connectors.mongodb.rows import batch_of, decoder_for
from softcart_assets.ingestion.proof import tally
from softcart_assets.ingestion.types import Column
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
@example([{"_id": 1, "a": n} for n in (1, 2, "x", True, 0.001, bson.Decimal128("5.0"))])
@example([{"_id": 1, "a": v} for v in ("x", "y", 5.0, datetime(1969, 1, 1, tzinfo=UTC))])
@example([{"_id": 1, "a": -float(1 << 63)}, {"_id": 2, "a": 1}, {"_id": 3, "a": 2}])
@example([{"_id": 1, "a": {"b": UUID(int=7), "a": b"12", "": datetime(1969, 12, 31, tzinfo=UTC)}}])
def test_the_compiled_way_and_the_plain_way_agree(documents: list[dict]) -> None:
    raws = _encode(documents)
    types = Types()
    assert types.add(b"".join(raws)) == len(raws)
    columns, _ = columns_for([ID, ID_TYPE, DOCUMENT], types.counts)
    decoder = decoder_for(columns)
    done = [raw for raw in raws if not decoder.add(raw)]
    rows = decoder.take()
    rows.validate(full=True)
    plain = batch_of(TABLE, columns, [bson.decode(raw, values.OPTIONS) for raw in done])
    assert not plain.rejected
    # Only what no text can hold keeps a document out of raw.
    others = [bson.decode(raw, values.OPTIONS) for raw in raws if raw not in done]
    rejected = batch_of(TABLE, columns, others).rejected
    assert all("NUL character" in each.reason for each in rejected)
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
    columns, _ = columns_for(
        [ID, ID_TYPE, DOCUMENT], {"a": {"text": 1}, "b": {"bigint": 2, "text": 1}}
    )
    decoder = decoder_for(columns)
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
        "a": {"bigint": 1},
        "b": {"whole double": 1, "wide double": 1},
    }
    with pytest.raises(ValueError, match="whole BSON documents"):
        types.add(b"\x05\0\0\0")


def _types(documents: list[dict]) -> dict[str, dict[str, int]]:
    types = Types()
    types.add(b"".join(_encode(documents)))
    return types.counts


def _names(columns: list[Column]) -> dict[str, str]:
    return {column.name: column.target_type for column in columns[3:]}


OWN = [ID, ID_TYPE, DOCUMENT]


def test_numbers_are_counted_by_what_holds_them_exactly() -> None:
    doubles = (5.0, 2.0**62, 2.0**63, 0.5, 0.001, 1.2345678901234567e-3, math.nan, 1e300)
    integers = (1, 1 << 53, -(1 << 63))
    decimals = ("1.5", "1E-19", "NaN")
    documents = [
        *({"_id": 1, "d": number} for number in doubles),
        *({"_id": 1, "i": bson.Int64(number)} for number in integers),
        *({"_id": 1, "n": bson.Decimal128(number)} for number in decimals),
    ]
    assert _types(documents) == {
        "d": {"whole double": 2, "double precision": 3, "wide double": 3},
        "i": {"bigint": 1, "wide bigint": 2},
        "n": {"numeric(38,18)": 1, "wide numeric": 2},
    }


@pytest.mark.parametrize(
    ("values_of", "expected"),
    [
        ((1, 2, "x"), {"f": "bigint", "f__text": "text"}),
        (("x", "y", 1), {"f": "text"}),
        (({}, {}, 1), {"f": "jsonb"}),
        ((1, 0.5), {"f": "numeric(38,18)"}),
        ((1, 1.2345678901234567e-3), {"f": "double precision"}),
        ((0.5, 5.0), {"f": "double precision"}),
        ((0.5, bson.Int64(1 << 60)), {"f": "numeric(38,18)"}),
        ((bson.Decimal128("1"), math.nan), {"f": "numeric(38,18)", "f__text": "text"}),
        ((True, False, "yes"), {"f": "boolean", "f__text": "text"}),
    ],
)
def test_a_field_with_values_of_several_types(values_of: tuple, expected: dict) -> None:
    """airbytehq/airbyte#41604: a document is not left out because a field changed its type."""
    documents = [{"_id": n, "f": value} for n, value in enumerate(values_of)]
    columns, _ = columns_for(OWN, _types(documents))
    assert _names(columns) == expected
    assert not batch_of(TABLE, columns, documents).rejected


def test_other_values_are_in_the_second_column_as_text() -> None:
    documents = [
        {"_id": n, "f": value}
        for n, value in enumerate(
            (1, 2, 3, 4, 5, "05", True, bson.Decimal128("1E-19"), datetime(2026, 1, 1, tzinfo=UTC))
        )
    ]
    columns, warnings = columns_for(OWN, _types(documents))
    decoder = decoder_for(columns)
    others = decoder.add(b"".join(_encode(documents)))
    rows = [
        *decoder.take().to_pylist(),
        *batch_of(TABLE, columns, list(map(bson.decode, others))).rows.to_pylist(),
    ]
    found = {int(row["_id"]): (row["f"], row["f__text"]) for row in rows}
    assert [found[n] for n in range(4, 9)] == [
        (5, None),
        (None, "05"),
        (None, "true"),
        (None, "1E-19"),
        (None, "2026-01-01T00:00:00Z"),
    ]
    assert [each for each in warnings if "('f') have values of several types" in each]


def test_the_largest_and_the_smallest_whole_number_fit() -> None:
    """Found by hypothesis: -2^63 was refused as too large for bigint."""
    columns = [*OWN, Column("f", "", "bigint")]
    whole = [-(1 << 63), (1 << 63) - 1]
    # A regular expression is nothing for the compiled way.
    documents = [{"_id": n, "f": f, "g": bson.Regex("x")} for n, f in enumerate(whole)]
    assert batch_of(TABLE, columns, documents).rows["f"].to_pylist() == whole
    # As a double it is written -9.223372036854776e+18, and that bigint does not hold.
    assert _types([{"_id": 1, "f": -float(1 << 63)}]) == {"f": {"double precision": 1}}


def test_columns_end_where_keys_are_data() -> None:
    """estuary/connectors#3261: 1,700 fields became 1,600 columns, and no load could go on."""
    documents = [{"_id": n, f"customer {n}": 1, "often": n} for n in range(1700)]
    documents.append({"_id": "last", "declared": 1})
    columns, warnings = columns_for(OWN, _types(documents), {"declared"})
    assert len(columns) == MOST_FIELDS
    assert {"often", "declared"} <= _names(columns).keys()
    assert any("1,305 fields" in each and "end at 400" in each for each in warnings)
    # What has a column keeps it, and nothing new gets one.
    again, _ = columns_for(columns, _types([{"_id": 1, "new": 1, "often": "x"}]))
    assert [column.name for column in again[len(columns) :]] == ["often__text"]
    assert not batch_of(TABLE, columns, documents).rejected


def test_keys_without_end_are_not_all_counted() -> None:
    assert len(_types([{"_id": n, f"k{n}": 1} for n in range(9000)])) == 4096


def test_names_that_no_column_can_have_stay_in_the_document() -> None:
    """prestodb/presto#4136, apache/spark#22148: the lake does not tell `Name` from `name`."""
    names = ["Name", "name", "_operation", "_Sequence", "DOCUMENT", "x__text", "", "l" * 64, "fine"]
    columns, warnings = columns_for(OWN, _types([{"_id": 1, **dict.fromkeys(names, 1)}]))
    assert list(_names(columns)) == ["Name", "fine"]
    assert any("('name') have no column" in each for each in warnings)
    assert any("6 fields" in each for each in warnings)


def test_a_field_with_a_long_name_has_a_second_column_all_the_same() -> None:
    name = "n" * 63
    columns, _ = columns_for(OWN, _types([{"_id": n, name: v} for n, v in enumerate((1, 2, "x"))]))
    (_, second) = _names(columns)
    assert len(second) <= 63
    assert batch_of(TABLE, columns, [{"_id": 1, name: "x"}]).rows[second].to_pylist() == ["x"]
