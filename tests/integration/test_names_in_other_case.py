"""Servers that take `Orders` and `orders` for one table, as on Windows, macOS and Azure."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.ingestion import load_all, mysql_rows, query, run, snapshot, source_of
from support.own_servers import PRODUCTS, own_server

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.ingestion.load import changed_tables, loaded_positions
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.lines.model import Table
from softcart_assets.stack.mysql import MySQL
from tests.integration.test_capture import cdc, streaming, until

CHANGES = (
    "INSERT INTO orders VALUES (3, 'c')",
    "UPDATE orders SET v = 'z' WHERE id = 1",
    "DELETE FROM orders WHERE id = 2",
)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_servers_spelling_counts(
    home: Path, postgres: PostgresConnection, lake: str, product: type[MySQL]
) -> None:
    """pingcap/dm#1646, apache/flink-cdc#3996, apache/doris#16393: such tables received nothing."""
    with own_server(product, home, "--lower-case-table-names=1") as server:
        # The settings, the declaration and the statements each spell the names in their own way.
        shop, source = server.connection("Shop"), source_of(cdc("Orders", "id"))
        run(
            shop,
            "CREATE TABLE ORDERS (id INT PRIMARY KEY, v VARCHAR(20))",
            "INSERT INTO orders VALUES (1, 'a'), (2, 'b')",
        )

        def raw() -> list[tuple]:
            return query(
                postgres, 'SELECT id, v FROM raw_t."Orders" WHERE NOT _deleted ORDER BY id'
            )

        load_all(source, shop, postgres, lake)
        for statements in (
            CHANGES,
            ["TRUNCATE oRDERs"],
            ["INSERT INTO orders VALUES (4, 'd')"],
            [
                "ALTER TABLE ORDERS MODIFY v VARCHAR(30) DEFAULT 'x'",
                "INSERT INTO orders VALUES (5, 'e')",
            ],
            ["CREATE TABLE o LIKE orders", "DROP TABLE SHOP.ORDERS", "RENAME TABLE o TO Orders"],
        ):
            run(shop, *statements)
            since = loaded_positions(postgres, source)
            assert set(changed_tables(source, shop, since).tables) == {"Orders"}
            load_all(source, shop, postgres, lake)
            assert raw() == mysql_rows(shop, "orders")
            assert compare(source, postgres, "Orders").is_equal
        with streaming(source, shop, postgres, lake):
            run(shop, "INSERT INTO orders VALUES (6, 'f')")
            until(lambda: raw() == [(6, "f")])
            run(shop, "TRUNCATE Shop.Orders")
            until(lambda: raw() == [])


def test_one_table_cannot_be_captured_twice(
    home: Path, mysql, postgres: PostgresConnection, lake: str
) -> None:
    """Its changes would reach one of the two copies only, and the other would stay as it was."""
    run(mysql, "CREATE TABLE orders (id INT PRIMARY KEY)")
    again = Table("again", "", ("id",), "cdc", (), source_name="orders")
    with pytest.raises(IngestionError, match="tables 'orders' and 'again' are both `orders`"):
        load_all(source_of(cdc("orders", "id"), again), mysql, postgres, lake)
    # Whoever reads the table as a whole has all of it.
    other = Table("other", "", ("id",), "snapshot", (), source_name="orders")
    source = source_of(snapshot("orders", "id"), other)
    load_all(source, mysql, postgres, lake)
    run(mysql, "INSERT INTO orders VALUES (1)")
    assert set(changed_tables(source, mysql, loaded_positions(postgres, source)).tables) == {
        "orders",
        "other",
    }
