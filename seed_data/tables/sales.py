"""Orders with their lines, payments and returns.

All four tables are projections of one intermediate table, `sales`: one row per order with its lines in an array, so
that an order and its lines agree without a join or a shuffle. Money is counted in cents (long integers), time in
epoch microseconds; both become decimals and timestamps in the projections.

Payments of an order: perhaps a `failed` attempt, perhaps a voucher over a part, then the main payment. Those that are
`authorized` or `captured` add up to the order's total, unless nothing was paid yet (`placed`). A `refunded` row is
money paid back: the total of a cancelled order that had been paid, or the refund of a return.
"""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from seed_data import dirty
from seed_data.catalog import COMPANIONS, Catalog
from seed_data.dice import Dice, div, numbers, strings, thresholds
from seed_data.organisation import Organisation
from seed_data.parameters import DAY, MICROSECONDS, Parameters
from seed_data.pools import NOTES
from seed_data.rhythm import HOUR, hours
from seed_data.tables import money, timestamp
from seed_data.tables.customers import Customers

LINE_COUNTS = {"1": 30, "2": 27, "3": 18, "4": 12, "5": 7, "6": 3, "7": 2, "8": 1}

ZIPF_EXPONENT = 0.92
ZIPF_SHIFT = 6.0
"""A product of popularity rank r sells in proportion to (r + 6) ** -0.92."""

COMPANION_SHARE = 0.4
"""Further lines of a basket that name a companion of its first product."""

ONLINE_CANCELLATIONS = 0.043
PHYSICAL_CANCELLATIONS = 0.008
"""Together about 3 % of all orders."""

FAILED_PAYMENTS = 0.04
VOUCHER_SHARE = 0.03

PERIOD = 90 * DAY
"""Prices change once in a period; the catalog's price holds in the last one."""

CANDIDATES = 6
"""The more candidates an order has, the more of the orders go to the most active customers."""

MINUTE = 60 * MICROSECONDS

FREE_SHIPPING_FROM, SHIPPING, EXPRESS = 5000, 495, 995
"""Cents."""

_RETURN_REASONS = {
    "changed_mind": 45,
    "not_as_described": 20,
    "damaged": 15,
    "wrong_item": 12,
    "late": 8,
}


def line_key(order: Column, line: Column) -> Column:
    """One number for an order line: the key of its draws, and the root of the ids that hang on it."""
    return order * 16 + line


