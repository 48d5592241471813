"""The lake's tables: current rows and history in Hive, made from committed change files.

For a table `orders` with the change files
`<lake>/changes/<source>/orders/load_date=…/*.parquet` there are

- `lake_<source>.orders`: the current rows, without deleted ones. If a partition column is declared,
  they are partitioned by its month (`_month`, 'YYYY-MM').
- `lake_<source>.orders_changes`: every row version that was ever loaded, by `load_date`. It is a
  view of `lake_<source>.orders_change_files`, the whole folder, that reads the committed files
  only.

Ingestion decides which change files are committed. Every function here takes its list, and reads no
other file. Other files may come from a load that was killed. `spark.jobs` knows the meaning of the
rows.

Data files never change. A refresh writes the months that it touches to a new folder. Then it
writes a new state file with the merged change files and the folder of each month. At last it points
Hive there. Merging the same changes again gives the same rows. So if a refresh is killed, the next
one repairs the table. Replaced folders stay for one more refresh, for queries that still read them.
One process at a time may refresh a table.
"""

from spark.lake.compaction import COMPACT_FROM_FILES, compact, discard
from spark.lake.names import rename_columns
from spark.lake.refresh import (
    RefreshResult,
    pending_files,
    rebuild_table,
    refresh_table,
    replace_table,
)
from spark.lake.schema import source_names
from spark.lake.table import ChangeFile, Exchange, LakeError, LakeTable, Partition, State
from spark.lake.upgrade import drop_predecessor, has_predecessor

__all__ = [
    "COMPACT_FROM_FILES",
    "ChangeFile",
    "Exchange",
    "LakeError",
    "LakeTable",
    "Partition",
    "RefreshResult",
    "State",
    "compact",
    "discard",
    "drop_predecessor",
    "has_predecessor",
    "pending_files",
    "rebuild_table",
    "refresh_table",
    "rename_columns",
    "replace_table",
    "source_names",
]
