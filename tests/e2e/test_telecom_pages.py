"""The pages of the mobile operator in headless Chromium: what they show against SQL."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from psycopg.rows import dict_row
from selenium import webdriver
from support.browser import chromium
from support.crm import create_crm
from support.databases import database
from support.mobile import create_mobile

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.connectors import connector
from softcart_assets.lines.telecom.own_reports import CRM_PAGE
from softcart_assets.lines.telecom.pages import OPERATOR_PAGE
from softcart_assets.lines.telecom.sources import CRM
from softcart_assets.pages.kit.database import of_source
from softcart_assets.pages.kit.render import build_page, build_page_from
from tests.e2e.test_pages import open_page, shown


@pytest.fixture(scope="module")
def production(stack) -> Iterator[PostgresConnection]:
    with database() as connection:
        create_mobile(connection)
        yield connection


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


# The newest month, of March, is not over.
SHOWN_IN = """
SELECT {key} AS key, sum(charged_amount) AS revenue, sum(subscriber_count) AS months,
       sum(charged_amount) / sum(subscriber_count) AS arpu, sum(call_count) AS calls,
       sum(dropped_call_count) AS dropped, sum(complaint_count) AS complaints,
       sum(dispute_amount) AS disputed
FROM production.agg_usage_by_plan_region_month f
LEFT JOIN production.dim_plan p ON p.plan_id = f.plan_id AND p.is_current
WHERE currency <> 'USD' AND month BETWEEN '2025-04-01' AND '2026-02-01' GROUP BY 1"""


@pytest.mark.parametrize(
    ("dimension", "key"),
    [
        ("", "''"),
        ("plan", "json_build_array(p.plan_kind, f.plan_id)::text"),
        ("region", "json_build_array(f.region)::text"),
    ],
)
def test_every_figure_of_the_operator_equals_production(
    browser: webdriver.Chrome, production: PostgresConnection, tmp_path: Path, dimension, key
) -> None:
    browser.get_log("browser")
    page = build_page(production, OPERATOR_PAGE, tmp_path / "operator.html").path
    open_page(browser, page, currency=[["EUR"]])
    figures = shown(browser)
    with production.connect(row_factory=dict_row) as session:
        found = session.execute(SHOWN_IN.format(key=key)).fetchall()
    compared = 0
    for row in found:
        place = row.pop("key")
        place = place and json.dumps(json.loads(place), ensure_ascii=False, separators=(",", ":"))
        for name, value in row.items():
            figure = (f"{dimension}-{name}" if dimension else name, place)
            if figure in figures:
                assert abs(Decimal(figures[figure]) - value) <= Decimal(
                    "0.005" if name == "arpu" else 0
                ), figure
                compared += 1
    assert compared >= 7
    assert browser.get_log("browser") == []
    periods = browser.execute_script(
        "return [...document.querySelectorAll('[name=period] option')].map((o) => o.value)"
    )
    assert periods == ["year", "12m", "all", "custom"]


def test_the_page_of_the_crm_equals_the_crm(
    browser: webdriver.Chrome, mysql: MySQLConnection, tmp_path: Path
) -> None:
    create_crm(mysql)
    opened = of_source(connector(CRM.kind).moment(CRM, mysql))
    page = build_page_from(opened, CRM_PAGE, tmp_path / "crm.html").path
    browser.get_log("browser")
    open_page(browser, page, currency=[["EUR"]], period="all")
    figures = shown(browser)
    expected = {
        ("amount", ""): "17.88",
        ("sales", ""): "3",
        ("changes", ""): "1",
        # Of nobody, so shown in the currency that most plans have.
        ("complaints", ""): "4",
        ("contacts", ""): "3",
        ("agent-contacts", '["service"]'): "2",
        ("plan-amount", '["postpaid",1]'): "10.11",
        ("plan-amount", "[null,9]"): "7.77",
    }
    assert {key: Decimal(figures[key]) for key in expected} == {
        key: Decimal(value) for key, value in expected.items()
    }
    assert browser.get_log("browser") == []
    assert "Read from crm" in browser.find_element("css selector", ".as-of").text
