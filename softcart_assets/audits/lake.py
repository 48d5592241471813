"""Audit of a lake table: its content is that of its raw table.

Both are added up by column, as raw is compared with its source. PostgreSQL does that for raw, in
one pass over the table. The lake's data files never change, so each is read once, and its sums stay
beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import psycopg
import pyarrow as pa
from pyarrow import fs

from softcart_assets.audits.model import AuditResult
from softcart_assets.ingestion.proof.digest import EXACT, Checksums, checksum, checksums_by
from softcart_assets.ingestion.proof.postgres import POSTGRES
from softcart_assets.ingestion.proof.tally import Accumulator
from softcart_assets.ingestion.sinks.raw import RawTable
from softcart_assets.ingestion.types import Column
from softcart_assets.lake import LakeTable, Partition, from_json, source_names
from softcart_assets.lines.model import Source, Table

_SUMS = "_checksums.json"
"""Spark and Hive take no file whose name begins so for data."""
_NOTHING = "0:0"
_BATCH_ROWS = 50_000


@dataclass(frozen=True)
class Content:
    """The current rows of a table: their number and the checksum of each column of raw."""

    columns: Sequence[Column]
    key: Sequence[str]
    rows: int
    checksums: Checksums


def content_of_raw(session: psycopg.Connection, source: Source, table: Table) -> Content:
    """Add up the raw table, as the session sees it. A table that does not exist has no rows.

    Rows in quarantine count. Their last good versions are in raw and in the lake.
    """
    raw = RawTable(session, source, table)
    columns = raw.columns()
    if not columns:
        return Content((), raw.key, 0, {})
    # Compiling the sums of many columns would take longer than computing them.
    session.execute("SET LOCAL jit = off")

    def ask(sums: str) -> Sequence[object]:
        statement = f"SELECT {sums} FROM {raw.name} WHERE NOT _deleted"
        row: tuple[Any, ...] | None = session.execute(statement.encode()).fetchone()
        assert row
        return row

    return Content(columns, raw.key, *checksums_by(ask, POSTGRES, columns, raw.key))


def equals_raw(table: LakeTable, raw: Content) -> AuditResult:
    """The row count and each column's checksum are those of the raw table."""
    rows, checksums = _content_of_lake(table, raw)
    differing = [c.name for c in raw.columns if checksums[c.name] != raw.checksums[c.name]]
    details: dict[str, Any] = {
        "rows in raw": raw.rows,
        "rows in the lake": rows,
        "columns compared": len(raw.columns),
        "differing columns": differing,
    }
    passed = rows == raw.rows and not differing
    return AuditResult("equals_raw", table.full_name, passed, details)


def _content_of_lake(table: LakeTable, raw: Content) -> tuple[int, Checksums]:
    state = table.state()
    partitions = list(state.partitions.values()) if state else []
    names = source_names(from_json(state.schema)) if state else {}
    found = [_sums(table, partition, raw, names) for partition in partitions]
    return sum(rows for rows, _ in found), {
        c.name: _added(sums.get(c.name, _NOTHING) for _, sums in found) for c in raw.columns
    }


def _added(checksums: Iterable[str | None]) -> str:
    count, total = Decimal(0), Decimal(0)
    for each in checksums:
        if each is None:
            return "the lake's values do not fit raw's type"
        some, sums = map(Decimal, each.split(":"))
        count, total = count + some, EXACT.add(total, sums)
    return checksum(count, total)


def _sums(
    table: LakeTable, partition: Partition, raw: Content, names: Mapping[str, str]
) -> tuple[int, dict[str, str | None]]:
    """The rows of a folder and the checksums of the columns that it has.

    None: its values cannot be of raw's type.
    """
    path = f"{partition.folder}/{_SUMS}"
    types = {c.name: c.target_type for c in raw.columns}
    if table.store.get_file_info(path).type == fs.FileType.File:
        with table.store.open_input_stream(path) as stream:
            known = json.loads(stream.read())
        # A checksum depends on the type. A column that raw did not have then was not added up.
        if all(known["types"][name] == types.get(name) for name in known["types"]):
            return known["rows"], known["checksums"]
    rows, checksums, present = _add_up(table, partition, raw, names)
    content = {
        "rows": rows,
        "checksums": checksums,
        "types": {name: types.get(name) for name in present},
    }
    with table.store.open_output_stream(path) as stream:
        stream.write(json.dumps(content).encode())
    return rows, checksums


def _add_up(
    table: LakeTable, partition: Partition, raw: Content, names: Mapping[str, str]
) -> tuple[int, dict[str, str | None], set[str]]:
    """Read a folder, a batch at a time. Also returns the names at the source of its columns."""
    # It imports pandas: 0.4 CPU seconds in each process that loads the definitions.
    import pyarrow.dataset as ds

    found = table.store.get_file_info(fs.FileSelector(partition.folder))
    files = [info.path for info in found if info.extension == "parquet"]
    data = ds.dataset(files, filesystem=table.store, format="parquet")
    present = {source for source, name in names.items() if name in data.schema.names}
    columns = [column for column in raw.columns if column.name in present]
    sums = Accumulator(raw.key)
    unfit: set[str] = set()
    batches = data.to_batches(
        [names[column.name] for column in columns],
        batch_size=_BATCH_ROWS,
        # Otherwise Arrow reads far ahead, and holds all that in memory.
        batch_readahead=1,
        fragment_readahead=1,
    )
    for batch in batches:
        arrays = {}
        for column in columns:
            try:
                arrays[column.name] = batch.column(names[column.name]).cast(column.arrow_type)
            except pa.ArrowException:
                unfit.add(column.name)
        fitting = [column for column in columns if column.name in arrays]
        rows = pa.RecordBatch.from_arrays(list(arrays.values()), names=list(arrays))
        sums.add(fitting, rows)
    checksums = {c.name: None if c.name in unfit else sums.of(c.name) for c in columns}
    return partition.rows, checksums, present
