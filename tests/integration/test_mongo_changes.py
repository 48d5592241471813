"""Collections that are followed by their change stream: on the local server, and by what a replica
set's events say.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import random
import shutil
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import psycopg
import pyarrow.dataset as ds
import pymongo
import pymongo.errors
import pytest
from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection
from pymongo.database import Database

from softcart_assets.audits import raw as audits
from softcart_assets.connections import MongoConnection, PostgresConnection
from softcart_assets.ingestion.capture import Status, repeated, stream
from softcart_assets.ingestion.connectors.mongodb import followed, values
from softcart_assets.ingestion.connectors.mongodb.connector import MongoConnector
from softcart_assets.ingestion.connectors.mongodb.positions import token_of
from softcart_assets.ingestion.connectors.mongodb.reader import MongoReader
from softcart_assets.ingestion.errors import LoadsFailed
from softcart_assets.ingestion.load import (
    LoadRequest,
    LoadResult,
    changed_tables,
    is_followed,
    loaded_positions,
    replay,
)
from softcart_assets.ingestion.proof.verify import compare
from softcart_assets.ingestion.quarantine import list_quarantine
from softcart_assets.ingestion.sinks.ods.rebuild import check
from softcart_assets.lines.model import RunningTotal, Source, Table
from softcart_assets.stack.mongo import Mongo
from softcart_assets.stack.server import free_port
from tests.support.ingestion import classify, load_all, query, source_of

CLASSES = classify(none="_id updated_at n size s colour price")
TABLE = Table("docs", "", ("_id",), "cdc", CLASSES, cursor="updated_at", history=True)
SOURCE = source_of(TABLE, kind="mongodb")
WITHOUT_CURSOR = source_of(replace(TABLE, cursor=None), kind="mongodb")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def database(mongo: MongoConnection) -> Iterator[Database]:
    with mongo.connect() as client:
        database = client[mongo.database]
        database.docs.create_index("updated_at")
        yield database


class Loader:
    """Loads the collection, and tells whether raw, its history and the lake hold what it holds."""

    def __init__(
        self,
        mongo: MongoConnection,
        postgres: PostgresConnection,
        lake: str,
        source: Source = SOURCE,
    ) -> None:
        self.mongo, self.postgres, self.lake, self.source = mongo, postgres, lake, source

    def __call__(self, **options: Any) -> LoadResult:
        return load_all(self.source, self.mongo, self.postgres, self.lake, **options)["docs"]

    def assert_equal(self) -> None:
        with self.mongo.connect() as client:
            documents = list(client.get_database(self.mongo.database, values.OPTIONS).docs.find())
        quarantined = {tuple(e.key) for e in list_quarantine(self.postgres) if e.key}
        at_source = {values.id_text(d["_id"]): json.loads(values.json_text(d)) for d in documents}
        rows = query(
            self.postgres, "SELECT _id, _id_type, document FROM raw_t.docs WHERE NOT _deleted"
        )
        in_raw = {(key, type_): document for key, type_, document in rows}
        assert len(rows) == len(in_raw)
        assert {k: v for k, v in in_raw.items() if k not in quarantined} == {
            k: v for k, v in at_source.items() if k not in quarantined
        }
        self.assert_consistent()

    def assert_consistent(self) -> None:
        """History's newest versions are raw, no version repeats the one before, and the lake has
        every one.
        """
        rows = query(
            self.postgres, "SELECT _id, _id_type, document, _deleted FROM raw_t.docs ORDER BY 1, 2"
        )
        newest = (
            "SELECT DISTINCT ON (_id, _id_type) _id, _id_type, document, _deleted FROM "
            "raw_t.docs_history"
            " ORDER BY _id, _id_type, _version DESC"
        )
        assert query(self.postgres, newest) == rows
        repeated = (
            "SELECT count(*) FROM (SELECT (document, _deleted) IS NOT DISTINCT FROM lag((document, "
            "_deleted))"
            " OVER (PARTITION BY _id, _id_type ORDER BY _version) AS same FROM raw_t.docs_history) "
            "h WHERE same"
        )
        assert query(self.postgres, repeated) == [(0,)]
        assert (
            len(self.in_lake())
            == query(self.postgres, "SELECT count(*) FROM raw_t.docs_history")[0][0]
        )

    def in_lake(self) -> list[dict]:
        root = Path(self.lake.removeprefix("file://"))
        listed = {
            path
            for (path,) in query(
                self.postgres, "SELECT path FROM ingestion.lake_files ORDER BY loaded_at"
            )
        }
        found = {str(path.relative_to(root)) for path in root.rglob("*.parquet")}
        assert found == listed
        return [
            row
            for path in sorted(listed)
            for row in ds.dataset(str(root / path)).to_table().to_pylist()
        ]


@pytest.fixture
def loader(mongo: MongoConnection, postgres: PostgresConnection, lake: str) -> Loader:
    return Loader(mongo, postgres, lake)


def _doc(key: Any, **fields: Any) -> dict:
    return {"_id": key, "updated_at": NOON, **fields}


def test_what_happened_is_applied(database: Database, loader: Loader) -> None:
    docs = database.docs
    docs.insert_many(
        [
            _doc("a", n=1),
            _doc(7, n=1),
            _doc(ObjectId("1" * 24), n=1),
            _doc("gone", n=1),
            _doc(1.5, n=1),
        ]
    )
    result = loader()
    assert (result.strategy, result.inserted, result.warnings) == ("snapshot", 5, [])
    assert token_of(result.position)
    assert compare(SOURCE, loader.postgres, "docs").is_equal
    loader.assert_equal()

    result = loader()
    assert (result.strategy, result.is_changed, result.rows_read) == ("cdc", False, 0)

    # With the cursor as it was: a comparison of keys and cursors would not see the replaced ones.
    docs.replace_one({"_id": "a"}, _doc("a", n=2))
    docs.replace_one({"_id": 7}, _doc(7, n=2, colour="red"))
    docs.replace_one({"_id": ObjectId("1" * 24)}, _doc(ObjectId("1" * 24), n=2))
    docs.replace_one({"_id": 1.5}, _doc(1.5, n=2))
    docs.delete_one({"_id": "gone"})
    docs.insert_many([_doc("b", n=1), _doc("2" * 24, n=1), _doc("12", n=1), _doc(12345, n=1)])
    docs.insert_one(_doc("brief", n=1))
    docs.delete_one({"_id": "brief"})
    docs.bulk_write(
        [
            pymongo.ReplaceOne({"_id": "c"}, _doc("c", n=1), upsert=True),
            pymongo.DeleteOne({"_id": "b"}),
        ]
    )
    result = loader()
    # Also those that came and went are versions of the history.
    assert (result.inserted, result.updated, result.deleted) == (6, 4, 3)
    loader.assert_equal()
    assert {("a", "update"), ("gone", "delete"), ("c", "insert"), ("12345", "insert")} <= {
        (row["_id"], row.get("_operation")) for row in loader.in_lake()
    }
    assert compare(SOURCE, loader.postgres, "docs").is_equal
    assert not loader().is_changed

    # One whose type changes under the same text.
    docs.delete_one({"_id": 7})
    docs.insert_one(_doc("7", n=3))
    result = loader()
    assert (result.strategy, result.inserted, result.updated, result.deleted) == ("cdc", 1, 0, 1)
    loader.assert_equal()
    result = loader(full=True)
    assert (result.inserted, result.updated, result.deleted) == (0, 0, 0)
    assert compare(SOURCE, loader.postgres, "docs").is_equal


def test_without_a_cursor(database: Database, loader: Loader) -> None:
    loader.source = WITHOUT_CURSOR
    database.docs.insert_many([{"_id": n, "n": n} for n in range(10)])
    loader()
    database.docs.replace_one({"_id": 3}, {"_id": 3, "n": "no number"})
    database.docs.delete_one({"_id": 4})
    result = loader()
    assert (result.strategy, result.deleted, result.quarantined) == ("cdc", 1, 0)
    assert query(loader.postgres, "SELECT n__text FROM raw_t.docs WHERE _id = '3'") == [
        ("no number",)
    ]
    since = loaded_positions(loader.postgres, loader.source)
    assert changed_tables(loader.source, loader.mongo, since).tables == {}
    database.docs.replace_one({"_id": 5}, {"_id": 5, "n": 50})
    assert set(changed_tables(loader.source, loader.mongo, since).tables) == {"docs"}
    loader()
    since = loaded_positions(loader.postgres, loader.source)
    assert changed_tables(loader.source, loader.mongo, since).tables == {}
    loader.assert_equal()


def test_types_change_and_the_quarantine_follows(database: Database, loader: Loader) -> None:
    docs = database.docs
    docs.insert_many(
        [_doc(n, size=n) for n in range(5)] + [_doc("odd", s="a\0b"), _doc("nul", s="a\0b")]
    )
    assert loader().quarantined == 2
    docs.replace_one({"_id": 1}, _doc(1, size=2.5))  # bigint grows
    docs.replace_one({"_id": 2}, _doc(2, size="large"))  # and this gets a column of its own
    docs.replace_one({"_id": 3}, _doc(3, s="c\0d"))
    result = loader()
    assert (result.strategy, result.updated, result.quarantined) == ("cdc", 2, 3)
    # The row that raw had of an unfit document is no reason to read all documents.
    assert not [warning for warning in result.warnings if "all documents were read" in warning]
    # A column of other values is classified as its field is.
    assert all(column["privacy"] == "none" for column in result.columns if column["name"] != "s")
    assert query(loader.postgres, "SELECT size, size__text FROM raw_t.docs WHERE _id = '2'") == [
        (None, "large")
    ]
    loader.assert_equal()
    docs.replace_one({"_id": "odd"}, _doc("odd", size=3))
    docs.delete_one({"_id": "nul"})
    docs.insert_one(_doc("new", size="XS"))
    result = loader()
    assert (result.inserted, result.quarantined) == (2, 1)
    closed = {
        e.key[0]: e.closed_because for e in list_quarantine(loader.postgres, closed=True) if e.key
    }
    assert closed == {"odd": "mended", "nul": "deleted"}
    loader.assert_equal()
    # What is released is read again, and is as unfit as before.
    entries = [entry.id for entry in list_quarantine(loader.postgres)]
    (result,) = replay(
        LoadRequest(SOURCE, loader.mongo, loader.postgres, loader.lake, released=entries)
    )
    assert (result.strategy, result.quarantined) == ("cdc", 1)
    docs.delete_one({"_id": 3})
    result = loader()
    assert (result.deleted, result.quarantined) == (1, 0)
    loader.assert_equal()


def test_a_number_of_documents_that_is_out_of_date_is_not_stated(
    database: Database, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own count was wrong, and then writers did not pause."""
    database.docs.insert_many([_doc(n, n=n) for n in range(5)])
    loader()
    count, follow = MongoReader.count, followed.FollowedLoad._follow

    def counted(self: MongoReader, table: Table, *, is_exact: bool) -> int:
        return count(self, table, is_exact=is_exact) + (0 if is_exact else 7)

    monkeypatch.setattr(MongoReader, "count", counted)
    loads = []
    real = followed.FollowedLoad._caught_up

    def caught_up(self: followed.FollowedLoad, columns: Any) -> Any:
        loads.append(self)
        rounds = iter([False, True, True, True])

        def busy(columns: Any) -> Any:
            columns = follow(self, columns)
            self._events += next(rounds)  # something came in each round of the exact count
            return columns

        monkeypatch.setattr(self, "_follow", busy)
        return real(self, columns)

    monkeypatch.setattr(followed.FollowedLoad, "_caught_up", caught_up)
    database.docs.replace_one({"_id": 1}, _doc(1, n=2))
    loader()
    assert loads[0]._documents is None
    assert not compare(SOURCE, loader.postgres, "docs").is_stated


