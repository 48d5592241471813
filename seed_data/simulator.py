"""Live traffic on the sources: what a shop's applications would write, at a given rate, until stopped.

One operation is one transaction in MySQL, or one write in MongoDB. The invariants of the seed data hold after each:
an order's total agrees with its lines, payments with the total, movements with the stock on hand. Operations choose
rows by what this process remembers or at random, but decide by what they then read under a lock; so several
simulators may run at once, and a lost connection loses one operation whole, never half of it.
"""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, ClassVar

import MySQLdb
from pymongo.errors import PyMongoError

from seed_data.assortment import DEPARTMENTS
from seed_data.places import COUNTRIES, PLACES
from seed_data.pools import NOTES, ask_faker
from softcart_assets.connections import MongoConnection, MySQLConnection, ServerUnreachable

CENT = Decimal("0.01")
SHIPPING, FREE_SHIPPING_FROM = Decimal("4.95"), Decimal(50)
OPEN_ORDERS = 5_000
"""Orders under way that the simulator remembers."""

REPORT_SECONDS = 5

PASSING_ERRORS = frozenset(
    {1040, 1053, 1158, 1159, 1160, 1161, 1205, 1213, 1317, 1927, 2002, 2003, 2006, 2013, 2055}
)
"""MySQL's errors that a later attempt may not meet: server stopping or away, connection lost, deadlock, lock wait."""


class SimulationError(RuntimeError):
    """There is nothing to simulate on; the message says why and what to do."""


class _Nothing(Exception):
    """An operation found no row to work on; another one takes its turn."""


@dataclass
class _Product:
    id: str
    price: Decimal
    cost: Decimal
    tax_rate: Decimal
    skus: list[str]
    active: bool


def _half_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT, ROUND_HALF_UP)


def simulate(
    rate: float = 5.0, duration: float | None = None, seed: int | None = None
) -> Counter[str]:
    """Write `rate` operations per second into `SOFTCART_SHOP_*` and `SOFTCART_CATALOG_*` for `duration` seconds.

    Without `duration`, until Ctrl-C. `seed` makes the choices repeatable, as far as the data and the clock are the
    same. Prints a line of counts every few seconds; returns the number of operations by kind. A server that goes away
    is waited for; one that is not there at the start is an error.
    """
    if rate <= 0:
        raise SimulationError(f"The rate must be above 0 operations per second, not {rate}.")
    shop, catalog = (
        MySQLConnection.from_env("SOFTCART_SHOP"),
        MongoConnection.from_env("SOFTCART_CATALOG"),
    )
    with closing(Simulator(shop, catalog, seed)) as simulator:
        with suppress(KeyboardInterrupt):
            simulator.run(rate, duration)
        return simulator.counts


