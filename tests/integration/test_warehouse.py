"""The dbt project on a real PostgreSQL: what its models make of raw tables, and that its tests can
fail.

A small shop of hand-made rows is loaded on three days, as ingestion would, and built after each.
The module shares one database and one parse of the project; cases that break data work on copies.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from support import lines
from support.cafe import add_cafe
from support.databases import database
from support.dbt_builds import Raw, Warehouse
from support.lines import project_of
from support.published import TABLES

from softcart_assets import warehouse_state
from softcart_assets.assembly import LINES, Lines
from softcart_assets.components.dbt_models import index_versions
from softcart_assets.components.failed_tests import compiled_sql
from softcart_assets.components.model_columns import column_types, query_lineage
from softcart_assets.connections import staging
from softcart_assets.derive import derive
from softcart_assets.publishing.personal import Column, unclassed
from softcart_assets.publishing.publish import publish
from softcart_assets.publishing.suite import audits_of
from softcart_assets.publishing.tables import published_tables
from softcart_assets.views import put_aside
from spark.jobs import JOBS

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "dbt_project"
DATABASE, FIRST, BUILT = "test_warehouse", "test_warehouse_first", "test_warehouse_built"
FACTS = {
    "fct_order_lines": "order_line_key",
    "fct_payments": "payment_key",
    "fct_inventory_daily": "inventory_daily_key",
}
UNKNOWN = UUID(int=0)
DAY_1 = datetime(2026, 3, 10, 12, tzinfo=UTC)
CUSTOMER_LEFT_AT = DAY_1 + timedelta(hours=23)
DAY_2, DAY_3 = DAY_1 + timedelta(days=1), DAY_1 + timedelta(days=2)


DIMENSIONS = ("dim_customer", "dim_store", "dim_product", "dim_vendor", "dim_employee")


def at(text: str) -> datetime:
    """A time of the source, without a zone, as MySQL's come."""
    return datetime.fromisoformat(text)


def customer(number: int, name: str, **more) -> dict[str, Any]:
    return {
        "id": number,
        "full_name": name,
        "email": f"{number}@example.org",
        "loyalty_tier": "none",
        "marketing_consent": 1,
        "created_at": at("2020-01-01"),
        "updated_at": at("2025-01-01"),
    } | more


def address(number: int, of: int, city: str, **more) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": of,
        "kind": "shipping",
        "line1": "1 Road",
        "city": city,
        "country_code": "LV",
        "is_primary": 1,
        "created_at": at("2020-01-01"),
        "updated_at": at("2025-01-01"),
    } | more


def store(number: int, channel: str, **more) -> dict[str, Any]:
    return {
        "id": number,
        "code": f"S{number}",
        "name": f"Store {number}",
        "channel": channel,
        "country_code": "EE",
        "city": "Tartu",
        "opened_on": at("2020-01-01"),
        "created_at": at("2020-01-01"),
        "updated_at": at("2025-01-01"),
    } | more


def order(number: int, ordered_at: str, **more) -> dict[str, Any]:
    return {
        "id": number,
        "customer_id": 1,
        "store_id": 1,
        "employee_id": None,
        "shipping_address_id": 1,
        "device": "mobile",
        "status": "paid",
        "currency": "EUR",
        "ordered_at": at(ordered_at),
        "shipping_amount": Decimal("5.00"),
        "total_amount": Decimal("28.80"),
        "updated_at": at(ordered_at),
    } | more


def line(order_id: int, number: int, product_id: str = "P1", **more) -> dict[str, Any]:
    """A line whose net amount is 20.00, margin 8.00 and tax 3.80."""
    return {
        "order_id": order_id,
        "line_number": number,
        "product_id": product_id,
        "quantity": 2,
        "unit_price": Decimal("10.50"),
        "unit_cost": Decimal("6.00"),
        "discount_amount": Decimal("1.00"),
        "tax_rate": Decimal("0.19"),
        "tax_amount": Decimal("3.80"),
        "created_at": at("2026-03-01"),
        "updated_at": at("2026-03-01"),
    } | more


def payment(number: int, order_id: int, **more) -> dict[str, Any]:
    return {
        "id": number,
        "order_id": order_id,
        "method": "card",
        "status": "captured",
        "amount": Decimal("28.80"),
        "currency": "EUR",
        "paid_at": at("2026-03-01 10:05"),
        "updated_at": at("2026-03-01"),
    } | more


def return_(number: int, order_id: int, line_number: int) -> dict[str, Any]:
    return {
        "id": number,
        "order_id": order_id,
        "line_number": line_number,
        "quantity": 1,
        "reason": "late",
        "refund_amount": Decimal("11.90"),
        "returned_at": at("2026-03-05"),
        "updated_at": at("2026-03-05"),
    }


def shelf(store_id: int, product_id: str, quantity: int) -> dict[str, Any]:
    return {
        "store_id": store_id,
        "product_id": product_id,
        "quantity_on_hand": quantity,
        "reorder_point": 5,
        "updated_at": at("2026-03-01"),
    }


def movement(
    number: int, store_id: int, product_id: str, kind: str, quantity: int, moved_at: str
) -> dict[str, Any]:
    return {
        "id": number,
        "store_id": store_id,
        "product_id": product_id,
        "kind": kind,
        "quantity": quantity,
        "moved_at": at(moved_at),
        "updated_at": at(moved_at),
    }


def product(number: int, price: int, updated_at: str = "2025-01-01T00:00:00Z") -> dict[str, Any]:
    return {
        "_id": f"P{number}",
        "name": f"Product {number}",
        "category_id": "C2",
        "vendor_id": 1,
        "status": "active",
        "price": {"amount_minor": price, "currency": "EUR"},
        "updated_at": {"$date": updated_at},
    }


EMPLOYEE = {
    "id": 1,
    "store_id": 2,
    "full_name": "Eve",
    "email": "e@example.org",
    "role": "clerk",
    "hired_on": at("2020-01-01"),
    "salary_amount": Decimal("1.00"),
}


def load_first_day(raw: Raw) -> None:
    raw.put("stores", store(1, "online"), store(2, "physical"))
    raw.put("vendors", {"id": 1, "name": "Vendor", "country_code": "LV", "is_active": 1})
    raw.put("employees", EMPLOYEE)
    raw.put_documents(
        "categories",
        {"_id": "C1", "name": "Home"},
        {"_id": "C2", "name": "Pans", "parent_id": "C1"},
    )
    raw.put_documents("products", product(1, 1050), product(2, 500))
    raw.put("customers", customer(1, "Ann"), customer(2, "Bob"))
    raw.put(
        "addresses",
        address(1, 1, "Riga"),
        address(2, 2, "Jelgava"),
        address(3, 2, "Cēsis", is_primary=0),
    )
    raw.put("orders", *(order(n, f"2026-03-0{n} 10:00") for n in (1, 2, 3, 4, 6)))
    raw.put(
        "orders",
        order(
            7,
            "2026-03-07 10:00",
            customer_id=2,
            store_id=2,
            device=None,
            employee_id=1,
            shipping_address_id=None,
        ),
    )
    # Nobody knows yet the product of line 2 of order 2 and the customer of order 4; order 5's
    # header is still to come.
    raw.put(
        "orders", *(order(n, "2026-03-01 09:00", shipping_address_id=2 + n % 9) for n in (9, 10))
    )
    raw.put(
        "order_lines",
        *(line(n, 1) for n in (1, 2, 3, 4, 5, 6, 9, 10)),
        line(2, 2, "P3"),
        line(3, 2),
        line(7, 1, "P2"),
    )
    raw.put("orders", order(4, "2026-03-04 10:00", customer_id=3))
    raw.put(
        "orders", *(order(n, f"2026-03-0{n} 10:00", total_amount=Decimal("52.60")) for n in (2, 3))
    )
    raw.put(
        "payments",
        payment(1, 1),
        payment(2, 2, status="failed"),
        payment(3, 3),
        payment(4, 4),
        payment(5, 5),
    )
    raw.put(
        "payments",
        payment(6, 7, paid_at=at("2026-03-07")),
        payment(7, 9, paid_at=at("2026-03-02 13:00")),
    )
    raw.put("payments", payment(8, 9, status="failed"))
    raw.put("returns", return_(1, 1, 1), return_(2, 6, 1))
    raw.put("inventory", shelf(1, "P1", 10), shelf(2, "P1", 3), shelf(2, "P2", 0))
    raw.put(
        "inventory_movements",
        movement(1, 1, "P1", "receipt", 16, "2026-01-01"),
        movement(2, 1, "P1", "sale", -6, "2026-03-05"),
        movement(3, 2, "P1", "receipt", 3, "2026-03-06"),
    )


