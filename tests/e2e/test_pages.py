"""Declared pages in headless Chromium, opened from disk: what they show against SQL on production,
and what a reader does with them.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from psycopg.rows import dict_row
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from support.browser import chromium
from support.published import TABLES
from support.served import NOBODY, served
from support.warehouse import create_warehouse

from softcart_assets.assembly import LINES
from softcart_assets.connections import PostgresConnection, staging
from softcart_assets.lines.page import Rung
from softcart_assets.lines.shop.pages import RETURN_DAYS, SALES
from softcart_assets.pages.kit.render import build_page
from softcart_assets.publishing.publish import publish

_UNKNOWN = "00000000-0000-0000-0000-000000000000"
_ODDITIES = f"""
UPDATE warehouse.fct_order_lines SET customer_id = NULL WHERE order_id % 13 = 0;
UPDATE warehouse.fct_order_lines SET location_key = '{_UNKNOWN}' WHERE order_id % 7 = 0;
UPDATE warehouse.fct_order_lines SET device_key = '{_UNKNOWN}' WHERE order_id % 17 = 0;
UPDATE warehouse.fct_order_lines SET time_of_day_key = -1 WHERE order_id % 19 = 0;
UPDATE warehouse.fct_order_lines SET product_id = 'P-gone', product_key = '{_UNKNOWN}'
  WHERE order_id % 23 = 0;
UPDATE warehouse.fct_order_lines SET currency = 'USD' WHERE order_id % 29 = 0;
UPDATE warehouse.fct_order_lines SET currency = 'XXX' WHERE order_id % 101 = 0;
UPDATE warehouse.dim_product
  SET product_name = '</script><script>window.hacked = 1</script><img src=x onerror="hacked=1">'
  WHERE product_id = 'P000001' AND is_current;
"""

_SALE = """
CREATE TEMP VIEW sale AS
SELECT f.*, d.device, l.country_code AS country, l.region, s.channel,
       p.department_name AS department,
       p.category_id AS category, p.vendor_id AS vendor, pay.payment_method AS payment,
       CASE WHEN f.currency = 'USD' THEN 'USD' ELSE 'EUR' END AS shown_in
