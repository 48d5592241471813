"""The codec without servers: row images made by hand, COPY rows byte by byte, every kind of
text.
"""

from __future__ import annotations

import math
import struct
import threading
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softcart_assets.ingestion.codec.copying import COPY_HEADER, COPY_TRAILER, copy_rows
from softcart_assets.ingestion.codec.logrows import RowsDecoder
from softcart_assets.ingestion.connectors.mysql.schema import LogColumn
from softcart_assets.ingestion.types import Column, parse_rows

VARCHAR, BLOB = 15, 252


def image(*values: bytes | None) -> bytes:
    """A row image of values that are written out, prefixes included."""
    nulls = sum(1 << index for index, value in enumerate(values) if value is None)
    return nulls.to_bytes((len(values) + 7) // 8, "little") + b"".join(
        value for value in values if value is not None
    )


def body(count: int, *images: bytes, is_update: bool = False) -> bytes:
    """A rows event's body of so many columns."""
    assert count < 251
    present = b"\xff" * ((count + 7) // 8)
    return bytes([count]) + present * (2 if is_update else 1) + b"".join(images)


def short(value: bytes) -> bytes:
    """With one byte of length."""
    return bytes([len(value)]) + value


def decode_one(column: LogColumn, target: str, *values: bytes | None, **options: Any) -> list | str:
    """The values as that type, or what is wrong with the first that is not fit."""
    decoder = RowsDecoder([column], (), [Column(column.name, "", target)], **options)
    decoder.decode(body(1, *(image(value) for value in values)), 1)
    batch, _, unfit = decoder.take()
    batch.validate(full=True)
    return unfit[0][2].reason if unfit else batch.column(0).to_pylist()


@pytest.mark.parametrize(
    ("code", "meta", "target", "value", "expected"),
    [
        # Before MySQL 5.6, and still so in tables that were made then
        (
            7,
            0,
            "timestamptz",
            struct.pack("<I", 1_700_000_000),
            datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        ),
        (
            7,
            0,
            "timestamptz",
            struct.pack("<I", 2**32 - 1),
            datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC),
        ),
        (7, 0, "timestamptz", bytes(4), "zero, partial or impossible date for timestamptz"),
        (
            12,
            0,
            "timestamp",
            struct.pack("<Q", 99991231235959),
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
        ),
        (
            12,
            0,
            "timestamp",
            struct.pack("<Q", 20230229000000),
            "zero, partial or impossible date for timestamp",
        ),
        (
            12,
            0,
            "timestamp",
            struct.pack("<Q", 20230228240000),
            "zero, partial or impossible date for timestamp",
        ),
        (11, 0, "interval", (-8385959).to_bytes(3, "little", signed=True), -3020399000000),
        (11, 0, "interval", (10203).to_bytes(3, "little", signed=True), 3723000000),
        (14, 0, "date", (2024 << 9 | 2 << 5 | 29).to_bytes(3, "little"), date(2024, 2, 29)),
        (
            10,
            0,
            "date",
            (1900 << 9 | 2 << 5 | 29).to_bytes(3, "little"),
            "zero, partial or impossible date for date",
        ),
        (
            10,
            0,
            "date",
            (1 << 5 | 1).to_bytes(3, "little"),
            "year 0, which PostgreSQL does not have",
        ),
        # Only MySQL has these
        (242, 4, "bytea", struct.pack("<Iff", 8, 1.5, -2.0), struct.pack("<ff", 1.5, -2.0)),
        (245, 4, "jsonb", struct.pack("<I", 2) + b"{}", '{"json": "{}"}'),
        (245, 4, "text", struct.pack("<I", 2) + b"{}", '{"json": "{}"}'),
        (245, 4, "jsonb", struct.pack("<I", 5) + b"wrong", "not binary JSON"),
        (
            245,
            4,
            "jsonb",
            struct.pack("<I", 6) + b"\\u0000",
            "NUL character, which PostgreSQL's jsonb cannot hold",
        ),
        # Labels, lengths
        (247, 1, "text", b"\x02", "zwei"),
        (247, 2, "text", b"\x00\x00", ""),
        (247, 1, "text", b"\x04", "number 4 of an ENUM without such a label"),
        (248, 1, "text", b"\x05", "eins,"),
        (248, 1, "text", b"\x06", "zwei,"),
        (248, 1, "text", b"\x08", "number 8 of a SET without such a label"),
        (16, 64, "numeric(20,0)", b"\xff" * 8, Decimal(2**64 - 1)),
        (16, 64, "bigint", b"\xff" * 8, "value out of range for bigint"),
        (16, 64, "bigint", b"\x7f" + b"\xff" * 7, 2**63 - 1),
        (254, 5, "bytea", short(b"ab"), b"ab\0\0\0"),
        (15, 300, "bytea", struct.pack("<H", 2) + b"ab", b"ab"),
        (252, 3, "bytea", (2).to_bytes(3, "little") + b"ab", b"ab"),
        # Floating
        (5, 8, "double precision", struct.pack("<d", -0.0), -0.0),
        (4, 4, "double precision", struct.pack("<f", 0.1), 0.10000000149011612),
        (4, 4, "text", struct.pack("<f", 1e20), "1.0000000200408773e20"),
        (5, 8, "text", struct.pack("<d", -0.0), "-0"),
    ],
)
def test_values_that_are_rare_or_of_mysql_alone(
    code: int, meta: int, target: str, value: bytes, expected: object
) -> None:
    def json_text(data: bytes) -> bytes:
        if data == b"wrong":
            raise ValueError("not binary JSON")
        return b'{"json": "' + data + b'"}'

    column = LogColumn("x", code, meta, labels=("eins", "zwei", ""))
    decoded = decode_one(column, target, None, value, json_text=json_text)
    if isinstance(decoded, str):
        assert decoded == expected
    else:
        assert decoded == [None, expected]
        assert (
            math.copysign(1, decoded[1]) == math.copysign(1, expected)
            if isinstance(expected, float)
            else True
        )  # type: ignore[arg-type]


