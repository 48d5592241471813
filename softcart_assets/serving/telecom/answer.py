"""What the call centre is told about a caller: one SELECT over raw tables and running totals.

Counts are JSON numbers. Amounts and megabytes are decimals, and texts in JSON.
"""

from __future__ import annotations

_PERSON = """
SELECT s.id, s.customer_id, s.account_id, s.plan_id, s.msisdn, s.kind, s.state, s.region,
  s.time_zone, s.activated_at, s.cancelled_at,
  coalesce(b.cycle_day, 1)::integer AS cycle_day, coalesce(b.time_zone, s.time_zone) AS cycle_zone
FROM raw_crm.subscribers AS s
{join}
LEFT JOIN raw_billing.bill_cycles AS b ON b.account_id = s.account_id AND NOT b._deleted
WHERE NOT s._deleted
"""
# Prepaid subscribers have no bill. Their cycle is the month.

_USAGE = """
span AS MATERIALIZED (
  SELECT c.starts_at AS cycle_from, c.ends_at AS cycle_until,
    d.starts_at AS day_from, d.ends_at AS day_until
  FROM person AS p, ods.cycle(p.cycle_day, p.cycle_zone, now()) AS c,
    ods.local_day(p.time_zone, now()) AS d
),
spans AS (
  SELECT 1 AS n, 'day' AS name, day_from AS starts_at, day_until AS ends_at FROM span
  UNION ALL SELECT 2, 'cycle', cycle_from, cycle_until FROM span
),
used AS (
  SELECT w.n, w.name, w.starts_at, w.ends_at, c.calls, c.seconds, s.sms, s.parts, d.sessions,
    d.megabytes, m.charged
  FROM person AS p
  CROSS JOIN spans AS w
  LEFT JOIN LATERAL ods.calls_out_between(p.id, w.starts_at, w.ends_at) AS c ON true
  LEFT JOIN LATERAL ods.sms_out_between(p.id, w.starts_at, w.ends_at) AS s ON true
  LEFT JOIN LATERAL ods.data_used_between(p.id, w.starts_at, w.ends_at) AS d ON true
  LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object('amount', b.amount::text, 'currency', b.currency)
      ORDER BY b.currency) AS charged
    FROM ods.charged_between(p.id, w.starts_at, w.ends_at) AS b
  ) AS m ON true
  UNION ALL
  SELECT 3, 'life', NULL, NULL, c.calls, c.seconds, s.sms, s.parts, d.sessions, d.megabytes,
    m.charged
  FROM person AS p
  LEFT JOIN ods.calls_out AS c ON c.subscriber_id = p.id AND c.bucket = '-infinity'
  LEFT JOIN ods.sms_out AS s ON s.subscriber_id = p.id AND s.bucket = '-infinity'
  LEFT JOIN ods.data_used AS d ON d.subscriber_id = p.id AND d.bucket = '-infinity'
  LEFT JOIN LATERAL (
    SELECT json_agg(json_build_object('amount', b.amount::text, 'currency', b.currency)
      ORDER BY b.currency) AS charged
    FROM ods.charged AS b
    WHERE b.subscriber_id = p.id AND b.bucket = '-infinity' AND b._rows > 0
  ) AS m ON true
),
totals AS (
  SELECT json_object_agg(name, json_build_object(
    'starts_at', starts_at, 'ends_at', ends_at,
    'calls', coalesce(calls, 0)::bigint, 'call_seconds', coalesce(seconds, 0)::bigint,
    'sms', coalesce(sms, 0)::bigint, 'sms_parts', coalesce(parts, 0)::bigint,
    'data_sessions', coalesce(sessions, 0)::bigint,
    'megabytes', coalesce(megabytes, 0)::text, 'charged', coalesce(charged, '[]')) ORDER BY n)
    AS found
  FROM used
)
"""

