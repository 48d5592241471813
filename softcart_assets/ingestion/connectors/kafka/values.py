"""The columns and values of Debezium's messages, from the schemas in them.

A value either comes out exactly or is `Unfit`. A type that cannot be exact is refused with the
column's name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.connectors.kafka.names import LOG_POSITION
from softcart_assets.ingestion.errors import UnsupportedColumn
from softcart_assets.ingestion.types import ESCAPED_NUL, Batch, Column, Kind, Rejected, Unfit

OFFSET = "_offset"
"""In the rows of quarantine entries: the message's partition and offset."""
POSITION_COLUMN = Column(LOG_POSITION, "log position", "text", nullable=False)
_NUL = re.compile(ESCAPED_NUL)
_FINER = re.compile(r"\.\d{6}\d*[1-9]")
_DAY, _MOMENT = date(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)
_CONNECT = "org.apache.kafka.connect.data."
_SOURCE_TYPE = "__debezium.source.column.type"
_KEYS = {
    Kind.INTEGER,
    Kind.DECIMAL,
    Kind.BOOLEAN,
    Kind.TEXT,
    Kind.BYTES,
    Kind.DATE,
    Kind.DATETIME,
    Kind.INSTANT,
}

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class RowSchema:
    """The columns of a table's messages, and how their values become Arrow's."""

    columns: Sequence[Column]
    convert: Mapping[str, Convert]
    has_default: frozenset[str]
    """The columns that have a default at the source."""

    @classmethod
    def of(cls, fields: Sequence[Mapping[str, Any]], key: Sequence[str], asset: str) -> RowSchema:
        """Read the schema of a row. Raises `UnsupportedColumn`."""
        columns, convert = [], {}
        for each in fields:
            name = str(each["field"])
            try:
                type_, function = _type_of(each)
            except Unfit as reason:
                raise UnsupportedColumn(f"{asset}: column {name!r}: {reason}") from None
            # NULL is checked by the raw table's key alone: others can become NULL at any time.
            column = Column(name, _shown(each), type_, bool(each.get("optional", False)))
            if name in key and column.kind not in _KEYS:
                raise UnsupportedColumn(
                    f"{asset}: column {name!r} of type {_shown(each)} cannot be a key."
                )
            columns.append(column)
            convert[name] = function
        defaults = frozenset(str(f["field"]) for f in fields if f.get("default") is not None)
        return cls(columns, convert, defaults)

    def value(self, name: str, plain: Any) -> Any:
        """Return a value. Raises `Unfit`."""
        return None if plain is None else self.convert[name](plain)

    def key(self, names: Sequence[str], row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return a row's key. Raises `Unfit`."""
        found = tuple(self.value(name, row.get(name)) for name in names)
        if None in found:
            raise Unfit("a key that is NULL or missing")
        return found


def batch_of(
    columns: Sequence[Column],
    schema: RowSchema,
    key: Sequence[str],
    rows: Sequence[tuple[Mapping[str, Any], str, str]],
) -> Batch:
    """Return rows as a batch. Each comes with its place in the log, and its offset as text.

    A row is rejected as a whole if a value of it does not fit.
    """
    fit: list[list[Any]] = []
    rejected = []
    for row, position, offset in rows:
        values: list[Any] = []
        reasons: dict[str, str] = {}
        for column in columns:
            if column.name == LOG_POSITION:
                values.append(position)
                continue
            if column.name not in schema.convert:  # it was dropped at the source
                values.append(None)
                continue
            try:
                values.append(schema.value(column.name, row.get(column.name)))
            except Unfit as unfit:
                reasons[column.name] = str(unfit)
        if not reasons:
            fit.append(values)
            continue
        by_name = {column.name: column for column in columns}
        texts: dict[str, str | None] = {
            name: None if plain is None else str(plain) for name, plain in row.items()
        }
        rejected.append(
            Rejected(
                None
                if reasons.keys() & {*key}
                else key_text([by_name[name] for name in key], schema.key(key, row)),
                None,
                next(iter(reasons)),
                "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
                texts | {OFFSET: offset},
            )
        )
    by_column = zip(*fit, strict=True) if fit else [()] * len(columns)
    arrays = [pa.array(v, c.arrow_type) for c, v in zip(columns, by_column, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns]), rejected)


def key_text(columns: Sequence[Column], key: Sequence[Any]) -> tuple[str, ...]:
    """Return a key as PostgreSQL prints it."""
    return tuple(_printed(c, value) for c, value in zip(columns, key, strict=True))


def _printed(column: Column, value: Any) -> str:
    match column.kind:
        case Kind.BYTES:
            return f"\\x{value.hex()}"
        case Kind.BOOLEAN:
            return "true" if value else "false"
        case Kind.DECIMAL:
            scale = column.decimal[1] if column.decimal else 0
            return format(value, f".{scale}f")
        case Kind.DATETIME | Kind.INSTANT:
            text = str(value.replace(tzinfo=None))
            text = text.rstrip("0") if "." in text else text
            return text + ("+00" if column.kind is Kind.INSTANT else "")
        case _:
            return str(value)


def _shown(field: Mapping[str, Any]) -> str:
    return str(field.get("name") or field["type"])


