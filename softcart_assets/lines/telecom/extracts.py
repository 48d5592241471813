"""The extracts of the mobile operator. Each names its grain.

A figure that must not be added up over rows says so. Amounts of several currencies are never added
up: each row is of one `currency`. Months are UTC. An implausible date is in the month 1900-01.
"""

from __future__ import annotations

from softcart_assets.lines.model import Extract

_CURRENCY = {
    "currency": "Currency of the amounts, ISO 4217. XXX if the plan or invoice is missing."
}

_PLAN = {
    "plan_code": "Code of the plan; empty if nobody knows it.",
    "plan_name": "Its name.",
    "plan_kind": "prepaid or postpaid.",
}

_CHARGED = "FROM production.fct_charges WHERE account_id IS NOT NULL"
_CALLED = "FROM production.fct_calls WHERE direction = 'out'"
# Nobody pays an invoice that is cancelled.
_IS_BILLED = "invoice_line_kind IN ('fee', 'usage') AND invoice_state <> 'cancelled'"
_BILLED = f"FROM production.fct_invoices WHERE {_IS_BILLED}"
_MONTHS = "FROM production.agg_usage_by_plan_region_month"

# Invoices have days in the account's time zone, and events an instant. No published table has the
# zone of the bill cycle, so that of the subscriber today stands for it.
UNBILLED = f"""
WITH cycles AS (
  SELECT i.subscriber_id,
         i.period_start_date::timestamp AT TIME ZONE coalesce(max(z.time_zone), 'UTC')
           AS started_at,
         i.period_end_date::timestamp AT TIME ZONE coalesce(max(z.time_zone), 'UTC') AS ended_at,
         max(i.issued_date)::timestamp AT TIME ZONE coalesce(max(z.time_zone), 'UTC') AS issued_at
  FROM production.fct_invoices i
  LEFT JOIN production.dim_subscriber z ON z.subscriber_id = i.subscriber_id AND z.is_current
  WHERE {_IS_BILLED}
  GROUP BY i.subscriber_id, i.period_start_date, i.period_end_date
)
SELECT t.currency, coalesce(s.plan_id, 0) AS plan_id, coalesce(p.plan_code, '') AS plan_code,
       coalesce(p.plan_name, 'Unknown') AS plan_name, coalesce(p.plan_kind, 'unknown') AS plan_kind,
       coalesce(s.region, 'Unknown') AS region,
       sum(t.charged)::numeric(24, 2) AS charged_amount,
       sum(t.billed)::numeric(24, 2) AS billed_amount,
       (sum(t.charged) - sum(t.billed))::numeric(24, 2) AS unbilled_amount,
       (sum(t.due) - sum(t.billed) - sum(t.corrected))::numeric(24, 2) AS missed_amount,
       sum(t.corrected)::numeric(24, 2) AS corrected_amount
FROM (
  SELECT c.currency, c.subscriber_id, c.amount AS charged, 0 AS billed,
         CASE WHEN c.event_at < last_cycle.ended_at THEN c.amount ELSE 0 END AS due,
         0 AS corrected
  FROM production.fct_charges c
  LEFT JOIN (
    SELECT subscriber_id, max(ended_at) AS ended_at FROM cycles GROUP BY subscriber_id
  ) last_cycle ON last_cycle.subscriber_id = c.subscriber_id
  WHERE c.account_id IS NOT NULL
  UNION ALL
  SELECT i.currency, i.subscriber_id, 0, i.net_amount, 0, 0
  FROM production.fct_invoices i WHERE {_IS_BILLED}
  UNION ALL
  SELECT c.currency, c.subscriber_id, 0, 0, 0, c.amount
  FROM production.fct_charges c
  WHERE c.account_id IS NOT NULL AND c.is_correction AND EXISTS (
    SELECT FROM cycles
    WHERE cycles.subscriber_id = c.subscriber_id AND c.event_at >= cycles.started_at
      AND c.event_at < cycles.ended_at AND c.recorded_at >= cycles.issued_at
  )
) t
LEFT JOIN production.dim_subscriber s ON s.subscriber_id = t.subscriber_id AND s.is_current
LEFT JOIN production.dim_plan p ON p.plan_id = s.plan_id AND p.is_current
GROUP BY t.currency, s.plan_id, p.plan_code, p.plan_name, p.plan_kind, s.region"""

