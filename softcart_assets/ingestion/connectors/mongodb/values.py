"""Values of documents: their ids, their JSON, and what a column can take of them.

The compiled module `documents` handles the usual values. This one handles the rest, with the same
results.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import bson
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion

from softcart_assets.ingestion.types import ESCAPED_NUL, Column, Kind, Unfit

_NUL = re.compile(ESCAPED_NUL)

OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    # MongoDB has dates beyond the year 9999, which Python's datetime has not. They must not end a
    # load.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
RELAXED = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
)
CANONICAL = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL,
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
)


def id_text(value: Any) -> tuple[str, str]:
    """Return an `_id` as text and its type. Together they identify it, and `id_value` reverses
    this.
    """
    match value:
        case str():
            return value, "string"
        case bson.ObjectId():
            return str(value), "objectId"
        # In Python, True is an int, too.
        case int() if not isinstance(value, bool):
            return str(int(value)), "int"
    return json_util.dumps(value, json_options=CANONICAL), type_name(value)


def id_value(text: str, type_: str) -> Any:
    """Return the `_id` for the columns `_id` and `_id_type`."""
    match type_:
        case "string":
            return text
        case "objectId":
            return bson.ObjectId(text)
        case "int":
            return int(text)
    return json_util.loads(text, json_options=CANONICAL)


def type_name(value: Any) -> str:
    """Return MongoDB's name of a value's type."""
    names = {
        bool: "bool",
        float: "double",
        bson.Decimal128: "decimal",
        datetime: "date",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def json_text(value: Any) -> str:
    """Return a value as relaxed extended JSON, as PostgreSQL prints it from jsonb."""

    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            # The order of jsonb. Then texts can be compared by their hashes.
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: ordered(value[key]) for key in keys}
        return [ordered(each) for each in value] if isinstance(value, list) else value

    plain = json.loads(json_util.dumps(value, json_options=RELAXED))
    return json.dumps(ordered(plain), ensure_ascii=False)


def plain_text(value: Any) -> str:
    """Return any value as text: a text as it is, another value as its JSON.

    Numbers, dates and ids that Extended JSON wraps are unwrapped.
    """
    if isinstance(value, str):
        return value
    text = json_text(value)
    if isinstance(value, bson.ObjectId | bson.Decimal128 | datetime):
        (inner,) = json.loads(text).values()
        return inner if isinstance(inner, str) else text
    return text


def fit(column: Column, value: Any) -> Any:
    """Return a value as its column's Arrow type takes it. Raises `Unfit` if that would change
    it.
    """
    if value is None:
        return None
    kind = column.kind
    if kind is Kind.JSON:
        text = json_text(value)
        if _NUL.search(text):
            raise Unfit("NUL character, which PostgreSQL's jsonb cannot hold")
        return text
    match kind, value:
        case Kind.BOOLEAN, bool():
            return value
        case Kind.TEXT, str():
            if "\0" in value:
                raise Unfit("NUL character, which PostgreSQL's text cannot hold")
            return value
        case Kind.INSTANT, datetime():
            return value
        case Kind.TEXT, _:
            return fit(column, plain_text(value))
        case Kind.INTEGER | Kind.DOUBLE | Kind.DECIMAL, int() | float() | bson.Decimal128() if (
            not isinstance(value, bool)
        ):
            return _number(column, value)
    raise Unfit(f"a value of type {type_name(value)} does not fit column type {column.target_type}")


def _number(column: Column, value: int | float | bson.Decimal128) -> int | float | Decimal:
    if column.kind is Kind.DOUBLE and isinstance(value, float):
        return value
    # By `repr`, the shortest text of a double: 0.1 is meant, not its 55 binary digits.
    exact = value.to_decimal() if isinstance(value, bson.Decimal128) else Decimal(repr(value))
    if exact.is_finite():
        if (
            column.kind is Kind.INTEGER
            and exact == exact.to_integral_value()
            and -(1 << 63) <= exact < 1 << 63
        ):
            return int(exact)
        # Only if the double prints as this very number: nothing may be rounded.
        if column.kind is Kind.DOUBLE and Decimal(repr(float(exact))) == exact:
            return float(exact)
        if column.kind is Kind.DECIMAL and column.decimal:
            precision, scale = column.decimal
            exponent = exact.normalize().as_tuple().exponent
            if (
                isinstance(exponent, int)
                and -exponent <= scale
                and exact.adjusted() < precision - scale
            ):
                return exact
    raise Unfit(f"a number that does not fit column type {column.target_type} exactly")
