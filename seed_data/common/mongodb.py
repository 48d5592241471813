"""Loads documents into a MongoDB database.

MongoDB has no comments on collections. So the marks are a document in a collection of its own.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from bson import Decimal128, json_util
from pymongo import ASCENDING
from pymongo.database import Database

from seed_data.common.databases import Advance, mark_of, refusal, write_batches
from seed_data.common.model import SeedError, TableDesign
from softcart_assets.connections import MongoConnection
from softcart_assets.lines.model import Source, Table

MARKS = "_softcart_seed"
"""The collection of the marks: one document, with the mark of each collection that we made."""

_MARK = "marks"

BATCH_DOCUMENTS = 1_000
_BATCHES_AT_ONCE = 4


class MongoDatabase:
    """The MongoDB database of one source. `designs`: by table."""

    def __init__(self, source: Source, designs: Mapping[str, TableDesign] | None = None) -> None:
        self._designs = designs or {}
        self.mark = mark_of(source)
        self._server = MongoConnection.from_env(source.env_prefix)
        self._declared = {table.at_source for table in source.tables}
        self._setting = f"{source.env_prefix}_DATABASE"

    @contextmanager
    def _open(self) -> Iterator[Database[dict[str, Any]]]:
        with self._server.connect() as client:
            yield client[self._server.database]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Does nothing. MongoDB has no lock that ends with its holder.

        The lock on the file of the line keeps out other seeds of this installation.
        """
        yield

    def marks(self) -> Mapping[str, str]:
        """The mark of each of our collections. Raises `SeedError` if another one has documents."""
        with self._open() as database:
            filled = {
                name
                for name in database.list_collection_names()
                # An empty collection has nothing to lose.
                if name != MARKS and database[name].find_one({}, {"_id": 1})
            }
            marks = self._read(database)
        if theirs := filled - marks.keys():
            raise SeedError(
                refusal(
                    f"MongoDB database {self._server.database!r} holds collections",
                    theirs,
                    self._setting,
                )
            )
        return marks

    def recreate(self, tables: Collection[Table]) -> None:
        """Drop these collections, and those that are no longer declared.

        The marks come first. If a kill follows, they still say that the collections are ours.
        """
        with self._open() as database:
            ours = self._read(database)
            names = [table.at_source for table in tables]
            kept = {name: ours[name] for name in ours.keys() & self._declared - set(names)}
            self._write(database, dict.fromkeys([*ours, *names], self.mark) | kept)
            for name in ours.keys() - kept.keys():
                database.drop_collection(name)
            self._write(database, dict.fromkeys(names, self.mark) | kept)

    def load(self, table: Table, directory: Path, advance: Advance) -> int:
        """Insert the documents, some batches at once."""
        with self._open() as database:
            collection = database[table.at_source]
            self._index(collection, table)

            def insert(batch: pa.RecordBatch) -> None:
                texts = batch.column("document").to_pylist()
                collection.insert_many([document_of(text) for text in texts], ordered=False)

            return write_batches(directory, BATCH_DOCUMENTS, insert, _BATCHES_AT_ONCE, advance)

    def _index(self, collection: Any, table: Table) -> None:
        """Make the indexes, while the collection is empty: the local server never ends with one of
        a large collection.
        """
        if table.cursor:
            collection.create_index(table.cursor)
        for index in self._designs.get(table.at_source, TableDesign()).indexes:
            # With the server's own name for it, so that an application may ask for it, too.
            collection.create_index(
                [(name, ASCENDING) for name in index.fields], unique=index.is_unique
            )

    def complete(self, tables: Collection[Table], parameters: str) -> None:
        """Record that these tables are loaded."""
        names = [table.at_source for table in tables]
        with self._open() as database:
            loaded = dict.fromkeys(names, f"{self.mark} {parameters}")
            self._write(database, self._read(database) | loaded)

    def add_further(self) -> None:
        """See `Database`. All that is here is declared."""

    def _read(self, database: Database[dict[str, Any]]) -> dict[str, str]:
        found = database[MARKS].find_one({"_id": _MARK}) or {"collections": []}
        marks = {each["name"]: each["mark"] for each in found["collections"]}
        # Another source may have been seeded into the same database. Its collections are not ours.
        return {name: mark for name, mark in marks.items() if mark.startswith(self.mark)}

    @staticmethod
    def _write(database: Database[dict[str, Any]], marks: Mapping[str, str]) -> None:
        # One document, so the write is atomic. Names are values, because they may contain dots.
        collections = [{"name": name, "mark": mark} for name, mark in marks.items()]
        database[MARKS].replace_one(
            {"_id": _MARK}, {"_id": _MARK, "collections": collections}, upsert=True
        )


def document_of(text: str) -> dict[str, Any]:
    """The document of a text in Extended JSON: what `json_util.loads` gives, in half the time."""
    found: dict[str, Any] = json.loads(text, object_hook=_value_of)
    return found


def _value_of(mapping: dict[str, Any]) -> Any:
    if len(mapping) == 1:
        [(name, value)] = mapping.items()
        if name == "$numberDecimal":
            return Decimal128(value)
        if name == "$date" and isinstance(value, str):
            # As `json_util` has it: UTC, which a time without a zone is to the driver.
            return datetime.fromisoformat(value).astimezone(UTC).replace(tzinfo=None)
    is_plain = not any(name.startswith("$") for name in mapping)
    return mapping if is_plain else json_util.object_hook(mapping)
