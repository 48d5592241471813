"""The page over customer relations, charging, billing and the network, for the operator's strategy.

Its rows are of months: revenue per subscriber needs the subscribers of a month.
"""

from __future__ import annotations

from softcart_assets.lines.page import (
    Cards,
    Column,
    Cube,
    Dimension,
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
from softcart_assets.lines.telecom.extracts import UNBILLED

# Usage of a plan that is missing has the currency XXX. It is shown with most others.
_CURRENCY = """
CASE f.currency WHEN 'XXX' THEN coalesce((
  SELECT most.currency FROM production.agg_usage_by_plan_region_month most
  WHERE most.currency <> 'XXX'
  GROUP BY most.currency ORDER BY sum(most.subscriber_count) DESC, most.currency LIMIT 1), 'XXX')
ELSE f.currency END"""

_CUBE = Cube(
    fact="production.agg_usage_by_plan_region_month",
    joins="LEFT JOIN production.dim_plan p ON p.plan_id = f.plan_id AND p.is_current",
    # The unknown month would be the first one of everything.
    where="f.month <> '1900-01-01'",
    day="f.month",
    unit="month",
    moment="f.latest_at",
    event="concat(f.currency, ' ', f.plan_id, ' ', f.region, ' ', f.month)",
    currency="currency",
    remarks={
        "Rows of the month 1900-01, whose events have an implausible date": (
            "f.month = '1900-01-01'"
        ),
    },
    dimensions=(
        Dimension(
            "currency", "Currency", "Currencies", (Level("currency", _CURRENCY),), is_single=True
        ),
        Dimension(
            "plan",
            "Kind or plan",
            "Plans",
            (
                Level("kind", "p.plan_kind"),
                Level(
                    "plan",
                    "f.plan_id",
                    names="SELECT plan_id, plan_name FROM production.dim_plan "
                    "WHERE is_current AND plan_id IS NOT NULL",
                ),
            ),
        ),
        Dimension("region", "Region", "Regions", (Level("region", "f.region"),)),
    ),
    ladder=(
        Rung(3, says="Every plan and region by month, for three years at most."),
        Rung(3, ("event", "region"), "Every plan by month, for three years at most."),
    ),
)

_MEASURES = (
    Measure(
        "revenue",
        "Revenue",
        "money",
        "All charges before tax, in the month of the event: fees and usage. A correction counts in "
        "the month of the event that it corrects.",
        sql="f.charged_amount",
    ),
    Measure(
        "arpu",
        "ARPU",
        "money",
        "Revenue per subscriber and month. A subscriber counts in each month with usage or a "
        "charge. The newest month is not over, so it is left out.",
        of=("revenue", "months"),
        # All rows of a month are of its first day.
        settles_days=1,
    ),
    Measure(
        "months",
        "Subscriber months",
        "count",
        "Subscribers with usage or a charge, each month anew. Twelve months of one subscriber are "
        "twelve.",
        sql="f.subscriber_count",
    ),
    Measure("fee", "Fees", "amount", "Monthly fees of plans.", sql="f.fee_amount"),
    Measure("voice", "+ Calls", "amount", "Charges for calls.", sql="f.voice_amount"),
    Measure("messages", "+ SMS", "amount", "Charges for SMS.", sql="f.sms_amount"),
    Measure("data", "+ Data", "amount", "Charges for data.", sql="f.data_amount"),
    Measure("roaming", "+ Roaming", "amount", "Charges abroad.", sql="f.roaming_amount"),
    Measure("calls", "Outgoing calls", "count", "Calls that subscribers made.", sql="f.call_count"),
    Measure(
        "seconds",
        "Talk time",
        "duration",
        "How long the outgoing calls lasted, in hours.",
        sql="f.call_seconds",
    ),
    Measure("texts", "SMS", "count", "SMS that subscribers sent.", sql="f.sms_count"),
    Measure(
        "volume",
        "Data volume",
        "volume",
        "Data sent and received. A gigabyte is a thousand megabytes.",
        sql="f.data_mb * 1000",
    ),
    Measure(
        "dropped",
        "Dropped calls",
        "count",
        "Outgoing calls that the network lost.",
        sql="f.dropped_call_count",
        rising="bad",
    ),
    Measure(
        "droppedRate",
        "Dropped %",
        "rate",
        "Dropped calls as a share of outgoing calls.",
        of=("dropped", "calls"),
        rising="bad",
    ),
    Measure(
        "complaints",
        "Complaints",
        "count",
        "Complaints in the month in which they were made.",
        sql="f.complaint_count",
        rising="bad",
    ),
    Measure(
        "network",
        "About the network",
        "count",
        "Complaints about the network.",
        sql="f.network_complaint_count",
        rising="bad",
    ),
    Measure(
        "pending",
        "Still open",
        "count",
        "Complaints of the period that are open today.",
        sql="f.open_complaint_count",
        rising="bad",
    ),
    Measure(
        "complaintRate",
        "Complaints per dropped call",
        "rate",
        "Complaints about the network, as a share of dropped calls.",
        of=("network", "dropped"),
        rising="bad",
    ),
    Measure(
        "disputes",
        "Disputes",
        "count",
        "Disputes about invoices, in the month in which they were opened.",
        sql="f.dispute_count",
        rising="bad",
    ),
    Measure(
        "disputed",
        "In dispute",
        "money",
        "What customers did not accept, with tax.",
        sql="f.dispute_amount",
        rising="bad",
    ),
    Measure(
        "contested",
        "Still in dispute",
        "money",
        "Disputes of the period that are open today, with tax.",
        sql="f.open_dispute_amount",
        rising="bad",
    ),
)

_UNBILLED = f"""
SELECT concat(u.currency, ' ', u.plan_name, ' ', u.region) AS key, u.currency, u.plan_kind,
       u.plan_id, u.plan_name AS plan, u.region, (u.charged_amount * 100)::bigint AS charged,
       (u.billed_amount * 100)::bigint AS billed, (u.unbilled_amount * 100)::bigint AS unbilled,
       (u.missed_amount * 100)::bigint AS missed,
       (u.corrected_amount * 100)::bigint AS corrected
FROM ({UNBILLED}) u
ORDER BY unbilled DESC, key"""

OPERATOR_PAGE = Page(
    "operator",
    "Mobile operator",
    _CUBE,
    _MEASURES,
    (
        Section(
            "overview",
            "Revenue",
            (
                Cards(
                    ("revenue", "arpu", "months", "calls", "droppedRate"),
                    has_headline=True,
                ),
                Trend("revenue", 220),
                Trend("arpu", 160),
                Steps(
                    "What revenue is made of",
                    ("fee", "voice", "messages", "data", "roaming", "revenue"),
                ),
                Ranking("plan", ("revenue", "arpu", "months"), 12, is_flat=True),
                Ranking("region", ("revenue", "arpu", "months")),
            ),
        ),
        Section(
            "usage",
            "Usage",
            (
                Cards(("calls", "seconds", "texts", "volume")),
                Trend("calls", 160),
                Trend("volume", 160),
                Ranking("plan", ("calls", "seconds", "texts", "volume"), 12, is_flat=True),
                Ranking("region", ("calls", "texts", "volume")),
            ),
        ),
        Section(
            "quality",
            "Complaints and dropped calls",
            (
                Cards(("dropped", "droppedRate", "complaints", "network", "pending")),
                Trend("dropped", 160),
                Trend("complaints", 160),
                Ranking("region", ("dropped", "droppedRate", "network", "complaintRate")),
                Ranking("plan", ("complaints", "network", "droppedRate"), is_flat=True),
            ),
        ),
        Section(
            "billing",
            "Unbilled usage and disputes",
            (
                Cards(("disputes", "disputed", "contested")),
                Trend("disputed", 160),
                Ranking("plan", ("disputed", "disputes", "contested"), is_flat=True),
                Listing(
                    "unbilled",
                    "Unbilled charges of postpaid accounts",
                    _UNBILLED,
                    (
                        Column("plan", "Plan"),
                        Column("region", "Region"),
                        Column("charged", "Charged", "money", is_wide=True),
                        Column("billed", "On invoices", "money", is_wide=True),
                        Column("unbilled", "Unbilled", "money", has_bar=True),
                        Column("missed", "Of it, missed", "money"),
                        Column("corrected", "Of it, corrected", "money", is_wide=True),
                    ),
                    "unbilled",
                    "Over all time, by today's plan: follows no period. Cancelled invoices do not "
                    "count. Missed charges were recorded after the invoice of their bill cycle, so "
                    "no invoice has them. Corrections of that time stand beside them.",
                    12,
                    {
                        "currency": ("currency",),
                        "plan": ("plan_kind", "plan_id"),
                        "region": ("region",),
                    },
                ),
            ),
        ),
    ),
    period="6m",
    compare="before",
)
