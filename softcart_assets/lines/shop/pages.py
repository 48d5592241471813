"""The shop's pages, for its managers."""

from softcart_assets.lines.page import (
    Cards,
    Column,
    Cube,
    Dimension,
    Hours,
    Level,
    Listing,
    Measure,
    Page,
    Ranking,
    Rung,
    Section,
    Steps,
    Trend,
)

_PAYMENT = """
(SELECT order_id, CASE count(DISTINCT payment_method) WHEN 1 THEN min(payment_method)
                  ELSE 'several methods' END AS method
 FROM production.fct_payments
 WHERE payment_status NOT IN ('failed', 'refunded') GROUP BY order_id)"""

_FIRST_ORDER = """
(SELECT customer_id, min(ordered_at) AS ordered_at FROM production.fct_order_lines
 WHERE NOT is_cancelled AND order_date <> '1900-01-01' GROUP BY customer_id)"""


def _currency(column: str) -> str:
    """The SQL of a currency. Lines whose order has not arrived yet have XXX.

    They are in the currency of all others, if that is one. Otherwise theirs is not known.
    """
    return f"""
CASE {column} WHEN 'XXX' THEN (
  SELECT CASE WHEN min(others.currency) = max(others.currency) THEN min(others.currency) END
  FROM production.fct_order_lines others WHERE others.currency <> 'XXX')
ELSE {column} END"""


_ZONES = {
    "AT": "Europe/Vienna",
    "BE": "Europe/Brussels",
    "CH": "Europe/Zurich",
    "CN": "Asia/Shanghai",
    "CZ": "Europe/Prague",
    "DE": "Europe/Berlin",
    "DK": "Europe/Copenhagen",
    "ES": "Europe/Madrid",
    "FI": "Europe/Helsinki",
    "FR": "Europe/Paris",
    "GB": "Europe/London",
    "GR": "Europe/Athens",
    "IE": "Europe/Dublin",
    "IT": "Europe/Rome",
    "JP": "Asia/Tokyo",
    "LU": "Europe/Luxembourg",
    "NL": "Europe/Amsterdam",
    "NO": "Europe/Oslo",
    "PL": "Europe/Warsaw",
    "PT": "Europe/Lisbon",
    "SE": "Europe/Stockholm",
}
"""The time zone of the stores of a country. A country with several has none here."""

_LOCAL = f"""
(SELECT f.ordered_at AT TIME ZONE CASE s.country_code
  {" ".join(f"WHEN '{country}' THEN '{zone}'" for country, zone in _ZONES.items())}
  ELSE 'UTC' END AS at)"""

