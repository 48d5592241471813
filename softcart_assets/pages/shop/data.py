"""The data of the dashboard, read from `production.*` in one transaction, in a compact form.

This module has the queries, the grain of the sales in the page and the definitions of the figures.
`page.*` has the layout and the behaviour of the page, `charts.py` the charts.

Definitions. Revenue is the net amount of order lines, without cancelled orders. Margin is revenue
minus cost. Refunds are shown next to revenue and count on the day of the order. Products and stores
have their present name and category. The place of a sale comes from the fact: the place of delivery
or, for a purchase in a store, the place of the store. Days and hours are UTC. The page stores every
amount as a whole number of cents.
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.rows import dict_row

from softcart_assets.connections import PostgresConnection
from softcart_assets.publishing import slots

HISTORY_YEARS = 3
"""The page shows at most so many years. Otherwise it would grow for ever."""

ROW_LIMIT = 600_000
"""Maximum number of rows of sales in a page. Each takes about 12 bytes."""

PRODUCT_LIMIT = 2_000
STOCK_LIMIT = 2_000
PAIR_LIMIT = 300


class DashboardError(RuntimeError):
    """Production cannot be shown. The message says why and what to do."""


@dataclass(frozen=True)
class Overview:
    """All sales of the default period, for the pictures.

    `months`: from the first to the last. Each has `month` (its first day), `whole`, and the figures
    `revenue`, `margin` and `orders`. With the suffix `_before`, they are those of the same days a
    year before (None if there were no sales). `hours`: orders by `device`, `weekday` (1 is Monday)
    and `hour`.
    """

    currency: str
    start: date
    end: date
    months: list[dict[str, Any]]
    hours: list[dict[str, Any]]


@dataclass(frozen=True)
class Content:
    """The contents of a page (`document`, ready for JSON), and figures for its builder.

    `figures` are those of the default period. `coarsened` names the columns of sales that the page
    leaves out. It is empty while every order fits. `overview` is None if there are no sales.
    """

    document: dict[str, Any]
    figures: dict[str, Decimal | int]
    version: int | None
    coarsened: tuple[str, ...]
    overview: Overview | None


_CURRENCY = "softcart.currency"
_IS_SHOWN = f"currency IN (current_setting('{_CURRENCY}'), 'XXX')"
"""The rows in the currency of most orders, which `span` finds, and those whose order is missing."""
_LINES = f"(SELECT * FROM production.fct_order_lines WHERE {_IS_SHOWN}) AS f"

# The columns of a sale. The page stores a basket once, followed by its items.
_BASKET = {
    "day": "f.order_date - %(first)s::date",
    "channel": "s.channel",
    "store": "f.store_id",
    "device": "d.device",
    "country": "l.country_code",
    "region": "l.region",
    "basket": "f.order_id",
    "hour": "nullif(f.time_of_day_key, -1) / 60",
    "customer": "f.customer_id",
}
_ITEM = {"department": "p.department_name", "category": "p.category_id", "product": "f.product_id"}
_MEASURES = ("revenue", "margin", "units", "refund")

_LADDER: tuple[tuple[str, ...], ...] = (
    (),
    ("basket", "hour", "customer", "product"),
    ("basket", "hour", "customer", "product", "region"),
    ("basket", "hour", "customer", "product", "region", "category"),
    ("basket", "hour", "customer", "product", "region", "category", "store"),
)
"""The columns that a page leaves out, from none (it contains every order) to those that only the
largest shops need to leave out.

Only columns are left out, never rows. The rest is summed, so each figure stays exact.
"""


def _sales(coarsened: Iterable[str]) -> str:
    """The common table expression `sale`: one row per line sold, without the coarsened columns."""
    columns = ",\n".join(
        f"{'NULL' if name in coarsened else expression} AS {name}"
        for name, expression in (_BASKET | _ITEM).items()
    )
    return f"""
