"""What the generated data promise: determinism, sums to the cent, stock that adds up, dirt in its
stated shares.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from seed_data.common.model import Output
from seed_data.common.parameters import Parameters
from seed_data.shop import dirty, generator
from seed_data.shop.generator import generate
from seed_data.shop.parameters import ShopParameters
from seed_data.shop.products import make_products
from softcart_assets.assembly import LINES

UNTIL = datetime(2026, 3, 4, 15, 30, 12, 345678, tzinfo=UTC)
PARAMETERS = Parameters(0.2, 5, UNTIL)
TABLES = [f"{source.name}.{table.name}" for source, table in LINES.line("shop").tables()]


def _generate(
    spark, parameters: Parameters, directory: Path, only: list[str] = TABLES
) -> list[str]:
    """Make tables; the names of those that were announced as written."""
    written: list[str] = []
    output = Output(directory, only, lambda: spark, lambda table, path: written.append(table))
    generate(parameters, output)
    return written


@pytest.fixture(scope="module")
def seeded(spark, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("seed")
    assert sorted(_generate(spark, PARAMETERS, directory)) == sorted(TABLES)
    return directory


@pytest.fixture
def read(seeded: Path):
    def table(name: str) -> pd.DataFrame:
        [path] = seeded.glob(f"*.{name}")
        return pq.read_table(path).to_pandas()

    return table


def _cents(amounts: pd.Series) -> pd.Series:
    return amounts.map(lambda amount: int(amount.scaleb(2)))


def test_the_same_parameters_make_the_same_rows_in_any_partitioning(
    spark, seeded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generator, "ROWS_PER_PARTITION", 300)
    _generate(spark, PARAMETERS, tmp_path / "again")
    _generate(spark, replace(PARAMETERS, seed=6), tmp_path / "other", ["shop.customers"])
    counts = [
        len(list((directory / "shop.customers").glob("*.parquet")))
        for directory in (seeded, tmp_path / "again")
    ]
    assert counts[0] < counts[1]

    def rows(directory: Path, name: str) -> pa.Table:
        table = pq.read_table(directory / name)
        return table.sort_by([(column, "ascending") for column in table.column_names[:2]])

    for name in TABLES:
        assert rows(seeded, name).equals(rows(tmp_path / "again", name)), name
    assert not rows(seeded, "shop.customers").equals(rows(tmp_path / "other", "shop.customers"))
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["shop.customers"]


KNOWN = {
    "shop.customers": "04db6be3b37956e7",
    "shop.addresses": "6af263d3218a67b0",
    "shop.stores": "e7b97b3553de2c76",
    "shop.vendors": "e538ca58b98899c8",
    "shop.employees": "f60228707f4cea83",
    "shop.orders": "c9c69536db66af1c",
    "shop.order_lines": "223ba93b4ad941db",
    "shop.payments": "a0fab1db9153b00f",
    "shop.returns": "5f9a8ad039236e5e",
    "shop.inventory": "40819e98035d9218",
    "shop.inventory_movements": "9b4b74bb49ac8215",
    "catalog.products": "5174c43a25881196",
    "catalog.categories": "1a58090a6d870a05",
}
"""Digests of all rows of each table."""


def test_the_same_parameters_make_the_same_rows_in_every_release(seeded: Path) -> None:
    """Another way to compute them must not change them: somebody compares with figures of before.

    A new version of Faker or Spark may change words and draws. Then write the new digests here, and
    say it in the changelog.
    """
    found = {}
    for name in TABLES:
        table = pq.read_table(seeded / name)
        table = table.sort_by([(column, "ascending") for column in table.column_names[:2]])
        found[name] = hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest()[:16]
    assert found == KNOWN


def test_small_tables_need_no_spark(tmp_path: Path) -> None:
    small = ["shop.stores", "catalog.products"]
    output = Output(tmp_path, small, lambda: pytest.fail("no session"), lambda table, path: None)
    generate(PARAMETERS, output)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(small)


def test_totals_agree_with_lines_and_payments_to_the_cent(read) -> None:
    orders, lines = read("orders").set_index("id"), read("order_lines")
    net = lines.quantity * _cents(lines.unit_price) - _cents(lines.discount_amount)
    rate = lines.tax_rate.map(lambda rate: int(rate.scaleb(4)))
    assert ((net * rate + 5_000) // 10_000 == _cents(lines.tax_amount)).all()  # half up

    total = _cents(orders.total_amount)
    goods = (net + _cents(lines.tax_amount)).groupby(lines.order_id).sum()
    assert ((goods + _cents(orders.shipping_amount)).reindex(orders.index) == total).all()
    assert (
        lines.created_at.to_numpy() == orders.ordered_at.reindex(lines.order_id).to_numpy()
    ).all()

    payments, returns = read("payments"), read("returns")
    amounts = _cents(payments.amount)

    def paid(*statuses: str) -> pd.Series:
        chosen = payments.status.isin(statuses)
        return (
            amounts[chosen]
            .groupby(payments.order_id[chosen])
            .sum()
            .reindex(orders.index, fill_value=0)
        )

    settled = orders.status.isin(["paid", "shipped", "delivered"])
    assert (paid("authorized", "captured") == total)[settled].all()
    refunds = (
        _cents(returns.refund_amount)
        .groupby(returns.order_id)
        .sum()
        .reindex(orders.index, fill_value=0)
    )
    assert (paid("refunded") == refunds)[settled].all()
    assert (paid("refunded") == paid("captured"))[orders.status == "cancelled"].all()
    in_store = orders.device.isna()
    cash = payments.order_id[payments.method == "cash"]
    assert in_store.reindex(cash).all()
    assert len(cash)
    failed = set(payments.order_id[payments.status == "failed"])
    assert failed
    assert failed <= set(payments.order_id[payments.status.isin(["authorized", "captured"])])


def test_movements_add_up_to_the_stock_and_never_fall_below_zero(read) -> None:
    key = ["store_id", "product_id"]
    inventory, movements = read("inventory"), read("inventory_movements")
    on_hand = inventory.set_index(key).quantity_on_hand
    assert (
        movements.groupby(key).quantity.sum().reindex(on_hand.index, fill_value=0).equals(on_hand)
    )
    running = movements.sort_values("moved_at").groupby(key).quantity.cumsum()
    assert running.min() >= 0
    assert 0.03 < (on_hand == 0).mean() < 0.3
    assert {"receipt", "sale", "return", "adjustment"} == set(movements.kind)

    lines, orders = read("order_lines"), read("orders").set_index("id")
    kept = (orders.status.reindex(lines.order_id) != "cancelled").to_numpy()
    sold = lines[kept & ~lines.product_id.str.startswith("P999")]
    assert -movements[movements.kind == "sale"].quantity.sum() == sold.quantity.sum()


def test_keys_are_unique_references_resolve_and_nothing_is_in_the_future(read) -> None:
    keys = {"order_lines": ["order_id", "line_number"], "inventory": ["store_id", "product_id"]}
    for name in (table.name for table in LINES.source("shop").tables):
        rows = read(name)
        assert not rows.duplicated(keys.get(name, ["id"])).any(), name
        for column in rows.select_dtypes("datetimetz"):
            assert rows[column].max() <= pd.Timestamp(UNTIL), f"{name}.{column}"
    customers, addresses, orders = (
        read("customers").set_index("id"),
        read("addresses").set_index("id"),
        read("orders"),
    )
    assert (addresses.groupby("customer_id").is_primary.sum() == 1).all()
    assert 1.3 < len(addresses) / len(customers) < 1.5
    shipped = orders[orders.shipping_address_id.notna()]
    resident = addresses.customer_id.reindex(shipped.shipping_address_id)
    assert (resident.to_numpy() == shipped.customer_id.to_numpy()).all()
    known = orders[orders.customer_id.isin(customers.index)]
    assert (
        customers.created_at.reindex(known.customer_id).to_numpy() <= known.ordered_at.to_numpy()
    ).all()
    employees = read("employees").set_index("id")
    served = orders[orders.employee_id.notna()]
    assert (
        employees.store_id.reindex(served.employee_id).to_numpy() == served.store_id.to_numpy()
    ).all()
    returned = read("returns").merge(
        read("order_lines"), on=["order_id", "line_number"], suffixes=("", "_bought")
    )
    assert len(returned) == len(read("returns"))
    assert (returned.quantity <= returned.quantity_bought).all()


def test_orders_look_like_those_of_a_shop(read) -> None:
    orders, lines = read("orders").sort_values("id"), read("order_lines")
    assert orders.ordered_at.is_monotonic_increasing
    assert pd.Timestamp(UNTIL) - orders.ordered_at.max() < pd.Timedelta(minutes=10)
    by_day = orders.groupby(orders.ordered_at.dt.date).size()
    assert str(by_day.idxmax()) in {"2024-11-29", "2025-11-28"}
    buyers = orders.customer_id[orders.customer_id < dirty.UNKNOWN_CUSTOMER_BASE].value_counts()
    assert buyers.quantile(0.95) > 3 * buyers.median()
    shares = lines.product_id.value_counts(normalize=True)
    assert shares.iloc[:20].sum() > 0.15
    pairs = lines.merge(lines, on="order_id").query("product_id_x < product_id_y")
    assert pairs.groupby(["product_id_x", "product_id_y"]).size().max() > 0.004 * len(orders)
    by_status = orders.status.value_counts(normalize=True)
    assert 0.02 < by_status["cancelled"] < 0.04
    assert 0.05 < len(read("returns")) / len(lines) < 0.08
    share = orders.device.eq("mobile").groupby(orders.ordered_at.dt.year).mean()
    assert share[2026] > share[2024]
    physical = read("stores").query("channel == 'physical'").id
    assert (orders.device.isna() == orders.store_id.isin(physical)).all()


def test_dirt_comes_in_its_stated_shares(read) -> None:
    customers, orders, lines = read("customers"), read("orders"), read("order_lines")
    known = set(read("customers").id)
    unknown = orders.customer_id.notna() & ~orders.customer_id.isin(known)
    expected = {
        "e-mail missing": (customers.email.isna(), dirty.EMAIL_NULL),
        "e-mail shared": (
            customers.email.str.startswith("shared.", na=False),
            dirty.EMAIL_DUPLICATE,
        ),
        "e-mail malformed": (
            ~customers.email.dropna().str.fullmatch(r"[^@\s]+@[^@\s]+\.example"),
            dirty.EMAIL_MALFORMED / (1 - dirty.EMAIL_NULL),
        ),
        "phone missing": (customers.phone.isna(), dirty.PHONE_NULL),
        "capitals": (customers.full_name.str.fullmatch(r"[A-ZÄÖÜÉ -]{4,}"), dirty.NAME_CAPITALS),
        "guest": (orders.customer_id.isna(), dirty.ORDER_GUEST),
        "unknown customer": (unknown, dirty.ORDER_UNKNOWN_CUSTOMER),
        "unknown product": (lines.product_id.str.startswith("P999"), dirty.LINE_UNKNOWN_PRODUCT),
    }
    for what, (found, share) in expected.items():
        # Five standard deviations of a count with this share.
        assert abs(found.sum() - share * len(found)) <= 5 * (share * len(found)) ** 0.5 + 1, what
    assert customers.full_name.map(lambda name: max(map(ord, name)) > 0xFFFF).any()
    assert set(customers.birth_date.dropna().str.len()) == {10}


def test_documents_vary_by_category_and_some_are_dirty(read) -> None:
    products = [json.loads(text) for text in read("products").document]
    leaves = {
        json.loads(text)["_id"]
        for text in read("categories").document
        if json.loads(text)["parent_id"]
    }
    assert {product["category_id"] for product in products} == leaves
    assert len({tuple(product["attributes"]) for product in products}) > 15
    skus = [variant["sku"] for product in products for variant in product["variants"]]
    assert len(set(skus)) == len(skus)
    many = make_products(ShopParameters(25, 1, UNTIL)).documents
    assert any(isinstance(product["weight_grams"], str) for product in many)
    assert any(isinstance(product["price"]["amount_minor"], float) for product in many)
    assert any("brand" not in product or "tags" not in product for product in many)
    prices = {product["_id"]: product["price"]["amount_minor"] for product in products}
    lines = read("order_lines")
    near = _cents(lines.unit_price) / lines.product_id.map(prices).astype(float)
    assert near.dropna().between(0.8, 1.2).mean() > 0.99
