"""The aggregates on small data whose results can be worked out by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations, product

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import FileSelector
from pyspark.sql import DataFrame, SparkSession
from support.lake import fill

from softcart_assets.lake import LakeTable
from spark.jobs import JOBS, MissingInput, write_aggregate
from spark.jobs.shop import agg_baskets_by_product_pair as baskets
from spark.jobs.shop.agg_rfm_by_customer import segment
from spark.lake import read
from spark.session import SETTINGS, SHORT_SETTINGS

SHOPPED = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)  # a Monday
LOADED = SHOPPED + timedelta(days=60)
OF_THE_SHOP = [name for name, job in JOBS.items() if job.line == "shop"]


def orders(spark: SparkSession, rows: Iterable[tuple]) -> DataFrame:
    """Orders of (id, customer, time[, status[, device[, store[, currency]]]])."""
    full = [(*row, *("paid", "mobile", 1, "EUR")[len(row) - 3 :]) for row in rows]
    schema = (
        "id decimal(20,0), customer_id decimal(20,0), ordered_at timestamp, status string, "
        "device string, store_id bigint, currency string, _loaded_at timestamp"
    )
    return spark.createDataFrame(
        [(Decimal(r[0]), r[1] and Decimal(r[1]), *r[2:], LOADED) for r in full], schema
    )


def lines(spark: SparkSession, rows: Iterable[tuple]) -> DataFrame:
    """Lines of (order, product[, quantity[, price[, discount[, cost]]]])."""
    full = [(*row, *(1, "10.00", "0.00", "6.00")[len(row) - 2 :]) for row in rows]
    schema = (
        "order_id decimal(20,0), product_id string, quantity int, unit_price decimal(12,2), "
        "discount_amount decimal(12,2),"
        "unit_cost decimal(12,2), created_at timestamp, _loaded_at timestamp"
    )
    return spark.createDataFrame(
        [(Decimal(r[0]), r[1], r[2], *map(Decimal, r[3:]), SHOPPED, LOADED) for r in full], schema
    )


def stores(spark: SparkSession) -> DataFrame:
    """A physical store and one online."""
    rows = [(Decimal(1), "physical"), (Decimal(2), "online")]
    return spark.createDataFrame(rows, "id decimal(20,0), channel string")


def catalog(spark: SparkSession) -> tuple[DataFrame, DataFrame]:
    """Products and a tree of categories: home > kitchen > pans, and garden; a loop; an orphan."""
    products = [
        ("pan", "pans"),
        ("pot", "kitchen"),
        ("rake", "garden"),
        ("thing", "gone"),
        ("what", None),
    ]
    tree = [
        ("home", "Home", None),
        ("kitchen", "Kitchen", "home"),
        ("pans", "Pans", "kitchen"),
        ("garden", "Garden", None),
        ("a", "A", "b"),
        ("b", "B", "a"),
        ("orphan", "Orphan", "lost"),
    ]
    return (
        spark.createDataFrame(
            [(key, "string", category) for key, category in products]
            # tapdata/tapdata#2506: it doubled the sales of the product whose id is a text.
            + [("pan", "int", "garden")],
            "_id string, _id_type string, category_id string",
        ),
        spark.createDataFrame(
            # The same for categories: the string keeps its name and its place.
            [(key, "string", name, parent) for key, name, parent in tree]
            + [("pans", "int", "Number", None)],
            "_id string, _id_type string, name string, parent_id string",
        ),
    )


def rows_of(frame: DataFrame, *columns: str) -> list[tuple]:
    return sorted(map(tuple, frame.select(*columns).collect()), key=repr)


class TestSalesByCategoryMonth:
    def run(
        self, spark: SparkSession, order_rows: Iterable[tuple], line_rows: Iterable[tuple]
    ) -> DataFrame:
        inputs = orders(spark, order_rows), lines(spark, line_rows), *catalog(spark)
        return JOBS["agg_sales_by_category_month"].transform(*inputs)

    def test_a_bar_code_as_quantity_stops_nothing(self, spark) -> None:
        """academic-moodle-cooperation/moodle-mod_offlinequiz#91: sums were as narrow as inputs."""
        most, price = 2**31 - 1, "9999999999.99"
        line_rows = [(1, "pan", most, price, "0.00", "0.00")] * 2
        result = self.run(spark, [(1, 1, SHOPPED)], line_rows)
        expected = 2 * most * Decimal(price)
        assert rows_of(result, "units_count", "net_amount") == [(2 * most, expected)]

    def test_year_on_year_with_months_without_sales(self, spark) -> None:
        """A lag over the rows that exist would compare June 2025 with whatever row comes twelve
        before it.
        """
        sold = {
            "2024-05": ("pan", 5),
            "2024-06": ("rake", 7),
            "2025-05": ("pan", 6),
            "2025-06": ("pan", 1),
            "2025-07": ("rake", 2),
        }
        order_rows = [
            (n, 1, datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC))
            for n, month in enumerate(sold)
        ]
        line_rows = [
            (n, product_id, quantity) for n, (product_id, quantity) in enumerate(sold.values())
        ]
        result = self.run(spark, order_rows, line_rows).persist()
        found = {
            (row.category_id, f"{row.month:%Y-%m}"): (
                row.net_amount,
                row.net_amount_previous_year,
                row.net_amount_yoy_pct,
            )
            for row in result.collect()
        }
        assert found["pans", "2024-05"] == (Decimal(50), None, None)
        assert found["pans", "2024-06"] == (Decimal(0), None, None)
        assert found["pans", "2025-05"] == (Decimal(60), Decimal(50), Decimal("20.00"))
        assert found["pans", "2025-06"] == (Decimal(10), Decimal(0), None)
        assert found["garden", "2025-05"] == (Decimal(0), Decimal(0), None)
        assert found["garden", "2025-06"] == (Decimal(0), Decimal(70), Decimal("-100.00"))
        assert found["garden", "2025-07"] == (Decimal(20), Decimal(0), None)
        assert len(found) == 15 + 14
        result.unpersist()

    def test_growth_from_a_loss_is_growth(self, spark) -> None:
        """From -100 to -50 was shown as -50%."""
        times = (SHOPPED.replace(year=2025), SHOPPED)
        for amounts, change in (((-100, -50), "50"), ((-100, -150), "-50"), ((-50, 50), "200")):
            order_rows = [(n, 1, time) for n, time in enumerate(times)]
            # What is given away costs more than it brings.
            line_rows = [(n, "pan", 1, "0.00", str(-amount)) for n, amount in enumerate(amounts)]
            months = self.run(spark, order_rows, line_rows).where("month = '2026-03-01'")
            assert rows_of(months, "net_amount_yoy_pct") == [(Decimal(change),)]

    def test_cancelled_unknown_and_departments(self, spark) -> None:
        order_rows = [(1, 1, SHOPPED), (2, 1, SHOPPED, "cancelled")]
        line_rows = [
            *((1, "pan", 2, "10.00", "0.50", "4.00"), (1, "pan", 1), (1, "pot"), (2, "pan", 100)),
            *((1, "thing"), (1, "what"), (1, "never heard of"), (404, "rake")),
        ]
        result = self.run(spark, order_rows, line_rows)
        columns = (
            "category_id",
            "category_name",
            "department_name",
            "month",
            "order_count",
            "units_count",
            "net_amount",
            "margin_amount",
        )
        month = date(2026, 3, 1)
        assert rows_of(result, *columns) == [
            (
                "garden",
                "Garden",
                "Garden",
                month,
                1,
                1,
                Decimal("10.00"),
                Decimal("4.00"),
            ),  # its order is missing
            ("kitchen", "Kitchen", "Home", month, 1, 1, Decimal("10.00"), Decimal("4.00")),
            ("pans", "Pans", "Home", month, 1, 3, Decimal("29.50"), Decimal("15.50")),
            ("unknown", "Unknown", "Unknown", month, 1, 3, Decimal("30.00"), Decimal("12.00")),
        ]

    @settings(max_examples=5, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.integers(0, 9),
                st.sampled_from(["pan", "pot", "rake", "thing"]),
                st.integers(1, 1000),
                st.decimals(0, "9999999.99", places=2),
                st.decimals(0, "99.99", places=2),
            ),
            max_size=30,
        )
    )
    def test_sums_are_exact(self, spark, line_rows: list[tuple]) -> None:
        order_rows = [(n, 1, SHOPPED, "cancelled" if n == 0 else "paid") for n in range(10)]
        expected: dict[str, Decimal] = defaultdict(Decimal)
        category = {"pan": "pans", "pot": "kitchen", "rake": "garden", "thing": "unknown"}
        for order, product_id, quantity, price, discount in line_rows:
            if order != 0:
                expected[category[product_id]] += quantity * price - discount
        result = self.run(spark, order_rows, line_rows)
        assert dict(rows_of(result, "category_id", "net_amount")) == expected


