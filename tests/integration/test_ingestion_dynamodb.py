"""Tables of DynamoDB on the local server: scans, streams, and what is lost after 24 hours."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from seed_data.common.dynamodb import DynamoDatabase
from seed_data.common.model import TableDesign
from softcart_assets.connections import DynamoConnection, PostgresConnection
from softcart_assets.ingestion.connectors.dynamodb import followed, streams
from softcart_assets.ingestion.connectors.dynamodb.positions import place_of
from softcart_assets.ingestion.connectors.dynamodb.privileges import examine
from softcart_assets.ingestion.connectors.dynamodb.reader import DynamoReader
from softcart_assets.ingestion.errors import LoadsFailed
from softcart_assets.ingestion.load import changed_tables
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.lines.model import RunningTotal, Source, Table
from softcart_assets.stack.dynamodb import DynamoDB
from softcart_assets.stack.server import free_port
from tests.support.ingestion import classify, load_all, query

CLASSES = classify(none="id n expires_at")
FOLLOWED = Table("sessions", "", ("id",), "cdc", CLASSES, history=True)
SCANNED = replace(FOLLOWED, strategy="snapshot")


def source_of(*tables: Table) -> Source:
    return Source("t", "dynamodb", "", tables, owner="team:test", prefix="SOFTCART_X")


class Items:
    """A table at the source."""

    def __init__(self, connection: DynamoConnection, view: str = "NEW_AND_OLD_IMAGES") -> None:
        self.connection, self.client = connection, connection.client()
        self.name = connection.table_prefix + "sessions"
        self.client.create_table(
            TableName=self.name,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": view},
        )

    def put(self, id_: str, **values: Any) -> None:
        self.client.put_item(TableName=self.name, Item={"id": {"S": id_}, **values})

    def delete(self, id_: str) -> None:
        self.client.delete_item(TableName=self.name, Key={"id": {"S": id_}})


@pytest.fixture
def items(dynamo: DynamoConnection) -> Items:
    return Items(dynamo)


@contextmanager
def own_server(kind: type[DynamoDB], folder: Path) -> Iterator[tuple[DynamoDB, DynamoConnection]]:
    """A server of the test's own, running, and the way to it."""
    server = kind(folder / "home", free_port(), "unchecked", {"X": "x"})
    server.up()
    try:
        settings = server.environment("X")
        yield (
            server,
            DynamoConnection(
                "X", settings["X_REGION"], settings["X_ENDPOINT"], "softcart", "unchecked", "x."
            ),
        )
    finally:
        server.down()


def rows(postgres: PostgresConnection, more: str = "") -> list[tuple]:
    return query(
        postgres, f"SELECT id, n FROM raw_t.sessions WHERE NOT _deleted {more} ORDER BY id"
    )


def number(value: object) -> dict[str, str]:
    return {"N": str(value)}