def load_second_day(raw: Raw) -> None:
    raw.loaded_at = DAY_2
    # What was late arrives.
    raw.put_documents("products", product(3, 700))
    raw.put("customers", customer(3, "Cid"))
    raw.put("orders", order(5, "2026-03-05 10:00"))
    # Changes: the first customer moved between two of the orders, two changes of a price in one
    # load, more pieces of a line, a cancellation, a payment that was booked on the wrong order and
    # a return on the wrong line. Nothing but the return touches the line on which it is booked now,
    # and nothing but its address order 10.
    raw.put("addresses", address(1, 1, "Liepāja", updated_at=at("2026-03-02 12:00")))
    raw.put("addresses", address(3, 2, "Valka", is_primary=0, updated_at=at("2026-02-20")))
    raw.put_documents("products", product(1, 1100, "2026-03-02T09:00:00Z"))
    raw.put_documents("products", product(1, 1200, "2026-03-02T11:00:00Z"))
    raw.put("order_lines", line(1, 1, quantity=3, unit_cost=Decimal("6.50")))
    raw.put(
        "orders", order(1, "2026-03-01 10:00", total_amount=Decimal("39.30"), status="cancelled")
    )
    raw.put("returns", return_(2, 9, 1))
    raw.put("payments", payment(4, 3))
    # Deletions: a line, an order with its line, a payment, an employee, a shelf.
    raw.put("order_lines", line(3, 2), line(6, 1), deleted=True)
    raw.put("orders", order(3, "2026-03-03 10:00"))
    raw.put("orders", order(6, "2026-03-06 10:00"), deleted=True)
    raw.put("payments", payment(2, 2, status="failed"), deleted=True)
    raw.put("employees", EMPLOYEE, deleted=True)
    raw.put("inventory", shelf(2, "P2", 0), deleted=True)
    # News: an order, a customer leaves, stock moves on another day.
    raw.put("orders", order(8, "2026-03-11 09:00", customer_id=2, shipping_address_id=2))
    raw.put("order_lines", line(8, 1))
    raw.put("customers", customer(2, "Bob"), deleted=True)
    raw.session.execute(
        "UPDATE raw_shop.customers_history SET _committed_at = %s WHERE id = 2 AND _deleted",
        [CUSTOMER_LEFT_AT],
    )
    raw.put("inventory", shelf(1, "P1", 8), shelf(2, "P3", 0))
    raw.put("inventory_movements", movement(4, 1, "P1", "sale", -2, "2026-03-11"))


def load_third_day(raw: Raw) -> None:
    """Only dimension rows, with changes that facts of the days before should have met."""
    # The warehouse's clock was set back by a month, and shows earlier times than those of the rows
    # that the facts have seen.
    raw.loaded_at = DAY_3 - timedelta(days=30)
    raw.put("stores", store(2, "physical", name="Corner", updated_at=at("2026-03-06")))
    raw.put("customers", customer(1, "Ann Lee", updated_at=at("2026-03-06")))
    raw.put_documents("products", product(1, 1300, "2026-03-06T00:00:00Z"))


