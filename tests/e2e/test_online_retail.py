"""A real shop's data, from source to dashboard: exact totals, and no check that stops them.

The lines are made up, in the form of Online Retail, and with all its kinds. To run the same with
the real data, name its CSV file, or a folder of them, in ONLINE_RETAIL. It has a shop without
payments, stock, vendors and employees, with a quarter of its lines by guests.

Every figure is computed here from the file, in plain Python, and not from the mapping's rows. Only
which sale a return belongs to is the mapping's own idea.
"""

from __future__ import annotations

import csv
import json
import math
import os
import secrets
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from selenium.webdriver.support.ui import WebDriverWait
from support import online_retail, retail_rows
from support.browser import chromium
from support.lines import SHOP as SHOP_ALONE
from support.lines import clone_of

from softcart_assets.connections import MongoConnection, MySQLConnection, production, staging
from softcart_assets.lines.shop.pages import RETURN_DAYS
from softcart_assets.lines.shop.sources import CATALOG, SHOP
from softcart_assets.paths import local_lake
from softcart_assets.stack import Stack
from softcart_assets.stack.postgres import WAREHOUSES
from spark.jobs.shop.agg_baskets_by_product_pair import MIN_BASKETS, MIN_SUPPORT

PREPARE = """
from softcart_assets.assembly import LINES
from softcart_assets.dbt import prepare_manifest
from softcart_assets.derive import derive
from softcart_assets.paths import REPOSITORY
derive(LINES, REPOSITORY)
prepare_manifest()
"""

MATERIALIZE = """
import json
from contextlib import contextmanager
from types import SimpleNamespace
from softcart_assets.runs import materialize_everything

@contextmanager
def status(text):
    yield SimpleNamespace(update=lambda text: None)

outcome = materialize_everything(lambda *done: None, lambda failed: None, status)
print(json.dumps({
    "failures": outcome.failures,
    "checks": {
        f"{check.asset_key.to_user_string()}:{check.check_name}":
            "passed" if check.passed else check.severity.value
        for check in outcome.checks
    },
}))
"""

PLAUSIBLE = {
    # The data end in 2011.
    "raw_shop/orders:latest_day_present",
    # Corrections of a stock that nobody counted.
    "staging/stg_shop__inventory:inventory_explained_by_movements",
}
"""Checks that warn about these data, and rightly."""

Line = dict[str, str]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CSV file."""
    if given := os.environ.get("ONLINE_RETAIL"):
        return Path(given)
    path = tmp_path_factory.mktemp("retail") / "OnlineRetail.csv"
    retail_rows.sample().write(path)
    return path


@pytest.fixture(scope="module")
def mapped(file: Path) -> online_retail.Mapped:
    """The rows of the sources."""
    return online_retail.map_rows(online_retail.read(file))


@dataclass(frozen=True)
class Truth:
    """What the file says of sales: the lines of goods by order."""

    orders: dict[str, list[Line]]

    @property
    def lines(self) -> list[Line]:
        return [line for lines in self.orders.values() for line in lines]

    @property
    def revenue(self) -> Decimal:
        return sum(map(_amount, self.lines), Decimal(0))

    @property
    def pieces(self) -> int:
        return sum(int(line["Quantity"]) for line in self.lines)

    @property
    def customers(self) -> set[str]:
        return {line["CustomerID"] for line in self.lines} - {""}

    def days(self) -> dict[str, date]:
        """The day of each order, UTC."""
        first = {
            order: min(datetime.fromisoformat(line["InvoiceDate"]) for line in lines)
            for order, lines in self.orders.items()
        }
        london = ZoneInfo("Europe/London")
        return {
            order: at.replace(tzinfo=london).astimezone(UTC).date() for order, at in first.items()
        }

    def months(self) -> dict[date, Decimal]:
        """Revenue by month, UTC."""
        months: dict[date, Decimal] = defaultdict(Decimal)
        for order, day in self.days().items():
            months[day.replace(day=1)] += sum(map(_amount, self.orders[order]), Decimal(0))
        return months

    def pairs(self) -> dict[tuple[str, str], int]:
        """The orders of each frequent pair of products."""
        pairs = Counter(
            pair
            for lines in self.orders.values()
            for pair in combinations(sorted({line["StockCode"].upper() for line in lines}), 2)
        )
        least = max(math.ceil(MIN_SUPPORT * len(self.orders)), MIN_BASKETS)
        return {pair: count for pair, count in pairs.items() if count >= least}


def _amount(line: Line) -> Decimal:
    return int(line["Quantity"]) * Decimal(line["UnitPrice"]).quantize(Decimal("0.01"))


@pytest.fixture(scope="module")
def truth(file: Path) -> Truth:
    """What the file says."""
    no_goods = {"POST", "DOT", "C2", *online_retail.NO_GOODS}
    invoices: dict[str, list[Line]] = defaultdict(list)
    for each in sorted(file.glob("*.csv")) if file.is_dir() else [file]:
        with each.open(newline="", encoding="utf-8") as lines:
            for line in csv.DictReader(lines):
                if line["InvoiceNo"].isdigit():
                    invoices[line["InvoiceNo"]].append(line)
    return Truth(
        {
            invoice: goods
            for invoice, lines in invoices.items()
            if (goods := [line for line in lines if line["StockCode"].upper() not in no_goods])
            and any(line["CustomerID"] or Decimal(line["UnitPrice"]) for line in lines)
        }
    )


@dataclass(frozen=True)
class Shop:
    """The shop after everything was made."""

    home: Path
    checks: dict[str, str]

    def production(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query in production."""
        with production().connect() as session:
            return session.execute(query.encode()).fetchall()

    def extract(self, name: str) -> list[Line]:
        """The rows of an extract's CSV file."""
        with (self.home / "extracts" / f"{name}.csv").open(encoding="utf-8-sig") as rows:
            return list(csv.DictReader(rows))


