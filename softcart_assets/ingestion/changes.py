"""Changes of rows on their way from a source's log to the sinks: typed, in the log's order, each
with its transaction.

A batch of `Changes` belongs to one table and has one set of columns. It does not know where changes
come from or what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.types import Column, Kind, Rejected, Unfit, parse

DELETE, INSERT, UPDATE = 0, 1, 2
"""What happened to a row. The log's reader and the codec use the same numbers."""
LOADED, UNLOADED = 3, 4
"""Further operations: rows that the load of a whole table states to be there, or not to be there.
The lake names no operation for them.
"""


class Run(NamedTuple):
    """Number of changes of one table in one transaction.

    `position`: the transaction's end, None until it is known to be committed. `before`: number of
    its rows in `Changes.before`. `began`: where a transaction without an end began.
    """

    changes: int
    position: Position | None
    committed_at: int | None
    before: int = 0
    began: Position | None = None

    def is_after(self, position: Position) -> bool:
        """Whether the transaction ends past a position, at which another transaction ends."""
        if self.position is not None:
            return self.position > position
        # The log may be read again for one sink. What another sink has of this transaction, it has
        # whole, so the beginning decides.
        return self.began is None or self.began >= position


@dataclass(frozen=True)
class Changes:
    """Changes of one table in the log's order.

    `rows` have raw's columns. `operations` say what happened to each row. `rejected` are the
    changes that cannot be carried: the number of rows before the change, the operation, and the
    row. `runs` count both rows and rejected changes.

    `before`: the rows that updates changed and deletions removed, with their values of before, in
    the columns that the log has. Rows that could not be carried then are left out. None: the log
    did not tell these changes.
    """

    table: str
    columns: Sequence[Column]
    rows: pa.RecordBatch
    operations: pa.Array
    rejected: Sequence[tuple[int, int, Rejected]]
    runs: Sequence[Run]
    before: pa.RecordBatch | None = None

    def __len__(self) -> int:
        return len(self.rows) + len(self.rejected)

    @cached_property
    def per_row(self) -> tuple[pa.Array, pa.Array]:
        """Return the position (as text) and the commit time of each row."""
        # A transaction's position becomes text once, however many rows it has.
        positions = [None if run.position is None else str(run.position) for run in self.runs]
        times = [run.committed_at for run in self.runs]
        if len(self.runs) == len(self.rows) and not self.rejected:
            return pa.array(positions, pa.string()), pa.array(times, pa.timestamp("us", tz="UTC"))
        numbers, _ = self._run_numbers
        return (
            pa.array(positions, pa.string()).take(numbers),
            pa.array(times, pa.timestamp("us", tz="UTC")).take(numbers),
        )

    def run_of_rejected(self) -> list[Run]:
        """Return the run of each rejected change."""
        return [self.runs[number] for number in self._run_numbers[1]]

    @cached_property
    def _run_numbers(self) -> tuple[pa.Array, list[int]]:
        """Return the number of the run of each row, and of each rejected change."""
        counts = [run.changes for run in self.runs]
        numbers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        if not self.rejected:
            return pa.array(numbers), []
        # The place of each rejected change among all.
        places = [before + index for index, (before, _, _) in enumerate(self.rejected)]
        return pa.array(np.delete(numbers, places)), numbers[places].tolist()

    @property
    def run_of_row(self) -> np.ndarray:
        """The number of the run of each row."""
        numbers: np.ndarray = self._run_numbers[0].to_numpy()
        return numbers

    @property
    def is_open(self) -> bool:
        """Whether the last transaction is not committed yet. All others are."""
        return self.runs[-1].position is None

    def after(self, position: Position) -> Changes:
        """Return the changes of the transactions that end past a position."""
        # Positions ascend.
        if self.runs[0].is_after(position):
            return self
        return self.where(lambda run: run.is_after(position))

    def committed(self) -> Changes:
        """Return the changes whose transaction is committed."""
        return self.where(lambda run: run.position is not None) if self.is_open else self

    def uncommitted(self) -> Changes:
        """Return the changes whose transaction is not committed yet."""
        return self.where(lambda run: run.position is None)

    def without(self, known: Sequence[Column], key: Sequence[str]) -> Changes:
        """Reduce the changes to the known columns. Changes with a value in another column become
        rejected.
        """
        names = [column.name for column in known]
        beyond = [column for column in self.columns if column.name not in names]
        is_out = pa.array(np.zeros(len(self.rows), bool))
        for column in beyond:
            is_out = pc.or_(is_out, pc.is_valid(self.rows.column(column.name)))
        if key:
            # A deletion's other values do not matter. Rejected, it would leave a row in raw that is
            # gone.
            is_out = pc.and_(is_out, pc.not_equal(self.operations, DELETE))
        out = np.flatnonzero(is_out.to_numpy(zero_copy_only=False))
        rejected = []
        if len(out):
            texts = {
                c.name: as_text(c, self.rows.column(c.name).take(pa.array(out))).to_pylist()
                for c in self.columns
            }
            unknown = ", ".join(column.name for column in beyond)
            for index, place in enumerate(out.tolist()):
                row = {name: values[index] for name, values in texts.items()}
                reason = (
                    f"the raw table has no column {unknown}, and the table's contract is "
                    "'quarantine'"
                )
                identity = tuple(row[name] or "" for name in key) if key else None
                operation = self.operations[place].as_py()
                rejected.append(
                    (place, operation, Rejected(identity, None, beyond[0].name, reason, row))
                )
        # Each as the number of rows that stay before it.
        merged = sorted([*self.rejected, *rejected], key=lambda each: each[0])
        gone = np.concatenate([[0], np.cumsum(is_out.to_numpy(zero_copy_only=False))])
        stays = pc.invert(is_out)
        return replace(
            self,
            columns=known,
            rows=self.rows.select(names).filter(stays),
            operations=self.operations.filter(stays),
            rejected=[
                (int(before - gone[before]), operation, row) for before, operation, row in merged
            ],
        )

    def with_deletions(self, key: Sequence[str]) -> Changes:
        """Move the rejected deletions back to the rows, because a deletion needs only the key.

        Their values that cannot be carried become NULL.
        """
        rows, operations, rejected = [], [], []
        at = carried = 0
        for before, operation, row in self.rejected:
            known = _known_of(self.columns, key, row) if key and operation == DELETE else None
            if known is None:
                rejected.append((before + carried, operation, row))
                continue
            rows += [self.rows.slice(at, before - at), known]
            operations += [self.operations.slice(at, before - at), pa.array([DELETE], pa.int8())]
            at, carried = before, carried + 1
        if not carried:
            return self
        rows.append(self.rows.slice(at))
        operations.append(self.operations.slice(at))
        values = [pa.concat_arrays([each.column(c.name) for each in rows]) for c in self.columns]
        return replace(
            self,
            rows=pa.RecordBatch.from_arrays(values, names=[c.name for c in self.columns]),
            operations=pa.concat_arrays(operations),
            rejected=rejected,
        )

    def where(self, is_wanted: Callable[[Run], bool]) -> Changes:
        """Return the changes of the runs for which `is_wanted` is true."""
        wanted = [is_wanted(run) for run in self.runs]
        if all(wanted):
            return self
        numbers, of_rejected = self._run_numbers
        mask = pa.array(wanted, pa.bool_()).take(numbers)
        of_before = np.repeat(wanted, [run.before for run in self.runs])
        return self._only(mask, [wanted[number] for number in of_rejected], of_before)

    def of_current_rows(
        self, column: Column, ends: Sequence[str], known: Sequence[Column], key: Sequence[str]
    ) -> Changes:
        """Leave out the rows of the past in a table with system versioning.

        `column`: until when a row is current. It has one of `ends` as long as the row is. The
        decoder has taken it for a part of the key. So the end of a row is the deletion of the
        current row and the insertion of one of the past. `known`, `key`: the columns and the key of
        what is returned.
        """

        def is_current(rows: pa.RecordBatch) -> pa.Array:
            return pc.is_in(as_text(column, rows.column(column.name)), pa.array(ends))

        of_before = np.zeros(0, bool)
        if self.before is not None:
            of_before = is_current(self.before).to_numpy(zero_copy_only=False)
        changes = self._only(
            is_current(self.rows),
            [row.row[column.name] in ends for _, _, row in self.rejected],
            of_before,
        )
        names = [each.name for each in known]
        rejected = [
            (
                at,
                operation,
                replace(
                    row,
                    key=row.key and row.key[: len(key)],
                    row={name: row.row[name] for name in names if name in row.row},
                ),
            )
            for at, operation, row in changes.rejected
        ]
        before = changes.before
        if before is not None:
            before = before.select([name for name in names if name in before.schema.names])
        return replace(
            changes,
            columns=known,
            rows=changes.rows.select(names),
            rejected=rejected,
            before=before,
        )

    def _only(self, mask: pa.Array, of_rejected: Sequence[bool], of_before: np.ndarray) -> Changes:
        """Return some of the rows, of the rejected changes and of the rows before, and the runs
        that have any.
        """
        kept = np.concatenate([[0], np.cumsum(mask.to_numpy(zero_copy_only=False))])
        numbers, numbers_of_rejected = self._run_numbers
        stay = [n for n, is_in in zip(numbers_of_rejected, of_rejected, strict=True) if is_in]
        counts = np.bincount(
            np.concatenate([numbers.filter(mask).to_numpy(), np.array(stay, np.int32)]),
            minlength=len(self.runs),
        )
        numbers_of_before = np.repeat(np.arange(len(self.runs)), [run.before for run in self.runs])
        counts_of_before = np.bincount(numbers_of_before[of_before], minlength=len(self.runs))
        return replace(
            self,
            rows=self.rows.filter(mask),
            operations=self.operations.filter(mask),
            before=None if self.before is None else self.before.filter(pa.array(of_before)),
            rejected=[
                (int(kept[at]), operation, row)
                for (at, operation, row), is_in in zip(self.rejected, of_rejected, strict=True)
                if is_in
            ],
            runs=[
                run._replace(changes=int(count), before=int(before))
                for run, count, before in zip(self.runs, counts, counts_of_before, strict=True)
                if count or before
            ],
        )