@pytest.fixture(scope="module")
def warehouse(stack, tmp_path_factory) -> Iterator[Warehouse]:
    """The shop after three days; the attributes of `Warehouse` say what was there in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTCART_STAGING_DATABASE", DATABASE)
        folder = tmp_path_factory.mktemp("dbt")
        it = Warehouse(staging(), folder, project_of(lines.SHOP, folder), FACTS)
        it.create(DATABASE, "template0")
        with it.server.connect(autocommit=True) as session:
            raw = Raw(session, LINES.line("shop"), DAY_1)
            raw.create()
            load_first_day(raw)
            warehouse_state.prepare(session, "dbt_state")
            warehouse_state.prepare(session, "identities")
            it.dbt("run")
        it.create(FIRST, DATABASE)
        with it.server.connect(autocommit=True) as session:
            raw = Raw(session, LINES.line("shop"), DAY_1)
            it.note_facts()
            load_second_day(raw)
            it.build()
            again = it.dbt("run", "--select", *FACTS)
            it.written_again = [again[fact].adapter_response["rows_affected"] for fact in FACTS]
            it.note_facts()
            load_third_day(raw)
            it.build("--exclude-resource-type", "unit_test")
            it.note_facts()
        it.create(BUILT, DATABASE)
        yield it
        with replace(it.server, database="postgres").connect(autocommit=True) as admin:
            for name in (DATABASE, FIRST, BUILT):
                admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_incremental_runs_make_the_same_facts_as_a_full_refresh(warehouse):
    assert warehouse.incremental == warehouse.refreshed
    for fact in FACTS:
        first, second, third = (facts[fact] for facts in warehouse.incremental)
        assert first != second != third


def test_a_run_without_changes_writes_no_fact(warehouse):
    assert warehouse.written_again == [0, 0, 0]


def test_what_has_not_arrived_yet_is_unknown(warehouse):
    first = warehouse.incremental[0]
    assert {fact: len(rows) for fact, rows in first.items()} == {
        "fct_order_lines": 11,
        "fct_payments": 8,
        "fct_inventory_daily": 3 * 90,
    }
    lines = {(row["order_id"], row["line_number"]): row for row in first["fct_order_lines"]}
    unknown = {
        key: {
            name
            for name in ("customer_key", "product_key", "store_key", "device_key")
            if row[name] == UNKNOWN
        }
        for key, row in lines.items()
    }
    assert {key: names for key, names in unknown.items() if names} == {
        (2, 2): {"product_key"},
        (4, 1): {"customer_key"},
        (5, 1): {"customer_key", "store_key", "device_key"},
    }
    assert (lines[5, 1]["order_status"], lines[5, 1]["currency"], lines[5, 1]["is_cancelled"]) == (
        "unknown",
        "XXX",
        False,
    )


def test_order_lines_meet_the_dimension_rows_of_their_time(warehouse):
    rows = warehouse.query("""
        SELECT order_id, line_number, c.full_name, c.city, p.product_id, p.list_price_amount,
          s.channel, e.full_name,
               l.city, d.device, t.hour
        FROM warehouse.fct_order_lines f
        JOIN warehouse.dim_customer c USING (customer_key)
          JOIN warehouse.dim_product p USING (product_key)
        JOIN warehouse.dim_store s USING (store_key)
          JOIN warehouse.dim_employee e USING (employee_key)
        JOIN warehouse.dim_location l USING (location_key)
          JOIN warehouse.dim_device d USING (device_key)
        JOIN warehouse.dim_time_of_day t USING (time_of_day_key) JOIN warehouse.dim_date
          ON date_key = order_date
        ORDER BY order_id, line_number
    """)
    five, seven, ten, eleven, twelve, thirteen = map(
        Decimal, ("5.00", "7.00", "10.50", "11.00", "12.00", "13.00")
    )
    online = ("online", "Unknown")
    assert rows == [
        (1, 1, "Ann", "Riga", "P1", ten, *online, "Riga", "mobile", 10),
        (2, 1, "Ann", "Riga", "P1", eleven, *online, "Riga", "mobile", 10),
        (2, 2, "Ann", "Riga", "P3", seven, *online, "Riga", "mobile", 10),
        (3, 1, "Ann", "Liepāja", "P1", twelve, *online, "Liepāja", "mobile", 10),
        (4, 1, "Cid", None, "P1", twelve, *online, "Liepāja", "mobile", 10),
        (5, 1, "Ann", "Liepāja", "P1", twelve, *online, "Liepāja", "mobile", 10),
        (7, 1, "Bob", "Jelgava", "P2", five, "physical", "Unknown", "Tartu", "in_store", 10),
        (8, 1, "Bob", "Jelgava", "P1", thirteen, *online, "Jelgava", "mobile", 9),
        (9, 1, "Ann", "Riga", "P1", ten, *online, "Jelgava", "mobile", 9),
        (10, 1, "Ann", "Riga", "P1", ten, *online, "Valka", "mobile", 9),
    ]


def test_amounts_returns_and_cancellations(warehouse):
    rows = warehouse.query("""
        SELECT order_id, is_cancelled, gross_amount, net_amount, cost_amount, margin_amount,
          returned_quantity,
               refund_amount, currency
        FROM warehouse.fct_order_lines WHERE order_id IN (1, 9) ORDER BY order_id
    """)
    refund = Decimal("11.90")
    assert rows == [
        (
            1,
            True,
            Decimal("31.50"),
            Decimal("30.50"),
            Decimal("19.50"),
            Decimal("11.00"),
            1,
            refund,
            "EUR",
        ),
        (
            9,
            False,
            Decimal("21.00"),
            Decimal("20.00"),
            Decimal("12.00"),
            Decimal("8.00"),
            1,
            refund,
            "EUR",
        ),
    ]


def test_payments_follow_their_order(warehouse):
    rows = warehouse.query(
        "SELECT payment_id, order_id, captured_amount FROM warehouse.fct_payments ORDER BY 1"
    )
    paid, failed = Decimal("28.80"), Decimal("0.00")
    assert rows == [
        (1, 1, paid),
        (3, 3, paid),
        (4, 3, paid),
        (5, 5, paid),
        (6, 7, paid),
        (7, 9, paid),
        (8, 9, failed),
    ]


def test_stock_is_there_for_every_shelf_and_day(warehouse):
    assert warehouse.query("""
        SELECT store_id, product_id, count(*), min(inventory_date)::text, max(inventory_date)::text
        FROM warehouse.fct_inventory_daily GROUP BY 1, 2 ORDER BY 1, 2
    """) == [
        (1, "P1", 90, "2025-12-12", "2026-03-11"),
        (2, "P1", 90, "2025-12-12", "2026-03-11"),
        (2, "P3", 90, "2025-12-12", "2026-03-11"),
    ]
    assert warehouse.query("""
        SELECT inventory_date::text, opening_quantity, received_quantity, sold_quantity,
          closing_quantity
        FROM warehouse.fct_inventory_daily WHERE store_id = 1
          AND received_quantity + sold_quantity <> 0 ORDER BY 1
    """) == [
        ("2026-01-01", 0, 16, 0, 16),
        ("2026-03-05", 16, 0, 6, 10),
        ("2026-03-11", 10, 0, 2, 8),
    ]


def test_a_week_has_seven_days_in_its_iso_year(warehouse):
    """Week 1 of 2024 had nine days, because 30 and 31 December are in week 1 of 2025."""
    assert warehouse.query("""
        SELECT iso_year, iso_week, count(*) FROM warehouse.dim_date
        WHERE year BETWEEN 2001 AND 2048 GROUP BY 1, 2 HAVING count(*) <> 7
    """) == [(2048, 53, 4)]
    assert warehouse.query("""
        SELECT iso_year, iso_week FROM warehouse.dim_date WHERE date_key = '2024-12-30'
    """) == [(2025, 1)]


def test_a_deleted_customer_ends_with_a_deleted_version(warehouse):
    assert warehouse.query("""
        SELECT version_number, is_current, is_deleted, valid_from FROM warehouse.dim_customer
        WHERE customer_id = 2 ORDER BY 1
    """) == [(1, False, False, datetime(1900, 1, 1, tzinfo=UTC)), (2, True, True, CUSTOMER_LEFT_AT)]


@pytest.fixture
def raw(warehouse: Warehouse) -> Iterator[Raw]:
    """The raw tables of the first day, from which the warehouse was built."""
    warehouse.create(DATABASE, FIRST)
    with warehouse.server.connect(autocommit=True) as session:
        yield Raw(session, LINES.line("shop"), DAY_1)
    warehouse.create(DATABASE, BUILT)


def built(warehouse: Warehouse) -> dict[str, str]:
    """Build everything. Returns what is neither a success nor a warning, by node."""
    results = warehouse.dbt("build", "--exclude-resource-type", "unit_test")
    return {
        name: f"{result.status}: {result.message}"
        for name, result in results.items()
        # So few rows have large shares of unknown keys.
        if result.status not in ("success", "pass", "warn") and "references_resolved" not in name
    }


def refreshed(warehouse: Warehouse) -> dict[str, list[dict]]:
    """The facts after a full refresh."""
    warehouse.dbt("run", "--full-refresh", "--select", *FACTS)
    return warehouse.facts()


def test_a_fact_built_before_its_dimensions_meets_them_later(
    warehouse: Warehouse, raw: Raw
) -> None:
    """Data-Engineer-Camp/dbt-dimensional-modelling#4, dbt-labs/docs.getdbt.com#2824.

    A mark said what raw held, so the next run did not look again.
    """
    load_second_day(raw)
    warehouse.dbt("run", "--select", "fct_order_lines", "fct_payments")
    assert not built(warehouse)
    grown = warehouse.facts()
    assert grown == refreshed(warehouse)
    again = warehouse.dbt("run", "--select", *FACTS)
    assert [again[fact].adapter_response["rows_affected"] for fact in FACTS] == [0, 0, 0]


def change(raw: Raw, chance: Random) -> None:
    """Load, change or delete a row of any table, with a sensible time or a typing error."""
    number = chance.randint(1, 3)
    order_id, line_number = chance.randint(1, 5), chance.randint(1, 2)
    day = chance.choice(("2026-03-01", "2026-03-03 12:00", "2026-03-08", "2099-01-01"))
    # Before the calendar, or after it was loaded: for a few hours, or for good.
    happened_at = chance.choice(
        (
            *(f"2026-03-0{n} 10:00" for n in (1, 3, 5, 9)),
            "2026-03-12 09:00",
            "2062-01-01",
            "1899-01-01",
        )
    )
    clock = {"updated_at": at(day)}
    shown = chance.choice(("Ann", "Bob", "Cid"))
    deleted = chance.random() < 0.25
    raw.loaded_at += timedelta(hours=chance.randint(-5, 20))
    raw.committed_at = chance.choice((None, raw.loaded_at - timedelta(hours=1)))
    match chance.choice(("dimension", "dimension", "fact")):
        case "dimension":
            rows = {
                "customers": customer(number, shown, **clock),
                "addresses": address(number, chance.randint(1, 3), shown, **clock),
                "stores": store(number, chance.choice(("online", "physical")), **clock)
                | {"name": shown},
                "vendors": {"id": number, "name": shown, "country_code": "LV", "is_active": 1},
                "employees": EMPLOYEE | {"id": number, "full_name": shown},
                "products": product(number, chance.randint(1, 4) * 100, f"{day[:10]}T00:00:00Z")
                | {
                    "vendor_id": chance.randint(1, 3),
                    "_id": chance.choice((f"P{number}", number, str(number))),
                },
            }
        case _:
            rows = {
                "orders": order(
                    order_id,
                    happened_at,
                    customer_id=number,
                    store_id=chance.randint(1, 3),
                    employee_id=chance.choice((None, number)),
                    shipping_address_id=chance.choice((None, number)),
                ),
                "order_lines": line(order_id, line_number, chance.choice(("P1", "P2", "3"))),
                "payments": payment(number, order_id, paid_at=at(happened_at)),
                "returns": return_(number, order_id, line_number)
                | {"returned_at": at(happened_at)},
                "inventory": shelf(number, chance.choice(("P1", "3")), chance.randint(0, 9)),
                "inventory_movements": movement(
                    number,
                    chance.randint(1, 3),
                    chance.choice(("P1", "3")),
                    "sale",
                    -1,
                    happened_at,
                ),
            }
    table = chance.choice(sorted(rows))
    put = raw.put_documents if table == "products" else raw.put
    put(table, rows[table], deleted=deleted)


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_partial_builds_makes_the_facts_of_a_full_refresh(
    warehouse: Warehouse, raw: Raw, seed: int
) -> None:
    chance = Random(seed)
    for _ in range(5):
        for _ in range(chance.randint(2, 8)):
            change(raw, chance)
        models = chance.sample((*DIMENSIONS, *FACTS, "fct_returns"), chance.randint(1, 4))
        results = warehouse.dbt("run", "--select", *models)
        assert {result.status for result in results.values()} == {"success"}
    results = warehouse.dbt("run")
    assert {result.status for result in results.values()} == {"success"}
    grown = warehouse.facts()
    assert grown == refreshed(warehouse)
    results = warehouse.dbt(
        "test", "--select", "fct_returns_match_source", "fct_order_lines_match_returns"
    )
    assert [result.status for result in results.values()] == ["pass", "pass"]


def prices(warehouse: Warehouse) -> dict[int, Decimal]:
    """The list price that the first line of each order has met."""
    return dict(
        warehouse.query(
            "SELECT order_id, list_price_amount FROM warehouse.fct_order_lines"
            " JOIN warehouse.dim_product USING (product_key) WHERE line_number = 1"
        )
    )


@pytest.mark.parametrize("committed", [True, False], ids=["log", "snapshot"])
def test_a_time_that_cannot_be_true_does_not_keep_a_correction_from_being_valid(
    warehouse: Warehouse, raw: Raw, committed: bool
) -> None:
    """dbt-labs/dbt-core#5867, dbt-labs/dbt-core#2871: `updated_at` 2099, corrected the next day."""

    def load(day: datetime) -> None:
        raw.loaded_at = day
        raw.committed_at = day if committed else None

    load(DAY_2)
    raw.put_documents("products", product(1, 9900, "2099-01-01T00:00:00Z"))
    raw.put("customers", customer(1, "Ann Lee", updated_at=at("9999-12-31")))
    load(DAY_3)
    raw.put_documents("products", product(1, 1100, "2026-03-12T12:00:00Z"))
    raw.put("orders", order(11, "2026-03-11 18:00"), order(12, "2026-03-13 10:00"))
    raw.put("order_lines", line(11, 1), line(12, 1))
    assert not built(warehouse)
    met = prices(warehouse)
    assert (met[1], met[11], met[12]) == (Decimal("10.50"), Decimal("99.00"), Decimal("11.00"))
    assert warehouse.query(
        "SELECT full_name, valid_from FROM warehouse.dim_customer"
        " WHERE customer_id = 1 AND is_current"
    ) == [("Ann Lee", DAY_2)]


