"""Refreshes a table: merges new change files, writes the months that they touch, and switches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
from pyarrow import fs

from softcart_assets.lake.merge import Merge, engine
from softcart_assets.lake.rows import new_folder, write_rows
from softcart_assets.lake.schema import (
    common_schema,
    current_schema,
    from_json,
    source_names,
    to_json,
)
from softcart_assets.lake.table import ChangeFile, LakeError, LakeTable, Partition, State
from softcart_assets.stores import local_folder, reason_without_keys, without_keys


@dataclass(frozen=True)
class RefreshResult:
    """What a refresh did.

    `rows`: rows of the current table.
    `months`: the months that were written or dropped, '' for a table that is not partitioned.
    `applied_loads`: loads merged now. Empty if there was nothing to do.
    """

    rows: int
    months: tuple[str, ...] = ()
    applied_loads: tuple[str, ...] = ()


def pending_files(table: LakeTable, files: Iterable[ChangeFile]) -> list[ChangeFile]:
    """The committed files that a refresh would read, empty if nothing is new."""
    files = list(files)
    state = table.state()
    if state is None or _must_rebuild(table, state, files):
        return files
    held = set(state.files)
    return [file for file in files if file.path not in held]


def refresh_table(table: LakeTable, files: Sequence[ChangeFile]) -> RefreshResult:
    """Merge the committed change files that the table does not have yet.

    `files`: all committed change files of the table, old and new. If a file in the table was struck
    off the list, or if the key or the partition column changed, the table is built again from all
    of them.

    New files overwrite rows of older ones. So a load must be listed before the next one begins.
    Raises `LakeError` if no type holds all values of a column without loss, or if memory and disk
    do not suffice.
    """
    with _told(table):
        last = state = table.state()
        if state is not None and _must_rebuild(table, state, files):
            state = None
        return _refresh(table, last, state, files, pending_files(table, files))


def rebuild_table(table: LakeTable, files: Sequence[ChangeFile]) -> RefreshResult:
    """Replay the whole history into new current rows. The old rows stay until these are complete.

    Without any file, nothing was ever loaded. Then the columns are unknown, and no table is made.
    """
    with _told(table):
        return _refresh(table, table.state(), None, files, files)


@contextmanager
def _told(table: LakeTable) -> Iterator[None]:
    """Say what an error of a store on other machines means for the table."""
    try:
        yield
    except OSError as error:
        if local_folder(table.lake_uri):
            raise
        raise LakeError(
            f"{table.full_name}: the lake at {without_keys(table.lake_uri)} does not work: "
            f"{reason_without_keys(table.lake_uri, error)}. Readers find the old rows or the new "
            "ones. Check that all of its servers run, then refresh again."
        ) from error


def _refresh(
    table: LakeTable,
    last: State | None,
    state: State | None,
    files: Sequence[ChangeFile],
    pending: Sequence[ChangeFile],
) -> RefreshResult:
    """Merge the pending ones of `files` into the rows of `state`. None: into no rows."""
    if not pending:
        return RefreshResult(state.rows if state else 0)
    schema = common_schema(table, from_json(state.schema) if state else pa.schema([]), pending)
    partitions = dict(state.partitions) if state else {}
    with engine(table) as duckdb:
        merge = Merge(duckdb, _as_in_lake(table, schema), schema, partitions)
        written = _write(table, merge, schema, pending)
    # A month that has lost all its rows goes.
    for month, partition in written.items():
        if partition.rows or not table.partition_column:
            partitions[month] = partition
        else:
            partitions.pop(month, None)
    new = commit(table, last, to_json(schema), partitions, [file.path for file in files])
    loads = tuple(dict.fromkeys(file.load_id for file in pending))
    return RefreshResult(new.rows, tuple(written), loads)


def _must_rebuild(table: LakeTable, state: State, files: Iterable[ChangeFile]) -> bool:
    # The merged rows do not show what a file that was struck off has overwritten.
    return state.layout != table.layout or not {file.path for file in files}.issuperset(state.files)


def _as_in_lake(table: LakeTable, schema: pa.Schema) -> LakeTable:
    """The table with the lake's names of its key and partition column, see `names`."""
    names = source_names(schema)
    column = table.partition_column
    return replace(
        table,
        key=tuple(names.get(name, name) for name in table.key),
        partition_column=column and names.get(column, column),
    )


def _write(
    table: LakeTable, merge: Merge, schema: pa.Schema, pending: Sequence[ChangeFile]
) -> dict[str, Partition]:
    """Write the months that the files touch to new folders."""
    columns = current_schema(schema)
    return {
        month: write_rows(table, new_folder(table, month), columns, rows)
        for month, rows in merge.months(pending)
    }


def commit(
    table: LakeTable,
    last: State | None,
    schema: dict[str, Any],
    partitions: Mapping[str, Partition],
    files: Iterable[str],
    layout: dict[str, Any] | None = None,
) -> State:
    """Make these partitions those of the table, and delete old folders.

    `last`: the state that is replaced. Raises `LakeError` if somebody else has replaced it.
    `schema`: as `State` has it. `files`: the paths of the change files that they were made from.
    `layout`: by default that of the table.

    The new state file is the commit. A kill before it leaves the old table, with folders that
    nobody reads, and the next refresh deletes them. The folders of the last state stay, for queries
    that still read them.
    """
    state = State(
        version=last.version + 1 if last else 1,
        layout=layout or table.layout,
        schema=schema,
        files=tuple(files),
        partitions=dict(partitions),
    )
    table.write_state(state)
    _delete_unnamed(table, {p.folder for s in (last, state) if s for p in s.partitions.values()})
    return state


def _delete_unnamed(table: LakeTable, named: Iterable[str]) -> None:
    """Delete all folders but the named ones: those of replaced months and killed refreshes."""
    kept = {table.folder, f"{table.folder}/_state"}
    for folder in named:
        kept |= {folder, *map(str, PurePosixPath(folder).parents)}
    for info in table.store.get_file_info(fs.FileSelector(table.folder, recursive=True)):
        # What is inside a deleted folder is gone with it.
        is_topmost = str(PurePosixPath(info.path).parent) in kept
        if info.type == fs.FileType.Directory and info.path not in kept and is_topmost:
            table.store.delete_dir(info.path)
