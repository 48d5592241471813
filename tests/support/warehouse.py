"""A staging database as dbt and Spark leave it, generated in SQL, for tests of later layers.

It has only the published tables and columns, with plausible, consistent, deterministic rows. Other
tests run dbt and Spark themselves.
"""

from __future__ import annotations

from softcart_assets.connections import PostgresConnection

LAST_ORDERED_AT = "2026-11-15 21:37:12.345678+00"
"""The latest order of the generated warehouse, which is its "now"."""

_FUNCTIONS = """
CREATE FUNCTION pg_temp.pick(seed text, n int) RETURNS int IMMUTABLE LANGUAGE sql
  AS $$ SELECT ((hashtextextended(seed, 0) & 2147483647) % n)::int $$;
CREATE FUNCTION pg_temp.key(natural_key text) RETURNS uuid IMMUTABLE LANGUAGE sql
  AS $$ SELECT md5(natural_key)::uuid $$;
"""

_DIMENSIONS = """
CREATE TABLE warehouse.dim_date AS
SELECT d::date AS date_key, extract(year FROM d)::int AS year,
  extract(quarter FROM d)::int AS quarter,
       extract(month FROM d)::int AS month, date_trunc('month', d)::date AS month_start_date,
       to_char(d, 'FMMonth') AS month_name,
       extract(isoyear FROM d)::int AS iso_year, extract(week FROM d)::int AS iso_week,
       extract(day FROM d)::int AS day_of_month, extract(isodow FROM d)::int AS day_of_week,
       to_char(d, 'FMDay') AS day_name, extract(isodow FROM d) > 5 AS is_weekend
FROM (SELECT timestamp '1900-01-01' AS d
      UNION ALL SELECT generate_series(timestamp '2024-01-01', timestamp '2026-12-31',
        interval '1 day')) days;

CREATE TABLE warehouse.dim_time_of_day AS
SELECT -1 AS time_of_day_key, NULL::int AS hour, NULL::int AS minute, 'unknown' AS day_part
UNION ALL
SELECT m, m / 60, m % 60, (ARRAY['night', 'morning', 'afternoon', 'evening'])[m / 360 + 1]
FROM generate_series(0, 1439) m;

CREATE TABLE warehouse.dim_location AS
SELECT '00000000-0000-0000-0000-000000000000'::uuid AS location_key,
       'Unknown' AS country_code, 'Unknown' AS region, 'Unknown' AS city
UNION ALL
SELECT pg_temp.key(c || r || t), c, r, t
FROM (VALUES ('NL', 'Noord-Holland', 'Amsterdam'), ('NL', 'Utrecht', 'Utrecht'), ('DE', 'Bayern',
  'München'),
             ('DE', 'Berlin', 'Berlin'), ('FR', 'Île-de-France', 'Paris'), ('BE', 'Antwerpen',
               'Antwerpen')
     ) l (c, r, t);

CREATE TABLE warehouse.dim_device AS
SELECT CASE d WHEN 'unknown' THEN '00000000-0000-0000-0000-000000000000'::uuid
  ELSE pg_temp.key(d) END AS device_key,
       d AS device
FROM unnest(ARRAY['laptop', 'mobile', 'tablet', 'in_store', 'unknown']) d;

CREATE TABLE warehouse.dim_vendor AS
SELECT '00000000-0000-0000-0000-000000000000'::uuid AS vendor_key, NULL::bigint AS vendor_id,
  'Unknown' AS vendor_name,
       NULL::text AS country_code, NULL::numeric(3,2) AS rating, NULL::boolean AS is_active
UNION ALL
SELECT pg_temp.key('vendor' || i), i, 'Vendor ' || i, (ARRAY['NL', 'DE', 'FR'])[i % 3 + 1],
       ((i % 50) / 10.0)::numeric(3,2), i % 7 > 0
FROM generate_series(1, 20) i;

CREATE TABLE warehouse.dim_store AS
SELECT '00000000-0000-0000-0000-000000000000'::uuid AS store_key, NULL::bigint AS store_id,
  NULL::text AS store_code,
       'Unknown' AS store_name, 'unknown' AS channel, 'Unknown' AS city, 'Unknown' AS region,
       'Unknown' AS country_code, NULL::date AS opened_date, NULL::date AS closed_date,
       NULL::numeric(8,2) AS floor_area_m2, false AS is_deleted,
         timestamptz '1900-01-01 00:00+00' AS valid_from,
       timestamptz '9999-12-31 00:00+00' AS valid_to, true AS is_current,
         1::bigint AS version_number
UNION ALL
SELECT pg_temp.key('store' || i || v), i, 'S' || lpad(i::text, 3, '0'),
       CASE WHEN i = 1 THEN 'Web shop' ELSE 'Store ' || i || CASE v WHEN 1 THEN ''
         ELSE ' renamed' END END,
       CASE WHEN i = 1 THEN 'online' ELSE 'physical' END, l.city, l.region, l.country_code,
         date '2020-01-01' + i, NULL,
       CASE WHEN i > 1 THEN (100 + i * 12.5)::numeric(8,2) END, false,
       CASE v WHEN 1 THEN timestamptz '1900-01-01 00:00+00'
         ELSE timestamptz '2026-01-15 10:00+00' END,
       CASE WHEN v = 1 AND i = 2 THEN timestamptz '2026-01-15 10:00+00'
         ELSE timestamptz '9999-12-31 00:00+00' END,
       v = 2 OR i <> 2, v
FROM generate_series(1, {stores}) i
CROSS JOIN generate_series(1, 2) v
JOIN (SELECT *, row_number() OVER (ORDER BY city) AS n FROM warehouse.dim_location
  WHERE city <> 'Unknown') l
  ON l.n = i % 6 + 1
WHERE v = 1 OR i = 2;

CREATE TABLE warehouse.dim_employee AS
SELECT '00000000-0000-0000-0000-000000000000'::uuid AS employee_key, NULL::bigint AS employee_id,
       NULL::bigint AS store_id, 'Unknown' AS full_name, NULL::text AS role,
         NULL::date AS hired_date,
       NULL::date AS left_date
UNION ALL
SELECT pg_temp.key('employee' || i), i, i % {stores} + 1, 'Employee ' || i,
       (ARRAY['clerk', 'manager', 'warehouse', 'support'])[i % 4 + 1], date '2021-05-01' + i, NULL
FROM generate_series(1, {stores} * 5) i;

CREATE TABLE warehouse.dim_product AS
SELECT '00000000-0000-0000-0000-000000000000'::uuid AS product_key, NULL::text AS product_id,
       'Unknown' AS product_name, 'Unknown' AS brand, NULL::text AS category_id,
         'Unknown' AS category_name,
       'Unknown' AS department_name, 'Unknown' AS category_path, NULL::bigint AS vendor_id,
       'unknown' AS product_status, NULL::numeric(12,2) AS list_price_amount,
         NULL::numeric(12,2) AS cost_amount, NULL::text AS cost_currency,
       NULL::bigint AS variant_count, NULL::bigint AS weight_grams, false AS is_deleted,
       timestamptz '1900-01-01 00:00+00' AS valid_from, timestamptz '9999-12-31 00:00+00' AS
         valid_to,
       true AS is_current, 1::bigint AS version_number
UNION ALL
SELECT pg_temp.key('product' || i || v), 'P' || lpad(i::text, 6, '0'),
       (ARRAY['Red lamp 💡', 'Desk, "oak"', 'Café chair', 'Phone', 'Kettle'])[i % 5 + 1]
         || ' ' || i,
       'Brand ' || i % 12,
       'c' || i % 12, 'Category ' || i % 12, (ARRAY['Home', 'Electronics', 'Garden'])[i % 3 + 1],
       (ARRAY['Home', 'Electronics', 'Garden'])[i % 3 + 1] || ' > Category ' || i % 12, i % 20 + 1,
         'active',
       (5 + pg_temp.pick('price' || i, 20000) / 100.0 + v)::numeric(12,2),
       (3 + pg_temp.pick('price' || i, 20000) / 200.0)::numeric(12,2), 'EUR', i % 4 + 1,
       i % 900 + 10, false,
       CASE v WHEN 1 THEN timestamptz '1900-01-01 00:00+00'
         ELSE timestamptz '2026-03-01 12:30:00.000001+00' END,
       CASE WHEN v = 1 AND i % 4 = 0 THEN timestamptz '2026-03-01 12:30:00.000001+00'
            ELSE timestamptz '9999-12-31 00:00+00' END, v = 2 OR i % 4 > 0, v
FROM generate_series(1, {products}) i CROSS JOIN generate_series(1, 2) v
WHERE v = 1 OR i % 4 = 0;

CREATE TABLE warehouse.dim_customer AS
SELECT '00000000-0000-0000-0000-000000000000'::uuid AS customer_key,
       NULL::text AS line_of_business, NULL::bigint AS customer_id,
       'Unknown' AS full_name, NULL::text AS email, NULL::text AS phone, NULL::date AS birth_date,
         NULL::text AS gender,
       NULL::text AS loyalty_tier, NULL::boolean AS is_marketing_consented, NULL::text AS city,
         NULL::text AS region,
       NULL::text AS country_code, NULL::text AS postal_code, NULL::timestamptz AS created_at,
         false AS is_deleted,
       timestamptz '1900-01-01 00:00+00' AS valid_from, timestamptz '9999-12-31 00:00+00' AS
         valid_to,
       true AS is_current, 1::bigint AS version_number
UNION ALL
SELECT pg_temp.key('customer' || i || v), 'shop', i, 'Customer ' || i || ' 𝒵é',
       'c' || i || '@example.org', NULL,
       date '1950-01-01' + pg_temp.pick('birth' || i, 20000), (ARRAY['f', 'm', 'x'])[i % 3 + 1],
       (ARRAY['none', 'bronze', 'silver', 'gold'])[i % 4 + 1], i % 2 = 0, l.city, l.region,
         l.country_code,
       (1000 + i % 9000)::text, timestamptz '2023-01-01 00:00+00' + i * interval '1 minute', false,
       CASE v WHEN 1 THEN timestamptz '1900-01-01 00:00+00'
         ELSE timestamptz '2025-12-01 00:00+00' END,
       CASE WHEN v = 1 AND i % 5 = 0 THEN timestamptz '2025-12-01 00:00+00'
            ELSE timestamptz '9999-12-31 00:00+00' END, v = 2 OR i % 5 > 0, v
FROM generate_series(1, {customers}) i
CROSS JOIN generate_series(1, 2) v
JOIN (SELECT *, row_number() OVER (ORDER BY city) AS n FROM warehouse.dim_location
  WHERE city <> 'Unknown') l
  ON l.n = (i + v) % 6 + 1
WHERE v = 1 OR i % 5 = 0;
"""

