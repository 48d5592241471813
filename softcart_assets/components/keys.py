"""The asset keys of every layer. A key is the schema and the name of a table."""

from __future__ import annotations

import dagster as dg

from softcart_assets.lines.model import RunningTotal, Source, Table


def source_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a table in its operational database, `<source>/<table>`."""
    return dg.AssetKey([source.name, table.name])


def raw_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a raw table, `raw_<source>/<table>`."""
    return dg.AssetKey([source.schema, table.name])


def history_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of the table with every version of the rows of a raw table."""
    return dg.AssetKey([source.schema, f"{table.name}_history"])


def raw_keys(source: Source, table: Table) -> list[dg.AssetKey]:
    """The keys of the raw table and, if it is declared, its history."""
    history = [history_key(source, table)] if table.history else []
    return [raw_key(source, table), *history]


def lake_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a lake table, `lake_<source>/<table>`."""
    return dg.AssetKey([source.lake, table.name])


def total_key(total: RunningTotal) -> dg.AssetKey:
    """Key of a running total."""
    return dg.AssetKey(["ods", total.name])


def aggregate_key(name: str) -> dg.AssetKey:
    """Key of an aggregate."""
    return dg.AssetKey(["aggregates", name])


def model_key(name: str) -> dg.AssetKey:
    """Key of a model, or of the table of its scores."""
    return dg.AssetKey(["ml", name])


def people_key() -> dg.AssetKey:
    """Key of the table that says which customers are one person."""
    return dg.AssetKey(["identities", "people"])


def production_key(name: str) -> dg.AssetKey:
    """Key of a published table."""
    return dg.AssetKey(["production", name])


def mirrored_key(target: str, name: str) -> dg.AssetKey:
    """Key of a published table in another product."""
    return dg.AssetKey([target, name])


def table_name(key: dg.AssetKey) -> dict[str, str]:
    """Metadata that names the table of an asset, for people and for tools that look it up.

    Without the database: only the environment of a run knows it.
    """
    return {"dagster/table_name": ".".join(key.path)}


def report_key(source: Source, name: str) -> dg.AssetKey:
    """Key of a source's own report or page, `<source>_reports/<name>`."""
    return dg.AssetKey([source.reporting, name])


def extract_key(name: str) -> dg.AssetKey:
    """Key of an extract or of a dashboard."""
    return dg.AssetKey(["extracts", name])