def _type_of(field: Mapping[str, Any]) -> tuple[str, Convert]:
    """Return the PostgreSQL type of a field and what converts its values.

    Raises `Unfit` if values of this type cannot be exact.
    """
    type_, name = str(field["type"]), str(field.get("name") or "")
    parameters: Mapping[str, str] = field.get("parameters") or {}
    source = parameters.get(_SOURCE_TYPE, "").upper()
    if type_ == "int64" and not name and source.startswith("BIGINT UNSIGNED"):
        raise Unfit(
            "Debezium turns large unsigned numbers into negative ones. Set its "
            "`bigint.unsigned.handling.mode` to `precise`."
        )
    if type_ == "double" and source.startswith(("DECIMAL", "NUMERIC")):
        raise Unfit("Debezium rounds its decimals. Set `decimal.handling.mode` to `precise`.")
    if name in (f"{_CONNECT}Timestamp", f"{_CONNECT}Time"):
        raise Unfit(
            "Debezium cuts its microseconds off. Set its `time.precision.mode` to "
            "`adaptive_time_microseconds`."
        )
    if name == f"{_CONNECT}Decimal":
        return _decimal(parameters)
    if name == "io.debezium.data.Bits":
        is_wide = int(parameters.get("length", 64)) >= 64
        return ("numeric(20,0)" if is_wide else "bigint"), lambda v: (Decimal if is_wide else int)(
            int.from_bytes(base64.b64decode(v), "little")
        )
    if not name and type_ in _PLAIN:
        return _PLAIN[type_]
    if name in _NAMED:
        return _NAMED[name]
    raise Unfit(
        f"values of type {_shown(field)} are not known. Leave it out with Debezium's "
        "`column.exclude.list`, or declare the table on its database."
    )


def _decimal(parameters: Mapping[str, str]) -> tuple[str, Convert]:
    scale, precision = parameters.get("scale"), parameters.get("connect.decimal.precision")
    if scale is None or precision is None:
        raise Unfit("the schema does not tell the digits of its decimals.")
    most = 10 ** int(precision)

    def convert(value: Any) -> Decimal:
        if isinstance(value, str):  # bytes, the form that Connect has by default
            number = int.from_bytes(base64.b64decode(value), "big", signed=True)
            if abs(number) >= most:
                raise Unfit(f"value out of range for numeric({precision},{scale})")
            # From text, which no context rounds.
            return Decimal(f"{number}E-{scale}")
        found = Decimal(value)
        _, digits, exponent = found.as_tuple()
        behind = -int(exponent)
        if behind > int(scale) or len(digits) - behind > int(precision) - int(scale):
            raise Unfit(f"value out of range for numeric({precision},{scale})")
        return found

    return f"numeric({precision},{scale})", convert


def _integer(bits: int) -> Convert:
    def convert(value: Any) -> int:
        if not isinstance(value, int) or not -(1 << bits - 1) <= value < 1 << bits - 1:
            raise Unfit(f"no whole number of {bits} bits")
        return value

    return convert


def _double(value: Any) -> float:
    if isinstance(value, str):
        raise Unfit("not a number")
    return float(value)


def _text(value: Any) -> str:
    text = str(value)
    if "\0" in text:
        raise Unfit("NUL character, which PostgreSQL's text cannot hold")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unfit("invalid Unicode") from None
    return text


def _json(value: Any) -> str:
    if _NUL.search(str(value)):
        raise Unfit("NUL character, which PostgreSQL's jsonb cannot hold")
    return _text(value)


def _date(value: Any) -> date:
    try:
        return _DAY + timedelta(days=value)
    except OverflowError:
        raise Unfit("value out of range for date") from None


def _moment(per_second: int) -> Convert:
    def convert(value: Any) -> datetime:
        microseconds, rest = divmod(value * 1_000_000, per_second)
        if rest:
            raise Unfit("a time that is finer than microseconds")
        try:
            return _MOMENT + timedelta(microseconds=microseconds)
        except OverflowError:
            raise Unfit("value out of range for timestamp") from None

    return convert


def _span(per_second: int) -> Convert:
    def convert(value: Any) -> int:
        microseconds, rest = divmod(value * 1_000_000, per_second)
        if rest:
            raise Unfit("a time that is finer than microseconds")
        return int(microseconds)

    return convert


def _instant(value: Any) -> datetime:
    text = str(value)
    if _FINER.search(text):
        raise Unfit("a time that is finer than microseconds")
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unfit("no point in time") from None


_PLAIN: Mapping[str, tuple[str, Convert]] = {
    "int8": ("smallint", _integer(8)),
    "int16": ("smallint", _integer(16)),
    "int32": ("integer", _integer(32)),
    "int64": ("bigint", _integer(64)),
    "float": ("double precision", _double),
    "double": ("double precision", _double),
    "boolean": ("boolean", bool),
    "string": ("text", _text),
    "bytes": ("bytea", base64.b64decode),
}
_NAMED: Mapping[str, tuple[str, Convert]] = {
    "io.debezium.time.Date": ("date", _date),
    f"{_CONNECT}Date": ("date", _date),
    "io.debezium.time.Timestamp": ("timestamp", _moment(1_000)),
    "io.debezium.time.MicroTimestamp": ("timestamp", _moment(1_000_000)),
    "io.debezium.time.NanoTimestamp": ("timestamp", _moment(1_000_000_000)),
    "io.debezium.time.ZonedTimestamp": ("timestamptz", _instant),
    "io.debezium.time.Time": ("interval", _span(1_000)),
    "io.debezium.time.MicroTime": ("interval", _span(1_000_000)),
    "io.debezium.time.NanoTime": ("interval", _span(1_000_000_000)),
    "io.debezium.time.Year": ("smallint", _integer(16)),
    "io.debezium.data.Json": ("jsonb", _json),
    "io.debezium.data.Enum": ("text", _text),
    "io.debezium.data.EnumSet": ("text", _text),
    "io.debezium.data.Uuid": ("text", _text),
    "io.debezium.data.Xml": ("text", _text),
}
