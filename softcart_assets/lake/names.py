"""Column names that differ only in upper and lower case.

PostgreSQL and Parquet tell `name` and `Name` apart. Hive and Spark do not. A source may have both:
as fields of documents, or one after the other if a column was renamed. The first one keeps its name
in the lake. Another becomes `Name_2`. Its change files are written again with this name, so
everybody who reads the lake finds the right column.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from softcart_assets.lake.schema import (
    OWN_COLUMNS,
    SOURCE_NAME,
    file_schema,
    from_json,
    source_name,
    source_names,
)
from softcart_assets.lake.table import ChangeFile, Exchange, LakeTable


def rename_columns(table: LakeTable, files: Sequence[ChangeFile]) -> list[Exchange]:
    """Write those of the files again whose columns need other names in the lake.

    The caller exchanges the files in its list, in one transaction, before it refreshes the table.
    Rows and their order stay. Needs one row group of memory.
    """
    state = table.state()
    known = from_json(state.schema) if state else pa.schema([])
    # Files in the table have the right names. They only tell which names are taken.
    held = set(state.files) if state else set()
    new = [(file, file_schema(table, file)) for file in files if file.path not in held]
    names = _names(known, (schema for _, schema in new))
    due = {file.load_id for file, schema in new if _renamed(schema, names) != schema}
    # The numbers in the names of a load's files order them. So all its files are written again, and
    # keep their numbers.
    loads = {load_id: str(uuid.uuid4()) for load_id in due}
    exchanges = []
    for file, schema in new:
        if file.load_id in loads:
            folder, _, base = file.path.rpartition("/")
            path = f"{folder}/{loads[file.load_id]}-{base.rpartition('-')[2]}"
            _copy(table, file.path, path, _renamed(schema, names))
            exchanges.append(Exchange(replace(file, path=path), (file,)))
    return exchanges


def _names(known: pa.Schema, schemas: Iterable[pa.Schema]) -> dict[str, str]:
    """The lake's name of every column, by its name at the source."""
    names = {name: name for name in OWN_COLUMNS} | source_names(known)
    taken = {name.lower() for name in names.values()}
    for schema in schemas:
        for field in schema:
            origin = source_name(field)
            if origin not in names:
                name, number = field.name, 1
                while name.lower() in taken:
                    number += 1
                    name = f"{origin}_{number}"
                names[origin] = name
                taken.add(name.lower())
    return names


def _renamed(schema: pa.Schema, names: dict[str, str]) -> pa.Schema:
    """The columns of a file with their names in the lake."""
    fields = []
    for field in schema:
        origin = source_name(field)
        if names[origin] != field.name:
            field = field.with_name(names[origin]).with_metadata({SOURCE_NAME: origin})
        fields.append(field)
    return pa.schema(fields, schema.metadata)


def _copy(table: LakeTable, old: str, new: str, schema: pa.Schema) -> None:
    with (
        table.store.open_input_file(old) as opened,
        pq.ParquetWriter(new, schema, filesystem=table.store, compression="zstd") as writer,
    ):
        file = pq.ParquetFile(opened)
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            writer.write_table(pa.Table.from_arrays(rows.columns, schema=schema), len(rows) or 1)
