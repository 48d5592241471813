"""Finds lake files that are not listed in the bookkeeping, and listed files that are missing."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from pyarrow import fs

from softcart_assets.ingestion.sinks.lake import open_lake
from softcart_assets.lines.model import Source, Table


def strays(
    control: psycopg.Connection, lake_uri: str, source: Source, table: Table
) -> Iterator[str]:
    """Yield what the lake has beyond the listed files, and which listed files it lacks."""
    key = (source.name, table.name)

    def paths(query: str) -> set[str]:
        return {path for (path,) in control.execute(query.encode(), key)}

    listing = "SELECT path FROM ingestion.lake_files WHERE source = %s AND table_name = %s"
    # Others may be writing: what is listed before it is looked for must be there, and what is there
    # be listed afterwards.
    listed = paths(listing)
    system, root = open_lake(lake_uri)
    directory = f"{root}/changes/{source.name}/{table.name}"
    found = system.get_file_info(fs.FileSelector(directory, recursive=True, allow_not_found=True))
    present = {
        info.path.removeprefix(f"{root}/") for info in found if info.type == fs.FileType.File
    }
    writing = tuple(
        paths("SELECT load_id FROM ingestion.attempts WHERE source = %s AND table_name = %s")
    )
    ranges = paths(
        "SELECT f ->> 'path' FROM ingestion.snapshot_ranges, jsonb_array_elements(files) f WHERE "
        "source = %s AND table_name = %s"
    )
    orphans = [
        path
        for path in present - ranges - paths(listing)
        if not path.rsplit("/", 1)[1].startswith(writing)
    ]
    if orphans:
        which = f"{len(orphans)} file(s) in the lake do not count"
        yield f"{which} and can be deleted, among them {min(orphans)}"
    if lost := listed - present:
        which = f"{len(lost)} file(s) of the change log"
        yield f"{which} are missing in the lake, among them {min(lost)}"
