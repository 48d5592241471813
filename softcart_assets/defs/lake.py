"""The lake's tables of every source."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.lake import lake_tables


@dg.definitions
def lake() -> dg.Definitions:
    """One op per source refreshes its lake tables."""
    return dg.Definitions(
        assets=[lake_tables(line, source) for line in LINES for source in line.sources]
    )
