"""The tables of the operational databases as external assets. Every lineage begins with them."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.keys import source_key


@dg.definitions
def sources() -> dg.Definitions:
    """One external asset per declared table or collection."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                source_key(source, table),
                description=(
                    f"{table.description} It is in the operational database, and SoftCart only "
                    "reads it."
                ),
                group_name="sources",
                owners=[line.owner_of(source)],
                kinds={source.kind, "source"},
            )
            for line in LINES
            for source, table in line.tables()
        ]
    )
