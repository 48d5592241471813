"""Every column of every declared source table has a privacy class, and every class has a column."""

from dataclasses import replace

import pytest
from support.ingestion import classify, run

from seed_data.common.mysql import statements
from seed_data.common.packages import folder_of
from softcart_assets.assembly import LINES
from softcart_assets.connections import MySQLConnection
from softcart_assets.lines.model import Source
from softcart_assets.lines.shop.sources import SHOP

MYSQL = {
    source.name: (line, source)
    for line in LINES
    for source in line.sources
    if source.kind == "mysql"
}


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


def _created(mysql: MySQLConnection, name: str) -> dict[str, set[str]]:
    """The columns of the demo's tables of a source."""
    line, _ = MYSQL[name]
    run(mysql, *statements(folder_of(line) / f"{name}.sql").values())
    return _columns(mysql)


@pytest.fixture
def shop_columns(mysql) -> dict[str, set[str]]:
    return _created(mysql, "shop")


@pytest.mark.parametrize("name", MYSQL)
def test_every_column_of_the_demo_is_classified(mysql, name):
    assert not _differences(MYSQL[name][1], _created(mysql, name))


def test_an_unclassified_column_is_found(shop_columns):
    shop_columns["customers"].add("passport_number")
    assert _differences(SHOP, shop_columns) == {"customers": {"passport_number"}}


def test_a_class_without_a_column_is_found(shop_columns):
    stores = replace(
        SHOP.table("stores"), columns=(*SHOP.table("stores").columns, *classify(none="motto"))
    )
    source = replace(SHOP, tables=(stores,))
    assert _differences(source, shop_columns) == {"stores": {"motto"}}