def test_a_scan_reads_every_item_in_several_segments(
    items: Items, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    for n in range(300):
        items.put(f"{n:03}", n=number(n))
    reader = DynamoReader(source_of(SCANNED), dynamo, segments=7)
    _, batches = reader.all_rows(SCANNED, reader.columns(SCANNED, ()))
    found = [value for batch in batches for value in batch.rows.column("n").to_pylist()]
    assert sorted(found) == list(range(300))
    result = load_all(source_of(SCANNED), dynamo, postgres, lake)["sessions"]
    assert (result.strategy, result.inserted) == ("snapshot", 300)
    items.delete("007")
    result = load_all(source_of(SCANNED), dynamo, postgres, lake)["sessions"]
    assert (result.inserted, result.updated, result.deleted) == (0, 0, 1)


def test_values_are_exact(
    items: Items, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    digits = "12345678901234567890123456789012345678"
    items.put(
        "a",
        n=number(digits),
        b={"B": b"\x00\xff"},
        s={"NS": ["2", "1.50"]},
        m={"M": {"x": {"L": [{"NULL": True}, number("0.1")]}}},
        e={"NULL": True},
    )
    load_all(source_of(SCANNED), dynamo, postgres, lake)
    [(n, b, document)] = query(postgres, "SELECT n, b, document::text FROM raw_t.sessions")
    assert n == Decimal(digits)
    assert bytes(b) == b"\x00\xff"
    plain = json.loads(document, parse_float=Decimal, parse_int=Decimal)
    assert plain["n"] == Decimal(digits)
    assert plain["s"] == {"$numbers": [Decimal("1.5"), Decimal(2)]}
    assert plain["m"] == {"x": [None, Decimal("0.1")]}
    assert plain["e"] is None


def test_a_table_is_followed_version_by_version(
    items: Items, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(FOLLOWED)
    items.put("a", n=number(1))
    items.put("b", n=number(2))
    first = load_all(source, dynamo, postgres, lake)["sessions"]
    assert (first.strategy, first.inserted) == ("snapshot", 2)
    assert not changed_tables(source, dynamo, {"sessions": first.position}).tables
    items.put("a", n=number(10))
    items.put("a", n=number(11))
    items.put("c", n=number(3))
    items.delete("b")
    assert changed_tables(source, dynamo, {"sessions": first.position}).tables
    second = load_all(source, dynamo, postgres, lake)["sessions"]
    assert second.strategy == "cdc"
    assert rows(postgres) == [("a", 11), ("c", 3)]
    assert query(
        postgres, "SELECT n FROM raw_t.sessions_history WHERE id = 'a' ORDER BY _version"
    ) == [(1,), (10,), (11,)]
    assert query(postgres, "SELECT removed_by FROM raw_t.sessions WHERE id = 'b'") == [("request",)]
    assert load_all(source, dynamo, postgres, lake)["sessions"].is_changed is False
    items.put("b", n=number(4))
    load_all(source, dynamo, postgres, lake)
    assert query(postgres, "SELECT n, removed_by, _deleted FROM raw_t.sessions WHERE id = 'b'") == [
        (4, None, False)
    ]


def test_totals_are_those_of_the_items(
    items: Items, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    """After each load: what is added, changed, moved to another day or deleted."""
    days = RunningTotal(
        "days", "What was done.", table="sessions", key="n", measures={"times": "*"}, by="day"
    )
    table = replace(FOLLOWED, columns=classify(none="id n day"))
    source = replace(source_of(table), totals=(days,))

    def found() -> dict[str, int]:
        load_all(source, dynamo, postgres, lake)
        assert check(postgres, source, days).wrong == 0
        told = query(postgres, "SELECT * FROM ods.days_windows(7, 1, 'UTC', now())")
        return {row[3]: int(row[4]) for row in told}

    for id_ in "abc":
        items.put(id_, n=number(7), day={"S": "2026-01-01"})
    assert found() == {"2026-01-01": 3}
    items.put("a", n=number(7), day={"S": "2026-01-02"})
    items.put("d", n=number(7), day={"S": "2026-01-01"})
    items.delete("b")
    assert found() == {"2026-01-01": 2, "2026-01-02": 1}


@pytest.mark.parametrize("at_once", [20_000, 1])
def test_what_happens_during_the_scan_is_not_lost(
    at_once: int,
    items: Items,
    dynamo: DynamoConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for n in range(20):
        items.put(f"{n:02}", n=number(n))
    scan = DynamoReader._segment

    def changed_meanwhile(self: DynamoReader, table: Table, segment: int) -> Iterator[list[Any]]:
        yield from scan(self, table, segment)
        items.put("00", n=number(100))
        items.delete("01")
        items.put("99", n=number(99))

    monkeypatch.setattr(DynamoReader, "_segment", changed_meanwhile)
    monkeypatch.setattr(followed, "_LAST_ONES_OF", at_once)
    load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    found = dict(rows(postgres))
    assert (found["00"], found.get("01"), found["99"]) == (100, None, 99)
    assert len(found) == 20


def test_raw_equals_the_table_while_somebody_writes(
    items: Items, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    is_over = threading.Event()

    def write() -> None:
        n = 0
        while not is_over.is_set():
            n += 1
            items.put(str(n % 50), n=number(n))
            if n % 7 == 0:
                items.delete(str((n * 3) % 50))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(5):
            load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    finally:
        is_over.set()
        thread.join()
    time.sleep(1.1)  # records have whole seconds here
    load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    at_source = items.client.scan(TableName=items.name)["Items"]
    assert rows(postgres) == sorted((each["id"]["S"], int(each["n"]["N"])) for each in at_source)


@pytest.mark.parametrize("view", ["KEYS_ONLY", "OLD_IMAGE", "NEW_IMAGE"])
def test_every_kind_of_stream_leads_to_the_same(
    view: str, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    items = Items(dynamo, view)
    items.put("a", n=number(1))
    load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    items.put("a", n=number(2))
    items.put("a", n=number(3))
    items.put("b", n=number(1))
    items.put("c", n=number(1))
    items.delete("c")
    load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    assert rows(postgres) == [("a", 3), ("b", 1)]


OFTEN = """
import runpy, sys, time
sleep = time.sleep
time.sleep = lambda seconds: sleep(0.2 if seconds == 60 else seconds)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Hasty(DynamoDB):
    """A server that looks for expired items all the time. ministack does so once a minute."""

    def command(self) -> list[str]:
        python, isolated, *program = super().command()
        return [python, isolated, "-c", OFTEN, *program]


def test_an_expired_item_is_told_from_a_sign_out(
    postgres: PostgresConnection, lake: str, tmp_path: Path
) -> None:
    with own_server(Hasty, tmp_path) as (_, dynamo):
        items = Items(dynamo)
        items.client.update_time_to_live(
            TableName=items.name,
            TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at"},
        )
        later = number(int(time.time()) + 36_000)
        items.put("expiring", expires_at=later)
        items.put("signing out", expires_at=later)
        load_all(source_of(FOLLOWED), dynamo, postgres, lake)
        items.delete("signing out")
        # Only now: the server may delete it at any time from here on.
        items.put("expiring", expires_at=number(int(time.time()) - 1))
        deadline = time.monotonic() + 150
        while items.client.scan(TableName=items.name)["Items"]:
            assert time.monotonic() < deadline, "the server does not look for expired items"
            time.sleep(0.1)
        load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    assert query(
        postgres, "SELECT id, removed_by FROM raw_t.sessions WHERE _deleted ORDER BY id"
    ) == [("expiring", "expiry"), ("signing out", "request")]


def test_a_load_after_more_than_a_day_says_what_is_lost(
    items: Items,
    dynamo: DynamoConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    items.put("a", n=number(1))
    load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    with monkeypatch.context() as patch:
        patch.setattr(streams, "SAFE", timedelta(0))
        with pytest.raises(LoadsFailed, match="24 hours only"):
            load_all(source_of(FOLLOWED), dynamo, postgres, lake)
        result = load_all(source_of(FOLLOWED), dynamo, postgres, lake, full=True)["sessions"]
    assert result.strategy == "snapshot"
    assert place_of(result.position)


def test_a_table_that_was_made_anew_has_another_stream(
    items: Items, dynamo: DynamoConnection, postgres: PostgresConnection, lake: str
) -> None:
    items.put("a", n=number(1))
    load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    items.client.delete_table(TableName=items.name)
    Items(dynamo).put("b", n=number(2))
    with pytest.raises(LoadsFailed, match="another stream"):
        load_all(source_of(FOLLOWED), dynamo, postgres, lake)
    load_all(source_of(FOLLOWED), dynamo, postgres, lake, full=True)
    assert rows(postgres) == [("b", 2)]


def test_the_doctor_names_what_is_missing(items: Items, dynamo: DynamoConnection) -> None:
    assert [each.level for each in examine(source_of(FOLLOWED), dynamo)] == ["ok"]
    missing = replace(FOLLOWED, name="others", source_name=None)
    (found,) = examine(source_of(missing), dynamo)
    assert found.level == "note"
    assert "no table" in found.text
    items.client.update_table(TableName=items.name, StreamSpecification={"StreamEnabled": False})
    (found,) = examine(source_of(FOLLOWED), dynamo)
    assert "has no stream" in found.text


def test_the_server_keeps_items_and_streams_over_a_restart(
    postgres: PostgresConnection, lake: str, tmp_path: Path
) -> None:
    with own_server(DynamoDB, tmp_path) as (server, connection):
        items = Items(connection)
        items.put("a", n=number(1))
        load_all(source_of(FOLLOWED), connection, postgres, lake)
        items.put("a", n=number(2))
        assert server.down()
        server.up()
        load_all(source_of(FOLLOWED), connection, postgres, lake)
        assert rows(postgres) == [("a", 2)]


def test_the_seed_writes_items_and_knows_its_own_tables(
    dynamo: DynamoConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for suffix in ("region", "endpoint", "table_prefix"):
        monkeypatch.setenv(f"SOFTCART_X_{suffix.upper()}", getattr(dynamo, suffix))
    monkeypatch.setenv("SOFTCART_X_ACCESS_KEY_ID", dynamo.access_key)
    monkeypatch.setenv("SOFTCART_X_SECRET_ACCESS_KEY", dynamo.secret_key)
    designs = {"sessions": TableDesign({"id": "S"}, expires_at="expires_at")}
    database = DynamoDatabase(source_of(FOLLOWED), designs)
    assert database.marks() == {}
    database.recreate([FOLLOWED])
    assert database.put(FOLLOWED, [{"id": {"S": "a"}, "b": {"B": "AP8="}}]) == 1
    database.complete([FOLLOWED], "scale=1")
    assert database.marks() == {"sessions": f"{database.mark} scale=1"}
    (item,) = dynamo.client().scan(TableName=f"{dynamo.table_prefix}sessions")["Items"]
    assert item["b"]["B"] == b"\x00\xff"
