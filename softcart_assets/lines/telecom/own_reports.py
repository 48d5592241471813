"""What the CRM reports about itself: sales, changes of plan, complaints, the work of agents.

Everything is computed on the CRM's own database. An agent is told by number and team: names are
personal data and stay in the CRM. Days are UTC.
"""

from __future__ import annotations

from softcart_assets.lines.model import Dashboard, Extract
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
    Trend,
)

# The first plan of a subscriber is a sale and no change.
_IS_CHANGE = """
EXISTS (SELECT 1 FROM crm.subscriptions b
        WHERE b.subscriber_id = c.subscriber_id AND b.started_at < c.started_at)"""

_AGENT = {
    "agent_id": "The agent; empty if it was none.",
    "team": "The agent's team; empty if it was none.",
}

REPORTS = (
    Extract(
        "crm_sales_daily",
        "Sales of contracts per day, plan, channel and currency, from the CRM alone; adds up.",
        {
            "sold_date": "Day of the sale, UTC.",
            "plan_code": "The plan that was sold.",
            "plan_name": "Its name.",
            "channel": "store, phone or online.",
            "currency": "Currency of the amount, ISO 4217.",
            "sale_count": "Sales.",
            "amount": "Price of the activations, before tax.",
        },
        """
        SELECT s.sold_at::date AS sold_date, p.code AS plan_code, p.name AS plan_name, s.channel,
               s.currency, count(*) AS sale_count, sum(s.amount)::numeric(24, 2) AS amount
        FROM crm.sales s LEFT JOIN crm.plans p ON p.id = s.plan_id
        GROUP BY s.sold_at::date, p.code, p.name, s.channel, s.currency
        ORDER BY sold_date, plan_code, plan_name, channel, currency
        """,
        totals={
            "sale_count": "count(*) FROM crm.sales",
            "amount": "sum(amount) FROM crm.sales",
        },
    ),
    Extract(
        "crm_plan_changes_monthly",
        "Changes of plan per month, old and new plan, from the CRM alone; adds up.",
        {
            "month": "Month of the change, as 2026-01, UTC.",
            "old_plan": "Code of the plan before; empty if the CRM does not know it.",
            "new_plan": "Code of the plan after.",
            "is_by_agent": "1 if an agent made it, 0 if the subscriber did.",
            "change_count": "Changes.",
        },
        f"""
        SELECT to_char(c.started_at, 'YYYY-MM') AS month, o.code AS old_plan, n.code AS new_plan,
               (CASE WHEN c.agent_id IS NULL THEN 0 ELSE 1 END)::bigint AS is_by_agent,
               count(*) AS change_count
        FROM (
          SELECT c.started_at, c.agent_id, c.plan_id,
                 (SELECT b.plan_id FROM crm.subscriptions b
                  WHERE b.subscriber_id = c.subscriber_id AND b.started_at < c.started_at
                  ORDER BY b.started_at DESC, b.id DESC LIMIT 1) AS old_plan_id
          FROM crm.subscriptions c WHERE {_IS_CHANGE}
        ) c
        LEFT JOIN crm.plans o ON o.id = c.old_plan_id
        LEFT JOIN crm.plans n ON n.id = c.plan_id
        GROUP BY to_char(c.started_at, 'YYYY-MM'), o.code, n.code,
                 (CASE WHEN c.agent_id IS NULL THEN 0 ELSE 1 END)::bigint
        ORDER BY month, old_plan, new_plan, is_by_agent
        """,
        totals={"change_count": f"count(*) FROM crm.subscriptions c WHERE {_IS_CHANGE}"},
    ),
    Extract(
        "crm_open_complaints",
        "Complaints that are open now, per category and agent, from the CRM alone; adds up.",
        {
            "category": "network, billing, service or device.",
            **_AGENT,
            "open_count": "Open complaints.",
            "oldest_date": "Day of the oldest of them, UTC.",
        },
        """
        SELECT c.category, c.agent_id, a.team, count(*) AS open_count,
               min(c.opened_at)::date AS oldest_date
        FROM crm.complaints c LEFT JOIN crm.agents a ON a.id = c.agent_id
        WHERE c.state = 'open'
        GROUP BY c.category, c.agent_id, a.team
        ORDER BY category, agent_id
        """,
        totals={"open_count": "count(*) FROM crm.complaints WHERE state = 'open'"},
    ),
    Extract(
        "crm_agents_monthly",
        "The work of agents per month: contacts and complaints, from the CRM alone; adds up.",
        {
            "month": "Month of the contacts, as 2026-01, UTC.",
            **_AGENT,
            "contact_count": "Contacts with customers.",
            "talk_seconds": "How long these lasted.",
            "solved_count": "Contacts that solved what they were about.",
            "complaint_count": "Complaints that were noted in them.",
        },
        """
        SELECT to_char(i.started_at, 'YYYY-MM') AS month, i.agent_id, a.team,
               count(*) AS contact_count, sum(i.duration_seconds)::bigint AS talk_seconds,
               sum(CASE WHEN i.outcome = 'solved' THEN 1 ELSE 0 END)::bigint AS solved_count,
               sum(coalesce(c.complaints, 0))::bigint AS complaint_count
        FROM crm.interactions i
        LEFT JOIN crm.agents a ON a.id = i.agent_id
        LEFT JOIN (SELECT interaction_id, count(*) AS complaints FROM crm.complaints
                   GROUP BY interaction_id) c ON c.interaction_id = i.id
        GROUP BY to_char(i.started_at, 'YYYY-MM'), i.agent_id, a.team
        ORDER BY month, agent_id
        """,
        totals={
            "contact_count": "count(*) FROM crm.interactions",
            "talk_seconds": "sum(duration_seconds) FROM crm.interactions",
            "complaint_count": (
                "count(*) FROM crm.complaints c JOIN crm.interactions i ON i.id = c.interaction_id"
            ),
        },
    ),
)

