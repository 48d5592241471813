"""The tables of the operational databases as external assets: where the lineage of every asset begins."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.lines.model import Source, Table


def source_asset_key(source: Source, table: Table) -> dg.AssetKey:
    """Key of a source's own table, `<source>/<table>`."""
    return dg.AssetKey([source.name, table.name])


@dg.definitions
def sources() -> dg.Definitions:
    """One external asset per declared table or collection."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                source_asset_key(source, table),
                description=f"{table.description} Lives in the operational database; SoftCart only reads it.",
                group_name="sources",
                owners=[LINES.line_of(source).owner_of(source)],
                kinds={source.kind, "source"},
            )
            for source in LINES.sources
            for table in source.tables
        ]
    )
