"""The columns of a lake table. Their types hold the values of all its change files exactly."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.types import StructField, StructType

from spark import private
from spark.lake.table import ChangeFile, LakeError, LakeTable

OF_CHANGES = ("_deleted", "_operation", "_committed_at")
"""Columns that describe a change. The current rows do not have them."""
OF_WRITES = ("_loaded_at", "_position", "_load_id", "_version")
"""Columns that say when and by which load a row was written."""
OWN_COLUMNS = (*OF_CHANGES, *OF_WRITES, "_month", "load_date")
"""All columns that ingestion and the lake add to those of the source."""

SOURCE_NAME = "source_name"
"""Metadata of a column whose name at the source cannot be used in the lake, see `names`."""


def source_names(schema: StructType) -> dict[str, str]:
    """The lake's name of each column, by its name at the source."""
    return {field.metadata.get(SOURCE_NAME, field.name): field.name for field in schema}


def file_schema(table: LakeTable, file: ChangeFile) -> pa.Schema:
    """The columns of a change file, from its footer."""
    with table.store.open_input_file(file.path) as opened:
        return pq.read_schema(opened)


def source_name(field: pa.Field) -> str:
    """The name at the source of a change file's column."""
    metadata = field.metadata or {}
    return str(metadata.get(SOURCE_NAME.encode(), field.name.encode()).decode())


def common_schema(table: LakeTable, known: StructType, files: Iterable[ChangeFile]) -> StructType:
    """The columns of `known` and all files. Raises `LakeError` if two types have no common one."""
    types = {field.name: field.type for field in private.arrow_schema(known)}
    origins = {name: source for source, name in source_names(known).items()}
    for file in files:
        for field in file_schema(table, file):
            known_type = types.get(field.name, field.type)
            types[field.name] = _common_type(table, field.name, known_type, field.type)
            origins[field.name] = source_name(field)
    return StructType(
        [
            StructField(
                field.name,
                field.dataType,
                field.nullable,
                {SOURCE_NAME: origins[field.name]} if origins[field.name] != field.name else None,
            )
            for field in private.spark_schema(pa.schema(list(types.items())))
        ]
    )


def as_arrow(schema: StructType) -> pa.Schema:
    """Arrow's types of a lake table's columns, with their names at the source."""
    origins = {name: source for source, name in source_names(schema).items()}
    return pa.schema(
        [
            field
            if origins[field.name] == field.name
            else field.with_metadata({SOURCE_NAME: origins[field.name]})
            for field in private.arrow_schema(schema)
        ]
    )


def _common_type(
    table: LakeTable, column: str, one: pa.DataType, other: pa.DataType
) -> pa.DataType:
    if one == other:
        return one
    try:
        schemas = [pa.schema([(column, one)]), pa.schema([(column, other)])]
        both = pa.unify_schemas(schemas, promote_options="permissive").field(column).type
    except pa.ArrowException:
        both = None
    # Arrow also finds types that lose digits: a double for an integer and a float. And Spark's
    # decimals have at most 38 digits, so Arrow's larger ones are of no use.
    floats = {pa.types.is_floating(one), pa.types.is_floating(other)}
    if both is None or pa.types.is_decimal256(both) or len(floats) == 2:
        raise LakeError(
            f"{table.full_name}: column {column!r} was loaded as {one} and as {other}, and no "
            "type holds the values of both exactly. Give the changed column another name at the "
            "source. Or, to keep only what was loaded since the change, delete the older files "
            "from ingestion.lake_files. Then refresh again."
        )
    return both
