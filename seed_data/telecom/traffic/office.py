"""What people do at the desk: contracts, plans, numbers, complaints, payments, disputes.

Each operation reads the rows that it changes under a lock.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from seed_data.common.traffic import NothingToDo
from seed_data.telecom.catalogue import PLANS
from seed_data.telecom.traffic.desk import Desk, Subscriber, utc_now


def interaction(desk: Desk) -> None:
    """A customer contacts an agent, and perhaps complains."""
    rng, who, now, sql = desk.rng, desk.subscriber(), utc_now(), desk.sql["crm"]
    topic = rng.choice(["network", "billing", "plan", "device", "other"])
    agent, seconds = desk.agent(), 40 + int(rng.expovariate(1 / 280))
    number = sql.insert(
        "INSERT INTO interactions (customer_id, subscriber_id, agent_id, channel, topic, outcome, "
        "started_at, duration_seconds) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        *(who.customer, who.id, agent, rng.choice(["phone", "chat", "email", "store"]), topic),
        *(rng.choice(["solved", "solved", "follow_up", "escalated"]), now, seconds),
    )
    if rng.random() < 0.3:
        sql.insert(
            "INSERT INTO complaints (customer_id, subscriber_id, interaction_id, agent_id, "
            "category, state, opened_at) VALUES (%s, %s, %s, %s, %s, 'open', %s)",
            *(who.customer, who.id, number, agent),
            *(topic if topic in ("network", "billing", "device") else "service", now),
        )


def close_complaint(desk: Desk) -> None:
    """An agent closes a complaint. Raises `NothingToDo`."""
    sql = desk.sql["crm"]
    number = sql.random_id("complaints", "state = 'open'")
    state, text = desk.rng.choice(
        [("resolved", "Repaired"), ("resolved", "Explained"), ("rejected", None)]
    )
    sql.write(
        "UPDATE complaints SET state = %s, closed_at = %s, resolution = %s "
        "WHERE id = %s AND state = 'open'",
        *(state, utc_now(), text, number),
    )


def plan_change(desk: Desk) -> None:
    """A subscriber gets another plan of the same kind. Raises `NothingToDo`."""
    who, now, sql = desk.subscriber(), utc_now(), desk.sql["crm"]
    kind = PLANS[who.plan - 1].kind
    others = [
        number
        for number, plan in enumerate(PLANS, start=1)
        if plan.kind == kind and plan.on_sale and number != who.plan
    ]
    plan = desk.rng.choice(others)
    if not sql.write(
        "UPDATE subscribers SET plan_id = %s WHERE id = %s AND plan_id = %s AND state = 'active'",
        *(plan, who.id, who.plan),
    ):
        raise NothingToDo
    sql.write(
        "UPDATE subscriptions SET ended_at = %s WHERE subscriber_id = %s AND ended_at IS NULL",
        *(now, who.id),
    )
    sql.insert(
        "INSERT INTO subscriptions (subscriber_id, plan_id, started_at, agent_id) "
        "VALUES (%s, %s, %s, %s)",
        *(who.id, plan, now, desk.agent()),
    )
    desk.after_commit.append(lambda: setattr(who, "plan", plan))


def cancellation(desk: Desk) -> None:
    """A subscriber leaves."""
    who, now, sql = desk.subscriber(), utc_now(), desk.sql["crm"]
    desk.after_commit.append(lambda: setattr(who, "is_active", False))
    sql.write(
        "UPDATE subscribers SET state = 'cancelled', cancelled_at = %s, cancel_reason = %s "
        "WHERE id = %s AND state = 'active'",
        *(now, desk.rng.choice(["network", "service", "price", "moved", "other"]), who.id),
    )
    sql.write(
        "UPDATE subscriptions SET ended_at = %s WHERE subscriber_id = %s AND ended_at IS NULL",
        *(now, who.id),
    )


def new_subscriber(desk: Desk) -> None:
    """A customer signs a further contract."""
    rng, owner, now, sql = desk.rng, desk.subscriber(), utc_now(), desk.sql["crm"]
    account = owner.account
    plan = rng.choice([1, 2] if account is None else [3, 4, 5])
    msisdn = f"4917{rng.randrange(100_000_000, 1_000_000_000)}"
    number = sql.insert(
        "INSERT INTO subscribers (customer_id, account_id, msisdn, imsi, kind, state, plan_id, "
        "region, time_zone, activated_at) "
        "SELECT customer_id, account_id, %s, %s, kind, 'active', %s, region, time_zone, %s "
        "FROM subscribers WHERE id = %s",
        *(msisdn, f"26299{rng.randrange(10**10):010}", plan, now, owner.id),
    )
    sql.insert(
        "INSERT INTO subscriptions (subscriber_id, plan_id, started_at, agent_id) "
        "VALUES (%s, %s, %s, %s)",
        *(number, plan, now, desk.agent()),
    )
    sql.insert(
        "INSERT INTO sales (customer_id, subscriber_id, agent_id, plan_id, channel, amount, "
        "currency, sold_at) VALUES (%s, %s, %s, %s, 'store', '9.99', 'EUR', %s)",
        *(owner.customer, number, desk.agent(), plan, now),
    )
    if account is None:
        amount = Decimal(15)
        desk.add("top_ups", (number, amount, "EUR", "store", now, now))
        desk.spent[number] = -amount
    signed = Subscriber(number, owner.customer, account, msisdn, plan, owner.region)
    desk.after_commit.append(lambda: desk.subscribers.append(signed))


def porting(desk: Desk) -> None:
    """The number of a cancelled subscriber moves to an active one. Raises `NothingToDo`."""
    who, sql = desk.subscriber(), desk.sql["crm"]
    number = sql.random_id("subscribers", "state = 'cancelled'")
    [msisdn] = sql.one("SELECT msisdn FROM subscribers WHERE id = %s", number)
    if sql.all("SELECT 1 FROM subscribers WHERE msisdn = %s AND state <> 'cancelled'", msisdn):
        raise NothingToDo
    sql.write("UPDATE subscribers SET msisdn = %s WHERE id = %s", msisdn, who.id)
    desk.after_commit.append(lambda: setattr(who, "msisdn", msisdn))


def payment(desk: Desk) -> None:
    """An account pays an invoice, less what was credited. Raises `NothingToDo`."""
    sql, now = desk.sql["billing"], utc_now()
    number = sql.random_id("invoices", f"state = '{desk.rng.choice(['open', 'overdue'])}'")
    account, total, currency, state = sql.one(
        "SELECT account_id, total_amount, currency, state FROM invoices WHERE id = %s FOR UPDATE",
        number,
    )
    if state not in ("open", "overdue"):
        raise NothingToDo
    [credit] = sql.one(
        "SELECT COALESCE(SUM(amount), 0) FROM adjustments WHERE invoice_id = %s", number
    )
    if total + credit > 0:
        sql.insert(
            "INSERT INTO payments (account_id, invoice_id, method, amount, currency, paid_at) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            *(account, number, desk.rng.choice(["direct_debit", "card", "bank_transfer"])),
            *(total + credit, currency, now),
        )
    sql.write("UPDATE invoices SET state = 'paid' WHERE id = %s", number)


def dispute(desk: Desk) -> None:
    """An account disputes a part of an open invoice. Raises `NothingToDo`."""
    sql = desk.sql["billing"]
    number = sql.random_id("invoices", "state = 'open'")
    account, total, currency = sql.one(
        "SELECT account_id, total_amount, currency FROM invoices WHERE id = %s", number
    )
    amount = (total * Decimal(desk.rng.randint(20, 100)) / 100).quantize(Decimal("0.01"))
    sql.insert(
        "INSERT INTO disputes (account_id, invoice_id, amount, currency, reason, state, opened_at) "
        "VALUES (%s, %s, %s, %s, 'usage', 'open', %s)",
        *(account, number, amount, currency, utc_now()),
    )


def goodwill(desk: Desk) -> None:
    """An agent credits a few euros on an open invoice. Raises `NothingToDo`."""
    sql = desk.sql["billing"]
    number = sql.random_id("invoices", "state = 'open'")
    account, currency = sql.one("SELECT account_id, currency FROM invoices WHERE id = %s", number)
    sql.insert(
        "INSERT INTO adjustments (account_id, invoice_id, reason, amount, currency, agent_id, "
        "made_at) VALUES (%s, %s, 'goodwill', %s, %s, %s, %s)",
        *(account, number, Decimal(-desk.rng.randint(1, 5)), currency, desk.agent(), utc_now()),
    )


def cycle_change(desk: Desk) -> None:
    """An account gets another bill cycle. Raises `NothingToDo`."""
    who = desk.subscriber()
    if who.account is None:
        raise NothingToDo
    desk.sql["billing"].write(
        "UPDATE bill_cycles SET cycle_day = %s WHERE account_id = %s",
        *(desk.rng.randint(1, 28), who.account),
    )


def close_dispute(desk: Desk) -> None:
    """A dispute is decided after a while; an accepted one is credited. Raises `NothingToDo`."""
    sql, now = desk.sql["billing"], utc_now()
    number = sql.random_id("disputes", "state = 'open'")
    account, invoice, amount, currency, state, opened = sql.one(
        "SELECT account_id, invoice_id, amount, currency, state, opened_at FROM disputes "
        "WHERE id = %s FOR UPDATE",
        number,
    )
    if state != "open" or opened > now - timedelta(seconds=1):
        raise NothingToDo
    accepted = desk.rng.random() < 0.6
    sql.write(
        "UPDATE disputes SET state = %s, closed_at = %s WHERE id = %s",
        *("accepted" if accepted else "rejected", now, number),
    )
    if accepted:
        sql.insert(
            "INSERT INTO adjustments (account_id, invoice_id, reason, amount, currency, agent_id, "
            "made_at) VALUES (%s, %s, 'dispute', %s, %s, %s, %s)",
            *(account, invoice, -amount, currency, desk.agent(), now),
        )
