"""The lake's tables: current rows as Parquet, made from committed change files.

For a table `orders` with the change files
`<lake>/changes/<source>/orders/load_date=…/*.parquet` there is a table `lake_<source>.orders`: the
current rows, without deleted ones. If a partition column is declared, they are partitioned by its
month (`_month`, 'YYYY-MM'). `spark.lake` reads it with Spark, and tells Hive of it.

Ingestion decides which change files are committed. Every function here takes its list, and reads no
other file. Other files may come from a load that was killed. `spark.jobs` knows the meaning of the
rows.

Data files never change. A refresh writes the months that it touches to new folders. Then it writes
a new state file with the merged change files and the folder of each month. That switches the
readers, who see the old table or the new one. Merging the same changes again gives the same rows.
So if a refresh is killed, the next one does it again. Replaced folders stay for one more refresh,
for queries that still read them. One process at a time may refresh a table.
"""

from softcart_assets.lake.committed import (
    Refreshed,
    committed_files,
    lake_table,
    one_moment,
    refresh,
)
from softcart_assets.lake.compaction import COMPACT_FROM_FILES, compact, discard
from softcart_assets.lake.names import rename_columns
from softcart_assets.lake.refreshing import (
    RefreshResult,
    commit,
    pending_files,
    rebuild_table,
    refresh_table,
)
from softcart_assets.lake.rows import new_folder, row_count
from softcart_assets.lake.schema import OF_CHANGES, from_json, source_names
from softcart_assets.lake.table import ChangeFile, Exchange, LakeError, LakeTable, Partition, State

__all__ = [
    "COMPACT_FROM_FILES",
    "OF_CHANGES",
    "ChangeFile",
    "Exchange",
    "LakeError",
    "LakeTable",
    "Partition",
    "RefreshResult",
    "Refreshed",
    "State",
    "commit",
    "committed_files",
    "compact",
    "discard",
    "from_json",
    "lake_table",
    "new_folder",
    "one_moment",
    "pending_files",
    "rebuild_table",
    "refresh",
    "refresh_table",
    "rename_columns",
    "row_count",
    "source_names",
]
