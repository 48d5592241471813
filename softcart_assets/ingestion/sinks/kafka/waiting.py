"""Changes that wait for the end of their transaction, in a temporary file.

A transaction can be larger than the memory, and may still be rolled back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import IO

import pyarrow as pa

from softcart_assets.ingestion.changes import Changes, Run
from softcart_assets.ingestion.position import Place
from softcart_assets.ingestion.sinks.kafka.form import with_before
from softcart_assets.ingestion.types import Column, Rejected

_ROWS = 5_000
_OPERATION = "operation "
"""Not the name of a column: MySQL's do not end with a blank."""


@dataclass(frozen=True)
class Piece:
    """Some changes of one table, in the log's order.

    `rows`: see `with_before`. `rejected`: those that cannot be carried, with their operations.
    """

    table: str
    columns: Sequence[Column]
    rows: pa.RecordBatch
    operations: pa.Array
    runs: Sequence[Run]
    rejected: Sequence[tuple[int, Rejected]] = ()


def piece_of(changes: Changes) -> Piece:
    """Return changes as a piece."""
    return Piece(
        changes.table,
        changes.columns,
        with_before(changes),
        changes.operations,
        _of_rows(changes),
        [(operation, row) for _, operation, row in changes.rejected],
    )


def _of_rows(changes: Changes) -> list[Run]:
    """Return the runs, with the numbers of their rows alone."""
    if not changes.rejected:
        return list(changes.runs)
    counts = [0] * len(changes.runs)
    for number in changes.run_of_row.tolist():
        counts[number] += 1
    return [run._replace(changes=count) for run, count in zip(changes.runs, counts, strict=True)]


@dataclass
class Waiting:
    """A piece of one transaction, or of several that have ended (`is_open` is false)."""

    piece: Piece
    is_open: bool
    _file: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        piece = self.piece
        rows = pa.Table.from_batches([piece.rows]).append_column(_OPERATION, piece.operations)
        with pa.ipc.new_stream(self._file, rows.schema) as stream:
            stream.write_table(rows, max_chunksize=_ROWS)
        # A slice would keep all of them in memory.
        none = pa.RecordBatch.from_pylist([], schema=piece.rows.schema)
        self.piece = replace(piece, rows=none, operations=pa.array([], pa.int8()))

    def read(self, place: Place, committed_at: int | None) -> Iterator[Piece]:
        """Yield the changes in parts. An open transaction has ended at `place` meanwhile."""
        self._file.seek(0)
        runs = [
            run
            if run.position
            else run._replace(position=place.position, committed_at=committed_at)
            for run in self.piece.runs
        ]
        rejected = self.piece.rejected
        with self._file, pa.ipc.open_stream(self._file) as stream:
            for batch in stream:
                operations = batch.column(_OPERATION)
                rows = batch.drop_columns([_OPERATION])
                taken, runs = _cut(runs, len(batch))
                yield replace(
                    self.piece, rows=rows, operations=operations, runs=taken, rejected=rejected
                )
                rejected = ()
        if rejected:
            yield replace(self.piece, runs=[], rejected=rejected)

    def forget(self) -> None:
        """Remove the file."""
        self._file.close()


def _cut(runs: Sequence[Run], rows: int) -> tuple[list[Run], list[Run]]:
    """Cut runs in two, so that the first ones have that many rows."""
    taken, rest = [], list(runs)
    while rows and rest:
        run = rest[0]
        count = min(run.changes, rows)
        taken.append(run._replace(changes=count))
        rows -= count
        if count == run.changes:
            rest.pop(0)
        else:
            rest[0] = run._replace(changes=run.changes - count)
    return taken, rest
