# cython: language_level=3, cdivision=True
"""Values of row images as text, made by Python: for what is rare, and for rows that go to quarantine."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

import operator
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from itertools import takewhile

from softcart_assets.ingestion.codec.logvalues cimport (
    TINY,
    SHORT,
    LONG,
    FLOAT32,
    FLOAT64,
    TIMESTAMP_OLD,
    LONGLONG,
    INT24,
    DATE_OLD,
    TIME_OLD,
    DATETIME_OLD,
    YEAR,
    NEWDATE,
    BIT,
    TIMESTAMP2,
    DATETIME2,
    TIME2,
    BLOB_COMPRESSED,
    VARCHAR_COMPRESSED,
    JSON_BINARY,
    NEWDECIMAL,
    ENUM,
    SET,
    STRING,
    LogField,
    Moment,
    big,
    digits_of,
    instant_of,
    little,
    moment_of,
    signed_of,
    span_of,
)


cdef bytes text_of(const LogField* field, column, json_text, const uint8_t* data, size_t length):
    """Return a value as MySQL's text protocol gives it. ValueError says why there is none."""
    cdef Moment moment
    cdef uint64_t[4] limbs
    cdef int used
    cdef bint negative
    cdef float single
    cdef double wide
    code = field.code
    if code in (TINY, SHORT, INT24, LONG, LONGLONG):
        return b"%d" % little(data, length) if field.is_unsigned else b"%d" % signed_of(data, length)
    if code == BIT:
        return b"%d" % big(data, length)
    if code == YEAR:
        return b"%04d" % (data[0] + 1900 if data[0] else 0)
    if code == NEWDECIMAL:
        negative = digits_of(field, data, limbs, &used)
        number = sum([<object>limbs[limb] << 64 * limb for limb in range(used)])
        digits = f"{number:0{field.scale + 1}}"
        point = len(digits) - field.scale
        text = ("-" if negative else "") + digits[:point] + ("." + digits[point:] if field.scale else "")
        return text.encode()
    if code == FLOAT32:
        memcpy(&single, data, 4)
        return double_text(single)
    if code == FLOAT64:
        memcpy(&wide, data, 8)
        return double_text(wide)
    if code in (TIME_OLD, TIME2):
        return b"%d" % span_of(field, data)
    if code in (DATE_OLD, NEWDATE, DATETIME_OLD, DATETIME2):
        moment = moment_of(field, data)
        text = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
        if code in (DATE_OLD, NEWDATE):
            return text.encode()
        text += f" {moment.hour:02}:{moment.minute:02}:{moment.second:02}"
        return (text + (f".{moment.microsecond:06}"[: field.scale + 1] if field.scale else "")).encode()
    if code in (TIMESTAMP_OLD, TIMESTAMP2):
        instant = instant_of(field, data)
        text = str(datetime.fromtimestamp(instant // 1000000, UTC))[:19] if instant else "0000-00-00 00:00:00"
        return (text + (f".{instant % 1000000:06}"[: field.scale + 1] if field.scale else "")).encode()
    if code in (ENUM, SET):
        number = little(data, length)
        if code == ENUM:
            chosen = [number - 1] if number else []
        else:
            chosen = [bit for bit in range(64) if number >> bit & 1]
        if chosen and chosen[-1] >= len(column.labels):
            raise ValueError(f"number {number} of {'an ENUM' if code == ENUM else 'a SET'} without such a label")
        return ",".join([column.labels[each] for each in chosen]).encode()
    value = PyBytes_FromStringAndSize(<const char*>data, length)
    if code == JSON_BINARY:
        return json_text(value)
    if code in (BLOB_COMPRESSED, VARCHAR_COMPRESSED):
        value = inflated(value)
    if code == STRING and column.charset == "binary":
        # The log leaves out the trailing zeros of a BINARY.
        value = value.ljust(column.meta, b"\0")
    if column.form == "uuid" and len(value) == 16:
        return uuid_text(value)
    if column.form == "inet4" and len(value) == 4:
        return b"%d.%d.%d.%d" % tuple(value)
    if column.form == "inet6" and len(value) == 16:
        return inet6_text(value)
    if column.charset in ("binary", "utf-8"):
        return value
    try:
        return decoded(value, column.charset).encode()
    except UnicodeError:
        raise ValueError(f"invalid {column.charset}") from None


cdef str decoded(bytes value, charset):
    """Decode text as MySQL converts it. In an ASCII column, other bytes become question marks."""
    return value.decode(charset, "replace").replace("\ufffd", "?") if charset == "ascii" else value.decode(charset)


cdef bytes double_text(double value):
    """Return a double as MySQL prints it."""
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + exponent if text != "0" else 1
    # Beyond these sizes MySQL writes an exponent.
    if not -15 < point <= 15:
        text = text[0] + ("." + text[1:] if text[1:] else "") + f"e{point - 1}"
    elif point <= 0:
        text = "0." + "0" * -point + text
    elif len(text) <= point:
        text = text.ljust(point, "0")
    else:
        text = text[:point] + "." + text[point:]
    return ("-" * sign + text).encode()


cdef bytes inflated(bytes value):
    """Return the content of one of MariaDB's compressed columns."""
    if not value or not value[0]:
        return value[1:]
    if value[0] >> 4 != 8:
        raise ValueError(f"compressed by an unknown method ({value[0] >> 4})")
    try:
        # A flag says whether the data come without zlib's header.
        return zlib.decompress(value[1 + (value[0] & 7) :], -15 if value[0] & 8 else 15)
    except zlib.error as error:
        raise ValueError(f"cannot be decompressed: {error}") from None


cdef bytes uuid_text(bytes value):
    """One of MariaDB's uuids; those that begin with a time are stored with their parts the other way round."""
    # MariaDB stores them this way so that they sort by time.
    if value[6] & 0x80 and 0 < value[8] < 0x60:
        value = value[12:] + value[10:12] + value[8:10] + value[6:8] + value[:6]
    text = value.hex()
    return "-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]]).encode()


cdef bytes inet6_text(bytes value):
    """An address as MariaDB prints it: the first of the longest runs of zeros is `::`, even if it is but one."""
    words = [value[at] << 8 | value[at + 1] for at in range(0, 16, 2)]
    length, begin = max([(len(list(takewhile(operator.not_, words[at:]))), -at) for at in range(8)])
    tail = [f"{word:x}" for word in words]
    if not begin and (length == 6 or (length == 5 and words[5] == 0xFFFF)):
        tail[6:] = [".".join(map(str, value[12:]))]
    if not length:
        return ":".join(tail).encode()
    return f"{':'.join(tail[:-begin])}::{':'.join(tail[length - begin :])}".encode()