def test_what_json_text_raises_is_not_swallowed() -> None:
    def json_text(_: bytes) -> bytes:
        raise LookupError("a mistake")

    decoder = RowsDecoder([LogColumn("x", 245, 4)], (), [Column("x", "", "jsonb")], json_text)
    with pytest.raises(LookupError, match="a mistake"):
        decoder.decode(body(1, image(bytes(4))), 1)
    assert len(decoder) == 0


def test_a_type_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="column 'odd' has type number 99"):
        RowsDecoder([LogColumn("odd", 99)], (), [])


def test_columns_are_brought_together_by_name() -> None:
    """One of the batch that the log lacks is NULL, one of the log that the batch lacks is left
    out.
    """
    log_columns = [
        LogColumn("a", 3),
        LogColumn("gone", VARCHAR, 20),
        LogColumn("b", 3, unsigned=True),
    ]
    decoder = RowsDecoder(
        log_columns,
        (0,),
        [Column("b", "", "bigint"), Column("new", "", "text"), Column("a", "", "integer")],
    )
    old, new = (
        image(struct.pack("<i", -1), short(b"x"), struct.pack("<I", number))
        for number in (2**32 - 1, 7)
    )
    assert decoder.decode(body(3, old), 1) == 1
    assert decoder.decode(body(3, old, new, is_update=True), 2) == 1
    assert len(decoder) == 2
    batch, operations, _ = decoder.take()
    assert batch.to_pylist() == [
        {"b": 2**32 - 1, "new": None, "a": -1},
        {"b": 7, "new": None, "a": -1},
    ]
    assert operations.to_pylist() == [1, 2]


def test_tables_may_be_wide() -> None:
    count = 300
    columns = [LogColumn(f"c{n}", 1) for n in range(count)]
    decoder = RowsDecoder(columns, (299,), [Column(c.name, "", "smallint") for c in columns])
    head = b"\xfc" + count.to_bytes(2, "little") + b"\xff" * 38
    values = [None if n % 3 == 0 else struct.pack("b", n % 100) for n in range(count)]
    assert decoder.decode(head + image(*values), 0) == 1
    batch, operations, _ = decoder.take()
    assert list(batch.to_pylist()[0].values()) == [
        None if n % 3 == 0 else n % 100 for n in range(count)
    ]
    assert operations.to_pylist() == [0]


def test_batches_of_many_events_hold_what_each_had() -> None:
    decoder = RowsDecoder(
        [LogColumn("n", 3), LogColumn("t", BLOB, 2, charset="utf-8")],
        (0,),
        [Column("n", "", "integer"), Column("t", "", "text")],
    )
    for number in range(3000):
        text = f"text {number}".encode() * (number % 5)
        decoder.decode(
            body(
                2,
                image(
                    struct.pack("<i", number),
                    None if number % 7 == 0 else struct.pack("<H", len(text)) + text,
                ),
            ),
            1,
        )
    assert len(decoder) == 3000
    batch, operations, _ = decoder.take()
    assert batch.column(0).to_pylist() == list(range(3000))
    assert batch.column(1).to_pylist() == [
        None if n % 7 == 0 else f"text {n}" * (n % 5) for n in range(3000)
    ]
    assert operations.to_pylist() == [1] * 3000
    assert len(decoder) == 0


