"""A small CRM on a real server, with rows whose sums can be worked out by hand."""

from __future__ import annotations

from typing import Any

from seed_data.common.mysql import statements
from softcart_assets.connections import MySQLConnection
from softcart_assets.paths import REPOSITORY

_CUSTOMER = "INSERT INTO customers (id, full_name, kind, country_code, created_at) VALUES "
_ROWS = f"""
{_CUSTOMER} (1, 'Ann', 'private', 'LV', '2025-01-01'), (2, 'Bob', 'private', 'LV', '2025-01-01');
INSERT INTO agents (id, full_name, email, team, hired_on) VALUES
  (1, 'Eve', 'eve@x', 'sales', '2024-01-01'), (2, 'Max', 'max@x', 'service', '2024-01-01');
INSERT INTO plans (id, code, name, kind, currency, monthly_fee, included_minutes, included_sms,
                   included_mb, is_on_sale, created_at) VALUES
  (1, 'P1', '=1+1; "Small"', 'postpaid', 'EUR', 9.99, 0, 0, 0, 1, '2024-01-01'),
  (2, 'P2', 'Large', 'postpaid', 'EUR', 19.99, 0, 0, 0, 1, '2024-01-01'),
  (3, 'Q1', 'Prepaid', 'prepaid', 'USD', 0, 0, 0, 0, 1, '2024-01-01');
INSERT INTO subscribers (id, customer_id, msisdn, imsi, kind, state, plan_id, region, time_zone,
                         activated_at) VALUES
  (1, 1, '3711', '1', 'postpaid', 'active', 2, 'Riga', 'Europe/Riga', '2025-02-01'),
  (2, 2, '3712', '2', 'prepaid', 'active', 3, 'Liepaja', 'Europe/Riga', '2025-03-01');
INSERT INTO subscriptions (id, subscriber_id, plan_id, started_at, ended_at, agent_id) VALUES
  (1, 1, 1, '2025-02-01', '2025-12-31 23:59:59.5', NULL),
  (2, 1, 2, '2025-12-31 23:59:59.5', NULL, 1), (3, 2, 3, '2025-03-01', NULL, NULL);
INSERT INTO sales (id, customer_id, subscriber_id, agent_id, plan_id, channel, amount, currency,
                   sold_at) VALUES
  (1, 1, 1, 1, 1, 'store', 10.01, 'EUR', '2025-12-31 23:59:59.999999'),
  (2, 2, 2, NULL, 3, 'online', 5.00, 'USD', '2026-01-01'),
  (3, 1, 1, 1, 1, 'store', 0.10, 'EUR', '2025-12-31 08:00:00'),
  (4, 1, 1, 9, 9, 'phone', 7.77, 'EUR', '2026-01-05 08:00:00');
INSERT INTO interactions (id, customer_id, subscriber_id, agent_id, channel, topic, outcome,
                          started_at, duration_seconds) VALUES
  (1, 1, 1, 2, 'phone', 'network', 'solved', '2026-01-02 10:00:00', 90),
  (2, 1, 1, 2, 'chat', 'billing', 'escalated', '2026-01-31 23:59:59', 30),
  (3, 2, NULL, NULL, 'chat', 'other', 'abandoned', '2026-02-01 00:00:00', 5);
INSERT INTO complaints (id, customer_id, subscriber_id, interaction_id, agent_id, category, state,
                        opened_at) VALUES
  (1, 1, 1, 1, 2, 'network', 'open', '2026-01-02 10:00:00'),
  (2, 1, 1, 2, 2, 'billing', 'resolved', '2026-01-31 23:59:59'),
  (3, 2, NULL, 3, NULL, 'network', 'open', '2026-02-01 00:00:00'),
  (4, 1, 1, 1, 2, 'network', 'open', '2026-01-30 10:00:00');
"""


def create_crm(mysql: MySQLConnection, *, rows: bool = True) -> None:
    """Create the tables of the CRM in a database, and fill them."""
    script = REPOSITORY / "seed_data" / "telecom" / "crm.sql"
    execute(mysql, *statements(script).values())
    if rows:
        execute(mysql, *filter(str.strip, _ROWS.split(";\n")))


def execute(mysql: MySQLConnection, *texts: str) -> list[tuple[Any, ...]]:
    """Run statements. Returns the rows of the last one."""
    with mysql.connect() as session:
        with session.cursor() as cursor:
            for text in texts:
                cursor.execute(text)
            found = list(cursor.fetchall())
        session.commit()
    return found
