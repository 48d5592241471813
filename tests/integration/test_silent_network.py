"""A network that falls silent: nothing is refused or closed, packets just do not arrive.

Waiting for an answer would then take hours. Somebody has to notice, and say so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from support.databases import database, mysql_database
from support.ingestion import load_all, query, raw_rows, run, snapshot, source_of
from support.network import Proxy, proxy_of

from softcart_assets import connections
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture.metrics import StreamCollector
from softcart_assets.ingestion.connectors.mysql import dump
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.lines.model import Source
from softcart_assets.stack import Stack
from tests.integration.test_capture import cdc, streaming, until

SOURCE = source_of(cdc("facts", "id"))
FACTS = (
    "CREATE TABLE facts (id INT PRIMARY KEY, v INT)",
    "INSERT INTO facts VALUES (1, 1), (2, 2)",
)


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few seconds instead of a minute."""
    monkeypatch.setattr(connections, "_SILENT_SECONDS", 6)
    monkeypatch.setattr(dump, "_SILENCE_SECONDS", 6.0)
    # By its name, because the package gives the function `stream` the same one.
    stream = import_module("softcart_assets.ingestion.capture.stream")
    monkeypatch.setattr(stream, "_STUCK_SECONDS", 2.0)
    monkeypatch.setattr(stream, "_LAG_SECONDS", 1.0)


@pytest.fixture
def facts(mysql: MySQLConnection) -> MySQLConnection:
    run(mysql, *FACTS)
    return mysql


@contextmanager
def silent(proxy: Proxy) -> Iterator[None]:
    proxy.fall_silent()
    try:
        yield
    finally:
        proxy.speak()


def _up(status) -> float:
    return next(
        sample.value
        for family in StreamCollector(status).collect()
        for sample in family.samples
        if sample.name == "softcart_stream_up"
    )


@pytest.mark.parametrize("side", ["source", "warehouse"])
def test_a_stream_says_that_a_side_is_silent_and_goes_on_when_it_speaks(
    facts: MySQLConnection, postgres: PostgresConnection, lake: str, side: str
) -> None:
    """The warehouse's packets were dropped for 240 s, and the stream said: no problem, lag 0."""
    load_all(SOURCE, facts, postgres, lake)
    port = facts.port if side == "source" else postgres.port
    with proxy_of(port) as proxy:
        near = replace(facts if side == "source" else postgres, port=proxy.port)
        servers = (near, postgres) if side == "source" else (facts, near)
        with streaming(SOURCE, *servers, lake) as status:
            run(facts, "INSERT INTO facts VALUES (3, 3)")
            until(lambda: (3, 3) in raw_rows(postgres, "facts"))
            until(lambda: status.lag_seconds == 0)
            assert (status.problem, _up(status)) == (None, 1)
            with silent(proxy):
                run(facts, "UPDATE facts SET v = 30 WHERE id = 3")
                until(lambda: status.problem, 40)
                assert _up(status) == 0
                before = status.lag_seconds
                assert before > 1
                time.sleep(2)
                assert status.lag_seconds > before + 1
                assert (3, 30) not in raw_rows(postgres, "facts")
            until(lambda: (3, 30) in raw_rows(postgres, "facts"))
            until(lambda: status.problem is None and status.lag_seconds == 0)
            assert _up(status) == 1


def test_the_warehouse_gives_up_sessions_that_are_lost(
    facts: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Otherwise their locks would stay for hours, and the stream would wait for itself."""
    with proxy_of(postgres.port) as proxy:
        with replace(postgres, port=proxy.port).connect() as session:
            settings = {
                name: session.execute(f"SHOW {name}").fetchone()
                for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "timezone")
            }
            session.execute("SELECT pg_advisory_lock(1)")
    assert settings == {
        "tcp_keepalives_idle": ("3",),
        "tcp_keepalives_interval": ("1",),
        "timezone": ("UTC",),
    }


def _load_while_silent(source: Source, side: str, lake: str) -> None:
    """Load with a network that falls silent on the way, and once more without it."""
    with (
        mysql_database(MySQLConnection.from_env("SOFTCART_TEST_MYSQL")) as facts,
        database() as postgres,
    ):
        run(facts, *FACTS)
        load_all(source, facts, postgres, lake)
        run(facts, "INSERT INTO facts SELECT seq, seq FROM seq_10_to_60000")
        with proxy_of(facts.port if side == "source" else postgres.port, 150_000) as proxy:
            near = replace(facts if side == "source" else postgres, port=proxy.port)
            servers = (near, postgres) if side == "source" else (facts, near)
            failures: list[BaseException] = []

            def load() -> None:
                try:
                    load_all(source, *servers, lake)
                except BaseException as error:
                    failures.append(error)

            thread = threading.Thread(target=load)
            thread.start()
            until(lambda: proxy.is_silent)
            with silent(proxy):
                thread.join(60)
                assert not thread.is_alive()
            assert isinstance(failures[0], (IngestionError, connections.ServerUnreachable)), (
                failures
            )
        load_all(source, facts, postgres, lake)
        assert query(postgres, "SELECT count(*) FROM raw_t.facts") == [(59_993,)]


def test_a_bounded_load_fails_instead_of_waiting(stack: Stack, tmp_path: Path) -> None:
    """Bounded loads said nothing for 420 s. Two of these wait at the same time."""
    sources = {"cdc": SOURCE, "snapshot": source_of(snapshot("facts", "id"))}
    # Not all four: on two processors, a load of rows could look like silence.
    with ThreadPoolExecutor(2) as loads:
        found = {
            f"{strategy}-{side}": loads.submit(
                _load_while_silent, source, side, (tmp_path / f"{strategy}-{side}").as_uri()
            )
            for strategy, source in sources.items()
            for side in ("source", "warehouse")
        }
    for name, load in found.items():
        print(name)
        load.result()


def test_a_silent_mongodb_is_noticed(mongo: MongoConnection) -> None:
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import parse_uri

    (host, port), *_ = parse_uri(mongo.uri)["nodelist"]
    with proxy_of(port) as proxy:
        uri = mongo.uri.replace(f"{host}:{port}", f"127.0.0.1:{proxy.port}")
        # The client watches the server by itself. Here it does so every second.
        more = "connectTimeoutMS=2000&heartbeatFrequencyMS=1000&serverSelectionTimeoutMS=2000"
        near = replace(mongo, uri=f"{uri}{'&' if '?' in uri else '/?'}{more}")
        with near.connect() as client:
            client[mongo.database].things.insert_many([{"_id": n} for n in range(10)])
            with silent(proxy):
                began = time.monotonic()
                with pytest.raises(PyMongoError):
                    client[mongo.database].things.find_one({"_id": 3})
                assert time.monotonic() - began < 60
