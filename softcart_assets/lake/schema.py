"""The columns of a lake table. Their types hold the values of all its change files exactly.

In the state of a table the columns have Spark's names of types, because Hive's tables are made from
them. Everything else here works with Arrow's types, which are those of the Parquet files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from softcart_assets.lake.table import ChangeFile, LakeError, LakeTable

OF_CHANGES = ("_deleted", "_operation", "_committed_at")
"""Columns that describe a change. The current rows do not have them."""
OF_WRITES = ("_loaded_at", "_position", "_load_id", "_version")
"""Columns that say when and by which load a row was written."""
OWN_COLUMNS = (*OF_CHANGES, *OF_WRITES, "_month", "load_date")
"""All columns that ingestion and the lake add to those of the source."""

SOURCE_NAME = "source_name"
"""Metadata of a column whose name at the source cannot be used in the lake, see `names`."""

_TYPES = {
    "byte": pa.int8(),
    "short": pa.int16(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us", tz="UTC"),
}
"""Arrow's types by Spark's names. Decimals are not here, because they have parameters."""
_NAMES = {type_: name for name, type_ in _TYPES.items()}


def type_name(type_: pa.DataType) -> str | None:
    """Spark's name of a type. None if the lake has no such type."""
    if pa.types.is_decimal128(type_):
        return f"decimal({type_.precision},{type_.scale})"
    return _NAMES.get(type_)


def to_json(schema: pa.Schema) -> dict[str, Any]:
    """A table's columns in the form in which Spark writes a schema as JSON."""
    return {
        "type": "struct",
        "fields": [
            {
                "name": field.name,
                "type": type_name(field.type),
                "nullable": True,
                "metadata": {}
                if source_name(field) == field.name
                else {SOURCE_NAME: source_name(field)},
            }
            for field in schema
        ],
    }


def from_json(content: Mapping[str, Any]) -> pa.Schema:
    """The columns that `to_json` has written, or Spark."""
    fields = []
    for column in content["fields"]:
        decimal = re.fullmatch(r"decimal\((\d+),(\d+)\)", column["type"])
        type_ = pa.decimal128(*map(int, decimal.groups())) if decimal else _TYPES[column["type"]]
        fields.append(_field(column["name"], type_, column["metadata"].get(SOURCE_NAME)))
    return pa.schema(fields)


def _field(name: str, type_: pa.DataType, origin: str | None) -> pa.Field:
    """A column. `origin`: its name at the source."""
    is_renamed = origin not in (None, name)
    return pa.field(name, type_, metadata={SOURCE_NAME: origin} if is_renamed else None)


def source_name(field: pa.Field) -> str:
    """The name at the source of a column."""
    metadata = field.metadata or {}
    return str(metadata.get(SOURCE_NAME.encode(), field.name.encode()).decode())


def source_names(schema: pa.Schema) -> dict[str, str]:
    """The lake's name of each column, by its name at the source."""
    return {source_name(field): field.name for field in schema}


def file_schema(table: LakeTable, file: ChangeFile) -> pa.Schema:
    """The columns of a change file, from its footer."""
    with table.store.open_input_file(file.path) as opened:
        return pq.read_schema(opened)


def common_schema(table: LakeTable, known: pa.Schema, files: Iterable[ChangeFile]) -> pa.Schema:
    """The columns of `known` and all files.

    Raises `LakeError` if two types of a column have no common one, or if the lake has no such type.
    """
    fields = {field.name: field for field in known}
    for file in files:
        for field in file_schema(table, file):
            found = fields.get(field.name, field).type
            type_ = _common_type(table, field.name, found, field.type)
            fields[field.name] = _field(field.name, type_, source_name(field))
    return pa.schema(list(fields.values()))


def current_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of the current rows, of those of the change files."""
    return pa.schema([field for field in schema if field.name not in OF_CHANGES])


def _common_type(
    table: LakeTable, column: str, one: pa.DataType, other: pa.DataType
) -> pa.DataType:
    try:
        schemas = [pa.schema([(column, one)]), pa.schema([(column, other)])]
        both = pa.unify_schemas(schemas, promote_options="permissive").field(column).type
    except pa.ArrowException:
        both = None
    # Arrow also finds types that lose digits: a double for an integer and a float. And Hive's
    # decimals have at most 38 digits, so Arrow's larger ones are of no use.
    floats = {pa.types.is_floating(one), pa.types.is_floating(other)}
    if both is None or type_name(both) is None or len(floats) == 2:
        raise LakeError(
            f"{table.full_name}: column {column!r} was loaded as {one} and as {other}, and no "
            "type holds the values of both exactly. Give the changed column another name at the "
            "source. Or, to keep only what was loaded since the change, delete the older files "
            "from ingestion.lake_files. Then refresh again."
        )
    return both