FROM production.fct_order_lines f
LEFT JOIN production.dim_device d USING (device_key)
LEFT JOIN production.dim_location l USING (location_key)
LEFT JOIN production.dim_store s ON s.store_id = f.store_id AND s.is_current
LEFT JOIN production.dim_product p ON p.product_id = f.product_id AND p.is_current
LEFT JOIN production.fct_payments pay USING (order_id)
WHERE NOT f.is_cancelled
"""

PATHS = {
    "place": ("country", "region"),
    "seller": ("channel", "store_id"),
    "device": ("device",),
    "payment": ("payment",),
    "category": ("department", "category"),
    "vendor": ("vendor",),
    "currency": ("shown_in",),
}


@pytest.fixture(scope="module")
def production(stack) -> Iterator[PostgresConnection]:
    server, database = staging(), f"test_{secrets.token_hex(6)}"
    with server.connect(autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {database}")
    connection = replace(server, database=database)
    create_warehouse(connection, orders=3000)
    with connection.connect() as session:
        session.execute(_ODDITIES)
    publish(connection, connection, TABLES, audits=())
    yield connection
    with server.connect(autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture(scope="module")
def page(production: PostgresConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(production, SALES, tmp_path_factory.mktemp("pages") / "sales.html").path


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


def open_page(browser: webdriver.Chrome, page: Path, **chosen: object) -> None:
    """Open a page with choices: lists of paths by dimension, or a text for the period."""
    entries = [
        (name, text)
        for name, value in chosen.items()
        for text in (
            [value]
            if isinstance(value, str)
            else [json.dumps(path, ensure_ascii=False, separators=(",", ":")) for path in value]
        )
    ]
    browser.get("about:blank")
    browser.get(f"{page.as_uri()}#{urllib.parse.urlencode(entries)}")
    WebDriverWait(browser, 30, poll_frequency=0.02).until(
        lambda driver: driver.execute_script("return document.body?.dataset.drawn")
    )


def shown(browser: webdriver.Chrome) -> dict[tuple[str, str], str]:
    """Every figure of the page, with all rows of its tables: (name, row) → exact value."""
    rows = browser.execute_script("""
        for (const more of document.querySelectorAll(".more:first-child"))
          while (!more.hidden) more.click();
        return [...document.querySelectorAll("[data-figure]")].map((element) => [
          element.dataset.figure, element.closest("[data-key]")?.dataset.key ?? "",
          element.dataset.value]);
    """)
    return {(name, row): value for name, row, value in rows}


def condition(chosen: dict[str, list[list]]) -> str:
    """The SQL of choices: any path of each dimension."""
    parts = ["true"]
    for name, paths in chosen.items():
        any_of = (
            " AND ".join(
                f"{column} IS NOT DISTINCT FROM " + ("NULL" if part is None else f"'{part}'")
                for column, part in zip(PATHS[name], path, strict=False)
            )
            for path in paths
        )
        parts.append(f"({' OR '.join(any_of)})")
    return " AND ".join(parts)


def differences(
    production: PostgresConnection, figures: dict[tuple[str, str], str], chosen: dict
) -> list[str]:
    """Each card and ranking of the last 12 months that is not what production says."""
    found: list[str] = []

    def compare(name: str, row: str, value: object, tolerance: str = "0") -> None:
        text = figures.get((name, row), "missing")
        if text == "missing" or (text == "") != (value is None):
            found.append(f"{name} {row}: shows {text!r}, not {value}")
        elif text and abs(Decimal(text) - Decimal(str(value))) > Decimal(tolerance):
            found.append(f"{name} {row}: shows {text}, not {value}")

    with production.connect(row_factory=dict_row) as session:
        session.execute(_SALE)
        last = session.execute("SELECT max(order_date) AS d FROM sale").fetchone()["d"]
        where = condition({"currency": [["EUR"]]} | chosen)
        sums = """sum(net_amount) AS revenue, sum(margin_amount) AS margin,
          count(DISTINCT order_id) AS orders, count(DISTINCT customer_id) AS customers,
          sum(quantity) AS units,
          sum(margin_amount) / nullif(sum(net_amount), 0) AS "marginRate",
          sum(net_amount) / count(DISTINCT order_id) AS basket"""
        span = (last.replace(year=last.year - 1) + timedelta(1), last)
        for suffix, (start, end) in {"": span, "-before": before(*span)}.items():
            row = session.execute(
                f"SELECT {sums} FROM sale WHERE {where} AND order_date BETWEEN %s AND %s",
                (start, end),
            ).fetchone()
            for name in ("revenue", "margin", "orders", "customers"):
                compare(f"{name}{suffix}", "", row[name] or 0)
            compare(f"basket{suffix}", "", row["basket"], "0.005")
            compare(f"marginRate{suffix}", "", row["marginRate"], "0.000001")
        settled = session.execute(
            "SELECT sum(refund_amount) / sum(net_amount) AS rate FROM sale "
            f"WHERE {where} AND order_date BETWEEN %s AND %s",
            (span[0], last - timedelta(RETURN_DAYS)),
        ).fetchone()
        compare("returnRate", "", settled["rate"], "0.000001")
        for name, columns in PATHS.items():
            if name == "currency":
                continue
            depth = 2 if name == "seller" or name in chosen else 1
            key = ", ".join(columns[:depth])
            for row in session.execute(
                f"SELECT json_build_array({key})::text AS key, {sums} FROM sale "
                f"WHERE {where} AND order_date BETWEEN %s AND %s GROUP BY {key}",
                span,
            ).fetchall():
                path = json.dumps(json.loads(row["key"]), ensure_ascii=False, separators=(",", ":"))
                compare(f"{name}-revenue", path, row["revenue"])
                if (f"{name}-orders", path) in figures:
                    compare(f"{name}-orders", path, row["orders"])
        for row in session.execute(
            f"SELECT product_id, {sums} FROM sale WHERE {where} AND order_date BETWEEN %s AND %s "
            "GROUP BY product_id",
            span,
        ).fetchall():
            for name in ("revenue", "margin", "units"):
                compare(f"product-{name}", f'["{row["product_id"]}"]', row[name])
    return found


def before(start: date, end: date) -> tuple[date, date]:
    return start.replace(year=start.year - 1), end.replace(year=end.year - 1)


CHOICES = {
    "nothing": {},
    "two countries": {"place": [["DE"], ["NL", "Utrecht"]]},
    "two categories of a department": {"category": [["Home", "c0"], ["Home", "c3"]]},
    "not in the catalogue": {"category": [[None]]},
    "a channel, a device and a payment method": {
        "seller": [["online"]],
        "device": [["mobile"], ["laptop"]],
        "payment": [["card"]],
    },
    "a vendor in dollars": {"vendor": [[5]], "currency": [["USD"]]},
}


@pytest.mark.parametrize("chosen", CHOICES.values(), ids=CHOICES)
def test_every_figure_equals_production(browser, page, production, chosen):
    open_page(browser, page, **({"currency": [["EUR"]]} | chosen))
    assert differences(production, shown(browser), chosen) == []


@pytest.mark.parametrize("rung", SALES.cube.ladder[2:], ids=lambda rung: str(len(rung.without)))
def test_a_page_too_large_for_every_order_is_exact_and_says_so(
    browser, production, tmp_path, rung: Rung
):
    coarse = replace(SALES, cube=replace(SALES.cube, ladder=(rung,)))
    open_page(browser, build_page(production, coarse, tmp_path / "page.html").path)
    figures = shown(browser)
    with production.connect() as session:
        session.execute(_SALE)
        (revenue, orders) = session.execute(
            "SELECT sum(net_amount), count(DISTINCT order_id) FROM sale WHERE shown_in = 'EUR' "
            "AND order_date > (SELECT max(order_date) - interval '1 year' FROM sale)"
        ).fetchone()
    assert Decimal(figures["revenue", ""]) == revenue
    assert int(figures["orders", ""]) == orders
    assert figures["customers", ""] == ""
    assert browser.find_element(By.ID, "detail").get_attribute("textContent") == rung.says


def test_every_chart_tells_its_figures_to_pointer_and_keyboard(browser, page):
    """Each tooltip said "undefined": no test hovered."""
    open_page(browser, page)
    charts = browser.find_elements(By.CSS_SELECTOR, ".chart svg")
    assert charts
    tip = browser.find_element(By.ID, "tip")
    for chart in charts:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
        for offset in (-150, 0, 150):
            ActionChains(browser).move_to_element_with_offset(chart, offset, 10).perform()
            assert tip.is_displayed()
            lines = tip.text.split("\n")
            assert len(lines) >= 4
            assert not {"undefined", "NaN", "null", "–"} & set(tip.text.split())
        before_key = tip.text
        browser.execute_script("arguments[0].focus()", chart)
        chart.send_keys(Keys.ARROW_LEFT)
        assert tip.text != before_key
        chart.send_keys(Keys.ESCAPE)
        assert not tip.is_displayed()


def test_names_filter_and_hostile_text_stays_text(browser, page):
    open_page(browser, page)
    panel = browser.find_element(By.CSS_SELECTOR, '[data-filter="place"]')
    panel.find_element(By.TAG_NAME, "summary").click()
    panel.find_element(By.CSS_SELECTOR, "input[value='[\"DE\"]']").click()
    assert "Germany" in browser.find_element(By.ID, "span").text
    assert urllib.parse.quote_plus('["DE"]') in browser.current_url
    shown(browser)
    assert browser.execute_script("return window.hacked") is None


def test_paper_shows_the_chosen_filters(browser, page):
    open_page(browser, page, place=[["DE"]], period="90d")
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert "Germany" in browser.find_element(By.ID, "span").text
        assert not browser.find_element(By.TAG_NAME, "form").is_displayed()
        assert browser.execute_script(
            "return [...document.querySelectorAll('.panel')].every("
            "(panel) => panel.scrollWidth <= panel.clientWidth + 1)"
        )
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("width", [400, 1024, 1600])
def test_nothing_is_cut_off_and_every_target_can_be_hit(browser, page, width):
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        open_page(browser, page)
        found = browser.execute_script("""
            const small = [...document.querySelectorAll("button, summary, select, input, a[href]")]
              .filter((each) => each.checkVisibility() && !each.closest("label, .skip"))
              .filter((each) => each.getBoundingClientRect().height < 24)
              .map((each) => each.outerHTML.slice(0, 80));
            return [document.documentElement.scrollWidth - innerWidth, small,
              [...document.querySelectorAll(".panel")]
                .filter((panel) => panel.scrollWidth > panel.clientWidth + 1)
                .map((panel) => panel.id)];
        """)
        assert found == [0, [], []]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_another_user_opens_the_served_page(stack, page, tmp_path):
    """Only its owner may open the file."""
    [name] = [each.name for each in LINES.dashboards if each.page is SALES]
    folder = tmp_path / "extracts"
    folder.mkdir(mode=0o700)
    shutil.copy(page, folder / f"{name}.html")
    with served(stack, folder) as (_, address), chromium(user=NOBODY) as other:
        other.get(f"{address}{name}.html")
        WebDriverWait(other, 30, poll_frequency=0.02).until(
            lambda driver: driver.execute_script("return document.body?.dataset.drawn")
        )
        assert shown(other)
        # Said by the server, as the file cannot know.
        assert other.find_element(By.ID, "state").text
        assert other.get_log("browser") == []


def test_no_request_leaves_the_page_and_nothing_is_logged(browser, page):
    browser.get_log("performance")
    browser.get_log("browser")
    open_page(browser, page)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = {
        event["params"]["request"]["url"].split("#")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert requests <= {page.as_uri(), "about:blank"}
    assert browser.get_log("browser") == []