@pytest.fixture(scope="module")
def shop(
    stack: Stack, mapped: online_retail.Mapped, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """Databases of our own on the tests' servers, filled, and everything made from them."""
    home = tmp_path_factory.mktemp("retail-home")
    home.chmod(0o700)
    name = f"retail_{secrets.token_hex(4)}"
    admin = MySQLConnection.from_env(SHOP.env_prefix)
    with pytest.MonkeyPatch.context() as patch:
        with admin.connect() as server:
            server.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        postgres = staging()
        with postgres.connect(autocommit=True) as server:
            for database in WAREHOUSES.values():
                server.execute(f"CREATE DATABASE {name}_{database}".encode())
        for prefix in (SHOP.env_prefix, CATALOG.env_prefix):
            patch.setenv(f"{prefix}_DATABASE", name)
        for prefix, database in WAREHOUSES.items():
            patch.setenv(f"{prefix}_DATABASE", f"{name}_{database}")
        patch.setenv("SOFTCART_LAKE_URI", local_lake(home))
        patch.setenv("SOFTCART_EXTRACTS_DIR", str(home / "extracts"))
        # All servers are named, so none is started.
        for setting, value in Stack(home, sources=SHOP_ALONE.sources).up().items():
            patch.setenv(setting, value)
        try:
            online_retail.load(mapped, home / "rows")
            # The databases of the other lines have no tables.
            root = home / "clone"
            clone_of(SHOP_ALONE, root)
            patch.setenv("PYTHONPATH", str(root))
            for script in (PREPARE, MATERIALIZE):
                made = subprocess.run(
                    [sys.executable, "-c", script], cwd=root, capture_output=True, text=True
                )
                assert made.returncode == 0, made.stderr[-5000:]
            told = json.loads(made.stdout.splitlines()[-1])
            assert not told["failures"], told["failures"]
            yield Shop(home, told["checks"])
        finally:
            with admin.connect() as server:
                server.query(f"DROP DATABASE {name}")
            with MongoConnection.from_env(CATALOG.env_prefix).connect() as client:
                client.drop_database(name)
            with postgres.connect(autocommit=True) as server:
                for database in WAREHOUSES.values():
                    server.execute(f"DROP DATABASE {name}_{database} WITH (FORCE)".encode())


def test_every_kind_of_line_becomes_what_it_must(tmp_path: Path) -> None:
    sample, path = retail_rows.sample(), tmp_path / "sample.csv"
    sample.write(path)
    mapped = online_retail.map_rows(online_retail.read(path))
    reasons = {reason: len(rows) for reason, rows in mapped.set_aside.items() if rows}
    assert Counter(kind for kind, _ in sample.lines) == mapped.destinations | reasons
    assert set(online_retail.NO_GOODS.values()) < reasons.keys()
    assert mapped.rounded == Decimal("0.001")


def test_no_line_vanishes(file: Path, mapped: online_retail.Mapped, truth: Truth) -> None:
    count = sum(1 for _ in online_retail.read(file))
    set_aside = sum(map(len, mapped.set_aside.values()))
    assert count == mapped.destinations.total() + set_aside
    rows = {table: len(rows) for table, rows in mapped.tables.items()}
    for table in ("order_lines", "returns", "inventory_movements"):
        assert mapped.destinations[table] == rows[f"shop.{table}"]
    assert mapped.destinations["order_lines"] == len(truth.lines)


def test_no_check_fails(shop: Shop) -> None:
    failed = {name: how for name, how in shop.checks.items() if how != "passed"}
    assert failed == dict.fromkeys(PLAUSIBLE, "WARN")


def test_production_has_the_exact_totals(
    shop: Shop, truth: Truth, mapped: online_retail.Mapped
) -> None:
    assert shop.production(
        """
        SELECT currency, count(*), count(DISTINCT order_id), sum(quantity)::bigint,
               sum(net_amount), count(DISTINCT customer_id),
               count(*) FILTER (WHERE customer_id IS NULL)
        FROM production.fct_order_lines WHERE NOT is_cancelled GROUP BY currency"""
    ) == [
        (
            "GBP",
            len(truth.lines),
            len(truth.orders),
            truth.pieces,
            truth.revenue,
            len(truth.customers),
            sum(not line["CustomerID"] for line in truth.lines),
        )
    ]
    returns = mapped.tables["shop.returns"]
    returned = (
        len(returns),
        sum(row["quantity"] for row in returns),
        sum(row["refund_amount"] for row in returns),
    )
    assert shop.production(
        """
        SELECT count(*), sum(returned_quantity)::bigint, sum(refund_amount)
        FROM production.fct_returns WHERE currency = 'GBP'"""
    ) == [returned]
    assert shop.production(
        """
        SELECT sum(returned_quantity)::bigint, sum(refund_amount)
        FROM production.fct_order_lines"""
    ) == [returned[1:]]


def test_aggregates_have_the_exact_totals(shop: Shop, truth: Truth) -> None:
    pairs = shop.production(
        """
        SELECT product_id_a, product_id_b, basket_count, left_out_count
        FROM production.agg_baskets_by_product_pair"""
    )
    assert {(a, b): count for a, b, count, _ in pairs} == truth.pairs()
    assert {left_out for *_, left_out in pairs} == {0}
    months = shop.production(
        """
        SELECT month, sum(net_amount) FROM production.agg_sales_by_category_month
        WHERE currency = 'GBP' GROUP BY month HAVING sum(order_count) > 0"""
    )
    assert dict(months) == truth.months()
    assert shop.production(
        "SELECT count(*), sum(monetary_amount) FROM production.agg_rfm_by_customer"
    ) == [
        (
            len(truth.customers),
            sum(_amount(line) for line in truth.lines if line["CustomerID"]),
        )
    ]


def test_extracts_have_the_exact_totals(shop: Shop, truth: Truth) -> None:
    daily = shop.extract("ext_orders_daily")
    assert {row["currency"] for row in daily} == {"GBP"}
    assert sum(int(row["order_count"]) for row in daily) == len(truth.orders)
    for name in ("ext_orders_daily", "ext_sales_overview", "ext_top_products"):
        rows = shop.extract(name)
        assert sum(Decimal(row["net_amount"]) for row in rows) == truth.revenue, name
        assert sum(int(row["units_count"]) for row in rows) == truth.pieces, name


def test_the_dashboard_shows_the_exact_totals(
    shop: Shop, truth: Truth, mapped: online_retail.Mapped
) -> None:
    page = shop.home / "extracts" / "dashboard.html"
    with chromium() as browser:
        browser.get(f"{page.as_uri()}#period=all")
        WebDriverWait(browser, 60).until(
            lambda driver: driver.execute_script("return document.body?.dataset.drawn")
        )
        shown: list[list[str]] = browser.execute_script(
            """
            return [...document.querySelectorAll("[data-figure]")]
              .filter((element) => !element.closest("[hidden]"))
              .map((element) => [
                element.dataset.figure, element.dataset.value, element.innerText
              ]);"""
        )
    values = {name: value for name, value, _ in shown}
    # What the goods cost is not known, so all of it is margin.
    assert {Decimal(values[name]) for name in ("revenue", "margin")} == {truth.revenue}
    # Younger orders are left out, because their returns have not come yet.
    days = truth.days()
    settled = max(days.values()) - timedelta(RETURN_DAYS)
    old = {order for order, day in days.items() if day <= settled}
    sold = sum(_amount(line) for order in old for line in truth.orders[order])
    refunded = sum(
        row["refund_amount"] for row in mapped.tables["shop.returns"] if str(row["order_id"]) in old
    )
    assert Decimal(values["returnRate"]) == round(refunded / sold, 6)
    assert {name: int(values[name]) for name in ("orders", "units", "customers")} == {
        "orders": len(truth.orders),
        "units": truth.pieces,
        "customers": len(truth.customers),
    }
    assert all("£" in text for name, _, text in shown if name == "revenue")
    pairs = [int(value) for name, value, _ in shown if name == "pair-baskets"]
    assert pairs
    assert pairs == sorted(truth.pairs().values(), reverse=True)[: len(pairs)]
