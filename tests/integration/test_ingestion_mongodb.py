"""Documents into raw: typed columns found in the documents, fields that appear later, what does not
fit.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo.database import Database

from softcart_assets.connections import MongoConnection, PostgresConnection
from softcart_assets.ingestion.connectors.mongodb import reader as mongodb
from softcart_assets.ingestion.errors import LoadsFailed, MissingTable
from softcart_assets.ingestion.load import LoadRequest, changed_tables, load, loaded_positions
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import list_quarantine
from softcart_assets.lines.model import Table
from tests.support.ingestion import incremental, load_all, query, snapshot, source_of

SOURCE = source_of(incremental("docs", "_id", history=True), kind="mongodb")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(mongo: MongoConnection) -> Iterator[Database]:
    with mongo.connect() as client:
        database = client[mongo.database]
        database.docs.create_index("updated_at")
        yield database


def _set(database: Database, key: Any, **fields: Any) -> None:
    """Change a document, an hour later."""
    database.docs.update_one(
        {"_id": key}, {"$set": {**fields, "updated_at": NOON.replace(hour=13)}}, upsert=True
    )


def _doc(key: Any, **fields: Any) -> dict:
    return {"_id": key, "updated_at": NOON, **fields}


def test_documents_become_typed_rows_and_follow_changes(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    database.docs.insert_many(
        [
            _doc(
                "a",
                name="Zoë 🛒",
                n=1,
                price=5,
                deep={"x": [1, {"y": None}], "t": NOON},
                tags=["p", "q"],
                on=True,
            ),
            _doc(
                7,
                name="back\\slash\ttab\nline",
                n=Int64(2**53 + 1),
                price=19.99,
                ref=ObjectId("0" * 24),
            ),
            _doc(ObjectId("1" * 24), name=None, big=1e300, small=5e-324),
        ]
    )
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    assert {c["name"]: c["target_type"] for c in result.columns} == {
        "_id": "text", "_id_type": "text", "document": "jsonb", "updated_at": "timestamptz",
        "name": "text", "n": "bigint",
        "price": "numeric(38,18)", "deep": "jsonb", "tags": "jsonb", "on": "boolean",
        "ref": "text",
        "big": "double precision", "small": "double precision",
    }  # fmt: skip
    rows = query(
        postgres,
        'SELECT _id, _id_type, name, n, price::float8, deep, "on", ref'
        " FROM raw_t.docs ORDER BY _id",
    )
    assert rows == [
        ("111111111111111111111111", "objectId", None, None, None, None, None, None),
        ("7", "int", "back\\slash\ttab\nline", 2**53 + 1, 19.99, None, None, "0" * 24),
        (
            "a",
            "string",
            "Zoë 🛒",
            1,
            5.0,
            {"x": [1, {"y": None}], "t": {"$date": "2026-01-01T12:00:00Z"}},
            True,
            None,
        ),
    ]
    assert query(
        postgres, "SELECT document->>'name', document->'price' FROM raw_t.docs WHERE _id = '7'"
    ) == [(rows[1][2], 19.99)]
    assert len(compare(SOURCE, postgres, "docs").compared) == 13
    assert compare(SOURCE, postgres, "docs").is_equal

    _set(database, "a", colour="red")
    database.docs.delete_one({"_id": 7})
    database.docs.insert_one(
        _doc("7", name="a text, not a number")
    )  # with an old cursor, found all the same
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    assert (result.strategy, result.inserted, result.updated, result.deleted) == (
        "incremental",
        1,
        1,
        1,
    )
    assert query(postgres, "SELECT _id, _id_type, colour, _deleted FROM raw_t.docs ORDER BY _id, "
        "_id_type")[1:] == [
        ("7", "int", None, True), ("7", "string", None, False), ("a", "string", "red", False),
    ]  # fmt: skip
    assert query(postgres, "SELECT count(*) FROM raw_t.docs_history") == [(6,)]
    assert compare(SOURCE, postgres, "docs").is_equal
    assert not load_all(SOURCE, mongo, postgres, lake)["docs"].is_changed
    result = load_all(SOURCE, mongo, postgres, lake, full=True)["docs"]
    assert (result.inserted, result.updated, result.deleted, result.total) == (0, 0, 0, 3)
    assert compare(SOURCE, postgres, "docs").is_equal
    with postgres.connect() as connection:
        connection.execute("UPDATE raw_t.docs SET deep = '{\"x\": \"z\"}' WHERE _id = 'a'")
    assert compare(SOURCE, postgres, "docs").differing == ["deep"]


def test_what_does_not_fit_is_text_and_what_no_text_holds_is_quarantined(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    database.docs.insert_many(
        [_doc(n, size=n) for n in range(5)] + [_doc("odd", size="XL"), _doc("nul", s="a\0b")]
    )
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    assert (result.total, result.quarantined) == (6, 1)
    (entry,) = list_quarantine(postgres)
    assert (entry.key, entry.column_name) == (["nul", "string"], "s")
    assert json.loads(entry.row["document"] or "")["s"] == "a\0b"
    assert query(postgres, "SELECT size__text FROM raw_t.docs WHERE _id = 'odd'") == [("XL",)]
    assert compare(SOURCE, postgres, "docs").is_equal
    assert not load_all(SOURCE, mongo, postgres, lake)["docs"].is_changed
    _set(database, "odd", size=3.5)  # bigint grows
    database.docs.delete_one({"_id": "nul"})
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    assert (result.total, result.quarantined) == (6, 0)
    assert query(postgres, "SELECT sum(size)::float8, max(size__text) FROM raw_t.docs") == [
        (13.5, None)
    ]
    assert compare(SOURCE, postgres, "docs").is_equal


@pytest.mark.parametrize("is_full", [False, True])
def test_columns_that_the_first_documents_did_not_show(
    database: Database,
    mongo: MongoConnection,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    is_full: bool,
) -> None:
    """Rows leave before all documents are read; if later ones need other columns, nothing of the
    first try is left.
    """
    monkeypatch.setattr(mongodb, "_BATCH_ROWS", 10)
    source = source_of(snapshot("docs", "_id", history=True), kind="mongodb")
    if is_full:
        database.docs.insert_one(_doc("old", price=1))
        load_all(source, mongo, postgres, lake)
        database.docs.delete_one({"_id": "old"})
    database.docs.insert_many(
        [_doc(f"a{n:03}", price=n, size="bad" if n == 3 else 1) for n in range(25)]
    )
    database.docs.insert_many([_doc(f"b{n:03}", price=n + 0.5, late=True) for n in range(25)])
    result = load_all(source, mongo, postgres, lake)["docs"]
    assert (result.inserted, result.quarantined, result.rows_read) == (50, 0, 50)
    types = {column["name"]: column["target_type"] for column in result.columns}
    assert (types["price"], types["late"]) == ("numeric(38,18)", "boolean")
    assert query(
        postgres, "SELECT sum(price)::float8, count(late) FROM raw_t.docs WHERE NOT _deleted"
    ) == [(612.5, 25)]
    assert query(postgres, "SELECT count(*) FROM raw_t.docs_history") == [(52 if is_full else 50,)]
    assert compare(source, postgres, "docs").is_equal
    root = Path(lake.removeprefix("file://"))
    listed = {path for (path,) in query(postgres, "SELECT path FROM ingestion.lake_files")}
    assert {str(path.relative_to(root)) for path in root.rglob("*.parquet")} == listed
    assert query(postgres, "SELECT sum(row_count) FROM ingestion.lake_files") == [
        (52 if is_full else 50,)
    ]
    assert query(postgres, "SELECT count(*) FROM ingestion.attempts") == [(0,)]


def test_writers_go_on_during_the_loads(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    """Documents that change or go between the reading of their pairs and their own make no false
    alarm.
    """
    database.docs.insert_many([_doc(f"d{n}", n=0) for n in range(300)])
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            at = NOON + timedelta(seconds=turn)
            database.docs.replace_one(
                {"_id": f"d{turn % 300}"},
                {"_id": f"d{turn % 300}", "n": turn, "updated_at": at},
                upsert=True,
            )
            database.docs.delete_one({"_id": f"d{turn * 7 % 300}"})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(6):
            load_all(SOURCE, mongo, postgres, lake, full=turn == 4)
            comparison = compare(SOURCE, postgres, "docs")
            assert comparison.is_equal, comparison
    finally:
        stop.set()
        writer.join()
    load_all(SOURCE, mongo, postgres, lake)
    kept = sorted((document["_id"], document["n"]) for document in database.docs.find({}))
    assert query(postgres, "SELECT _id, n FROM raw_t.docs WHERE NOT _deleted ORDER BY _id") == kept


def test_decimal128_is_exact(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    exact = "12345678901234567890.123456789012"
    database.docs.insert_many(
        [_doc(1, price=Decimal128("19.90")), _doc(2, price=1), _doc(3, price=Decimal128(exact))]
    )
    load_all(SOURCE, mongo, postgres, lake)
    prices = query(postgres, "SELECT trim_scale(price)::text FROM raw_t.docs ORDER BY _id")
    assert prices == [("19.9",), ("1",), (exact,)]
    assert compare(SOURCE, postgres, "docs").is_equal


def test_changed_collections_are_told(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    source = source_of(*SOURCE.tables, snapshot("others", "_id"), kind="mongodb")
    database.docs.insert_one(_doc(1))
    database.others.insert_one({"_id": 1})
    assert set(changed_tables(source, mongo, {}).tables) == {"docs", "others"}
    load_all(source, mongo, postgres, lake)
    since = loaded_positions(postgres, source)
    assert changed_tables(source, mongo, since).tables == {}
    _set(database, 1)
    assert set(changed_tables(source, mongo, since).tables) == {"docs"}
    database.others.insert_one({"_id": 2})
    assert set(changed_tables(source, mongo, since).tables) == {"docs", "others"}


def test_a_missing_collection_is_named(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    database.docs.insert_one(_doc(1))
    source = source_of(*SOURCE.tables, snapshot("gone", "_id"), kind="mongodb")
    with pytest.raises(
        LoadsFailed, match=r"raw_t/gone: MongoDB database .* has no collection `gone`"
    ) as failed:
        list(load(LoadRequest(source, mongo, postgres, lake)))
    assert isinstance(failed.value.failures["gone"], MissingTable)
    assert query(postgres, "SELECT count(*) FROM raw_t.docs") == [(1,)]


@pytest.mark.parametrize("strategy", ["snapshot", "incremental", "cdc"])
def test_a_field_changes_its_type_between_two_loads(
    database: Database,
    mongo: MongoConnection,
    postgres: PostgresConnection,
    lake: str,
    strategy: Any,
) -> None:
    """airbytehq/airbyte#41604: 200 of 220 documents were in quarantine, and all was green."""
    table = Table("docs", "", ("_id",), strategy, (), cursor="updated_at", history=True)
    source = source_of(table, kind="mongodb")
    database.docs.insert_many([_doc(str(n), zip=n) for n in range(20)])
    load_all(source, mongo, postgres, lake)
    later = NOON.replace(hour=13)
    database.docs.insert_many(
        [{**_doc(f"s{n}", zip=f"0{n}"), "updated_at": later} for n in range(200)]
    )
    result = load_all(source, mongo, postgres, lake)["docs"]
    assert (result.total, result.quarantined) == (220, 0)
    assert any("'zip'" in warning for warning in result.warnings)
    assert query(
        postgres, "SELECT count(zip), count(zip__text), min(zip__text) FROM raw_t.docs"
    ) == [(20, 200, "00")]
    assert compare(source, postgres, "docs").is_equal
    assert not load_all(source, mongo, postgres, lake)["docs"].is_changed
    # And back: what is a number again leaves the column of text.
    database.docs.replace_one({"_id": "s7"}, {"_id": "s7", "zip": 7, "updated_at": later})
    full = load_all(source, mongo, postgres, lake, full=True)["docs"]
    assert full.updated == 1
    assert query(postgres, "SELECT zip, zip__text FROM raw_t.docs WHERE _id = 's7'") == [(7, None)]
    assert compare(source, postgres, "docs").is_equal