_ACTIVITIES = f"""
(SELECT s.id * 4 AS id, s.sold_at AS at, s.agent_id, s.subscriber_id, s.plan_id, s.currency,
        s.channel, 'sale' AS reason, 1 AS sale, s.amount, 0 AS plan_change, 0 AS complaint,
        0 AS contact, 0 AS solved, 0 AS seconds
 FROM crm.sales s
 UNION ALL
 SELECT c.id * 4 + 1, c.started_at, c.agent_id, c.subscriber_id, c.plan_id, NULL,
        'none', 'change_of_plan', 0, 0.00, 1, 0, 0, 0, 0
 FROM crm.subscriptions c WHERE {_IS_CHANGE}
 UNION ALL
 SELECT c.id * 4 + 2, c.opened_at, c.agent_id, c.subscriber_id, NULL, NULL,
        'none', c.category, 0, 0.00, 0, 1, 0, 0, 0
 FROM crm.complaints c
 UNION ALL
 SELECT i.id * 4 + 3, i.started_at, i.agent_id, i.subscriber_id, NULL, NULL,
        i.channel, i.topic, 0, 0.00, 0, 0, 1, CASE WHEN i.outcome = 'solved' THEN 1 ELSE 0 END,
        i.duration_seconds
 FROM crm.interactions i)"""

# Only a sale has a currency of its own. Other work is shown in that of the subscriber's plan, and
# what is about nobody in the one that most plans have.
_CURRENCY = """
coalesce(f.currency, p.currency, (SELECT most.currency FROM crm.plans most
  GROUP BY most.currency ORDER BY count(*) DESC, most.currency LIMIT 1))"""

_PLAN = "coalesce(f.plan_id, s.plan_id)"

_CUBE = Cube(
    fact=_ACTIVITIES,
    joins=f"""
      LEFT JOIN crm.subscribers s ON s.id = f.subscriber_id
      LEFT JOIN crm.plans p ON p.id = {_PLAN}
      LEFT JOIN crm.agents a ON a.id = f.agent_id""",
    where="true",
    day="f.at::date",
    moment="f.at",
    event="f.id",
    currency="currency",
    dimensions=(
        Dimension(
            "currency", "Currency", "Currencies", (Level("currency", _CURRENCY),), is_single=True
        ),
        Dimension(
            "plan",
            "Plan",
            "Plans",
            (
                Level("kind", "p.kind"),
                Level("plan", _PLAN, names="SELECT id, name FROM crm.plans"),
            ),
        ),
        Dimension("region", "Region", "Regions", (Level("region", "s.region"),)),
        Dimension("channel", "Channel", "Channels", (Level("channel", "f.channel"),)),
        Dimension("reason", "Reason", "Reasons", (Level("reason", "f.reason"),)),
        Dimension(
            "agent",
            "Team or agent",
            "Agents",
            (
                Level("team", "a.team"),
                Level(
                    "agent",
                    "f.agent_id",
                    names="SELECT id, concat('Agent ', id) FROM crm.agents",
                ),
            ),
        ),
    ),
    ladder=(
        Rung(2, says="Every sale, change of plan, contact and complaint of the last two years."),
        Rung(1, says="Every sale, change of plan, contact and complaint of the last year."),
        Rung(2, ("event",), "Sums by day of the last two years."),
        Rung(2, ("event", "region", "agent"), "Sums by day of the last two years, by team only."),
    ),
)

