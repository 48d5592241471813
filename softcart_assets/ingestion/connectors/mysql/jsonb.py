"""Turns MySQL's binary JSON, as rows events hold it, into the text that the server itself would
send.

Only this format belongs here. Numbers are written as MySQL writes them, so that text and binary
give the same value.
"""

from __future__ import annotations

import struct
from base64 import encodebytes
from json.encoder import encode_basestring

_INT16, _UINT16, _INT32, _UINT32 = (
    struct.Struct("<h"),
    struct.Struct("<H"),
    struct.Struct("<i"),
    struct.Struct("<I"),
)
_INT64, _UINT64, _DOUBLE = struct.Struct("<q"), struct.Struct("<Q"), struct.Struct("<d")
_INTEGERS = {5: _INT16, 6: _UINT16, 7: _INT32, 8: _UINT32, 9: _INT64, 10: _UINT64}
_LITERALS = {0: "null", 1: "true", 2: "false"}
_DIGIT_BYTES = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
"""The number of bytes for 0 to 9 decimal digits."""


def to_text(data: bytes) -> bytes:
    """Return the document as JSON text in UTF-8.

    Raises `ValueError` if the bytes are damaged.
    """
    if not data:
        return b"null"  # what MySQL makes of a missing value where it is not strict
    try:
        return _value(data, data[0], 1).encode()
    except (struct.error, IndexError, KeyError) as error:
        raise ValueError(f"damaged JSON ({error})") from None


def _value(data: bytes, kind: int, at: int) -> str:
    """Return the value of a kind that starts at an index."""
    if kind == 12:
        start, length = _length(data, at)
        return encode_basestring(_whole(data, start, length).decode())
    if kind <= 3:
        return _container(data, kind, at)
    if kind in _INTEGERS:
        return str(_INTEGERS[kind].unpack_from(data, at)[0])
    if kind == 4:
        return _LITERALS[data[at]]
    if kind == 11:
        return _double(_DOUBLE.unpack_from(data, at)[0])
    if kind == 15:
        start, length = _length(data, at + 1)
        return _opaque(data[at], _whole(data, start, length))
    raise ValueError(f"damaged JSON (a value of kind {kind})")


def _container(data: bytes, kind: int, at: int) -> str:
    """Return an object (0, large 1) or array (2, large 3).

    The large ones count in four bytes, and store integers of four bytes in place.
    """
    number, width = (_UINT32, 4) if kind & 1 else (_UINT16, 2)
    count = number.unpack_from(data, at)[0]
    entries = at + 2 * width
    keys = []
    if kind <= 1:
        for entry in range(entries, entries + count * (width + 2), width + 2):
            start = at + number.unpack_from(data, entry)[0]
            length = _UINT16.unpack_from(data, entry + width)[0]
            keys.append(encode_basestring(_whole(data, start, length).decode()))
        entries += count * (width + 2)
    # Literals and small integers stand in the entry itself. Others have their place there.
    in_place = 8 if kind & 1 else 6
    values = []
    for entry in range(entries, entries + count * (width + 1), width + 1):
        each = data[entry]
        inner = entry + 1 if 4 <= each <= in_place else at + number.unpack_from(data, entry + 1)[0]
        values.append(_value(data, each, inner))
    if kind <= 1:
        return (
            "{"
            + ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
            + "}"
        )
    return "[" + ", ".join(values) + "]"


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return where a value starts that has its length in front, and that length.

    The length has seven bits in each byte.
    """
    length = shift = 0
    while True:
        byte = data[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return at, length
        shift += 7


def _whole(data: bytes, start: int, length: int) -> bytes:
    if start + length > len(data):
        raise ValueError("damaged JSON (it ends too early)")
    return data[start : start + length]


def _double(value: float) -> str:
    """Return a double with the fewest digits that identify it, and an exponent where MySQL writes
    one.
    """
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    sign, mantissa = ("-", mantissa[1:]) if mantissa[0] == "-" else ("", mantissa)
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent or 0)
    digits = whole + fraction
    point -= len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    if not digits:
        return sign + "0.0"
    # Now the value is 0.<digits> times ten to the power of <point>.
    # From here on MySQL writes an exponent. Another text would be another hash for the same value.
    if point < -14 or (point > 15 and point >= len(digits)):
        return f"{sign}{digits[0]}{'.' if digits[1:] else ''}{digits[1:]}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[:point].ljust(point, '0')}.{digits[point:] or '0'}"


def _opaque(kind: int, data: bytes) -> str:
    """Return a value of one of MySQL's types that JSON does not have."""
    if kind in (0, 246):
        return _decimal(data)
    if kind in (7, 10, 11, 12):
        packed = _INT64.unpack(data)[0]
        sign, packed = ("-", -packed) if packed < 0 else ("", packed)
        whole, micros = packed >> 24, packed & 0xFFFFFF
        clock = f"{whole >> 6 & 63:02d}:{whole & 63:02d}.{micros:06d}"
        if kind == 11:
            return f'"{sign}{whole >> 12 & 1023:02d}:{clock}"'
        months, day = whole >> 22, whole >> 17 & 31
        date = f"{months // 13:04d}-{months % 13:02d}-{day:02d}"
        return f'"{date}"' if kind == 10 else f'"{date} {whole >> 12 & 31:02d}:{clock}"'
    # Lines of 76 characters, as the server has them.
    lines = encodebytes(data).decode().removesuffix("\n")
    return encode_basestring(f"base64:type{kind}:{lines}")


def _decimal(data: bytes) -> str:
    """Return a decimal: precision, scale, then its digits in groups of nine.

    The first bit is the sign, inverted.
    """
    precision, scale = data[0], data[1]
    digits = bytearray(data[2:])
    is_negative = not digits[0] & 0x80
    if is_negative:
        digits = bytearray(byte ^ 0xFF for byte in digits)
    digits[0] ^= 0x80
    at = 0

    def group(count: int) -> str:
        nonlocal at
        size = _DIGIT_BYTES[count]
        number = int.from_bytes(digits[at : at + size], "big")
        at += size
        return f"{number:0{count}d}" if count else ""

    whole = precision - scale
    integer = group(whole % 9) + "".join(group(9) for _ in range(whole // 9))
    fraction = "".join(group(9) for _ in range(scale // 9)) + group(scale % 9)
    if at != len(digits):
        raise ValueError("damaged JSON (a decimal of another length)")
    return (
        ("-" if is_negative else "")
        + (integer.lstrip("0") or "0")
        + (f".{fraction}" if scale else "")
    )
