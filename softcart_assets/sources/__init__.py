"""The source systems and their tables, declared once, as data.

To add a table, add a `Table` to its source's module; to add a database, add a module and name it here.
"""

from softcart_assets.sources.catalog import CATALOG
from softcart_assets.sources.shop import SHOP

SOURCES = (SHOP, CATALOG)
"""Every source system."""

__all__ = ["CATALOG", "SHOP", "SOURCES"]
