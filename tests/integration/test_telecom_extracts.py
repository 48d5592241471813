"""The extracts and the page of the mobile operator against the published tables, to the cent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from psycopg.rows import dict_row
from support.databases import database
from support.mobile import create_mobile
from support.pages import opened, pictured

from softcart_assets.connections import PostgresConnection
from softcart_assets.lines.model import Extract
from softcart_assets.lines.page import Rung
from softcart_assets.lines.telecom.extracts import EXTRACTS
from softcart_assets.lines.telecom.pages import OPERATOR_PAGE
from softcart_assets.pages.kit import cube


@pytest.fixture(scope="module")
def production(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_mobile(connection)
        yield connection


def rows(production: PostgresConnection, query: str) -> list[dict[str, Any]]:
    with production.connect(row_factory=dict_row) as session:
        return session.execute(query.encode()).fetchall()


@pytest.mark.parametrize("extract", EXTRACTS, ids=lambda extract: extract.name)
def test_sums_are_those_of_the_facts(production: PostgresConnection, extract: Extract) -> None:
    found = rows(production, extract.sql)
    assert [*found[0]] == [*extract.columns]
    for column, total in extract.totals.items():
        [expected] = rows(production, f"SELECT {total}")
        assert sum(row[column] or 0 for row in found) == next(iter(expected.values())), column
    # Amounts of two currencies are in two rows.
    keys = [column for column in extract.columns if not re.search("_(count|amount|mb|sec)", column)]
    assert len({tuple(row[key] for key in keys) for row in found}) == len(found)


def test_unbilled_is_what_no_invoice_has(production: PostgresConnection) -> None:
    """Missed is what happened before the end of the last bill cycle, in the account's zone."""
    [extract] = [each for each in EXTRACTS if each.name == "ext_unbilled"]
    found = rows(production, extract.sql)
    charges = rows(production, "SELECT * FROM production.fct_charges WHERE account_id IS NOT NULL")
    invoices = rows(
        production,
        "SELECT subscriber_id, net_amount, period_end_date::timestamp AT TIME ZONE 'Europe/Riga' "
        "AS ended_at FROM production.fct_invoices WHERE invoice_line_kind IN ('fee', 'usage')",
    )
    billed = sum(row["net_amount"] for row in invoices)
    last = {
        row["subscriber_id"]: max(
            each["ended_at"] for each in invoices if each["subscriber_id"] == row["subscriber_id"]
        )
        for row in invoices
    }
    due = sum(
        row["amount"]
        for row in charges
        if row["subscriber_id"] in last and row["event_at"] < last[row["subscriber_id"]]
    )
    assert sum(row["unbilled_amount"] for row in found) == (
        sum(row["amount"] for row in charges) - billed
    )
    assert sum(row["missed_amount"] + row["corrected_amount"] for row in found) == due - billed != 0