class Simulator:
    """Writes to one pair of sources. `counts` says how many operations of each kind were committed."""

    def __init__(self, shop: MySQLConnection, catalog: MongoConnection, seed: int | None = None):
        self.counts: Counter[str] = Counter()
        self._shop, self._catalog = shop, catalog
        self._rng = random.Random(seed)
        self._words = ask_faker(self._rng.randrange(2**31))
        self._open: deque[int] = deque(maxlen=OPEN_ORDERS)
        self._connect()
        try:
            self._read_sources()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        self._client = self._catalog.connect()
        self._documents = self._client[self._catalog.database]
        try:
            self._connection = self._shop.connect()
        except ServerUnreachable:
            self._client.close()
            raise
        self._cursor = self._connection.cursor()

    def close(self) -> None:
        """Disconnect; an operation that is not committed is undone."""
        with suppress(MySQLdb.Error):  # closed already, while the server was away
            self._connection.close()
        self._client.close()

    def _read_sources(self) -> None:
        try:
            self._stores = self._all(
                "SELECT id, channel FROM stores WHERE closed_on IS NULL ORDER BY id"
            )
            self._open.extend(
                row[0]
                for row in self._all(
                    "SELECT id FROM orders WHERE updated_at > NOW(6) - INTERVAL 30 DAY AND status IN "
                    "('placed', 'paid', 'shipped') ORDER BY updated_at LIMIT %s",
                    OPEN_ORDERS,
                )
            )
        except MySQLdb.ProgrammingError:
            self._stores = ()
        categories = {document["_id"]: document for document in self._documents.categories.find()}
        self._products: list[_Product] = []
        for document in self._documents.products.find():
            path = categories.get(document.get("category_id"), {}).get("path") or [""]
            department = DEPARTMENTS.get(path[0])
            self._products.append(
                _Product(
                    document["_id"],
                    Decimal(int(document["price"]["amount_minor"])) / 100,
                    Decimal(int(document["cost"]["amount_minor"])) / 100,
                    Decimal(department.tax_rate if department else 1900) / 10_000,
                    [variant["sku"] for variant in document["variants"]],
                    document["status"] == "active",
                )
            )
        self._rng.shuffle(self._products)  # the order is the popularity
        self._connection.rollback()
        if not self._stores or not self._products:
            raise SimulationError(
                "The sources hold no stores or no products. Run `softcart seed` first."
            )

    def run(self, rate: float, duration: float | None = None) -> None:
        """Write at `rate` operations per second for `duration` seconds, or until an exception."""
        operations, weights = zip(*self.WEIGHTS.items(), strict=True)
        started = reported = due = time.monotonic()
        end = None if duration is None else started + duration
        reported_count = 0
        while (now := time.monotonic()) < (end or now + 1):
            if now >= reported + REPORT_SECONDS:
                self._report((self.counts.total() - reported_count) / (now - reported))
                reported, reported_count = now, self.counts.total()
            if due > now:
                time.sleep(min(due - now, reported + REPORT_SECONDS - now, (end or due) - now))
                continue
            # What a slow server left undone is not made up for in a burst.
            due = max(due, now - 1) + 1 / rate
            operation = self._rng.choices(operations, weights)[0]
            with self._patiently(end):
                self._perform(operation)
        self._report(
            (self.counts.total() - reported_count) / max(time.monotonic() - reported, 0.001)
        )

    def _report(self, speed: float) -> None:
        counts = ", ".join(
            f"{name.replace('_', ' ')} {count:,}" for name, count in sorted(self.counts.items())
        )
        self._tell(f"{self.counts.total():,} operations, {speed:,.0f}/s: {counts}")

    @staticmethod
    def _tell(text: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S}  {text}", flush=True)

    def _perform(self, operation: str) -> None:
        try:
            getattr(self, f"_{operation}")()
            self._connection.commit()
        except _Nothing:
            self._connection.rollback()
            return
        self.counts[operation] += 1

    @contextmanager
    def _patiently(self, end: float | None) -> Iterator[None]:
        """Outlive passing failures of a server: drop the operation, and connect again, waiting longer each time."""
        try:
            yield
        except (MySQLdb.Error, PyMongoError) as error:
            if isinstance(error, MySQLdb.Error) and error.args[0] not in PASSING_ERRORS:
                raise
            self._tell(f"{error}; connecting again")
            self.close()
            pause = 0.1
            while True:
                try:
                    return self._connect()
                except ServerUnreachable as unreachable:
                    if end is not None and time.monotonic() + pause > end:
                        raise
                    self._tell(f"{unreachable} Trying again in {pause:g} s")
                    time.sleep(pause)
                    pause = min(pause * 2, 5.0)

    # Reading

    def _all(self, query: str, *arguments: Any) -> tuple[tuple[Any, ...], ...]:
        self._cursor.execute(query, arguments)
        return self._cursor.fetchall()

    def _one(self, query: str, *arguments: Any) -> tuple[Any, ...]:
        """The first row; raises `_Nothing` if there is none."""
        self._cursor.execute(query, arguments)
        row = self._cursor.fetchone()
        if row is None:
            raise _Nothing
        return row

    def _write(self, statement: str, *arguments: Any) -> int:
        """Execute a statement; the new row's id, if it made one."""
        self._cursor.execute(statement, arguments)
        return self._cursor.lastrowid

    def _random_id(self, table: str, condition: str = "TRUE", *, newest: int | None = None) -> int:
        """The id of a random row (of the newest ids only, if that many are named) that meets the condition."""
        low, high = self._one(f"SELECT MIN(id), MAX(id) FROM {table}")
        if high is None:
            raise _Nothing
        if newest is not None:
            low = max(low, high - newest)
        return self._one(
            f"SELECT id FROM {table} WHERE id >= %s AND {condition} ORDER BY id LIMIT 1",
            self._rng.randint(low, high),
        )[0]

    # Orders

    def _new_order(self) -> None:
        store, channel = self._stores[min(int(self._rng.expovariate(0.5)), len(self._stores) - 1)]
        online = channel == "online"
        customer = None if self._rng.random() < 0.03 else self._random_id("customers")
        ordered_at = self._one("SELECT NOW(6)")[0]
        wanted = {
            self._popular().id: self._rng.choice((1, 1, 1, 1, 2, 3))
            for _ in range(self._rng.choice((1, 1, 2, 2, 3, 4)))
        }
        by_id = {product.id: product for product in self._products}
        lines = []
        for product_id in sorted(wanted):  # one order of locks for all
            quantity = wanted[product_id]
            stock = self._all(
                "SELECT quantity_on_hand FROM inventory WHERE store_id = %s AND product_id = %s FOR UPDATE",
                store,
                product_id,
            )
            if not stock or stock[0][0] < quantity:
                continue
            product = by_id[product_id]
            rate = self._rng.choice((0, 0, 0, 0, 5, 10, 20))
            discount = _half_up(product.price * quantity * rate / 100)
            tax = _half_up((product.price * quantity - discount) * product.tax_rate)
            lines.append((product, quantity, discount, tax))
        if not lines:
            raise _Nothing
        goods = sum(
            (p.price * quantity - discount + tax for p, quantity, discount, tax in lines),
            Decimal(0),
        )
        shipping = SHIPPING if online and goods < FREE_SHIPPING_FROM else Decimal(0)
        address = None
        if online and customer is not None:
            found = self._all(
                "SELECT id FROM addresses WHERE customer_id = %s ORDER BY is_primary DESC LIMIT 1",
                customer,
            )
            address = found[0][0] if found else None
        employee = None
        if not online:
            employees = self._all(
                "SELECT id FROM employees WHERE store_id = %s AND left_on IS NULL", store
            )
            employee = self._rng.choice(employees)[0] if employees else None
        order = self._write(
            "INSERT INTO orders (customer_id, store_id, employee_id, shipping_address_id, device, status, "
            "currency, ordered_at, promised_on, shipping_amount, total_amount, note) "
            "VALUES (%s, %s, %s, %s, %s, %s, 'EUR', %s, %s, %s, %s, %s)",
            customer,
            store,
            employee,
            address,
            self._rng.choices(("mobile", "laptop", "tablet"), (58, 33, 9))[0] if online else None,
            "placed" if online else "delivered",
            ordered_at,
            ordered_at.date() + timedelta(days=self._rng.randint(3, 7)) if online else None,
            shipping,
            goods + shipping,
            self._rng.choice(NOTES) if self._rng.random() < 0.04 else None,
        )
        self._cursor.executemany(
            "INSERT INTO order_lines (order_id, line_number, product_id, variant_sku, quantity, unit_price, unit_cost, "
            "discount_amount, tax_rate, tax_amount, created_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    order,
                    number,
                    product.id,
                    self._rng.choice(product.skus) if product.skus else None,
                    quantity,
                    product.price,
                    product.cost,
                    discount,
                    product.tax_rate,
                    tax,
                    ordered_at,
                )
                for number, (product, quantity, discount, tax) in enumerate(lines, start=1)
            ],
        )
        for product, quantity, _, _ in lines:
            self._move(store, product.id, "sale", -quantity, order)
        if online:
            self._open.append(order)
        else:
            self._pay(
                order, goods + shipping, self._rng.choice(("card", "card", "cash")), "captured"
            )

    def _popular(self) -> _Product:
        for _ in range(20):
            product = self._products[int(len(self._products) ** self._rng.random()) - 1]
            if product.active:
                return product
        raise _Nothing

    def _move(
        self, store: int, product: str, kind: str, quantity: int, order: int | None = None
    ) -> bool:
        """Change the stock on hand and say why; false if the store does not keep the product."""
        self._cursor.execute(
            "UPDATE inventory SET quantity_on_hand = quantity_on_hand + %s WHERE store_id = %s AND product_id = %s",
            (quantity, store, product),
        )
        if self._cursor.rowcount == 0:
            return False
        self._write(
            "INSERT INTO inventory_movements (store_id, product_id, kind, quantity, order_id, moved_at) "
            "VALUES (%s, %s, %s, %s, %s, NOW(6))",
            store,
            product,
            kind,
            quantity,
            order,
        )
        return True

    def _pay(self, order: int, amount: Decimal, method: str, status: str) -> None:
        self._write(
            "INSERT INTO payments (order_id, method, status, amount, currency, paid_at, card_last4) "
            "VALUES (%s, %s, %s, %s, 'EUR', NOW(6), %s)",
            order,
            method,
            status,
            amount,
            f"{self._rng.randrange(10_000):04}" if method == "card" else None,
        )

    def _order_status(self) -> None:
        if not self._open:
            raise _Nothing
        order = self._open.popleft()
        store, status, total = self._one(
            "SELECT store_id, status, total_amount FROM orders WHERE id = %s FOR UPDATE", order
        )
        cancels = status in ("placed", "paid") and self._rng.random() < 0.025
        if cancels:
            following = "cancelled"
            self._cancel(order, store)
        elif status == "placed":
            following = "paid"
            method = self._rng.choices(("card", "paypal", "bank_transfer"), (55, 36, 9))[0]
            if self._rng.random() < 0.04:
                self._pay(order, total, method, "failed")
            self._pay(
                order, total, method, "captured" if method == "bank_transfer" else "authorized"
            )
        elif status == "paid":
            following = "shipped"
            self._write(
                "UPDATE payments SET status = 'captured' WHERE order_id = %s AND status = 'authorized'",
                order,
            )
        elif status == "shipped":
            following = "delivered"
        else:
            raise _Nothing
        self._write("UPDATE orders SET status = %s WHERE id = %s", following, order)
        if following in ("paid", "shipped"):
            self._open.append(order)

    def _cancel(self, order: int, store: int) -> None:
        """Put the goods back and pay back what was paid."""
        for product, quantity in self._all(
            "SELECT product_id, quantity FROM order_lines WHERE order_id = %s ORDER BY product_id",
            order,
        ):
            self._move(store, product, "adjustment", quantity, order)
        self._write(
            "UPDATE payments SET status = 'captured' WHERE order_id = %s AND status = 'authorized'",
            order,
        )
        for method, amount in self._all(
            "SELECT method, amount FROM payments WHERE order_id = %s AND status = 'captured'", order
        ):
            self._pay(order, amount, method, "refunded")

    def _return(self) -> None:
        order = self._random_id("orders", "status = 'delivered'", newest=20_000)
        (store,) = self._one(
            "SELECT store_id FROM orders WHERE id = %s AND status = 'delivered' FOR UPDATE", order
        )
        line, product, bought, price, discount, tax = self._one(
            "SELECT line_number, product_id, quantity, unit_price, discount_amount, tax_amount FROM order_lines l "
            "WHERE order_id = %s AND NOT EXISTS (SELECT 1 FROM returns r WHERE r.order_id = l.order_id AND "
            "r.line_number = l.line_number) ORDER BY line_number LIMIT 1",
            order,
        )
        quantity = bought if self._rng.random() < 0.8 else 1
        refund = _half_up((bought * price - discount + tax) * quantity / bought)
        reason = self._rng.choice(
            ("changed_mind", "changed_mind", "damaged", "wrong_item", "not_as_described", "late")
        )
        self._write(
            "INSERT INTO returns (order_id, line_number, quantity, reason, refund_amount, returned_at) "
            "VALUES (%s, %s, %s, %s, %s, NOW(6))",
            order,
            line,
            quantity,
            reason,
            refund,
        )
        (method,) = self._one(
            "SELECT method FROM payments WHERE order_id = %s AND status = 'captured' LIMIT 1", order
        )
        self._pay(order, refund, method, "refunded")
        if self._move(store, product, "return", quantity, order) and reason == "damaged":
            self._move(store, product, "adjustment", -quantity, order)

    def _stock_movement(self) -> None:
        store, _ = self._rng.choice(self._stores)
        product = self._rng.choice(self._products).id
        draw = self._rng.random()
        if draw < 0.7:
            product, reorder_point = self._one(
                "SELECT product_id, reorder_point FROM inventory WHERE store_id = %s "
                "AND product_id >= %s AND quantity_on_hand <= reorder_point ORDER BY product_id LIMIT 1",
                store,
                product,
            )
            self._move(store, product, "receipt", max(5, 3 * reorder_point))
            return
        other = self._rng.choice(self._stores)[0] if draw < 0.85 else store
        pieces = self._rng.randint(1, 3)
        (on_hand,) = self._one(
            "SELECT quantity_on_hand FROM inventory WHERE store_id = %s AND product_id = %s FOR UPDATE",
            store,
            product,
        )
        if on_hand < pieces:
            raise _Nothing
        if other == store:
            self._move(store, product, "adjustment", -pieces)
        elif self._move(other, product, "transfer", pieces):
            self._move(store, product, "transfer", -pieces)

    def _deleted_order(self) -> None:
        """A cancelled order, with all that hangs on it; the movements stay, as the stock was moved."""
        order = self._random_id("orders", "status = 'cancelled'")
        self._one("SELECT id FROM orders WHERE id = %s AND status = 'cancelled' FOR UPDATE", order)
        for table in ("returns", "payments", "order_lines"):
            self._write(f"DELETE FROM {table} WHERE order_id = %s", order)
        self._write("DELETE FROM orders WHERE id = %s", order)

    # Customers

    def _person(self) -> tuple[int, str, str]:
        """A country's number, a name and the start of an e-mail address."""
        country = self._rng.choices(
            range(len(COUNTRIES)), [country.weight for country in COUNTRIES.values()]
        )[0]
        first = self._rng.randrange(len(self._words.first_names[country]))
        last = self._rng.randrange(len(self._words.last_names[country]))
        name = f"{self._words.first_names[country][first]} {self._words.last_names[country][last]}"
        return (
            country,
            name,
            f"{self._words.first_slugs[country][first]}.{self._words.last_slugs[country][last]}",
        )

    def _new_customer(self) -> None:
        country, name, handle = self._person()
        customer = self._write(
            "INSERT INTO customers (full_name, birth_date, gender, marketing_consent) VALUES (%s, %s, %s, %s)",
            name,
            datetime.now(UTC).date() - timedelta(days=self._rng.randint(16 * 365, 80 * 365)),
            self._rng.choice(("f", "m", "x", None)),
            self._rng.randint(0, 1),
        )
        self._write(
            "UPDATE customers SET email = %s WHERE id = %s",
            f"{handle}{customer}@mail.example",
            customer,
        )
        self._add_address(customer, country)

    def _add_address(self, customer: int, country: int) -> None:
        code = list(COUNTRIES)[country]
        place = self._rng.choice([place for place in PLACES if place.country == code])
        self._write(
            "INSERT INTO addresses (customer_id, kind, line1, city, region, postal_code, country_code, latitude, "
            "longitude, is_primary) VALUES (%s, 'shipping', %s, %s, %s, %s, %s, %s, %s, 1)",
            customer,
            f"{self._rng.choice(self._words.streets[country])} {self._rng.randint(1, 180)}",
            place.city,
            place.region,
            "".join(
                str(self._rng.randrange(10)) if character == "#" else character
                for character in place.postal
            ),
            code,
            Decimal(str(place.latitude)),
            Decimal(str(place.longitude)),
        )

    def _customer_change(self) -> None:
        customer = self._random_id("customers")
        match self._rng.randrange(4):
            case 0:
                self._write(
                    "UPDATE customers SET loyalty_tier = %s WHERE id = %s",
                    self._rng.choice(("none", "bronze", "silver", "gold")),
                    customer,
                )
            case 1:
                handle = self._person()[2]
                self._write(
                    "UPDATE customers SET email = %s WHERE id = %s",
                    f"{handle}{customer}@post.example",
                    customer,
                )
            case 2:
                phone = f"+49 {self._rng.randint(100, 999)} {self._rng.randint(10**6, 10**7)}"
                self._write("UPDATE customers SET phone = %s WHERE id = %s", phone, customer)
            case 3:
                self._write(
                    "UPDATE customers SET marketing_consent = 1 - marketing_consent WHERE id = %s",
                    customer,
                )

    def _address_change(self) -> None:
        """A customer moves: the primary address gives way to a new one, or is corrected."""
        address = self._random_id("addresses", "is_primary = 1")
        customer, code = self._one(
            "SELECT customer_id, country_code FROM addresses WHERE id = %s FOR UPDATE", address
        )
        country = list(COUNTRIES).index(code)
        if self._rng.random() < 0.6:
            self._write("UPDATE addresses SET is_primary = 0 WHERE customer_id = %s", customer)
            self._add_address(customer, country)
        else:
            line = f"{self._rng.choice(self._words.streets[country])} {self._rng.randint(1, 180)}"
            self._write(
                "UPDATE addresses SET line1 = %s, latitude = NULL, longitude = NULL WHERE id = %s",
                line,
                address,
            )

    def _deleted_address(self) -> None:
        self._write(
            "DELETE FROM addresses WHERE id = %s AND is_primary = 0",
            self._random_id("addresses", "is_primary = 0"),
        )

    # Catalog

    def _catalog_edit(self) -> None:
        product = self._rng.choice(self._products)
        document = self._documents.products.find_one({"_id": product.id})
        if document is None:
            raise _Nothing
        change: dict[str, Any]
        price = product.price
        if self._rng.random() < 0.85:
            price = max(
                _half_up(product.price * Decimal(self._rng.uniform(0.92, 1.09))), Decimal("0.20")
            )
            change = {"price": document["price"] | {"amount_minor": int(price * 100)}}
        else:
            change = {"status": "discontinued" if product.active else "active"}
        # The whole document: the local server's $set would turn every date into a text.
        self._documents.products.replace_one(
            {"_id": product.id}, document | change | {"updated_at": datetime.now(UTC)}
        )
        product.price = price
        product.active ^= "status" in change

    def _new_product(self) -> None:
        model = self._rng.choice(self._products)
        document = self._documents.products.find_one({"_id": model.id})
        if document is None:
            raise _Nothing
        number = 1 + max(
            int(product.id[1:]) for product in self._products if product.id[1:].isdigit()
        )
        now = datetime.now(UTC)
        document |= {"_id": f"P{number:06}", "name": f"{document['name']} II", "status": "active"}
        document |= {"created_at": now, "updated_at": now}
        for position, variant in enumerate(document["variants"], start=1):
            variant["sku"] = f"{document['_id']}-{position}"
        self._documents.products.insert_one(document)
        skus = [variant["sku"] for variant in document["variants"]]
        self._products.append(
            _Product(document["_id"], model.price, model.cost, model.tax_rate, skus, True)
        )
        for store, _ in self._stores:
            self._write(
                "INSERT IGNORE INTO inventory (store_id, product_id, quantity_on_hand, reorder_point) "
                "VALUES (%s, %s, 0, 5)",
                store,
                document["_id"],
            )
            self._move(store, document["_id"], "receipt", 20)

    def _deleted_product(self) -> None:
        gone = next((product for product in self._products if not product.active), None)
        if gone is None:
            raise _Nothing
        self._documents.products.delete_one({"_id": gone.id})
        self._products.remove(gone)

    WEIGHTS: ClassVar[dict[str, float]] = {
        "new_order": 33,
        "order_status": 36,
        "return": 3,
        "stock_movement": 8,
        "new_customer": 4,
        "customer_change": 5,
        "address_change": 5,
        "catalog_edit": 4,
        "new_product": 0.3,
        "deleted_address": 0.4,
        "deleted_order": 0.2,
        "deleted_product": 0.1,
    }
    """How often each kind of operation comes; the method of the same name performs it."""


__all__ = ["SimulationError", "Simulator", "simulate"]
