"""Compaction: the many small change files of a date become one.

Each load with changes writes files of its own, and a query on the history reads all of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import replace

import pyarrow as pa

from softcart_assets.lake.rows import read_rows, write_file
from softcart_assets.lake.schema import common_schema
from softcart_assets.lake.table import ChangeFile, Exchange, LakeTable

COMPACT_FROM_FILES = 24
"""The number of change files from which a date is compacted."""


def compact(table: LakeTable, files: Iterable[ChangeFile]) -> list[Exchange]:
    """Write the many change files of a date as one.

    A date is due when it has `COMPACT_FROM_FILES` files that the table holds. Every row version is
    kept, in order. Needs one row group of memory.

    The caller exchanges the files in its list, in one transaction, and then calls `discard`. If it
    is killed before, nobody reads the new file.
    """
    state = table.state()
    held = set(state.files if state else ())
    dates: dict[str, list[ChangeFile]] = {}
    for file in files:
        if file.path in held:
            dates.setdefault(file.load_date, []).append(file)
    due = {date: old for date, old in dates.items() if len(old) >= COMPACT_FROM_FILES}
    written: list[Exchange] = []
    for date, old in due.items():
        load_id = f"compacted-{uuid.uuid4().hex}"
        new = ChangeFile(f"{old[0].path.rpartition('/')[0]}/{load_id}-0.parquet", load_id, date)
        # The files of a load in the order in which it wrote them: their names end in a number that
        # grows. The order of rows in the new file decides which version of a row is the last. Loads
        # may come in any order, because each row has the number of its load.
        paths = [
            file.path
            for file in sorted(old, key=lambda file: (file.load_id, len(file.path), file.path))
        ]
        schema = common_schema(table, pa.schema([]), old)
        write_file(table, new.path, schema, read_rows(table, paths, schema))
        written.append(Exchange(new, tuple(old)))
    if state and written:
        # Before the list changes: a file that the table does not know would be merged again.
        files_held = (*state.files, *(each.new.path for each in written))
        table.write_state(replace(state, version=state.version + 1, files=files_held))
    return written


def discard(table: LakeTable, files: Iterable[ChangeFile]) -> None:
    """Delete change files that were struck off the list of committed files after `compact`."""
    gone = {file.path for file in files}
    state = table.state()
    if state:
        kept = tuple(path for path in state.files if path not in gone)
        table.write_state(replace(state, version=state.version + 1, files=kept))
    for path in gone:
        table.store.delete_file(path)
