"""A few callers of the call centre, made by hand: four sources, and the call centre itself."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
from support.databases import mysql_database
from support.ingestion import load_all, run

from seed_data.common.mysql import statements
from softcart_assets.assembly import LINES
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.server import free_port

SOURCES = {each.name: each for each in LINES.line("telecom").sources if each.kind == "mysql"}

PREPAID, POSTPAID = "4915112345678", "14155550123"
"""The numbers of subscribers 7 and 8. Subscriber 6 had the first one before."""

NOW = datetime.now(UTC).replace(tzinfo=None)
ZONE = f"Etc/GMT{NOW.hour - 12:+d}"
"""The caller's: it is noon there, so the day goes on for as long as any run of the tests takes."""
OLD = NOW - timedelta(days=40)
"""In neither this day nor this bill cycle."""


def insert(mysql: MySQLConnection, table: str, *rows: Mapping[str, Any]) -> None:
    """Insert rows, given as column → value."""
    with mysql.connect() as connection, connection.cursor() as cursor:
        for row in rows:
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})",
                list(row.values()),
            )
        connection.commit()


@contextmanager
def sources(server: MySQLConnection) -> Iterator[dict[str, MySQLConnection]]:
    """The four databases with the rows of this module."""
    with ExitStack() as stack:
        found = {name: stack.enter_context(mysql_database(server)) for name in SOURCES}
        for name, mysql in found.items():
            script = REPOSITORY / "seed_data" / "telecom" / f"{name}.sql"
            run(mysql, *statements(script).values())
        _crm(found["crm"])
        _billing(found["billing"])
        _charging(found["charging"])
        _signaling(found["signaling"])
        yield found


def load(
    found: Mapping[str, MySQLConnection], postgres: PostgresConnection, lake: str, *names: str
) -> None:
    """Load these sources, or all of them."""
    for name in names or found:
        load_all(SOURCES[name], found[name], postgres, lake)
    stand(postgres)


def stand(postgres: PostgresConnection, seconds_old: float = 0) -> None:
    """Have all sources complete until so long ago. A stream says that, if nothing changes, too."""
    with postgres.connect() as session:
        session.execute(
            "UPDATE ingestion.streams SET complete_at = clock_timestamp() - %s * interval '1 s'",
            (seconds_old,),
        )


def score(postgres: PostgresConnection, subscriber: int, probability: str) -> None:
    """Make the table of the model's scores anew, with one subscriber."""
    with postgres.connect() as session:
        session.execute("CREATE SCHEMA IF NOT EXISTS ml")
        session.execute("DROP TABLE IF EXISTS ml.churn_scores")
        session.execute(
            "CREATE TABLE ml.churn_scores AS SELECT %s::bigint AS subscriber_id,"
            " date '2026-12-01' AS month, date '2026-11-01' AS cut_off_date,"
            " %s::numeric(7, 4) AS probability_pct, 1 AS decile, 3 AS model_version,"
            " 'Dropped calls: 5' AS reason_1, 'Prepaid' AS reason_2, NULL::text AS reason_3",
            [subscriber, probability],
        )


def _subscriber(id: int, msisdn: str, **more: Any) -> dict[str, Any]:
    return {
        "id": id,
        "customer_id": 1,
        "msisdn": msisdn,
        "imsi": f"26201{id}",
        "kind": "prepaid",
        "state": "active",
        "plan_id": 1,
        "region": "Berlin",
        "time_zone": ZONE,
        "activated_at": OLD,
        **more,
    }


def _crm(mysql: MySQLConnection) -> None:
    plan = {"monthly_fee": 0, "included_minutes": 0, "included_sms": 0, "included_mb": 0}
    plan |= {"currency": "EUR", "is_on_sale": 1, "created_at": OLD}
    insert(
        mysql,
        "plans",
        plan | {"id": 1, "code": "PRE", "name": "Free", "kind": "prepaid"},
        plan
        | {"id": 2, "code": "POST", "name": "All in", "kind": "postpaid", "monthly_fee": "19.90"},
    )
    person = {"kind": "private", "country_code": "DE", "city": "Berlin", "created_at": OLD}
    insert(
        mysql,
        "customers",
        person | {"id": 1, "full_name": "Ada Lovelace", "email": "ada@example.org"},
        person | {"id": 2, "full_name": "Grace <b>O'Hara</b>", "kind": "business"},
    )
    postpaid = {"customer_id": 2, "account_id": 1_000_002, "kind": "postpaid", "plan_id": 2}
    insert(
        mysql,
        "subscribers",
        _subscriber(6, PREPAID, state="cancelled", cancelled_at=OLD),
        _subscriber(7, PREPAID),
        _subscriber(8, POSTPAID, time_zone="America/New_York", **postpaid),
        _subscriber(9, "14155550124", **postpaid),
    )
    complaint = {"customer_id": 2, "subscriber_id": 8, "category": "network", "opened_at": OLD}
    insert(
        mysql,
        "complaints",
        complaint | {"state": "open"},
        complaint | {"state": "resolved", "closed_at": NOW},
    )