def test_cancelled_invoices_and_late_corrections_hide_nothing(
    production: PostgresConnection,
) -> None:
    """Two subscribers of one plan and region, with a charge of 100 each. Both were billed.

    The first invoice is cancelled and issued anew, the second one is cancelled for good. After the
    new invoice, a charge of 7 comes, and a credit of 30.
    """
    charges = [
        (1, 501, 100, "2026-01-10", "2026-01-10", False),
        (2, 502, 100, "2026-01-10", "2026-01-10", False),
        # After the invoices of the 28th.
        (3, 501, 7, "2026-01-11", "2026-01-30", False),
        (4, 501, -30, "2026-01-10", "2026-01-30", True),
        # Before it, so it is on the invoice.
        (5, 501, -1, "2026-01-10", "2026-01-12", True),
    ]
    lines = [
        (1, 501, "cancelled", 99),
        (2, 501, "open", 99),
        (3, 502, "cancelled", 100),
    ]
    [extract] = [each for each in EXTRACTS if each.name == "ext_unbilled"]
    with production.connect(row_factory=dict_row) as session:
        session.execute("DELETE FROM production.fct_charges; DELETE FROM production.fct_invoices")
        session.execute(
            "INSERT INTO production.dim_subscriber"
            " SELECT n, 2, 900, 'Riga', 'Europe/Riga', true FROM generate_series(501, 502) n"
        )
        for number, subscriber, amount, event, recorded, is_correction in charges:
            session.execute(
                "INSERT INTO production.fct_charges (charge_id, subscriber_id, account_id, amount,"
                " event_at, recorded_at, is_correction, currency, charge_kind)"
                " VALUES (%s, %s, 900, %s, %s, %s, %s, 'EUR', 'voice')",
                [number, subscriber, amount, event, recorded, is_correction],
            )
        for number, subscriber, state, amount in lines:
            session.execute(
                "INSERT INTO production.fct_invoices (invoice_line_id, subscriber_id, net_amount,"
                " invoice_state, invoice_line_kind, currency, period_start_date, period_end_date,"
                " issued_date) VALUES (%s, %s, %s, %s, 'usage', 'EUR', '2026-01-05', '2026-01-25',"
                " '2026-01-28')",
                [number, subscriber, amount, state],
            )
        [row] = session.execute(extract.sql.encode()).fetchall()
        amounts = {name: int(value) for name, value in row.items() if name.endswith("_amount")}
        totals = {}
        for name, total in extract.totals.items():
            [found] = session.execute(f"SELECT {total}".encode()).fetchall()
            [totals[name]] = found.values()
        session.rollback()
    assert amounts == {
        "charged_amount": 176,
        "billed_amount": 99,
        "unbilled_amount": 77,
        "missed_amount": 7,
        "corrected_amount": -30,
    }
    assert totals == {name: amounts[name] for name in totals}


def test_the_page_has_the_sums_of_the_facts(
    production: PostgresConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = cube.read(production, OPERATOR_PAGE)
    assert content.rung == OPERATOR_PAGE.cube.ladder[0]
    [charged] = rows(
        production,
        "SELECT sum(amount) AS total FROM production.fct_charges WHERE event_at > '2000-01-01'",
    )
    [called] = rows(
        production,
        "SELECT count(*) AS calls, sum(duration_seconds) AS seconds, "
        "count(*) FILTER (WHERE is_dropped) AS dropped FROM production.fct_calls "
        "WHERE direction = 'out'",
    )
    totals = content.totals.values()
    assert sum(each["revenue"] for each in totals) == charged["total"] * 100
    assert {name: sum(each[name] for each in totals) for name in called} == called
    told, _ = opened(content.archive)
    assert list(told["remarks"].values()) == [1]
    unbilled = told["listings"]["unbilled"]
    [extract] = [each for each in EXTRACTS if each.name == "ext_unbilled"]
    assert sum(unbilled["unbilled"]) == 100 * sum(
        (row["unbilled_amount"] for row in rows(production, extract.sql)), Decimal(0)
    )
    drawn = pictured(monkeypatch, OPERATOR_PAGE, content.course)
    months = rows(
        production,
        "SELECT month::text, sum(charged_amount) AS revenue, sum(call_count) AS calls, "
        "sum(charged_amount) / sum(subscriber_count) AS arpu, sum(data_mb) / 1000 AS volume, "
        "sum(dropped_call_count) AS dropped, sum(complaint_count) AS complaints, "
        "sum(dispute_amount) AS disputed FROM production.agg_usage_by_plan_region_month "
        "WHERE currency <> 'USD' AND month >= '2024-03-01' GROUP BY 1",
    )
    assert len(months) > 12
    for month in months:
        day = month.pop("month")
        found = {name: values[day] for name, values in drawn.items()}
        assert found == pytest.approx({name: float(value) for name, value in month.items()})


def test_years_of_months_begin_with_a_whole_one(production: PostgresConnection) -> None:
    """The row of a month is of its first day, so a month that is cut would be empty."""
    page = replace(OPERATOR_PAGE, cube=replace(OPERATOR_PAGE.cube, ladder=(Rung(1),)))
    told, _ = opened(cube.read(production, page).archive)
    assert (told["first"], told["last"]) == ("2025-04-01", "2026-03-01")
