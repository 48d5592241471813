"""The models of every line of business, and their scores."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.models import models as models_of


@dg.definitions
def models() -> dg.Definitions:
    """One op per line trains its models and scores with them."""
    return dg.Definitions(assets=[models_of(line) for line in LINES if line.models])
