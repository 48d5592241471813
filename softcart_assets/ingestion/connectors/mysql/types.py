"""The types of MySQL and the PostgreSQL types that hold their values exactly."""

from __future__ import annotations

import re

_LONG_TEXTS = {"text", "mediumtext", "longtext"}
_LONG_BYTES = {
    *(
        "blob",
        "mediumblob",
        "longblob",
        "vector",
        "geometry",
        "point",
        "linestring",
        "polygon",
        "multipoint",
    ),
    *("multilinestring", "multipolygon", "geometrycollection", "geomcollection"),
}
_TEXT_TYPES = {"char", "varchar", "tinytext", "enum", "set", "uuid", "inet4", "inet6"} | _LONG_TEXTS
_BYTES_TYPES = {"binary", "varbinary", "tinyblob"} | _LONG_BYTES
_PLAIN_TYPES = {
    "tinyint": "smallint",
    "smallint": "smallint",
    "mediumint": "integer",
    "int": "integer",
    "bigint": "bigint",
    "tinyint unsigned": "smallint",
    "smallint unsigned": "integer",
    "mediumint unsigned": "integer",
    "int unsigned": "bigint",
    "bigint unsigned": "numeric(20,0)",
    "float": "double precision",
    "double": "double precision",
    "date": "date",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
    "time": "interval",
    "year": "smallint",
    "json": "jsonb",
}


def target_type(source_type: str, precision: int | None, scale: int | None) -> str | None:
    """Return the PostgreSQL type that holds every value of a MySQL type (as `COLUMN_TYPE` writes
    it).

    None if there is no such type.
    """
    name = re.split(r"[ (]", source_type, maxsplit=1)[0]
    if name in _TEXT_TYPES:
        return "text"
    if name in _BYTES_TYPES:
        return "bytea"
    if name == "decimal":
        return f"numeric({precision},{scale})"
    if name == "bit":
        # BIT(64) is unsigned and goes beyond bigint.
        return "numeric(20,0)" if precision == 64 else "bigint"
    is_integer = name.endswith("int")
    return _PLAIN_TYPES.get(
        f"{name} unsigned" if is_integer and "unsigned" in source_type else name
    )
