"""The published tables of every line. One publication makes them all."""

import dagster as dg

from softcart_assets.assembly import LINES
from softcart_assets.components.publication import published_assets
from softcart_assets.dbt import read_manifest
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables


@dg.definitions
def production_tables() -> dg.Definitions:
    """The published tables."""
    tables = published_tables(LINES, read_manifest())
    return dg.Definitions(assets=[published_assets(LINES, tables, audits_of(tables))])
