"""Finds lake files that are not listed in the bookkeeping, and listed files that are missing."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from pyarrow import fs

from softcart_assets.lines.model import Source, Table
from softcart_assets.stores import open_lake


def orphans(
    control: psycopg.Connection, lake_uri: str, source: Source, table: Table
) -> Iterator[str]:
    """Yield what the lake has beyond the listed files, and which listed files it lacks."""
    key = (source.name, table.name)
    # PostgreSQL holds the paths: there may be more than fit into memory.
    control.execute("DROP TABLE IF EXISTS pg_temp.listed, pg_temp.present")
    control.execute("CREATE TEMP TABLE listed (path text); CREATE TEMP TABLE present (path text)")
    # Others may be writing: what is listed before it is looked for must be there, and what is there
    # be listed afterwards.
    control.execute(
        "INSERT INTO pg_temp.listed SELECT path FROM ingestion.lake_files"
        " WHERE source = %s AND table_name = %s",
        key,
    )
    with control.cursor() as cursor, cursor.copy("COPY pg_temp.present FROM STDIN") as copy:
        for path in _present(lake_uri, f"changes/{source.name}/{table.name}"):
            copy.write_row((path,))
    count, first = _counted(
        control,
        "SELECT path FROM pg_temp.present p"
        " WHERE NOT EXISTS (SELECT FROM ingestion.lake_files l WHERE l.path = p.path)"
        # Files of copied key ranges count later, and those that somebody is writing perhaps.
        " AND NOT EXISTS (SELECT FROM ingestion.snapshot_ranges r, jsonb_array_elements(r.files) f"
        " WHERE (r.source, r.table_name) = (%s, %s) AND f ->> 'path' = p.path)"
        " AND NOT EXISTS (SELECT FROM ingestion.attempts a WHERE (a.source, a.table_name) = "
        "(%s, %s) AND starts_with(regexp_replace(p.path, '^.*/', ''), a.load_id))",
        (*key, *key),
    )
    if count:
        yield f"{count} file(s) in the lake do not count and can be deleted, among them {first}"
    lost, first = _counted(
        control, "SELECT path FROM pg_temp.listed EXCEPT SELECT path FROM pg_temp.present", ()
    )
    if lost:
        yield f"{lost} file(s) of the change log are missing in the lake, among them {first}"
    control.execute("DROP TABLE pg_temp.listed, pg_temp.present")


def _present(lake_uri: str, directory: str) -> Iterator[str]:
    """Yield the paths of the files under a directory of the lake, one folder after the other."""
    system, root = open_lake(lake_uri)
    folders = [f"{root}/{directory}"]
    while folders:
        for info in system.get_file_info(fs.FileSelector(folders.pop(), allow_not_found=True)):
            if info.type == fs.FileType.Directory:
                folders.append(info.path)
            elif info.type == fs.FileType.File:
                yield info.path.removeprefix(f"{root}/")


def _counted(
    control: psycopg.Connection, paths: str, values: tuple[str, ...]
) -> tuple[int, str | None]:
    row = control.execute(
        f"SELECT count(*), min(path) FROM ({paths}) paths".encode(), values
    ).fetchone()
    assert row
    return row[0], row[1]
