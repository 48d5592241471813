"""Documents on their way: read ahead, and kept in a file until their columns are known."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from softcart_assets.ingestion.codec.doctypes import Types
from softcart_assets.ingestion.connectors.mongodb.rows import decoded, decoder_for
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Table

_BATCH_BYTES = 4 << 20


class Misjudged(Exception):
    """The documents need other columns than the first of them suggested."""


class Spool:
    """Documents in a temporary file, and the types of their fields."""

    def __init__(self) -> None:
        self.types = Types()
        self.first = b""
        # `rows` closes it, after the last batch.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._sizes: list[int] = []

    @classmethod
    def of(cls, documents: Iterable[bytes]) -> Spool:
        """Return a spool of all these documents."""
        spool = cls()
        for raw in documents:
            spool.add(raw)
        return spool

    def add(self, raw: bytes) -> None:
        """Add documents that stand end to end."""
        self.types.add(raw)
        self._file.write(raw)
        # Small portions are joined, as each batch has a fixed cost. Large ones would take memory.
        if self._sizes and self._sizes[-1] + len(raw) <= _BATCH_BYTES:
            self._sizes[-1] += len(raw)
        else:
            self._sizes.append(len(raw))
        self.first = self.first or raw

    def rows(self, table: Table, columns: Sequence[Column]) -> Iterator[Batch]:
        """Yield the documents as batches. The spool is gone afterwards."""
        with self._file:
            self._file.seek(0)
            decoder = decoder_for(columns)
            for size in self._sizes:
                yield decoded(table, columns, decoder, self._file.read(size))

    def close(self) -> None:
        """Drop the content."""
        self._file.close()


def ahead(documents: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same documents, and fetch the next ones while these are worked on."""
    with ThreadPoolExecutor(1, "softcart documents") as executor:
        fetched = executor.submit(next, documents, None)
        while (raw := fetched.result()) is not None:
            fetched = executor.submit(next, documents, None)
            yield raw
