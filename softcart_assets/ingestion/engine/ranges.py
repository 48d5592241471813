"""Reads every row of a big table in key ranges, with all readers of a call at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import cast

from softcart_assets.ingestion.engine.parts import KeyRange
from softcart_assets.ingestion.engine.steps import LoadSteps
from softcart_assets.ingestion.quarantine import Recorder
from softcart_assets.ingestion.readers import RangedReader, Reader
from softcart_assets.ingestion.sinks.copying import copy_batches
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.types import Column

_FILES_A_RANGE = 1_000
"""How many numbers each key range has for the names of its lake files."""


def load_in_ranges(
    load: LoadSteps, columns: Sequence[Column], conditions: Sequence[str | None]
) -> str:
    """Bring in every row by way of a part table. Returns the relation that holds all rows.

    Each range goes into the part table in its own transaction. The complete part table then becomes
    raw, or is compared with it. A captured table keeps what a killed load has copied, because the
    log brings all ranges to one position afterwards.
    """
    raw, part, call = load.raw, load.part, load.call
    # Only with a log: without one, ranges read at two positions could never be brought to one.
    load.is_resumable = load.is_new and load.table.strategy == "cdc"
    ranges = part.begin(
        columns, conditions, load.position, load.loaded_at, resume=load.is_resumable
    )
    # Asked once, before the ranges: a reader takes one question at a time, and later all are busy.
    expected = load.reader.expected_rows(load.table)

    def copy(key_range: KeyRange) -> Callable[[Reader], None]:
        return lambda reader: _copy_range(
            load, cast(RangedReader, reader), columns, key_range, expected, to_lake=load.was_empty
        )

    if load.was_empty:
        # Before any range: a range's files may be there when the load is killed.
        load.files.begin(load.loaded_at, load.position)
    call.pool.share(load.reader, [copy(each) for each in ranges])
    copied = part.copied()
    assert copied.position
    part.add_own_columns(copied.position, load.loaded_at)
    # Ranges that a killed load copied are not read again. Their bad rows still are bad.
    load.quarantine.take_over(copied.positions)
    # Ranges that a killed load copied stand for an earlier position, so the table does as well.
    load.position = load.quarantine.position = copied.position
    load.files.parts += copied.files
    # The ranges recorded rejected rows over connections of their own. Now this one sees them.
    raw.hold(columns, load.quarantine.entries(call.request.released))
    part.forget(raw.connection)
    if call.pool.is_busy():
        # PostgreSQL's own workers would take the processors from the copies, and sharing out the
        # sort takes them up to twice the time in all.
        raw.connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
    # No second copy: in a first load the part table is renamed to raw, and its key is built after
    # the rows, which takes a third less time.
    if load.was_empty and raw.adopt(columns, part.name):
        load.counts += Counts(inserted=copied.rows)
        return raw.name
    raw.stage(columns)
    found = raw.find_changes(columns, missing_is_deleted=True, incoming=part.name)
    if load.was_empty:  # a view kept the empty table in its place; the lake has the rows
        load.counts += found
        raw.apply_changes(columns, load.position)
    else:
        load.merge(columns, found)
    return part.name


def _copy_range(
    load: LoadSteps,
    reader: RangedReader,
    columns: Sequence[Column],
    key_range: KeyRange,
    expected: int | None,
    *,
    to_lake: bool,
) -> None:
    """Copy one key range into the part table and the lake, in its own transaction."""
    # Each reader states its own position, though all are the same within one load: a resumed load
    # adds ranges of a later one.
    position = reader.position(load.table)
    rows = 0
    first_file = key_range.number * _FILES_A_RANGE
    files = load.files.part(load.loaded_at, load.position, first_file) if to_lake else None
    with load.call.request.staging.connect(
        application_name=f"softcart load {load.asset}"
    ) as connection:
        quarantine = Recorder(connection, load.source.name, load.table.name, load.load_id, position)
        batches = reader.batches(load.table, columns, key_range.condition)
        with closing(copy_batches(connection, load.part.name, columns, batches)) as copied:
            for batch in copied:
                rows += len(batch.rows)
                if files:
                    files.write(columns, batch.rows)
                quarantine.record(batch.rejected)
                load.account(batch, expected)
        written = files.close() if files else []
        load.part.record(connection, key_range.number, position, rows, written)
    # Ranges run in several threads.
    with load.accounts:
        load.quarantine.new += quarantine.new