_FACTS = """
CREATE TEMP TABLE orders AS
SELECT o AS order_id, 1 + pg_temp.pick('customer' || o, {customers}) AS customer_id,
       1 + pg_temp.pick('store' || o, {stores}) AS store_id,
       timestamptz '{last}' - ({orders} - o) * (interval '760 days' / {orders}) AS ordered_at,
       (ARRAY['placed', 'paid', 'shipped', 'delivered', 'delivered', 'delivered', 'delivered',
         'cancelled'])
         [1 + pg_temp.pick('status' || o, 8)] AS status,
       (ARRAY['laptop', 'mobile', 'tablet'])[1 + pg_temp.pick('device' || o, 3)] AS device
FROM generate_series(1, {orders}) o;
ANALYZE orders, warehouse.dim_product, warehouse.dim_customer, warehouse.dim_store;

CREATE TABLE warehouse.fct_order_lines AS
WITH lines AS (
  SELECT o.*, n AS line_number,
         'P' || lpad((1 + pg_temp.pick('product' || o.order_id || '/' || n, {products}))::text, 6,
           '0') AS product_id,
         1 + pg_temp.pick('quantity' || o.order_id || n, 3) AS quantity
  FROM orders o CROSS JOIN LATERAL generate_series(1, 1 + o.order_id % 4) n
), amounts AS (
  SELECT l.*, p.product_key, p.vendor_id, p.list_price_amount AS unit_price,
         (l.quantity * p.list_price_amount)::numeric(14,2) AS gross,
         CASE WHEN l.line_number = 2 THEN round(l.quantity * p.list_price_amount / 10,
           2) ELSE 0 END::numeric(12,2)
           AS discount,
         (l.quantity * p.cost_amount)::numeric(14,2) AS cost,
         CASE WHEN l.status = 'delivered' AND (l.order_id + l.line_number) % 15 = 0 THEN 1
           ELSE 0 END AS returned
  FROM lines l
  JOIN warehouse.dim_product p
    ON p.product_id = l.product_id AND l.ordered_at >= p.valid_from AND l.ordered_at < p.valid_to
)
SELECT pg_temp.key('line' || a.order_id || '-' || a.line_number) AS order_line_key,
  a.order_id::bigint AS order_id,
       a.line_number, c.customer_key, a.product_key, s.store_key,
       CASE WHEN s.channel = 'physical' THEN pg_temp.key('employee' || a.store_id)
            ELSE '00000000-0000-0000-0000-000000000000'::uuid END AS employee_key,
       pg_temp.key('vendor' || a.vendor_id) AS vendor_key,
       CASE WHEN s.channel = 'online' THEN pg_temp.key(c.country_code || c.region || c.city)
            ELSE pg_temp.key(s.country_code || s.region || s.city) END AS location_key,
       pg_temp.key(CASE WHEN s.channel = 'online' THEN a.device ELSE 'in_store' END) AS device_key,
       a.ordered_at::date AS order_date,
       (extract(hour FROM a.ordered_at) * 60 + extract(minute
         FROM a.ordered_at))::int AS time_of_day_key, a.ordered_at,
       a.status AS order_status, a.status = 'cancelled' AS is_cancelled,
         a.quantity::bigint AS quantity,
       a.unit_price AS unit_price_amount, a.gross AS gross_amount, a.discount AS discount_amount,
       (a.gross - a.discount)::numeric(14,2) AS net_amount, round((a.gross - a.discount) * 0.21,
         2) AS tax_amount,
       a.cost AS cost_amount, (a.gross - a.discount - a.cost)::numeric(14,2) AS margin_amount,
       a.returned::bigint AS returned_quantity,
       (a.returned * (a.gross - a.discount) / a.quantity)::numeric(14,2) AS refund_amount,
         'EUR' AS currency,
       a.customer_id::bigint AS customer_id, a.product_id, a.store_id::bigint AS store_id
FROM amounts a
JOIN warehouse.dim_customer c
  ON c.customer_id = a.customer_id AND a.ordered_at >= c.valid_from AND a.ordered_at < c.valid_to
JOIN warehouse.dim_store s ON s.store_id = a.store_id AND a.ordered_at >= s.valid_from
  AND a.ordered_at < s.valid_to;

CREATE TABLE warehouse.fct_returns AS
SELECT pg_temp.key('return' || order_id || '-' || line_number) AS return_key,
       order_id * 10 + line_number AS return_id, order_id, line_number, customer_key, product_key,
       store_key, order_date + 9 AS return_date, time_of_day_key,
       ordered_at + interval '9 days' AS returned_at, order_date, 'late' AS return_reason,
       returned_quantity, refund_amount, currency, customer_id, product_id, store_id
FROM warehouse.fct_order_lines WHERE returned_quantity > 0;

CREATE TABLE warehouse.fct_payments AS
SELECT pg_temp.key('payment' || order_id) AS payment_key, order_id AS payment_id, order_id,
  customer_key, store_key,
       device_key, order_date AS payment_date, time_of_day_key, ordered_at AS paid_at,
       (ARRAY['card', 'paypal', 'bank_transfer', 'voucher', 'cash'])[order_id % 5 + 1] AS
         payment_method,
       CASE WHEN is_cancelled THEN 'failed' ELSE 'captured' END AS payment_status,
       sum(net_amount + tax_amount)::numeric(12,2) AS amount,
       CASE WHEN is_cancelled THEN 0 ELSE sum(net_amount + tax_amount) END::numeric(12,2) AS
         captured_amount,
       'EUR' AS currency, customer_id
FROM warehouse.fct_order_lines
GROUP BY order_id, customer_key, store_key, device_key, order_date, time_of_day_key, ordered_at,
  is_cancelled, customer_id;

CREATE TABLE warehouse.fct_inventory_daily AS
WITH days AS (
  SELECT s.store_id, p.product_id, d::date AS day, s.store_key, p.product_key,
         CASE WHEN (p.version_number + length(p.product_name) + extract(day FROM d)::int) % 14 = 0
           THEN 15 ELSE 0 END
           AS received,
         (extract(doy FROM d)::int * 7 + s.store_id + length(p.brand)) % 2 AS sold,
         pg_temp.pick(p.product_id || s.store_id, 5) AS level
  FROM warehouse.dim_store s
  CROSS JOIN warehouse.dim_product p
  CROSS JOIN generate_series(timestamptz '{last}'::date - 89, timestamptz '{last}'::date,
    interval '1 day') d
  WHERE s.is_current AND p.is_current AND s.store_id IS NOT NULL AND p.product_id IS NOT NULL
), moved AS (
  SELECT *, CASE WHEN level = 0 THEN 0 ELSE 60 * level + sum(received - sold) OVER stock END AS
    closing
  FROM days WINDOW stock AS (PARTITION BY store_id, product_id ORDER BY day)
)
SELECT pg_temp.key(store_id || '/' || product_id || '/' || day) AS inventory_daily_key, store_key,
  product_key,
       store_id, product_id, day AS inventory_date,
       CASE WHEN level = 0 THEN 0 ELSE closing - received + sold END::bigint AS opening_quantity,
       CASE WHEN level = 0 THEN 0 ELSE received END::bigint AS received_quantity,
       CASE WHEN level = 0 THEN 0 ELSE sold END::bigint AS sold_quantity,
         0::bigint AS returned_quantity,
       0::bigint AS transferred_quantity, 0::bigint AS adjusted_quantity,
       closing::bigint AS closing_quantity, closing <= 0 AS is_out_of_stock
FROM moved;
"""

