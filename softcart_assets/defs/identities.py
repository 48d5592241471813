"""The people behind the customers of all lines."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.identities import people
from softcart_assets.dbt import read_manifest


@dg.definitions
def identities() -> dg.Definitions:
    """One op compares the customers of all lines."""
    return dg.Definitions(assets=[people(LINES, read_manifest())])