class Sales:
    """The sales of one seed."""

    def __init__(
        self,
        parameters: Parameters,
        dice: Dice,
        customers: Customers,
        catalog: Catalog,
        organisation: Organisation,
    ):
        self._parameters = parameters
        self._dice = dice
        self._customers = customers
        self._organisation = organisation
        self._product_count = len(catalog.ids)
        self._product_ids = strings(catalog.ids)
        self._prices = numbers(catalog.prices)
        self._costs = numbers(catalog.costs)
        self._tax_rates = numbers(catalog.tax_rates)
        self._return_shares = numbers([round(share * 10_000) for share in catalog.return_shares])
        self._variant_counts = numbers(catalog.variant_counts)
        self._introduced = numbers(catalog.introduced)
        self._withdrawn = numbers(catalog.withdrawn)
        self._ranking = numbers(catalog.ranking, "int")
        self._companions = numbers(catalog.companions, "int")
        self._substitutes = numbers(catalog.substitutes, "int")

    def sales(self, spark: SparkSession, partitions: int) -> DataFrame:
        """The intermediate table: one row per order, `lines` an array of structs, products by number."""
        steps = (
            self._moments,
            self._buyers,
            self._baskets,
            self._amounts,
            self._progress,
            self._returned,
        )
        frame = spark.range(
            0, (self._parameters.end - self._parameters.start) // HOUR + 1, 1, partitions
        )
        return reduce(lambda frame, step: step(frame), steps, frame.withColumnRenamed("id", "hour"))

    def _moments(self, frame: DataFrame) -> DataFrame:
        """When orders are placed: `id`, `ordered`, and `in_store`, whether over the counter."""
        spread = hours(self._parameters)
        first_ids, shares = numbers(spread.first_ids), numbers(spread.physical_shares, "double")
        hour, end = F.col("hour"), F.lit(self._parameters.end)
        first, following = first_ids[hour.cast("int")], first_ids[hour.cast("int") + 1]
        begin = hour * HOUR + self._parameters.start
        position = (
            F.col("id") - F.col("first") + self._dice.uniform("order.moment", F.col("id"))
        ) / F.col("count")
        ordered = F.col("begin") + (position * F.least(F.lit(HOUR), end - F.col("begin"))).cast(
            "bigint"
        )
        # However few orders there are, the last is minutes old.
        last = end - (self._dice.uniform("order.last", F.col("id")) * 4 * MINUTE).cast("bigint")
        return (
            frame.select(
                hour, begin.alias("begin"), first.alias("first"), (following - first).alias("count")
            )
            .where(F.col("count") > 0)
            .select(
                "*",
                F.explode(F.sequence(F.col("first"), F.col("first") + F.col("count") - 1)).alias(
                    "id"
                ),
            )
            .select(
                "id",
                F.when(F.col("id") == self._parameters.orders, last)
                .otherwise(ordered)
                .alias("ordered"),
                (
                    self._dice.uniform("order.channel", F.col("id"))
                    < shares[(hour % (7 * 24)).cast("int")]
                ).alias("in_store"),
            )
        )

    def _buyers(self, frame: DataFrame) -> DataFrame:
        """Who buys where: store, employee, customer, address, device, note."""
        dice, people, company, o = self._dice, self._customers, self._organisation, F.col("id")
        online, all_stores = company.online_stores, self._parameters.stores
        physical_tickets = [
            store
            for store in range(online, all_stores)
            for _ in range(max(1, round(60 / (store - online + 1) ** 0.7)))
        ]
        online_tickets = [
            store for store in range(online) for _ in range(round(60 / (store + 1) ** 1.5))
        ]
        wanted = F.when(
            F.col("in_store"),
            dice.pick(numbers(physical_tickets, "int"), len(physical_tickets), "order.store", o),
        ).otherwise(
            dice.pick(numbers(online_tickets, "int"), len(online_tickets), "order.store", o)
        )
        is_open = (numbers(company.open_from)[wanted] <= F.col("ordered")) & (
            numbers(company.open_until)[wanted] > F.col("ordered")
        )
        frame = (
            frame.select("id", "ordered", wanted.alias("wanted"), F.col("in_store"))
            .select(
                "id", "ordered", F.when(is_open, F.col("wanted")).otherwise(F.lit(0)).alias("store")
            )
            .select(
                "*",
                (F.col("store") < online).alias("online"),
                people.count_at(F.col("ordered")).alias("known"),
            )
        )

        # Most orders go to the most active of a few candidates who still buy here; some to anybody, some to a newcomer.
        def scored(number: Column) -> Column:
            customer = dice.integer(1, F.col("known"), "order.candidate", o, number)
            patience = (
                -F.log(1 - dice.uniform("customer.patience", customer)) * (420 * DAY) + 20 * DAY
            )
            lapsed = F.col("ordered") - people.registered(customer) > patience
            loyalty = people.activity(customer) - lapsed.cast("double")
            return F.struct(loyalty.alias("loyalty"), customer.alias("customer"))

        draw = dice.uniform("order.buyer", o)
        chosen = F.array_max(F.transform(F.sequence(F.lit(1), F.lit(CANDIDATES)), scored))[
            "customer"
        ]
        anybody = dice.integer(1, F.col("known"), "order.anybody", o)
        newcomer = F.col("known") - dice.integer(
            0, F.greatest(div(F.col("known"), 40), F.lit(1)), "order.newcomer", o
        )
        frame = frame.select(
            "*",
            F.when(draw < 0.12, anybody)
            .when(draw < 0.2, newcomer)
            .otherwise(chosen)
            .alias("buyer"),
        )

        kind = dice.uniform("order.customer", o)
        employees, counts = numbers(company.first_employee), numbers(company.employee_count)
        employee = employees[F.col("store")] + dice.integer(
            0, counts[F.col("store")], "order.employee", o
        )
        index = (F.col("employee") - 1).cast("int")
        at_work = (numbers(company.hired)[index] <= F.col("ordered")) & (
            numbers(company.left)[index] > F.col("ordered")
        )
        address = F.when(dice.chance(0.85, "order.address", o), F.lit(0)).otherwise(
            dice.integer(0, people.address_count(F.col("buyer")), "order.address_number", o)
        )
        share = (F.col("ordered") - self._parameters.start) / F.lit(
            float(self._parameters.end - self._parameters.start)
        )
        device = dice.uniform("order.device", o)
        mobile, tablet = 0.40 + 0.18 * share, 0.14 - 0.05 * share
        return frame.select(
            "*",
            F.when(kind < dirty.ORDER_GUEST, None)
            .when(
                kind < dirty.ORDER_GUEST + dirty.ORDER_UNKNOWN_CUSTOMER,
                dice.integer(dirty.UNKNOWN_CUSTOMER_BASE, 100_000, "order.unknown_customer", o),
            )
            .otherwise(F.col("buyer"))
            .alias("customer_id"),
            F.when(~F.col("online"), employee).alias("employee"),
            people.address_id(F.col("buyer"), address).alias("address_id"),
            F.when(
                F.col("online"),
                F.when(device < mobile, "mobile")
                .when(device < mobile + tablet, "tablet")
                .otherwise("laptop"),
            ).alias("device"),
            F.when(
                dice.chance(0.04, "order.noted", o),
                dice.pick(strings(NOTES), len(NOTES), "order.note", o),
            ).alias("note"),
        ).withColumns(
            {
                "employee_id": F.when(F.col("employee").isNull(), None)
                .when(at_work, F.col("employee"))
                .otherwise(employees[F.col("store")]),
                "shipping_address_id": F.when(
                    F.col("online") & (F.col("customer_id") == F.col("buyer")), F.col("address_id")
                ),
            }
        )

    def _popular(self, purpose: str, *key: Column) -> Column:
        """A product number, drawn by popularity (Zipf and Mandelbrot; inverse distribution in closed form)."""
        exponent = 1 - ZIPF_EXPONENT
        low, high = (1 + ZIPF_SHIFT) ** exponent, (self._product_count + 1 + ZIPF_SHIFT) ** exponent
        rank = F.pow(
            self._dice.uniform(purpose, *key) * (high - low) + low, F.lit(1 / exponent)
        ) - (1 + ZIPF_SHIFT)
        return self._ranking[F.least(F.floor(rank), F.lit(self._product_count - 1)).cast("int")]

    def _baskets(self, frame: DataFrame) -> DataFrame:
        """What is in the basket: `products`, an array of distinct product numbers that were on sale then."""
        dice, o = self._dice, F.col("id")

        def product(position: Column) -> Column:
            companion = self._companions[
                F.col("first") * COMPANIONS
                + F.floor(dice.uniform("line.which", o, position) ** 2 * COMPANIONS).cast("int")
            ]
            return (
                F.when(position == 0, F.col("first"))
                .when(dice.chance(COMPANION_SHARE, "line.companion", o, position), companion)
                .otherwise(self._popular("line.product", o, position))
            )

        def on_sale(number: Column) -> Column:
            ordered = F.col("ordered")
            there = (self._introduced[number] <= ordered) & (self._withdrawn[number] > ordered)
            return F.when(there, number).otherwise(self._substitutes[number])

        count = dice.weighted(LINE_COUNTS, "order.lines", o).cast("int")
        return (
            frame.select(
                "*", self._popular("order.first", o).alias("first"), count.alias("wanted_lines")
            )
            .select(
                "*",
                F.transform(F.sequence(F.lit(0), F.col("wanted_lines") - 1), product).alias(
                    "wanted_products"
                ),
            )
            .select(
                "*", F.array_distinct(F.transform("wanted_products", on_sale)).alias("products")
            )
            .drop("first", "wanted_lines", "wanted_products")
        )

    def _amounts(self, frame: DataFrame) -> DataFrame:
        """What the lines cost: `lines`, `shipping`, `total`."""
        dice, ordered = self._dice, F.col("ordered")
        period = div(F.lit(self._parameters.end) - ordered, PERIOD)
        friday = F.dayofweek(timestamp(ordered)) == 6
        black_friday = (
            friday
            & (F.month(timestamp(ordered)) == 11)
            & F.dayofmonth(timestamp(ordered)).between(23, 29)
        )
        frame = frame.withColumns(
            {"period": period, "discounted": F.when(black_friday, 0.6).otherwise(0.18)}
        )

        def then(base: Column, product: Column, purpose: str) -> Column:
            drift = (
                1
                - F.col("period") * 0.012
                + (dice.uniform(purpose, product, F.col("period")) - 0.5) * 0.08
            )
            return F.when(F.col("period") == 0, base).otherwise(
                F.greatest(F.floor(base * drift + 0.5), F.lit(20))
            )

        def priced(product: Column, position: Column) -> Column:
            key = line_key(F.col("id"), position + 1)
            quantity = thresholds(
                dice.uniform("line.quantity", key), {"1": 80, "2": 14, "3": 4, "6": 2}
            )
            rate = thresholds(
                dice.uniform("line.discount", key), {"5": 30, "10": 40, "20": 25, "30": 5}
            )
            variant = dice.integer(1, self._variant_counts[product], "line.variant", key).cast(
                "string"
            )
            return F.struct(
                (position + 1).alias("number"),
                key.alias("key"),
                product.alias("product"),
                dice.chance(dirty.LINE_UNKNOWN_PRODUCT, "line.unknown", key).alias("unknown"),
                F.when(dice.chance(0.9, "line.sku", key), variant).alias("variant"),
                quantity.cast("bigint").alias("quantity"),
                then(self._prices[product], product, "price").alias("price"),
                then(self._costs[product], product, "cost").alias("cost"),
                F.when(
                    dice.uniform("line.discounted", key) < F.col("discounted"), rate.cast("bigint")
                )
                .otherwise(F.lit(0))
                .alias("discount_rate"),
                self._tax_rates[product].alias("tax_rate"),
            )

        def discounted(line: Column) -> Column:
            discount = div(line["quantity"] * line["price"] * line["discount_rate"] + 50, 100)
            return F.struct(*_fields(line, _PRICED), discount.alias("discount"))

        def taxed(line: Column) -> Column:
            net = line["quantity"] * line["price"] - line["discount"]
            return F.struct(
                *_fields(line, [*_PRICED, "discount"]),
                div(net * line["tax_rate"] + 5000, 10_000).alias("tax"),
            )

        goods = F.aggregate(
            "lines", F.lit(0).cast("bigint"), lambda reached, line: reached + _gross(line)
        )
        shipping = (
            F.when(~F.col("online"), 0)
            .when(dice.chance(0.08, "order.express", F.col("id")), EXPRESS)
            .when(F.col("goods") < FREE_SHIPPING_FROM, SHIPPING)
            .otherwise(0)
        )
        lines = F.transform(F.transform(F.transform("products", priced), discounted), taxed)
        return (
            frame.select("*", lines.alias("lines"))
            .select("*", goods.alias("goods"))
            .select("*", shipping.cast("bigint").alias("shipping"))
            .select("*", (F.col("goods") + F.col("shipping")).alias("total"))
            .drop("products", "goods", "period", "discounted")
        )

    def _progress(self, frame: DataFrame) -> DataFrame:
        """How far the order has come: `method`, `status`, and when it was paid, shipped, delivered, cancelled."""
        dice, o, end = self._dice, F.col("id"), F.lit(self._parameters.end)

        def later(moment: Column, low: int, high: int, purpose: str) -> Column:
            return moment + low + (dice.uniform(purpose, o) * (high - low)).cast("bigint")

        method = F.when(
            F.col("online"),
            dice.weighted(
                {"card": 52, "paypal": 36, "bank_transfer": 10, "voucher": 2}, "order.method", o
            ),
        ).otherwise(dice.weighted({"card": 66, "cash": 31, "voucher": 3}, "order.method", o))
        slow = F.col("method") == "bank_transfer"
        ordered = F.col("ordered")
        paid = (
            F.when(~F.col("online"), ordered)
            .when(slow, later(ordered, DAY, 3 * DAY, "order.paid"))
            .otherwise(later(ordered, MICROSECONDS, 8 * MINUTE, "order.paid"))
        )
        cancels = dice.uniform("order.cancelled", o) < F.when(
            F.col("online"), ONLINE_CANCELLATIONS
        ).otherwise(PHYSICAL_CANCELLATIONS)
        cancelled = F.when(
            F.col("online"), later(ordered, 10 * MINUTE, 3 * HOUR, "order.cancelled_at")
        ).otherwise(later(ordered, MINUTE, 10 * MINUTE, "order.cancelled_at"))
        frame = (
            frame.select("*", method.alias("method"))
            .select(
                "*",
                paid.alias("paid_at"),
                F.when(cancels & (cancelled <= end), cancelled).alias("cancelled_at"),
            )
            .select(
                "*",
                F.when(~F.col("online"), F.col("paid_at"))
                .otherwise(later(F.col("paid_at"), 4 * HOUR, 2 * DAY, "order.shipped"))
                .alias("ships"),
            )
            .select(
                "*",
                F.when(~F.col("online"), F.col("ships"))
                .otherwise(later(F.col("ships"), DAY, 5 * DAY, "order.delivered"))
                .alias("arrives"),
            )
        )
        active = F.col("cancelled_at").isNull()
        return (
            frame.select(
                "*",
                F.when(~active, "cancelled")
                .when(F.col("arrives") <= end, "delivered")
                .when(F.col("ships") <= end, "shipped")
                .when(F.col("paid_at") <= end, "paid")
                .otherwise("placed")
                .alias("status"),
                F.when(active & (F.col("ships") <= end), F.col("ships")).alias("shipped_at"),
                F.when(active & (F.col("arrives") <= end), F.col("arrives")).alias("delivered_at"),
                F.when(
                    F.col("online"),
                    F.to_date(timestamp(later(ordered, 3 * DAY, 7 * DAY, "order.promised"))),
                ).alias("promised_on"),
            )
            .withColumn(
                "paid_at",
                F.when(
                    F.col("paid_at") <= F.least(end, F.coalesce("cancelled_at", end)),
                    F.col("paid_at"),
                ),
            )
            .drop("ships", "arrives")
        )

    def _returned(self, frame: DataFrame) -> DataFrame:
        """What came back: each line gets `returned` (pieces), `refund`, `reason`, `returned_at`; null if it stayed."""
        dice = self._dice

        def judged(line: Column) -> Column:
            key = line["key"]
            returned_at = (
                F.col("delivered_at")
                + DAY
                + (dice.uniform("return.at", key) * 27 * DAY).cast("bigint")
            )
            comes = (
                dice.uniform("return", key) < self._return_shares[line["product"]] / 10_000
            ) & ~line["unknown"]
            return F.struct(
                *_fields(line, [*_PRICED, "discount", "tax"]),
                F.when(comes & (returned_at <= self._parameters.end), returned_at).alias(
                    "returned_at"
                ),
            )

        def refunded(line: Column) -> Column:
            came = line["returned_at"].isNotNull()
            pieces = F.when(
                dice.chance(0.8, "return.whole", line["key"]), line["quantity"]
            ).otherwise(F.lit(1).cast("bigint"))
            refund = div(_gross(line) * pieces * 2 + line["quantity"], line["quantity"] * 2)
            return F.struct(
                *_fields(line, [*_PRICED, "discount", "tax", "returned_at"]),
                F.when(came, pieces).alias("returned"),
                F.when(came, refund).alias("refund"),
                F.when(came, dice.weighted(_RETURN_REASONS, "return.reason", line["key"])).alias(
                    "reason"
                ),
            )

        return frame.withColumn("lines", F.transform(F.transform("lines", judged), refunded))

    def orders(self, sales: DataFrame) -> DataFrame:
        """The table `orders`."""
        return sales.select(
            "id",
            "customer_id",
            (F.col("store") + 1).alias("store_id"),
            "employee_id",
            "shipping_address_id",
            "device",
            "status",
            F.lit("EUR").alias("currency"),
            timestamp(F.col("ordered")).alias("ordered_at"),
            "promised_on",
            money(F.col("shipping")).alias("shipping_amount"),
            money(F.col("total"), 14).alias("total_amount"),
            "note",
            timestamp(
                F.coalesce("cancelled_at", "delivered_at", "shipped_at", "paid_at", "ordered")
            ).alias("updated_at"),
        )

    def order_lines(self, sales: DataFrame) -> DataFrame:
        """The table `order_lines`."""
        line = F.col("line")
        known = self._product_ids[line["product"]]
        unknown = F.concat(
            F.lit("P9990"), F.lpad((line["key"] % dirty.UNKNOWN_PRODUCTS).cast("string"), 2, "0")
        )
        return sales.select("id", "ordered", F.explode("lines").alias("line")).select(
            F.col("id").alias("order_id"),
            line["number"].alias("line_number"),
            F.when(line["unknown"], unknown).otherwise(known).alias("product_id"),
            F.when(~line["unknown"], F.concat(known, F.lit("-"), line["variant"])).alias(
                "variant_sku"
            ),
            line["quantity"].alias("quantity"),
            money(line["price"]).alias("unit_price"),
            money(line["cost"]).alias("unit_cost"),
            money(line["discount"]).alias("discount_amount"),
            (line["tax_rate"].cast("decimal(5,0)") * F.lit("0.0001").cast("decimal(5,4)"))
            .cast("decimal(5,4)")
            .alias("tax_rate"),
            money(line["tax"]).alias("tax_amount"),
            timestamp(F.col("ordered")).alias("created_at"),
            timestamp(F.col("ordered")).alias("updated_at"),
        )

    def returns(self, sales: DataFrame) -> DataFrame:
        """The table `returns`."""
        line = F.col("line")
        returned_at = timestamp(line["returned_at"])
        return returned_lines(sales).select(
            line["key"].alias("id"),
            F.col("id").alias("order_id"),
            line["number"].alias("line_number"),
            line["returned"].alias("quantity"),
            line["reason"].alias("reason"),
            money(line["refund"]).alias("refund_amount"),
            returned_at.alias("returned_at"),
            returned_at.alias("updated_at"),
        )

    def payments(self, sales: DataFrame) -> DataFrame:
        """The table `payments`."""
        dice, o, total = self._dice, F.col("id"), F.col("total")
        paid_at, method = F.col("paid_at"), F.col("method")
        electronic = method.isin("card", "paypal")
        settled = (
            ~electronic
            | ~F.col("online")
            | F.col("shipped_at").isNotNull()
            | F.col("cancelled_at").isNotNull()
        )
        voucher = F.when(
            dice.chance(VOUCHER_SHARE, "payment.split", o) & electronic & (total > 3000),
            F.lit(1000),
        ).otherwise(F.lit(0))

        def payment(
            slot: int,
            present: Column,
            of: Column,
            status: Column,
            cents: Column,
            at: Column,
            changed: Column,
        ) -> Column:
            return F.when(
                present,
                F.struct(
                    F.lit(slot).alias("slot"),
                    of.alias("method"),
                    status.alias("status"),
                    cents.cast("bigint").alias("cents"),
                    at.alias("at"),
                    changed.alias("changed"),
                ),
            )

        paid = paid_at.isNotNull()
        failed_at = F.least(F.col("ordered") + MICROSECONDS, paid_at - 1)
        failed = (
            paid & electronic & F.col("online") & dice.chance(FAILED_PAYMENTS, "payment.failed", o)
        )
        refunded = paid & F.col("cancelled_at").isNotNull()
        rows = F.array_compact(
            F.array(
                payment(
                    0,
                    failed,
                    method,
                    F.lit("failed"),
                    total - F.col("voucher"),
                    failed_at,
                    failed_at,
                ),
                payment(
                    1,
                    paid & (F.col("voucher") > 0),
                    F.lit("voucher"),
                    F.lit("captured"),
                    F.col("voucher"),
                    paid_at,
                    paid_at,
                ),
                payment(
                    2,
                    paid,
                    method,
                    F.when(settled, "captured").otherwise("authorized"),
                    total - F.col("voucher"),
                    paid_at,
                    F.when(
                        electronic & F.col("online"), F.coalesce("shipped_at", paid_at)
                    ).otherwise(paid_at),
                ),
                payment(
                    3,
                    refunded,
                    method,
                    F.lit("refunded"),
                    total,
                    F.col("cancelled_at"),
                    F.col("cancelled_at"),
                ),
            )
        )
        refunds = F.transform(
            F.filter("lines", lambda line: line["returned_at"].isNotNull()),
            lambda line: F.struct(
                (line["number"] + 3).alias("slot"),
                method.alias("method"),
                F.lit("refunded").alias("status"),
                line["refund"].alias("cents"),
                line["returned_at"].alias("at"),
                line["returned_at"].alias("changed"),
            ),
        )
        row = F.col("row")
        return (
            sales.select("*", voucher.alias("voucher"))
            .select("id", F.explode(F.concat(rows, refunds)).alias("row"))
            .select(
                (o * 16 + row["slot"]).alias("id"),
                o.alias("order_id"),
                row["method"].alias("method"),
                row["status"].alias("status"),
                money(row["cents"]).alias("amount"),
                F.lit("EUR").alias("currency"),
                timestamp(row["at"]).alias("paid_at"),
                F.when(
                    row["method"] == "card",
                    F.lpad(dice.integer(0, 10_000, "payment.card", o).cast("string"), 4, "0"),
                ).alias("card_last4"),
                timestamp(row["changed"]).alias("updated_at"),
            )
        )


_PRICED = [
    "number",
    "key",
    "product",
    "unknown",
    "variant",
    "quantity",
    "price",
    "cost",
    "discount_rate",
    "tax_rate",
]


def _fields(line: Column, names: list[str]) -> list[Column]:
    return [line[name].alias(name) for name in names]


def _gross(line: Column) -> Column:
    """What the customer pays for a line, in cents."""
    return line["quantity"] * line["price"] - line["discount"] + line["tax"]


def returned_lines(sales: DataFrame) -> DataFrame:
    """One row per line that came back: the order's columns and `line`."""
    return sales.select("*", F.explode("lines").alias("line")).where(
        F.col("line.returned_at").isNotNull()
    )
