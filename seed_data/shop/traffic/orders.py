"""Orders: placed, paid, shipped, delivered, cancelled, returned, deleted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from seed_data.common.traffic import NothingToDo
from seed_data.shop.tables.buyers import NOTES
from seed_data.shop.traffic.shop import Product, Shop, half_up

SHIPPING, FREE_SHIPPING_FROM = Decimal("4.95"), Decimal(50)


@dataclass(frozen=True)
class _Line:
    product: Product
    quantity: int
    discount: Decimal
    tax: Decimal

    @property
    def gross(self) -> Decimal:
        return self.product.price * self.quantity - self.discount + self.tax


def new_order(shop: Shop) -> None:
    """Somebody buys what is in stock, in a store or online."""
    rng = shop.rng
    # The first stores sell most.
    store, channel = shop.stores[min(int(rng.expovariate(0.5)), len(shop.stores) - 1)]
    online = channel == "online"
    customer = None if rng.random() < 0.03 else shop.sql.random_id("customers")
    ordered_at: datetime = shop.sql.one("SELECT NOW(6)")[0]
    lines = _basket(shop, store)
    if not lines:
        raise NothingToDo
    goods = sum((line.gross for line in lines), Decimal(0))
    shipping = SHIPPING if online and goods < FREE_SHIPPING_FROM else Decimal(0)
    order = shop.sql.insert(
        "INSERT INTO orders (customer_id, store_id, employee_id, shipping_address_id, device, "
        "status, currency, ordered_at, promised_on, shipping_amount, total_amount, note) "
        "VALUES (%s, %s, %s, %s, %s, %s, 'EUR', %s, %s, %s, %s, %s)",
        customer,
        store,
        None if online else _employee(shop, store),
        _address(shop, customer) if online and customer is not None else None,
        rng.choices(("mobile", "laptop", "tablet"), (58, 33, 9))[0] if online else None,
        "placed" if online else "delivered",
        ordered_at,
        ordered_at.date() + timedelta(days=rng.randint(3, 7)) if online else None,
        shipping,
        goods + shipping,
        rng.choice(NOTES) if rng.random() < 0.04 else None,
    )
    _write_lines(shop, order, ordered_at, lines)
    for line in lines:
        shop.move(store, line.product.id, "sale", -line.quantity, order)
    if online:
        shop.open_orders.append(order)
    else:
        _pay(shop, order, goods + shipping, rng.choice(("card", "card", "cash")), "captured")


def _basket(shop: Shop, store: int) -> list[_Line]:
    """The lines of a new order, without products that the store lacks."""
    rng = shop.rng
    wanted = {
        shop.popular_product().id: rng.choice((1, 1, 1, 1, 2, 3))
        for _ in range(rng.choice((1, 1, 2, 2, 3, 4)))
    }
    by_id = {product.id: product for product in shop.products}
    lines = []
    for product_id in sorted(wanted):  # all operations lock rows in one order: no deadlocks
        quantity = wanted[product_id]
        if (shop.on_hand(store, product_id) or 0) < quantity:
            continue
        product = by_id[product_id]
        rate = rng.choice((0, 0, 0, 0, 5, 10, 20))
        discount = half_up(product.price * quantity * rate / 100)
        tax = half_up((product.price * quantity - discount) * product.tax_rate)
        lines.append(_Line(product, quantity, discount, tax))
    return lines


def _address(shop: Shop, customer: int) -> int | None:
    found = shop.sql.all(
        "SELECT id FROM addresses WHERE customer_id = %s ORDER BY is_primary DESC LIMIT 1", customer
    )
    return int(found[0][0]) if found else None


def _employee(shop: Shop, store: int) -> int | None:
    employees = shop.sql.all(
        "SELECT id FROM employees WHERE store_id = %s AND left_on IS NULL", store
    )
    return int(shop.rng.choice(employees)[0]) if employees else None


def _write_lines(shop: Shop, order: int, ordered_at: datetime, lines: Iterable[_Line]) -> None:
    shop.sql.write_many(
        "INSERT INTO order_lines (order_id, line_number, product_id, variant_sku, quantity, "
        "unit_price, unit_cost, discount_amount, tax_rate, tax_amount, created_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            (
                order,
                number,
                line.product.id,
                shop.rng.choice(line.product.skus) if line.product.skus else None,
                line.quantity,
                line.product.price,
                line.product.cost,
                line.discount,
                line.product.tax_rate,
                line.tax,
                ordered_at,
            )
            for number, line in enumerate(lines, start=1)
        ),
    )


def _pay(shop: Shop, order: int, amount: Decimal, method: str, status: str) -> None:
    shop.sql.write(
        "INSERT INTO payments (order_id, method, status, amount, currency, paid_at, card_last4) "
        "VALUES (%s, %s, %s, %s, 'EUR', NOW(6), %s)",
        order,
        method,
        status,
        amount,
        f"{shop.rng.randrange(10_000):04}" if method == "card" else None,
    )


def order_status(shop: Shop) -> None:
    """An order under way takes its next step."""
    if not shop.open_orders:
        raise NothingToDo
    order = shop.open_orders.popleft()
    store, status, total = shop.sql.one(
        "SELECT store_id, status, total_amount FROM orders WHERE id = %s FOR UPDATE", order
    )
    if status in ("placed", "paid") and shop.rng.random() < 0.025:
        following = "cancelled"
        _cancel(shop, order, store)
    elif status == "placed":
        following = "paid"
        _pay_online(shop, order, total)
    elif status == "paid":
        following = "shipped"
        _capture(shop, order)
    elif status == "shipped":
        following = "delivered"
    else:
        # Another simulator has taken this step meanwhile.
        raise NothingToDo
    shop.sql.write("UPDATE orders SET status = %s WHERE id = %s", following, order)
    if following in ("paid", "shipped"):
        shop.open_orders.append(order)


def _pay_online(shop: Shop, order: int, total: Decimal) -> None:
    method = shop.rng.choices(("card", "paypal", "bank_transfer"), (55, 36, 9))[0]
    if shop.rng.random() < 0.04:
        _pay(shop, order, total, method, "failed")
    _pay(shop, order, total, method, "captured" if method == "bank_transfer" else "authorized")


def _capture(shop: Shop, order: int) -> None:
    shop.sql.write(
        "UPDATE payments SET status = 'captured' WHERE order_id = %s AND status = 'authorized'",
        order,
    )


def _cancel(shop: Shop, order: int, store: int) -> None:
    """Put the goods back and pay back what was paid."""
    for product, quantity in shop.sql.all(
        "SELECT product_id, quantity FROM order_lines WHERE order_id = %s ORDER BY product_id",
        order,
    ):
        shop.move(store, product, "adjustment", quantity, order)
    # An authorised payment is captured first, so that each refund has its payment.
    _capture(shop, order)
    for method, amount in shop.sql.all(
        "SELECT method, amount FROM payments WHERE order_id = %s AND status = 'captured'", order
    ):
        _pay(shop, order, amount, method, "refunded")


def return_line(shop: Shop) -> None:
    """A line of a delivered order comes back, whole or in part."""
    order = shop.sql.random_id("orders", "status = 'delivered'", newest=20_000)
    (store,) = shop.sql.one(
        "SELECT store_id FROM orders WHERE id = %s AND status = 'delivered' FOR UPDATE", order
    )
    line, product, bought, price, discount, tax = shop.sql.one(
        "SELECT line_number, product_id, quantity, unit_price, discount_amount, tax_amount "
        "FROM order_lines l WHERE order_id = %s AND NOT EXISTS (SELECT 1 FROM returns r "
        "WHERE r.order_id = l.order_id AND r.line_number = l.line_number) "
        "ORDER BY line_number LIMIT 1",
        order,
    )
    quantity = bought if shop.rng.random() < 0.8 else 1
    refund = half_up((bought * price - discount + tax) * quantity / bought)
    reason = shop.rng.choice(
        ("changed_mind", "changed_mind", "damaged", "wrong_item", "not_as_described", "late")
    )
    shop.sql.write(
        "INSERT INTO returns (order_id, line_number, quantity, reason, refund_amount, returned_at) "
        "VALUES (%s, %s, %s, %s, %s, NOW(6))",
        order,
        line,
        quantity,
        reason,
        refund,
    )
    (method,) = shop.sql.one(
        "SELECT method FROM payments WHERE order_id = %s AND status = 'captured' LIMIT 1", order
    )
    _pay(shop, order, refund, method, "refunded")
    if shop.move(store, product, "return", quantity, order) and reason == "damaged":
        shop.move(store, product, "adjustment", -quantity, order)


def deleted_order(shop: Shop) -> None:
    """A cancelled order disappears with its rows. The movements stay, as the stock was moved."""
    order = shop.sql.random_id("orders", "status = 'cancelled'")
    shop.sql.one("SELECT id FROM orders WHERE id = %s AND status = 'cancelled' FOR UPDATE", order)
    for table in ("returns", "payments", "order_lines"):
        shop.sql.write(f"DELETE FROM {table} WHERE order_id = %s", order)
    shop.sql.write("DELETE FROM orders WHERE id = %s", order)
