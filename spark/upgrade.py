"""Removes Hive's database `lake`, in which older installations had the tables of all sources.

A table is now in the database of its source. Its first refresh builds it from all its change files.
They hold everything that the old table holds, so the old table is dropped as soon as the new one is
there.
"""

from __future__ import annotations

from dataclasses import replace

from pyarrow import fs
from pyspark.sql import SparkSession

from softcart_assets.lake import LakeTable

_DATABASE = "lake"


def has_old_database(lake_uri: str) -> bool:
    """Whether a lake has the folder of the old database. Needs no Spark."""
    old = LakeTable(lake_uri, _DATABASE, "")
    folder = old.folder.removesuffix("/")
    return bool(old.store.get_file_info(folder).type == fs.FileType.Directory)


def has_predecessor(table: LakeTable) -> bool:
    """Whether the old database has this table. Needs no Spark, and one look for a folder."""
    return _predecessor(table) is not None


def drop_predecessor(spark: SparkSession, table: LakeTable) -> None:
    """Drop the table from the old database. With its last table, drop the old database too.

    This does nothing before the new table is there. Tables of others in the old database stay.
    """
    old, new = _predecessor(table), table.state()
    if old is None or new is None:
        return
    database, folder = f"`{_DATABASE}`", old.folder.rpartition("/")[0]
    is_last = len(old.store.get_file_info(fs.FileSelector(folder))) == 1
    if spark.catalog.databaseExists(_DATABASE):
        spark.sql(f"DROP VIEW IF EXISTS {database}.`{old.name}_changes`")
        spark.sql(f"DROP TABLE IF EXISTS {database}.`{old.name}_change_files`")
        spark.sql(f"DROP TABLE IF EXISTS {database}.`{old.name}`")
        # Hive deletes the whole folder of a database that it drops.
        if is_last and not spark.sql(f"SHOW TABLES IN {database}").head(1):
            spark.sql(f"DROP DATABASE {database}")
    # The folder comes last. As long as it exists, the next refresh tries again.
    if old.store.get_file_info(old.folder).type == fs.FileType.Directory:
        old.store.delete_dir(old.folder)


def _predecessor(table: LakeTable) -> LakeTable | None:
    """The table in the old database, if one was made there from files of the same source."""
    old = replace(table, database=_DATABASE)
    if old.store.get_file_info(old.folder).type != fs.FileType.Directory:
        return None
    state = old.state()
    # Any source may have had a table of this name. The files in its state show which one.
    source = table.database.removeprefix("lake_")
    if state is None or not state.files or not state.files[0].startswith(f"changes/{source}/"):
        return None
    return old
