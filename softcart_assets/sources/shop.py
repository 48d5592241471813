"""The online store's sales and inventory, in MySQL."""

from softcart_assets.sources.model import Source, Table, classify

SHOP = Source(
    name="shop",
    kind="mysql",
    env_prefix="SOFTCART_SHOP",
    owner="team:shop",
    tables=(
        Table(
            "customers",
            "One row per registered customer.",
            key=("id",),
            strategy="cdc",
            history=True,
            privacy=classify(
                none="id loyalty_tier marketing_consent created_at updated_at",
                pii="email full_name phone birth_date gender",
            ),
        ),
        Table(
            "addresses",
            "One row per address of a customer.",
            key=("id",),
            strategy="cdc",
            history=True,
            privacy=classify(
                none="id kind is_primary created_at updated_at country_code region",
                pii="customer_id line1 line2 city postal_code latitude longitude",
            ),
        ),
        Table(
            "stores",
            "One row per store, physical or online.",
            key=("id",),
            strategy="cdc",
            history=True,
            privacy=classify(
                none="id code name channel country_code city region opened_on closed_on floor_area_m2 created_at "
                "updated_at",
            ),
        ),
        Table(
            "vendors",
            "One row per vendor.",
            key=("id",),
            strategy="cdc",
            privacy=classify(
                none="id name country_code rating is_active created_at updated_at",
                pii="contact_email contact_phone",
            ),
        ),
        Table(
            "employees",
            "One row per employee, past ones included.",
            key=("id",),
            strategy="cdc",
            privacy=classify(
                none="id store_id role hired_on left_on created_at updated_at",
                pii="full_name email",
                sensitive="salary_amount",
            ),
        ),
        Table(
            "orders",
            "One row per order; the header of its lines.",
            key=("id",),
            strategy="cdc",
            lake_partition="ordered_at",
            daily="ordered_at",
            privacy=classify(
                none="id store_id employee_id device status currency ordered_at promised_on shipping_amount "
                "total_amount updated_at",
                pii="customer_id shipping_address_id note",
            ),
        ),
        Table(
            "order_lines",
            "One row per line of an order.",
            key=("order_id", "line_number"),
            strategy="cdc",
            lake_partition="created_at",
            privacy=classify(
                none="order_id line_number product_id variant_sku quantity unit_price unit_cost discount_amount "
                "tax_rate tax_amount created_at updated_at",
            ),
        ),
        Table(
            "payments",
            "One row per payment or payment attempt for an order.",
            key=("id",),
            strategy="cdc",
            lake_partition="paid_at",
            privacy=classify(
                none="id order_id method status amount currency paid_at updated_at",
                sensitive="card_last4",
            ),
        ),
        Table(
            "returns",
            "One row per return of an order line, whole or in part.",
            key=("id",),
            strategy="cdc",
            lake_partition="returned_at",
            privacy=classify(
                none="id order_id line_number quantity reason refund_amount returned_at updated_at",
            ),
        ),
        Table(
            "inventory",
            "One row per store and product: what is on the shelf now.",
            key=("store_id", "product_id"),
            strategy="cdc",
            privacy=classify(none="store_id product_id quantity_on_hand reorder_point updated_at"),
        ),
        Table(
            "inventory_movements",
            "One row per movement of stock; their sum per store and product is the stock on hand.",
            key=("id",),
            strategy="cdc",
            lake_partition="moved_at",
            privacy=classify(
                none="id store_id product_id kind quantity order_id moved_at updated_at"
            ),
        ),
    ),
)
