"""Shared by the shop's operations: its databases, the memory of their rows, and the stock."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from pymongo.database import Database

from seed_data.common.sql import SQLSession
from seed_data.common.traffic import NothingToDo
from seed_data.common.words import Words

CENT = Decimal("0.01")

OPEN_ORDERS = 5_000
"""How many open orders are remembered."""


@dataclass
class Product:
    """The facts about a product that selling it needs."""

    id: str
    price: Decimal
    cost: Decimal
    tax_rate: Decimal
    skus: list[str]
    active: bool


@dataclass
class Shop:
    """The shop as this process knows it.

    `stores` are id and channel. `products` come in the order of their popularity.
    """

    rng: random.Random
    words: Words
    sql: SQLSession
    documents: Database[dict[str, Any]]
    stores: list[tuple[int, str]]
    products: list[Product]
    open_orders: deque[int]

    def popular_product(self) -> Product:
        """A product on sale, the more likely the more popular."""
        for _ in range(20):
            # A power of a uniform number: low positions come most often.
            product = self.products[int(len(self.products) ** self.rng.random()) - 1]
            if product.active:
                return product
        raise NothingToDo

    def move(
        self, store: int, product: str, kind: str, quantity: int, order: int | None = None
    ) -> bool:
        """Change the stock on hand and record why. False if the store does not keep the product."""
        changed = self.sql.write(
            "UPDATE inventory SET quantity_on_hand = quantity_on_hand + %s "
            "WHERE store_id = %s AND product_id = %s",
            quantity,
            store,
            product,
        )
        if changed == 0:
            return False
        self.sql.write(
            "INSERT INTO inventory_movements "
            "(store_id, product_id, kind, quantity, order_id, moved_at) "
            "VALUES (%s, %s, %s, %s, %s, NOW(6))",
            store,
            product,
            kind,
            quantity,
            order,
        )
        return True

    def on_hand(self, store: int, product: str) -> int | None:
        """The stock on hand, locked. None if the store does not keep the product."""
        found = self.sql.all(
            "SELECT quantity_on_hand FROM inventory WHERE store_id = %s AND product_id = %s "
            "FOR UPDATE",
            store,
            product,
        )
        return int(found[0][0]) if found else None


def half_up(amount: Decimal) -> Decimal:
    """Rounded to cents as the invariants of the seed data want it."""
    return amount.quantize(CENT, ROUND_HALF_UP)
