"""The manager's dashboard: one self-contained page, and pictures of its charts, from the production
database.

Here belongs everything between `production.*` and the finished file; no Dagster.
"""

from softcart_assets.pages.shop.data import DashboardError
from softcart_assets.pages.shop.page import PageResult, build_page, pictures

__all__ = ["DashboardError", "PageResult", "build_page", "pictures"]