def test_a_collection_dropped_and_made_anew(database: Database, loader: Loader) -> None:
    database.docs.insert_many([_doc(n, n=n) for n in range(5)])
    loader()
    database.docs.drop()
    result = loader()
    assert (result.total, result.deleted) == (0, 5)
    assert "(drop)" in result.warnings[0]
    loader.assert_equal()
    database.docs.insert_many([_doc(n, n=-n) for n in range(3, 8)])
    result = loader()
    assert (result.strategy, result.inserted, result.warnings) == ("cdc", 5, [])
    loader.assert_equal()
    # Dropped and filled between two loads, with cursors that are no younger.
    database.docs.drop()
    database.docs.insert_many([_doc(n, n=n) for n in range(5, 9)])
    result = loader()
    assert (result.inserted, result.updated, result.deleted) == (1, 3, 2)
    loader.assert_equal()


def test_another_collection_that_is_dropped_does_not_matter(
    database: Database, loader: Loader
) -> None:
    """SecantusDB refuses to go on from the place of another collection's end."""
    database.docs.insert_one(_doc("a", n=1))
    loader()
    for n in range(3):
        database.others.insert_one({"n": n})
        database.others.drop()
        assert not loader().is_changed
        database.docs.insert_one(_doc(n, n=n))
        result = loader()
        assert (result.strategy, result.inserted, result.warnings) == ("cdc", 1, [])
    loader.assert_equal()


