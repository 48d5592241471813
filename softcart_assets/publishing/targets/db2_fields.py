"""The columns of published tables in Db2: their types, and their values as text.

Each value leaves production as text and reaches Db2 as text, but for bytes. Db2 has it exactly, or
it is refused here, with the name of its column. What Db2 gives back is brought into the same form,
so that both sides have the same digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import sql
from psycopg.sql import SQL, Identifier

from softcart_assets.publishing.slots import Columns, PublishError

_MOST_DIGITS = 31
"""The limit of Db2's DECIMAL."""
_PLAIN_DECIMALS = 12
"""The decimals of a numeric without limits."""
_KEY_BYTES = 900
"""Bytes of all texts of one index: with pages of 4 KiB, Db2 has 1024 bytes for it."""
_TEXT_BYTES = 4000
"""Bytes of a text whose length nobody has declared."""
_LONGEST_VARCHAR = 32_672

_WHOLE = {"smallint": "SMALLINT", "integer": "INTEGER", "bigint": "BIGINT"}
_TIMES = {"date": ("DATE", "date"), "timestamp without time zone": ("TIMESTAMP", "timestamp")}
_SHORT = {"time without time zone": 15, "uuid": 36}
"""Bytes of what becomes a text. Db2's TIME has whole seconds."""
_TEXTS = ("text", "character varying", "character")


@dataclass(frozen=True)
class Field:
    """A column. `type`: its type in Db2. `read`: its value in PostgreSQL, as text or as bytes.
    `kind`: how its values are compared. `limits`: the digits and the decimals of a number, or the
    bytes of a text.
    """

    name: str
    type: str
    kind: str
    read: sql.Composable
    limits: tuple[int, ...] = ()
    is_key: bool = False

    @property
    def definition(self) -> str:
        """The column in CREATE TABLE."""
        return f"{quote(self.name)} {self.type}{' NOT NULL' if self.is_key else ''}"

    def sent(self, value: Any) -> Any:
        """A value of production as Db2 gets it. Raises `Unfit` if it would not be the same."""
        if value is None or self.kind == "bytes":
            return value
        if not self._fits(value):
            raise Unfit(self.name)
        return value

    def _fits(self, text: str) -> bool:
        if self.kind == "decimal":
            digits, decimals = self.limits
            whole, _, fraction = plain(text).lstrip("-").partition(".")
            return whole.isdigit() and (
                len(fraction) <= decimals and len(whole.lstrip("0")) <= digits - decimals
            )
        if self.kind == "double":
            return text not in ("NaN", "Infinity", "-Infinity")
        if self.kind in ("date", "timestamp"):
            return bool(re.fullmatch(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d(\.\d{1,6})?)?", text))
        if self.kind == "text" and self.limits:
            return len(text.encode()) <= self.limits[0]
        return True

    def compared(self, value: Any) -> str | None:
        """A value of either side in the form in which they are compared."""
        if value is None:
            return None
        if self.kind == "bytes":
            return bytes(value).hex()
        text = str(value)
        if self.kind == "decimal":
            return plain(text)
        if self.kind == "double":
            return repr(float(text) + 0.0)  # Db2 has no negative zero
        if self.kind == "boolean":
            return "1" if text.lower() in ("true", "1", "t") else "0"
        if self.kind == "timestamp":
            whole, _, fraction = text.partition(".")
            return f"{whole}.{fraction.rstrip('0')}"
        return text


class Unfit(Exception):
    """A value would not be the same in Db2. The text is the name of its column."""


def quote(name: str) -> str:
    """A name in Db2. It is in upper case, so that people need no quotation marks."""
    escaped = name.upper().replace('"', '""')
    return f'"{escaped}"'


def plain(text: str) -> str:
    """A decimal number without an exponent and without zeros at the end of its fraction."""
    found = format(Decimal(text), "f")
    if "." in found:
        found = found.rstrip("0").rstrip(".")
    return "0" if found in ("-0", "") else found


def fields(
    table: str, columns: Columns, key: tuple[str, ...], indexes: Collection[tuple[str, ...]]
) -> tuple[Field, ...]:
    """The columns of a table as Db2 has them.

    Raises `PublishError` if Db2 has no type for one of them.
    """
    indexed = {column for each in (key, *indexes) for column in each}
    length = _KEY_BYTES // max(len(each) for each in (key, *indexes))
    return tuple(
        _field(table, name, kind, name in key, length if name in indexed else None)
        for name, kind in columns
    )


def _field(table: str, name: str, kind: str, is_key: bool, length: int | None) -> Field:
    value = Identifier(name)
    text: sql.Composable = SQL("{}::text").format(value)
    base = kind.partition("(")[0]
    limits = tuple(map(int, re.findall(r"-?\d+", kind.partition("(")[2])))

    def found(its_type: str, its_kind: str, read: sql.Composable = text, *of: int) -> Field:
        return Field(name, its_type, its_kind, read, of, is_key)

    if kind in _WHOLE:
        return found(_WHOLE[kind], "whole")
    if kind == "boolean":
        return found("BOOLEAN", "boolean")
    if base == "numeric":
        digits, decimals = limits or (_MOST_DIGITS, _PLAIN_DECIMALS)
        digits = min(digits, _MOST_DIGITS)
        if 0 <= decimals <= digits:
            return found(f"DECIMAL({digits},{decimals})", "decimal", text, digits, decimals)
    if kind in ("real", "double precision"):
        return found("DOUBLE", "double", SQL("{}::float8::text").format(value))
    if kind in _TIMES:
        return found(*_TIMES[kind])
    if kind == "timestamp with time zone":
        utc = SQL("({} AT TIME ZONE 'UTC')::text").format(value)
        return found("TIMESTAMP", "timestamp", utc)
    if kind in _SHORT:
        return found(f"VARCHAR({_SHORT[kind]})", "text", text, _SHORT[kind])
    if kind == "bytea" and not length:
        return found("BLOB(1G)", "bytes", value)
    if base in _TEXTS:
        size = 4 * limits[0] if limits else _TEXT_BYTES
        size = min(size, length) if length else size
        if size <= _LONGEST_VARCHAR:
            return found(f"VARCHAR({size})", "text", text, size)
        return found("CLOB(1G)", "text")
    if kind in ("json", "jsonb") and not length:
        return found("CLOB(1G)", "text")
    raise PublishError(
        f"production_db2/{table}: Db2 has no type that holds every value of the column {name} "
        f"({kind} in PostgreSQL). Nothing was switched. Cast the column to another type in its "
        "model."
    )


def digest(found: Sequence[Field], values: Sequence[Any]) -> int:
    """A number made of the values of a row."""
    text = repr([field.compared(value) for field, value in zip(found, values, strict=True)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big")
