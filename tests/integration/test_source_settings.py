"""What is wrong with a source's settings is told at once, by the doctor and by loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.ingestion import load_all, run, source_of
from support.own_servers import PRODUCTS, own_server

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.findings import Finding
from softcart_assets.ingestion.errors import IngestionError, MissingGrant
from softcart_assets.lines.model import Source
from softcart_assets.stack import Stack, doctor
from softcart_assets.stack.mysql import MySQL
from tests.integration.test_capture import cdc, streaming

ORDERS = replace(source_of(cdc("orders", "id")), name="coupons", prefix="SOFTCART_COUPONS")
TABLE = (
    "CREATE TABLE orders (id INT PRIMARY KEY, v VARCHAR(20))",
    "INSERT INTO orders VALUES (1, 'a'), (2, 'b')",
)


def told(
    source: Source, connection: MySQLConnection, home: Path, patch: pytest.MonkeyPatch
) -> list[Finding]:
    """What the doctor says of a source of that connection."""
    for name in ("host", "port", "user", "password", "database"):
        patch.setenv(f"{source.env_prefix}_{name.upper()}", str(getattr(connection, name)))
    stack = Stack(home / "nowhere", sources=[source])
    return [each for each in doctor.examine(stack) if each.text.startswith(source.env_prefix)]


def blocks(found: list[Finding]) -> str:
    return "\n".join(each.text for each in found if each.level == "blocks")


@pytest.fixture
def reader(any_mysql: MySQLConnection) -> Iterator[MySQLConnection]:
    """A user without any privilege but to log in."""
    user = f"u{any_mysql.database[-8:]}"
    run(any_mysql, *TABLE, f"CREATE USER {user} IDENTIFIED BY 'x'")
    yield replace(any_mysql, user=user, password="x")
    run(any_mysql, f"DROP USER {user}")


def test_the_documented_privileges_are_enough(
    any_mysql: MySQLConnection,
    reader: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(
        any_mysql,
        f"GRANT SELECT ON {any_mysql.database}.* TO {reader.user}",
        f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {reader.user}",
    )
    found = told(ORDERS, reader, tmp_path, monkeypatch)
    assert [each.level for each in found] == ["ok", "ok"]
    assert load_all(ORDERS, reader, postgres, lake)["orders"].total == 2


@pytest.mark.parametrize("kept", ["REPLICATION SLAVE", "REPLICATION CLIENT"])
def test_a_missing_privilege_is_named(
    any_mysql: MySQLConnection,
    reader: MySQLConnection,
    postgres: PostgresConnection,
    lake: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kept: str,
) -> None:
    grant = f"GRANT {kept} ON *.* TO {reader.user}"
    run(any_mysql, f"GRANT SELECT ON {any_mysql.database}.* TO {reader.user}", grant)
    needed = "GRANT REPLICATION CLIENT, REPLICATION SLAVE ON"
    assert needed in blocks(told(ORDERS, reader, tmp_path, monkeypatch))
    with pytest.raises(MissingGrant, match=needed):
        load_all(ORDERS, reader, postgres, lake)
    with pytest.raises(MissingGrant, match=needed), streaming(ORDERS, reader, postgres, lake):
        pass
    # Also where the log is followed already.
    load_all(ORDERS, any_mysql, postgres, lake)
    run(any_mysql, "DELETE FROM orders")
    with pytest.raises(MissingGrant, match=needed):
        load_all(ORDERS, reader, postgres, lake)


def test_select_is_tried_on_each_table(
    any_mysql: MySQLConnection,
    reader: MySQLConnection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run(
        any_mysql,
        "CREATE TABLE hidden (id INT PRIMARY KEY)",
        f"GRANT SELECT ON {any_mysql.database}.orders TO {reader.user}",
        f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {reader.user}",
    )
    source = replace(ORDERS, tables=(*ORDERS.tables, cdc("hidden", "id")))
    said = blocks(told(source, reader, tmp_path, monkeypatch))
    assert "may not read `hidden`" in said
    assert "`orders`" not in said


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_doctor_names_everything_at_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, product: type[MySQL]
) -> None:
    """It used to pass a server whose log is useless. Each error came only after the last one."""
    options = ("--binlog-row-image=MINIMAL", "--binlog-row-metadata=MINIMAL")
    with own_server(product, home, *options) as server:
        shop = server.connection()
        said = blocks(told(ORDERS, replace(shop, password="wrong"), tmp_path, monkeypatch))
        assert "SOFTCART_COUPONS: MySQL database 'shop' at 127.0.0.1" in said
        assert "Access denied" in said
        run(
            shop,
            *TABLE,
            "CREATE USER reader@'%' IDENTIFIED BY 'secret'",
            "GRANT INSERT ON shop.orders TO reader@'%'",
        )
        reader = replace(shop, user="reader", password="secret")
        said = blocks(told(ORDERS, reader, tmp_path, monkeypatch))
        assert "GRANT SELECT ON `shop`.*" in said
        assert "binlog_row_image=FULL, binlog_row_metadata=FULL" in said
        assert "GRANT REPLICATION CLIENT" in said


@pytest.mark.parametrize("product", PRODUCTS)
def test_another_server_behind_the_prefix_is_called_so(
    home: Path, postgres: PostgresConnection, lake: str, product: type[MySQL]
) -> None:
    with own_server(product, home) as one, own_server(product, home, "--server-id=2") as other:
        for server in (one, other):
            run(server.connection(), *TABLE)
        load_all(ORDERS, one.connection(), postgres, lake)
        expected = r"is server '.*SOFTCART_SHOP_HOST.*replaced, run `softcart resnapshot coupons`"
        with pytest.raises(IngestionError, match=expected) as failed:
            load_all(ORDERS, other.connection(), postgres, lake)
        assert "no longer has the binary log" not in str(failed.value)


def test_dagster_needs_its_schema_and_not_the_right_to_make_others(
    postgres: PostgresConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"r_{postgres.database}"
    for name in ("host", "port", "database"):
        monkeypatch.setenv(f"SOFTCART_DAGSTER_{name.upper()}", str(getattr(postgres, name)))
    monkeypatch.setenv("SOFTCART_DAGSTER_USER", role)
    monkeypatch.setenv("SOFTCART_DAGSTER_PASSWORD", "x")

    def levels() -> list[str]:
        found = doctor.examine(Stack(tmp_path / "nowhere", sources=[]))
        return [each.level for each in found if each.text.startswith("SOFTCART_DAGSTER")]

    with postgres.connect(autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
        try:
            admin.execute(f"GRANT CREATE ON DATABASE {postgres.database} TO {role}")
            assert levels() == ["blocks"]
            admin.execute(f"REVOKE CREATE ON DATABASE {postgres.database} FROM {role}")
            admin.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
            assert levels() == ["ok"]
        finally:
            admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
