"""What a source's readers can do: one protocol per capability.

Every reader has the capabilities of `Reader`. The others are optional, and a reader implements one
only if its system can really do it. The engine asks with `isinstance`. Where a capability is
missing, it takes another way or says what cannot be done.

One thread uses a reader at a time. Batches are streamed: until the last batch has come, nobody may
ask the same reader for anything else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from softcart_assets.ingestion.proof.digest import Checksums, Dialect, Digest, Segments
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Table


class Reader(Protocol):
    """What every reader can do: describe a table and read all of it."""

    def columns(self, table: Table, known: Sequence[Column]) -> Sequence[Column]:
        """Return the table's columns. `known` are the columns of raw. Raises `MissingTable`."""

    def position(self, table: Table) -> str:
        """Return the position at which the table is read."""

    def warnings(self, table: Table) -> list[str]:
        """Return what a person should know about the table that was read."""

    def expected_rows(self, table: Table) -> int | None:
        """Return about how many rows the table has. None: unknown."""

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Return every row, and the columns. Reading may show that the columns are not the expected
        ones.
        """

    def reset(self) -> None:
        """Become fit for another table after one that failed."""


@runtime_checkable
class RangedReader(Reader, Protocol):
    """Can read a part of a table, so that several readers share a big one."""

    def ranges(self, table: Table, columns: Sequence[Column], workers: int) -> list[str | None]:
        """Return conditions that divide the table among `workers` readers. Each row meets exactly
        one.

        `[None]`: the table is not worth dividing, or cannot be divided.
        """

    def batches(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> Iterator[Batch]:
        """The rows that meet a condition of `ranges`."""


@runtime_checkable
class KeyedReader(Reader, Protocol):
    """Can read rows by their keys."""

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[Sequence[Column], Iterator[Batch]]:
        """Return the rows with these keys (each as text), and the columns as reading has shown
        them.
        """


@runtime_checkable
class CursorReader(Reader, Protocol):
    """Can read the rows that changed after a value of the table's cursor, by an index."""

    def rows_past(
        self, table: Table, columns: Sequence[Column], cursor_value: str
    ) -> Iterator[Batch]:
        """Return the rows past a cursor value, given as PostgreSQL text."""


@runtime_checkable
class PairReader(Reader, Protocol):
    """Can read the key and cursor of all rows, which is far less than the rows.

    An incremental load needs it to find what no cursor shows: deletions and late commits.
    """

    def pairs(self, table: Table, segments: Segments, differing: Sequence[int]) -> Iterator[Batch]:
        """Key and cursor of every row in the segments."""


@runtime_checkable
class DigestReader(PairReader, Protocol):
    """Can compute digests of keys and cursors that PostgreSQL can compute as well."""

    def segments(self, table: Table, columns: Sequence[Column], rows: int) -> Segments:
        """Return how to divide a table of about `rows` rows for comparison."""

    def digests(
        self, table: Table, segments: Segments, part: Segments, number: int
    ) -> dict[int, Digest]:
        """The digest of each segment that has rows in segment `number` of the coarser `part`."""


@runtime_checkable
class ChecksumReader(RangedReader, Protocol):
    """Can be asked at any time for checksums of the table as of the reader's position."""

    def checksums(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> tuple[int, Checksums]:
        """Return the number of rows and the checksum of each column, of all rows or of those that
        meet a condition of `ranges` or `any_of`.
        """

    def any_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> Iterator[str]:
        """Conditions that together hold for the rows with these keys."""


@runtime_checkable
class TallyReader(Reader, Protocol):
    """Keeps checksums of the rows that it gave out, since its server cannot compute any."""

    def tally(self, table: Table, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Number and checksums of the rows that the last `all_rows` gave.

        Rejected rows do not count.
        """


@runtime_checkable
class SqlReader(RangedReader, KeyedReader, Protocol):
    """Is queried in SQL, so its server can compute digests of whole rows as PostgreSQL does."""

    dialect: Dialect

    def query(self, table: Table, sql: str) -> list[tuple[str | None, ...]]:
        """The result of a query about the table, as text."""

    def any_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> Iterator[str]:
        """Conditions that together hold for the rows with these keys."""

    def shown(self, column: Column) -> str:
        """Return SQL for a key column's value as text, in the form that `any_of` and `rows_of`
        take.
        """