class TestRfm:
    def test_ties_share_their_scores(self, spark) -> None:
        """Heaps of equal size (`ntile`) would give five customers with one order each five
        different scores.
        """
        customers = range(1, 11)
        many = {9: 4, 10: 9}
        order_rows, line_rows = [], []
        for customer in customers:
            for n in range(many.get(customer, 1)):
                order_rows.append(
                    (customer * 100 + n, customer, SHOPPED - timedelta(days=10 - customer))
                )
                line_rows.append((customer * 100 + n, "pan", customer))
        order_rows += [
            (1, None, SHOPPED),
            (2, 77, SHOPPED),
            (3, 1, SHOPPED + timedelta(hours=20), "cancelled"),
        ]
        line_rows += [(1, "pan"), (2, "pan"), (3, "pan")]
        known = spark.createDataFrame([(Decimal(c),) for c in customers], "id decimal(20,0)")
        result = JOBS["agg_rfm_by_customer"].transform(
            orders(spark, order_rows), lines(spark, line_rows), known
        )
        found = {row.customer_id: row for row in result.collect()}
        assert sorted(found) == list(customers)  # neither guests nor customers whom nobody knows
        assert [found[c].frequency_score for c in customers] == [1] * 8 + [5] * 2
        assert [found[c].recency_score for c in customers] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        assert [found[c].monetary_score for c in customers] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
        # The present is the latest order, the cancelled one of the next day.
        assert [found[c].recency_days for c in customers] == list(range(10, 0, -1))
        assert (found[10].last_order_date, found[10].frequency_count) == (SHOPPED.date(), 9)
        assert found[10].monetary_amount == Decimal("900.00")
        assert (found[10].segment, found[1].segment, found[8].segment) == (
            "Champions",
            "Hibernating",
            "Potential loyalists",
        )

    def test_every_combination_of_scores_has_one_segment(self, spark) -> None:
        scores = spark.createDataFrame(list(product(range(1, 6), repeat=3)), "r int, f int, m int")
        segments = scores.select(
            "*", segment(scores.r, scores.f, scores.m).alias("segment")
        ).collect()
        assert len({row.segment for row in segments}) == 10
        assert all(row.segment for row in segments)
        named = {(row.r, row.f, row.m): row.segment for row in segments}
        assert named[5, 5, 5] == "Champions"
        assert named[1, 5, 4] == "Cannot lose them"  # the mean of 4.5 counts as 5
        assert named[5, 1, 1] == "New customers"


