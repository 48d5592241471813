"""A contract as a document of the Open Data Contract Standard 3.1 (ODCS).

The standard's own JSON schema judges the documents in `tests/unit/test_contracts.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

STANDARD = "v3.1.0"
_LOGICAL = {
    "bigint": "integer",
    "integer": "integer",
    "smallint": "integer",
    "int64": "integer",
    "int32": "integer",
    "boolean": "boolean",
    "bool": "boolean",
    "date": "date",
    "date32[day]": "date",
    "double precision": "number",
    "real": "number",
    "double": "number",
    "jsonb": "object",
}
"""Types of PostgreSQL and Arrow → logical types of the standard. Others are found by `_logical`."""


@dataclass(frozen=True)
class Column:
    """A column that people may read. `type`: as PostgreSQL or Arrow writes it.

    `privacy`: `none`, `pii` (only `softcart_reader_pii` reads it) or `sensitive` (nobody does).
    """

    name: str
    type: str
    description: str
    privacy: str = "none"


@dataclass(frozen=True)
class Product:
    """A published table or an extract, with what is promised of it.

    `kind`: `production` or `extracts`. `owner`: the team that answers for it. `key`: the columns
    that identify a row, none for an extract. `references`: column → `table.column` that it leads
    to. `hours`: how old it may become. `may_be_empty`: whether no rows are right, too.
    """

    kind: str
    name: str
    line: str
    owner: str
    description: str
    columns: Sequence[Column]
    hours: int
    key: Sequence[str] = ()
    references: Mapping[str, str] = field(default_factory=dict)
    may_be_empty: bool = True


def document(product: Product, version: str) -> dict[str, Any]:
    """The contract of a product, as the standard wants it."""
    return {
        "apiVersion": STANDARD,
        "kind": "DataContract",
        "id": f"softcart.{product.kind}.{product.name}",
        "name": product.name,
        "version": version,
        "status": "active",
        "domain": product.line,
        "dataProduct": product.kind,
        "description": {"purpose": product.description},
        "team": {"name": product.owner.removeprefix("team:")},
        "schema": [_schema(product)],
        "slaProperties": [
            {
                "property": "frequency",
                "value": product.hours,
                "unit": "h",
                "description": "It is made or confirmed at least so often.",
            }
        ],
        **({"roles": _ROLES} if product.kind == "production" else {}),
    }


_ROLES = [
    {
        "role": "softcart_reader",
        "access": "read",
        "description": "Reads the columns of class public.",
    },
    {
        "role": "softcart_reader_pii",
        "access": "read",
        "description": "Reads the columns of class pii, too.",
    },
]


def _schema(product: Product) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": product.name,
        "physicalName": f"{product.kind}.{product.name}",
        "logicalType": "object",
        "physicalType": "table" if product.kind == "production" else "file",
        "description": product.description,
        "properties": [_property(product, column) for column in product.columns],
    }
    if product.references:
        found["relationships"] = [
            {"type": "foreignKey", "from": f"{product.name}.{column}", "to": to}
            for column, to in sorted(product.references.items())
        ]
    quality = []
    if product.key:
        quality.append(
            {
                "name": "key_unique",
                "type": "library",
                "metric": "duplicateValues",
                "arguments": {"properties": list(product.key)},
                "mustBe": 0,
            }
        )
    if not product.may_be_empty:
        quality.append(
            {"name": "not_empty", "type": "library", "metric": "rowCount", "mustBeGreaterThan": 0}
        )
    if quality:
        found["quality"] = quality
    return found


def _property(product: Product, column: Column) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": column.name,
        "logicalType": _logical(column.type),
        "physicalType": column.type,
        "description": column.description,
        "classification": "public" if column.privacy == "none" else column.privacy,
    }
    if column.name in product.key:
        position = list(product.key).index(column.name) + 1
        found |= {"primaryKey": True, "primaryKeyPosition": position, "required": True}
    return found


def _logical(kind: str) -> str:
    if kind in _LOGICAL:
        return _LOGICAL[kind]
    if kind.startswith("timestamp"):
        return "timestamp"
    if kind.startswith("time"):
        return "time"
    if kind.startswith(("numeric", "decimal")):
        return "number"
    if kind.endswith("[]") or kind.startswith("list"):
        return "array"
    return "string"