def _billing(mysql: MySQLConnection) -> None:
    account = {"id": 1_000_002, "customer_id": 2, "currency": "EUR", "state": "open"}
    insert(mysql, "accounts", account | {"opened_at": OLD})
    insert(mysql, "bill_cycles", {"account_id": 1_000_002, "cycle_day": 1, "time_zone": ZONE})
    limit = {"account_id": 1_000_002, "limit_amount": "100.00", "currency": "EUR"}
    insert(mysql, "credit_limits", limit)
    invoice = {"account_id": 1_000_002, "currency": "EUR", "due_on": "2026-03-30"}
    amounts = {"net_amount": "20.00", "tax_amount": "3.80", "total_amount": "23.80"}
    insert(
        mysql,
        "invoices",
        invoice
        | amounts
        | {"number": "B-1", "period_start": "2026-01-01", "period_end": "2026-02-01"}
        | {"issued_on": "2026-02-04", "state": "paid"},
        invoice
        | amounts
        | {"number": "B-2", "period_start": "2026-02-01", "period_end": "2026-03-01"}
        | {"issued_on": "2026-03-04", "state": "overdue"},
    )


def charge(subscriber: int, amount: str, at: datetime, **more: Any) -> dict[str, Any]:
    """A row of charges."""
    return {
        "subscriber_id": subscriber,
        "kind": "voice",
        "quantity": "1.000",
        "amount": amount,
        "currency": "EUR",
        "event_at": at,
        "recorded_at": NOW,
        **more,
    }


def _charging(mysql: MySQLConnection) -> None:
    insert(mysql, "balances", {"subscriber_id": 7, "amount": "12.30", "currency": "EUR"})
    top_up = {"subscriber_id": 7, "currency": "EUR", "channel": "app", "recorded_at": NOW}
    insert(
        mysql,
        "top_ups",
        top_up | {"amount": "20.00", "topped_up_at": OLD},
        top_up | {"amount": "1.39", "topped_up_at": NOW},
    )
    insert(
        mysql,
        "charges",
        charge(7, "0.10", NOW),
        # A correction: the charge, its reversal, the new charge.
        charge(7, "9.99", OLD),
        charge(7, "-9.99", OLD, reverses_id=2),
        charge(7, "8.99", OLD, reverses_id=2),
        charge(8, "30.50", NOW),
        charge(9, "4.50", NOW),
    )


def call(subscriber: int, event: str, at: datetime, seconds: int, **more: Any) -> dict[str, Any]:
    """A row of call_records."""
    return {
        "event_id": event,
        "subscriber_id": subscriber,
        "msisdn": PREPAID,
        "direction": "out",
        "other_msisdn": "4915298765432",
        "started_at": at,
        "duration_seconds": seconds,
        "termination": "normal",
        "cell_id": 1,
        "recorded_at": NOW,
        **more,
    }


def _signaling(mysql: MySQLConnection) -> None:
    insert(
        mysql,
        "call_records",
        call(7, "a", NOW, 60),
        call(7, "a", NOW, 60),
        call(7, "b", OLD, 30, termination="dropped"),
        call(7, "c", OLD, 5, direction="in", other_msisdn=None),
    )
    sms = {"subscriber_id": 7, "msisdn": PREPAID, "direction": "out", "recorded_at": NOW}
    insert(mysql, "sms_records", sms | {"event_id": "s", "sent_at": NOW, "parts": 2})
    session = {"subscriber_id": 7, "msisdn": PREPAID, "cell_id": 1, "recorded_at": NOW}
    insert(
        mysql,
        "data_sessions",
        session | {"event_id": "d", "started_at": NOW, "ended_at": NOW, "megabytes": "1.500"},
        session | {"event_id": "e", "started_at": OLD, "ended_at": OLD, "megabytes": "0.001"},
    )


@contextmanager
def call_centre(postgres: PostgresConnection, **settings: str) -> Iterator[tuple[Any, str]]:
    """`softcart serve call-centre` as a process, and its address, from its first answer on."""
    port = free_port()
    process = psutil.Popen(
        [REPOSITORY / ".venv" / "bin" / "softcart", "serve", "call-centre", f"--port={port}"],
        env=os.environ | {"SOFTCART_STAGING_DATABASE": postgres.database} | settings,
        cwd=REPOSITORY,
        stdout=-1,
        stderr=-2,
        text=True,
    )
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
        while not _answers(f"{address}/login"):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stdout.read()
            time.sleep(0.1)
        yield process, address
    finally:
        if process.is_running():
            process.terminate()
            process.wait(15)


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except OSError:
        return False
    return True