_CUBE = Cube(
    fact="production.fct_order_lines",
    joins=f"""
      LEFT JOIN production.dim_device d ON d.device_key = f.device_key
      LEFT JOIN production.dim_location l ON l.location_key = f.location_key
      LEFT JOIN production.dim_store s ON s.store_id = f.store_id AND s.is_current
      LEFT JOIN production.dim_product p ON p.product_id = f.product_id AND p.is_current
      LEFT JOIN {_PAYMENT} pay ON pay.order_id = f.order_id
      LEFT JOIN {_FIRST_ORDER} first_order ON first_order.customer_id = f.customer_id
      CROSS JOIN LATERAL {_LOCAL} local""",
    # The unknown date would be the first day of everything.
    where="NOT f.is_cancelled AND f.order_date <> '1900-01-01'",
    day="f.order_date",
    moment="f.ordered_at",
    event="f.order_id",
    hour="CASE WHEN f.time_of_day_key >= 0 THEN "
    "(extract(isodow FROM local.at) - 1) * 24 + extract(hour FROM local.at) END",
    actor="f.customer_id",
    currency="currency",
    remarks={
        "Order lines not shown because their date is implausible": (
            "NOT f.is_cancelled AND f.order_date = '1900-01-01'"
        ),
        "Order lines without a currency of their own": (
            "NOT f.is_cancelled AND f.currency = 'XXX'"
        ),
        "Order lines with hours in UTC, as the store's country has no time zone here": (
            "NOT f.is_cancelled AND f.store_id IN (SELECT s.store_id FROM production.dim_store s "
            "WHERE s.is_current AND s.country_code IS NOT NULL AND s.country_code NOT IN "
            f"({', '.join(map(repr, _ZONES))}))"
        ),
    },
    dimensions=(
        Dimension(
            "currency",
            "Currency",
            "Currencies",
            (Level("currency", _currency("f.currency")),),
            is_single=True,
        ),
        Dimension(
            "place",
            "Country or region",
            "Countries and regions",
            (Level("country", "l.country_code", codes="country"), Level("region", "l.region")),
        ),
        Dimension(
            "seller",
            "Channel or store",
            "Stores",
            (
                Level("channel", "s.channel"),
                Level(
                    "store",
                    "f.store_id",
                    names="SELECT store_id, store_name FROM production.dim_store WHERE is_current",
                ),
            ),
        ),
        Dimension("device", "Device", "Devices", (Level("device", "d.device"),)),
        Dimension("payment", "Payment method", "Payment methods", (Level("method", "pay.method"),)),
        Dimension(
            "customer",
            "New or returning",
            "New and returning customers",
            (
                Level(
                    "kind",
                    "CASE WHEN f.customer_id IS NULL THEN 'guest' "
                    "WHEN f.ordered_at = first_order.ordered_at THEN 'new' ELSE 'returning' END",
                ),
            ),
        ),
        Dimension(
            "category",
            "Department or category",
            "Departments and categories",
            (
                Level("department", "p.department_name"),
                Level(
                    "category",
                    "p.category_id",
                    names="SELECT category_id, max(category_name) FROM production.dim_product "
                    "WHERE is_current GROUP BY category_id",
                ),
            ),
            grain="item",
            of="product",
        ),
        Dimension(
            "vendor",
            "Vendor",
            "Vendors",
            (
                Level(
                    "vendor",
                    "p.vendor_id",
                    names="SELECT vendor_id, vendor_name FROM production.dim_vendor",
                ),
            ),
            grain="item",
            of="product",
        ),
        Dimension(
            "product",
            "Product",
            "Top products",
            (
                Level(
                    "product",
                    "f.product_id",
                    names="SELECT product_id, product_name FROM production.dim_product "
                    "WHERE is_current",
                ),
            ),
            grain="item",
            is_filter=False,
        ),
    ),
    # Products stay: what one costs repeats, so that rows with products take least room.
    ladder=(
        Rung(3, says="Every order of the last three years at most."),
        Rung(2, says="Every order of the last two years. More would make the page too large."),
        Rung(
            2,
            ("actor",),
            "Every order of the last two years, without customers, who would make the page too "
            "large.",
        ),
        *(
            Rung(
                years,
                ("actor", "event", "hour", *without),
                f"Sums by day of the last {says}. Single orders would make the page too large, so "
                "it does not count customers, hours, or orders of a category.",
            )
            for years, without, says in (
                (2, ("customer",), "two years, without new and returning customers"),
                (
                    2,
                    ("customer", "payment", "place"),
                    "two years, without new and returning customers, payment methods and regions",
                ),
                (
                    1,
                    ("customer", "payment", "place"),
                    "year, without new and returning customers, payment methods and regions",
                ),
            )
        ),
    ),
)

RETURN_DAYS = 42
"""Nearly all returns of an order have come after so many days."""