def as_text(column: Column, array: pa.Array) -> pa.Array:
    """Return values as text, in the form of rejected rows."""
    match column.kind:
        case Kind.TEXT | Kind.JSON:
            return array
        case Kind.BYTES:
            return pa.array(
                [None if value is None else "\\x" + value.hex() for value in array.to_pylist()],
                pa.string(),
            )
        case Kind.DATETIME | Kind.INSTANT:
            # Without the zone: as text it would end with a "Z", which no source writes.
            return array.cast(pa.timestamp("us")).cast(pa.string())
        case _:
            return array.cast(pa.string())


def _known_of(
    columns: Sequence[Column], key: Sequence[str], rejected: Rejected
) -> pa.RecordBatch | None:
    """Return the values of a rejected row that can be carried, the others as NULL. None if the key
    cannot be carried.
    """
    arrays = []
    for column in columns:
        text = rejected.row.get(column.name)
        try:
            if column.kind is Kind.BYTES and text is not None:
                value: bytes | None = bytes.fromhex(text.removeprefix("\\x"))
            elif text is not None and text.startswith("\\x") and column.name not in key:
                # The quarantine writes bytes that do not decode as hex. They must not come back as
                # that text.
                value = None  # text that is not text
            else:
                value = None if text is None else text.encode()
            # Through the same parser as every other value, so that nothing gets in that it would
            # refuse.
            arrays.append(parse(column, pa.array([value], pa.binary())))
        except Unfit:
            if column.name in key:
                return None
            arrays.append(pa.nulls(1, column.arrow_type))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])