class TestBaskets:
    def run(self, spark: SparkSession, sold: dict[int, str], status: str = "paid") -> DataFrame:
        order_rows = [(n, 1, SHOPPED + timedelta(minutes=n), status) for n in sold]
        line_rows = [(n, product_id) for n, items in sold.items() for product_id in items.split()]
        return JOBS["agg_baskets_by_product_pair"].transform(
            orders(spark, order_rows), lines(spark, line_rows)
        )

    def test_support_confidence_and_lift(self, spark) -> None:
        """A product twice in an order is one; a join of lines with lines would count the pair
        twice.
        """
        sold = {1: "b a a", 2: "a b", 3: "a b b c", 4: "a", 5: "c", 6: "c d", 7: "a c", 8: "e"}
        result = self.run(spark, sold)
        assert [tuple(row) for row in result.collect()] == [
            ("a", "b", 3, Decimal("37.5"), Decimal("60"), Decimal("100"), Decimal("1.6"), 0),
        ]

    @settings(max_examples=5, deadline=None)
    @given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), max_size=25))
    def test_every_figure_is_that_of_counting(self, spark, sold: list[set[str]]) -> None:
        bought = {n: " ".join(items) for n, items in enumerate(sold)}
        found = {
            (row.product_id_a, row.product_id_b): row for row in self.run(spark, bought).collect()
        }
        singles = Counter(item for items in sold for item in items)
        pairs = Counter(pair for items in sold for pair in combinations(sorted(items), 2))
        assert found.keys() == {pair for pair, count in pairs.items() if count >= 3}
        for (a, b), row in found.items():
            both = pairs[a, b]
            assert row.basket_count == both
            shares = (row.support_pct, row.confidence_a_to_b_pct, row.confidence_b_to_a_pct)
            for share, whole in zip(shares, (len(sold), singles[a], singles[b]), strict=True):
                assert float(share) == pytest.approx(both * 100 / whole, abs=1e-4)
            lift = both * len(sold) / singles[a] / singles[b]
            assert float(row.lift) == pytest.approx(lift, abs=1e-4)

    def test_a_customer_who_buys_hundreds_of_products_at_once(self, spark) -> None:
        """UCI Online Retail: three orders of the same 25 products took a minute as itemsets of
        every size, and orders of 1,114 lines overflowed the stack.
        """
        products = " ".join(f"p{n:03}" for n in range(200))
        pairs = self.run(spark, dict.fromkeys(range(3), products)).collect()
        assert len(pairs) == 200 * 199 / 2
        assert {tuple(row)[2:] for row in pairs} == {
            (3, Decimal(100), Decimal(100), Decimal(100), Decimal(1), 0)
        }

    def test_what_is_too_large_for_a_basket_is_counted_and_in_no_figure(
        self, spark, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(baskets, "MAX_PRODUCTS", 3)
        sold = {1: "a b", 2: "a b", 3: "a b c", 4: "a", 5: "a b c d", 6: "a b c d e"}
        [pair] = self.run(spark, sold).collect()
        assert tuple(pair) == (
            *("a", "b", 3, Decimal(75), Decimal(75), Decimal(100), Decimal(1)),
            2,
        )

    @pytest.mark.parametrize("sold", [{}, {1: "a b"}, dict.fromkeys(range(9), "a")])
    def test_no_pair_is_frequent(self, spark, sold: dict[int, str]) -> None:
        assert self.run(spark, sold).collect() == []

    def test_cancelled_orders_are_no_baskets(self, spark) -> None:
        assert self.run(spark, dict.fromkeys(range(9), "a b"), status="cancelled").collect() == []

    def test_of_a_long_history_only_the_latest_orders_count(
        self, spark, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(baskets, "MAX_ORDERS", 10)
        order_rows = [(n, 1, SHOPPED + timedelta(minutes=n - 20)) for n in range(20)]
        line_rows = lines(
            spark, [(n, product_id) for n in range(20) for product_id in ("ab" if n < 9 else "cd")]
        )
        line_rows = line_rows.withColumn(
            "created_at",
            (line_rows.created_at.cast("double") + (line_rows.order_id - 20) * 60).cast(
                "timestamp"
            ),
        )
        job = JOBS["agg_baskets_by_product_pair"]
        pairs = job.transform(orders(spark, order_rows), line_rows).collect()
        assert [(row.product_id_a, row.product_id_b) for row in pairs] == [("c", "d")]
        assert 10 <= pairs[0].basket_count <= 11


def test_heat_map_counts_orders_and_not_lines(spark) -> None:
    order_rows = [
        *(
            (1, 1, SHOPPED),
            (2, 1, SHOPPED, "paid", None),
            (3, 1, SHOPPED + timedelta(days=6, hours=1)),
        ),
        *((4, 1, SHOPPED), (5, 1, SHOPPED, "cancelled")),
        (6, 1, SHOPPED, "paid", None, 2),
        (7, 1, SHOPPED, "paid", "mobile", 1, "JPY"),
    ]
    line_rows = [(1, "a"), (1, "b"), (2, "a"), (3, "a", 3), (4, "a"), (5, "a"), (6, "a"), (7, "a")]
    line_rows.append((8, "a"))  # its order is missing
    result = JOBS["agg_orders_by_device_weekday_hour"].transform(
        orders(spark, order_rows), lines(spark, line_rows), stores(spark)
    )
    columns = ("currency", "device", "weekday", "hour", "order_count", "net_amount")
    assert rows_of(result, *columns) == [
        ("EUR", "in_store", 1, 9, 1, Decimal("10.00")),
        ("EUR", "mobile", 1, 9, 2, Decimal("30.00")),
        ("EUR", "mobile", 7, 10, 1, Decimal("30.00")),
        ("EUR", "unknown", 1, 9, 1, Decimal("10.00")),
        ("JPY", "mobile", 1, 9, 1, Decimal("10.00")),
        ("XXX", "unknown", 1, 9, 1, Decimal("10.00")),
    ]


@pytest.mark.parametrize(
    "mistyped",
    [SHOPPED.replace(year=2062), SHOPPED.replace(year=9999), SHOPPED.replace(year=1026)],
    ids=lambda time: f"{time:%Y}",
)
def test_a_mistyped_year_moves_no_window_and_no_grid(spark, mistyped: datetime) -> None:
    """rilldata/rill#685: one order dated far ahead took all sales out of every window."""
    order_rows = [
        (1, 1, SHOPPED - timedelta(days=30)),
        (2, 2, SHOPPED),
        (3, 1, SHOPPED - timedelta(days=365)),
    ]
    line_rows = [(1, "pan"), (2, "pan", 2), (3, "pan")]
    with_it = [*order_rows, (4, 1, mistyped)], [*line_rows, (4, "pan", 5, "7.00")]
    customers = spark.createDataFrame([(Decimal(1),), (Decimal(2),)], "id decimal(20,0)")
    inventory = spark.createDataFrame(
        [(1, "pan", 10, 5)],
        "store_id bigint, product_id string, quantity_on_hand int, reorder_point int",
    )
    found = []
    for some_orders, some_lines in ((order_rows, line_rows), with_it):
        sold = orders(spark, some_orders), lines(spark, some_lines)
        segments = JOBS["agg_rfm_by_customer"].transform(*sold, customers)
        cover = JOBS["agg_stock_cover_by_store_product"].transform(*sold, inventory)
        months = JOBS["agg_sales_by_category_month"].transform(*sold, *catalog(spark))
        found.append(
            (
                rows_of(segments, "customer_id", "recency_days", "frequency_count", "segment"),
                rows_of(cover, "product_id", "sold_quantity_28d", "cover_days"),
                rows_of(months, "month", "net_amount", "net_amount_previous_year"),
            )
        )
    (*windows, grid), (*windows_with_it, grid_with_it) = found
    assert windows_with_it == windows
    assert [row[:2] for row in windows[0]] == [(1, 30), (2, 0)]
    assert windows[1] == [("pan", 2, Decimal("140.0"))]
    # Its amount is not lost, or the total would differ from that of the order lines.
    unknown = (date(1900, 1, 1), Decimal("35.00"), None)
    assert grid_with_it == sorted([*grid, unknown], key=repr)
    assert len(grid) == 13


def test_amounts_of_two_currencies_are_not_added_up(spark) -> None:
    """odoo/odoo#30215, woocommerce/woocommerce#22823: yen were added to euros."""
    order_rows = [
        (1, 1, SHOPPED),
        (2, 1, SHOPPED, "paid", "mobile", 1, "JPY"),
        (3, 1, SHOPPED),
        (4, 2, SHOPPED, "paid", "mobile", 1, "JPY"),
    ]
    line_rows = [(1, "pan"), (2, "pan", 1, "1000.00"), (3, "pan"), (4, "pan", 1, "500.00")]
    sold = orders(spark, order_rows), lines(spark, line_rows)
    months = JOBS["agg_sales_by_category_month"].transform(*sold, *catalog(spark))
    assert rows_of(months, "currency", "category_id", "order_count", "net_amount") == [
        ("EUR", "pans", 2, Decimal("20.00")),
        ("JPY", "pans", 2, Decimal("1500.00")),
    ]
    customers = spark.createDataFrame([(Decimal(1),), (Decimal(2),)], "id decimal(20,0)")
    segments = JOBS["agg_rfm_by_customer"].transform(*sold, customers)
    columns = ("customer_id", "currency", "frequency_count", "monetary_amount")
    assert rows_of(segments, *columns) == [
        (1, "EUR", 3, Decimal("20.00")),
        (2, "JPY", 1, Decimal("500.00")),
    ]


def test_a_session_that_is_not_short_computes_the_same(spark) -> None:
    """All other tests have a short one."""
    name = "spark.sql.shuffle.partitions"
    spark.conf.set(name, SETTINGS[name])
    try:
        test_amounts_of_two_currencies_are_not_added_up(spark)
    finally:
        spark.conf.set(name, SHORT_SETTINGS[name])


@pytest.mark.parametrize("name", [name for name in OF_THE_SHOP if JOBS[name].totals])
def test_totals_hold_for_the_oddest_sales(spark, name: str) -> None:
    """The sums that an aggregate is audited by, which DuckDB computes in another way."""
    order_rows = [
        (1, 1, SHOPPED),
        (2, 1, SHOPPED, "cancelled"),
        (3, 2, None),
        (4, 2, datetime(2049, 1, 1, tzinfo=UTC)),
        (5, 9, SHOPPED),  # a customer who was deleted
        (6, None, SHOPPED),
        (7, 1, SHOPPED, None, "web", 1, "JPY"),
        (8, 1, datetime(1970, 1, 1, tzinfo=UTC)),
        (10, 2, LOADED + timedelta(hours=23)),
    ]
    line_rows = [
        *((row[0], "pan", 2, "9.99", "0.50") for row in order_rows),
        (1, "thing", 1, "0.01"),
        (1, "thing", 1, "0.01"),
        (3, None, -1, "3.00"),
        (99, "rake", 7, "1.00"),  # of an order that is missing
        (7, "pot", 2**31 - 1, "9999999999.99"),
    ]
    products, categories = catalog(spark)
    tables = {
        "orders": orders(spark, order_rows),
        "order_lines": lines(spark, line_rows),
        "products": products,
        "categories": categories,
        "customers": spark.createDataFrame([(Decimal(1),), (Decimal(2),)], "id decimal(20,0)"),
        "stores": stores(spark),
        "inventory": spark.createDataFrame(
            [(1, "pan", 10, 5), (2, "pan", -3, 5)],
            "store_id bigint, product_id string, quantity_on_hand int, reorder_point int",
        ),
    }
    job = JOBS[name]
    result = job.transform(*(tables[table.name] for _, table in job.inputs))
    with duckdb.connect() as database:
        database.register("aggregate", result.toArrow())
        for source, table in job.inputs:
            database.register(f"{source.name}.{table.name}", tables[table.name].toArrow())
        for column, query in job.totals.items():
            [(expected,)] = database.execute(query).fetchall()
            [(found,)] = database.execute(f"SELECT sum({column}) FROM aggregate").fetchall()
            assert (column, found) == (column, expected)
            assert expected


def test_stock_cover_and_risk(spark) -> None:
    stock = {  # product: (on hand, reorder point, sold in the window)
        "out": (0, 2, 4),
        "below zero": (-3, 2, 0),
        "critical": (6, 2, 28),
        "low by cover": (13, 2, 28),
        "low by reorder point": (10, 10, 0),
        "ok": (28, 2, 28),
        "asleep": (500, 2, 0),
        "overstock": (181, 2, 28),
    }
    present = SHOPPED + timedelta(days=28)
    order_rows = [
        (1, 1, SHOPPED),
        (2, 1, present),
        (3, 1, present, "cancelled"),
        (4, 1, present, "paid", "mobile", 2),
    ]
    line_rows = [
        (order, name, 1000) for order in (1, 3, 4) for name in stock
    ]  # too old, cancelled, elsewhere
    line_rows += [(2, name, sold) for name, (*_, sold) in stock.items() if sold]
    inventory = spark.createDataFrame(
        [(1, name, *levels[:2]) for name, levels in stock.items()],
        "store_id bigint, product_id string, quantity_on_hand int, reorder_point int",
    )
    inputs = orders(spark, order_rows), lines(spark, line_rows), inventory
    result = JOBS["agg_stock_cover_by_store_product"].transform(*inputs)
    columns = ("product_id", "sold_quantity_28d", "daily_sales_avg", "cover_days", "stock_risk")
    assert rows_of(result, *columns) == sorted(
        [
            ("out", 4, Decimal("0.1429"), Decimal("0"), "out"),
            ("below zero", 0, Decimal("0"), None, "out"),
            ("critical", 28, Decimal("1"), Decimal("6"), "critical"),
            ("low by cover", 28, Decimal("1"), Decimal("13"), "low"),
            ("low by reorder point", 0, Decimal("0"), None, "low"),
            ("ok", 28, Decimal("1"), Decimal("28"), "ok"),
            ("asleep", 0, Decimal("0"), None, "ok"),
            ("overstock", 28, Decimal("1"), Decimal("181"), "overstock"),
        ],
        key=repr,
    )


@pytest.mark.parametrize("name", OF_THE_SHOP)
def test_an_empty_shop_has_empty_aggregates(spark, name: str) -> None:
    products, categories = (frame.limit(0) for frame in catalog(spark))
    inventory = "store_id bigint, product_id string, quantity_on_hand int, reorder_point int"
    tables = {
        "orders": orders(spark, []),
        "order_lines": lines(spark, []),
        "products": products,
        "categories": categories,
        "customers": spark.createDataFrame([], "id decimal(20,0)"),
        "inventory": spark.createDataFrame([], inventory),
        "stores": stores(spark),
    }
    job = JOBS[name]
    assert job.transform(*(tables[table.name] for _, table in job.inputs)).collect() == []


def test_writing_replaces_and_a_missing_input_is_named(spark, lake: str) -> None:
    job = JOBS["agg_orders_by_device_weekday_hour"]

    def put(name: str, rows: DataFrame) -> None:
        fill(LakeTable(lake, "lake_shop", name), rows.toArrow())

    put("orders", orders(spark, [(1, 1, SHOPPED)]))
    with pytest.raises(
        MissingInput, match=r"agg_orders_by_device_weekday_hour needs lake_shop\.order_lines"
    ):
        write_aggregate(spark, job, lake)
    put("order_lines", lines(spark, [(1, "a")]))
    put("stores", stores(spark))
    assert [write_aggregate(spark, job, lake) for _ in range(2)] == [1, 1]
    assert rows_of(
        read(spark, LakeTable(lake, "aggregates", job.name)), "device", "order_count"
    ) == [("mobile", 1)]
    table = LakeTable(lake, "aggregates", job.name)
    folders = table.store.get_file_info(FileSelector(table.folder))
    # The last two, for queries that still read the one before, and the folder of the state.
    assert len(folders) == 3


def test_a_field_that_no_document_has_is_null(spark, lake: str) -> None:
    """Online Retail: categories without a parent had no such column, and the job failed."""
    job = JOBS["agg_sales_by_category_month"]
    products, _ = catalog(spark)
    flat = spark.createDataFrame(
        [("pans", "string", "Pans")], "_id string, _id_type string, name string"
    )
    frames = (orders(spark, [(1, 1, SHOPPED)]), lines(spark, [(1, "pan")]), products, flat)
    for (source, table), frame in zip(job.inputs, frames, strict=True):
        fill(LakeTable(lake, source.lake, table.name), frame.toArrow())
    write_aggregate(spark, job, lake)
    made = read(spark, LakeTable(lake, "aggregates", job.name))
    assert rows_of(made, "category_name", "department_name", "order_count") == [("Pans", "Pans", 1)]