# The targets are examples. A shop writes its own here.
_MEASURES = (
    Measure(
        "revenue",
        "Revenue",
        "money",
        "What customers pay for the goods after discounts, without tax and shipping, of orders "
        "that are not cancelled.",
        sql="f.net_amount",
        target=1.1,
    ),
    Measure(
        "margin",
        "Margin",
        "money",
        "Revenue minus what the goods cost the shop.",
        sql="f.margin_amount",
    ),
    Measure(
        "marginRate",
        "Margin %",
        "rate",
        "Margin as a share of revenue.",
        of=("margin", "revenue"),
        target=0.38,
    ),
    Measure("orders", "Orders", "count", "Orders that are not cancelled.", counts="events"),
    Measure("basket", "Average basket", "money", "Revenue per order.", of=("revenue", "orders")),
    Measure("units", "Units sold", "count", "Pieces sold.", sql="f.quantity"),
    Measure(
        "customers",
        "Customers",
        "count",
        "Different registered customers with such an order.",
        counts="actors",
    ),
    Measure(
        "repeaters",
        "Repeat customers",
        "count",
        "Customers with two orders or more in the period.",
        counts="repeaters",
    ),
    Measure(
        "repeatRate",
        "Repeat rate",
        "rate",
        "Repeat customers as a share of customers.",
        of=("repeaters", "customers"),
    ),
    Measure("gross", "Gross", "amount", "Goods at their list price.", plus=("revenue", "discount")),
    Measure(
        "discount",
        "− Discounts",
        "amount",
        "What was taken off the list price.",
        sql="f.discount_amount",
        rising="neutral",
    ),
    Measure(
        "tax", "Tax on top", "amount", "Tax on the revenue.", sql="f.tax_amount", rising="neutral"
    ),
    Measure(
        "refund",
        "− Refunds",
        "amount",
        "Refunds count on the day of their order.",
        sql="f.refund_amount",
        # More sales bring more refunds. The return rate says what is good.
        rising="neutral",
    ),
    Measure(
        "kept",
        "What stays",
        "amount",
        "Revenue minus refunds, without tax.",
        plus=("revenue",),
        minus=("refund",),
    ),
    Measure(
        "returnRate",
        "Return rate",
        "rate",
        f"Refunds as a share of revenue, of orders at least {RETURN_DAYS} days old, because "
        "returns come weeks after the order.",
        of=("refund", "revenue"),
        rising="bad",
        settles_days=RETURN_DAYS,
        target=0.08,
    ),
)

_STOCK = """
SELECT * FROM (
  SELECT c.store_id || '/' || c.product_id AS key, p.product_name AS product,
         s.store_name AS store, c.stock_risk AS risk, c.quantity_on_hand AS quantity,
         round(c.cover_days::numeric, 1) AS cover, c.sold_quantity_28d AS sold,
         c.reorder_point AS reorder, (c.quantity_on_hand * p.cost_amount * 100)::bigint AS worth,
         p.cost_currency AS currency,
         s.channel, c.store_id, p.department_name AS department, p.category_id,
         row_number() OVER (PARTITION BY c.stock_risk ORDER BY c.sold_quantity_28d DESC,
           c.quantity_on_hand * p.cost_amount DESC NULLS LAST, c.store_id, c.product_id) AS place
  FROM production.agg_stock_cover_by_store_product c
  LEFT JOIN production.dim_product p ON p.product_id = c.product_id AND p.is_current
  LEFT JOIN production.dim_store s ON s.store_id = c.store_id AND s.is_current
  WHERE c.stock_risk <> 'ok' AND p.product_status IS DISTINCT FROM 'discontinued') stock
WHERE place <= 150
ORDER BY array_position(ARRAY['critical', 'low', 'out', 'overstock'], risk), place"""

_PAIRS = """
SELECT a.product_id_a || '/' || a.product_id_b AS key,
       coalesce(x.product_name, a.product_id_a) || ' + ' || coalesce(y.product_name, a.product_id_b)
         AS products,
       a.basket_count AS baskets,
       greatest(a.confidence_a_to_b_pct, a.confidence_b_to_a_pct) / 100 AS share, a.lift
FROM production.agg_baskets_by_product_pair a
LEFT JOIN production.dim_product x ON x.product_id = a.product_id_a AND x.is_current
LEFT JOIN production.dim_product y ON y.product_id = a.product_id_b AND y.is_current
ORDER BY a.basket_count DESC, 1 LIMIT 150"""

