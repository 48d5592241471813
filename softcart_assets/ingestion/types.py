"""Columns and their values on the way from source text to Arrow, and from there to COPY and
Parquet.

Only what depends on a value's type belongs here. Neither a source's names of types nor SQL does.
Each column has one Arrow type throughout. It holds every value of the PostgreSQL type exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class Kind(StrEnum):
    """How values are carried and compared."""

    INTEGER = "integer"
    DECIMAL = "decimal"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    TEXT = "text"
    BYTES = "bytes"
    DATE = "date"
    DATETIME = "datetime"
    """A time without a zone, UTC by convention."""
    INSTANT = "instant"
    """A point in time."""
    TIME = "time"
    """A span of time. In Arrow and Parquet it is a number of microseconds."""
    JSON = "json"


_KINDS = {
    "smallint": Kind.INTEGER,
    "integer": Kind.INTEGER,
    "bigint": Kind.INTEGER,
    "double precision": Kind.DOUBLE,
    "boolean": Kind.BOOLEAN,
    "text": Kind.TEXT,
    "bytea": Kind.BYTES,
    "date": Kind.DATE,
    "timestamp": Kind.DATETIME,
    "timestamptz": Kind.INSTANT,
    "interval": Kind.TIME,
    "jsonb": Kind.JSON,
}
_ARROW = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "text": pa.string(),
    "bytea": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "timestamptz": pa.timestamp("us", tz="UTC"),
    # Microseconds: MySQL's TIME goes below zero and beyond a day, and Parquet has no type for a
    # duration.
    "interval": pa.int64(),
    "jsonb": pa.string(),
}
ESCAPED_NUL = r"(?:^|[^\\])(?:\\\\)*\\u0000"
"""A NUL in JSON: the escape, and not an escaped backslash before `u0000`."""
_INTEGER_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_LAKE_DECIMAL_DIGITS = 38
"""Spark's and Hive's limit. Wider decimals are text in the lake."""


@dataclass(frozen=True)
class Column:
    """One column: its name, its type as the source writes it, and its PostgreSQL type in raw."""

    name: str
    source_type: str
    target_type: str
    nullable: bool = True

    @property
    def decimal(self) -> tuple[int, int] | None:
        """Precision and scale, if it is a decimal."""
        match = re.fullmatch(r"numeric\((\d+),(\d+)\)", self.target_type)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def kind(self) -> Kind:
        """How its values are carried."""
        return Kind.DECIMAL if self.decimal else _KINDS[self.target_type]

    @property
    def arrow_type(self) -> pa.DataType:
        """Its type in Arrow batches."""
        if self.decimal:
            precision, scale = self.decimal
            return (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale)
        return _ARROW[self.target_type]

    @property
    def lake_type(self) -> pa.DataType:
        """Its type in Parquet."""
        too_wide = self.decimal and self.decimal[0] > _LAKE_DECIMAL_DIGITS
        return pa.string() if too_wide else self.arrow_type


def widens(narrow: str, wide: str) -> bool:
    """Return whether every value of PostgreSQL's type `narrow` is also one of `wide` and prints
    alike.
    """
    if narrow in _INTEGER_DIGITS and wide in _INTEGER_DIGITS:
        return _INTEGER_DIGITS[narrow] <= _INTEGER_DIGITS[wide]
    into = Column("", "", wide).decimal
    if not into:
        return narrow == wide
    precision, scale = into
    if narrow in _INTEGER_DIGITS:
        return precision - scale >= _INTEGER_DIGITS[narrow]
    out_of = Column("", "", narrow).decimal
    return out_of is not None and out_of[1] <= scale and out_of[0] - out_of[1] <= precision - scale


def lake_array(column: Column, array: pa.Array) -> pa.Array:
    """The array as the column's `lake_type`."""
    if column.lake_type == column.arrow_type:
        return array
    # Arrow would write small decimals with an exponent.
    return pa.array([None if v is None else format(v, "f") for v in array.to_pylist()], pa.string())


@dataclass(frozen=True)
class Rejected:
    """A row that cannot be carried, with the reason and all its values.

    `key`: the key columns' values as PostgreSQL text. None if the table has no key, or the key
    itself is bad. `cursor`: the cursor's value as PostgreSQL text. None if it is NULL or bad.
    `row`: every value as text. Bytes, and text that does not decode, are hex after `\\x`.
    """

    key: tuple[str, ...] | None
    cursor: str | None
    column: str
    reason: str
    row: dict[str, str | None]


@dataclass(frozen=True)
class Batch:
    """Rows on the way, each column of its `arrow_type`, and the rows that cannot be carried."""

    rows: pa.RecordBatch
    rejected: list[Rejected] = field(default_factory=list)


