"""The lake's tables as any client of the metastore finds them."""

from __future__ import annotations

from urllib.parse import unquote

import pyarrow as pa
import pyarrow.dataset as ds

from softcart_assets.lake import LakeTable
from softcart_assets.lake.hive import Client


def folders_in_hive(client: Client, table: LakeTable) -> list[str]:
    """The folders of a table, under the lake's root."""
    found = client.get_table(table.database, table.name)
    places = [found.sd]
    if found.partitionKeys:
        places = [part.sd for part in client.get_partitions(table.database, table.name, -1)]
    root = unquote(table.lake_uri).replace("file:///", "file:/")
    return sorted(place.location.removeprefix(f"{root}/") for place in places)


def in_hive(client: Client, table: LakeTable, schema: pa.Schema) -> pa.Table:
    """The rows of a table."""
    found = [
        ds.dataset(folder, filesystem=table.store, format="parquet").to_table()
        for folder in folders_in_hive(client, table)
    ]
    return pa.concat_tables([schema.empty_table(), *found], promote_options="permissive")
