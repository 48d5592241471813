"""The pages of the shop."""

from softcart_assets.lines.model import Dashboard

DASHBOARDS = (
    Dashboard(
        "dashboard",
        "The shop manager's dashboard: one self-contained page that opens from disk, and pictures "
        "of its charts.",
        package="softcart_assets.pages.shop",
        reads=(
            "fct_order_lines",
            "dim_store",
            "dim_location",
            "dim_product",
            "dim_device",
            "agg_rfm_by_customer",
            "agg_baskets_by_product_pair",
            "agg_orders_by_device_weekday_hour",
            "agg_stock_cover_by_store_product",
        ),
    ),
)
