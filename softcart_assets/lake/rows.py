"""Reads and writes the rows of Parquet files, with one row group of memory."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from softcart_assets.lake.table import LakeTable, Partition

BATCH_ROWS = 50_000
_ROWS_A_GROUP = 100_000
_BYTES_A_GROUP = 32 << 20


def read_rows(
    table: LakeTable, paths: Iterable[str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """The rows of files in their order, with the columns and types of `schema`.

    A column that a file does not have is NULL.
    """
    for path in paths:
        with table.store.open_input_file(path) as opened:
            file = pq.ParquetFile(opened)
            present = [name for name in schema.names if name in file.schema_arrow.names]
            for batch in file.iter_batches(BATCH_ROWS, columns=present):
                yield as_of(batch, schema)


def as_of(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows with the columns and types of `schema`. Columns that they lack are NULL."""
    had = set(batch.schema.names)
    return pa.RecordBatch.from_arrays(
        [
            batch.column(field.name).cast(field.type)
            if field.name in had
            else pa.nulls(len(batch), field.type)
            for field in schema
        ],
        schema=schema,
    )


def row_count(table: LakeTable, folder: str) -> int:
    """The number of rows in the data files of a folder, from their footers."""
    files = files_of(table, Partition(folder, 0))
    return sum(pq.read_metadata(file, filesystem=table.store).num_rows for file in files)


def files_of(table: LakeTable, partition: Partition) -> list[str]:
    """The data files of a partition, always in the same order."""
    found = table.store.get_file_info(fs.FileSelector(partition.folder))
    return sorted(info.path for info in found if info.extension == "parquet")


def new_folder(table: LakeTable, month: str = "") -> str:
    """A folder for the rows of a month ('' if not partitioned) that was never there before.

    Spark and Hive find the month in the path.
    """
    inside = f"_month={month}/" if month else ""
    return f"{table.folder}/{inside}{time.time_ns()}-{uuid.uuid4().hex[:8]}"


def write_rows(
    table: LakeTable, folder: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Partition:
    """Write rows as the only file of a new folder."""
    table.store.create_dir(folder)
    return Partition(folder, write_file(table, f"{folder}/0.parquet", schema, batches))


def write_file(
    table: LakeTable, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> int:
    """Write rows as a file. Returns their number."""
    rows = 0
    with pq.ParquetWriter(
        path,
        schema,
        filesystem=table.store,
        compression="zstd",
        use_dictionary=_repeating(schema),
    ) as writer:
        for group in _groups(batches, schema):
            # Arrow refuses a group of 0 rows. An empty file still has its columns.
            writer.write_table(group, row_group_size=len(group) or 1)
            rows += len(group)
    return rows


def _groups(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows in row groups. By bytes as well: a few large documents would fill the memory."""
    pending: list[pa.RecordBatch] = []
    for batch in batches:
        pending.append(batch)
        is_full = sum(map(len, pending)) >= _ROWS_A_GROUP
        if is_full or sum(each.nbytes for each in pending) >= _BYTES_A_GROUP:
            yield pa.Table.from_batches(pending, schema)
            pending = []
    if pending:
        yield pa.Table.from_batches(pending, schema)


def _repeating(schema: pa.Schema) -> Sequence[str]:
    """The columns whose values repeat. For others a dictionary costs time and room."""
    texts = (pa.types.is_string, pa.types.is_binary, pa.types.is_boolean)
    return [
        field.name
        for field in schema
        if field.name in ("_loaded_at", "_version") or any(is_(field.type) for is_ in texts)
    ]
