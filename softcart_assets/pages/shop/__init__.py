"""The shop's dashboard: one self-contained page, and pictures of its charts.

This package contains everything between `production.*` and the finished file. It does not use
Dagster.
"""

from softcart_assets.pages.shop.data import DashboardError
from softcart_assets.pages.shop.page import PageResult, build_page

__all__ = ["DashboardError", "PageResult", "build_page"]
