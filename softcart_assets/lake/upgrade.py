"""Removes the database `lake`, in which older installations had the tables of all sources.

A table is now in the database of its source. Its first refresh builds it from all its change files.
They hold everything that the old table holds, so the old table is dropped as soon as the new one is
there.
"""

from __future__ import annotations

from dataclasses import replace

from pyarrow import fs

from softcart_assets.lake.hive import drop
from softcart_assets.lake.table import LakeTable

_DATABASE = "lake"


def drop_predecessor(table: LakeTable) -> None:
    """Drop the table from the old database. With its last table, drop the old database too.

    This does nothing before the new table is there. Tables of others in the old database stay.
    """
    old = replace(table, database=_DATABASE)
    if old.store.get_file_info(old.folder).type != fs.FileType.Directory or not table.state():
        return
    state = old.state()
    # Any source may have had a table of this name. The files in its state show which one.
    source = table.database.removeprefix("lake_")
    if state is None or not state.files or not state.files[0].startswith(f"changes/{source}/"):
        return
    drop(old)
    # The folder comes last. As long as it exists, the next refresh tries again.
    old.store.delete_dir(old.folder)
