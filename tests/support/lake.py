"""A lake without a warehouse: change files as ingestion writes them, and the rows of its tables."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow import fs

from softcart_assets.lake import (
    ChangeFile,
    LakeTable,
    discard,
    refresh_table,
    rename_columns,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YESTERDAY = NOW - timedelta(days=1)
JANUARY, FEBRUARY = (
    datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 2, 1, tzinfo=UTC),
)
INSTANT = pa.timestamp("us", tz="UTC")
ORDER = {"id": pa.decimal128(20, 0), "ordered_at": INSTANT, "amount": pa.decimal128(12, 2)}
OWN = {
    "_deleted": pa.bool_(),
    "_loaded_at": INSTANT,
    "_position": pa.string(),
    "_load_id": pa.string(),
    "_version": pa.int64(),
}
LOG = OWN | {"_operation": pa.string()}


class Loads:
    """Writes change files as ingestion does and keeps the list of committed ones."""

    def __init__(self, lake_uri: str, database: str) -> None:
        self.table = LakeTable(lake_uri, database, "orders", ("id",), "ordered_at")
        self.root = Path(self.table.hadoop_path("").removeprefix("file:"))
        """The folder of a lake on this machine."""
        self.files: list[ChangeFile] = []
        self._loads = 0

    def add(
        self,
        *versions: tuple,
        types: dict[str, pa.DataType] = ORDER,
        committed: bool = True,
        parts: int = 1,
        loaded_at: datetime | None = None,
        is_numbered: bool = True,
        operation: str | None = None,
    ) -> None:
        """One load; a version is a tuple of the columns' values, with a last True if it is a
        deletion. Releases until 2b4cd81 did not number their loads.
        """
        self._loads += 1
        load_id = f"load{self._loads:03}"
        loaded_at = loaded_at or NOW + timedelta(minutes=self._loads)
        folder = f"changes/shop/orders/load_date={loaded_at:%Y-%m-%d}"
        self.table.store.create_dir(folder)
        width = len(types)
        own = dict(OWN if operation is None else LOG)
        values = (loaded_at, "p", load_id, self._loads, operation)[: len(own) - 1]
        rows = [(*v[:width], v[width:] == (True,), *values) for v in versions]
        size = -(-len(rows) // parts)
        for part in range(parts):
            columns = list(zip(*rows[part * size : (part + 1) * size], strict=True))
            arrays = [
                _array(values, type_)
                for values, type_ in zip(
                    columns or [()] * len(types | own), (types | own).values(), strict=True
                )
            ]
            path = f"{folder}/{load_id}-{part}.parquet"
            file = pa.table(arrays, names=list(types | own))
            file = file if is_numbered else file.drop("_version")
            pq.write_table(file, path, filesystem=self.table.store)
            if committed:
                self.files.append(ChangeFile(path, load_id, f"{loaded_at:%Y-%m-%d}"))

    def rename(self) -> None:
        """What `refresh` does with the list of files before it merges them."""
        exchanges = rename_columns(self.table, self.files)
        instead = {old.path: each.new for each in exchanges for old in each.old}
        self.files = [instead.get(file.path, file) for file in self.files]
        discard(self.table, [old for each in exchanges for old in each.old])


def fill(table: LakeTable, rows: pa.Table) -> None:
    """Make these rows the only load of a table."""
    folder = f"changes/shop/{table.name}/load_date={NOW:%Y-%m-%d}"
    table.store.create_dir(folder)
    own = {"_deleted": False, "_loaded_at": NOW, "_position": "p", "_load_id": "l", "_version": 1}
    for name, value in own.items():
        if name not in rows.column_names:
            rows = rows.append_column(name, pa.repeat(pa.scalar(value, OWN[name]), len(rows)))
    pq.write_table(rows, f"{folder}/l-0.parquet", filesystem=table.store)
    refresh_table(table, [ChangeFile(f"{folder}/l-0.parquet", "l", f"{NOW:%Y-%m-%d}")])


def _array(values: tuple, type_: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(type_):
        values = tuple(None if value is None else Decimal(value) for value in values)
    return pa.array(values, type_)


def rows_of(table: LakeTable) -> list[dict[str, Any]]:
    """The current rows of a table, each with its `_month`, as any reader of Parquet finds them."""
    state = table.state()
    found = []
    for month, partition in (state.partitions if state else {}).items():
        data = ds.dataset(partition.folder, filesystem=table.store, format="parquet").to_table()
        assert len(data) == partition.rows
        found += [row | {"_month": month} for row in data.to_pylist()]
    return found


def current(table: LakeTable, *columns: str) -> list[tuple]:
    """The rows of a table of orders by id: id, amount and month, or these columns."""
    rows = sorted(rows_of(table), key=lambda row: row["id"])
    names = columns or ("id", "amount", "_month")
    return [tuple(row.get(name) for name in names) for row in rows]


class Deadly(fs.FileSystemHandler):
    """The file system of a lake. At a certain one of its changes the process dies, by kill -9.

    Each change counts twice: before and after it.
    """

    def __init__(self, store: fs.FileSystem, dies_at: int | None) -> None:
        self._store, self._dies_at = store, dies_at
        self.changes = 0

    def _change(self, change: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        self._maybe_die()
        result = change(*arguments, **named)
        self._maybe_die()
        return result

    def _maybe_die(self) -> None:
        self.changes += 1
        if self.changes == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def get_type_name(self) -> str:
        return "deadly"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: list[str]) -> Any:
        return self._store.get_file_info(paths)

    def get_file_info_selector(self, selector: fs.FileSelector) -> Any:
        return self._store.get_file_info(selector)

    def create_dir(self, path: str, recursive: bool) -> None:
        self._change(self._store.create_dir, path, recursive=recursive)

    def delete_dir(self, path: str) -> None:
        self._change(self._store.delete_dir, path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:
        raise NotImplementedError

    def delete_root_dir_contents(self) -> None:
        raise NotImplementedError

    def delete_file(self, path: str) -> None:
        self._change(self._store.delete_file, path)

    def move(self, src: str, dest: str) -> None:
        self._change(self._store.move, src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        raise NotImplementedError

    def open_input_stream(self, path: str) -> Any:
        return self._store.open_input_stream(path)

    def open_input_file(self, path: str) -> Any:
        return self._store.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return self._change(self._store.open_output_stream, path)

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        raise NotImplementedError


def on_deadly(table: LakeTable, dies_at: int | None = None) -> tuple[LakeTable, Deadly]:
    """The table on a file system that ends the process at the given one of its changes."""
    handler = Deadly(table.store, dies_at)
    table = replace(table)
    table.__dict__["store"] = fs.PyFileSystem(handler)
    return table, handler


def forked(work: Callable[..., object], *of: object) -> int:
    """Do work in a process of its own, and return how that ended, as `os.waitpid` tells.

    DuckDB starts threads, which a later fork would not take along.
    """
    child = os.fork()
    if not child:
        work(*of)
        os._exit(0)
    return os.waitpid(child, 0)[1]