def test_every_version_of_many_is_kept(database: Database, loader: Loader) -> None:
    database.docs.insert_many([_doc(n, n=n) for n in range(50)])
    loader()
    for turn in range(24):
        database.docs.bulk_write(
            [pymongo.ReplaceOne({"_id": n}, _doc(n, n=turn)) for n in range(50)]
        )
    result = loader()
    assert (result.strategy, result.warnings) == ("cdc", [])
    loader.assert_equal()
    versions = "SELECT count(*), count(_committed_at) FROM raw_t.docs_history"
    changes = 50 * 24 - 1  # the first replacement of the first document is equal to it
    assert query(loader.postgres, versions) == [(50 + changes, changes)]
    assert not loader().is_changed


def test_a_transaction_arrives_whole_or_not_at_all(database: Database, loader: Loader) -> None:
    docs = database.docs
    docs.insert_many([_doc("a", n=1), _doc("b", n=1)])
    loader()
    with database.client.start_session() as session:
        with session.start_transaction():
            docs.update_one({"_id": "a"}, {"$inc": {"n": -1}}, session=session)
            docs.update_one({"_id": "b"}, {"$inc": {"n": 1}}, session=session)
            docs.insert_one(_doc("c", n=0), session=session)
            assert not loader().is_changed
        result = loader()
        assert (result.inserted, result.updated) == (1, 2)
        with session.start_transaction():
            docs.delete_one({"_id": "c"}, session=session)
            session.abort_transaction()
    assert not loader().is_changed
    loader.assert_equal()


