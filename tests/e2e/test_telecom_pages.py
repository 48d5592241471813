"""The pages of the mobile operator in headless Chromium: what they show against SQL."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from psycopg.rows import dict_row
from selenium import webdriver
from support.browser import chromium
from support.crm import create_crm, execute
from support.databases import database
from support.mobile import create_mobile

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.telecom.extracts import UNBILLED
from softcart_assets.lines.telecom.own_reports import CRM_PAGE
from softcart_assets.lines.telecom.pages import OPERATOR_PAGE
from softcart_assets.lines.telecom.sources import CRM
from softcart_assets.pages.kit.database import of_source
from softcart_assets.pages.kit.render import build_page, build_page_from
from tests.e2e.test_pages import drawn_figures, first_figures, open_page, shown


@pytest.fixture(scope="module")
def production(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_mobile(connection)
        yield connection


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


SHOWN_IN = """
SELECT {key} AS key, sum(charged_amount) AS revenue, sum(subscriber_count) AS months,
       sum(charged_amount) / nullif(sum(subscriber_count), 0) AS arpu, sum(fee_amount) AS fee,
       sum(voice_amount) AS voice, sum(sms_amount) AS messages, sum(data_amount) AS data,
       sum(roaming_amount) AS roaming, sum(call_count) AS calls, sum(call_seconds) AS seconds,
       sum(sms_count) AS texts, sum(data_mb) * 1000 AS volume, sum(dropped_call_count) AS dropped,
       sum(dropped_call_count)::numeric / nullif(sum(call_count), 0) AS "droppedRate",
       sum(complaint_count) AS complaints, sum(network_complaint_count) AS network,
       sum(open_complaint_count) AS pending,
       sum(network_complaint_count)::numeric / nullif(sum(dropped_call_count), 0)
         AS "complaintRate",
       sum(dispute_count) AS disputes, sum(dispute_amount) AS disputed,
       sum(open_dispute_amount) AS contested
