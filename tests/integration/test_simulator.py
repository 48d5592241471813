"""The simulator on real servers: the shop's invariants hold while it writes, and when its
connections are cut.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pymysql
import pytest
from support.databases import mongo_database, mysql_database

from seed_data.common.seeding import seed
from seed_data.common.simulation import simulate
from seed_data.common.traffic import Simulation, SimulationError, run_together
from seed_data.shop.traffic import ShopTraffic
from softcart_assets.assembly import LINES
from softcart_assets.connections import MongoConnection, MySQLConnection, ServerUnreachable
from softcart_assets.stack import Stack

SHOP = LINES.line("shop")

BROKEN = {
    "an order's total is that of its lines": """
        SELECT o.id FROM orders o LEFT JOIN order_lines l ON l.order_id = o.id GROUP BY o.id
        HAVING MAX(o.total_amount) <> COALESCE(SUM(quantity * unit_price - discount_amount +
          tax_amount), 0)
            + MAX(o.shipping_amount) OR COUNT(l.order_id) = 0""",
    "tax is rounded half up": """
        SELECT order_id FROM order_lines
        WHERE tax_amount <> ROUND((quantity * unit_price - discount_amount) * tax_rate, 2)""",
    "payments are the order's total": """
        SELECT o.id FROM orders o LEFT JOIN payments p ON p.order_id = o.id
          AND p.status IN ('authorized', 'captured')
        WHERE o.status IN ('paid', 'shipped', 'delivered')
        GROUP BY o.id HAVING COALESCE(SUM(p.amount), 0) <> MAX(o.total_amount)""",
    "what a cancelled order had paid is paid back": """
        SELECT p.order_id FROM payments p JOIN orders o ON o.id = p.order_id
          WHERE o.status = 'cancelled'
        GROUP BY p.order_id
        HAVING SUM(IF(p.status = 'captured', amount, 0)) <> SUM(IF(p.status = 'refunded', amount,
          0))
            OR SUM(p.status = 'authorized') > 0""",
    "refunds are those of the returns": """
        SELECT o.id FROM orders o WHERE o.status <> 'cancelled' AND
            (SELECT COALESCE(SUM(amount), 0) FROM payments p WHERE p.order_id = o.id
              AND p.status = 'refunded')
            <> (SELECT COALESCE(SUM(refund_amount), 0) FROM returns r WHERE r.order_id = o.id)""",
    "movements add up to the stock": """
        SELECT i.store_id FROM inventory i LEFT JOIN inventory_movements m USING (store_id,
          product_id)
        GROUP BY i.store_id, i.product_id HAVING COALESCE(SUM(m.quantity),
          0) <> MAX(i.quantity_on_hand)""",
    "no stock is negative": "SELECT store_id FROM inventory WHERE quantity_on_hand < 0",
    "customers have one primary address": """
        SELECT c.id FROM customers c LEFT JOIN addresses a ON a.customer_id = c.id AND a.is_primary
        GROUP BY c.id HAVING COUNT(a.id) <> 1""",
    "lines, payments and returns have their order": """
        SELECT order_id FROM order_lines WHERE order_id NOT IN (SELECT id FROM orders)
        UNION ALL SELECT order_id FROM payments WHERE order_id NOT IN (SELECT id FROM orders)
        UNION ALL SELECT order_id FROM returns WHERE order_id NOT IN (SELECT id FROM orders)""",
}
"""Queries that find the rows which break an invariant."""


@dataclass(frozen=True)
class Sources:
    """The shop's databases."""

    mysql: MySQLConnection
    mongo: MongoConnection


@pytest.fixture(scope="module")
def seeded(spark, stack: Stack) -> Iterator[Sources]:
    """Seeded sources."""
    with (
        mysql_database(MySQLConnection.from_env("SOFTCART_SHOP")) as mysql,
        mongo_database(MongoConnection.from_env("SOFTCART_CATALOG")) as mongo,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("SOFTCART_SHOP_DATABASE", mysql.database)
        patch.setenv("SOFTCART_CATALOG_DATABASE", mongo.database)
        seed([SHOP], scale=0.01, seed=2, spark=spark)
        yield Sources(mysql, mongo)


@pytest.fixture
def simulator(seeded: Sources) -> Iterator[Simulation]:
    """A simulation on them."""
    with closing(ShopTraffic({source.name: source for source in SHOP.sources}, 1)) as traffic:
        yield Simulation("shop", traffic, seed=1)


def _check(mysql: MySQLConnection) -> None:
    with mysql.connect() as connection, connection.cursor() as cursor:
        for invariant, query in BROKEN.items():
            cursor.execute(f"{query} LIMIT 5")
            assert cursor.fetchall() == (), invariant


def test_the_rate_is_kept_and_invariants_hold_under_traffic_and_when_connections_are_cut(
    simulator: Simulation, seeded: Sources
) -> None:
    mysql, mongo = seeded.mysql, seeded.mongo
    _check(mysql)
    started = time.monotonic()
    simulator.run(rate=40, duration=1)
    assert 1 <= time.monotonic() - started < 3
    assert 20 <= simulator.counts.total() <= 41
    simulator.counts.clear()

    before = datetime.now(UTC)
    simulator.run(rate=10_000, duration=4)
    _check(mysql)
    undisturbed = simulator.counts.copy()
    assert undisturbed.total() > 4 * 200
    assert set(undisturbed) > {
        "new_order",
        "order_status",
        "return",
        "product_edit",
        "address_change",
        "stock_movement",
    }
    with mysql.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT COUNT(*) FROM orders WHERE updated_at > %s", (before.replace(tzinfo=None),)
        )
        assert cursor.fetchone()[0] >= undisturbed["new_order"] - undisturbed["deleted_order"]
    with mongo.connect() as client:
        edited = client[mongo.database].products.count_documents(
            {"updated_at": {"$gte": before - timedelta(milliseconds=1)}}
        )
    assert edited > 0

    stop = threading.Event()

    def cut() -> None:
        """What the simulator sees when the server restarts: its connection is gone, at any moment
        of a transaction.
        """
        with mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
            while not stop.wait(0.05):
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> "
                    "CONNECTION_ID()"
                )
                for (process,) in cursor.fetchall():
                    cursor.execute(f"KILL {process}")

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        simulator.run(rate=10_000, duration=3)
    finally:
        stop.set()
        cutter.join()
    assert simulator.counts.total() > undisturbed.total() + 100
    simulator.run(rate=10_000, duration=0.5)
    _check(mysql)


