"""A source of documents: what is written into it, and whether raw has it in the end.

One writer changes it, whose server is reached directly and never killed. So the model knows every
version. The reader reaches the server through a proxy, over which it is harmed.
"""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from softcart_assets.connections import MongoConnection, PostgresConnection
from softcart_assets.lines.model import Source, Table
from tests.faults.torture.model import Key, Model, Row, Version, history_error
from tests.faults.torture.workload import WORDS

TABLE = "docs"
SOURCE = Source(
    "documents",
    "mongodb",
    "",
    (Table(TABLE, "", ("_id",), "cdc", (), history=True),),
    owner="team:test",
    prefix="SOFTCART_TORTURE_DOCUMENTS",
)


class DocumentWriter(threading.Thread):
    """Inserts, changes, replaces and deletes documents until told to stop."""

    def __init__(self, connection: MongoConnection, seed: str, stopping: threading.Event) -> None:
        super().__init__(name="documents", daemon=True)
        self.connection, self.stopping = connection, stopping
        self.dice = random.Random(f"{seed} documents")
        self.model = Model([TABLE])
        self.failure: BaseException | None = None
        self.done = 0

    def run(self) -> None:
        """Write until told to stop."""
        try:
            with self.connection.connect() as client:
                collection = client[self.connection.database][TABLE]
                while not self.stopping.wait(self.dice.expovariate(1 / 0.05)):
                    self._write(collection)
                    self.done += 1
        except BaseException as error:
            self.failure = error

    def _fields(self) -> Row:
        return {
            "n": self.dice.choice([None, 0, self.dice.randrange(10**6), 2**40]),
            "s": self.dice.choice([word for word in WORDS if "\0" not in word]),
            "list": [self.dice.randrange(9)] * self.dice.randrange(3),
            "inner": {"é": self.dice.choice([True, 1.5, "x"])},
            "tick": self.done,
        }

    def _write(self, collection: Any) -> None:
        live = self.model.live(TABLE)
        new: dict[int, Row | None]
        key = self.dice.randrange(80)
        began = time.time()
        if self.dice.random() < 0.1:
            new = {each: self._fields() for each in range(1000, 1200) if (each,) not in live}
            if new:
                collection.insert_many([{"_id": each} | (row or {}) for each, row in new.items()])
            else:
                new = dict.fromkeys(range(1000, 1200))
                collection.delete_many({"_id": {"$gte": 1000}})
            for each, row in new.items():
                self._note((each,), row, began)
        elif (key,) not in live:
            row = self._fields()
            collection.insert_one({"_id": key} | row)
            self._note((key,), row, began)
        elif self.dice.random() < 0.3:
            collection.delete_one({"_id": key})
            self._note((key,), None, began)
        elif self.dice.random() < 0.5:
            row = self._fields() | {"more": self.done}
            collection.replace_one({"_id": key}, row)
            self._note((key,), row, began)
        else:
            fields = {"n": self.done, "s": self.dice.choice(["", "später"])}
            collection.update_one({"_id": key}, {"$set": fields})
            self._note((key,), live[key,] | fields, began)

    def _note(self, key: Key, row: Row | None, began: float) -> None:
        versions = self.model.versions[TABLE][key]
        last = versions[-1].row if versions else {}
        versions.append(
            Version(last if row is None else row, row is None, began_at=began, ended_at=time.time())
        )


def problems(model: Model, mongo: MongoConnection, postgres: PostgresConnection) -> Iterator[str]:
    """What does not agree of model, source, raw and its history."""
    live = {str(key): row for (key,), row in model.live(TABLE).items()}
    with mongo.connect() as client:
        source = {str(d.pop("_id")): d for d in client[mongo.database][TABLE].find()}
    with postgres.connect() as session:
        raw: dict[str, Row] = dict(
            session.execute(
                f"SELECT _id, document - '_id' FROM {SOURCE.schema}.{TABLE} WHERE NOT _deleted"
            ).fetchall()
        )
        history = session.execute(
            f"SELECT _id, _deleted, document - '_id' FROM {SOURCE.schema}.{TABLE}_history "
            "ORDER BY _version"
        ).fetchall()
    for what, found in (("source", source), ("raw", raw)):
        if wrong := [key for key in live.keys() | found.keys() if live.get(key) != found.get(key)]:
            pair = live.get(wrong[0]), found.get(wrong[0])
            yield f"documents: model and {what} differ in {len(wrong)}: {wrong[0]}: {pair}"
    by_key: dict[str, list[tuple[bool, Row]]] = defaultdict(list)
    for key, is_deleted, document in history:
        by_key[key].append((is_deleted, document))
    for (key,), versions in model.versions[TABLE].items():
        # SecantusDB tells of an update what the document is when it is asked. So a version may be
        # left out, and one may come early, before others and then again.
        if any(not gone and all(row != v.row for v in versions) for gone, row in by_key[str(key)]):
            yield f"documents: history of {key} has what was never committed: {by_key[str(key)]}"
        if error := history_error(by_key[str(key)][-1:], versions, (0, 0), every_version=False):
            yield f"documents: history of {key}: {error}"