EXTRACTS: tuple[Extract, ...] = (
    Extract(
        "ext_usage_monthly",
        "Usage, revenue, complaints and disputes per month, plan, region and currency. The plan is "
        "the one that a subscriber had at the end of the month.",
        {
            "month": "First day of the month.",
            **_PLAN,
            "region": "Where the subscriber lives today.",
            **_CURRENCY,
            "subscriber_count": ("Subscribers with usage or a charge. Do not add up over months."),
            "call_count": "Outgoing calls.",
            "dropped_call_count": "Outgoing calls that the network lost.",
            "call_seconds": "How long the outgoing calls lasted.",
            "sms_count": "Outgoing SMS.",
            "data_mb": "Megabytes.",
            "fee_amount": "Fees before tax.",
            "usage_amount": "Charges for calls, SMS, data and roaming, before tax.",
            "charged_amount": "All charges before tax.",
            "arpu_amount": (
                "Charges per subscriber, rounded to cents. Do not add up or average: divide the "
                "sums instead."
            ),
            "complaint_count": "Complaints.",
            "network_complaint_count": "Complaints about the network.",
            "open_complaint_count": "Complaints that are open today.",
            "dispute_count": "Disputes about invoices.",
            "dispute_amount": "Amount of the disputes, with tax.",
            "open_dispute_amount": "Amount of those that are open today, with tax.",
        },
        """
        SELECT f.month, p.plan_code, p.plan_name, p.plan_kind, f.region, f.currency,
               f.subscriber_count, f.call_count, f.dropped_call_count, f.call_seconds, f.sms_count,
               f.data_mb::numeric(24, 3) AS data_mb, f.fee_amount::numeric(24, 2) AS fee_amount,
               (f.charged_amount - f.fee_amount)::numeric(24, 2) AS usage_amount,
               f.charged_amount::numeric(24, 2) AS charged_amount,
               (f.charged_amount / nullif(f.subscriber_count, 0))::numeric(24, 2) AS arpu_amount,
               f.complaint_count, f.network_complaint_count, f.open_complaint_count,
               f.dispute_count, f.dispute_amount::numeric(24, 2) AS dispute_amount,
               f.open_dispute_amount::numeric(24, 2) AS open_dispute_amount
        FROM production.agg_usage_by_plan_region_month f
        LEFT JOIN production.dim_plan p ON p.plan_id = f.plan_id AND p.is_current
        ORDER BY f.month, p.plan_code, f.region, f.currency
        """,
        totals={
            "call_count": f"count(*) {_CALLED}",
            "dropped_call_count": f"count(*) {_CALLED} AND is_dropped",
            "call_seconds": f"sum(duration_seconds) {_CALLED}",
            "charged_amount": "sum(amount) FROM production.fct_charges",
            "fee_amount": "sum(amount) FROM production.fct_charges WHERE charge_kind = 'fee'",
            "sms_count": f"sum(sms_count) {_MONTHS}",
            "data_mb": f"sum(data_mb) {_MONTHS}",
            "complaint_count": f"sum(complaint_count) {_MONTHS}",
            "dispute_amount": f"sum(dispute_amount) {_MONTHS}",
        },
    ),
    Extract(
        "ext_unbilled",
        "Charges of postpaid accounts that no invoice has yet, per plan and region of today and "
        "currency, over all time.",
        {
            **_CURRENCY,
            **_PLAN,
            "region": "Where the subscriber lives today.",
            "charged_amount": "All charges before tax.",
            "billed_amount": "Fees and usage on invoices that are not cancelled, before tax.",
            "unbilled_amount": "Charged and not on an invoice.",
            "missed_amount": (
                "Of it, events before the end of the last bill cycle with an invoice: they were "
                "recorded too late, and no invoice will have them."
            ),
            "corrected_amount": (
                "Of it, corrections after the invoice of their bill cycle. Below zero, it "
                "is owed to the customers."
            ),
        },
        f"""
        SELECT u.currency, u.plan_code, u.plan_name, u.plan_kind, u.region, u.charged_amount,
               u.billed_amount, u.unbilled_amount, u.missed_amount, u.corrected_amount
        FROM ({UNBILLED}) u
        ORDER BY u.currency, u.plan_code, u.plan_name, u.region
        """,
        totals={
            "charged_amount": f"sum(amount) {_CHARGED}",
            "billed_amount": f"sum(net_amount) {_BILLED}",
        },
    ),
    Extract(
        "ext_invoices_monthly",
        "Lines of invoices per month of issue, state of the invoice, kind of line, plan at the "
        "start of the bill cycle and currency; adds up.",
        {
            "month": "First day of the month in which the invoice was issued.",
            "invoice_state": "open, paid, overdue, cancelled; unknown if the invoice is missing.",
            "invoice_line_kind": "fee, usage, adjustment or discount.",
            **_PLAN,
            **_CURRENCY,
            "line_count": "Lines.",
            "net_amount": "Before tax.",
            "tax_amount": "Tax.",
        },
        """
        SELECT date_trunc('month', f.issued_date)::date AS month, f.invoice_state,
               f.invoice_line_kind, p.plan_code, p.plan_name, p.plan_kind, f.currency,
               count(*) AS line_count, sum(f.net_amount)::numeric(24, 2) AS net_amount,
               sum(f.tax_amount)::numeric(24, 2) AS tax_amount
        FROM production.fct_invoices f
        JOIN production.dim_plan p ON p.plan_key = f.plan_key
        GROUP BY date_trunc('month', f.issued_date)::date, f.invoice_state, f.invoice_line_kind,
                 p.plan_code, p.plan_name, p.plan_kind, f.currency
        ORDER BY month, invoice_state, invoice_line_kind, plan_code, plan_name, currency
        """,
        totals={
            "line_count": "count(*) FROM production.fct_invoices",
            "net_amount": "sum(net_amount) FROM production.fct_invoices",
            "tax_amount": "sum(tax_amount) FROM production.fct_invoices",
        },
    ),
)
"""Every extract."""
