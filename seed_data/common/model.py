"""The interface of seed data: `LineSeed`, which a line of business offers, and `Output`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from bson import json_util

from seed_data.common.parameters import Parameters
from seed_data.common.traffic import Traffic
from softcart_assets.lines.model import Source
from spark import private

if TYPE_CHECKING:  # a line may do without Spark
    from pyspark.sql import DataFrame, SparkSession


class SeedError(RuntimeError):
    """The sources cannot be seeded. The message says why and what to do."""


class Output:
    """Takes the tables of a line. Every method may be called from several threads.

    Tables are named `<source>.<table>`. Each is loaded while the line makes the next ones. So write
    a table as soon as possible.
    """

    def __init__(
        self,
        directory: Path,
        wanted: Collection[str],
        session: Callable[[], SparkSession],
        on_written: Callable[[str, Path], object],
    ) -> None:
        self._directory = directory
        self._wanted = frozenset(wanted)
        self._session = session
        self._on_written = on_written

    def wants(self, *tables: str) -> bool:
        """Whether any of these tables is wanted. `softcart seed --table` leaves tables out."""
        return not self._wanted.isdisjoint(tables)

    def spark(self) -> SparkSession:
        """The Spark session. The first call starts it, which takes seconds."""
        return self._session()

    def write(self, table: str, rows: pa.Table) -> None:
        """Write all rows of a table. `documents` makes the rows of a collection."""
        if self.wants(table):
            path = self._directory / table
            path.mkdir(parents=True)
            pq.write_table(rows, path / "part-0.parquet")
            self._on_written(table, path)

    def write_frame(self, table: str, frame: DataFrame) -> None:
        """Write a table that Spark computes."""
        if self.wants(table):
            path = self._directory / table
            _write(frame, f"file://{path}")
            self._on_written(table, path)

    def stored(self, name: str, frame: DataFrame) -> DataFrame:
        """An intermediate table, computed once for several others. Its name has no source."""
        # Spark takes the text literally where a URI has %20.
        path = f"file://{self._directory / name}"
        _write(frame, path)
        return self.spark().read.options(**private.LITERAL_PATHS).parquet(path)


def _write(frame: DataFrame, path: str) -> None:
    # The files are read once. A dictionary per column takes more time than it saves.
    frame.write.option("parquet.enable.dictionary", "false").parquet(path)


def documents(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Documents as a table with one column, `document`, in MongoDB's Extended JSON.

    Parquet has no types for all values of BSON. Extended JSON keeps the type of each value.
    """
    return pa.table({"document": pa.array([json_util.dumps(row) for row in rows], pa.string())})


@dataclass(frozen=True)
class Index:
    """An index of a collection, or a global one of a table of DynamoDB.

    `name`: of one of DynamoDB. `is_unique`: for one of a collection.
    """

    fields: tuple[str, ...]
    name: str = ""
    is_unique: bool = False


@dataclass(frozen=True)
class TableDesign:
    """What a collection or a table of DynamoDB has besides its rows.

    `types`: S, N or B for each attribute of a key or an index in DynamoDB. The default is S.
    `expires_at`: the attribute with the second since 1970 after which an item goes.
    """

    types: Mapping[str, Literal["S", "N", "B"]] = field(default_factory=dict)
    expires_at: str | None = None
    indexes: tuple[Index, ...] = ()


@dataclass(frozen=True)
class LineSeed:
    """The seed data of a line of business: `SEED` of the package `seed_data.<line>`.

    `generate` writes every table that the output wants. Equal parameters must give equal rows.

    `traffic` opens live traffic on the line's sources. It gets the sources by name, and a number
    that makes its choices repeatable. None: the line has no traffic.

    `change` changes a share of the rows at once, the newest or some of each time, and returns their
    number. Measurements need it. None: the line has no changes.

    `designs`: by `<source>.<table>`, for sources without a script.
    """

    generate: Callable[[Parameters, Output], None]
    traffic: Callable[[Mapping[str, Source], int | None], Traffic] | None = None
    change: Callable[[Mapping[str, Source], float, bool], int] | None = None
    designs: Mapping[str, TableDesign] = field(default_factory=dict)