_STOCK_BY_RISK = """
SELECT concat_ws(' ', c.stock_risk, p.cost_currency) AS key, c.stock_risk AS risk,
       p.cost_currency AS currency, count(*) AS products,
       sum(c.quantity_on_hand)::bigint AS quantity,
       (sum(c.quantity_on_hand * p.cost_amount) * 100)::bigint AS worth
FROM production.agg_stock_cover_by_store_product c
LEFT JOIN production.dim_product p ON p.product_id = c.product_id AND p.is_current
WHERE p.product_status IS DISTINCT FROM 'discontinued'
GROUP BY c.stock_risk, p.cost_currency
ORDER BY array_position(ARRAY['critical', 'low', 'out', 'overstock', 'ok'], c.stock_risk),
         products DESC"""

_AGAIN_DAYS = (30, 90, 180, 365)

# A cell stays empty until every customer of the month has had so many days.
_COHORTS = f"""
WITH orders AS (
  SELECT DISTINCT f.customer_id, {_currency("f.currency")} AS currency, f.ordered_at
  FROM production.fct_order_lines f
  WHERE NOT f.is_cancelled AND f.customer_id IS NOT NULL AND f.order_date <> '1900-01-01'
), customers AS (
  SELECT o.customer_id, (min(o.ordered_at) AT TIME ZONE 'UTC')::date AS first_day,
         (array_agg(o.ordered_at ORDER BY o.ordered_at))[2] - min(o.ordered_at) AS wait,
         (array_agg(o.currency ORDER BY o.ordered_at))[1] AS currency
  FROM orders o GROUP BY o.customer_id
), newest AS (SELECT max((o.ordered_at AT TIME ZONE 'UTC')::date) AS day FROM orders o)
SELECT concat(to_char(c.first_day, 'YYYY-MM'), ' ', c.currency) AS key,
       to_char(c.first_day, 'YYYY-MM') AS month, c.currency, count(*) AS customers,
       {
    ", ".join(
        f"CASE WHEN max(c.first_day) + {days} < max(n.day) THEN "
        f"avg((c.wait <= interval '{days} days')::int) END AS within_{days}"
        for days in _AGAIN_DAYS
    )
}
FROM (SELECT c.customer_id, c.first_day, c.currency, coalesce(c.wait, 'infinity') AS wait
      FROM customers c) c
CROSS JOIN newest n
GROUP BY to_char(c.first_day, 'YYYY-MM'), c.currency
ORDER BY month DESC, customers DESC LIMIT 72"""

_SEGMENTS = f"""
SELECT concat(c.segment, ' ', c.currency) AS key, c.segment, c.currency, count(*) AS customers,
       (sum(c.monetary_amount) * 100)::bigint AS revenue, round(avg(c.recency_days), 1) AS recency,
       round(avg(c.frequency_count), 2) AS frequency
FROM (SELECT a.segment, {_currency("a.currency")} AS currency, a.monetary_amount, a.recency_days,
             a.frequency_count
      FROM production.agg_rfm_by_customer a) c
GROUP BY c.segment, c.currency ORDER BY revenue DESC"""

