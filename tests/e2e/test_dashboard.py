"""The dashboard in headless Chromium, opened from disk: every figure it shows against SQL on
production.
"""

from __future__ import annotations

import base64
import gzip
import json
import secrets
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from psycopg.rows import dict_row
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from support.browser import chromium
from support.published import TABLES
from support.warehouse import create_warehouse

from softcart_assets.connections import PostgresConnection, staging
from softcart_assets.pages.shop import DashboardError, build_page, charts, data
from softcart_assets.publishing.publish import publish

HOSTILE = (
    '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked=1"> '
    "'quote' & 💡"
)

# What a generated warehouse lacks: guests, unknown places, devices and times, lines whose order has
# not arrived yet, a product that is not in the catalogue, one with a hostile name, one that moved
# to another category.
_UNKNOWN = "00000000-0000-0000-0000-000000000000"
_ODDITIES = f"""
UPDATE warehouse.fct_order_lines SET customer_id = NULL WHERE order_id % 13 = 0;
UPDATE warehouse.fct_order_lines SET location_key = '{_UNKNOWN}' WHERE order_id % 7 = 0;
UPDATE warehouse.fct_order_lines SET device_key = '{_UNKNOWN}' WHERE order_id % 17 = 0;
UPDATE warehouse.fct_order_lines SET time_of_day_key = -1 WHERE order_id % 19 = 0;
UPDATE warehouse.fct_order_lines SET product_id = 'P-gone', product_key = '{_UNKNOWN}'
  WHERE order_id % 23 = 0;
UPDATE warehouse.fct_order_lines
  SET customer_id = NULL, store_id = NULL, store_key = '{_UNKNOWN}', currency = 'XXX',
    order_status = 'unknown',
      is_cancelled = false WHERE order_id % 101 = 0;
UPDATE warehouse.dim_product SET product_name = $${HOSTILE}$$ WHERE product_id = 'P000001'
  AND is_current;
UPDATE warehouse.dim_product SET category_id = 'c1', category_name = 'Category 1',
  department_name = 'Electronics'
  WHERE product_id = 'P000004' AND is_current;
UPDATE warehouse.dim_location SET region = NULL WHERE city = 'Berlin';
"""


