"""The extracts of the shop. Each names its grain; a figure that must not be added up over rows says
so in its description.

Revenue is the net amount of lines of orders that are not cancelled. Returns are shown beside it,
not subtracted. There they count on the day of the order. In ext_returns_daily they count on their
own day. Amounts of several currencies are never added up: each row is of one `currency`.
Dates are in UTC. An event without a plausible date has 1900-01-01. Extracts per day have the names
that stores and products had on that day. The others have today's. Names of categories are always
today's.
"""

from __future__ import annotations

from softcart_assets.lines.model import Extract

_STORE = {
    "store_code": "The store's code.",
    "store_name": "The store's name.",
    "channel": "online or physical.",
}

_CURRENCY = {"currency": "Currency of the amounts, ISO 4217. XXX if the order is missing."}

_SALES = {
    "units_count": "Units sold.",
    "gross_amount": "Quantity times unit price, before discount and tax.",
    "discount_amount": "Discount given.",
    "net_amount": "Revenue: gross less discount, before tax.",
    "margin_amount": "Net less what the shop paid for the units.",
    "returned_units_count": "Units of these lines that came back.",
    "refund_amount": "Refunded for them; not subtracted from net.",
}

_SALES_SQL = """
       sum(f.quantity)::bigint AS units_count,
       sum(f.gross_amount)::numeric(24, 2) AS gross_amount,
       sum(f.discount_amount)::numeric(24, 2) AS discount_amount,
       sum(f.net_amount)::numeric(24, 2) AS net_amount,
       sum(f.margin_amount)::numeric(24, 2) AS margin_amount,
       sum(f.returned_quantity)::bigint AS returned_units_count,
       sum(f.refund_amount)::numeric(24, 2) AS refund_amount"""

_SOLD = "FROM production.fct_order_lines WHERE NOT is_cancelled"

_SALES_TOTALS = {
    "units_count": f"sum(quantity) {_SOLD}",
    "gross_amount": f"sum(gross_amount) {_SOLD}",
    "discount_amount": f"sum(discount_amount) {_SOLD}",
    "net_amount": f"sum(net_amount) {_SOLD}",
    "margin_amount": f"sum(margin_amount) {_SOLD}",
    "returned_units_count": f"sum(returned_quantity) {_SOLD}",
    "refund_amount": f"sum(refund_amount) {_SOLD}",
}

_PAID = "FROM production.fct_payments"
_STOCK = "FROM production.fct_inventory_daily"
_BY_CATEGORY = "FROM production.agg_sales_by_category_month"
_COVER = "FROM production.agg_stock_cover_by_store_product"
_CUSTOMERS = "FROM production.agg_rfm_by_customer"

