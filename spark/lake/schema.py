"""The columns of a lake table. Their types hold the values of all its change files exactly."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql.types import StructType

from spark import private
from spark.lake.table import ChangeFile, LakeError, LakeTable

OF_CHANGES = ("_deleted", "_operation", "_committed_at")
"""Columns that describe a change. The current rows do not have them."""


def common_schema(table: LakeTable, known: StructType, files: Iterable[ChangeFile]) -> StructType:
    """The columns of `known` and all files. Raises `LakeError` if two types have no common one."""
    types = {field.name: field.type for field in private.arrow_schema(known)}
    for file in files:
        with table.store.open_input_file(file.path) as opened:
            schema = pq.read_schema(opened)
        for field in schema:
            known_type = types.get(field.name, field.type)
            types[field.name] = _common_type(table, field.name, known_type, field.type)
    return private.spark_schema(pa.schema(list(types.items())))


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
