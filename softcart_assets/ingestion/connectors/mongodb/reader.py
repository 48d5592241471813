"""Reads MongoDB: documents as typed rows, with columns found in the documents themselves.

A document is read once. All are spooled to a temporary file, in case later documents need other
columns than the first ones. A server without sessions has no snapshot. Then a load holds each
document as it was when it was read, at or after the stated position.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pymongo
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.connectors.mongodb.changestream import NoStream, Stream, Token
from softcart_assets.ingestion.connectors.mongodb.columns import DOCUMENT, ID, ID_TYPE, columns_for
from softcart_assets.ingestion.connectors.mongodb.errors import explained
from softcart_assets.ingestion.connectors.mongodb.positions import with_token
from softcart_assets.ingestion.connectors.mongodb.rows import batch_of, decoded, decoder_for
from softcart_assets.ingestion.connectors.mongodb.spool import Misjudged, Spool, ahead
from softcart_assets.ingestion.connectors.mongodb.values import OPTIONS, id_value
from softcart_assets.ingestion.errors import MissingTable
from softcart_assets.ingestion.proof.digest import Checksums, Segments
from softcart_assets.ingestion.proof.tally import Accumulator
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Source, Table

_BATCH_ROWS = 5_000
_IDS_A_QUERY = 1_000


@contextmanager
def opened(source: Source, connection: MongoConnection) -> Iterator[list[MongoReader]]:
    """Open the one reader of a database."""
    with connection.connect() as client:
        yield [MongoReader(source, connection, client)]


class MongoReader:
    """Reads one database. Documents are as they are at the moment of reading."""

    def __init__(
        self,
        source: Source,
        connection: MongoConnection,
        client: pymongo.MongoClient[dict[str, Any]],
    ) -> None:
        self.source = source
        self.connection = connection
        self._database = client.get_database(connection.database, codec_options=OPTIONS)
        self._sums: dict[str, Accumulator] = {}
        self._warnings: dict[str, list[str]] = {}
        self._reasons: dict[str, str] = {}
        self._gone: set[str] = set()
        self._spools: dict[str, Spool] = {}
        self._hurried: set[str] = set()

    def _collection(self, table: Table) -> Collection[dict[str, Any]]:
        """Return the collection.

        A followed one is read from the primary with read concern `majority`. So nothing in it is
        older than an event that we saw, and nothing is rolled back later.
        """
        collection = self._database[table.at_source]
        if table.strategy != "cdc" or table.name in self._reasons:
            return collection
        return collection.with_options(
            read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("majority")
        )

    def position(self, table: Table) -> str:
        """Return the present time, the number of documents and the latest cursor:
        `time|documents|cursor`.

        The last two tell whether the collection changed. For a followed collection, the place in
        its change stream follows: `|token`.
        """
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        # First the stream: what comes later is in it.
        token = self.token(table) if table.strategy == "cdc" else None
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            collection = self._collection(table)
            # From the collection's figures. Counting exactly would read an index as long as the
            # collection.
            count = collection.estimated_document_count()
            latest = None
            if table.cursor:
                newest = collection.find({}, {table.cursor: 1}).sort(table.cursor, -1).limit(1)
                latest = next((document.get(table.cursor) for document in newest), None)
            latest = (
                latest.isoformat(timespec="milliseconds")
                if isinstance(latest, datetime)
                else latest
            )
        return with_token(f"{moment}|{count}|{latest or ''}", token)

    def columns(self, table: Table, known: Sequence[Column]) -> list[Column]:
        """Return the columns known so far. `rows_of` and `all_rows` find more.

        Raises `MissingTable` if the collection does not exist. A followed one may be gone: its
        stream says so.
        """
        if self.is_missing(table):
            if not known or table.strategy != "cdc":
                raise self.missing(table)
            self._gone.add(table.name)
        return list(known) or [ID, ID_TYPE, DOCUMENT]

    def is_missing(self, table: Table) -> bool:
        """Return whether the collection does not exist."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            return table.at_source not in self._database.list_collection_names()

    def was_missing(self, table: Table) -> bool:
        """Return whether the collection did not exist when `columns` was called."""
        return table.name in self._gone

    def missing(self, table: Table) -> MissingTable:
        """Return the error for a collection that does not exist."""
        return MissingTable(
            f"{self.source.schema}/{table.name}: MongoDB database `{self.connection.database}` has "
            f"no collection `{table.at_source}`. "
            f"Create it, check {self.connection.prefix}_DATABASE, or take it out of the "
            "declaration of source "
            f"{self.source.name!r}."
        )

    # Change streams.

    def stream(self, table: Table, token: Token | None = None) -> Stream:
        """Open the collection's change stream, from a token or from now. Raises `NoStream` if there
        is none.
        """
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            collection = self._collection(table)
            options = [
                each.get("options", {})
                for each in self._database.list_collections(filter={"name": table.at_source})
            ]
            images = options[0].get("changeStreamPreAndPostImages", {}) if options else {}
            return Stream(collection, token, has_images=bool(images.get("enabled")))

    def token(self, table: Table) -> Token | None:
        """Return the present place of the change stream. None if there is none."""
        self._reasons.pop(table.name, None)
        try:
            with self.stream(table) as stream:
                token = stream.token
        except NoStream as reason:
            self._reasons[table.name] = str(reason)
            return None
        if token is None:
            self._reasons[table.name] = "the server names no place in it"
        return token

    def why_no_stream(self, table: Table) -> str | None:
        """Return why `token` found no stream the last time. None if it found one."""
        return self._reasons.get(table.name)

    def has_changed_since(self, table: Table, token: Token) -> bool:
        """Return whether something happened since a token. In doubt, yes."""
        until = self.token(table)
        try:
            with (
                self.stream(table, token) as stream,
                explained(self.connection, f"{self.source.schema}/{table.name}"),
            ):
                return next(stream.events(until), None) is not None
        except NoStream:
            return True

    def count(self, table: Table, *, is_exact: bool) -> int:
        """Return the number of documents: as the server remembers it, or counted exactly."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            collection = self._collection(table)
            return (
                collection.count_documents({})
                if is_exact
                else collection.estimated_document_count()
            )

    def reset(self) -> None:
        """Do nothing: cursors do not block each other."""

    def warnings(self, table: Table) -> list[str]:
        """Fields that have no column of their own, and why."""
        return self._warnings.get(table.name, [])

    def expected_rows(self, table: Table) -> int | None:
        """The number of documents."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            return self._collection(table).estimated_document_count()

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Return the columns that the documents need, and every document as rows.

        All documents are read before the first row leaves, unless in a `hurry`.
        """
        self._sums[table.name] = Accumulator()
        spool = self._spools.pop(table.name, None)
        if not spool and table.name in self._hurried:
            self._hurried.remove(table.name)
            spool, documents = Spool(), ahead(self._read(table, {}))
            spool.add(next(documents, b""))
            found = self._columns_for(table, columns, spool)
            return found, self._summed(
                table, found, self._judged(table, columns, found, spool, documents)
            )
        if not spool:
            spool = Spool.of(self._read(table, {}))
        found = self._columns_for(table, columns, spool)
        return found, self._summed(table, found, spool.rows(table, found))

    def _columns_for(self, table: Table, known: Sequence[Column], spool: Spool) -> list[Column]:
        """Return the columns that the documents of a spool need. Notes the warnings."""
        declared = {column.name for column in table.columns}
        found, self._warnings[table.name] = columns_for(known, spool.types.counts, declared)
        return found

    def hurry(self, table: Table) -> None:
        """Let the next `all_rows` take the columns of the first documents, so that rows leave while
        others are read.

        If later documents need other columns, the batches end with `Misjudged`. The following call
        of `all_rows` returns the documents already read, with the right columns.
        """
        self._hurried.add(table.name)

    def _judged(
        self,
        table: Table,
        known: Sequence[Column],
        columns: Sequence[Column],
        spool: Spool,
        documents: Iterator[bytes],
    ) -> Iterator[Batch]:
        """Yield rows from the spool and from `documents`, as long as the columns suffice."""
        decoder = decoder_for(columns)
        raw: bytes | None = spool.first
        is_misjudged = False
        while raw is not None:
            if not is_misjudged:
                yield decoded(table, columns, decoder, raw)
            # Also after a misjudgement all are read, so that the second attempt needs nothing from
            # the server.
            if (raw := next(documents, None)) is not None:
                spool.add(raw)
                is_misjudged |= self._columns_for(table, known, spool) != list(columns)
        if is_misjudged:
            self._spools[table.name] = spool
            raise Misjudged
        spool.close()

    def _summed(
        self, table: Table, columns: Sequence[Column], batches: Iterable[Batch]
    ) -> Iterator[Batch]:
        for batch in batches:
            self._sums[table.name].add(columns, batch.rows)
            yield batch

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Return the columns that the documents with these keys need, and their rows."""
        return self.rows_in(table, columns, self.documents(table, (id_value(*key) for key in keys)))

    def documents(self, table: Table, ids: Iterable[Any]) -> Iterator[bytes]:
        """Yield the documents with these `_id`s as BSON, several end to end."""
        some_ids = iter(ids)
        while some := list(islice(some_ids, _IDS_A_QUERY)):
            yield from self._read(table, {"_id": {"$in": some}})

    def _read(self, table: Table, condition: Mapping[str, Any]) -> Iterator[bytes]:
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            # As raw BSON: the codec reads it itself. Through Python's dictionaries, a document
            # takes ten times the processor time.
            yield from self._collection(table).find_raw_batches(condition, batch_size=_BATCH_ROWS)

    def pairs(self, table: Table, segments: Segments, differing: Sequence[int]) -> Iterator[Batch]:
        """Yield key and cursor of every document."""
        columns = [*segments.key, segments.cursor]
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            documents = iter(
                self._collection(table).find({}, {segments.cursor.name: 1}, batch_size=_BATCH_ROWS)
            )
            while some := list(islice(documents, _BATCH_ROWS)):
                yield batch_of(table, columns, some)

    def tally(self, table: Table, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Return number and checksums of the documents of the last `all_rows`, without rejected
        ones.
        """
        return self._sums[table.name].result(columns)

    def rows_in(
        self, table: Table, columns: Sequence[Column], documents: Iterable[bytes]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Return the columns that documents (BSON, several end to end) need, and their rows.

        They are first written to a temporary file, to learn their types.
        """
        spool = Spool.of(documents)
        told = self.warnings(table)
        found = self._columns_for(table, columns, spool)
        # What was told of the documents before is still to be told.
        self._warnings[table.name] = list(dict.fromkeys([*told, *self.warnings(table)]))
        return found, spool.rows(table, found)