def test_empty_sources_are_named(
    mysql: MySQLConnection, mongo: MongoConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTCART_SHOP_DATABASE", mysql.database)
    monkeypatch.setenv("SOFTCART_CATALOG_DATABASE", mongo.database)
    with pytest.raises(SimulationError, match="softcart seed"):
        simulate([SHOP], duration=1)


def test_a_database_with_other_data_is_not_written_to(seeded: Sources) -> None:
    """A company's own database may have tables with our names and columns."""
    orders = "SELECT COUNT(*), MAX(updated_at) FROM orders"
    comment = (
        "SELECT table_comment FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name = %s"
    )
    with seeded.mysql.connect(autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(orders)
        before = cursor.fetchone()
        for table, theirs, message in (
            ("customers", "The customers.", r"\(customers\)"),
            ("orders", "SoftCart seed data for shop:", "no finished seed data in orders"),
        ):
            cursor.execute(comment, [table])
            ours = cursor.fetchone()
            cursor.execute(f"ALTER TABLE {table} COMMENT = %s", [theirs])
            with pytest.raises(SimulationError, match=message):
                simulate([SHOP], rate=1_000, duration=1)
            cursor.execute(f"ALTER TABLE {table} COMMENT = %s", ours)
        cursor.execute("CREATE TABLE loans (id INT)")
        with pytest.raises(SimulationError, match=r"\(loans\)"):
            simulate([SHOP], rate=1_000, duration=1)
        cursor.execute("DROP TABLE loans")
        cursor.execute(orders)
        assert cursor.fetchone() == before


class _Traffic:
    """Counts in memory; what `problems` holds is raised by the next operations."""

    weights: ClassVar[dict[str, float]] = {"insert": 1, "delete": 1}

    def __init__(self) -> None:
        self.connections = 1
        self.at_once = 3
        self.largest = 0
        self.problems: list[Exception] = []
        self.away = 0

    def connect(self) -> None:
        if self.away:
            self.away -= 1
            raise ServerUnreachable("The server is away.")
        self.connections += 1

    def perform(self, operations: Sequence[str]) -> Sequence[str]:
        self.largest = max(self.largest, len(operations))
        if self.problems:
            raise self.problems.pop()
        return operations

    def another(self) -> _Traffic:
        raise NotImplementedError

    def close(self) -> None:
        self.connections -= 1


def test_a_server_that_goes_away_is_waited_for() -> None:
    traffic = _Traffic()
    traffic.problems = [pymysql.OperationalError(2013, "Lost connection")]
    traffic.away = 1
    simulation = Simulation("test", traffic, seed=1)
    simulation.run(rate=100, duration=0.5)
    assert traffic.connections == 1
    assert 10 < simulation.counts.total() < 50
    assert traffic.largest == 2  # what comes in 20 ms
    simulation.run(rate=1_000, duration=0.1)
    assert traffic.largest == 3
    traffic.problems = [pymysql.ProgrammingError(1146, "There is no such table")]
    with pytest.raises(pymysql.ProgrammingError):
        simulation.run(rate=100, duration=0.5)


def test_lines_run_together_until_one_fails() -> None:
    good, bad = _Traffic(), _Traffic()
    simulations = [Simulation("good", good), Simulation("bad", bad)]
    run_together(simulations, rate=100, duration=0.3)
    assert all(each.counts.total() > 10 for each in simulations)
    bad.problems = [ValueError("broken")]
    started = time.monotonic()
    with pytest.raises(ValueError, match="broken"):
        run_together(simulations, rate=100, duration=None)
    assert time.monotonic() - started < 5