def test_a_clock_that_goes_back_does_not_change_what_was(warehouse: Warehouse, raw: Raw) -> None:
    """The commit says when the price changed, if `updated_at` was not kept up to date."""
    raw.loaded_at = raw.committed_at = DAY_2
    raw.put_documents("products", product(1, 1100, "2020-01-01T00:00:00Z"))
    raw.put("orders", order(11, "2026-03-11 18:00"))
    raw.put("order_lines", line(11, 1))
    assert not built(warehouse)
    met = prices(warehouse)
    assert (met[1], met[11]) == (Decimal("10.50"), Decimal("11.00"))


def test_null_and_empty_text_and_separators_are_different_keys(
    warehouse: Warehouse, raw: Raw
) -> None:
    """dbt-labs/dbt-utils#488: two regions had one key, and one row stopped all."""
    raw.put(
        "addresses",
        address(40, 2, "Riga", region="", is_primary=0),  # Address 1 is Riga without a region.
        address(41, 2, "c", region="a|b", is_primary=0),
        address(42, 2, "b|c", region="a", is_primary=0),
    )
    raw.put("orders", order(1, "2026-03-01 10:00", shipping_address_id=40))
    assert not built(warehouse)
    [(rows, keys)] = warehouse.query(
        "SELECT count(*), count(DISTINCT location_key) FROM warehouse.dim_location"
    )
    assert rows == keys
    assert warehouse.query(
        "SELECT order_id, city, region FROM warehouse.fct_order_lines"
        " JOIN warehouse.dim_location USING (location_key) WHERE order_id IN (1, 2)"
        " AND line_number = 1 ORDER BY 1"
    ) == [(1, "Riga", ""), (2, "Riga", None)]


def test_ids_of_two_types_with_one_text_are_two_documents(warehouse: Warehouse, raw: Raw) -> None:
    """tapdata/tapdata#2506: "5" and 5 in one collection doubled the sales of a category."""
    raw.put_documents(
        "categories", {"_id": "5", "name": "Text"}, {"_id": 5, "name": "Number", "parent_id": "C1"}
    )
    raw.put_documents(
        "products",
        product(5, 100) | {"_id": "5", "category_id": "5"},
        product(5, 200) | {"_id": 5, "category_id": 5, "vendor_id": None},
        product(6, 300) | {"_id": 6, "category_id": 5},
    )
    raw.put("order_lines", line(1, 1, "5"), line(2, 1, "6"))
    assert not built(warehouse)
    assert warehouse.query(
        "SELECT product_id, category_id, category_path FROM warehouse.dim_product"
        " WHERE product_id ~ '^[56]' ORDER BY 1"
    ) == [
        ("5", "5", "Text"),
        ("5 (int)", "5 (int)", "Home / Number"),
        ("6", "5 (int)", "Home / Number"),
    ]
    met = prices(warehouse)
    assert (met[1], met[2]) == (Decimal("1.00"), Decimal("3.00"))
    # The text names the only document that is left.
    raw.put_documents("products", product(5, 100) | {"_id": "5"}, deleted=True)
    assert not built(warehouse)
    assert prices(warehouse)[1] == Decimal("2.00")
    # Its key is that of the string, but its vendor is another.
    grown = warehouse.facts()
    assert grown == refreshed(warehouse)


