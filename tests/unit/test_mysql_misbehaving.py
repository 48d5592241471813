"""MySQL servers that fall silent, go away or say what nobody asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pymysql
import pytest
from support.certificates import Authority
from support.impostor import END, OK, Client, column, impostor

from seed_data.common.model import SeedError
from seed_data.common.mysql import MySQLDatabase
from softcart_assets import connections
from softcart_assets.connections import (
    MySQLConnection,
    PostgresConnection,
    ServerUnreachable,
    Tls,
)
from softcart_assets.ingestion.connectors.mysql.dump import Dump
from softcart_assets.ingestion.connectors.mysql.session import Session
from softcart_assets.ingestion.errors import SourceLost
from softcart_assets.ingestion.types import Column

ROW = b"\x01x"
REFUSAL = b"\xff\x10\x04#08004Too many connections"


def tables(connection: MySQLConnection) -> None:
    connection.connect().close()


def log(connection: MySQLConnection) -> None:
    Dump(connection, 1).close()


EITHER = pytest.mark.parametrize("opened", [tables, log])
"""Two connections: one reads tables, the other one the binary log."""


@EITHER
def test_a_server_that_falls_silent_in_the_tls_handshake_is_given_up(
    opened: Callable[[MySQLConnection], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The load waited for it, and Ctrl-C was the only end."""
    monkeypatch.setattr(connections, "_CONNECT_SECONDS", 0.5)

    def silent(client: Client, _: int) -> None:
        client.greet(has_tls=True)
        while client.connection.recv(1 << 16):
            pass

    began = time.monotonic()
    tls = Tls(str(Authority(tmp_path, "trusted").ca))
    with (
        impostor(silent, tls) as connection,
        pytest.raises((ServerUnreachable, SourceLost), match="SOFTCART_SHOP_HOST"),
    ):
        opened(connection)
    assert time.monotonic() - began < 10


@EITHER
def test_without_a_ca_no_connection_asks_for_tls(
    opened: Callable[[MySQLConnection], None],
) -> None:
    """Encryption without proof looks like safety. The binary log was read that way."""
    asked: list[bool] = []

    def watch(client: Client, _: int) -> None:
        client.greet(has_tls=True)
        flags = client.receive()[:4]
        asked.append(bool(int.from_bytes(flags, "little") & pymysql.constants.CLIENT.SSL))
        client.send(2, REFUSAL)

    with (
        impostor(watch) as connection,
        pytest.raises((ServerUnreachable, SourceLost), match="Too many connections"),
    ):
        opened(connection)
    assert asked == [False]


@pytest.mark.parametrize(
    ("kind", "opened"),
    [(MySQLConnection, tables), (MySQLConnection, log), (PostgresConnection, tables)],
)
def test_a_name_that_no_host_can_have_is_told(kind: Any, opened: Callable[[Any], None]) -> None:
    with pytest.raises((ServerUnreachable, SourceLost), match=r"(?s)label.*SOFTCART_SHOP_HOST"):
        opened(kind("SOFTCART_SHOP", "db..example.com", 1, "user", "", "shop"))


def _answer(client: Client, rows: Callable[[], None]) -> None:
    """Serve a client. Each query of a table gets its rows, all others nothing."""
    client.let_in()
    while True:
        if b"FROM facts" not in client.receive():
            client.send(1, OK)
            continue
        client.send(1, b"\x01", column(b"v"), END)
        rows()


COLUMNS = [Column("v", "", "text")]


def test_rows_that_nobody_could_cut_off_are_not_the_next_answer() -> None:
    """Such as when the server has no connection left for whoever kills the query."""

    def serve(client: Client, number: int) -> None:
        if number:
            client.send(0, REFUSAL)
        else:
            _answer(client, lambda: client.send(4, *[ROW] * 1000, *[OK] * 100))

    with impostor(serve) as connection, closing(Session(connection)) as session:
        reader = session.read("SELECT v FROM facts", COLUMNS)
        assert reader.read(1, 1)
        session.reset()
        with pytest.raises(pymysql.MySQLError):
            session.query("SELECT 1")


@pytest.mark.parametrize(
    ("more", "told"), [([END, OK], "more than the rows"), ([b"\x01x\x01y"], "another number")]
)
def test_what_breaks_the_protocol_is_not_the_next_answer(more: list[bytes], told: str) -> None:
    def serve(client: Client, _: int) -> None:
        # At once, so that it is received at once.
        payloads = [*more, OK]
        parts = [
            len(each).to_bytes(3, "little") + bytes([4 + index]) + each
            for index, each in enumerate(payloads)
        ]
        _answer(client, lambda: client.connection.sendall(b"".join(parts)))

    with impostor(serve) as connection, closing(Session(connection)) as session:
        reader = session.read("SELECT v FROM facts", COLUMNS)
        with pytest.raises(pymysql.OperationalError, match=told):
            reader.read(10, 1000)
        with pytest.raises(pymysql.OperationalError, match="broke the protocol"):
            reader.read(10, 1000)
        with pytest.raises(RuntimeError, match="not all read"):
            session.query("SELECT 1")
        session.reset()
        with pytest.raises(pymysql.MySQLError):
            session.query("SELECT 1")


def test_a_seed_says_that_its_server_went_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client library fails with an error of its own then."""
    folder = tmp_path / "shop.facts"
    folder.mkdir()
    pq.write_table(pa.table({"v": ["x" * 1000] * 20_000}), folder / "0.parquet")

    def serve(client: Client, _: int) -> None:
        client.let_in()
        while True:
            if b"LOAD DATA" in client.receive():
                client.send(1, b"\xfb" + str(folder / "pipe").encode())
                client.receive()
                client.hang_up()
                return
            client.send(1, OK)

    with impostor(serve) as connection:
        monkeypatch.setattr(MySQLConnection, "from_env", lambda _: connection)
        source: Any = SimpleNamespace(name="shop", env_prefix="SOFTCART_SHOP", tables=())
        database = MySQLDatabase(source, tmp_path / "nonesuch.sql")
        table: Any = SimpleNamespace(at_source="facts")
        with pytest.raises(SeedError, match=r"did not load shop.facts: the server closed"):
            database.load(table, folder, lambda rows: None)