def test_a_cursor_of_another_type_keeps_no_document_out(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    database.docs.insert_many([_doc(n, n=n) for n in range(3)])
    database.docs.insert_one({"_id": "odd", "updated_at": "yesterday"})
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    assert (result.total, result.quarantined) == (4, 0)
    database.docs.delete_one({"_id": 1})
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    assert (result.strategy, result.updated, result.deleted) == ("incremental", 0, 1)
    assert compare(SOURCE, postgres, "docs").is_equal


def test_documents_whose_keys_are_data(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    """estuary/connectors#3261: 1,700 fields became 1,600 columns, and then no load succeeded."""
    database.docs.insert_many([{**_doc(n), f"customer {n}": n} for n in range(1700)])
    for _ in range(2):
        result = load_all(SOURCE, mongo, postgres, lake, full=True)["docs"]
        assert (result.total, result.quarantined, len(result.columns)) == (1700, 0, 400)
        assert any("no column" in warning for warning in result.warnings)
    found = query(postgres, "SELECT count(*) FROM raw_t.docs WHERE document ? ('customer ' || _id)")
    assert found == [(1700,)]


def test_fields_that_differ_in_case_only_share_no_lake_table(
    database: Database, mongo: MongoConnection, postgres: PostgresConnection, lake: str
) -> None:
    """prestodb/presto#4136, apache/spark#22148: the lake's table could no longer be refreshed."""
    database.docs.insert_one(_doc(1, Name="A", name="b"))
    result = load_all(SOURCE, mongo, postgres, lake)["docs"]
    names = [column["name"].lower() for column in result.columns]
    assert len(names) == len(set(names))
    assert any("upper and lower case" in warning for warning in result.warnings)
    assert query(postgres, "SELECT document ->> 'name' FROM raw_t.docs") == [("b",)]
