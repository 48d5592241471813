"""The published tables of the mobile operator, small and made by SQL, for its page and extracts."""

from __future__ import annotations

from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing import slots

_TABLES = """
INSERT INTO production_meta.current SELECT true, 7, 0, pg_current_xact_id(), now(), '{}';

CREATE TABLE production.dim_plan AS
SELECT md5(n::text)::uuid AS plan_key, n::bigint AS plan_id, 'P' || n AS plan_code,
       'Plan ' || n AS plan_name, CASE WHEN n % 2 = 0 THEN 'prepaid' ELSE 'postpaid' END
         AS plan_kind, true AS is_current
FROM generate_series(1, 4) n
-- An older version of a plan must not double anything.
UNION ALL SELECT md5('old')::uuid, 1, 'P1', 'Plan old', 'postpaid', false
UNION ALL SELECT '00000000-0000-0000-0000-000000000000', NULL, NULL, 'Unknown', 'unknown', true;

CREATE TABLE production.dim_subscriber AS
SELECT s::bigint AS subscriber_id, (1 + s % 4)::bigint AS plan_id,
       CASE WHEN s % 4 IN (0, 2) THEN 100 + s END::bigint AS account_id,
       CASE s % 3 WHEN 0 THEN 'Riga' WHEN 1 THEN 'Liepāja' ELSE 'Cēsis' END AS region,
       'Europe/Riga' AS time_zone, true AS is_current
FROM generate_series(1, 40) s;

CREATE TABLE production.fct_charges AS
SELECT c::bigint AS charge_id, s.subscriber_id, s.account_id, s.plan_id,
       (ARRAY['fee', 'voice', 'data', 'sms', 'roaming'])[1 + c % 5] AS charge_kind,
       -- One in 17 is a reversal.
       ((c % 997) * CASE WHEN c % 17 = 0 THEN -1 ELSE 1 END / 100.0)::numeric(12, 2) AS amount,
       CASE WHEN s.plan_id = 4 THEN 'USD' ELSE 'EUR' END AS currency,
       timestamptz '2026-03-09 12:00+00' - c * interval '4 hours' AS event_at,
       timestamptz '2026-03-09 12:00+00' - c * interval '4 hours' AS recorded_at,
       c % 17 = 0 AS is_correction
FROM generate_series(1, 4000) c
JOIN production.dim_subscriber s ON s.subscriber_id = 1 + c % 40
UNION ALL
-- Nobody knows the subscriber. A date is implausible.
SELECT 5001, 99, NULL, NULL, 'voice', 0.01, 'EUR', timestamptz '2026-02-01 00:00+00',
       timestamptz '2026-02-01 00:00+00', false
UNION ALL SELECT 5002, 1, NULL, 2, 'voice', 0.07, 'EUR', timestamptz '1900-01-01 00:00+00',
       timestamptz '2026-02-01 00:00+00', false;

CREATE TABLE production.fct_calls AS
SELECT md5(c::text)::uuid AS call_key, s.subscriber_id, s.plan_id,
       CASE WHEN c % 3 = 0 THEN 'in' ELSE 'out' END AS direction, c % 11 = 0 AS is_dropped,
       (c % 300)::integer AS duration_seconds,
       timestamptz '2026-03-09 12:00+00' - c * interval '5 hours' AS started_at
FROM generate_series(1, 3000) c
JOIN production.dim_subscriber s ON s.subscriber_id = 1 + c % 40;

CREATE TABLE production.fct_invoices AS
SELECT i::bigint AS invoice_line_id, i::bigint / 2 AS invoice_id, s.subscriber_id, s.account_id,
       coalesce(p.plan_key, '00000000-0000-0000-0000-000000000000') AS plan_key, 'EUR' AS currency,
       (ARRAY['fee', 'usage', 'adjustment'])[1 + i % 3] AS invoice_line_kind,
       (ARRAY['open', 'paid', 'overdue'])[1 + i % 3] AS invoice_state,
       date '2026-02-08' - i AS issued_date, date '2026-01-05' - i AS period_start_date,
       date '2026-02-05' - i AS period_end_date,
       (i % 91 / 100.0)::numeric(12, 2) AS net_amount,
       (i % 19 / 100.0)::numeric(12, 2) AS tax_amount
FROM generate_series(1, 60) i
JOIN production.dim_subscriber s ON s.subscriber_id = 2 * (1 + i % 20) AND s.account_id IS NOT NULL
LEFT JOIN production.dim_plan p ON p.plan_id = s.plan_id AND p.is_current;

CREATE TABLE production.agg_usage_by_plan_region_month AS
WITH events AS (
  SELECT subscriber_id, event_at AS at, charge_kind, amount, currency, NULL::bigint AS seconds,
         NULL::boolean AS is_dropped
  FROM production.fct_charges
  UNION ALL
  SELECT subscriber_id, started_at, NULL, NULL, NULL, duration_seconds, is_dropped
  FROM production.fct_calls WHERE direction = 'out'
)
SELECT coalesce(e.currency, CASE s.plan_id WHEN 4 THEN 'USD' ELSE 'EUR' END)
         AS currency,
       coalesce(s.plan_id, 0) AS plan_id, coalesce(s.region, 'Unknown') AS region,
       date_trunc('month', e.at AT TIME ZONE 'UTC')::date AS month,
       count(DISTINCT e.subscriber_id) AS subscriber_count, count(e.seconds) AS call_count,
       count(*) FILTER (WHERE e.is_dropped) AS dropped_call_count,
       coalesce(sum(e.seconds), 0)::bigint AS call_seconds, count(*) / 3 AS sms_count,
       (count(*) * 1.001)::numeric(24, 3) AS data_mb,
       coalesce(sum(e.amount) FILTER (WHERE e.charge_kind = 'voice'), 0)::numeric(24, 2)
         AS voice_amount,
       coalesce(sum(e.amount) FILTER (WHERE e.charge_kind = 'sms'), 0)::numeric(24, 2)
         AS sms_amount,
       coalesce(sum(e.amount) FILTER (WHERE e.charge_kind = 'data'), 0)::numeric(24, 2)
         AS data_amount,
       coalesce(sum(e.amount) FILTER (WHERE e.charge_kind = 'roaming'), 0)::numeric(24, 2)
         AS roaming_amount,
       coalesce(sum(e.amount) FILTER (WHERE e.charge_kind = 'fee'), 0)::numeric(24, 2)
         AS fee_amount,
       coalesce(sum(e.amount), 0)::numeric(24, 2) AS charged_amount,
       count(*) / 7 AS complaint_count, count(*) / 9 AS network_complaint_count,
       count(*) / 11 AS open_complaint_count, count(*) / 13 AS dispute_count,
       (count(*) / 13 * 1.11)::numeric(24, 2) AS dispute_amount,
       (count(*) / 31 * 1.11)::numeric(24, 2) AS open_dispute_amount, max(e.at) AS latest_at
FROM events e LEFT JOIN production.dim_subscriber s USING (subscriber_id)
GROUP BY 1, 2, 3, 4;
"""


def create_mobile(connection: PostgresConnection) -> None:
    """Create the tables in `production`, as version 7."""
    with connection.connect() as session:
        slots.set_up(session)
        session.execute(_TABLES)
