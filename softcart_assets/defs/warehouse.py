"""The staging views and the star schema: dbt models as assets, dbt tests as asset checks."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.dbt_models import dbt_models
from softcart_assets.dbt import read_manifest


@dg.definitions
def warehouse() -> dg.Definitions:
    """The dbt models of all lines."""
    return dg.Definitions(assets=dbt_models(LINES, read_manifest()))
