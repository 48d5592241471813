"""Changes a share of the rows of the shop's sources at once, to measure what follows from it.

The rows belong to orders and customers, spread over all of them or the newest ones. They are
updated, a tenth of them is copied under new ids, and cancelled orders disappear. The invariants of
the seed data hold afterwards, as after live traffic: totals agree with lines, payments with totals,
movements with the stock on hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from softcart_assets.connections import MongoConnection, MySQLConnection
from softcart_assets.lines.model import Source

_CHOSEN = {"orders": "ordered_at", "customers": "created_at"}
"""The tables of which rows are chosen, and the column by which they are new."""

_ORDER_LINES = (
    "product_id, variant_sku, quantity, unit_price, unit_cost, discount_amount, tax_rate, "
    "tax_amount, created_at"
)
_ORDERS = (
    "customer_id, store_id, employee_id, shipping_address_id, device, status, currency, "
    "ordered_at, promised_on, shipping_amount, total_amount, note"
)
_PAYMENTS = "method, status, amount, currency, paid_at, card_last4"
_CUSTOMERS = (
    "email, full_name, phone, birth_date, gender, loyalty_tier, marketing_consent, created_at"
)

_STATEMENTS = (
    "UPDATE orders JOIN chosen_orders USING (id) SET note = concat_ws(' ', note, 'Checked.')",
    "UPDATE order_lines l JOIN chosen_orders c ON c.id = l.order_id"
    " SET l.unit_cost = l.unit_cost + 0.01",
    "UPDATE payments p JOIN chosen_orders c ON c.id = p.order_id"
    " SET p.paid_at = p.paid_at + INTERVAL 1 SECOND",
    "UPDATE returns r JOIN chosen_orders c ON c.id = r.order_id SET r.reason = 'late'",
    "UPDATE inventory_movements m JOIN chosen_orders c ON c.id = m.order_id"
    " SET m.moved_at = m.moved_at + INTERVAL 1 SECOND",
    # A piece is found on the shelf, where one of the chosen orders was sold.
    "INSERT INTO inventory_movements (store_id, product_id, kind, quantity, moved_at)"
    " SELECT store_id, product_id, 'adjustment', 1, moved_at FROM chosen_pairs",
    "UPDATE inventory JOIN chosen_pairs USING (store_id, product_id)"
    " SET quantity_on_hand = quantity_on_hand + 1",
    # The copies. The greatest id is added to theirs, so theirs are new.
    f"INSERT INTO orders (id, {_ORDERS}) SELECT id + {{greatest}}, {_ORDERS}"
    " FROM orders JOIN chosen_orders USING (id) WHERE NOT mod(number, 10)",
    f"INSERT INTO order_lines (order_id, line_number, {_ORDER_LINES})"
    f" SELECT order_id + {{greatest}}, line_number, {_ORDER_LINES} FROM order_lines"
    " JOIN chosen_orders ON id = order_id WHERE NOT mod(number, 10)",
    f"INSERT INTO payments (order_id, {_PAYMENTS}) SELECT order_id + {{greatest}}, {_PAYMENTS}"
    " FROM payments p JOIN chosen_orders c ON c.id = order_id WHERE NOT mod(number, 10)",
    *(
        f"DELETE t FROM {table} t JOIN orders o ON o.id = t.order_id"
        " JOIN chosen_orders c ON c.id = o.id WHERE o.status = 'cancelled'"
        for table in ("returns", "payments", "order_lines")
    ),
    "DELETE o FROM orders o JOIN chosen_orders USING (id) WHERE o.status = 'cancelled'",
    "UPDATE customers JOIN chosen_customers USING (id)"
    " SET loyalty_tier = if(loyalty_tier = 'gold', 'silver', 'gold')",
    f"INSERT INTO customers ({_CUSTOMERS}) SELECT {_CUSTOMERS}"
    " FROM customers JOIN chosen_customers USING (id) WHERE NOT mod(number, 10)",
    "UPDATE addresses a JOIN chosen_customers c ON c.id = a.customer_id"
    " SET a.line2 = concat_ws(', ', a.line2, 'rear')",
    "DELETE a FROM addresses a JOIN chosen_customers c ON c.id = a.customer_id"
    " WHERE NOT a.is_primary AND NOT mod(number, 10)",
)


def change(sources: Mapping[str, Source], share: float, newest: bool) -> int:
    """Change this share of the rows, the newest or some of each time. Returns their number."""
    server = MySQLConnection.from_env(sources["shop"].env_prefix)
    with server.connect() as connection, connection.cursor() as cursor:
        # As in the seed, because a copied customer may have a zero date.
        cursor.execute("SET sql_mode = 'STRICT_ALL_TABLES'")
        for table, time in _CHOSEN.items():
            # A hash of the id is the same in each run, and has no rhythm that the data may have.
            order = f"{time} DESC, id" if newest else "crc32(id), id"
            limit = _count(cursor, table, share)
            cursor.execute(
                f"CREATE TEMPORARY TABLE chosen_{table} (id bigint unsigned PRIMARY KEY)"
                f" SELECT id, row_number() OVER (ORDER BY id) AS number"
                f" FROM (SELECT id FROM {table} ORDER BY {order} LIMIT {limit}) t"
            )
        cursor.execute(
            "CREATE TEMPORARY TABLE chosen_pairs"
            " SELECT store_id, product_id, max(moved_at) AS moved_at FROM inventory_movements m"
            " JOIN chosen_orders c ON c.id = m.order_id JOIN inventory USING (store_id, product_id)"
            f" GROUP BY store_id, product_id LIMIT {_count(cursor, 'inventory', share)}"
        )
        cursor.execute("SELECT max(id) FROM orders")
        (greatest,) = cursor.fetchone()
        changed: int = sum(cursor.execute(each.format(greatest=greatest)) for each in _STATEMENTS)
        connection.commit()
    documents = MongoConnection.from_env(sources["catalog"].env_prefix)
    with documents.connect() as client:
        return changed + _change_products(client[documents.database], share, newest)


def _count(cursor: Any, table: str, share: float) -> int:
    cursor.execute(f"SELECT count(*) FROM {table}")
    return round(int(cursor.fetchone()[0]) * share)


def _change_products(database: Database[dict[str, Any]], share: float, newest: bool) -> int:
    """Change prices, add a product and delete a discontinued one."""
    products = list(database.products.find({}, {"created_at": 1}))
    products.sort(key=lambda product: product["created_at"], reverse=newest)
    count = max(1, round(len(products) * share))
    chosen = [each["_id"] for each in products[:: 1 if newest else len(products) // count][:count]]
    now = datetime.now(UTC)
    changed = database.products.update_many(
        {"_id": {"$in": chosen}}, {"$inc": {"price.amount_minor": 1}, "$set": {"updated_at": now}}
    ).modified_count
    model = database.products.find_one({"_id": chosen[0]})
    assert model
    model |= {"_id": f"{model['_id']}-{now:%H%M%S}", "created_at": now, "updated_at": now}
    model["variants"] = []
    database.products.insert_one(model)
    return changed + 1 + database.products.delete_one({"status": "discontinued"}).deleted_count
