"""A table of the lake and its state: the merged change files, and the folder of each month."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from pyarrow import fs

from softcart_assets.stores import create_file, hadoop_uri, open_lake


class LakeError(RuntimeError):
    """A lake table cannot be refreshed. The message names table and column and says what to do."""


@dataclass(frozen=True)
class ChangeFile:
    """A committed change file: its path under the lake's root, its load, its date (YYYY-MM-DD)."""

    path: str
    load_id: str
    load_date: str


@dataclass(frozen=True)
class Exchange:
    """A new change file with exactly the rows of some old ones, to be listed in their place."""

    new: ChangeFile
    old: tuple[ChangeFile, ...]


@dataclass(frozen=True)
class Partition:
    """The folder of a month's rows under the lake's root, and the number of the rows."""

    folder: str
    rows: int


@dataclass(frozen=True)
class State:
    """The contents of a table. Each version is a JSON file.

    `layout`: the key and the partition column that the table was built with.
    `files`: the paths of the merged change files.
    `partitions`: by month, '' if the table is not partitioned.
    `incoming`: those of `files` that a compaction writes now, in the place of the `outgoing` ones.
    """

    version: int
    layout: dict[str, Any]
    schema: dict[str, Any]
    files: tuple[str, ...]
    partitions: dict[str, Partition]
    incoming: tuple[str, ...] = ()
    outgoing: tuple[str, ...] = ()

    @property
    def content(self) -> str:
        """A digest of the columns and of the folders of the rows. Equal contents are equal rows.

        A folder never changes, and no two have the same name. `version` moves also when change
        files are compacted, which changes no row.
        """
        folders = {month: partition.folder for month, partition in self.partitions.items()}
        content = json.dumps([self.schema, folders], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    @property
    def rows(self) -> int:
        """Rows of the current table."""
        return sum(partition.rows for partition in self.partitions.values())


@dataclass(frozen=True)
class LakeTable:
    """A table of the lake.

    `database`: its database in Hive.
    `key`: the columns that identify a row. A table without a key has the rows of its latest whole
    load, with the logged changes since.
    `partition_column`: a timestamp, or None. The current rows are partitioned by its month (UTC).
    """

    lake_uri: str
    database: str
    name: str
    key: tuple[str, ...] = ()
    partition_column: str | None = None

    @property
    def full_name(self) -> str:
        """The table's name in messages, `<database>.<name>`."""
        return f"{self.database}.{self.name}"

    @property
    def folder(self) -> str:
        """The table's folder under the lake's root."""
        return f"warehouse/{self.database}.db/{self.name}"

    @property
    def layout(self) -> dict[str, Any]:
        """What cannot change without building the table anew."""
        layout: dict[str, Any] = {
            "key": list(self.key),
            "partition_column": self.partition_column,
        }
        # Releases until 2b4cd81 had a folder for each refresh, with the months in it.
        return layout | ({"folders": "by month"} if self.partition_column else {})

    @cached_property
    def store(self) -> fs.FileSystem:
        """The lake's root as a file system of Arrow's. See `open_lake` for what it raises."""
        system, root = open_lake(self.lake_uri)
        return fs.SubTreeFileSystem(root, system)

    def hadoop_path(self, path: str) -> str:
        """A path under the lake's root as Spark and Hive want it."""
        return f"{hadoop_uri(self.lake_uri)}/{path}"

    def state(self) -> State | None:
        """The last state, None if there is none. Reads one small file."""
        versions = self._versions()
        if not versions:
            return None
        try:
            with self.store.open_input_stream(versions[-1]) as stream:
                content = json.loads(stream.read())
        except FileNotFoundError:
            # A refresh may have put another one in its place meanwhile.
            if self._versions()[-1:] == versions[-1:]:
                raise
            return self.state()
        partitions = {
            month: Partition(**partition) for month, partition in content["partitions"].items()
        }
        # Releases until 2b4cd81 also noted what they had told a metastore.
        content.pop("published", None)
        paths = {name: tuple(content.get(name, ())) for name in ("files", "incoming", "outgoing")}
        return State(**content | paths | {"partitions": partitions})

    def write_state(self, state: State) -> None:
        """Write a state. It is there as a whole or not at all.

        Raises `LakeError` if somebody else has written this version meanwhile, or a later one.
        """
        folder = f"{self.folder}/_state"
        self.store.create_dir(folder)
        final = f"{folder}/{state.version:010d}.json"
        try:
            create_file(self.lake_uri, self.store, final, json.dumps(asdict(state)).encode())
            if self._versions()[-1] != final:
                self.store.delete_file(final)
                raise FileExistsError
        except FileExistsError:
            raise LakeError(
                f"{self.full_name}: another process has refreshed the table meanwhile. Its rows "
                "count, and nothing of this refresh does. Refresh again."
            ) from None
        for info in self.store.get_file_info(fs.FileSelector(folder)):
            if (info.type == fs.FileType.File and info.path < final) or info.extension == "tmp":
                self.store.delete_file(info.path)

    def _versions(self) -> list[str]:
        """The paths of the states, the last one last. Usually there is one."""
        selector = fs.FileSelector(f"{self.folder}/_state", allow_not_found=True)
        # Names have ten digits, so their order by text is that by number.
        return sorted(i.path for i in self.store.get_file_info(selector) if i.extension == "json")