def test_sums_are_wider_than_what_they_add(warehouse: Warehouse, raw: Raw) -> None:
    """A bar code scanned into the field for pieces, and its correction.

    academic-moodle-cooperation/moodle-mod_offlinequiz#91, moiz-lakkadkutta/Fabric-Inventory#207,
    woocommerce/woocommerce-ios#313
    """
    most = 2**31 - 1
    wrong = [movement(90 + n, 1, "P1", "adjustment", most, "2026-03-02") for n in range(2)]
    right = [movement(92 + n, 1, "P1", "adjustment", -most, "2026-03-03") for n in range(2)]
    raw.put("inventory_movements", *wrong, *right)
    raw.put(
        "order_lines",
        line(1, 9, quantity=most, unit_price=Decimal("9999999999.99"), unit_cost=Decimal(0)),
    )
    raw.put("returns", *(return_(n, 1, 9) | {"quantity": most} for n in (8, 9)))
    assert not built(warehouse)
    assert warehouse.query(
        "SELECT adjusted_quantity, closing_quantity FROM warehouse.fct_inventory_daily"
        " WHERE store_id = 1 AND product_id = 'P1' AND inventory_date = '2026-03-02'"
    ) == [(2 * most, 16 + 2 * most)]
    assert warehouse.query(
        "SELECT gross_amount, returned_quantity FROM warehouse.fct_order_lines"
        " WHERE line_number = 9"
    ) == [(most * Decimal("9999999999.99"), 2 * most)]


def test_keys_of_two_formulas_do_not_meet(warehouse: Warehouse, raw: Raw) -> None:
    """An earlier release built the tables. A fact alone is refused, and whole it is built anew."""
    expected = warehouse.facts()
    raw.session.execute("UPDATE dbt_state.key_formulas SET formula = 'of an earlier release'")
    for fact in FACTS:
        raw.session.execute(f"UPDATE warehouse.{fact} SET {FACTS[fact]} = gen_random_uuid()")
    result = warehouse.dbt("run", "--select", "fct_payments")["fct_payments"]
    assert result.status == "error"
    assert "dim_customer, dim_device, dim_store. Build these first" in result.message
    assert not built(warehouse)
    assert warehouse.facts() == expected


def test_a_fact_is_built_from_scratch_if_a_raw_table_is_another_one(
    warehouse: Warehouse, raw: Raw
) -> None:
    """Ingestion marks what is deleted. Of a raw table that was dropped, no row is marked."""
    raw.session.execute(
        """
        CREATE TABLE raw_shop.others (LIKE raw_shop.payments INCLUDING ALL);
        INSERT INTO raw_shop.others SELECT * FROM raw_shop.payments WHERE id <> 3;
        DROP TABLE raw_shop.payments CASCADE;
        ALTER TABLE raw_shop.others RENAME TO payments
        """
    )
    assert not built(warehouse)
    ids = "SELECT payment_id FROM warehouse.fct_payments ORDER BY 1"
    assert [number for (number,) in warehouse.query(ids)] == [1, 2, 4, 5, 6, 7, 8]


def test_a_unique_index_proves_a_primary_key_without_a_scan(warehouse: Warehouse) -> None:
    results = warehouse.dbt("test", "--select", "primary_key_fct_payments", "primary_key_dim_date")
    assert {result.status for result in results.values()} == {"pass"}
    scans = {name: "having" in result.node.compiled_code for name, result in results.items()}
    assert scans == {"primary_key_fct_payments": False, "primary_key_dim_date": True}


def test_the_formula_of_keys_has_no_comments(warehouse: Warehouse, tmp_path: Path) -> None:
    """A word in a comment made every installation refuse its facts."""

    def formula(project: Warehouse) -> str:
        [made] = project.dbt("compile", "--inline", "{{ key_formula() }}").values()
        return str(made.node.compiled_code)

    expected = formula(warehouse)
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    macros = project / "macros" / "scd2.sql"
    text = macros.read_text()
    said = text.replace("-- MySQL's log cuts", "-- As everybody knows,\n  -- the log of MySQL cuts")
    counted = text.replace("interval '1 microsecond'", "interval '1 millisecond'")
    assert text not in (said, counted)
    macros.write_text(said)
    assert formula(Warehouse(warehouse.server, tmp_path, project)) == expected
    macros.write_text(counted)
    assert formula(Warehouse(warehouse.server, tmp_path, project)) != expected


