"""The asset keys of every layer. A key is the relation's schema and name, so lineage needs no
mapping.
"""

from __future__ import annotations

import dagster as dg

from softcart_assets.lines.model import Source, Table


def source_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a table in its operational database, `<source>/<table>`."""
    return dg.AssetKey([source.name, table.name])


def raw_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a raw table, `raw_<source>/<table>`."""
    return dg.AssetKey([source.schema, table.name])


def history_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of the companion of a raw table that holds every version of its rows."""
    return dg.AssetKey([source.schema, f"{table.name}_history"])


def raw_keys(source: Source, table: Table) -> list[dg.AssetKey]:
    """The raw table and, where it is kept, its history."""
    history = [history_key(source, table)] if table.history else []
    return [raw_key(source, table), *history]


def lake_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a lake table, `lake_<source>/<table>`."""
    return dg.AssetKey([source.lake, table.name])


def aggregate_key(name: str) -> dg.AssetKey:
    """Key of an aggregate that a Spark job makes."""
    return dg.AssetKey(["aggregates", name])


def production_key(name: str) -> dg.AssetKey:
    """Key of a published table."""
    return dg.AssetKey(["production", name])


def extract_key(name: str) -> dg.AssetKey:
    """Key of an extract or of a dashboard."""
    return dg.AssetKey(["extracts", name])