WITH sale AS (
  SELECT f.order_id, {columns},
         (f.net_amount * 100)::bigint AS revenue, (f.margin_amount * 100)::bigint AS margin,
         f.quantity AS units, (f.refund_amount * 100)::bigint AS refund
  FROM {_LINES}
  LEFT JOIN production.dim_device d ON d.device_key = f.device_key
  LEFT JOIN production.dim_location l ON l.location_key = f.location_key
  LEFT JOIN production.dim_store s ON s.store_id = f.store_id AND s.is_current
  LEFT JOIN production.dim_product p ON p.product_id = f.product_id AND p.is_current
  WHERE NOT f.is_cancelled AND f.order_date >= %(first)s
)"""


def _sales_query(coarsened: Iterable[str]) -> str:
    """One row per item of a basket.

    The reader may count orders in all, by department or by category. So an order is marked on its
    first item in all, in each of its departments and in each of its categories. Then these counts
    can be summed like amounts.
    """
    basket, item = ", ".join(_BASKET), ", ".join(_ITEM)
    first = (
        "(row_number() OVER "
        "(PARTITION BY order_id{} ORDER BY department, category, product) = 1)::int"
    )
    return f"""{_sales(coarsened)}
SELECT {basket}, {item}, {", ".join(f"sum({name})::bigint" for name in _MEASURES)},
       sum(first_of_order)::int, sum(first_of_department)::int, sum(first_of_category)::int