_MEASURES = (
    Measure("amount", "Sales", "money", "Price of the activations, before tax.", sql="f.amount"),
    Measure("sales", "Contracts sold", "count", "Sales of a contract.", sql="f.sale"),
    Measure(
        "mean",
        "Price per contract",
        "money",
        "Sales per contract.",
        of=("amount", "sales"),
        rising="neutral",
    ),
    Measure(
        "changes",
        "Changes of plan",
        "count",
        "Subscribers who got another plan. The first plan of a subscriber is no change.",
        sql="f.plan_change",
        rising="neutral",
    ),
    Measure(
        "complaints",
        "Complaints",
        "count",
        "Complaints, on the day on which they were made, whatever became of them.",
        sql="f.complaint",
        rising="bad",
    ),
    Measure(
        "contacts",
        "Contacts",
        "count",
        "Contacts of customers with an agent or a robot.",
        sql="f.contact",
        rising="neutral",
    ),
    Measure(
        "solved",
        "Solved",
        "count",
        "Contacts that solved what they were about.",
        sql="f.solved",
    ),
    Measure(
        "solvedRate",
        "Solved %",
        "rate",
        "Solved as a share of contacts.",
        of=("solved", "contacts"),
    ),
    Measure(
        "seconds",
        "Talk time",
        "duration",
        "How long the contacts lasted, in hours.",
        sql="f.seconds",
        rising="neutral",
    ),
    Measure(
        "each",
        "Seconds each",
        "decimal",
        "Seconds of talk per contact.",
        of=("seconds", "contacts"),
        rising="neutral",
    ),
)

_OPEN = """
SELECT concat(c.category, ' ', coalesce(a.team, 'none')) AS key, c.category,
       coalesce(a.team, 'none') AS team, count(*) AS complaints,
       sum(CASE WHEN n.today - c.opened_at::date > 7 THEN 1 ELSE 0 END)::bigint AS week,
       sum(CASE WHEN n.today - c.opened_at::date > 30 THEN 1 ELSE 0 END)::bigint AS month,
       max(n.today - c.opened_at::date) AS oldest
FROM crm.complaints c
LEFT JOIN crm.agents a ON a.id = c.agent_id
CROSS JOIN (SELECT max(l.opened_at)::date AS today FROM crm.complaints l) n
WHERE c.state = 'open'
GROUP BY c.category, a.team
ORDER BY complaints DESC, c.category, team"""

CRM_PAGE = Page(
    "crm",
    "Customer relations",
    _CUBE,
    _MEASURES,
    (
        Section(
            "overview",
            "Overview",
            (
                Cards(("amount", "sales", "mean", "changes", "complaints", "contacts")),
                Trend("amount", 200),
                Trend("complaints", 160),
                Ranking("plan", ("amount", "sales", "changes", "complaints"), is_flat=True),
                Ranking("region", ("amount", "sales", "complaints")),
            ),
            "The CRM alone, as it is now. Other reports join it with bills and the network.",
        ),
        Section(
            "agents",
            "Agents' work",
            (
                Cards(("contacts", "solvedRate", "each", "complaints")),
                Trend("contacts", 160),
                Ranking("agent", ("contacts", "solvedRate", "each", "amount"), 10),
                Ranking("reason", ("contacts", "solvedRate", "complaints")),
                Ranking("channel", ("contacts", "amount")),
            ),
        ),
        Section(
            "open",
            "Open complaints",
            (
                Listing(
                    "open",
                    "Open complaints",
                    _OPEN,
                    (
                        Column("category", "Category"),
                        Column("team", "Team"),
                        Column("complaints", "Open", "count", has_bar=True),
                        Column("week", "Over 7 days", "count"),
                        Column("month", "Over 30 days", "count", is_wide=True),
                        Column("oldest", "Days of the oldest", "count", is_wide=True),
                    ),
                    None,
                    "As of now: follows no filter. Ages are days before the newest complaint.",
                    12,
                ),
            ),
        ),
    ),
    period="13w",
    compare="before",
    source="crm",
)

DASHBOARDS = (
    Dashboard(
        "crm",
        "The CRM's own report: sales, changes of plan, complaints and the work of agents, computed "
        "on the CRM's database alone.",
        page=CRM_PAGE,
    ),
)
