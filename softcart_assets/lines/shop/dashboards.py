"""The pages of the shop."""

from softcart_assets.lines.model import Dashboard
from softcart_assets.lines.shop.pages import SALES

DASHBOARDS = (
    Dashboard(
        "dashboard",
        "The shop manager's dashboard: one self-contained page that opens from disk, and pictures "
        "of its charts.",
        page=SALES,
        reads=(
            "fct_order_lines",
            "dim_store",
            "dim_location",
            "dim_product",
            "dim_device",
            "dim_vendor",
            "fct_payments",
            "agg_rfm_by_customer",
            "agg_baskets_by_product_pair",
            "agg_stock_cover_by_store_product",
        ),
    ),
)
