"""The change log of a lake table as a source for Spark's Structured Streaming.

A batch has whole loads: change files that are listed in `ingestion.lake_files`. Spark's own reader
of folders would also take files of loads that were killed.

What a batch has must stay the same if Spark repeats it. So the files of a batch are noted, as an
offer with a number, before Spark hears of it. The numbers are Spark's offsets. Meanwhile a file may
have become part of a larger one, see `softcart_assets.lake.compaction`. Then the batch has the
larger file, too. So rows may come again, and who reads them must know the version that it has.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.types import StructType

from softcart_assets.connections import staging
from softcart_assets.lake import LakeError, LakeTable, committed_files, from_json, source_names
from softcart_assets.lake.rows import BATCH_ROWS
from softcart_assets.stores import create_file

FORMAT = "softcart_change_log"
PLACE = "_file INT, _row LONG"
"""Columns beside those of the files: the place of a row in its load. A later one is a later version
of the row.
"""


class ChangeLog(DataSource):
    """Options: `lake_uri`, `source`, `table`, `folder`, where offers are noted in the lake, and
    `database`, that of the warehouse. Spark shows options, so the other settings of the warehouse
    come from the environment.

    The schema says which columns are read, by their names at the source, and their types.
    """

    @classmethod
    def name(cls) -> str:
        """The format's name."""
        return FORMAT

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:
        """Return the reader of a query."""
        return _Reader(self.options, schema)


@dataclass
class _File(InputPartition):
    path: str


class _Reader(DataSourceStreamReader):
    def __init__(self, options: Mapping[str, str], schema: StructType) -> None:
        self._source, self._table = options["source"], options["table"]
        self._folder, self._uri = options["folder"], options["lake_uri"]
        self._database, self._schema = options["database"], schema.jsonValue()

    @property
    def _store(self) -> fs.FileSystem:
        # Not kept: the reader is sent to the workers.
        return LakeTable(self._uri, "", "").store

    def initialOffset(self) -> dict[str, Any]:
        """Before the first offer."""
        return {"offer": 0}

    def latestOffset(self, start: dict[str, Any], limit: object) -> dict[str, Any]:
        """Note what was listed since the last offer, and return the number of the last one."""
        numbers = self._numbers()
        last = max(numbers, default=0)
        seen = set(self._offer(last)["seen"]) if last else set[str]()
        listed = self._listed()
        if new := [path for path in listed if path not in seen]:
            last += 1
            self._note(last, {"files": new, "seen": listed})
        return {"offer": last}

    def partitions(self, start: dict[str, Any], end: dict[str, Any]) -> Sequence[InputPartition]:
        """One part of the batch per file."""
        numbers = range(start["offer"] + 1, end["offer"] + 1)
        paths = [path for number in numbers for path in self._offer(number)["files"]]
        found = self._store.get_file_info(paths) if paths else []
        gone = {_date(info.path) for info in found if info.type != fs.FileType.File}
        if gone:
            instead = [path for path in self._listed() if _date(path) in gone]
            kept = [info.path for info in found if info.type == fs.FileType.File]
            paths = list(dict.fromkeys([*kept, *instead]))
        return [_File(path) for path in paths]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of a file, with the columns and types of the schema."""
        assert isinstance(partition, _File)
        wanted = from_json(self._schema)
        number = int(partition.path.rpartition("-")[2].removesuffix(".parquet"))
        place = 0
        with self._store.open_input_file(partition.path) as opened:
            file = pq.ParquetFile(opened)
            names = source_names(file.schema_arrow)
            present = [names[name] for name in wanted.names if name in names]
            for batch in file.iter_batches(BATCH_ROWS, columns=present):
                own = {
                    "_file": pa.repeat(pa.scalar(number, pa.int32()), len(batch)),
                    "_row": pa.array(range(place, place + len(batch)), pa.int64()),
                }
                place += len(batch)
                arrays = [
                    own[field.name] if field.name in own else self._array(batch, names, field)
                    for field in wanted
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=wanted)

    def _array(self, batch: pa.RecordBatch, names: Mapping[str, str], field: pa.Field) -> pa.Array:
        name = names.get(field.name)
        if name is None:
            return pa.nulls(len(batch), field.type)
        try:
            return batch.column(name).cast(field.type)
        except pa.ArrowInvalid as error:
            raise LakeError(
                f"{self._source}.{self._table}: column {field.name!r} has values that "
                f"{field.type} does not hold: {error}. Its type has changed. Start the stream "
                "again, which then uses the new type."
            ) from error

    def commit(self, end: dict[str, Any]) -> None:
        """Delete the offers before the last one of a finished batch."""
        for number in self._numbers():
            # The last one also tells which files were seen.
            if number < end["offer"]:
                self._store.delete_file(self._path(number))

    def _listed(self) -> list[str]:
        with replace(staging(), database=self._database).connect() as session:
            files = committed_files(session, self._source)
        return [file.path for file in files.get(self._table, [])]

    def _numbers(self) -> list[int]:
        found = self._store.get_file_info(fs.FileSelector(self._folder, allow_not_found=True))
        return [int(info.base_name[:-5]) for info in found if info.extension == "json"]

    def _path(self, number: int) -> str:
        return f"{self._folder}/{number:010d}.json"

    def _offer(self, number: int) -> dict[str, list[str]]:
        with self._store.open_input_stream(self._path(number)) as stream:
            offer: dict[str, list[str]] = json.loads(stream.read())
        return offer

    def _note(self, number: int, offer: dict[str, list[str]]) -> None:
        self._store.create_dir(self._folder)
        create_file(self._uri, self._store, self._path(number), json.dumps(offer).encode())


def _date(path: str) -> str:
    """The folder of a change file. Only files of the same folder are compacted into one."""
    return path.rpartition("/")[0]
