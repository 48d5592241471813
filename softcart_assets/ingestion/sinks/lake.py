"""Change files: every row version of a load as Parquet, in the file system of the lake's URI.

A file counts once it is listed in `ingestion.lake_files`. The load's commit lists it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from softcart_assets.ingestion.errors import TargetFailed
from softcart_assets.ingestion.sinks.raw_schema import NEXT_VERSION
from softcart_assets.ingestion.types import Column, lake_array
from softcart_assets.lines.model import Source
from softcart_assets.stores import LAKE, open_lake, reason_without_keys, without_keys

_ROWS_A_FILE = 2_000_000
_ROWS_A_GROUP = 100_000
_BYTES_A_GROUP = 16 << 20


@dataclass(frozen=True)
class LakeFile:
    """A written file: its path under the lake's root, its rows and bytes."""

    path: str
    rows: int
    bytes: int

    @property
    def load_date(self) -> str:
        """The date of the file's folder, YYYY-MM-DD.

        The list must have the same one. Around midnight, a clock that is read again may differ.
        """
        return self.path.rpartition("/")[0].rpartition("load_date=")[2]


def change_directory(source: str, table: str, loaded_at: datetime) -> str:
    """Return the directory of a load's change files, relative to the lake's root."""
    return f"changes/{source}/{table}/load_date={loaded_at:%Y-%m-%d}"


def next_version(connection: psycopg.Connection) -> int:
    """Draw the number of a load's change files. Later loads of the table get larger ones.

    It alone tells which load is the later one. A clock may have been set back in between.
    """
    row = connection.execute(f"SELECT {NEXT_VERSION}").fetchone()
    assert row
    return int(row[0])


def remove_files(uri: str, directory: str, load_id: str, keep: Collection[str] = ()) -> None:
    """Remove the files that an uncommitted load has written, except the paths in `keep`."""
    system, root = open_lake(uri)
    selector = fs.FileSelector(f"{root}/{directory}", allow_not_found=True)
    for info in system.get_file_info(selector):
        # By the load's own names only: other loads of the same day write into the same folder.
        if info.base_name.startswith(f"{load_id}-") and f"{directory}/{info.base_name}" not in keep:
            system.delete_file(info.path)


def list_file(
    connection: psycopg.Connection, source: Source, table: str, load_id: str, file: LakeFile
) -> None:
    """List a file, so that it counts, in the transaction of `connection`."""
    connection.execute(
        "INSERT INTO ingestion.lake_files (path, source, table_name, load_id, load_date, "
        "row_count, byte_count, loaded_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, now())",
        (file.path, source.name, table, load_id, file.load_date, file.rows, file.bytes),
    )


def _is_number(kind: pa.DataType) -> bool:
    checks = (pa.types.is_integer, pa.types.is_decimal, pa.types.is_temporal)
    return any(check(kind) for check in checks)


class ChangeFiles:
    """Writes one load's change files of one table.

    Rows are written as they come. Memory holds one row group.
    """

    def __init__(
        self,
        uri: str,
        source: str,
        table: str,
        load_id: str,
        loaded_at: datetime,
        position: str,
        version: int,
        first_file: int = 0,
    ) -> None:
        """`version`: see `next_version`.

        Several writers of one load number their files from different `first_file` on.
        """
        self.uri = uri
        self._first_file = first_file
        self.directory = change_directory(source, table, loaded_at)
        self.load_id = load_id
        self._constants = {
            "_loaded_at": pa.scalar(loaded_at, pa.timestamp("us", tz="UTC")),
            "_position": pa.scalar(position, pa.string()),
            "_load_id": pa.scalar(load_id, pa.string()),
            "_version": pa.scalar(version, pa.int64()),
        }
        self._system, self._root = open_lake(uri)
        self._schema: pa.Schema | None = None
        self._writer: pq.ParquetWriter | None = None
        self._pending: list[pa.RecordBatch] = []
        self._rows = 0
        self.files: list[LakeFile] = []

    def write(
        self,
        columns: Sequence[Column],
        rows: pa.RecordBatch,
        *,
        deleted: pa.Array | None = None,
        own: Mapping[str, pa.Array] | None = None,
    ) -> None:
        """Add row versions. `deleted` says which of them are deletions (None: none).

        `own`: further columns of the engine, or values of its usual columns that differ by row.
        """
        arrays = [lake_array(c, rows.column(c.name)) for c in columns]
        constants = {
            name: pa.repeat(constant, len(rows)) for name, constant in self._constants.items()
        }
        added = (
            {"_deleted": pa.repeat(False, len(rows)) if deleted is None else deleted}
            | constants
            | dict(own or {})
        )
        schema = pa.schema(
            [
                *(pa.field(c.name, c.lake_type) for c in columns),
                *(pa.field(name, array.type) for name, array in added.items()),
            ]
        )
        arrays += added.values()
        # A Parquet file has one schema.
        if self._schema and not schema.equals(self._schema):
            self._finish_file()
        self._schema = schema
        self._pending.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        rows_pending = sum(map(len, self._pending))
        # By bytes as well: a few rows with large documents would fill the memory.
        if rows_pending >= _ROWS_A_GROUP or sum(b.nbytes for b in self._pending) >= _BYTES_A_GROUP:
            self._flush()
            if self._rows >= _ROWS_A_FILE:
                self._finish_file()

    def close(self) -> list[LakeFile]:
        """Finish, and return the written files."""
        self._finish_file()
        return self.files

    def _flush(self) -> None:
        if not self._pending:
            return
        assert self._schema is not None
        try:
            if not self._writer:
                self._system.create_dir(f"{self._root}/{self.directory}", recursive=True)
                # Texts and the load's constants repeat; for numbers a dictionary costs time and
                # space.
                repeating = [field.name for field in self._schema if not _is_number(field.type)]
                self._writer = pq.ParquetWriter(
                    f"{self._root}/{self._path}",
                    self._schema,
                    filesystem=self._system,
                    compression="zstd",
                    use_dictionary=[*repeating, "_loaded_at", "_version"],
                )
            table = pa.Table.from_batches(self._pending)
            # Of an empty table, too, so that a reader finds a file with its columns. Arrow refuses
            # a size of 0.
            self._writer.write_table(table, row_group_size=len(table) or 1)
        except OSError as error:
            self._writer = None
            raise self._failed(error) from None
        self._rows += len(table)
        self._pending.clear()

    def _finish_file(self) -> None:
        self._flush()
        if self._writer:
            try:
                self._writer.close()
                size = self._system.get_file_info(f"{self._root}/{self._path}").size
            except OSError as error:
                raise self._failed(error) from None
            finally:
                self._writer = None
            self.files.append(LakeFile(self._path, self._rows, size))
            self._rows = 0

    @property
    def _path(self) -> str:
        return f"{self.directory}/{self.load_id}-{self._first_file + len(self.files)}.parquet"

    def _failed(self, error: OSError) -> TargetFailed:
        return TargetFailed(
            f"The lake at {without_keys(self.uri)} cannot be written: "
            f"{reason_without_keys(self.uri, error)}. Nothing was committed. Make room or check "
            f"{LAKE}, then run the load again."
        )

    def discard(self, keep: Collection[str] = ()) -> None:
        """Remove everything that the load has written, except the paths in `keep`."""
        self._pending.clear()
        if self._writer:
            with suppress(
                OSError
            ):  # an object store makes the file on closing: close first, then remove
                self._writer.close()
            self._writer = None
        remove_files(self.uri, self.directory, self.load_id, keep)
