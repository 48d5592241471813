"""Merging: finds the current rows of change files, and which rows of the table they replace.

DuckDB does it, a library inside this process. It sorts and joins on disk what its memory does not
hold. Files are read and written through Arrow, so the types stay as they are, and any file system
of Arrow's serves.
"""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from softcart_assets.lake.rows import BATCH_ROWS, as_of, files_of, read_rows
from softcart_assets.lake.schema import OF_WRITES, current_schema
from softcart_assets.lake.table import ChangeFile, LakeError, LakeTable, Partition
from softcart_assets.paths import softcart_home

# A source's column may have almost any name. These are not in its way.
_PLACE, _MONTH, _SIGN, _COUNT = (f"_softcart_{name}" for name in ("place", "month", "sign", "n"))
_UNKNOWN = "unknown"
"""The month of rows without a time."""
_MEMORY = "SOFTCART_LAKE_MEMORY"
_DEFAULT_MEMORY = "512MB"

Batches = Iterator[pa.RecordBatch]


@contextmanager
def engine(table: LakeTable) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own for one refresh of a table. It leaves nothing behind.

    Raises `LakeError` if a table is too big for its memory, or if the setting is no size.
    """
    # Always the same folder, so that the next refresh clears up after one that was killed.
    lake = f"{zlib.crc32(table.lake_uri.encode()):08x}"
    spill = softcart_home() / "spill" / f"{table.full_name}-{lake}"
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir(parents=True)
    memory = os.environ.get(_MEMORY) or _DEFAULT_MEMORY
    settings: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory,
        "temp_directory": str(spill),
        # Each thread needs memory of its own, and several tables are refreshed at once.
        "threads": 2,
        "preserve_insertion_order": False,
        # Nothing is ever downloaded.
        "autoinstall_known_extensions": False,
    }
    try:
        opened = duckdb.connect(config=settings)
    except duckdb.ParserException as error:
        raise LakeError(f"{_MEMORY} must be a size such as 512MB, not {memory!r}.") from error
    try:
        with opened as connection:
            # Otherwise it appears in the output of any process when a statement takes long.
            connection.execute("SET enable_progress_bar = false")
            yield connection
    except duckdb.OutOfMemoryException as error:
        raise LakeError(
            f"{table.full_name}: DuckDB could not refresh the table in {memory} of memory. Nothing "
            f"was changed. Set {_MEMORY} to more, or make room on the disk of {spill}, then "
            "refresh again."
        ) from error
    finally:
        shutil.rmtree(spill, ignore_errors=True)


class Merge:
    """The merge of change files into a table, whose columns are then those of `schema`.

    `table`: with the lake's names of its columns. `current`: the partitions of the table by month,
    empty if it is built from the change files alone.
    """

    def __init__(
        self,
        engine: duckdb.DuckDBPyConnection,
        table: LakeTable,
        schema: pa.Schema,
        current: Mapping[str, Partition],
    ) -> None:
        self._engine, self._table, self._current = engine, table, current
        self._schema, self._rows = schema, current_schema(schema)
        # The current rows are numbered over all months. One byte each says whether a row stays.
        ends = list(accumulate((each.rows for each in current.values()), initial=0))
        self._first = dict(zip(current, ends, strict=False))
        self._stays = np.zeros(ends[-1], bool)

    def months(self, files: Iterable[ChangeFile]) -> Iterator[tuple[str, Batches]]:
        """The months that the changes touch, each with all rows that it has then.

        '' is the month of a table that is not partitioned. Read the rows of a month before you ask
        for the next.
        """
        self._read_changes(files)
        if self._table.key:
            self._find_latest()
            self._find_replaced()
        else:
            self._find_remaining()
        gaining = self._engine.sql(f"SELECT DISTINCT {_MONTH} FROM alive").fetchall()
        touched = {self._month(number) for (number,) in gaining}
        touched |= {month for month in self._current if not self._kept(month).all()}
        if not self._table.partition_column and not self._current:
            touched = {""}  # A table without any row exists, too.
        for month in sorted(touched):
            yield month, self._rows_of(month)

    def _rows_of(self, month: str) -> Batches:
        if month in self._current and self._kept(month).any():
            place, stays = 0, self._kept(month)
            for batch in self._read_current([month], self._rows):
                yield batch.filter(pa.array(stays[place : place + len(batch)]))
                place += len(batch)
        where = "IS NULL" if month in ("", _UNKNOWN) else f"= {month.replace('-', '')}"
        found = self._engine.sql(
            f"SELECT {_names(self._rows.names)} FROM alive WHERE {_MONTH} {where}"
        )
        for batch in found.to_arrow_reader(BATCH_ROWS):
            yield as_of(batch, self._rows)

    def _kept(self, month: str) -> npt.NDArray[np.bool_]:
        """Which rows of a month stay."""
        first = self._first[month]
        return self._stays[first : first + self._current[month].rows]

    def _read_current(self, months: Iterable[str], columns: pa.Schema) -> Batches:
        for month in months:
            yield from read_rows(self._table, files_of(self._table, self._current[month]), columns)

    def _read_changes(self, files: Iterable[ChangeFile]) -> None:
        """Put the row versions into the table `changes`, each with its place and its month.

        A later place is a later version within a load. The names of a load's files end in a number
        that grows, so a longer name is a later file.
        """
        paths = sorted((file.path for file in files), key=_base_name)
        batches = _numbered(read_rows(self._table, paths, self._schema))
        schema = self._schema.append(pa.field(_PLACE, pa.int64()))
        self._fill("changes", schema, batches)

    def _with_month(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with their month as a number. The month's text would take far longer."""
        column = self._table.partition_column
        if column is None:
            return batch.append_column(_MONTH, pa.nulls(len(batch), pa.int64()))
        times = batch.column(column)
        months = pc.add(pc.multiply(pc.year(times), 100), pc.month(times))
        return batch.append_column(_MONTH, months)

    def _month(self, number: int | None) -> str:
        if number is None:
            return _UNKNOWN if self._table.partition_column else ""
        return f"{number // 100:04}-{number % 100:02}"

    @property
    def _place(self) -> Sequence[str]:
        """Values that order row versions: by load, then by place.

        The number of the load decides. No clock does, because clocks are set back. Files of older
        releases have no number: they come first, in the order of their times, as they did then.
        """
        version = "coalesce(_version, 0)" if "_version" in self._schema.names else "0"
        return (version, "_loaded_at", _PLACE)

    def _find_latest(self) -> None:
        """Make `latest`, the last version of every row, and `alive`, those that are not deleted."""
        order = ", ".join(f"{value} DESC" for value in self._place)
        self._engine.execute(
            "CREATE TEMP TABLE latest AS SELECT * FROM changes QUALIFY row_number() OVER"
            f" (PARTITION BY {_names(self._table.key)} ORDER BY {order}) = 1"
        )
        self._engine.execute("DROP TABLE changes")
        self._engine.execute("CREATE TEMP VIEW alive AS SELECT * FROM latest WHERE NOT _deleted")

    def _find_replaced(self) -> None:
        """Find the rows of the table that `latest` replaces or deletes. All others stay.

        If the date of a row was corrected, the row moves to another month. So its key is looked for
        in all months.
        """
        self._stays[:] = True
        key = pa.schema([self._schema.field(name) for name in self._table.key])
        places = _numbered(self._read_current(self._current, key))
        with self._reading("keys", key.append(pa.field(_PLACE, pa.int64())), places):
            found = self._engine.sql(
                f"SELECT {_PLACE} FROM keys SEMI JOIN latest USING ({_names(key.names)})"
            )
            for batch in found.to_arrow_reader(BATCH_ROWS):
                self._stays[batch.column(0).to_numpy()] = False

    def _find_remaining(self) -> None:
        """Make `alive` of a table without a key.

        Without a key, a new row cannot replace an old one. So the last load of the whole table
        counts, and the changes after it. If there is no such load, the changes apply to the current
        rows.
        """
        # A row of a load of the whole table has no operation. Rows of the source's log have one.
        is_load = "_operation IS NULL" if "_operation" in self._schema.names else "true"
        place = f"({', '.join(self._place)})"
        last = f"SELECT arg_max(_load_id, {place}) FROM changes WHERE {is_load}"
        if self._engine.sql(last).fetchall() == [(None,)]:
            self._fill("base", self._rows, self._read_current(self._current, self._rows))
        else:
            self._engine.execute(
                f"DELETE FROM changes WHERE {place} <"
                f" (SELECT min({place}) FROM changes WHERE {is_load} AND _load_id = ({last}))"
            )
            self._engine.execute(
                f"CREATE TEMP VIEW base AS SELECT * FROM changes WHERE {is_load} AND NOT _deleted"
            )
        self._engine.execute(f"CREATE TEMP VIEW log AS SELECT * FROM changes WHERE NOT ({is_load})")
        if self._engine.sql("SELECT 1 FROM log LIMIT 1").fetchall():
            self._apply_log()
        else:
            self._engine.execute("CREATE TEMP VIEW alive AS SELECT * FROM base")

    def _apply_log(self) -> None:
        """Make `alive` from `base` with the insertions and deletions of `log`.

        Equal rows may occur several times. So copies are counted: a deletion takes away one of
        them.
        """
        own = [name for name in self._rows.names if name in OF_WRITES]
        names = _names([*(name for name in self._rows.names if name not in own), _MONTH])
        columns, latest = f"{names}, {_names(own)}", ", ".join(f'max("{n}") AS "{n}"' for n in own)
        # Only rows that equal a changed one are counted. The others pass through. Different rows
        # may have one hash. Then they are counted in vain.
        self._engine.execute(
            f"""CREATE TEMP TABLE alive AS
            WITH touched AS (SELECT DISTINCT hash({names}) AS hash FROM log),
            signed AS (
              SELECT {columns}, 1 AS {_SIGN} FROM base
                WHERE hash({names}) IN (SELECT hash FROM touched)
              UNION ALL SELECT {columns}, CASE WHEN _deleted THEN -1 ELSE 1 END FROM log
            ), counted AS (
              SELECT {names}, {latest}, sum({_SIGN})::BIGINT AS {_COUNT} FROM signed
                GROUP BY {names}
            ), copies AS (
              SELECT {columns}, unnest(range({_COUNT})) FROM counted WHERE {_COUNT} > 0
            )
            SELECT {columns} FROM base WHERE hash({names}) NOT IN (SELECT hash FROM touched)
            UNION ALL SELECT {columns} FROM copies"""
        )

    def _fill(self, name: str, columns: pa.Schema, batches: Batches) -> None:
        """Make a table of rows, with their months."""
        schema = columns.append(pa.field(_MONTH, pa.int64()))
        with self._reading("batches", schema, map(self._with_month, batches)):
            self._engine.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM batches")

    @contextmanager
    def _reading(self, name: str, columns: pa.Schema, batches: Batches) -> Iterator[None]:
        """Give rows a name in SQL. One statement can read them, once."""
        self._engine.register(name, pa.RecordBatchReader.from_batches(columns, batches))
        try:
            yield
        finally:
            self._engine.unregister(name)


def _numbered(batches: Iterable[pa.RecordBatch]) -> Batches:
    """The rows with their numbers, from 0."""
    place = 0
    for batch in batches:
        yield batch.append_column(_PLACE, pa.array(np.arange(place, place + len(batch))))
        place += len(batch)


def _base_name(path: str) -> tuple[int, str]:
    name = path.rpartition("/")[2]
    return len(name), name


def _names(names: Iterable[str]) -> str:
    """Columns in SQL."""
    return ", ".join('"' + name.replace('"', '""') + '"' for name in names)