EXTRACTS: tuple[Extract, ...] = (
    Extract(
        "ext_sales_overview",
        "Sales of orders that are not cancelled, per day, store, shipping region, category, device "
        "and currency, with the names that stores and products had when the order was placed.",
        {
            "order_date": "The day of the order; 1900-01-01 if its date is implausible.",
            **_STORE,
            "country_code": "Where the order goes, or where the store is.",
            "region": "Region of that country.",
            "department_name": "Top of the category tree.",
            "category_name": "The product's category.",
            "device": "laptop, mobile, tablet, in_store or unknown.",
            **_CURRENCY,
            "line_count": "Order lines.",
            "distinct_order_count": (
                "Orders with at least one line here. Do not add up: an order with lines in two "
                "categories counts in both. Numbers of orders that add up stand in "
                "ext_orders_daily."
            ),
            **_SALES,
        },
        f"""
        SELECT f.order_date, s.store_code, s.store_name, s.channel, l.country_code, l.region,
               p.department_name, p.category_name, d.device, f.currency, count(*) AS line_count,
               count(DISTINCT f.order_id) AS distinct_order_count,{_SALES_SQL}
        FROM production.fct_order_lines f
        JOIN production.dim_store s ON s.store_key = f.store_key
        JOIN production.dim_location l ON l.location_key = f.location_key
        JOIN production.dim_product p ON p.product_key = f.product_key
        JOIN production.dim_device d ON d.device_key = f.device_key
        WHERE NOT f.is_cancelled
        GROUP BY f.order_date, s.store_code, s.store_name, s.channel, l.country_code, l.region,
                 p.department_name, p.category_name, d.device, f.currency
        ORDER BY f.order_date, s.store_code, s.store_name, s.channel, l.country_code, l.region,
                 p.department_name, p.category_name, d.device, f.currency
        """,
        totals={"line_count": f"count(*) {_SOLD}", **_SALES_TOTALS},
    ),
    Extract(
        "ext_orders_daily",
        "Orders per day, store, device and currency. An order has one of each, so its counts add "
        "up.",
        {
            "order_date": "The day of the order; 1900-01-01 if its date is implausible.",
            **_STORE,
            "device": "laptop, mobile, tablet, in_store or unknown.",
            **_CURRENCY,
            "order_count": "Orders, without cancelled ones.",
            "cancelled_order_count": "Cancelled orders.",
            "distinct_customer_count": (
                "Customers with an order here that is not cancelled. "
                "Do not add up: who buys on two days counts twice."
            ),
            "units_count": "Units sold, without cancelled orders.",
            "net_amount": "Revenue, without cancelled orders.",
            "margin_amount": "Margin, without cancelled orders.",
            "tax_amount": "Tax, without cancelled orders.",
            "refund_amount": "Refunded of it; not subtracted.",
            "mean_basket_amount": (
                "Net amount per order, rounded to cents. Do not add up or "
                "average: divide the sums instead."
            ),
        },
        """
        SELECT f.order_date, s.store_code, s.store_name, s.channel, d.device, f.currency,
               count(DISTINCT f.order_id) FILTER (WHERE NOT f.is_cancelled) AS order_count,
               count(DISTINCT f.order_id) FILTER (WHERE f.is_cancelled) AS cancelled_order_count,
               count(DISTINCT f.customer_id) FILTER (WHERE NOT f.is_cancelled)
                 AS distinct_customer_count,
               coalesce(sum(f.quantity) FILTER (WHERE NOT f.is_cancelled), 0)::bigint
                 AS units_count,
               coalesce(sum(f.net_amount) FILTER (WHERE NOT f.is_cancelled), 0)::numeric(24, 2)
                 AS net_amount,
               coalesce(sum(f.margin_amount) FILTER (WHERE NOT f.is_cancelled), 0)::numeric(24, 2)
                 AS margin_amount,
               coalesce(sum(f.tax_amount) FILTER (WHERE NOT f.is_cancelled), 0)::numeric(24, 2)
                 AS tax_amount,
               coalesce(sum(f.refund_amount) FILTER (WHERE NOT f.is_cancelled), 0)::numeric(24, 2)
                 AS refund_amount,
               (
                 sum(f.net_amount) FILTER (WHERE NOT f.is_cancelled)
                 / nullif(count(DISTINCT f.order_id) FILTER (WHERE NOT f.is_cancelled), 0)
               )::numeric(24, 2) AS mean_basket_amount
        FROM production.fct_order_lines f
        JOIN production.dim_store s ON s.store_key = f.store_key
        JOIN production.dim_device d ON d.device_key = f.device_key
        GROUP BY f.order_date, s.store_code, s.store_name, s.channel, d.device, f.currency
        ORDER BY f.order_date, s.store_code, s.store_name, s.channel, d.device, f.currency
        """,
        totals={
            "order_count": f"count(DISTINCT order_id) {_SOLD}",
            "cancelled_order_count": (
                "count(DISTINCT order_id) FROM production.fct_order_lines WHERE is_cancelled"
            ),
            "units_count": f"sum(quantity) {_SOLD}",
            "net_amount": f"sum(net_amount) {_SOLD}",
            "margin_amount": f"sum(margin_amount) {_SOLD}",
            "tax_amount": f"sum(tax_amount) {_SOLD}",
            "refund_amount": f"sum(refund_amount) {_SOLD}",
        },
    ),
    Extract(
        "ext_top_products",
        "Sales of each product in each month and currency, of orders that are not cancelled, with "
        "its rank there.",
        {
            "month": "First day of the month; 1900-01-01 for orders with an implausible date.",
            **_CURRENCY,
            "net_rank": "Place in month and currency by net amount; equal amounts share one.",
            "product_id": "The product.",
            "product_name": "Its name; empty if the catalog does not know it.",
            "brand": "Its brand.",
            "department_name": "Top of the category tree.",
            "category_name": "Its category.",
            **_SALES,
            "return_rate_pct": (
                "Returned units per 100 sold, two decimals. Do not add up or "
                "average: divide the sums instead."
            ),
        },
        f"""
        SELECT date_trunc('month', f.order_date)::date AS month, f.currency,
               rank() OVER (
                 PARTITION BY date_trunc('month', f.order_date)::date, f.currency
                 ORDER BY sum(f.net_amount) DESC
               ) AS net_rank,
               f.product_id, p.product_name, p.brand, p.department_name, p.category_name,
               {_SALES_SQL},
               (sum(f.returned_quantity) * 100.0 / nullif(sum(f.quantity), 0))::numeric(24, 2)
                 AS return_rate_pct
        FROM production.fct_order_lines f
        LEFT JOIN production.dim_product p ON p.product_id = f.product_id AND p.is_current
        WHERE NOT f.is_cancelled
        GROUP BY date_trunc('month', f.order_date)::date, f.currency, f.product_id,
                 p.product_name, p.brand, p.department_name, p.category_name
        ORDER BY month, currency, net_rank, product_id
        """,
        totals=_SALES_TOTALS,
    ),
    Extract(
        "ext_categories_monthly",
        "Sales per category, month and currency with the same month a year before, of orders that "
        "are not cancelled.",
        {
            "month": "First day of the month; 1900-01-01 for orders with an implausible date.",
            "department_name": "Top of the category tree.",
            "category_name": "The category.",
            **_CURRENCY,
            "distinct_order_count": (
                "Orders with at least one line here. Do not add up: an order with lines in two "
                "categories counts in both."
            ),
            "units_count": "Units sold.",
            "net_amount": "Revenue.",
            "margin_amount": "Margin.",
            "net_amount_previous_year": (
                "Revenue of the month a year before; empty if there was none."
            ),
            "net_amount_yoy_pct": (
                "Growth over it in percent of its size, two decimals; positive for growth, also "
                "from a loss. Do not add up or average."
            ),
        },
        """
        SELECT month, department_name, category_name, currency,
               order_count AS distinct_order_count, units_count,
               net_amount::numeric(24, 2) AS net_amount,
               margin_amount::numeric(24, 2) AS margin_amount,
               net_amount_previous_year::numeric(24, 2) AS net_amount_previous_year,
               net_amount_yoy_pct::numeric(24, 2) AS net_amount_yoy_pct
        FROM production.agg_sales_by_category_month
        ORDER BY month, department_name, category_name, currency
        """,
        totals={
            "units_count": f"sum(quantity) {_SOLD}",
            "net_amount": f"sum(net_amount) {_SOLD}",
            "margin_amount": f"sum(margin_amount) {_SOLD}",
            "net_amount_previous_year": f"sum(net_amount_previous_year) {_BY_CATEGORY}",
            "net_amount_yoy_pct": f"sum(net_amount_yoy_pct) {_BY_CATEGORY}",
        },
    ),
    Extract(
        "ext_orders_by_hour",
        "Orders over all time per device, currency, weekday and hour (UTC), without cancelled "
        "ones; adds up.",
        {
            "device": "laptop, mobile, tablet, in_store or unknown.",
            **_CURRENCY,
            "weekday": "1 is Monday.",
            "hour": "0 to 23.",
            "order_count": "Orders.",
            "net_amount": "Revenue.",
        },
        """
        SELECT device, currency, weekday, hour, order_count,
               net_amount::numeric(24, 2) AS net_amount
        FROM production.agg_orders_by_device_weekday_hour
        ORDER BY device, currency, weekday, hour
        """,
        totals={
            "order_count": f"count(DISTINCT order_id) {_SOLD}",
            "net_amount": f"sum(net_amount) {_SOLD}",
        },
    ),
    Extract(
        "ext_stock_risk",
        "What is on the shelf per store and product, how long it lasts, and the risk of running "
        "out.",
        {
            **_STORE,
            "product_id": "The product.",
            "product_name": "Its name; empty if the catalog does not know it.",
            "department_name": "Top of the category tree.",
            "category_name": "Its category.",
            "stock_risk": "out, critical, low, ok or overstock.",
            "quantity_on_hand": "Units on the shelf.",
            "reorder_point": "Order again below this.",
            "sold_quantity_28d": "Units sold in the last 28 days.",
            "cover_days": (
                "Days that the stock lasts at that pace, one decimal; empty if nothing "
                "is sold. Do not add up."
            ),
            "stock_value_amount": (
                "Units on the shelf at today's cost in the catalog, rounded to cents; empty if "
                "the cost is unknown."
            ),
            "currency": "Currency of that value, ISO 4217; empty if the catalog does not say.",
        },
        """
        SELECT s.store_code, s.store_name, s.channel, a.product_id, p.product_name,
               p.department_name, p.category_name, a.stock_risk, a.quantity_on_hand,
               a.reorder_point, a.sold_quantity_28d, a.cover_days::numeric(18, 1) AS cover_days,
               (a.quantity_on_hand * p.cost_amount)::numeric(24, 2) AS stock_value_amount,
               p.cost_currency AS currency
        FROM production.agg_stock_cover_by_store_product a
        LEFT JOIN production.dim_store s ON s.store_id = a.store_id AND s.is_current
        LEFT JOIN production.dim_product p ON p.product_id = a.product_id AND p.is_current
        ORDER BY s.store_code, a.product_id
        """,
        totals={
            "quantity_on_hand": f"sum(quantity_on_hand) {_COVER}",
            "sold_quantity_28d": f"sum(sold_quantity_28d) {_COVER}",
            "cover_days": f"sum(cover_days) {_COVER}",
            "stock_value_amount": (
                "sum(a.quantity_on_hand * p.cost_amount) "
                "FROM production.agg_stock_cover_by_store_product a "
                "JOIN production.dim_product p USING (product_id) WHERE p.is_current"
            ),
        },
    ),
    Extract(
        "ext_inventory_daily",
        "Stock and its movements per day, store and category. Opening plus received, returned, "
        "transferred and adjusted less sold is closing.",
        {
            "inventory_date": "The day.",
            **_STORE,
            "department_name": "Top of the category tree.",
            "category_name": "The category.",
            "product_count": "Products kept. Do not add up over days or stores.",
            "out_of_stock_product_count": (
                "Of them, with nothing left at the end of the day. Do not add up over days."
            ),
            "opening_quantity": "Units at the start of the day. Do not add up over days.",
            "received_quantity": "Units received.",
            "sold_quantity": "Units sold.",
            "returned_quantity": "Units returned.",
            "transferred_quantity": "Units moved in from other stores.",
            "adjusted_quantity": "Units corrected.",
            "closing_quantity": "Units at the end of the day. Do not add up over days.",
        },
        """
        SELECT f.inventory_date, s.store_code, s.store_name, s.channel, p.department_name,
               p.category_name, count(*) AS product_count,
               count(*) FILTER (WHERE f.is_out_of_stock) AS out_of_stock_product_count,
               sum(f.opening_quantity)::bigint AS opening_quantity,
               sum(f.received_quantity)::bigint AS received_quantity,
               sum(f.sold_quantity)::bigint AS sold_quantity,
               sum(f.returned_quantity)::bigint AS returned_quantity,
               sum(f.transferred_quantity)::bigint AS transferred_quantity,
               sum(f.adjusted_quantity)::bigint AS adjusted_quantity,
               sum(f.closing_quantity)::bigint AS closing_quantity
        FROM production.fct_inventory_daily f
        JOIN production.dim_store s ON s.store_key = f.store_key
        JOIN production.dim_product p ON p.product_key = f.product_key
        GROUP BY f.inventory_date, s.store_code, s.store_name, s.channel, p.department_name,
                 p.category_name
        ORDER BY f.inventory_date, s.store_code, s.store_name, s.channel, p.department_name,
                 p.category_name
        """,
        totals={
            "product_count": f"count(*) {_STOCK}",
            "out_of_stock_product_count": f"count(*) {_STOCK} WHERE is_out_of_stock",
            "opening_quantity": f"sum(opening_quantity) {_STOCK}",
            "received_quantity": f"sum(received_quantity) {_STOCK}",
            "sold_quantity": f"sum(sold_quantity) {_STOCK}",
            "returned_quantity": f"sum(returned_quantity) {_STOCK}",
            "transferred_quantity": f"sum(transferred_quantity) {_STOCK}",
            "adjusted_quantity": f"sum(adjusted_quantity) {_STOCK}",
            "closing_quantity": f"sum(closing_quantity) {_STOCK}",
        },
    ),
    Extract(
        "ext_payments_daily",
        "Payments per day, store, method, status and currency; adds up.",
        {
            "payment_date": (
                "The day of the payment or attempt; 1900-01-01 if its date is implausible."
            ),
            **_STORE,
            "payment_method": "card, paypal, bank_transfer, voucher or cash.",
            "payment_status": "authorized, captured, failed or refunded.",
            **_CURRENCY,
            "payment_count": "Payments and attempts.",
            "amount": "What they were for, tax included.",
            "captured_amount": "What was received.",
        },
        """
        SELECT f.payment_date, s.store_code, s.store_name, s.channel, f.payment_method,
               f.payment_status, f.currency, count(*) AS payment_count,
               sum(f.amount)::numeric(24, 2) AS amount,
               sum(f.captured_amount)::numeric(24, 2) AS captured_amount
        FROM production.fct_payments f
        JOIN production.dim_store s ON s.store_key = f.store_key
        GROUP BY f.payment_date, s.store_code, s.store_name, s.channel, f.payment_method,
                 f.payment_status, f.currency
        ORDER BY f.payment_date, s.store_code, s.store_name, s.channel, f.payment_method,
                 f.payment_status, f.currency
        """,
        totals={
            "payment_count": f"count(*) {_PAID}",
            "amount": f"sum(amount) {_PAID}",
            "captured_amount": f"sum(captured_amount) {_PAID}",
        },
    ),
    Extract(
        "ext_returns_daily",
        "Returns per day of the return, store, category, reason and currency; adds up. A later "
        "return changes no earlier day. The other extracts count refunds on the day of the order.",
        {
            "return_date": "The day of the return; 1900-01-01 if its date is implausible.",
            **_STORE,
            "department_name": "Top of the category tree.",
            "category_name": "The product's category.",
            "return_reason": "damaged, wrong_item, not_as_described, changed_mind or late.",
            **_CURRENCY,
            "return_count": "Returns.",
            "returned_units_count": "Units that came back.",
            "refund_amount": "Refunded for them; not subtracted anywhere.",
        },
        """
        SELECT f.return_date, s.store_code, s.store_name, s.channel, p.department_name,
               p.category_name, f.return_reason, f.currency, count(*) AS return_count,
               sum(f.returned_quantity)::bigint AS returned_units_count,
               sum(f.refund_amount)::numeric(24, 2) AS refund_amount
        FROM production.fct_returns f
        JOIN production.dim_store s ON s.store_key = f.store_key
        JOIN production.dim_product p ON p.product_key = f.product_key
        GROUP BY f.return_date, s.store_code, s.store_name, s.channel, p.department_name,
                 p.category_name, f.return_reason, f.currency
        ORDER BY f.return_date, s.store_code, s.store_name, s.channel, p.department_name,
                 p.category_name, f.return_reason, f.currency
        """,
        totals={
            "return_count": "count(*) FROM production.fct_returns",
            "returned_units_count": "sum(returned_quantity) FROM production.fct_returns",
            "refund_amount": "sum(refund_amount) FROM production.fct_returns",
        },
    ),
    Extract(
        "ext_customer_segments",
        "Customers per currency and segment of recency, frequency and value. A customer is in one "
        "of each, so counts add up.",
        {
            "segment": "The segment.",
            "currency": "The currency in which these customers buy most.",
            "customer_count": "Customers in it.",
            "order_count": "Orders of theirs that are not cancelled.",
            "net_amount": "Revenue from them in that currency.",
            "mean_recency_days": (
                "Days since their last order, on average, two decimals. Do not add up."
            ),
        },
        """
        SELECT segment, currency, count(*) AS customer_count,
               sum(frequency_count)::bigint AS order_count,
               sum(monetary_amount)::numeric(24, 2) AS net_amount,
               avg(recency_days)::numeric(24, 2) AS mean_recency_days
        FROM production.agg_rfm_by_customer
        GROUP BY segment, currency
        ORDER BY segment, currency
        """,
        totals={
            "customer_count": f"count(*) {_CUSTOMERS}",
            "order_count": f"sum(frequency_count) {_CUSTOMERS}",
            "net_amount": f"sum(monetary_amount) {_CUSTOMERS}",
        },
    ),
    Extract(
        "ext_product_pairs",
        "Products bought together, per pair.",
        {
            "product_id_a": "One product.",
            "product_name_a": "Its name.",
            "product_id_b": "The other product.",
            "product_name_b": "Its name.",
            "basket_count": "Orders with both. Do not add up.",
            "support_pct": "Such orders per 100 orders.",
            "confidence_a_to_b_pct": "Of 100 orders with a, how many have b.",
            "confidence_b_to_a_pct": "Of 100 orders with b, how many have a.",
            "lift": "How much more often than by chance.",
            "left_out_count": "Orders of so many products that they count nowhere here. "
            "The same in every row. Do not add up.",
        },
        """
        SELECT a.product_id_a, x.product_name AS product_name_a, a.product_id_b,
               y.product_name AS product_name_b, a.basket_count,
               a.support_pct::numeric(18, 4) AS support_pct,
               a.confidence_a_to_b_pct::numeric(18, 4) AS confidence_a_to_b_pct,
               a.confidence_b_to_a_pct::numeric(18, 4) AS confidence_b_to_a_pct,
               a.lift::numeric(18, 4) AS lift, a.left_out_count
        FROM production.agg_baskets_by_product_pair a
        LEFT JOIN production.dim_product x ON x.product_id = a.product_id_a AND x.is_current
        LEFT JOIN production.dim_product y ON y.product_id = a.product_id_b AND y.is_current
        ORDER BY a.basket_count DESC, a.product_id_a, a.product_id_b
        """,
        totals={
            "basket_count": "sum(basket_count) FROM production.agg_baskets_by_product_pair",
            "lift": "sum(lift) FROM production.agg_baskets_by_product_pair",
        },
    ),
)
"""Every extract."""
