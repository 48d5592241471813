"""Every column of every declared source table has a privacy class, and every class has a column."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.ingestion import classify

from softcart_assets.connections import MySQLConnection
from softcart_assets.lines.model import Source
from softcart_assets.lines.shop.sources import SHOP

SCHEMA = Path(__file__).resolve().parents[2] / "seed_data" / "shop" / "shop.sql"


def _columns(mysql: MySQLConnection) -> dict[str, set[str]]:
    connection = mysql.connect()
    cursor = connection.cursor()
    cursor.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = "
        "DATABASE()"
    )
    columns: dict[str, set[str]] = {}
    for table, column in cursor.fetchall():
        columns.setdefault(table, set()).add(column)
    connection.close()
    return columns


def _differences(source: Source, columns: dict[str, set[str]]) -> dict[str, set[str]]:
    """Per table, the columns that are unclassified or classified but not there."""
    return {
        t.name: odd for t in source.tables if (odd := columns.get(t.name, set()) ^ set(t.privacy))
    }


@pytest.fixture
def shop_columns(mysql) -> dict[str, set[str]]:
    connection = mysql.connect()
    cursor = connection.cursor()
    statements = "\n".join(
        line for line in SCHEMA.read_text().splitlines() if not line.startswith("--")
    )
    for statement in filter(str.strip, statements.split(";\n")):
        cursor.execute(statement)
    connection.close()
    return _columns(mysql)


def test_every_shop_column_is_classified(shop_columns):
    assert not _differences(SHOP, shop_columns)


def test_an_unclassified_column_is_found(shop_columns):
    shop_columns["customers"].add("passport_number")
    assert _differences(SHOP, shop_columns) == {"customers": {"passport_number"}}


def test_a_class_without_a_column_is_found(shop_columns):
    stores = replace(
        SHOP.table("stores"), columns=(*SHOP.table("stores").columns, *classify(none="motto"))
    )
    source = replace(SHOP, tables=(stores,))
    assert _differences(source, shop_columns) == {"stores": {"motto"}}
