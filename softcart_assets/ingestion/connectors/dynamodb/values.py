"""Values of items: their numbers, their JSON, and what a column can take of them.

An attribute's value is what the client gives: `{"N": "1.5"}`, `{"L": […]}`, and so on. Numbers stay
texts until they are decimals, so none is ever a double.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from softcart_assets.ingestion.types import ESCAPED_NUL, Column, Kind, Unfit

Value = Mapping[str, Any]
"""A value with its type, such as `{"S": "text"}`."""
Item = dict[str, Value]

ESCAPED_NUL_IN_JSON = re.compile(ESCAPED_NUL)
_WRAPPERS = {"B": "$binary", "SS": "$strings", "NS": "$numbers", "BS": "$binaries"}
"""The types that JSON does not have. Each becomes an object with this key alone."""
_MAP = "$map"
"""A map that would look like one of the wrappers is wrapped itself."""


def number_text(text: str) -> str:
    """Return a number's digits without an exponent, as PostgreSQL prints it: one text per number.

    DynamoDB has up to 38 digits, and numbers from 1E-130 to 9.9E+125.
    """
    # Not `normalize`, which rounds to the context's digits.
    plain = format(Decimal(text), "f")
    if "." in plain:
        plain = plain.rstrip("0").rstrip(".")
    return "0" if plain in ("-0", "") else plain


def json_text(value: Value) -> str:
    """Return a value as JSON, as PostgreSQL prints it from jsonb. Numbers are exact."""
    ((type_, inner),) = value.items()
    match type_:
        case "S":
            return json.dumps(inner, ensure_ascii=False)
        case "N":
            return number_text(inner)
        case "BOOL":
            return "true" if inner else "false"
        case "NULL":
            return "null"
        case "L":
            return f"[{', '.join(map(json_text, inner))}]"
        case "M":
            text = document_text(inner)
            is_like_wrapper = len(inner) == 1 and next(iter(inner)).startswith("$")
            return f'{{"{_MAP}": {text}}}' if is_like_wrapper else text
        case "B":
            return f'{{"{_WRAPPERS[type_]}": "{_base64(inner)}"}}'
        case "SS":
            # A set has no order. Sorted, equal sets are equal texts.
            texts = [json.dumps(each, ensure_ascii=False) for each in sorted(inner)]
        case "NS":
            texts = [number_text(each) for each in sorted(inner, key=Decimal)]
        case "BS":
            texts = [f'"{_base64(each)}"' for each in sorted(map(bytes, inner))]
        case _:
            raise Unfit(f"a value of type {type_}, which is not known")
    return f'{{"{_WRAPPERS[type_]}": [{", ".join(texts)}]}}'


def document_text(item: Mapping[str, Value]) -> str:
    """Return a whole item, or a map, as JSON. Its keys are in the order of jsonb."""
    keys = sorted(item, key=lambda key: (len(key.encode()), key.encode()))
    return (
        "{"
        + ", ".join(
            f"{json.dumps(key, ensure_ascii=False)}: {json_text(item[key])}" for key in keys
        )
        + "}"
    )


def value_of(plain: Any) -> Value:
    """Return the value for parsed JSON, the reverse of `json_text`.

    The JSON has to be parsed with `parse_int=Decimal, parse_float=Decimal`.
    """
    match plain:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": plain}
        case str():
            return {"S": plain}
        case Decimal() | int():
            return {"N": number_text(str(plain))}
        case list():
            return {"L": [value_of(each) for each in plain]}
        case {"$binary": str() as text, **rest} if not rest:
            return {"B": base64.b64decode(text)}
        case {"$strings": list() as texts, **rest} if not rest:
            return {"SS": texts}
        case {"$numbers": list() as numbers, **rest} if not rest:
            return {"NS": [number_text(str(each)) for each in numbers]}
        case {"$binaries": list() as texts, **rest} if not rest:
            return {"BS": [base64.b64decode(each) for each in texts]}
        case {"$map": dict() as inner, **rest} if not rest:
            return {"M": {key: value_of(each) for key, each in inner.items()}}
        case dict():
            return {"M": {key: value_of(each) for key, each in plain.items()}}
    raise ValueError(f"{plain!r} is not JSON")


def packed(item: Mapping[str, Value]) -> bytes:
    """Return an item as one line, for a file. `unpacked` reverses it."""
    return document_text(item).encode() + b"\n"


def unpacked(line: bytes) -> Item:
    """Return the item of a line that `packed` made."""
    plain = json.loads(line, parse_int=Decimal, parse_float=Decimal)
    return {key: dict(value_of(each)) for key, each in plain.items()}


def plain_text(value: Value) -> str:
    """Return any value as text: a text as it is, a number's digits, another value as its JSON."""
    return str(value["S"]) if "S" in value else json_text(value)