_ACCOUNT = """
SELECT json_build_object(
  'id', a.id, 'state', a.state, 'currency', a.currency,
  'cycle_day', p.cycle_day, 'time_zone', p.cycle_zone,
  'limit', l.limit_amount::text, 'used', u.used::text, 'left', (l.limit_amount - u.used)::text,
  'unpaid', coalesce(n.amount, 0)::text, 'unpaid_invoices', coalesce(n.invoices, 0)::bigint)
FROM raw_billing.accounts AS a
LEFT JOIN raw_billing.credit_limits AS l ON l.account_id = a.id AND NOT l._deleted
LEFT JOIN ods.unpaid AS n
  ON n.account_id = a.id AND n.bucket = '-infinity' AND n.currency = a.currency
CROSS JOIN LATERAL (
  SELECT coalesce(sum(m.amount), 0) AS used
  FROM raw_crm.subscribers AS o
  CROSS JOIN span
  CROSS JOIN LATERAL ods.charged_between(o.id, span.cycle_from, span.cycle_until) AS m
  WHERE o.account_id = a.id AND NOT o._deleted AND m.currency = a.currency
) AS u
WHERE a.id = p.account_id AND NOT a._deleted
"""

_PREPAID = """
SELECT json_build_object('amount', b.amount::text, 'currency', b.currency, 'last_top_up', (
  SELECT json_build_object('at', t.topped_up_at AT TIME ZONE 'UTC', 'amount', t.amount::text,
    'currency', t.currency, 'channel', t.channel)
  FROM ods.last_top_up(p.id) AS t))
FROM raw_charging.balances AS b
WHERE b.subscriber_id = p.id AND NOT b._deleted
"""

_BILL = """
SELECT json_build_object('number', i.number, 'period_start', i.period_start,
  'period_end', i.period_end, 'issued_on', i.issued_on, 'due_on', i.due_on,
  'amount', i.total_amount::text, 'currency', i.currency, 'state', i.state)
FROM ods.last_invoice(p.account_id) AS i
"""

# A call may be recorded twice: the record with the smallest key counts, as in the totals. OFFSET
# keeps the planner from reading all records for a join. The whole number at the other end is
# nothing that an agent needs.
_CALLS = """
SELECT json_agg(json_build_object('at', c.started_at AT TIME ZONE 'UTC', 'direction', c.direction,
  'other', '…' || right(c.other_msisdn, 3), 'seconds', c.duration_seconds::bigint,
  'termination', c.termination) ORDER BY c.started_at DESC, c.id DESC)
FROM (
  SELECT * FROM raw_signaling.call_records AS c
  WHERE c.subscriber_id = p.id AND NOT c._deleted AND c.started_at IS NOT NULL AND NOT EXISTS (
    SELECT FROM raw_signaling.call_records AS o
    WHERE o.event_id = c.event_id AND o.direction = c.direction AND o.id < c.id AND NOT o._deleted
    OFFSET 0)
  ORDER BY c.started_at DESC, c.id DESC LIMIT 5
) AS c
"""

_COMPLAINTS = """
SELECT json_agg(json_build_object('opened_at', c.opened_at AT TIME ZONE 'UTC',
  'category', c.category, 'state', c.state, 'closed_at', c.closed_at AT TIME ZONE 'UTC')
  ORDER BY c.opened_at DESC, c.id DESC)
FROM (
  SELECT * FROM raw_crm.complaints AS c
  WHERE c.subscriber_id = p.id AND NOT c._deleted AND c.opened_at IS NOT NULL
  ORDER BY c.opened_at DESC, c.id DESC LIMIT 3
) AS c
"""

FUNCTIONS = """
CREATE OR REPLACE FUNCTION serving.churn(wanted bigint) RETURNS json LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF to_regclass('ml.churn_scores') IS NULL THEN
    RETURN NULL;
  END IF;
  RETURN (
    SELECT json_build_object('month', s.month, 'probability_pct', s.probability_pct::text,
      'decile', s.decile,
      'reasons', array_to_json(array_remove(ARRAY[s.reason_1, s.reason_2, s.reason_3], NULL)),
      'cut_off_date', s.cut_off_date, 'model_version', s.model_version)
    FROM ml.churn_scores AS s WHERE s.subscriber_id = wanted);
END $$;

CREATE OR REPLACE FUNCTION serving.words(name text) RETURNS tsvector LANGUAGE plpgsql
IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS $$
BEGIN
  RETURN array_to_tsvector(array_remove(
    regexp_split_to_array(lower(left(name, 500)), '[[:space:][:punct:]$+<=>^`|~]+'), ''));
END $$;

CREATE OR REPLACE FUNCTION serving.beginnings(words text) RETURNS tsquery LANGUAGE sql
IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT string_agg(quote_literal(w.lexeme) || ':*', ' & ')::tsquery
  FROM unnest(serving.words(words)) AS w
$$;

DO $$
BEGIN
  IF to_regclass('raw_crm.customers') IS NOT NULL
    AND to_regclass('raw_crm.desk_customers_by_name') IS NULL THEN
    CREATE INDEX desk_customers_by_name ON raw_crm.customers
      USING gin (serving.words(full_name));
  END IF;
END $$
"""
# There are no scores before the model is trained, and a statement cannot name a table that is
# missing. A function can, as long as it does not come there.
# Names are found by an index of their words. pg_trgm would find any part of a name, but not every
# PostgreSQL has it. The parser of texts would take `Ada.Lovelace` for a host, so words are split
# here, also at signs that ICU does not take for punctuation. A word has a limit of 2046 bytes,
# which no row of raw may fail at. The cost keeps the planner from trying all rows. The index is
# asked for before, because the statement would lock the table.

