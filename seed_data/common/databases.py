"""The interface of a database for seeding, whatever its kind, and what several kinds share.

The database itself says whose data it holds, by a mark on each of our tables. The mark begins with
the name of the source. The parameters of the seed follow when all databases of the line are loaded.

So an unfinished seed is seen and made again. A finished one is left alone. Tables that we did not
make, or made for another source, are never touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from softcart_assets.lines.model import Source, Table

Advance = Callable[[int], object]
"""Called with the number of further rows that went from Parquet to the server."""


def mark_of(source: Source) -> str:
    """The start of the marks in the database of a source."""
    return f"SoftCart seed data for {source.name}:"


class Database(Protocol):
    """The database of one source."""

    mark: str
    """The start of its marks."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep other seeds away from this database, as far as the server can do that."""
        ...

    def marks(self) -> Mapping[str, str]:
        """The mark of each existing table. Raises `SeedError` if any table is not ours."""
        ...

    def recreate(self, tables: Collection[Table]) -> None:
        """Make these tables anew, empty. Call `marks` first: all tables must be ours.

        Other declared tables stay. Tables that are no longer declared are dropped.
        """
        ...

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Load the Parquet files of a table. Returns the number of rows. No value changes."""
        ...

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that these tables of all databases are loaded, with these parameters."""
        ...

    def add_further(self) -> None:
        """Make those tables that no source declares and that are missing, as in a database of an
        older release. All that is there stays as it is.
        """
        ...


def write_batches(
    directory: Path,
    rows: int,
    write: Callable[[pa.RecordBatch], object],
    at_once: int,
    advance: Advance,
) -> int:
    """Write the Parquet files of a table in batches of `rows`, `at_once` of them at a time.

    Returns the number of rows. So many batches more are read ahead, so memory is bounded. An error
    of a batch ends it, after those under way.
    """
    waiting: deque[tuple[int, Future[object]]] = deque()
    count = 0

    def wait_for(most: int) -> None:
        nonlocal count
        while len(waiting) > most:
            size, job = waiting.popleft()
            job.result()
            count += size
            advance(size)

    with ThreadPoolExecutor(at_once, thread_name_prefix=directory.name) as threads:
        try:
            for batch in _batches(directory, rows):
                waiting.append((batch.num_rows, threads.submit(write, batch)))
                wait_for(2 * at_once - 1)
            wait_for(0)
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return count


def _batches(directory: Path, rows: int) -> Iterable[pa.RecordBatch]:
    for file in sorted(directory.glob("*.parquet")):
        yield from pq.ParquetFile(file).iter_batches(rows)


def some(names: Collection[str]) -> str:
    """The first few names, for an error text."""
    shown = sorted(names)[:5]
    return ", ".join(shown) + (", …" if len(names) > len(shown) else "")


def refusal(what: str, names: Collection[str], setting: str) -> str:
    """The text of the error about tables that are not ours."""
    return (
        f"{what} that `softcart seed` did not make for it ({some(names)}). Nothing was changed. "
        f"Name an empty database in {setting}, or go on without seed data."
    )
