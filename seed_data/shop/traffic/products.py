"""Products and their stock: edited, introduced, withdrawn, supplied, moved between stores."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from seed_data.common.traffic import NothingToDo
from seed_data.shop.traffic.shop import Product, Shop, half_up


def product_edit(shop: Shop) -> None:
    """A price changes, or a product is discontinued or comes back."""
    product = shop.rng.choice(shop.products)
    document = shop.documents.products.find_one({"_id": product.id})
    if document is None:
        raise NothingToDo
    change: dict[str, Any]
    price = product.price
    if shop.rng.random() < 0.85:
        price = max(half_up(product.price * Decimal(shop.rng.uniform(0.92, 1.09))), Decimal("0.20"))
        change = {"price": document["price"] | {"amount_minor": int(price * 100)}}
    else:
        change = {"status": "discontinued" if product.active else "active"}
    shop.documents.products.update_one(
        {"_id": product.id}, {"$set": change | {"updated_at": datetime.now(UTC)}}
    )
    product.price = price
    product.active ^= "status" in change


def new_product(shop: Shop) -> None:
    """A product's successor arrives in every store."""
    model = shop.rng.choice(shop.products)
    document = shop.documents.products.find_one({"_id": model.id})
    if document is None:
        raise NothingToDo
    number = 1 + max(int(product.id[1:]) for product in shop.products if product.id[1:].isdigit())
    now = datetime.now(UTC)
    document |= {"_id": f"P{number:06}", "name": f"{document['name']} II", "status": "active"}
    document |= {"created_at": now, "updated_at": now}
    for position, variant in enumerate(document["variants"], start=1):
        variant["sku"] = f"{document['_id']}-{position}"
    shop.documents.products.insert_one(document)
    skus = [variant["sku"] for variant in document["variants"]]
    shop.products.append(
        Product(document["_id"], model.price, model.cost, model.tax_rate, skus, True)
    )
    for store, _ in shop.stores:
        shop.sql.write(
            "INSERT IGNORE INTO inventory "
            "(store_id, product_id, quantity_on_hand, reorder_point) VALUES (%s, %s, 0, 5)",
            store,
            document["_id"],
        )
        shop.move(store, document["_id"], "receipt", 20)


def deleted_product(shop: Shop) -> None:
    """A discontinued product's document disappears."""
    gone = next((product for product in shop.products if not product.active), None)
    if gone is None:
        raise NothingToDo
    shop.documents.products.delete_one({"_id": gone.id})
    shop.products.remove(gone)


def stock_movement(shop: Shop) -> None:
    """Goods are supplied where they run low, move to another store, or get lost."""
    store, _ = shop.rng.choice(shop.stores)
    product = shop.rng.choice(shop.products).id
    draw = shop.rng.random()
    if draw < 0.7:
        product, reorder_point = shop.sql.one(
            "SELECT product_id, reorder_point FROM inventory WHERE store_id = %s "
            "AND product_id >= %s AND quantity_on_hand <= reorder_point "
            "ORDER BY product_id LIMIT 1",
            store,
            product,
        )
        shop.move(store, product, "receipt", max(5, 3 * reorder_point))
        return
    other = shop.rng.choice(shop.stores)[0] if draw < 0.85 else store
    pieces = shop.rng.randint(1, 3)
    if (shop.on_hand(store, product) or 0) < pieces:
        raise NothingToDo
    if other == store:
        shop.move(store, product, "adjustment", -pieces)
    elif shop.move(other, product, "transfer", pieces):
        shop.move(store, product, "transfer", -pieces)