ANSWER = f"""
WITH {_USAGE}
SELECT json_build_object(
  'subscriber', json_build_object('id', p.id, 'number', p.msisdn, 'kind', p.kind,
    'state', p.state, 'region', p.region, 'time_zone', p.time_zone,
    'activated_at', p.activated_at AT TIME ZONE 'UTC',
    'cancelled_at', p.cancelled_at AT TIME ZONE 'UTC'),
  'customer', (
    SELECT json_build_object('id', c.id, 'name', c.full_name, 'kind', c.kind, 'city', c.city,
      'country_code', c.country_code, 'email', c.email,
      'since', c.created_at AT TIME ZONE 'UTC')
    FROM raw_crm.customers AS c WHERE c.id = p.customer_id AND NOT c._deleted),
  'plan', (
    SELECT json_build_object('id', n.id, 'code', n.code, 'name', n.name,
      'monthly_fee', n.monthly_fee::text, 'currency', n.currency,
      'included_minutes', n.included_minutes::bigint, 'included_sms', n.included_sms::bigint,
      'included_megabytes', n.included_mb::text)
    FROM raw_crm.plans AS n WHERE n.id = p.plan_id AND NOT n._deleted),
  'totals', (SELECT found FROM totals),
  'account', ({_ACCOUNT}),
  'balance', ({_PREPAID}),
  'bill', ({_BILL}),
  'open_complaints', coalesce((
    SELECT o.complaints FROM ods.open_complaints AS o
    WHERE o.subscriber_id = p.id AND o.bucket = '-infinity'), 0)::bigint,
  'complaints', coalesce(({_COMPLAINTS}), '[]'),
  'last_calls', coalesce(({_CALLS}), '[]'),
  'churn', CASE WHEN p.state <> 'cancelled' THEN serving.churn(p.id) END
) AS answer
FROM person AS p
"""

TABLES = (
    *(("crm", name) for name in ("customers", "plans", "subscribers", "complaints")),
    *(("billing", name) for name in ("accounts", "bill_cycles", "credit_limits", "invoices")),
    *(("charging", name) for name in ("balances", "charges", "top_ups")),
    *(("signaling", name) for name in ("call_records", "sms_records", "data_sessions")),
)
PEOPLE = {
    "number": _PERSON.format(join="JOIN ods.subscriber_of_number(%(wanted)s) AS w ON w.id = s.id"),
    "key": _PERSON.format(join="JOIN (SELECT %(wanted)s::bigint) AS w (id) ON w.id = s.id"),
}
NAMES = """
SELECT * FROM (
  SELECT s.id, c.full_name AS name, concat_ws(', ', c.city, c.country_code) AS place,
    n.name AS plan, s.state, '…' || right(s.msisdn, 3) AS ending
  FROM raw_crm.customers AS c
  JOIN raw_crm.subscribers AS s ON s.customer_id = c.id AND NOT s._deleted
  LEFT JOIN raw_crm.plans AS n ON n.id = s.plan_id AND NOT n._deleted
  WHERE serving.words(c.full_name) @@ serving.beginnings(%(wanted)s) AND NOT c._deleted
  LIMIT 200
) AS found
ORDER BY name, id
"""
# Whoever writes the beginning of a common name gets some of the many.
ABOUT = "Place", "Plan", "State", "Number"
