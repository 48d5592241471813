"""The published tables of the fitness application and what its page reads of the shop, small and
made by SQL.
"""

from __future__ import annotations

from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing import slots

_TABLES = """
INSERT INTO production_meta.current SELECT true, 7, 0, pg_current_xact_id(), now(), '{}';

CREATE FUNCTION production.dice(seed text) RETURNS float8 LANGUAGE sql IMMUTABLE AS
$$ SELECT ('x' || left(md5(seed), 7))::bit(28)::int / 268435456.0 $$;

CREATE TABLE production.dim_customer AS
SELECT md5('i' || u)::uuid AS customer_key, md5('p' || u)::uuid AS person_id,
       'inspire' AS line_of_business, u::bigint AS customer_id,
       (ARRAY['Riga', 'Riga', 'Liepāja', 'Cēsis', NULL])[1 + u % 5] AS region,
       CASE WHEN u % 10 = 0 THEN NULL ELSE date '2009-06-01' - (u * 83) % 25000 END AS birth_date,
       timestamptz '2023-06-01 10:00+00' + u % 300 * interval '2 days' AS created_at,
       u % 97 = 0 AS is_deleted, true AS is_current
FROM generate_series(1, 260) u
-- An older version of a person must not double anything.
UNION ALL SELECT md5('old')::uuid, md5('p1')::uuid, 'inspire', 1, 'Talsi', NULL, '2023-06-01',
                 false, false
-- Every second person is a customer of the shop, who has the same keys as others here.
UNION ALL
SELECT md5('s' || c)::uuid, md5('p' || 2 * c)::uuid, 'shop', c::bigint, 'Riga', NULL,
       timestamptz '2023-01-01', false, true
FROM generate_series(1, 130) c;

CREATE TABLE production.dim_time_of_day AS
SELECT n AS time_of_day_key, n / 60 AS hour FROM generate_series(0, 1439) n
UNION ALL SELECT -1, NULL;

CREATE TABLE production.dim_fitness_goal AS
SELECT * FROM (VALUES ('none', 'No goal'), ('run_5k', 'Run 5 km'),
                      ('build_strength', 'Build strength')) g (goal_code, name);

CREATE TABLE production.fct_activity AS
SELECT md5(u || ' ' || d)::uuid AS workout_key, md5('i' || u)::uuid AS customer_key,
       u AS customer_id,
       date '2024-01-01' + d AS activity_date,
       CASE WHEN u % 71 = 0 THEN -1
            ELSE 60 * (CASE WHEN u % 3 = 0 THEN 8 ELSE 18 END + (u + d) % 5) + u % 60 END
         AS time_of_day_key,
       (600 + u * 7 + d)::bigint AS duration_seconds
FROM generate_series(1, 260) u CROSS JOIN generate_series(0, 799) d
WHERE production.dice(u || ':' || d) <
  -- People differ, and so do months.
  (0.02 + 0.5 * production.dice('rate' || u)) * (1 + 0.3 * cos((d + 10) / 58.1))
  AND d > u % 300
-- A date is implausible.
UNION ALL SELECT md5('odd')::uuid, md5('i4')::uuid, 4, '1900-01-01', -1, 60;

CREATE TABLE production.agg_engagement_by_user_month AS
SELECT customer_id::bigint AS user_id, date_trunc('month', activity_date)::date AS month,
       (ARRAY['Riga', 'Riga', 'Liepāja', 'Cēsis', 'Unknown'])[1 + customer_id % 5] AS region,
       (ARRAY['build_strength', 'run_5k', 'none'])[1 + customer_id / 2 % 3] AS goal_code,
       count(*) AS workout_count, count(DISTINCT activity_date) AS active_days,
       sum(duration_seconds)::bigint AS duration_seconds, (count(*) * 1000.5)::numeric(24, 3)
         AS distance_m,
       count(*) / 2 AS session_count, count(*) * 3 AS page_views,
       max(activity_date)::timestamptz AS latest_at
FROM production.fct_activity GROUP BY customer_id, 2
UNION ALL
-- Somebody looked at the page and did not train.
SELECT 3, '2025-11-01', 'Cēsis', 'none', 0, 0, 0, 0, 2, 9, '2025-11-05';

CREATE TABLE production.agg_peak_hours_by_zone_age_hour AS
SELECT zone AS time_zone, band AS age_band, hour, 10::bigint AS workout_count,
       3::bigint AS weekend_workout_count, 20::bigint AS people_count, hour = best AS is_best
FROM (VALUES ('all', 'all', 18), ('all', '30s', 18), ('all', '60s', 8), ('Europe/Riga', '60s', 9))
  b (zone, band, best)
CROSS JOIN generate_series(6, 20) hour;

CREATE TABLE production.dim_product AS
SELECT 'P' || n AS product_id, (ARRAY['Sports', 'Books', 'Home', NULL])[1 + n % 4]
         AS department_name, true AS is_current
FROM generate_series(1, 8) n
UNION ALL SELECT 'P1', 'Toys', false;

CREATE TABLE production.fct_order_lines AS
SELECT l AS order_line_id, (1 + l % 130)::bigint AS customer_id,
       'P' || 1 + CASE WHEN l % 130 % 3 = 0 AND l % 2 = 0 THEN 3 ELSE l % 8 END AS product_id,
       l % 19 = 0 AS is_cancelled
FROM generate_series(1, 400) l;

CREATE TABLE production.agg_rfm_by_customer AS
SELECT c::bigint AS customer_id,
       CASE WHEN c % 10 < 5 THEN 'Champions' WHEN c % 10 < 9 THEN 'Loyal' ELSE 'Lost' END AS segment
FROM generate_series(1, 130) c;

CREATE TABLE production.fct_messages AS
SELECT m AS message_id, date '2026-01-01' + m % 60 AS message_date,
       CASE WHEN m % 4 = 0 THEN 'sms' ELSE 'email' END AS channel,
       (ARRAY['reminder', 'quote'])[1 + m % 2] AS purpose,
       CASE WHEN m % 9 > 0 THEN timestamptz '2026-01-01' END AS sent_at, m % 9 > 1 AS is_delivered,
       m % 3 = 0 AS is_opened, m % 8 = 0 AS is_clicked, m % 50 = 0 AS is_unsubscribed
FROM generate_series(1, 300) m;
"""


def create_training(connection: PostgresConnection) -> None:
    """Create the tables in `production`, as version 7."""
    with connection.connect() as session:
        slots.set_up(session)
        session.execute(_TABLES)