def key_text(value: Value) -> str:
    """Return a key attribute's value as PostgreSQL prints it from its column."""
    ((type_, inner),) = value.items()
    if type_ == "B":
        return "\\x" + bytes(inner).hex()
    return number_text(inner) if type_ == "N" else str(inner)


def key_value(text: str, type_: str) -> Value:
    """Return a key attribute's value from its text. `type_`: S, N or B."""
    return {type_: bytes.fromhex(text.removeprefix("\\x")) if type_ == "B" else text}


def fit(column: Column, value: Value | None) -> Any:
    """Return a value as its column's Arrow type takes it. Raises `Unfit` if that would change it.

    Both a missing attribute and one that is NULL are NULL. Column `document` tells them apart.
    """
    if value is None or "NULL" in value:
        return None
    match column.kind:
        case Kind.JSON:
            return _without_nul(json_text(value), ESCAPED_NUL_IN_JSON, "jsonb")
        case Kind.TEXT:
            return _without_nul(plain_text(value), re.compile("\0"), "text")
        case Kind.BOOLEAN if "BOOL" in value:
            return bool(value["BOOL"])
        case Kind.BYTES if "B" in value:
            return bytes(value["B"])
        case Kind.INTEGER if "N" in value and type_of(value) == "bigint":
            return int(Decimal(value["N"]))
        case Kind.DECIMAL if "N" in value:
            number = Decimal(value["N"])
            if column.decimal and _fits(number, *column.decimal):
                return number
    raise Unfit(f"a value of type {type_of(value)} does not fit column type {column.target_type}")


NUMERICS = ("numeric(38,18)", "numeric(76,38)")
"""The types of numbers that are not whole, or longer than 64 bits.

The first is one that Parquet and Spark have. The second is text in the lake.
"""


def type_of(value: Value) -> str | None:
    """Return the PostgreSQL type for a value. None: it is NULL, which every type takes."""
    ((type_, inner),) = value.items()
    match type_:
        case "NULL":
            return None
        case "S":
            return "text"
        case "BOOL":
            return "boolean"
        case "B":
            return "bytea"
        case "N":
            number = Decimal(inner)
            if _fits(number, 19, 0) and -(1 << 63) <= int(number) < 1 << 63:
                return "bigint"
            for name in NUMERICS:
                precision, scale = Column("", "", name).decimal or (0, 0)
                if _fits(number, precision, scale):
                    return name
            return "wide number"
    return "jsonb"


def _fits(number: Decimal, precision: int, scale: int) -> bool:
    """Return whether the number is one of `numeric(precision,scale)`, without rounding."""
    whole, _, broken = number_text(str(number)).lstrip("-").partition(".")
    return len(broken) <= scale and (whole == "0" or len(whole) <= precision - scale)


def _without_nul(text: str, nul: re.Pattern[str], type_: str) -> str:
    if nul.search(text):
        raise Unfit(f"NUL character, which PostgreSQL's {type_} cannot hold")
    return text


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()