_AGGREGATES = """
CREATE TABLE aggregates.agg_sales_by_category_month AS
WITH months AS (
  SELECT p.category_id, p.category_name, p.department_name, f.currency, date_trunc('month',
    f.order_date)::date AS month,
         count(DISTINCT f.order_id) AS order_count, sum(f.quantity)::bigint AS units_count,
         sum(f.net_amount)::numeric(18,2) AS net_amount, sum(f.margin_amount)::numeric(18,2) AS
           margin_amount
  FROM warehouse.fct_order_lines f JOIN warehouse.dim_product p USING (product_key)
  WHERE NOT f.is_cancelled
  GROUP BY 1, 2, 3, 4, 5
)
SELECT m.*, y.net_amount AS net_amount_previous_year,
       round((m.net_amount - y.net_amount) * 100 / abs(y.net_amount),
         2)::numeric(9,2) AS net_amount_yoy_pct
FROM months m LEFT JOIN months y ON y.category_id = m.category_id AND y.currency = m.currency
  AND y.month = m.month - interval '1 year';

CREATE TABLE aggregates.agg_rfm_by_customer AS
WITH customers AS (
  SELECT customer_id, min(currency) AS currency, max(order_date) AS last_order_date,
         (timestamptz '{last}'::date - max(order_date))::bigint AS recency_days,
         count(DISTINCT order_id) AS frequency_count, sum(net_amount)::numeric(18,2) AS
           monetary_amount
  FROM warehouse.fct_order_lines WHERE NOT is_cancelled GROUP BY 1
), scores AS (
  SELECT *, ntile(5) OVER (ORDER BY recency_days DESC) AS recency_score,
         ntile(5) OVER (ORDER BY frequency_count) AS frequency_score,
         ntile(5) OVER (ORDER BY monetary_amount) AS monetary_score
  FROM customers
)
SELECT *, (ARRAY['lost', 'at risk', 'promising', 'loyal', 'champion'])[recency_score] AS segment
  FROM scores;

CREATE TABLE aggregates.agg_baskets_by_product_pair AS
WITH baskets AS (SELECT DISTINCT order_id, product_id FROM warehouse.fct_order_lines
  WHERE NOT is_cancelled),
     totals AS (SELECT count(DISTINCT order_id) AS n FROM baskets),
     singles AS (SELECT product_id, count(*) AS n FROM baskets GROUP BY 1)
SELECT a.product_id AS product_id_a, b.product_id AS product_id_b, count(*) AS basket_count,
       (count(*) * 100.0 / t.n)::numeric(9,4) AS support_pct,
       (count(*) * 100.0 / sa.n)::numeric(9,4) AS confidence_a_to_b_pct,
       (count(*) * 100.0 / sb.n)::numeric(9,4) AS confidence_b_to_a_pct,
       (count(*) * t.n::numeric / sa.n / sb.n)::numeric(18,4) AS lift, 0::bigint AS left_out_count
FROM baskets a
JOIN baskets b ON b.order_id = a.order_id AND a.product_id < b.product_id
JOIN singles sa ON sa.product_id = a.product_id
JOIN singles sb ON sb.product_id = b.product_id
CROSS JOIN totals t
GROUP BY a.product_id, b.product_id, t.n, sa.n, sb.n
ORDER BY basket_count DESC, 1, 2
LIMIT 500;

CREATE TABLE aggregates.agg_orders_by_device_weekday_hour AS
SELECT f.currency, d.device, extract(isodow FROM f.ordered_at)::bigint AS weekday,
  extract(hour FROM f.ordered_at)::bigint AS hour,
       count(DISTINCT f.order_id) AS order_count, sum(f.net_amount)::numeric(18,2) AS net_amount
FROM warehouse.fct_order_lines f JOIN warehouse.dim_device d USING (device_key)
WHERE NOT f.is_cancelled
GROUP BY 1, 2, 3, 4;

CREATE TABLE aggregates.agg_stock_cover_by_store_product AS
WITH stock AS (
  SELECT i.store_id, i.product_id, i.closing_quantity AS quantity_on_hand,
    20::bigint AS reorder_point,
         sold.quantity AS sold_quantity_28d
  FROM warehouse.fct_inventory_daily i
  JOIN (SELECT store_id, product_id, sum(sold_quantity)::bigint AS quantity
    FROM warehouse.fct_inventory_daily
        WHERE inventory_date > timestamptz '{last}'::date - 28 GROUP BY 1, 2) sold USING (store_id,
          product_id)
  WHERE i.inventory_date = timestamptz '{last}'::date
)
SELECT *, (sold_quantity_28d / 28.0)::numeric(18,4) AS daily_sales_avg,
       (quantity_on_hand * 28.0 / nullif(sold_quantity_28d, 0))::numeric(18,1) AS cover_days,
       CASE WHEN quantity_on_hand <= 0 THEN 'out' WHEN quantity_on_hand < 60 THEN 'critical'
            WHEN quantity_on_hand < 130 THEN 'low' WHEN quantity_on_hand < 220 THEN 'ok'
              ELSE 'overstock' END
         AS stock_risk
FROM stock;
"""


def create_warehouse(connection: PostgresConnection, orders: int = 2000) -> None:
    """Create and fill the schemas `warehouse` and `aggregates`, with 2.5 lines per order.

    The other tables have the proportions of the seed data: 60,000 orders go with 600 products and
    12 stores.
    """
    scale = orders / 60_000
    sizes = {
        "orders": orders,
        "customers": max(10, orders // 6),
        "products": max(10, round(600 * scale ** (0.75 if scale < 1 else 0.5))),
        "stores": max(3, round(12 * scale ** (1 / 3))),
    }
    with connection.connect() as session:
        session.execute("CREATE SCHEMA warehouse; CREATE SCHEMA aggregates")
        for part in (_FUNCTIONS, _DIMENSIONS, _FACTS, _AGGREGATES):
            for name, value in {"last": LAST_ORDERED_AT, **sizes}.items():
                part = part.replace(f"{{{name}}}", str(value))
            session.execute(part)
