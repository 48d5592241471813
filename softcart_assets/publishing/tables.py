"""What is published, as data: every table of the warehouse and the aggregates.

Column names and types are not declared: they are read from staging at each publication. To publish a table, add it
here; its audits of key, emptiness, row count and volume come with the declaration, others stand in
`softcart_assets.audits.suite`.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class PublishedTable:
    """One table that people may read as `production.<name>`.

    `schema`: where it stands in the staging database.
    `key`: the columns that identify a row; unique and not null.
    `indexes`: column lists to index beside the key: what dashboards filter by.
    `versions_of`: for a dimension with history (SCD2), the column that its versions share.
    `may_be_empty`: whether no rows at all is a sound content.
    `max_drop`: the share of rows by which a publication may be smaller than the one before.
    """

    name: str
    schema: str
    key: tuple[str, ...]
    indexes: tuple[tuple[str, ...], ...] = ()
    versions_of: str | None = None
    may_be_empty: bool = False
    max_drop: Decimal = Decimal("0.1")


PUBLISHED: tuple[PublishedTable, ...] = (
    # The largest first: tables are copied in this order, several at a time.
    PublishedTable(
        "fct_order_lines",
        "warehouse",
        ("order_line_key",),
        (("order_date",), ("order_id",), ("customer_id",)),
    ),
    PublishedTable(
        "fct_payments", "warehouse", ("payment_key",), (("payment_date",), ("order_id",))
    ),
    PublishedTable(
        "fct_inventory_daily",
        "warehouse",
        ("inventory_daily_key",),
        (("inventory_date",), ("product_id",)),
    ),
    PublishedTable("dim_date", "warehouse", ("date_key",)),
    PublishedTable("dim_time_of_day", "warehouse", ("time_of_day_key",)),
    PublishedTable("dim_location", "warehouse", ("location_key",)),
    PublishedTable("dim_device", "warehouse", ("device_key",)),
    PublishedTable("dim_vendor", "warehouse", ("vendor_key",)),
    PublishedTable("dim_employee", "warehouse", ("employee_key",)),
    PublishedTable(
        "dim_store", "warehouse", ("store_key",), (("store_id",),), versions_of="store_id"
    ),
    PublishedTable(
        "dim_product", "warehouse", ("product_key",), (("product_id",),), versions_of="product_id"
    ),
    PublishedTable(
        "dim_customer",
        "warehouse",
        ("customer_key",),
        (("customer_id",),),
        versions_of="customer_id",
    ),
    PublishedTable("agg_sales_by_category_month", "aggregates", ("category_id", "month")),
    PublishedTable("agg_rfm_by_customer", "aggregates", ("customer_id",)),
    # Which pairs clear the miner's threshold shifts with every basket; none may.
    PublishedTable(
        "agg_baskets_by_product_pair",
        "aggregates",
        ("product_id_a", "product_id_b"),
        may_be_empty=True,
        max_drop=Decimal("0.5"),
    ),
    PublishedTable(
        "agg_orders_by_device_weekday_hour", "aggregates", ("device", "weekday", "hour")
    ),
    PublishedTable("agg_stock_cover_by_store_product", "aggregates", ("store_id", "product_id")),
)