@contextmanager
def fresh_database() -> Iterator[PostgresConnection]:
    """An empty database on the tests' PostgreSQL."""
    server = staging()
    database = f"test_{secrets.token_hex(6)}"
    with server.connect(autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {database}")
    yield replace(server, database=database)
    with server.connect(autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture(scope="module")
def production(stack) -> Iterator[PostgresConnection]:
    """A production database with one published version of 3,000 orders."""
    with fresh_database() as connection:
        create_warehouse(connection, orders=3000)
        with connection.connect() as session:
            session.execute(_ODDITIES)
        publish(connection, connection, TABLES, audits=())
        yield connection


@pytest.fixture(scope="module")
def page(production: PostgresConnection, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_page(production, tmp_path_factory.mktemp("dashboard") / "page.html").path


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    with chromium() as driver:
        yield driver


DIMENSIONS = {
    "place": ("country", "region"),
    "seller": ("channel", "store_id"),
    "device": ("device",),
    "category": ("department_name", "category_id"),
}


def path_text(path: Sequence[Any]) -> str:
    """A path as the page writes it."""
    return json.dumps(path, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Selection:
    """What a reader has chosen; paths as in the page, e.g. `("DE", "Bayern")`."""

    period: str = "12m"
    days: tuple[date, date] | None = None
    place: tuple = ()
    seller: tuple = ()
    device: tuple = ()
    category: tuple = ()

    @property
    def address(self) -> str:
        """The part of the page's address after #."""
        days = {"from": self.days[0], "to": self.days[1]} if self.days else {}
        paths = {name: path_text(getattr(self, name)) for name in DIMENSIONS}
        return urllib.parse.urlencode({"period": self.period} | days | paths)


def wait_drawn(browser: webdriver.Chrome, act: Callable[[], Any]) -> None:
    """Do something that makes the page draw, and wait until it has."""
    drawn = "return Number(document.body?.dataset.drawn ?? 0)"
    before = browser.execute_script(drawn)
    act()
    WebDriverWait(browser, 30, poll_frequency=0.02).until(
        lambda driver: driver.execute_script(drawn) > before
    )


def open_page(browser: webdriver.Chrome, page: Path, selection: Selection | None = None) -> None:
    browser.get("about:blank")
    address = f"#{selection.address}" if selection else ""
    wait_drawn(browser, lambda: browser.get(page.as_uri() + address))


def select(browser: webdriver.Chrome, selection: Selection) -> None:
    wait_drawn(
        browser, lambda: browser.execute_script("location.hash = arguments[0]", selection.address)
    )


def shown(browser: webdriver.Chrome) -> dict[tuple[str, str], str]:
    """Every figure of the page, with all rows of its tables: (name, row) → exact value."""
    return {
        (name, row): value
        for name, row, value in browser.execute_script("""
            for (const more of document.querySelectorAll(".more")) while (!more.hidden)
              more.click();
            return [...document.querySelectorAll("[data-figure]")]
              .filter((element) => !element.closest("[hidden]"))
              .map((element) => [
                element.dataset.figure,
                [element.closest("[data-key]")?.dataset.key,
                  element.dataset.hour].filter(Boolean).join(" "),
                element.dataset.value,
              ]);
        """)
    }


# The page's definitions, written anew. The joins by plain names make a double current row visible.
_SALE = """
CREATE TEMP VIEW sale AS
SELECT f.*, d.device, s.channel, p.department_name, p.category_id,
       l.country_code AS country, l.region, to_char(f.order_date, 'FMDay') AS weekday,
         f.time_of_day_key / 60 AS hour,
       upper(left(d.device, 1)) || replace(substr(d.device, 2), '_', ' ') AS device_name
FROM production.fct_order_lines f
LEFT JOIN production.dim_device d USING (device_key)
LEFT JOIN production.dim_location l USING (location_key)
LEFT JOIN production.dim_store s ON s.store_id = f.store_id AND s.is_current
LEFT JOIN production.dim_product p ON p.product_id = f.product_id AND p.is_current
WHERE NOT f.is_cancelled
"""
_NOTHING: dict[str, Any] = {
    **dict.fromkeys(("revenue", "margin", "units", "refund", "orders", "customers"), 0),
    **dict.fromkeys(("basket", "marginRate", "returnRate")),
}


class Expected:
    """What the page must show for a selection, from production: `figures`, as `shown` gives them.

    `coarsened`: what the page leaves out; where it then cannot follow the selection, it says so,
    and this does neither.
    """

    def __init__(
        self, production: PostgresConnection, selection: Selection, coarsened: tuple[str, ...] = ()
    ) -> None:
        self.figures: dict[tuple[str, str], Any] = {}
        self.selection, self.coarsened = selection, coarsened
        with production.connect(row_factory=dict_row) as self.session:
            self.session.execute(_SALE)
            (span,) = self.rows(
                "SELECT min(order_date) AS first, max(order_date) AS last FROM sale"
            )
            self.first, last = span["first"], span["last"]
            self.start, self.end = (
                selection.days
                or {
                    "30d": (last - timedelta(29), last),
                    "90d": (last - timedelta(89), last),
                    "year": (date(last.year, 1, 1), last),
                    "12m": (last.replace(year=last.year - 1) + timedelta(1), last),
                    "all": (self.first, last),
                }[selection.period]
            )
            self.before = (
                self.start.replace(year=self.start.year - 1),
                self.end.replace(year=self.end.year - 1),
            )
            self.is_comparable = self.before[0] >= self.first
            self.read_cards()
            self.read_rankings()
            self.read_trend()
            self.read_products()
            self.read_hours()
            self.read_what_follows_no_period()

    def rows(self, query: str, **parameters) -> list[dict[str, Any]]:
        return self.session.execute(query, parameters).fetchall()

    def put(self, prefix: str, row: str, values: dict[str, Any], suffix: str = "") -> None:
        self.figures |= {(f"{prefix}{name}{suffix}", row): value for name, value in values.items()}

    def chosen(self, dimensions: Iterable[str], table: str = "") -> str:
        """The condition that the selection puts on these dimensions."""
        return "".join(
            f" AND {table}{column} IS NOT DISTINCT FROM "
            + ("NULL" if part is None else f"'{part}'")
            for dimension in dimensions
            for column, part in zip(
                DIMENSIONS[dimension], getattr(self.selection, dimension), strict=False
            )
        )

    def sums(
        self,
        key: str,
        start: date,
        end: date,
        dimensions: Iterable[str] = DIMENSIONS,
        where: str = "true",
    ) -> dict[str, dict[str, Any]]:
        """The measures of the selection in these days, by that expression."""
        rows = self.rows(
            f"""
            SELECT ({key})::text AS key, sum(net_amount) AS revenue, sum(margin_amount) AS margin,
                   sum(quantity) AS units, sum(refund_amount) AS refund,
                     count(DISTINCT order_id) AS orders,
                   count(DISTINCT customer_id) AS customers, sum(net_amount) / count(DISTINCT
                     order_id) AS basket,
                   sum(margin_amount) / nullif(sum(net_amount), 0) AS "marginRate",
                   sum(refund_amount) / nullif(sum(net_amount), 0) AS "returnRate"
            FROM sale
            WHERE {where} AND order_date BETWEEN %(start)s AND %(end)s {self.chosen(dimensions)}
            GROUP BY 1""",
            start=start,
            end=end,
        )
        return {row.pop("key"): row for row in rows}

    def read_cards(self) -> None:
        is_known = not self.coarsened or not (self.selection.days or self.chosen(DIMENSIONS))
        unknown = {} if is_known else {"customers": None}
        self.put("", "", self.sums("''", self.start, self.end).get("", _NOTHING) | unknown)
        if self.is_comparable:
            self.put("", "", self.sums("''", *self.before).get("", _NOTHING), "-before")

    def read_rankings(self) -> None:
        finer = {"place": "region", "seller": "store", "category": "category"}
        for dimension, columns in DIMENSIONS.items():
            is_fine = dimension in finer and finer[dimension] not in self.coarsened
            depth = (
                2
                if is_fine and (dimension == "seller" or getattr(self.selection, dimension))
                else 1
            )
            key = f"json_build_array({', '.join(columns[:depth])})"
            now = self.sums(key, self.start, self.end)
            before = self.sums(key, *self.before) if self.is_comparable else {}
            for row in now.keys() | before.keys():
                values = now.get(row, _NOTHING)
                past = before.get(row, _NOTHING)["revenue"]
                change = (values["revenue"] - past) / past if past else None
                self.put(f"{dimension}-", path_text(json.loads(row)), values | {"change": change})

    def read_trend(self) -> None:
        days = (self.end - self.start).days + 1
        unit = "day" if days <= 62 else "week" if days <= 200 else "month"
        piece = f"greatest(date_trunc('{unit}', {{}}), '{self.start}')::date"
        pieces = self.rows(
            f"SELECT DISTINCT {piece.format('day')}::text AS piece "
            "FROM generate_series(%(start)s::timestamp, %(end)s, '1 day') day",
            start=self.start,
            end=self.end,
        )
        now = self.sums(piece.format("order_date"), self.start, self.end)
        before = self.sums(piece.format("order_date + interval '1 year'"), *self.before)
        for start in (row["piece"] for row in pieces):
            is_known = date.fromisoformat(start).replace(year=int(start[:4]) - 1) >= self.first
            unknown = dict.fromkeys(_NOTHING)
            self.put("trend-", start, now.get(start, _NOTHING))
            self.put(
                "trend-", start, before.get(start, _NOTHING) if is_known else unknown, "-before"
            )

    def read_products(self) -> None:
        if self.coarsened:
            following_month = (self.end.replace(day=1) + timedelta(31)).replace(day=1)
            products = self.sums(
                "product_id",
                self.start.replace(day=1),
                following_month - timedelta(1),
                ["category"],
            )
        else:
            products = self.sums("product_id", self.start, self.end)
        for product, values in products.items():
            self.put("product-", product, values)

    def read_hours(self) -> None:
        orders: Counter[str] = Counter()
        if self.coarsened:
            for row in self.rows(
                "SELECT upper(left(device, 1)) || replace(substr(device, 2), '_', ' ') AS device, "
                "hour, "
                "order_count AS orders, to_char(date '2024-01-01' + weekday::int - 1, 'FMDay') AS "
                "weekday "
                "FROM production.agg_orders_by_device_weekday_hour WHERE true "
                f"{self.chosen(['device'])}"
            ):
                orders[f"{row['device']} {row['hour']}"] += row["orders"]
                orders[f"{row['weekday']} {row['hour']}"] += row["orders"]
        else:
            for name in ("device_name", "weekday"):
                key = f"{name} || ' ' || hour"
                for row, values in self.sums(
                    key, self.start, self.end, where="time_of_day_key >= 0"
                ).items():
                    orders[row] += values["orders"]
        for row, count in orders.items():
            self.put("hours-", row, {"orders": count})

    def read_what_follows_no_period(self) -> None:
        products = "(SELECT * FROM production.dim_product WHERE is_current)"
        stock = f"""
            FROM production.agg_stock_cover_by_store_product c
            LEFT JOIN {products} p ON p.product_id = c.product_id
            LEFT JOIN production.dim_store s ON s.store_id = c.store_id AND s.is_current
            WHERE stock_risk IN ('out', 'critical', 'low')
            {self.chosen(["category"])} {self.chosen(["seller"], "s.")}"""
        self.put("stock-", "", {"out": 0, "critical": 0, "low": 0})
        for row in self.rows(f"SELECT stock_risk, count(*) AS products {stock} GROUP BY 1"):
            self.put("stock-", "", {row["stock_risk"]: row["products"]})
        for row in self.rows(
            "SELECT c.store_id || '/' || c.product_id AS key, quantity_on_hand AS quantity, "
            "reorder_point AS reorder, "
            f"sold_quantity_28d AS sold, round(cover_days::numeric, 1) AS cover {stock}"
        ):
            self.put("stock-", row.pop("key"), row)
        for row in self.rows(
            f"""
            SELECT product_id_a || '/' || product_id_b AS key, basket_count AS baskets, lift,
                   greatest(confidence_a_to_b_pct, confidence_b_to_a_pct) / 100 AS share
            FROM (SELECT * FROM production.agg_baskets_by_product_pair
                  ORDER BY basket_count DESC, product_id_a, product_id_b LIMIT {data.PAIR_LIMIT})
                    pair
            WHERE EXISTS (SELECT FROM {products} p WHERE p.product_id IN (product_id_a,
              product_id_b)
                          {self.chosen(["category"])})"""
        ):
            self.put("pair-", row.pop("key"), row)
        for row in self.rows(
            "SELECT segment AS key, count(*) AS customers, count(*) * 1.0 / sum(count(*)) OVER () "
            "AS share, "
            "sum(monetary_amount) AS revenue, round(avg(recency_days), 1) AS recency, "
            "round(avg(frequency_count), 2) AS frequency FROM production.agg_rfm_by_customer GROUP "
            "BY 1"
        ):
            self.put("segment-", row.pop("key"), row)


def differences(figures: dict[tuple[str, str], str], expected: Expected) -> list[str]:
    """Every figure shown that is not the expected one, and every table row that is missing or too
    many.
    """

    def differs(name: str, text: str, value: Any) -> bool:
        if text == "" or value is None:
            return text != "" or value is not None
        rounding = {
            "basket": "0.005",
            "Rate": "0.0000005",
            "change": "0.0000005",
            "share": "0.0000005",
        }
        tolerance = next((r for part, r in rounding.items() if part in name), "0")
        return abs(Decimal(text) - Decimal(str(value))) > Decimal(tolerance)

    found = [
        f"{name} {row}: shows {text!r}, not {expected.figures.get((name, row), 'there')}"
        for (name, row), text in figures.items()
        if differs(
            name, text, expected.figures.get((name, row), 0 if name.startswith("hours-") else None)
        )
    ]
    rows = {(name.split("-")[0], row) for name, row in figures}
    wanted = {(name.split("-")[0], row) for name, row in expected.figures}
    return found + [f"{table} {row}: is missing" for table, row in wanted - rows if row]


SELECTIONS = {
    "nothing chosen": Selection(),
    "one country, last 30 days": Selection("30d", place=("DE",)),
    "a region and a category": Selection(
        "90d", place=("NL", "Utrecht"), category=("Electronics", "c1")
    ),
    "region unknown": Selection("all", place=("DE", None)),
    "place and store unknown": Selection("all", place=("Unknown",), seller=(None,)),
    "a device and a department": Selection("all", device=("mobile",), category=("Home",)),
    "a store, this year": Selection("year", seller=("physical", 2)),
    "a channel and a country": Selection("12m", seller=("online",), place=("BE",)),
    "not in the catalogue": Selection("12m", category=(None,)),
    "own days, everything chosen": Selection(
        "custom",
        (date(2025, 12, 30), date(2026, 6, 3)),
        place=("DE",),
        seller=("online",),
        device=("laptop",),
        category=("Garden",),
    ),
}


@pytest.mark.parametrize("selection", SELECTIONS.values(), ids=SELECTIONS)
def test_every_figure_equals_production(browser, page, production, selection):
    open_page(browser, page, selection)
    figures = shown(browser)
    assert len(figures) > 100
    assert differences(figures, Expected(production, selection)) == []


@pytest.mark.parametrize("rung", data._LADDER[1:], ids=lambda rung: f"without {rung[-1]}")
def test_a_page_too_large_for_every_order_is_exact_too(
    browser, production, tmp_path, monkeypatch, rung
):
    monkeypatch.setattr(data, "_LADDER", (rung,))
    result = build_page(production, tmp_path / "page.html")
    assert result.coarsened == rung
    open_page(browser, result.path)
    for selection in (
        Selection(),
        Selection("90d", place=("DE",), category=("Home",)),
        Selection("all", seller=("online",), device=("mobile",)),
        Selection("custom", (date(2026, 1, 15), date(2026, 2, 20)), place=("NL",)),
    ):
        if selection != Selection():
            select(browser, selection)
        assert differences(shown(browser), Expected(production, selection, rung)) == []


def test_the_grain_is_the_finest_that_fits(stack, monkeypatch):
    with fresh_database() as database:
        create_warehouse(database, orders=1000)
        with database.connect() as session:
            session.execute("UPDATE warehouse.fct_order_lines SET order_date = '2026-11-15'")
        publish(database, database, TABLES, audits=())
        chosen = {}
        for limit in (100_000, 1_800, 1_000, 500, 10):
            monkeypatch.setattr(data, "ROW_LIMIT", limit)
            content = data.read(database)
            rows = len(content.document["sales"]["items"]["category"])
            assert rows <= limit or content.coarsened == data._LADDER[-1]
            chosen[limit] = data._LADDER.index(content.coarsened)
    assert chosen[100_000] == 0
    assert list(chosen.values()) == sorted(chosen.values())
    assert len(set(chosen.values())) > 2
    assert chosen[10] == len(data._LADDER) - 1


def test_a_wrong_number_is_found(browser, page, production, tmp_path):
    html = page.read_text()
    packed = html.split('id="data">')[1].split("<")[0]
    document = json.loads(gzip.decompress(base64.b64decode(packed)))
    document["sales"]["items"]["revenue"][-1] += 1  # one cent
    wrong = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    (tmp_path / "wrong.html").write_text(html.replace(packed, wrong))
    open_page(browser, tmp_path / "wrong.html")
    found = differences(shown(browser), Expected(production, Selection()))
    assert any(line.startswith("revenue :") for line in found)
    assert any(line.startswith("product-revenue") for line in found)


def test_no_request_leaves_the_page_and_nothing_is_logged(browser, page):
    browser.get_log("performance")
    browser.get_log("browser")
    open_page(browser, page)
    select(browser, Selection("30d", category=("Home",)))
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert {url.split("#")[0] for url in requests} == {page.as_uri()}
    assert browser.get_log("browser") == []


def test_charts_draw_the_figures_of_their_tables(browser, page):
    open_page(browser, page)
    figures = shown(browser)

    def paths(chart: str, mark: str, attribute: str) -> list[str]:
        found = browser.find_elements(By.CSS_SELECTOR, f'[data-chart="{chart}"] .mark-{mark} path')
        return [path.get_dom_attribute(attribute) for path in found]

    for name in ("revenue", "margin", "orders", "basket"):
        previous, now = paths(name, "line", "d")
        for line, suffix in ((now, ""), (previous, "-before")):
            values = [
                float(value)
                for (figure, _), value in figures.items()
                if figure == f"trend-{name}{suffix}"
            ]
            whole = values[
                1:-1
            ]  # a year back from the middle of a month begins and ends with a part of one
            heights = [float(point.split(",")[1]) for point in line.lstrip("M").split("L")]
            assert len(heights) == len(whole) == 11
            low, high = (whole.index(value) for value in (min(whole), max(whole)))
            scale = (heights[high] - heights[low]) / (whole[high] - whole[low])
            for value, height in zip(whole, heights, strict=True):
                assert height == pytest.approx(
                    heights[low] + (value - whole[low]) * scale, abs=0.02
                )
    orders = [value for (figure, _), value in figures.items() if figure == "hours-orders"]
    for name, counts in (
        ("hours-by-device", orders[: 5 * 24]),
        ("hours-by-weekday", orders[5 * 24 :]),
    ):
        colours = paths(name, "rect", "fill")
        assert len(set(zip(counts, colours, strict=True))) == len(set(counts)) == len(set(colours))


def test_hostile_text_is_shown_and_not_executed(browser, page):
    open_page(browser, page, Selection("all"))
    shown(browser)
    name = browser.find_element(By.CSS_SELECTOR, '#product [data-key="P000001"] span')
    assert browser.execute_script("return arguments[0].firstChild.textContent", name) == HOSTILE
    assert browser.execute_script("return window.hacked") is None


def test_a_hostile_address_changes_nothing(browser, page, production):
    browser.get("about:blank")
    address = (
        "#period=never&place=[1&seller=%3Cscript%3E&device=[%22fridge%22]&from=x&category=__proto__"
    )
    wait_drawn(browser, lambda: browser.get(page.as_uri() + address))
    assert differences(shown(browser), Expected(production, Selection())) == []


def test_names_drill_down_by_keyboard_and_the_address_keeps_the_choice(browser, page, production):
    open_page(browser, page)
    name = browser.find_element(By.CSS_SELECTOR, "#category [data-key='[\"Home\"]'] button")
    wait_drawn(browser, lambda: name.send_keys(Keys.ENTER))
    selection = Selection(category=("Home",))
    assert browser.find_element(By.ID, "h-category").text.startswith("Categories of Home")
    assert differences(shown(browser), Expected(production, selection)) == []
    address = browser.current_url
    browser.get("about:blank")
    wait_drawn(browser, lambda: browser.get(address))
    assert differences(shown(browser), Expected(production, selection)) == []
    wait_drawn(browser, browser.find_element(By.CSS_SELECTOR, "button[type=reset]").click)
    assert differences(shown(browser), Expected(production, Selection())) == []


def test_stock_can_be_sorted_and_limited_to_one_risk(browser, page):
    open_page(browser, page)
    browser.find_element(By.CSS_SELECTOR, "[data-risk=low]").click()
    browser.find_element(By.CSS_SELECTOR, "#stock [data-sort=cover]").click()
    figures = shown(browser)
    cover = [
        float(value) for (name, _), value in figures.items() if name == "stock-cover" and value
    ]
    assert len({row for name, row in figures if name == "stock-cover"}) == int(
        figures["stock-low", ""]
    )
    assert cover == sorted(cover, reverse=True)


def test_a_selection_without_sales_says_so(browser, page):
    open_page(browser, page, Selection("30d", seller=("online",), device=("in_store",)))
    assert browser.find_element(By.ID, "empty").is_displayed()
    assert not browser.find_element(By.ID, "kpis").is_displayed()
    wait_drawn(browser, browser.find_element(By.ID, "clear").click)
    assert browser.find_element(By.ID, "kpis").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, '[data-chart="revenue"] svg').size["width"] > 200


def test_own_days_in_the_wrong_order_show_no_figures(browser, page):
    open_page(browser, page, Selection("custom", (date(2026, 3, 1), date(2026, 2, 1))))
    assert "Choose a first and a last day" in browser.find_element(By.ID, "span").text
    assert not browser.find_element(By.ID, "kpis").is_displayed()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(browser, page, colours):
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    scheme = [{"name": "prefers-color-scheme", "value": colours}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    try:
        open_page(browser, page, Selection("90d", category=("Home",)))
        shown(browser)
        browser.execute_script(
            "for (const part of document.querySelectorAll('details')) part.open = true"
        )
        widths = "return [document.documentElement.scrollWidth, window.innerWidth]"
        assert browser.execute_script(widths) == [360, 360]
        paper = "return getComputedStyle(document.documentElement).getPropertyValue('--paper')"
        assert browser.execute_script(paper) == charts.THEMES[colours]["paper"]
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_periods_are_cut_without_gap_and_matched_with_the_year_before(browser):
    """The page's arithmetic of dates, for every start in four years with a leap day and several
    lengths.
    """
    browser.get("about:blank")
    script = files("softcart_assets.pages.shop").joinpath("sales.js").read_text()
    check = """
        const wrong = [];
        for (let from = dayOf("2023-01-01"); from <= dayOf("2026-12-31"); from++)
          for (const length of [1, 62, 63, 200, 201, 366, 800]) {
            const to = from + length - 1;
            const [before, beforeEnd] = yearBefore(from, to);
            let [next, nextBefore] = [from, before];
            for (const piece of cut(from, to).pieces) {
              const [start, end] = yearBefore(piece.from, piece.to);
              const isGap = piece.from !== next || start > nextBefore || (end >= start && start !==
                nextBefore);
              if (isGap) wrong.push([isoOf(from), length]);
              next = piece.to + 1;
              if (end >= start) nextBefore = end + 1;
            }
            if (next !== to + 1 || nextBefore !== beforeEnd + 1) wrong.push([isoOf(from), length]);
          }
        return [wrong, ["2024-02-28", "2024-02-29", "2025-02-28", "2026-11-22"].map((day) =>
          yearBefore(dayOf("2023-12-31"), dayOf(day)).map(isoOf))];
    """
    wrong, ranges = browser.execute_script(f"{script}\n{check}")
    assert wrong == []
    ends = [date(2024, 2, 28), date(2024, 2, 29), date(2025, 2, 28), date(2026, 11, 22)]
    assert ranges == [
        [str(day) for day in data.year_before(date(2023, 12, 31), end)] for end in ends
    ]


def test_production_without_a_publication_gives_a_page_that_says_so(browser, stack, tmp_path):
    with fresh_database() as nothing:
        result = build_page(nothing, tmp_path / "page.html")
    assert (result.version, result.figures, result.pictures) == (None, {}, {})
    browser.get_log("browser")
    open_page(browser, result.path)
    assert "no sales yet" in browser.find_element(By.ID, "message").text
    assert not browser.find_element(By.ID, "main").is_displayed()
    assert browser.get_log("browser") == []


def test_a_publication_without_sales_gives_a_page_that_says_so(browser, stack, tmp_path):
    with fresh_database() as database:
        create_warehouse(database, orders=60)
        with database.connect() as session:
            session.execute("UPDATE warehouse.fct_order_lines SET is_cancelled = true")
        publish(database, database, TABLES, audits=())
        result = build_page(database, tmp_path / "page.html")
    assert result.pictures == {}
    open_page(browser, result.path)
    assert browser.find_element(By.ID, "version").text == "1"
    assert "no sales yet" in browser.find_element(By.ID, "message").text


def test_what_cannot_be_shown_is_an_error_that_says_what_to_do(stack, tmp_path):
    with fresh_database() as database:
        create_warehouse(database, orders=60)
        publish(database, database, TABLES, audits=())
        with database.connect() as session:
            session.execute("INSERT INTO warehouse.dim_device SELECT * FROM warehouse.dim_device")
        without_devices = [table for table in TABLES if table.name != "dim_device"]
        publish(database, database, without_devices, audits=())
        with pytest.raises(
            DashboardError, match=r"dim_device.*materialise the whole group `production`"
        ):
            build_page(database, tmp_path / "page.html")
    assert not list(tmp_path.iterdir())


def test_a_dimension_that_doubles_sales_is_an_error(stack, tmp_path):
    with fresh_database() as database:
        create_warehouse(database, orders=60)
        with database.connect() as session:
            session.execute(
                "CREATE TEMP TABLE twin AS SELECT * FROM warehouse.dim_store WHERE store_id = 1;"
                "UPDATE twin SET store_key = gen_random_uuid(); INSERT INTO warehouse.dim_store "
                "SELECT * FROM twin"
            )
        publish(database, database, TABLES, audits=())
        with pytest.raises(DashboardError, match="two current rows"):
            build_page(database, tmp_path / "page.html")


def test_the_result_and_the_pictures_are_of_the_same_figures(production, tmp_path):
    result = build_page(production, tmp_path / "page.html")
    expected = Expected(production, Selection()).figures
    assert result.figures == {name: expected[name, ""] for name in result.figures}
    assert result.version == 1
    assert result.bytes == (tmp_path / "page.html").stat().st_size
    overview = data.read(production).overview
    assert overview is not None
    for name in ("revenue", "margin", "orders"):
        assert sum(month[name] for month in overview.months) == result.figures[name]
        assert (
            sum(month[f"{name}_before"] for month in overview.months)
            == expected[f"{name}-before", ""]
        )
    for name, file in result.pictures.items():
        picture = file.read_bytes()
        assert picture.startswith(b"\x89PNG"), name
        assert len(picture) > 10_000, name