def _write(database: Database, stop: Callable[[], bool], pause: float = 0.002) -> None:
    dice = random.Random(5)
    turn = 0
    while not stop():
        turn += 1
        key = f"d{dice.randrange(300)}" if dice.random() < 0.7 else dice.randrange(300)
        fields = {"n": turn, "updated_at": NOON + timedelta(seconds=dice.randrange(5))}
        if dice.random() < 0.2:
            database.docs.delete_one({"_id": key})
        else:
            database.docs.replace_one({"_id": key}, {"_id": key, **fields}, upsert=True)
        time.sleep(pause)


def test_writers_go_on(database: Database, loader: Loader) -> None:
    """Running totals of the collection are what raw gives, too."""
    total = RunningTotal("ns", "", table="docs", key="_id_type", measures={"docs": "*", "n": "n"})
    loader.source = replace(SOURCE, totals=(total,))
    database.docs.insert_many([_doc(f"d{n}", n=0) for n in range(300)])
    is_over = threading.Event()
    writer = threading.Thread(target=_write, args=(database, is_over.is_set))
    writer.start()
    try:
        for turn in range(8):
            loader(full=turn == 4)
            found = compare(SOURCE, loader.postgres, "docs")
            assert found.is_equal or not found.is_stated  # if the writers did not pause
            loader.assert_consistent()
            assert check(loader.postgres, loader.source, total).wrong == 0
    finally:
        is_over.set()
        writer.join()
    loader()
    loader.assert_equal()


def test_only_the_number_is_stated_between_full_loads(database: Database, loader: Loader) -> None:
    """A change stream tells nothing of a document before its change, so nothing is added up."""
    database.docs.insert_many([_doc(n, n=n) for n in range(5)])
    loader()
    full = audits.equals_source(loader.postgres, SOURCE, SOURCE.table("docs"))
    assert full.passed
    assert full.details["columns not stated"] == []
    database.docs.update_one({"_id": 1}, {"$set": {"n": 7}})
    loader()
    result = audits.equals_source(loader.postgres, SOURCE, SOURCE.table("docs"))
    assert result.passed
    assert (result.details["rows at the source"], result.details["columns compared"]) == (5, 0)
    assert result.details["state"] == "equal in the number of rows, no column was stated"
    assert "n" in result.details["columns not stated"]
    assert result.details["source asked at"] == full.details["source asked at"]
    late = datetime.now(UTC) + audits.MAX_AGE
    result = audits.equals_source(loader.postgres, SOURCE, SOURCE.table("docs"), now=late)
    assert (result.passed, result.is_open) == (True, True)
    loader(full=True)
    assert (
        audits.equals_source(loader.postgres, SOURCE, SOURCE.table("docs")).details[
            "columns not stated"
        ]
        == []
    )


def test_loads_killed_at_any_moment(database: Database, loader: Loader) -> None:
    """Kill the loading process again and again while writers go on; the load after the last kill
    makes all equal.
    """
    database.docs.insert_many([_doc(f"d{n}", n=0) for n in range(300)])
    dice = random.Random(1)
    is_over = threading.Event()
    writer = threading.Thread(target=_write, args=(database, is_over.is_set, 0.005))
    writer.start()
    try:
        kills, duration = 0, 1.0
        while kills < 10:
            process = multiprocessing.get_context("fork").Process(target=loader)
            process.start()
            process.join(dice.uniform(0.05, duration))
            process.kill()
            process.join()
            if process.exitcode == -signal.SIGKILL:
                kills += 1
            else:
                assert process.exitcode == 0
                duration *= 0.9
    finally:
        is_over.set()
        writer.join()
    loader()
    loader.assert_equal()
    assert query(loader.postgres, "SELECT count(*) FROM ingestion.attempts") == [(0,)]


class OwnServer:
    """A server of this test's own, that can be killed."""

    def __init__(self, home: Path) -> None:
        self._stack = Mongo(home, free_port(), "secret", {"SOFTCART_CATALOG": "shop"})
        self.start()
        uri = self._stack.environment("SOFTCART_CATALOG")["SOFTCART_CATALOG_URI"]
        self.connection = MongoConnection("SOFTCART_CATALOG", uri, "shop")

    def start(self) -> None:
        self._stack.up()

    def stop(self, *, by: signal.Signals) -> None:
        if process := self._stack.process():
            process.send_signal(by)
            process.wait()

    def start_empty(self) -> None:
        """Start again without the data, as another server at the same address."""
        self.stop(by=signal.SIGKILL)
        shutil.rmtree(self._stack.home)
        self.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    server = OwnServer(tmp_path)
    yield server
    server.stop(by=signal.SIGKILL)


