"""Writes made-up files into a folder.

A table of files has one row per file: `name`, its path below the folder, and `content`, its text.
Files whose names end with `.gz` are compressed. The marks are a file of their own.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import fs

from seed_data.common.databases import Advance, mark_of, refusal
from seed_data.common.model import SeedError
from softcart_assets.ingestion.connectors.files.names import format_of, sequence_of
from softcart_assets.lines.model import Source, Table
from softcart_assets.stores import FolderConnection

MARKS = "_softcart_seed.json"
"""The file of the marks: the mark of each table whose files we made."""

BATCH_FILES = 16
"""So many files are in memory at once."""


class Folder:
    """A folder in any file system that Arrow knows, to deliver files to."""

    def __init__(self, connection: FolderConnection) -> None:
        self._system, root = connection.open()
        self._root = root.rstrip("/")

    def deliver(self, table: Table, name: str, text: str) -> None:
        """Write a file of a table. Whoever reads the folder sees it whole or not at all."""
        data = text.encode()
        # Without a time in it, so that the same text gives the same file.
        self._write(name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
        if done := format_of(table).done:
            folder, slash, plain = name.rpartition("/")
            self._write(folder + slash + done.format(name=plain), b"")

    def _write(self, name: str, data: bytes) -> None:
        path = f"{self._root}/{name}"
        self._system.create_dir(path.rpartition("/")[0], recursive=True)
        with self._system.open_output_stream(f"{path}.part", compression=None) as stream:
            stream.write(data)
        self._system.move(f"{path}.part", path)

    def sizes(self) -> dict[str, int]:
        """The size of each file, by its path below the folder."""
        infos = self._system.get_file_info(fs.FileSelector(self._root, recursive=True))
        return {
            info.path[len(self._root) :].lstrip("/"): info.size
            for info in infos
            if info.type == fs.FileType.File
        }

    def read_marks(self) -> dict[str, str]:
        """The marks of all sources in this folder."""
        try:
            with self._system.open_input_stream(f"{self._root}/{MARKS}") as stream:
                return dict(json.loads(stream.read()))
        except FileNotFoundError:
            return {}

    def write_marks(self, marks: Mapping[str, str]) -> None:
        """Replace the marks."""
        self._write(MARKS, json.dumps(marks).encode())


class FolderDatabase:
    """The folder of one source."""

    def __init__(self, source: Source) -> None:
        self.mark = mark_of(source)
        self._connection = FolderConnection.from_env(source.env_prefix)
        self._setting = f"{source.env_prefix}_URI"

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Does nothing. A folder has no lock that ends with its holder.

        The lock on the file of the line keeps out other seeds of this installation.
        """
        yield

    def marks(self) -> Mapping[str, str]:
        """The mark of each of our tables. Raises `SeedError` if others have files there."""
        folder = Folder(self._connection)
        marks = {
            name: mark for name, mark in folder.read_marks().items() if mark.startswith(self.mark)
        }
        if not marks and (theirs := folder.sizes()):
            raise SeedError(refusal("The folder holds files", theirs, self._setting))
        return marks

    def recreate(self, tables: Collection[Table]) -> None:
        """Empty the files of these tables.

        They are not deleted: whoever loads the folder keeps the rows of a file that is gone.
        """
        folder = Folder(self._connection)
        folder.write_marks({**self.marks(), **{table.at_source: self.mark for table in tables}})
        for table in tables:
            form = format_of(table)
            names = [column.name for column in table.columns] if form.header else []
            empty = f"{form.separator.join(names)}\n"
            for name in folder.sizes():
                if sequence_of(table, name):
                    folder.deliver(table, name, empty)

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Write the files. Returns their number."""
        folder = Folder(self._connection)
        count = 0
        for file in sorted(directory.glob("*.parquet")):
            for batch in pq.ParquetFile(file).iter_batches(BATCH_FILES):
                for row in batch.to_pylist():
                    folder.deliver(table, row["name"], row["content"])
                count += batch.num_rows
                advance(batch.num_rows)
        return count

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that these tables are loaded."""
        loaded = {table.at_source: f"{self.mark} {parameters}" for table in tables}
        Folder(self._connection).write_marks({**self.marks(), **loaded})

    def add_further(self) -> None:
        """See `Database`. All that is here is declared."""