EMPTY_VIEW = """
    DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW staging.stg_shop__vendors AS SELECT * FROM ('
        || rtrim(pg_get_viewdef('staging.stg_shop__vendors'), ';') || ') AS vendors LIMIT 0'; END $$
"""
BREAKS = [
    # the test, its outcome, what breaks it
    (
        "primary_key_dim_vendor",
        "fail",
        "INSERT INTO warehouse.dim_vendor SELECT * FROM warehouse.dim_vendor",
    ),
    # Its unique index takes any number of nulls.
    ("primary_key_fct_payments", "fail", "UPDATE warehouse.fct_payments SET payment_key = NULL"),
    # Nobody has the index any more, so the rows are read.
    (
        "primary_key_fct_order_lines",
        "fail",
        """
        DO $$ BEGIN EXECUTE (
            SELECT string_agg(format('DROP INDEX %s', indexrelid::regclass), ';') FROM pg_index
            WHERE indrelid = 'warehouse.fct_order_lines'::regclass AND indisunique
        ); END $$;
        INSERT INTO warehouse.fct_order_lines SELECT * FROM warehouse.fct_order_lines
        """,
    ),
    ("one_to_one_with_raw_stg_shop__vendors", "fail", EMPTY_VIEW),
    (
        "references_resolved_fct_order_lines",
        "fail",
        "UPDATE warehouse.fct_order_lines SET product_key = gen_random_uuid() WHERE order_id = 8",
    ),
    (
        "references_resolved_fct_payments",
        "fail",
        "UPDATE warehouse.fct_payments SET customer_key = gen_random_uuid() WHERE payment_id = 1",
    ),
    (
        "scd2_intervals_dim_product",
        "fail",
        "UPDATE warehouse.dim_product SET valid_to = valid_to - interval '1 microsecond' WHERE "
        "version_number = 1",
    ),
    (
        "scd2_intervals_dim_customer",
        "fail",
        "UPDATE warehouse.dim_customer SET is_current = true WHERE customer_id = 1",
    ),
    (
        "dim_customer_matches_source",
        "fail",
        "DELETE FROM warehouse.dim_customer WHERE customer_id = 3",
    ),
    (
        "current_versions_complete_dim_store",
        "fail",
        "UPDATE raw_shop.stores SET _deleted = true WHERE id = 2",
    ),
    (
        "plausible_fct_order_lines",
        "warn",
        "UPDATE warehouse.fct_order_lines SET discount_amount = gross_amount + 1"
        " WHERE order_id = 8",
    ),
    (
        "relationships_stg_shop__order_lines_order_id__order_id__ref_stg_shop__orders_",
        "warn",
        "UPDATE raw_shop.orders SET _deleted = true WHERE id = 8",
    ),
    (
        "dated_plausibly_stg_shop__orders",
        "warn",
        "UPDATE raw_shop.orders SET ordered_at = '2062-01-01' WHERE id = 8",
    ),
    (
        "dated_plausibly_stg_shop__inventory_movements",
        "warn",
        "UPDATE raw_shop.inventory_movements SET moved_at = '1970-01-01' WHERE id = 3",
    ),
    (
        "accepted_values_stg_shop__orders_order_status",
        "warn",
        "UPDATE raw_shop.orders SET status = 'lost' WHERE id = 8",
    ),
    (
        "fct_order_lines_match_source",
        "fail",
        "UPDATE warehouse.fct_order_lines SET tax_amount = tax_amount + 0.01 WHERE order_id = 8",
    ),
    (
        "fct_order_lines_match_source",
        "fail",
        """
        INSERT INTO warehouse.fct_order_lines SELECT (jsonb_populate_record(
            fact, '{"order_line_key": "00000000-0000-0000-0000-000000000008"}'
        )).* FROM warehouse.fct_order_lines AS fact WHERE order_id = 8
        """,
    ),
    (
        "fct_order_lines_match_returns",
        "fail",
        "UPDATE warehouse.fct_order_lines SET refund_amount = refund_amount - 0.01 WHERE order_id "
        "= 9",
    ),
    (
        "fct_returns_match_source",
        "fail",
        "UPDATE raw_shop.returns SET refund_amount = refund_amount + 0.01 WHERE id = 2",
    ),
    (
        "fct_payments_match_source",
        "fail",
        "UPDATE warehouse.fct_payments SET captured_amount = amount"
        " WHERE payment_status = 'failed'",
    ),
    (
        "order_totals_match_lines",
        "warn",
        "UPDATE raw_shop.orders SET total_amount = total_amount - 0.01 WHERE id = 8",
    ),
    (
        "fct_inventory_daily_balances",
        "fail",
        "UPDATE raw_shop.inventory SET quantity_on_hand = 9 WHERE store_id = 1",
    ),
    (
        "fct_inventory_daily_balances",
        "fail",
        "DELETE FROM warehouse.fct_inventory_daily WHERE inventory_date = '2026-03-01'",
    ),
    (
        "inventory_explained_by_movements",
        "warn",
        "DELETE FROM raw_shop.inventory_movements WHERE id = 3",
    ),
]


@pytest.mark.parametrize(
    ("test", "outcome", "statement"), BREAKS, ids=[test for test, *_ in BREAKS]
)
def test_broken_data_fails_its_test(warehouse, test, outcome, statement):
    warehouse.create(DATABASE, BUILT)
    with warehouse.server.connect() as session:
        session.execute(statement)
    results = warehouse.dbt("test", "--select", test)
    assert results[test].status == outcome, results[test].message


def test_every_kind_of_test_is_seen_failing(warehouse):
    nodes = [node for node in warehouse.manifest.nodes.values() if node.resource_type == "test"]
    kinds = {
        node.name: node.test_metadata.name if hasattr(node, "test_metadata") else node.name
        for node in nodes
    }
    assert set(kinds.values()) == {kinds[test] for test, *_ in BREAKS}


def test_a_view_that_is_built_alone_leaves_those_that_read_it(warehouse):
    """The way of dbt itself drops the old view with every view that reads it."""
    warehouse.build("--select", "stg_shop__orders")
    warehouse.build("--select", "fct_order_lines")


def test_a_view_is_replaced_only_if_its_code_or_the_view_itself_changed(
    warehouse: Warehouse, raw: Raw
) -> None:
    """To replace a view waits for everybody who reads it, and keeps readers away meanwhile."""
    # PostgreSQL writes this row whenever a view is replaced.
    views = """
        SELECT v.relname, r.xmin::text FROM pg_rewrite r JOIN pg_class v ON v.oid = r.ev_class
        JOIN pg_namespace n ON n.oid = v.relnamespace
        WHERE n.nspname IN ('staging', 'warehouse') AND v.relkind = 'v'
    """
    before = dict(warehouse.query(views))
    assert len(before) > 20
    warehouse.dbt("run")
    assert dict(warehouse.query(views)) == before
    [(query,)] = warehouse.query("SELECT rtrim(pg_get_viewdef('staging.stg_shop__stores'), ';')")
    with warehouse.server.connect(autocommit=True) as session:
        session.execute(f"CREATE OR REPLACE VIEW staging.stg_shop__stores AS {query} LIMIT 0")
    warehouse.dbt("run")
    after = dict(warehouse.query(views))
    assert {name for name in after if after[name] != before[name]} == {"stg_shop__stores"}
    assert warehouse.query("SELECT pg_get_viewdef('staging.stg_shop__stores')") == [(f"{query};",)]


def test_a_view_whose_columns_got_other_types_is_held_against_its_contract(
    warehouse: Warehouse, raw: Raw
) -> None:
    """Ingestion makes a view again as it was when a column that it reads gets another type."""
    with warehouse.server.connect() as session, put_aside(session, "raw_shop.vendors", "rating"):
        session.execute("ALTER TABLE raw_shop.vendors ALTER rating TYPE float8")
    result = warehouse.dbt("run", "--select", "stg_shop__vendors")["stg_shop__vendors"]
    assert result.status == "error"
    assert "enforced contract that failed" in result.message


def test_a_movement_writes_the_days_that_it_changes_and_no_others(
    warehouse: Warehouse, raw: Raw
) -> None:
    """Each movement wrote all ninety days of its shelf again."""

    def rows_written() -> int:
        [result] = warehouse.dbt("run", "--select", "fct_inventory_daily").values()
        return result.adapter_response["rows_affected"]

    def days() -> dict[str, str]:
        rows = "SELECT inventory_daily_key::text, t::text FROM warehouse.fct_inventory_daily t"
        return dict(warehouse.query(rows))

    before = days()
    raw.put("inventory", shelf(1, "P1", 9))
    raw.put("inventory_movements", movement(5, 1, "P1", "sale", -1, "2026-03-05"))
    assert rows_written() == 2  # the day of the movement, and the one day after it
    changed = days()
    assert len({key for key, row in changed.items() if row != before[key]}) == 2
    # The window moves on: each of the three shelves gets a day and loses its first.
    last = movement(6, 2, "P1", "adjustment", 0, "2026-03-07")
    raw.put("inventory_movements", last)
    assert rows_written() == 3
    moved = days()
    assert len(moved.keys() - changed.keys()) == len(changed.keys() - moved.keys()) == 3
    # And back again.
    raw.put(
        "inventory_movements", movement(6, 2, "P1", "adjustment", 0, "2026-03-07"), deleted=True
    )
    assert rows_written() == 3
    assert days() == changed
    grown = warehouse.facts()
    assert grown == refreshed(warehouse)


def _rows_scanned(warehouse: Warehouse) -> dict[str, int]:
    """How many rows scans of whole tables have read so far, by raw table and fact."""
    return dict(
        warehouse.query(
            "SELECT relname, seq_tup_read FROM pg_stat_user_tables"
            " WHERE schemaname = 'raw_shop' OR relname LIKE 'fct%'"
        )
    )


