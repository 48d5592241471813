"""What the shop publishes."""

from decimal import Decimal

from softcart_assets.lines.model import AddsUp, Limit, Published

PUBLISHED = (
    Published(
        "fct_order_lines",
        indexes=(("order_date",), ("order_id",), ("customer_id",)),
        totals=(
            "quantity",
            "gross_amount",
            "discount_amount",
            "net_amount",
            "tax_amount",
            "cost_amount",
            "margin_amount",
            "returned_quantity",
            "refund_amount",
        ),
        latest="ordered_at",
    ),
    Published(
        "fct_payments",
        indexes=(("payment_date",), ("order_id",)),
        totals=("amount", "captured_amount"),
        latest="paid_at",
        # Payments may be kept in a system that is no source.
        may_be_empty=True,
    ),
    # A shop may have no returns yet.
    Published(
        "fct_returns",
        indexes=(("return_date",), ("order_id",)),
        totals=("returned_quantity", "refund_amount"),
        latest="returned_at",
        may_be_empty=True,
    ),
    Published(
        "fct_inventory_daily",
        indexes=(("inventory_date",), ("product_id",)),
        totals=(
            "received_quantity",
            "sold_quantity",
            "returned_quantity",
            "adjusted_quantity",
            "closing_quantity",
        ),
        latest="inventory_date",
        # So may the stock.
        may_be_empty=True,
    ),
    Published("dim_vendor"),
    Published("dim_employee"),
    Published("dim_store", indexes=(("store_id",),)),
    Published("dim_product", indexes=(("product_id",),)),
    Published(
        "agg_sales_by_category_month",
        adds_up=(AddsUp("net_amount", "fct_order_lines", "net_amount", "NOT is_cancelled"),),
    ),
    # All orders may be of guests.
    Published("agg_rfm_by_customer", may_be_empty=True),
    Published(
        "agg_baskets_by_product_pair",
        may_be_empty=True,
        max_drop=Limit(
            Decimal("0.5"), "Each new basket changes which pairs of products are frequent enough."
        ),
    ),
    Published(
        "agg_orders_by_device_weekday_hour",
        adds_up=(AddsUp("net_amount", "fct_order_lines", "net_amount", "NOT is_cancelled"),),
    ),
    Published("agg_stock_cover_by_store_product", may_be_empty=True),
)