FROM production.agg_usage_by_plan_region_month f
LEFT JOIN production.dim_plan p ON p.plan_id = f.plan_id AND p.is_current
WHERE currency <> 'USD' AND month BETWEEN '{first}' AND '{last}' GROUP BY 1"""
_TOLERANCE = {"arpu": "0.005", "droppedRate": "0.000001", "complaintRate": "0.000001"}


def sums(production: PostgresConnection, key: str, first: str, last: str) -> dict[str, dict]:
    with production.connect(row_factory=dict_row) as session:
        rows = session.execute(SHOWN_IN.format(key=key, first=first, last=last)).fetchall()
    return {row.pop("key"): row for row in rows}


@pytest.fixture(scope="module")
def operator(production: PostgresConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    return build_page(production, OPERATOR_PAGE, folder / "operator.html").path


_KEYS = {
    "": "''",
    "plan": "json_build_array(p.plan_kind, f.plan_id)::text",
    "region": "json_build_array(f.region)::text",
}


def test_every_figure_of_the_operator_equals_production(
    browser: webdriver.Chrome, production: PostgresConnection, operator: Path
) -> None:
    """The newest month, of March, is not over, so it is compared with nothing."""
    browser.get_log("browser")
    open_page(browser, operator, currency=[["EUR"]])
    wanted: dict[tuple[str, str], Decimal | None] = {}
    for dimension, key in _KEYS.items():
        now = sums(production, key, "2025-10-01", "2026-03-01")
        over = sums(production, key, "2025-10-01", "2026-02-01")
        before = sums(production, key, "2025-04-01", "2025-08-01")
        for place, row in now.items():
            cell = json.dumps(json.loads(place or "0"), ensure_ascii=False, separators=(",", ":"))
            settled = over.get(place, {}).get("arpu")
            for name, value in (row | {"arpu": settled}).items():
                if dimension:
                    wanted[f"{dimension}-{name}", cell] = value
                    continue
                wanted[name, ""] = wanted["steps-amount", name] = value
                wanted[f"{name}-before", ""] = before[place][name]
    with production.connect(row_factory=dict_row) as session:
        for row in session.execute(f"{UNBILLED} ORDER BY 1".encode()).fetchall():
            cell = f"{row['currency']} {row['plan_name']} {row['region']}"
            for name in ("charged", "billed", "unbilled", "missed", "corrected"):
                wanted[f"unbilled-{name}", cell] = row[f"{name}_amount"]
    compared = set()
    for (name, place), text in shown(browser).items():
        if name.startswith("trend-") or name.endswith("-change"):
            continue
        value = wanted[name, place]
        assert (text == "") == (value is None), (name, place)
        tolerance = Decimal(_TOLERANCE.get(name.removesuffix("-before").split("-")[-1], 0))
        assert not text or abs(Decimal(text) - (value or 0)) <= tolerance, (name, place)
        compared.add(name)
    assert len(compared) > 40
    assert browser.get_log("browser") == []


def test_trends_by_month_and_first_figures_are_those_of_production(
    browser: webdriver.Chrome, production: PostgresConnection, operator: Path
) -> None:
    first = first_figures(operator)
    assert len(first) > 10
    open_page(browser, operator)
    assert drawn_figures(browser) == first
    open_page(browser, operator, currency=[["EUR"]], period="12m", compare="year")
    figures = {key: value for key, value in shown(browser).items() if key[0].startswith("trend-")}
    now = sums(production, "month::text", "2025-04-01", "2026-03-01")
    year = "(month + interval '1 year')::date::text"
    before = sums(production, year, "2024-04-01", "2025-03-01")
    trends = ("revenue", "arpu", "calls", "volume", "dropped", "complaints", "disputed")
    assert {*figures} == {
        (f"trend-{name}-{side}", month)
        for name in trends
        for side in ("now", "before")
        for month in now
    }
    for (name, month), text in figures.items():
        _, measure, side = name.split("-")
        value = (before if side == "before" else now).get(month, {}).get(measure)
        # The page has three years, and the operator fewer.
        assert (text == "") == (value is None), (name, month)
        assert not text or abs(Decimal(text) - value) <= Decimal("0.005"), (name, month)
    periods = browser.execute_script(
        "return [...document.querySelectorAll('[name=period] option')].map((o) => o.value)"
    )
    assert periods == ["3m", "6m", "year", "12m", "all", "custom"]


def worked(crm: MySQLConnection) -> dict[tuple[str, str], dict[str, Decimal]]:
    """The sums of everything in euros, by dimension and part. Each table is read by itself."""
    rows = execute(crm, "SELECT id, kind, currency FROM plans")
    plans = {key: (kind, sign) for key, kind, sign in rows}
    teams = dict(execute(crm, "SELECT id, team FROM agents"))
    rows = execute(crm, "SELECT id, plan_id, region FROM subscribers")
    people = {key: (plan, region) for key, plan, region in rows}
    # The first plan of a subscriber is no change.
    tables = {
        "plan_id, 'sale', currency, channel, 1, amount FROM sales": ("sales", "amount"),
        "plan_id, 'change_of_plan', NULL, NULL, 1 FROM subscriptions WHERE id = 2": ("changes",),
        "NULL, category, NULL, NULL, 1 FROM complaints": ("complaints",),
        "NULL, topic, NULL, channel, 1, outcome = 'solved', duration_seconds FROM interactions": (
            "contacts",
            "solved",
            "seconds",
        ),
    }
    found: dict[tuple[str, str], dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for query, names in tables.items():
        rows = execute(crm, f"SELECT subscriber_id, agent_id, {query}")
        for who, agent, plan, reason, sign, channel, *amounts in rows:
            own, region = people.get(who, (None, None))
            kind, currency = plans.get(plan or own, (None, None))
            if (sign or currency or "EUR") != "EUR":
                continue
            parts = {
                "": "",
                "plan": [kind, plan or own],
                "region": [region],
                "agent": [teams.get(agent)],
                "reason": [reason],
                "channel": [channel or "none"],
            }
            for dimension, part in parts.items():
                place = part and json.dumps(part, separators=(",", ":"))
                for name, amount in zip(names, amounts, strict=True):
                    found[dimension, place][name] += Decimal(amount)
    for row in found.values():
        row["mean"] = row["amount"] / row["sales"] if row["sales"] else None
        for name, part in (("solvedRate", "solved"), ("each", "seconds")):
            row[name] = row[part] / row["contacts"] if row["contacts"] else None
    return found


def test_every_figure_of_the_crm_equals_the_crm(
    browser: webdriver.Chrome, mysql: MySQLConnection, tmp_path: Path
) -> None:
    create_crm(mysql)
    opened = of_source(connector(CRM.kind).moment(CRM, mysql))
    page = build_page_from(opened, CRM_PAGE, tmp_path / "crm.html").path
    browser.get_log("browser")
    open_page(browser, page)
    assert drawn_figures(browser) == first_figures(page)
    open_page(browser, page, currency=[["EUR"]], period="all")
    figures, wanted = shown(browser), worked(mysql)
    assert figures["amount", ""] == "17.88"
    assert {place for name, place in figures if name == "plan-amount"} == {
        '["postpaid",1]',
        '["postpaid",2]',
        "[null,9]",
        "[null,null]",
    }
    compared = set()
    for (name, place), text in figures.items():
        dimension, _, measure = name.rpartition("-")
        if dimension in ("trend-amount", "trend-complaints", "trend-contacts", "open"):
            continue
        if measure in ("change", "before"):
            continue
        value = wanted[dimension, place][measure]
        assert (text == "") == (value is None), (name, place)
        assert not text or abs(Decimal(text) - value) <= Decimal("0.005"), (name, place)
        compared.add(name)
    assert len(compared) > 20
    assert browser.get_log("browser") == []
    assert "Read from crm" in browser.find_element("css selector", ".as-of").text
