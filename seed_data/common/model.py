"""What a line of business offers for its seed data, and what it gets to write them with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from bson import json_util

from seed_data.common.parameters import Parameters
from seed_data.common.traffic import Traffic
from softcart_assets.lines.model import Source

if TYPE_CHECKING:  # a line may do without Spark
    from pyspark.sql import DataFrame, SparkSession


class SeedError(RuntimeError):
    """The sources cannot be seeded; the message says why and what to do."""


class Output:
    """Where a line writes its tables. Every method may be called from several threads.

    Tables are named `<source>.<table>`. Each is loaded while the line makes the next ones, so write
    a table as soon as it can be made.
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
        """Whether any of these tables is to be made; `softcart seed --table` leaves tables out."""
        return not self._wanted.isdisjoint(tables)

    def spark(self) -> SparkSession:
        """The Spark session. The first call starts it, which takes seconds."""
        return self._session()

    def write(self, table: str, rows: pa.Table) -> None:
        """Write a table whole. Rows of a collection come from `documents`."""
        if self.wants(table):
            path = self._directory / table
            path.mkdir(parents=True)
            pq.write_table(rows, path / "part-0.parquet")
            self._on_written(table, path)

    def write_frame(self, table: str, frame: DataFrame) -> None:
        """Write a table that Spark computes."""
        if self.wants(table):
            path = self._directory / table
            frame.write.parquet(path.as_uri())
            self._on_written(table, path)

    def stored(self, name: str, frame: DataFrame) -> DataFrame:
        """An intermediate table, computed once for several others. Its name has no source."""
        path = (self._directory / name).as_uri()
        frame.write.parquet(path)
        return self.spark().read.parquet(path)


def documents(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Documents as a table: one column, `document`, in MongoDB's Extended JSON."""
    return pa.table({"document": pa.array([json_util.dumps(row) for row in rows], pa.string())})


@dataclass(frozen=True)
class LineSeed:
    """The seed data of a line of business: `SEED` of the package `seed_data.<line>`.

    `generate` writes every table that the output wants. Equal parameters must give equal rows.
    `traffic` starts live traffic on the line's sources, which it gets by name, with choices that
    the number repeats; None: the line has no traffic.
    """

    generate: Callable[[Parameters, Output], None]
    traffic: Callable[[Mapping[str, Source], int | None], Traffic] | None = None
