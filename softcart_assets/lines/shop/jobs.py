"""The Spark jobs of the shop: `spark/jobs/shop/<name>.py` makes the table `aggregates.<name>`."""

from softcart_assets.lines.model import Job

JOBS = (
    Job(
        "agg_sales_by_category_month",
        inputs=("shop.orders", "shop.order_lines", "catalog.products", "catalog.categories"),
        key=("currency", "category_id", "month"),
    ),
    Job(
        "agg_rfm_by_customer",
        inputs=("shop.orders", "shop.order_lines", "shop.customers"),
        key=("customer_id",),
    ),
    Job(
        "agg_baskets_by_product_pair",
        inputs=("shop.orders", "shop.order_lines"),
        key=("product_id_a", "product_id_b"),
    ),
    Job(
        "agg_orders_by_device_weekday_hour",
        inputs=("shop.orders", "shop.order_lines", "shop.stores"),
        key=("currency", "device", "weekday", "hour"),
    ),
    Job(
        "agg_stock_cover_by_store_product",
        inputs=("shop.orders", "shop.order_lines", "shop.inventory"),
        key=("store_id", "product_id"),
    ),
)