class Unfit(ValueError):
    """A value, or some value of an array, cannot be carried. The text says why."""


def parse(column: Column, raw: pa.Array) -> pa.Array:
    """Turn an array of the source's text (binary array) into the column's Arrow type.

    Raises `Unfit` if any value cannot be converted.
    """
    if column.kind is Kind.BYTES:
        return raw
    try:
        text = raw.cast(pa.string())
    except pa.ArrowInvalid:
        raise Unfit("invalid UTF-8") from None
    if column.kind in (Kind.TEXT, Kind.JSON):
        _refuse_nul(text, is_json=column.kind is Kind.JSON)
        return text
    is_date = column.kind in (Kind.DATE, Kind.DATETIME, Kind.INSTANT)
    try:
        if is_date:
            array = text.cast(pa.date32() if column.kind is Kind.DATE else pa.timestamp("us"))
            # Arrow counts a year 0. PostgreSQL goes from 1 BC to 1 AD and would print such a date
            # otherwise.
            _refuse_year_zero(text)
            # Read without a zone, then taken as UTC: the session at the source runs in UTC.
            return array.cast(column.arrow_type)
        return text.cast(column.arrow_type)
    except pa.ArrowInvalid:
        what = "zero, partial or impossible date" if is_date else "value out of range"
        raise Unfit(f"{what} for {column.target_type}") from None


def _bytes_of(text: pa.Array) -> np.ndarray:
    """Return a string array's characters, end to end."""
    _, offsets, data = text.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)
    return np.frombuffer(data, np.uint8)[ends[text.offset] : ends[text.offset + len(text)]]


def _refuse_nul(text: pa.Array, *, is_json: bool) -> None:
    # Looked for here, since PostgreSQL would refuse the whole COPY for one NUL.
    if not _bytes_of(text).all():
        raise Unfit("NUL character, which PostgreSQL's text cannot hold")
    # In JSON the NUL is an escape, so no byte shows it. PostgreSQL refuses it when it builds the
    # jsonb.
    if is_json and pc.any(pc.match_substring_regex(text, ESCAPED_NUL)).as_py():
        raise Unfit("NUL character, which PostgreSQL's jsonb cannot hold")


def _refuse_year_zero(text: pa.Array) -> None:
    if pc.any(pc.starts_with(text, "0000")).as_py():
        raise Unfit("year 0, which PostgreSQL does not have")


def parse_rows(
    columns: Sequence[Column], raw: Sequence[pa.Array], key: Sequence[str], cursor: str | None
) -> Batch:
    """A batch from one binary array of source text per column.

    Only a batch with a bad value is looked at row by row.
    """
    names = [column.name for column in columns]
    try:
        return Batch(
            pa.RecordBatch.from_arrays(
                [parse(c, a) for c, a in zip(columns, raw, strict=True)], names=names
            )
        )
    except Unfit:
        reasons = dict(_unfit_values(columns, raw))
    rejected = []
    for index, bad in reasons.items():
        row = {c.name: _printable(c, a[index].as_py()) for c, a in zip(columns, raw, strict=True)}
        column = next(iter(bad))
        keys = tuple(row[name] for name in key)
        rejected.append(
            Rejected(
                None if not key or None in keys or bad.keys() & set(key) else keys,  # type: ignore[arg-type]
                row[cursor] if cursor and cursor not in bad else None,
                column,
                "; ".join(bad.values())
                if len(bad) == 1
                else "; ".join(f"{n}: {r}" for n, r in bad.items()),
                row,
            )
        )
    fit = pa.array([index not in reasons for index in range(len(raw[0]))])
    arrays = [parse(c, a.filter(fit)) for c, a in zip(columns, raw, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(arrays, names=names), rejected)


def _unfit_values(
    columns: Sequence[Column], raw: Sequence[pa.Array]
) -> Iterator[tuple[int, dict[str, str]]]:
    reasons: dict[int, dict[str, str]] = {}
    for column, array in zip(columns, raw, strict=True):
        try:
            parse(column, array)
        except Unfit:
            # Arrow names no row when a cast fails, so each value of a bad batch is tried by itself.
            for index in range(len(array)):
                try:
                    parse(column, pa.array([array[index].as_py()], pa.binary()))
                except Unfit as unfit:
                    reasons.setdefault(index, {})[column.name] = str(unfit)
    yield from reasons.items()


def _printable(column: Column, value: bytes | None) -> str | None:
    if value is None:
        return None
    if column.kind is Kind.BYTES:
        return "\\x" + value.hex()
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "\\x" + value.hex()
