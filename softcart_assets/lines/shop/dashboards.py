"""The pages of the shop."""

from softcart_assets.lines.model import Dashboard
from softcart_assets.lines.shop.pages import SALES

DASHBOARDS = (
    Dashboard(
        "dashboard",
        "The shop manager's dashboard: one self-contained page that opens from disk, and pictures "
        "of its charts.",
        page=SALES,
    ),
)
