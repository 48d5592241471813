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
        shows={
            "day": ("fct_order_lines.order_date",),
            "hour": ("fct_order_lines.time_of_day_key",),
            "currency": ("fct_order_lines.currency",),
            "channel": ("dim_store.channel",),
            "store": ("dim_store.store_name",),
            "country": ("dim_location.country_code",),
            "region": ("dim_location.region",),
            "device": ("dim_device.device",),
            "department": ("dim_product.department_name",),
            "category": ("dim_product.category_name",),
            "product": ("dim_product.product_name",),
            "revenue": ("fct_order_lines.net_amount",),
            "margin": ("fct_order_lines.margin_amount",),
            "units": ("fct_order_lines.quantity",),
            "refunds": ("fct_order_lines.refund_amount",),
            "orders": ("fct_order_lines.order_id",),
            "customers": ("fct_order_lines.customer_id",),
            "customer segment": ("agg_rfm_by_customer.segment",),
            "revenue of a segment": ("agg_rfm_by_customer.monetary_amount",),
            "recency of a segment": ("agg_rfm_by_customer.recency_days",),
            "frequency of a segment": ("agg_rfm_by_customer.frequency_count",),
            "stock risk": ("agg_stock_cover_by_store_product.stock_risk",),
            "stock on hand": ("agg_stock_cover_by_store_product.quantity_on_hand",),
            "reorder point": ("agg_stock_cover_by_store_product.reorder_point",),
            "sold in 28 days": ("agg_stock_cover_by_store_product.sold_quantity_28d",),
            "days of cover": ("agg_stock_cover_by_store_product.cover_days",),
            "products bought together": (
                "agg_baskets_by_product_pair.product_id_a",
                "agg_baskets_by_product_pair.product_id_b",
            ),
            "baskets with both": ("agg_baskets_by_product_pair.basket_count",),
            "lift": ("agg_baskets_by_product_pair.lift",),
            "confidence": (
                "agg_baskets_by_product_pair.confidence_a_to_b_pct",
                "agg_baskets_by_product_pair.confidence_b_to_a_pct",
            ),
        },
    ),
)