FROM (
  SELECT order_id, {basket}, {item}, {", ".join(f"sum({name}) AS {name}" for name in _MEASURES)},
         {first.format("")} AS first_of_order,
         {first.format(", department")} AS first_of_department,
         {first.format(", department, category")} AS first_of_category
  FROM sale GROUP BY order_id, {basket}, {item}
) per_order
GROUP BY {basket}, {item} ORDER BY {basket}, {item}"""


def years_before(day: date, years: int) -> date:
    """The same date so many years before. 29 February becomes 28 February where it must."""
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return day.replace(year=day.year - years, day=28)


def year_before(start: date, end: date) -> tuple[date, date]:
    """The first and last of the same days a year before."""
    return years_before(start, 1), years_before(end + timedelta(days=1), 1) - timedelta(days=1)


def periods(first: date, last: date) -> dict[str, tuple[date, date]]:
    """The first and last day of each named period, for sales from `first` to `last`."""
    return {
        "30d": (last - timedelta(days=29), last),
        "90d": (last - timedelta(days=89), last),
        "year": (last.replace(month=1, day=1), last),
        # From the day after the year before, also if that is a 29 February there.
        "12m": (years_before(last + timedelta(days=1), 1), last),
        "all": (first, last),
    }


DEFAULT_PERIOD = "12m"


class _Codes(defaultdict[Any, int]):
    """A dictionary that numbers its keys in the order of their first use."""

    def __init__(self) -> None:
        super().__init__()
        self.default_factory = self.__len__


def read(production: PostgresConnection) -> Content:
    """Read what the page and its pictures show, at one moment of production.

    It shows the orders in the currency that most have. Raises `DashboardError` if a published table
    is missing.
    """
    with production.connect() as session:
        # One transaction. In the next one, another version may be live.
        session.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        session.read_only = True
        # With this much memory, the orders of a large shop are not sorted on disk.
        session.execute("SET LOCAL work_mem = '64MB'")
        try:
            return _Reader(session).content()
        except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
            raise DashboardError(
                f"Production lacks what the dashboard reads: {error.diag.message_primary}. "
                "Publish all tables together: materialise the whole group `production`."
            ) from None


class _Reader:
    """Reads one `Content` over one open transaction."""

    def __init__(self, session: psycopg.Connection) -> None:
        self.session = session
        self.products = _Codes()

    def rows(self, query: str, **parameters: object) -> list[dict[str, Any]]:
        return self.session.cursor(row_factory=dict_row).execute(query, parameters).fetchall()

    def columns(self, query: str, **parameters: object) -> dict[str, list[Any]]:
        """A small result, by column."""
        cursor = self.session.execute(query, parameters)
        values = list(zip(*cursor.fetchall(), strict=True))
        return {
            column.name: list(values[n]) if values else []
            for n, column in enumerate(cursor.description or ())
        }

    def version(self) -> int | None:
        """The published version, None before the first."""
        (published,) = self.rows(
            "SELECT to_regclass('production_meta.current') IS NOT NULL AS once"
        )
        current = slots.read_current(self.session) if published["once"] else None
        return current.version if current else None

    def span(self) -> dict[str, Any]:
        """First and last day of sales (None without sales), time of the last order, currency.

        `others` has the order lines in each other currency. From here on, everything that is read
        leaves them out: amounts in several currencies cannot be added up.
        """
        # Lines whose order has not arrived yet have the currency XXX.
        currencies = self.rows(
            """
            SELECT currency, count(*) AS lines FROM production.fct_order_lines
            WHERE currency <> 'XXX' GROUP BY currency ORDER BY lines DESC, currency"""
        )
        currency = currencies[0]["currency"] if currencies else None
        self.session.execute("SELECT set_config(%s, %s, true)", (_CURRENCY, currency or "XXX"))
        (span,) = self.rows(
            f"""
            SELECT min(order_date) FILTER (WHERE NOT is_cancelled) AS first,
                   max(order_date) FILTER (WHERE NOT is_cancelled) AS last,
                   max(ordered_at) AS as_of
            FROM {_LINES}"""
        )
        return span | {"currency": currency, "others": currencies[1:]}

    def content(self) -> Content:
        """Everything the page embeds."""
        version = self.version()
        if version is None:
            return Content({"version": None, "sales": None}, {}, None, (), None)
        span = self.span()
        document: dict[str, Any] = {"version": version, "asOf": span["as_of"]}
        if span["last"] is None:
            return Content(document | {"sales": None}, {}, version, (), None)
        last = span["last"]
        first = max(span["first"], years_before(last, HISTORY_YEARS) + timedelta(days=1))
        coarsened = self.choose_grain(first, last)
        named = periods(first, last)
        document |= {
            "currency": span["currency"],
            "otherCurrencies": span["others"],
            "first": first,
            "last": last,
            "earlier": span["first"] < first,
            "periods": {name: [start, end] for name, (start, end) in named.items()},
            "period": DEFAULT_PERIOD,
            "coarsened": coarsened,
            "sales": self.sales(first, coarsened),
            "stock": self.stock(),
            "pairs": self.pairs(),
            "segments": self.columns(
                f"""
                SELECT segment, count(*) AS customers,
                       (sum(monetary_amount) * 100)::bigint AS revenue,
                       round(avg(recency_days), 1)::float AS recency,
                       round(avg(frequency_count), 2)::float AS frequency
                FROM production.agg_rfm_by_customer WHERE {_IS_SHOWN}
                GROUP BY segment ORDER BY revenue DESC"""
            ),
        }
        if coarsened:
            # Without every order, the page cannot compute these figures itself.
            document["productMonths"] = self.product_months(first)
            document["hours"] = self.columns(
                f"""
                SELECT device, weekday, hour, order_count AS orders
                FROM production.agg_orders_by_device_weekday_hour WHERE {_IS_SHOWN}"""
            )
            document["customers"] = self.customers(
                [days for period in named.values() for days in (period, year_before(*period))]
            )
        document |= self.names()
        start, end = named[DEFAULT_PERIOD]
        return Content(
            document,
            self.figures(start, end),
            version,
            coarsened,
            self.overview(span["currency"], start, end),
        )

    def customers(self, ranges: list[tuple[date, date]]) -> dict[str, int]:
        """How many customers ordered in each range of days, by `<first day>/<last day>`."""
        marks = ", ".join(
            f"bool_or(order_date BETWEEN '{start}' AND '{end}') AS in_{n}"
            for n, (start, end) in enumerate(ranges)
        )
        counts = ", ".join(
            f'count(*) FILTER (WHERE in_{n}) AS "{start}/{end}"'
            for n, (start, end) in enumerate(ranges)
        )
        (row,) = self.rows(
            f"""
            SELECT {counts}
            FROM (SELECT {marks} FROM {_LINES}
                  WHERE NOT is_cancelled AND customer_id IS NOT NULL
                  GROUP BY customer_id) customer"""
        )
        return row

    def overview(self, currency: str, start: date, end: date) -> Overview:
        """What the pictures show of these days."""
        before = year_before(start, end)
        # A sale of the year before counts in the same month of this year, in a column of its own.
        months = self.rows(
            f"""
            WITH sale AS (
              SELECT date_trunc('month', CASE
                       WHEN order_date >= %(start)s THEN order_date
                       ELSE order_date + interval '1 year'
                     END)::date AS month,
                     order_date >= %(start)s AS is_now, order_id, net_amount, margin_amount
              FROM {_LINES}
              WHERE NOT is_cancelled
                AND (order_date BETWEEN %(start)s AND %(end)s
                     OR order_date BETWEEN %(from)s AND %(to)s)
            )
            SELECT month,
                   month >= %(start)s AND month + interval '1 month' <= %(end)s::date + 1 AS whole,
                   coalesce(sum(net_amount) FILTER (WHERE is_now), 0) AS revenue,
                   coalesce(sum(margin_amount) FILTER (WHERE is_now), 0) AS margin,
                   count(DISTINCT order_id) FILTER (WHERE is_now) AS orders,
                   sum(net_amount) FILTER (WHERE NOT is_now) AS revenue_before,
                   sum(margin_amount) FILTER (WHERE NOT is_now) AS margin_before,
                   nullif(count(DISTINCT order_id) FILTER (WHERE NOT is_now), 0) AS orders_before
            FROM sale GROUP BY month ORDER BY month""",
            start=start,
            end=end,
            **dict(zip(("from", "to"), before, strict=True)),
        )
        hours = self.rows(
            f"""
            SELECT coalesce(d.device, 'unknown') AS device,
                   extract(isodow FROM f.order_date)::int AS weekday,
                   f.time_of_day_key / 60 AS hour, count(DISTINCT f.order_id) AS orders
            FROM {_LINES}
            LEFT JOIN production.dim_device d ON d.device_key = f.device_key
            WHERE NOT f.is_cancelled AND f.order_date BETWEEN %(start)s AND %(end)s
              AND f.time_of_day_key >= 0
            GROUP BY 1, 2, 3""",
            start=start,
            end=end,
        )
        return Overview(currency, start, end, months, hours)

    def figures(self, start: date, end: date) -> dict[str, Decimal | int]:
        """The figures of all sales of these days, from the fact itself."""
        (row,) = self.rows(
            f"""
            SELECT coalesce(sum(net_amount), 0) AS revenue,
                   coalesce(sum(margin_amount), 0) AS margin,
                   count(DISTINCT order_id) AS orders,
                   coalesce(sum(quantity), 0)::bigint AS units,
                   coalesce(sum(refund_amount), 0) AS refund,
                   count(DISTINCT customer_id) AS customers
            FROM {_LINES}
            WHERE NOT is_cancelled AND order_date BETWEEN %(start)s AND %(end)s""",
            start=start,
            end=end,
        )
        return row

    def choose_grain(self, first: date, last: date) -> tuple[str, ...]:
        """The first entry of `_LADDER` whose rows fit into `ROW_LIMIT`.

        The number of rows is estimated from above. Each combination of the basket's columns has at
        most as many rows as lines, and at most days × categories.
        """
        basket = ("channel", "store", "device", "country", "region")
        combinations = self.rows(
            f"""{_sales(())}
            SELECT {", ".join(basket)}, count(*) AS lines FROM sale GROUP BY {", ".join(basket)}""",
            first=first,
        )
        groups = self.rows(
            """
            SELECT DISTINCT department_name AS department, category_id AS category
            FROM production.dim_product WHERE is_current"""
        )

        def most_rows(coarsened: tuple[str, ...]) -> int:
            if not coarsened:
                return sum(row["lines"] for row in combinations)
            lines: Counter[tuple[Any, ...]] = Counter()
            for row in combinations:
                lines[tuple(row[name] for name in basket if name not in coarsened)] += row["lines"]
            kinds = {
                tuple(value for name, value in group.items() if name not in coarsened)
                for group in groups
            }
            cells = ((last - first).days + 1) * (len(kinds) + 1)
            return sum(min(count, cells) for count in lines.values())

        return next((rung for rung in _LADDER if most_rows(rung) <= ROW_LIMIT), _LADDER[-1])

    def sales(self, first: date, coarsened: tuple[str, ...]) -> dict[str, Any]:
        """Sales by column: baskets, and their items in the order of the baskets.

        The column `items` of the baskets has the number of items of each.
        """
        places, sellers, devices, categories, customers = (_Codes() for _ in range(5))
        # Arrays of numbers, because lists of Python objects would need several times the memory.
        baskets = {
            name: array("q")
            for name in ("day", "seller", "device", "place", "hour", "customer", "items")
        }
        orders = ("orders", "ordersOfDepartment", "ordersOfCategory")
        items = {name: array("q") for name in ("category", "product", *_MEASURES, *orders)}
        current = None
        # A named cursor fetches the rows in batches. All rows at once could fill the memory.
        with self.session.cursor("sales", binary=True) as cursor:
            cursor.itersize = 20_000
            cursor.execute(_sales_query(coarsened), {"first": first})
            for row in cursor:
                basket = row[: len(_BASKET)]
                if basket != current:
                    current = basket
                    day, channel, store, device, country, region, _, hour, customer = basket
                    for column, value in zip(
                        baskets.values(),
                        (
                            day,
                            sellers[channel, store],
                            devices[(device,)],
                            places[country, region],
                            # An array has no null.
                            -1 if hour is None else hour,
                            -1 if customer is None else customers[customer],
                            0,
                        ),
                        strict=True,
                    ):
                        column.append(value)
                baskets["items"][-1] += 1
                department, category, product, *numbers = row[len(_BASKET) :]
                for column, value in zip(
                    items.values(),
                    (categories[department, category], self.products[product], *numbers),
                    strict=True,
                ):
                    column.append(value)
        (totals,) = self.rows(
            f"""
            SELECT sum(net_amount) AS revenue, sum(margin_amount) AS margin,
                   sum(quantity) AS units, sum(refund_amount) AS refund
            FROM {_LINES}
            WHERE NOT is_cancelled AND order_date >= %(first)s""",
            first=first,
        )
        # The joins with dimensions must neither lose nor double a sale.
        for name, total in totals.items():
            embedded = sum(items[name]) if name == "units" else Decimal(sum(items[name])) / 100
            if embedded != total:
                raise DashboardError(
                    f"The {name} read for the dashboard is {embedded}, that of "
                    f"production.fct_order_lines {total}. Either a product, store, location or "
                    "device has two current rows in its dimension, or an amount has fractions of a "
                    "cent: correct the warehouse and publish again."
                )
        if coarsened:
            # These columns are empty then.
            del baskets["hour"], baskets["customer"], items["product"]
            self.products.clear()
        return {
            "baskets": baskets,
            "items": items,
            "customers": len(customers),
            "paths": {
                name: list(codes)
                for name, codes in (
                    ("place", places),
                    ("seller", sellers),
                    ("device", devices),
                    ("category", categories),
                )
            },
        }

    def product_months(self, first: date) -> dict[str, list[Any]]:
        """The best-selling products by month, for pages that leave out the product of a sale."""
        columns = self.columns(
            f"""{_sales(())}, best AS (
              SELECT product FROM sale GROUP BY product
              ORDER BY sum(revenue) DESC, product LIMIT {PRODUCT_LIMIT}
            )
            SELECT date_trunc('month', %(first)s::date + day)::date AS month, product,
                   {", ".join(f"sum({name})::bigint AS {name}" for name in _MEASURES)}
            FROM sale JOIN best USING (product) GROUP BY 1, 2 ORDER BY 1, 2""",
            first=first,
        )
        return columns | {"product": [self.products[product] for product in columns["product"]]}

    def stock(self) -> dict[str, Any]:
        """Products that are out of stock or will be soon.

        The rows are the `STOCK_LIMIT` most urgent ones. `counts` has all of them by store and
        category.
        """
        columns = self.columns(
            f"""
            SELECT store_id AS store, product_id AS product, stock_risk AS risk,
                   quantity_on_hand AS quantity, reorder_point AS reorder,
                   sold_quantity_28d AS sold, round(cover_days::numeric, 1)::float AS cover
            FROM production.agg_stock_cover_by_store_product
            WHERE stock_risk IN ('out', 'critical', 'low')
            ORDER BY array_position(ARRAY['out', 'critical', 'low'], stock_risk),
                     sold_quantity_28d DESC, 1, 2
            LIMIT {STOCK_LIMIT}"""
        )
        counts = self.columns(
            """
            SELECT c.store_id AS store, p.department_name AS department,
                   p.category_id AS category, c.stock_risk AS risk, count(*) AS products
            FROM production.agg_stock_cover_by_store_product c
            LEFT JOIN production.dim_product p ON p.product_id = c.product_id AND p.is_current
            WHERE c.stock_risk IN ('out', 'critical', 'low')
            GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"""
        )
        return columns | {
            "product": [self.products[product] for product in columns["product"]],
            "counts": counts,
        }

    def pairs(self) -> dict[str, list[Any]]:
        """The products most often bought together."""
        columns = self.columns(
            f"""
            SELECT product_id_a AS a, product_id_b AS b, basket_count AS baskets,
                   lift::float AS lift, confidence_a_to_b_pct::float AS ab,
                   confidence_b_to_a_pct::float AS ba
            FROM production.agg_baskets_by_product_pair
            ORDER BY basket_count DESC, 1, 2 LIMIT {PAIR_LIMIT}"""
        )
        return columns | {
            side: [self.products[product] for product in columns[side]] for side in ("a", "b")
        }

    def names(self) -> dict[str, Any]:
        """The names of all stores and categories, and of the products in the page so far."""
        known = {
            row["product_id"]: row
            for row in self.rows(
                """
                SELECT product_id, product_name, department_name, category_id
                FROM production.dim_product
                WHERE is_current AND product_id = ANY(%(ids)s)""",
                ids=list(self.products),
            )
        }
        return {
            "products": {
                "id": list(self.products),
                **{
                    key: [known.get(product, {}).get(column) for product in self.products]
                    for key, column in (
                        ("name", "product_name"),
                        ("department", "department_name"),
                        ("category", "category_id"),
                    )
                },
            },
            "categories": {
                row["category_id"]: row["category_name"]
                for row in self.rows(
                    """
                    SELECT category_id, max(category_name) AS category_name
                    FROM production.dim_product
                    WHERE is_current AND category_id IS NOT NULL GROUP BY 1"""
                )
            },
            "stores": {
                row["store_id"]: {"name": row["store_name"], "channel": row["channel"]}
                for row in self.rows(
                    """
                    SELECT store_id, store_name, channel FROM production.dim_store
                    WHERE is_current AND store_id IS NOT NULL"""
                )
            },
        }