TARGETS = (
    *(
        "smallint",
        "integer",
        "bigint",
        "numeric(20,0)",
        "numeric(12,2)",
        "numeric(38,10)",
        "numeric(65,30)",
        "double precision",
    ),
    *("text", "bytea", "date", "timestamp", "timestamptz", "interval", "jsonb"),
)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(TARGETS),
    st.one_of(
        st.from_regex(r"-?[0-9]{1,25}(\.[0-9]{1,12})?", fullmatch=True),
        st.from_regex(r"-?[0-9]{1,66}(\.[0-9]{1,32})?", fullmatch=True),
        st.from_regex(r"-?[0-9]{1,3}(\.[0-9]{1,17})?e-?[0-9]{1,3}", fullmatch=True),
        st.from_regex(
            r"[0-2][0-9]{3}-[01][0-9]-[0-3][0-9]"
            r"( [0-2][0-9]:[0-6][0-9]:[0-6][0-9](\.[0-9]{1,6})?)?",
            fullmatch=True,
        ),
        st.datetimes(datetime(1, 1, 1)).map(str),
        st.dates().map(str),
        st.floats(allow_nan=False, allow_infinity=False).map(repr),
        st.text(st.characters(codec="utf-8"), max_size=60),
        st.binary(max_size=60),
    ).map(lambda value: value if isinstance(value, bytes) else value.encode()),
)
def test_text_becomes_what_types_makes_of_it(target: str, text: bytes) -> None:
    """Text columns read as any type: equal, or refused with the same reason."""
    columns = [Column("x", "", target)]
    decoder = RowsDecoder([LogColumn("x", VARCHAR, 1000, charset="utf-8")], (), columns)
    assert decoder.decode(body(1, image(struct.pack("<H", len(text)) + text)), 1) == 1
    batch, _, unfit = decoder.take()
    expected = parse_rows(columns, [pa.array([text], pa.binary())], [], None)
    if len(batch):
        assert batch.equals(expected.rows)
    elif expected.rejected:
        assert [rejected for _, _, rejected in unfit] == expected.rejected
    else:
        # Too large a double is infinite to Arrow.
        assert math.isinf(float(text))
        assert unfit[0][2].reason == "no usual text of double precision"


@pytest.mark.parametrize("digits", [20, 300, 400, 510, 511, 512, 600])
def test_doubles_may_have_many_digits(digits: int) -> None:
    for text in (
        "0." + "0" * (digits - 30) + "1" * 28,
        "-1." + "3" * (digits - 3),
        "-" + "0" * (digits - 1) + "7",
    ):
        decoded = decode_one(
            LogColumn("x", VARCHAR, 1000, charset="utf-8"),
            "double precision",
            struct.pack("<H", len(text)) + text.encode(),
        )
        assert decoded == [float(text)]


def test_a_copied_row_byte_by_byte() -> None:
    columns = [
        Column("n", "", "smallint"),
        Column("d", "", "numeric(12,2)"),
        Column("b", "", "boolean"),
        Column("j", "", "jsonb"),
        Column("t", "", "interval"),
        Column("x", "", "text"),
    ]
    values: list[object] = [-2, Decimal("-12345.60"), True, "{}", 5, None]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([value], column.arrow_type)
            for column, value in zip(columns, values, strict=True)
        ],
        names=[column.name for column in columns],
    )
    assert copy_rows(columns, batch) == b"".join(
        (
            struct.pack("!h", 6),
            struct.pack("!ih", 2, -2),
            struct.pack("!ihhHh3h", 14, 3, 1, 0x4000, 2, 1, 2345, 6000),
            struct.pack("!ib", 1, 1),
            struct.pack("!i", 3) + b"\x01{}",
            struct.pack("!iqii", 16, 5, 0, 0),
            struct.pack("!i", -1),
        )
    )
    assert copy_rows(columns[::-1], batch)[:6] == struct.pack("!hi", 6, -1)
    assert copy_rows(columns, batch.slice(1)) == b""
    assert b"PGCOPY\n\xff\r\n\0" + bytes(8) == COPY_HEADER
    assert COPY_TRAILER == b"\xff\xff"


def test_copying_refuses_a_batch_of_other_types() -> None:
    batch = pa.RecordBatch.from_pydict({"c": pa.array([1], pa.int64())})
    with pytest.raises(TypeError, match="column 'c' is int64 where integer needs int32"):
        copy_rows([Column("c", "", "integer")], batch)
    with pytest.raises(KeyError, match="d"):
        copy_rows([Column("d", "", "bigint")], batch)


def test_arrays_outlive_their_decoder_and_threads_do_not_meet() -> None:
    columns = [Column("n", "", "integer"), Column("t", "", "text")]
    results: list[pa.RecordBatch] = []

    def work(seed: int) -> None:
        decoder = RowsDecoder(
            [LogColumn("n", 3), LogColumn("t", VARCHAR, 100, charset="utf-8")], (0,), columns
        )
        for _ in range(20):
            decoder.decode(
                body(
                    2,
                    *(
                        image(struct.pack("<i", seed + n), short(b"%d" % (seed + n)))
                        for n in range(500)
                    ),
                ),
                1,
            )
            batch, _, _ = decoder.take()
            copy_rows(columns, batch)
            results.append(batch)

    threads = [threading.Thread(target=work, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 80
    for batch in results:
        batch.validate(full=True)
        assert [str(n) for n in batch.column(0).to_pylist()] == batch.column(1).to_pylist()