def test_facts_find_what_changed_without_reading_everything(warehouse: Warehouse, raw: Raw) -> None:
    """Each fact scanned every raw table for its latest version, for changes and for deletions."""
    rows = 5_000
    for table, numbered, like in (
        ("orders", ["id"], "id = 1"),
        ("order_lines", ["order_id"], "order_id = 1 AND line_number = 1"),
        ("payments", ["id", "order_id"], "id = 1"),
        ("inventory_movements", ["id"], "id = 2"),
    ):
        numbers = ", ".join(f"'{column}', n" for column in numbered)
        raw.session.execute(
            f"INSERT INTO raw_shop.{table} SELECT (jsonb_populate_record(r,"
            f" jsonb_build_object({numbers}) || jsonb_build_object('_version',"
            f" nextval('ingestion.versions')))).* FROM raw_shop.{table} r,"
            f" generate_series(1001, {1000 + rows}) n WHERE {like}"
        )
    index_versions(raw.session, "raw_shop")
    raw.session.execute("ANALYZE")
    # The first run builds from all rows, and the second one has the index of its first.
    for _ in range(2):
        warehouse.dbt("run", "--select", *FACTS)
    raw.put("orders", order(1001, "2026-03-01 10:00", status="cancelled"))
    raw.put("payments", payment(1002, 1002), deleted=True)
    raw.put("inventory_movements", movement(1003, 1, "P1", "sale", -5, "2026-03-05"))
    before = _rows_scanned(warehouse)
    results = warehouse.dbt("run", "--select", *FACTS)
    after = _rows_scanned(warehouse)
    # The order's line, and its payment.
    assert results["fct_order_lines"].adapter_response["rows_affected"] == 1
    assert results["fct_payments"].adapter_response["rows_affected"] == 1
    scans = {table: round((after[table] - before[table]) / rows, 1) for table in after}
    assert scans["inventory_movements"] == 0
    # By fact once, for the rows of the orders that changed. There were ten scans of the orders.
    assert max(n for table, n in scans.items() if not table.startswith("fct")) <= 2
    grown = warehouse.facts()
    assert grown == refreshed(warehouse)


REFUNDS = "SELECT refund_amount, {0}::text FROM warehouse.{1} WHERE refund_amount <> 0 ORDER BY 2"


def test_returns_count_on_their_day_and_on_the_day_of_the_order(warehouse):
    """woocommerce/woocommerce#14585, shuup/shuup#1177, antiwork/gumroad#5897: a return of May
    changed the refunds of March.
    """
    warehouse.create(DATABASE, BUILT)
    with warehouse.server.connect() as session:
        raw = Raw(session, LINES.line("shop"), DAY_1)
        raw.loaded_at = datetime(2026, 5, 21, tzinfo=UTC)
        may = {"returned_at": at("2026-05-20"), "updated_at": at("2026-05-20")}
        # Its order is in March. That of the third return has not arrived.
        raw.put("returns", return_(3, 2, 1) | may, return_(4, 77, 1) | may)
    warehouse.dbt("build", "--exclude-resource-type", "unit_test")
    refund = Decimal("11.90")
    assert warehouse.query(REFUNDS.format("return_date", "fct_returns")) == [
        (refund, "2026-03-05"),
        (refund, "2026-03-05"),
        (refund, "2026-05-20"),
        (refund, "2026-05-20"),
    ]
    by_order = [(refund, "2026-03-01"), (refund, "2026-03-01"), (refund, "2026-03-02")]
    assert warehouse.query(REFUNDS.format("order_date", "fct_order_lines")) == by_order
    lost = (refund, "1900-01-01")
    assert warehouse.query(REFUNDS.format("order_date", "fct_returns")) == [lost, *by_order]
    # The customer married on 6 March, before the return of the order of 2 March.
    assert warehouse.query("""
        SELECT return_id, c.full_name, p.list_price_amount, s.store_name, currency
        FROM warehouse.fct_returns JOIN warehouse.dim_customer c USING (customer_key)
        JOIN warehouse.dim_product p USING (product_key)
        JOIN warehouse.dim_store s USING (store_key) ORDER BY 1
    """) == [
        (1, "Ann", Decimal("12.00"), "Store 1", "EUR"),
        (2, "Ann", Decimal("12.00"), "Store 1", "EUR"),
        (3, "Ann Lee", Decimal("13.00"), "Store 1", "EUR"),
        (4, "Unknown", None, "Unknown", "XXX"),
    ]


def test_a_mistyped_year_moves_no_window_and_is_named(warehouse):
    """rilldata/rill#685: one row dated far ahead became "now"."""
    warehouse.create(DATABASE, BUILT)
    days = "SELECT min(inventory_date), max(inventory_date) FROM warehouse.fct_inventory_daily"
    before = warehouse.query(days)
    with warehouse.server.connect() as session:
        raw = Raw(session, LINES.line("shop"), DAY_1)
        raw.loaded_at = DAY_3
        ahead = order(8, "2062-01-01", customer_id=2, shipping_address_id=2)
        raw.put("orders", ahead)
        raw.put("payments", payment(8, 9, status="failed", paid_at=at("9999-12-31 23:59:59")))
        raw.put("inventory_movements", movement(4, 1, "P1", "sale", -2, "2049-03-11"))
    results = warehouse.dbt("build", "--exclude-resource-type", "unit_test")
    assert {name for name, result in results.items() if result.status == "warn"} >= {
        "dated_plausibly_stg_shop__orders",
        "dated_plausibly_stg_shop__payments",
        "dated_plausibly_stg_shop__inventory_movements",
    }
    unknown = date(1900, 1, 1)
    facts = "SELECT order_date, ordered_at FROM warehouse.fct_order_lines WHERE order_id = 8"
    assert warehouse.query(facts) == [(unknown, datetime(2062, 1, 1, tzinfo=UTC))]
    assert warehouse.query(
        "SELECT payment_date FROM warehouse.fct_payments WHERE payment_id = 8"
    ) == [(unknown,)]
    # The movement of the last day has gone, so the window ends with the one before.
    [(first, last)] = warehouse.query(days)
    assert (last - first).days == 89
    assert (last, before[0][1]) == (date(2026, 3, 6), date(2026, 3, 11))


def test_conformed_models_are_built_without_any_line(warehouse, tmp_path):
    project = tmp_path / "dbt_project"
    of_lines = [line.name for line in LINES if line.sources]
    of_lines += [source.name for source in LINES.sources]
    ignored = shutil.ignore_patterns("target", "logs", *of_lines)
    shutil.copytree(PROJECT, project, ignore=ignored)
    derive(Lines([LINES.conformed]), tmp_path)
    warehouse.create(DATABASE, "template0")
    with warehouse.server.connect() as session:
        warehouse_state.prepare(session, "dbt_state")
        warehouse_state.prepare(session, "identities")
    Warehouse(warehouse.server, tmp_path, project).build()
    assert warehouse.query("SELECT customer_id, full_name FROM warehouse.dim_customer") == [
        (None, "Unknown")
    ]
    assert warehouse.query("SELECT city FROM warehouse.dim_location") == [("Unknown",)]
    manifest = json.loads((tmp_path / "target" / "manifest.json").read_text())
    tables = published_tables([LINES.conformed], manifest, {})
    with database() as production:
        done = publish(warehouse.server, production, tables, audits_of(tables))
    assert done.row_counts.keys() == {table.name for table in tables}
    assert all(audit.passed for audit in done.audits)