SALES = Page(
    "dashboard",
    "Sales",
    _CUBE,
    _MEASURES,
    (
        Section(
            "overview",
            "Overview",
            (
                Cards(
                    ("revenue", "margin", "marginRate", "orders", "basket", "units", "returnRate"),
                    has_headline=True,
                ),
                Trend("revenue", 220),
                Trend("orders", 160),
                Steps(
                    "From list price to what stays",
                    ("gross", "discount", "revenue", "refund", "kept", "tax"),
                ),
                Ranking("category", ("revenue", "marginRate", "returnRate")),
            ),
        ),
        Section(
            "products",
            "Products",
            (
                Ranking("product", ("revenue", "margin", "units", "returnRate"), 10),
                Ranking("vendor", ("revenue", "marginRate")),
                Listing(
                    "pair",
                    "Bought together",
                    _PAIRS,
                    (
                        Column("products", "Products"),
                        Column("baskets", "Orders with both", "count"),
                        Column("share", "Buyers of one who buy the other", "rate", is_wide=True),
                        Column("lift", "Lift", "decimal"),
                    ),
                    "baskets",
                    "Over all orders: follows no filter. Lift: how many times more often than by "
                    "chance.",
                    8,
                ),
            ),
        ),
        Section(
            "customers",
            "Customers",
            (
                Cards(("customers", "repeaters", "repeatRate")),
                Ranking("customer", ("revenue", "orders", "basket")),
                Ranking("payment", ("revenue", "orders")),
                Listing(
                    "cohort",
                    "Customers by the month of their first order",
                    _COHORTS,
                    (
                        Column("month", "First order"),
                        Column("customers", "Customers", "count", has_bar=True),
                        *(
                            Column(f"within_{days}", f"{days} days", "rate", is_wide=days == 180)
                            for days in _AGAIN_DAYS
                        ),
                    ),
                    None,
                    "The share that ordered again within so many days. A month waits for its "
                    "youngest customers. Follows the currency only.",
                    12,
                    {"currency": ("currency",)},
                ),
                Listing(
                    "segment",
                    "Customer segments",
                    _SEGMENTS,
                    (
                        Column("segment", "Segment"),
                        Column("customers", "Customers", "count", has_bar=True),
                        Column("revenue", "Revenue", "amount"),
                        Column("recency", "Days since last order", "decimal", is_wide=True),
                        Column("frequency", "Orders each", "decimal", is_wide=True),
                    ),
                    "revenue",
                    "By how recently, how often and how much customers bought, over all their "
                    "orders: follows the currency only.",
                    12,
                    {"currency": ("currency",)},
                ),
            ),
        ),
        Section(
            "where",
            "Where and when",
            (
                Ranking("place", ("revenue", "marginRate", "orders")),
                Ranking("seller", ("revenue", "marginRate", "orders"), is_flat=True),
                Ranking("device", ("revenue", "basket")),
                Hours(),
            ),
            "Hours and weekdays are the local time of the store. Without a store, or in a country "
            "with several time zones, they are UTC. Days everywhere else are UTC.",
        ),
        Section(
            "stock",
            "Stock",
            (
                Listing(
                    "risk",
                    "Stock by risk",
                    _STOCK_BY_RISK,
                    (
                        Column("risk", "Risk"),
                        Column("products", "Products in stores", "count", has_bar=True),
                        Column("quantity", "On hand", "count"),
                        Column("worth", "Value at cost", "amount"),
                        Column("currency", "Currency of cost", is_wide=True),
                    ),
                    None,
                    "As of now, over all stores and currencies, without discontinued products.",
                    12,
                    currency="currency",
                ),
                Listing(
                    "stock",
                    "Stock at risk",
                    _STOCK,
                    (
                        Column("product", "Product"),
                        Column("store", "Store"),
                        Column("risk", "Risk"),
                        Column("quantity", "On hand", "count"),
                        Column("cover", "Days of cover", "decimal"),
                        Column("sold", "Sold in 28 days", "count", is_wide=True),
                        Column("reorder", "Reorder at", "count", is_wide=True),
                        Column("worth", "Value at cost", "amount", is_wide=True),
                        Column("currency", "Currency of cost", is_wide=True),
                    ),
                    None,
                    "As of now, without discontinued products: the 150 best sellers of each risk. "
                    "Follows the filters of store and category.",
                    10,
                    {"seller": ("channel", "store_id"), "category": ("department", "category_id")},
                    choice="risk",
                    currency="currency",
                ),
            ),
            is_folded=True,
        ),
    ),
)
