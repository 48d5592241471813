"""Compaction: the many small change files of a date become one.

Each load with changes writes files of its own, and a query on the history reads all of them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa
from pyarrow import fs

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
    is killed before, `settle` undoes the exchange or ends it.
    """
    state = table.state()
    held = set(state.files if state else ())
    dates: dict[str, list[ChangeFile]] = {}
    for file in files:
        if file.path in held:
            dates.setdefault(file.load_date, []).append(file)
    exchanges = [
        _exchange(date, old) for date, old in dates.items() if len(old) >= COMPACT_FROM_FILES
    ]
    if state and exchanges:
        # Before anything is written or listed: what a kill leaves has its name in the state. And a
        # file that the table does not know would be merged again.
        incoming = tuple(each.new.path for each in exchanges)
        table.write_state(
            replace(
                state,
                version=state.version + 1,
                files=(*state.files, *incoming),
                incoming=incoming,
                outgoing=tuple(file.path for each in exchanges for file in each.old),
            )
        )
    for each in exchanges:
        # The files of a load in the order in which it wrote them: their names end in a number that
        # grows. The order of rows in the new file decides which version of a row is the last. Loads
        # may come in any order, because each row has the number of its load.
        paths = [
            file.path
            for file in sorted(each.old, key=lambda file: (file.load_id, len(file.path), file.path))
        ]
        schema = common_schema(table, pa.schema([]), each.old)
        write_file(table, each.new.path, schema, read_rows(table, paths, schema))
    return exchanges


def _exchange(date: str, old: Sequence[ChangeFile]) -> Exchange:
    """The exchange of a date's files for a file that is not written yet."""
    load_id = f"compacted-{uuid.uuid4().hex}"
    folder = old[0].path.rpartition("/")[0]
    return Exchange(ChangeFile(f"{folder}/{load_id}-0.parquet", load_id, date), tuple(old))


def settle(table: LakeTable, files: Iterable[ChangeFile]) -> None:
    """End or undo the compaction of a refresh that was killed. `files`: those that are listed now.

    Either the old files are listed, or the new ones. The others go.
    """
    state = table.state()
    if state and state.incoming:
        listed = {file.path for file in files}
        _discard(table, {*state.incoming, *state.outgoing} - listed)


def discard(table: LakeTable, files: Iterable[ChangeFile]) -> None:
    """Delete change files that were struck off the list of committed files after `compact`."""
    _discard(table, {file.path for file in files})


def _discard(table: LakeTable, gone: set[str]) -> None:
    # The state comes last. As long as it names the files, the next refresh tries again.
    for info in table.store.get_file_info(sorted(gone)):
        if info.type == fs.FileType.File:
            table.store.delete_file(info.path)
    if state := table.state():
        kept = tuple(path for path in state.files if path not in gone)
        table.write_state(
            replace(state, version=state.version + 1, files=kept, incoming=(), outgoing=())
        )