def test_a_place_in_the_log_of_another_server_is_not_waited_for(
    server: OwnServer, postgres: PostgresConnection, lake: str
) -> None:
    """The log of the new server is shorter. What it has is before the place of the last load."""
    loader = Loader(server.connection, postgres, lake)
    with server.connection.connect() as client:
        client.shop.docs.insert_many([_doc(n, n=0) for n in range(20)])
    loader()
    server.start_empty()
    with server.connection.connect() as client:
        client.shop.docs.insert_many(
            [_doc(n, n=1) | {"updated_at": NOON + timedelta(hours=1)} for n in range(10)]
        )
    since = loaded_positions(loader.postgres, SOURCE)
    assert set(changed_tables(SOURCE, loader.mongo, since).tables) == {"docs"}
    result = loader()
    assert (result.updated, result.deleted) == (10, 10)
    assert "behind the end of this server's log" in result.warnings[0]
    loader.assert_equal()
    assert (loader().strategy, loader().warnings) == ("cdc", [])


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_is_killed_between_events_and_commit(
    server: OwnServer,
    postgres: PostgresConnection,
    lake: str,
    monkeypatch: pytest.MonkeyPatch,
    by: signal.Signals,
) -> None:
    loader = Loader(server.connection, postgres, lake)

    def write(turn: int) -> None:
        with server.connection.connect() as client:
            docs = client.shop.docs
            for n in range(40):
                fields = {"n": turn, "updated_at": NOON + timedelta(hours=turn)}
                docs.update_one({"_id": n}, {"$set": fields}, upsert=True)
            docs.delete_many({"_id": {"$in": [turn, turn + 10]}})

    write(0)
    loader()
    write(1)
    documents = MongoReader.documents

    def killed_then_read(self: MongoReader, *arguments: Any) -> Iterator[bytes]:
        # The events have been read; the documents of updates have not.
        server.stop(by=by)
        yield from documents(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(MongoReader, "documents", killed_then_read)
        with pytest.raises(LoadsFailed, match="Run the load again"):
            loader()
    server.start()
    write(2)
    result = loader()
    assert (result.strategy, result.warnings) == ("cdc", [])
    loader.assert_equal()


# A replica set's streams, by what its events say.


class Scripted:
    """Stands in for a replica set's change streams: events are appended with `happen`, and can be
    read from any token.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[RawBSONDocument] = []
        self.opened: list[dict] = []
        self.failure: pymongo.errors.OperationFailure | None = None
        self.time, self.begins_at = 1_000, 0
        scripted = self

        def watch(collection: Collection, **options: Any) -> ScriptedStream:
            scripted.opened.append(options)
            if scripted.failure:
                raise scripted.failure
            if (
                options["start_after"]
                and int(options["start_after"]["_data"][2:18], 16) < scripted.begins_at
            ):
                raise pymongo.errors.OperationFailure(
                    "the resume point is no longer in the oplog", 286
                )
            return ScriptedStream(scripted, options["start_after"])

        monkeypatch.setattr(Collection, "watch", watch)

    def token(self, after: bool = False) -> dict:
        return {"_data": f"82{self.time:016X}{'46' if after else '2B'}"}

    def happen(self, operation: str, key: Any = None, **fields: Any) -> None:
        self.time += 1
        event = {
            "_id": self.token(after=True),
            "operationType": operation,
            "clusterTime": bson.Timestamp(self.time, 1),
            "ns": {"db": "d", "coll": "docs"},
            **({} if key is None else {"documentKey": {"_id": key}}),
            **fields,
        }
        options: CodecOptions = CodecOptions(document_class=RawBSONDocument, tz_aware=True)
        self.events.append(
            RawBSONDocument(bson.encode(event, codec_options=values.OPTIONS), options)
        )
        self.time += 1


class ScriptedStream:
    def __init__(self, scripted: Scripted, token: dict | None) -> None:
        start = token["_data"] if token else scripted.token()["_data"]
        self.resume_token: dict = token or scripted.token()
        self._scripted = scripted
        self._left = deque(event for event in scripted.events if event["_id"]["_data"] > start)

    def try_next(self) -> RawBSONDocument | None:
        if not self._left:
            self.resume_token = self._scripted.token()
            return None
        event = self._left.popleft()
        self.resume_token = event["_id"]
        return event

    def close(self) -> None:
        pass


@pytest.fixture
def scripted(database: Database, monkeypatch: pytest.MonkeyPatch) -> Scripted:
    database.docs.insert_many([_doc("a", n=1), _doc(7, n=1)])
    return Scripted(monkeypatch)


def test_versions_of_a_replica_set_have_operation_and_time(
    database: Database, loader: Loader, scripted: Scripted
) -> None:
    loader()
    docs = database.docs
    scripted.happen("insert", "b", fullDocument=_doc("b", n=1))
    scripted.happen("replace", "b", fullDocument=_doc("b", n=2, price=bson.Decimal128("1.10")))
    scripted.happen("update", "b", updateDescription={"updatedFields": {"n": 3}})
    scripted.happen("update", "b", updateDescription={"updatedFields": {"n": 4}})
    docs.insert_one(_doc("b", n=4))  # as it is when it is looked up
    scripted.happen("delete", 7)
    scripted.happen("insert", 7, fullDocument=_doc(7, n=9))
    docs.replace_one({"_id": 7}, _doc(7, n=9))
    scripted.happen("insert", "brief", fullDocument=_doc("brief", n=1))
    scripted.happen("delete", "brief")
    result = loader()
    assert (result.strategy, result.warnings) == ("cdc", [])
    versions = query(
        loader.postgres,
        "SELECT _id, n, _deleted, extract(epoch FROM _committed_at)::int FROM raw_t.docs_history"
        " WHERE _committed_at IS NOT NULL ORDER BY _id, _version",
    )
    assert versions == [
        ("7", 1, True, 1009),
        ("7", 9, False, 1011),
        ("b", 1, False, 1001),
        ("b", 2, False, 1003),
        ("b", 4, False, 1007),
        ("brief", 1, False, 1013),
        ("brief", 1, True, 1015),
    ]
    in_lake = {
        (row["_id"], row["n"], row["_operation"])
        for row in loader.in_lake()
        if row.get("_operation")
    }
    assert in_lake == {
        ("7", 1, "delete"), ("7", 9, "insert"), ("b", 1, "insert"), ("b", 2, "update"),
        ("b", 4, "update"),
        ("brief", 1, "insert"), ("brief", 1, "delete"),
    }  # fmt: skip
    assert query(loader.postgres, "SELECT sum(price)::text FROM raw_t.docs_history") == [
        ("1.100000000000000000",)
    ]
    loader.assert_consistent()
    assert not loader().is_changed
    # Streams are read from the token before on, which does not go into every row.
    assert scripted.opened[-1]["start_after"] or scripted.opened[-2]["start_after"]
    assert query(
        loader.postgres, "SELECT count(*) FROM raw_t.docs WHERE _position LIKE '%_data%'"
    ) == [(0,)]


@pytest.mark.parametrize("events_at_once", [1, 2, 100])
def test_documents_rejected_and_mended_within_one_load(
    database: Database,
    loader: Loader,
    scripted: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    events_at_once: int,
) -> None:
    monkeypatch.setattr(followed, "_EVENTS_A_ROUND", events_at_once)
    database.docs.insert_many(
        [_doc(key, n=1) for key in ("bad then good", "bad then gone", "good then bad")]
    )
    loader()
    for key, numbers in {
        "bad then good": ("\0", 2),
        "bad then gone": ("\0", None),
        "good then bad": (2, "\0"),
        "new": ("\0", None),
    }.items():
        for n in numbers:
            if n is None:
                scripted.happen("delete", key)
                database.docs.delete_one({"_id": key})
            else:
                scripted.happen("replace", key, fullDocument=_doc(key, n=n))
                database.docs.replace_one({"_id": key}, _doc(key, n=n), upsert=True)
    result = loader()
    assert (result.strategy, result.quarantined, result.total) == ("cdc", 1, 4)
    assert [(entry.key or [None])[0] for entry in list_quarantine(loader.postgres)] == [
        "good then bad"
    ]
    closed = {
        (e.key or [""])[0]: e.closed_because for e in list_quarantine(loader.postgres, closed=True)
    }
    assert closed == {"bad then good": "mended", "bad then gone": "deleted", "new": "deleted"}
    loader.assert_equal()
    # Rejected, and then the collection is another one.
    scripted.happen("replace", "a", fullDocument=_doc("a", n="\0"))
    scripted.happen("drop")
    database.docs.drop()
    database.docs.insert_one(_doc("good then bad", n=4))
    result = loader()
    assert (result.quarantined, result.total) == (0, 1)
    loader.assert_equal()


@pytest.mark.parametrize("operation", ["drop", "rename", "dropDatabase", "invalidate"])
def test_a_collection_that_is_not_the_one_it_was(
    database: Database, loader: Loader, scripted: Scripted, operation: str
) -> None:
    loader()
    scripted.happen("insert", "b", fullDocument=_doc("b", n=1))
    scripted.happen(operation)
    database.docs.drop()
    result = loader()
    assert (result.total, result.inserted, result.deleted) == (0, 1, 3)
    assert operation in result.warnings[0]
    assert not loader().is_changed
    database.docs.insert_one(_doc("a", n=2))
    scripted.happen("insert", "a", fullDocument=_doc("a", n=2))
    assert loader().total == 1
    loader.assert_equal()


def test_a_collection_that_is_gone_without_a_word(
    database: Database, loader: Loader, scripted: Scripted
) -> None:
    loader()
    database.docs.drop()
    with pytest.raises(LoadsFailed, match="has no collection"):
        loader()
    assert query(loader.postgres, "SELECT count(*) FROM raw_t.docs WHERE NOT _deleted") == [(2,)]


def test_a_lost_token(database: Database, loader: Loader, scripted: Scripted) -> None:
    loader()
    scripted.time += 10
    scripted.begins_at = scripted.time
    database.docs.replace_one(
        {"_id": "a"}, _doc("a", n=2) | {"updated_at": NOON + timedelta(hours=1)}
    )
    database.docs.delete_one({"_id": 7})
    assert set(
        changed_tables(SOURCE, loader.mongo, loaded_positions(loader.postgres, SOURCE)).tables
    ) == {"docs"}
    result = loader()
    assert (result.strategy, result.updated, result.deleted) == ("incremental", 1, 1)
    assert "no longer in the oplog (286)" in result.warnings[0]
    loader.assert_equal()
    result = loader()
    assert (result.strategy, result.warnings) == ("cdc", [])


def test_a_server_without_change_streams(
    database: Database, loader: Loader, scripted: Scripted
) -> None:
    scripted.failure = pymongo.errors.OperationFailure("only supported on replica sets", 40573)
    result = loader()
    assert (result.strategy, result.inserted) == ("snapshot", 2)
    assert "only supported on replica sets" in result.warnings[0]
    database.docs.replace_one(
        {"_id": "a"}, _doc("a", n=2) | {"updated_at": NOON + timedelta(hours=1)}
    )
    assert set(
        changed_tables(SOURCE, loader.mongo, loaded_positions(loader.postgres, SOURCE)).tables
    ) == {"docs"}
    result = loader()
    assert (result.strategy, result.updated) == ("incremental", 1)
    assert "only supported on replica sets" in result.warnings[0]
    loader.assert_equal()
    # Once it has them, all is read once more: what cursors do not tell may have been missed.
    scripted.failure = None
    database.docs.replace_one(
        {"_id": "a"}, _doc("a", n=3) | {"updated_at": NOON + timedelta(hours=1)}
    )
    result = loader()
    assert (result.strategy, result.updated) == ("snapshot", 1)
    assert loader().strategy == "cdc"


def test_events_that_were_lost_are_noticed(
    database: Database, loader: Loader, scripted: Scripted
) -> None:
    loader()
    database.docs.insert_one(_doc("unheard of", n=1))
    result = loader()
    assert result.inserted == 1
    assert "2 documents where the collection has 3" in result.warnings[0]
    loader.assert_equal()


def test_a_transaction_past_the_end_is_not_cut(
    database: Database, loader: Loader, scripted: Scripted
) -> None:
    """A bounded run ends at the point that it found at its beginning, whatever is written
    meanwhile.
    """
    loader()
    scripted.happen("insert", "b", fullDocument=_doc("b", n=1))
    database.docs.insert_one(_doc("b", n=1))
    taken = MongoReader.token

    def token_then_more(self: MongoReader, table: Table) -> Any:
        token = taken(self, table)
        scripted.happen(
            "insert", f"later {scripted.time}", fullDocument=_doc(f"later {scripted.time}", n=1)
        )
        return token

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MongoReader, "token", token_then_more)
        loader()
        assert not compare(SOURCE, loader.postgres, "docs").is_stated
    with loader.postgres.connect() as connection:
        position = loaded_positions(loader.postgres, SOURCE)["docs"]
        token = token_of(position)
        assert token
        applied = connection.execute(
            "SELECT count(*) FROM raw_t.docs WHERE _id LIKE 'later%'"
        ).fetchone()
    assert applied == (sum(e["_id"]["_data"] <= token["_data"] for e in scripted.events) - 1,)


DAYS = RunningTotal(
    "days",
    "What was done on a day.",
    table="docs",
    key="user_id",
    measures={"workouts": "*", "seconds": "seconds", "metres": "metres"},
    by="day",
)
WORKOUTS = source_of(
    Table(
        "docs",
        "",
        ("_id",),
        "cdc",
        classify(none="_id updated_at user_id day seconds metres"),
        cursor="updated_at",
    ),
    kind="mongodb",
)
WORKOUTS = replace(WORKOUTS, totals=(DAYS,))


def _workout(key: str, day: str = "2026-01-01", seconds: int = 600, **more: Any) -> dict[str, Any]:
    return _doc(key, user_id=7, day=day, seconds=seconds, **more)


def _days(postgres: PostgresConnection) -> dict[str, tuple[Any, ...]]:
    rows = query(postgres, "SELECT * FROM ods.days_windows(7, 1, 'UTC', now())")
    return {row[3]: tuple(map(int, row[4:])) for row in rows}


def test_totals_of_a_collection_that_is_still_empty(database: Database, loader: Loader) -> None:
    """Fields become columns when documents have them. Until then, nothing has them."""
    loader.source = WORKOUTS
    loader()
    assert check(loader.postgres, WORKOUTS, DAYS).rows == 0
    database.docs.insert_one(_workout("a"))
    loader()
    assert _days(loader.postgres) == {"2026-01-01": (1, 600, 0)}
    # A field that nobody has had yet, and another day.
    database.docs.insert_one(_workout("b", "2026-01-02", metres=bson.Decimal128("5000.5")))
    database.docs.update_one({"_id": "a"}, {"$set": {"seconds": 60.5}})
    loader()
    assert check(loader.postgres, WORKOUTS, DAYS).wrong == 0
    sums = {
        row[3:] for row in query(loader.postgres, "SELECT * FROM ods.days_windows(7,1,'UTC',now())")
    }
    assert {(day, n, float(s), float(m)) for day, n, s, m in sums} == {
        ("2026-01-01", 1, 60.5, 0.0),
        ("2026-01-02", 1, 600.0, 5000.5),
    }


def _wait_for(postgres: PostgresConnection, expected: dict[str, tuple[Any, ...]]) -> None:
    """Wait until the running totals are these."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(psycopg.ProgrammingError):
            if _days(postgres) == expected:
                return
        assert time.monotonic() < began + 60, (_days(postgres), expected)
        time.sleep(0.02)


def test_what_the_listener_does_not_tell_is_asked(
    database: Database,
    loader: Loader,
    mongo: MongoConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stream that hears nothing finds what changed, and claims nothing that it did not ask."""

    @contextlib.contextmanager
    def deaf(*_: object) -> Iterator[Callable[[float], tuple[()]]]:
        def listen(seconds: float) -> tuple[()]:
            time.sleep(0.02)
            return ()

        yield listen

    monkeypatch.setattr(MongoConnector, "listening", deaf)
    monkeypatch.setattr(repeated, "_ASK_SECONDS", math.inf)
    database.docs.insert_one(_workout("a"))
    status, stopped, reports = Status("t"), threading.Event(), list[float]()
    follower = threading.Thread(
        target=stream,
        args=(WORKOUTS, mongo, loader.postgres, loader.lake),
        kwargs={
            "status": status,
            "stopped": stopped,
            "on_report": lambda told: reports.append(told.complete_at),
        },
    )

    def wait_until(is_so: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not is_so():
            assert time.monotonic() < began + 60, status
            time.sleep(0.02)

    follower.start()
    try:
        _wait_for(loader.postgres, {"2026-01-01": (1, 600, 0)})
        wait_until(lambda: len(reports) > 0)
        changed_at = time.time()
        database.docs.insert_one(_workout("b"))
        told = len(reports)
        wait_until(lambda: len(reports) > told + 5)
        # Nobody asked, so the silence proves nothing.
        assert max(reports) < changed_at
        monkeypatch.setattr(repeated, "_ASK_SECONDS", 0.1)
        _wait_for(loader.postgres, {"2026-01-01": (2, 1_200, 0)})
        wait_until(lambda: reports[-1] > changed_at)
        # Neither the number of documents nor the cursor tells of this.
        database.docs.update_one({"_id": "a"}, {"$set": {"seconds": 60}})
        _wait_for(loader.postgres, {"2026-01-01": (2, 660, 0)})
        database.docs.delete_one({"_id": "b"})
        _wait_for(loader.postgres, {"2026-01-01": (1, 60, 0)})
        assert status.problem is None
    finally:
        stopped.set()
        follower.join(60)
    assert not follower.is_alive()


def test_a_stream_follows_a_collection(
    database: Database, loader: Loader, mongo: MongoConnection
) -> None:
    """Totals are right soon after each change, and exact whenever the stream is killed."""
    database.docs.insert_one(_workout("a"))

    def follow() -> None:
        stream(WORKOUTS, mongo, loader.postgres, loader.lake)

    def wait_for(expected: dict[str, tuple[Any, ...]]) -> None:
        _wait_for(loader.postgres, expected)

    context = multiprocessing.get_context("fork")
    process = context.Process(target=follow)
    process.start()
    try:
        wait_for({"2026-01-01": (1, 600, 0)})
        for n in range(1, 6):
            database.docs.insert_one(_workout(f"b{n}"))
            wait_for({"2026-01-01": (1 + n, 600 + 600 * n, 0)})
        # A correction, another day (as in another zone), and a deletion.
        database.docs.update_one({"_id": "a"}, {"$set": {"seconds": 60}})
        wait_for({"2026-01-01": (6, 3_060, 0)})
        database.docs.update_one({"_id": "a"}, {"$set": {"day": "2025-12-31"}})
        wait_for({"2026-01-01": (5, 3_000, 0), "2025-12-31": (1, 60, 0)})
        database.docs.delete_many({"_id": {"$in": ["a", "b1"]}})
        wait_for({"2026-01-01": (4, 2_400, 0)})
        for n in range(2):
            database.docs.insert_many(
                [_workout(f"k{n}{m}", f"2026-02-0{n + 1}") for m in range(50)]
            )
            time.sleep(0.05 * n)
            process.kill()
            process.join()
            # PostgreSQL may notice only a moment later, and only one stream can follow.
            began = time.monotonic()
            while is_followed(WORKOUTS, loader.postgres):
                assert time.monotonic() < began + 60
                time.sleep(0.02)
            process = context.Process(target=follow)
            process.start()
        done = {f"2026-02-0{n + 1}": (50, 30_000, 0) for n in range(2)}
        wait_for({"2026-01-01": (4, 2_400, 0), **done})
        process.terminate()
        process.join(20)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
    assert check(loader.postgres, WORKOUTS, DAYS).wrong == 0
