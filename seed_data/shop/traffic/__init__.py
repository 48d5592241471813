"""Live traffic on the shop's sources, as its applications would write it.

One operation is one transaction in MySQL, or one write in MongoDB. The invariants of the seed data
hold after each: an order's total agrees with its lines, payments with the total, movements with the
stock on hand.

Operations choose rows at random or from memory, but they decide by the values that they then read
under a lock. So several simulators may run at once. A lost connection loses a whole operation,
never half of one.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pymysql

from seed_data.common.sql import SQLSession
from seed_data.common.traffic import NothingToDo, SimulationError
from seed_data.common.words import ask_faker
from seed_data.shop.assortment import DEPARTMENTS
from seed_data.shop.traffic import customers, orders, products
from seed_data.shop.traffic.shop import OPEN_ORDERS, Product, Shop
from softcart_assets.connections import MongoConnection, MySQLConnection, ServerUnreachable
from softcart_assets.lines.model import Source

OPERATIONS: dict[str, tuple[float, Callable[[Shop], None]]] = {
    "new_order": (33, orders.new_order),
    "order_status": (36, orders.order_status),
    "return": (3, orders.return_line),
    "stock_movement": (8, products.stock_movement),
    "new_customer": (4, customers.new_customer),
    "customer_change": (5, customers.customer_change),
    "address_change": (5, customers.address_change),
    "product_edit": (4, products.product_edit),
    "new_product": (0.3, products.new_product),
    "deleted_address": (0.4, customers.deleted_address),
    "deleted_order": (0.2, orders.deleted_order),
    "deleted_product": (0.1, products.deleted_product),
}
"""Each kind of operation, and how often it comes relative to the others."""


class ShopTraffic:
    """Writes to one pair of sources. Raises `SimulationError` if they are empty."""

    def __init__(self, sources: Mapping[str, Source], seed: int | None = None) -> None:
        self.weights: Mapping[str, float] = {name: each[0] for name, each in OPERATIONS.items()}
        self.at_once = 1
        self._sources = sources
        self._mysql = MySQLConnection.from_env(sources["shop"].env_prefix)
        self._mongodb = MongoConnection.from_env(sources["catalog"].env_prefix)
        rng = random.Random(seed)
        self._shop = Shop(
            rng,
            ask_faker(rng.randrange(2**31)),
            *self._connections(rng),
            stores=[],
            products=[],
            open_orders=deque(maxlen=OPEN_ORDERS),
        )
        try:
            self._read_sources()
        except BaseException:
            self.close()
            raise

    def _connections(self, rng: random.Random) -> tuple[SQLSession, Any]:
        client = self._mongodb.connect()
        try:
            return SQLSession(self._mysql, rng), client[self._mongodb.database]
        except ServerUnreachable:
            client.close()
            raise

    def another(self) -> ShopTraffic:
        """The same traffic over connections of its own."""
        return ShopTraffic(self._sources, self._shop.rng.randrange(2**31))

    def connect(self) -> None:
        """Connect again."""
        self._shop.sql, self._shop.documents = self._connections(self._shop.rng)

    def close(self) -> None:
        """Disconnect. An operation that is not committed is undone."""
        self._shop.sql.close()
        self._shop.documents.client.close()

    def perform(self, operations: Sequence[str]) -> Sequence[str]:
        """Do an operation and commit it. Returns none if it found nothing to do."""
        [operation] = operations
        _, operate = OPERATIONS[operation]
        try:
            operate(self._shop)
            self._shop.sql.commit()
        except NothingToDo:
            self._shop.sql.rollback()
            return ()
        return operations

    def _read_sources(self) -> None:
        shop = self._shop
        try:
            shop.stores += [
                (store, channel)
                for store, channel in shop.sql.all(
                    "SELECT id, channel FROM stores WHERE closed_on IS NULL ORDER BY id"
                )
            ]
            shop.open_orders.extend(
                row[0]
                for row in shop.sql.all(
                    "SELECT id FROM orders WHERE updated_at > NOW(6) - INTERVAL 30 DAY "
                    "AND status IN ('placed', 'paid', 'shipped') ORDER BY updated_at LIMIT %s",
                    OPEN_ORDERS,
                )
            )
        except pymysql.ProgrammingError:  # there are no such tables
            shop.stores.clear()
        shop.products += self._products()
        shop.rng.shuffle(shop.products)  # the order is the popularity
        # Otherwise the first operation would read rows as of now, however late it comes.
        shop.sql.rollback()
        if not shop.stores or not shop.products:
            raise SimulationError(
                "The sources hold no stores or no products. Run `softcart seed` first."
            )

    def _products(self) -> list[Product]:
        documents = self._shop.documents
        categories = {document["_id"]: document for document in documents.categories.find()}
        found = []
        for document in documents.products.find():
            path = categories.get(document.get("category_id"), {}).get("path") or [""]
            department = DEPARTMENTS.get(path[0])
            found.append(
                Product(
                    document["_id"],
                    Decimal(int(document["price"]["amount_minor"])) / 100,
                    Decimal(int(document["cost"]["amount_minor"])) / 100,
                    Decimal(department.tax_rate if department else 1900) / 10_000,
                    [variant["sku"] for variant in document["variants"]],
                    document["status"] == "active",
                )
            )
        return found
