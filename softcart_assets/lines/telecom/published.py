"""What the mobile operator publishes."""

from softcart_assets.lines.model import AddsUp, Published

PUBLISHED = (
    Published("dim_subscriber", indexes=(("subscriber_id",),), pii=("subscriber_id",)),
    Published("dim_plan"),
    Published("dim_agent"),
    Published(
        "fct_calls",
        indexes=(("call_date",), ("subscriber_id",)),
        totals=("duration_seconds",),
        latest="started_at",
    ),
    Published(
        "fct_charges",
        indexes=(("event_date",), ("subscriber_id",)),
        totals=("quantity", "amount"),
        latest="event_at",
    ),
    # Nobody may have been abroad yet.
    Published(
        "fct_roaming",
        indexes=(("event_date",), ("subscriber_id",)),
        totals=("quantity", "cost_amount"),
        latest="started_at",
        may_be_empty=True,
    ),
    # A young operator, or one without postpaid plans, has none of these yet.
    Published(
        "fct_invoices",
        indexes=(("issued_date",), ("invoice_id",), ("subscriber_id",)),
        totals=("quantity", "net_amount", "tax_amount"),
        latest="period_started_at",
        may_be_empty=True,
    ),
    Published(
        "fct_crm_interactions",
        indexes=(("interaction_date",), ("subscriber_id",)),
        totals=("duration_seconds", "complaint_count", "open_complaint_count"),
        latest="started_at",
        may_be_empty=True,
    ),
    Published(
        "agg_usage_by_plan_region_month",
        not_pii={"subscriber_count": "How many they are says nothing about who they are."},
        adds_up=(
            AddsUp("charged_amount", "fct_charges", "amount"),
            AddsUp("call_seconds", "fct_calls", "duration_seconds", "direction = 'out'"),
        ),
    ),
    # There are no scores before the first model has passed its checks. Who leaves loses the score.
    Published(
        "churn_scores",
        indexes=(("decile",),),
        not_pii=dict.fromkeys(
            (
                *("probability_pct", "decile", "reason_1", "reason_2", "reason_3"),
                "contributions",
            ),
            "It is made of numbers of calls, and tells of nobody without the subscriber.",
        ),
        may_be_empty=True,
    ),
)
