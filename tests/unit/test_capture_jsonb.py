"""MySQL's binary JSON against a small encoder of our own; tests/integration/test_capture_log.py has
MySQL's own.
"""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcart_assets.ingestion.connectors.mysql import jsonb


def encode(value: Any, *, large: bool = False) -> bytes:
    """A document in MySQL's format, its containers large or not."""
    kind, data, in_place = _encoded(value, large)
    return bytes([kind]) + (in_place if in_place is not None else data)


def _encoded(value: Any, large: bool) -> tuple[int, bytes, bytes | None]:
    """Kind, and the value's bytes: outside of its entry, or inside."""
    match value:
        case None | True | False:
            return 4, b"", bytes([{None: 0, True: 1, False: 2}[value]])
        case int():
            sizes = ((5, "<h"), (6, "<H"), (7, "<i"), (8, "<I"), (9, "<q"), (10, "<Q"))
            for kind, form in sizes:
                try:
                    data = struct.pack(form, value)
                except struct.error:
                    continue
                return (kind, b"", data) if kind <= (8 if large else 6) else (kind, data, None)
            raise AssertionError(value)
        case float():
            return 11, struct.pack("<d", value), None
        case str():
            data = value.encode()
            return 12, _length(len(data)) + data, None
    is_object = isinstance(value, dict)
    keys = [key.encode() for key in value] if is_object else []
    values = list(value.values()) if is_object else value
    number, width = ("<I", 4) if large else ("<H", 2)
    at = 2 * width + len(keys) * (width + 2) + len(values) * (width + 1)
    entries, rest = b"", b""
    for key in keys:
        entries += struct.pack(number, at + len(rest)) + struct.pack("<H", len(key))
        rest += key
    for each in values:
        kind, data, in_place = _encoded(each, large)
        entries += bytes([kind])
        if in_place is not None:
            entries += in_place.ljust(width, b"\0")
        else:
            entries += struct.pack(number, at + len(rest))
            rest += data
    kind = (0 if is_object else 2) + large
    return (
        kind,
        struct.pack(number, len(values)) + struct.pack(number, at + len(rest)) + entries + rest,
        None,
    )


def _length(number: int) -> bytes:
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


documents = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=6)
    ),
    max_leaves=30,
)


@given(documents, st.booleans())
def test_generated_documents(document: Any, large: bool) -> None:
    text = jsonb.to_text(encode(document, large=large))
    assert json.loads(text) == document
    assert json.dumps(json.loads(text)) == json.dumps(document)  # 1 is not 1.0, -0.0 not 0.0


@pytest.mark.parametrize("length", [0, 127, 128, 16_383, 16_384, 70_000])
def test_long_texts(length: int) -> None:
    assert json.loads(jsonb.to_text(encode(["x" * length], large=True))) == ["x" * length]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *(
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (1e14, "100000000000000.0"),
            (1e15, "1e15"),
            (1.2937265250190778e15, "1293726525019077.8"),
        ),
        *(
            (1e-14, "0.00000000000001"),
            (1e-16, "1e-16"),
            (1.5e300, "1.5e300"),
            (0.1, "0.1"),
            (12345.678, "12345.678"),
        ),
    ],
)
def test_doubles_as_mysql_writes_them(value: float, text: str) -> None:
    assert jsonb.to_text(encode(value)).decode() == text


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (246, "0a028000000132", "1.50"),
        (246, "0a037ffffffffffe", "-0.001"),
        (246, "0a0280000001", None),
        (10, "0000000000003ab219", None),
        (15, "cafe", '"base64:type15:yv4="'),
        (252, "61" * 60, '"base64:type252:' + "YWFh" * 19 + "\\\\n" + 'YWFh"'),
    ],
)
def test_types_that_json_does_not_have(kind: int, data: str, text: str | None) -> None:
    raw = bytes.fromhex(data)
    document = bytes([15, kind]) + _length(len(raw)) + raw
    if text is None:
        with pytest.raises(ValueError, match="damaged"):
            jsonb.to_text(document)
    else:
        assert jsonb.to_text(document).decode() == text.replace("\\\\n", "\\n")


def test_nothing_is_null() -> None:
    assert jsonb.to_text(b"") == b"null"


@given(documents, st.data())
def test_damage_is_a_value_error(document: Any, data: st.DataObject) -> None:
    encoded = encode(document)
    cut = encoded[: data.draw(st.integers(1, len(encoded)))]
    with suppress(ValueError):
        jsonb.to_text(cut)