def test_a_shop_of_guests_without_payments_stock_or_vendors_is_published(warehouse):
    """Limits that fit the demo must not stop such a shop: each fourth order is a guest's."""
    warehouse.create(DATABASE, "template0")
    with warehouse.server.connect(autocommit=True) as session:
        raw = Raw(session, LINES.line("shop"), DAY_1)
        raw.create()
        raw.put("stores", store(1, "online"))
        raw.put_documents("categories", {"_id": "C2", "name": "Pans"})
        raw.put_documents("products", product(1, 1050) | {"vendor_id": None})
        raw.put("customers", customer(1, "Ann"))
        raw.put("addresses", address(1, 1, "Riga"))
        guest = {"customer_id": None, "shipping_address_id": None}
        ids = range(1, 9)
        raw.put(
            "orders",
            *(order(n, f"2026-03-0{n}", device=None) | (guest if n % 4 == 0 else {}) for n in ids),
        )
        raw.put("order_lines", *(line(n, 1) for n in ids))
        warehouse_state.prepare(session, "dbt_state")
        warehouse_state.prepare(session, "identities")
    warehouse.build("--exclude-resource-type", "unit_test")
    tables = [table for table in TABLES if table.schema == "warehouse"]
    with database() as production:
        done = publish(warehouse.server, production, tables, audits_of(tables))
        assert [audit.message for audit in done.audits if not audit.passed] == []
        assert done.row_counts["fct_order_lines"] == 8
        assert done.row_counts["fct_payments"] == done.row_counts["fct_inventory_daily"] == 0
        # Customers whom the shop lost are another matter. The message says where the limit is.
        with warehouse.server.connect() as session:
            session.execute(
                f"UPDATE warehouse.fct_order_lines SET customer_key = '{UNKNOWN}'"
                " WHERE order_id = 1"
            )
        done = publish(warehouse.server, production, tables, audits_of(tables))
        assert [audit.message for audit in done.lines["shop"].failed] == [
            "fct_order_lines_customer_key_known: 16.67% of the rows of fct_order_lines with "
            "customer_id is not null have the unknown member as customer_key. The limit is 10.00%: "
            "A customer whom an order names is in the shop. A guest is nobody's fault. It is "
            "declared at dbt_project/models/warehouse/shop/_models.yml: "
            "references_resolved_fct_order_lines, max_unknown_pct of customer_key."
        ]


CAFE = """
CREATE SCHEMA raw_cafe;
CREATE TABLE raw_cafe.customers (id bigint, full_name text, {ours});
CREATE TABLE raw_cafe.visits (
  id bigint, customer_id bigint, drink_id text, amount numeric(12, 2), visited_at timestamp, {ours}
);
CREATE SCHEMA raw_cafe_menu;
CREATE TABLE raw_cafe_menu.drinks (_id text, document jsonb, {ours});
INSERT INTO raw_cafe.customers VALUES (1, 'Zoë Brew');
INSERT INTO raw_cafe.visits VALUES (1, 1, 'tea', 1.95, '2026-03-01'), (2, 9, 'tea', 1.95, now());
INSERT INTO raw_cafe_menu.drinks VALUES ('tea', '{{"name": "Tea"}}')
""".format(
    ours=(
        "_deleted boolean DEFAULT false, _loaded_at timestamptz DEFAULT now(), "
        "_version bigint DEFAULT nextval('ingestion.versions')"
    )
)


def test_customers_of_two_lines_with_one_id_are_two_customers(warehouse, tmp_path):
    """Both have a customer 1. Their versions had one key, and every fact would have met both."""
    add_cafe(tmp_path, lines.SHOP)
    warehouse.create(DATABASE, BUILT)
    before = warehouse.facts()
    with warehouse.server.connect() as session:
        session.execute(CAFE)
    both = Warehouse(warehouse.server, tmp_path, tmp_path / "dbt_project")
    both.build("--exclude-resource-type", "unit_test")
    assert warehouse.query("""
        SELECT line_of_business, full_name FROM warehouse.dim_customer
        WHERE customer_id = 1 AND is_current ORDER BY 1
    """) == [("cafe", "Zoë Brew"), ("shop", "Ann Lee")]
    assert warehouse.query("""
        SELECT visit.amount::text, customer.line_of_business, customer.full_name
        FROM warehouse.fct_visits AS visit JOIN warehouse.dim_customer AS customer
          USING (customer_key)
        ORDER BY visit.visited_at
    """) == [("1.95", "cafe", "Zoë Brew"), ("1.95", None, "Unknown")]
    assert warehouse.facts() == before
    both.dbt("run", "--full-refresh", "--select", *FACTS)
    assert warehouse.facts() == before


def test_a_column_with_personal_values_is_classed_whatever_its_name(warehouse: Warehouse) -> None:
    """A publication compares the same, with the lineage that the last builds recorded."""
    warehouse.create(DATABASE, BUILT)
    manifest = json.loads((warehouse.folder / "target" / "manifest.json").read_text())
    nodes = {**manifest["nodes"], **manifest["sources"]}
    tables = {(node["schema"], node["name"]) for node in nodes.values() if "schema" in node}
    with warehouse.server.connect() as session:
        columns = column_types(session, tables)
    found: dict[tuple[str, str], dict[str, list[Column]]] = {}
    for name, job in JOBS.items():
        split = {to: [each.split(".") for each in origins] for to, origins in job.lineage.items()}
        found["aggregates", name] = {
            to: [(f"lake_{source}", table, column) for source, table, column in origins]
            for to, origins in split.items()
        }
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model":
            model = node["schema"], node["name"]
            parents = [nodes[each] for each in node["depends_on"]["nodes"]]
            read = [(each["schema"], each["name"]) for each in parents] + [model]
            query = compiled_sql(warehouse.folder / "target", node).read_text()
            lineage = query_lineage(query, {each: columns[each] for each in read})
            # An incremental model reads itself, too.
            found[model] = {
                to: [each for each in origins if each[:2] != model]
                for to, origins in lineage.items()
            }
    assert unclassed(TABLES, lines.SHOP, found) == {}
    bare = [replace(table, pii=(), sensitive=()) for table in TABLES]
    open_to_all = unclassed(bare, lines.SHOP, found)
    assert open_to_all["dim_customer"]["email"] == ("raw_shop", "customers_history", "email")
    assert open_to_all["agg_rfm_by_customer"] == {
        "customer_id": ("lake_shop", "orders", "customer_id")
    }


def test_a_run_writes_only_comments_that_differ(warehouse: Warehouse) -> None:
    """All of them, as dbt's own macro writes, would lock each table and leave dead rows."""
    comments = (
        "SELECT objsubid, description, xmin::text FROM pg_description"
        " WHERE objoid = 'warehouse.fct_payments'::regclass ORDER BY objsubid"
    )
    warehouse.create(DATABASE, BUILT)
    before = warehouse.query(comments)
    assert [place for place, *_ in before] == list(range(len(before)))
    assert before[0][1].startswith("One row per payment")
    warehouse.dbt("run", "--select", "fct_payments")
    assert warehouse.query(comments) == before
    with warehouse.server.connect() as session:
        session.execute("COMMENT ON COLUMN warehouse.fct_payments.amount IS '100% other'")
    warehouse.dbt("run", "--select", "fct_payments")
    again = warehouse.query(comments)
    assert [each[:2] for each in again] == [each[:2] for each in before]
    assert len(set(again) - set(before)) == 1
