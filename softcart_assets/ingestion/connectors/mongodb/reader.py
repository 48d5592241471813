"""Reading MongoDB: documents as typed rows, with columns found in the documents themselves.

Here belongs everything that is MongoDB's own but for change streams. A document is read once: all are spooled to a temporary
file, for the case that their columns turn out others than the first documents had them. What is usual in a document is done in
`documents`, which is compiled; the rest is done here, alike. A server without sessions has no snapshot: a load holds each
document as it was when it was read, at or after the stated position.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any, cast

import bson
import pyarrow as pa
import pymongo
from bson import json_util
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern
from pymongo.read_preferences import ReadPreference

from softcart_assets.connections import MongoConnection
from softcart_assets.ingestion.connectors.mongodb.changestream import NoStream, Stream, Token
from softcart_assets.ingestion.documents import Decoder, Types
from softcart_assets.ingestion.errors import MissingGrant, MissingTable, SourceLost
from softcart_assets.ingestion.proof.digest import Accumulator, Checksums, Segments
from softcart_assets.ingestion.types import Batch, Column, Kind, Rejected, Unfit, widens
from softcart_assets.lines.model import Source, Table

_BATCH_ROWS = 5_000
_BATCH_BYTES = 4 << 20
_IDS_A_QUERY = 1_000
EVENTS_KEPT = 1_000
"""So many events of a collection nx-27017 keeps at least."""
_NUMERIC = "numeric(38,18)"
"""Where whole and broken numbers meet: exact for money and measures, and a type that Parquet and Spark have."""
_WHOLE_DOUBLE = "whole double"
_NUMBERS = {"bigint", "double precision", _WHOLE_DOUBLE, _NUMERIC}
_OWN = {
    "_id_type",
    "document",
    "_deleted",
    "_loaded_at",
    "_position",
    "_version",
    "_load_id",
    "_month",
    "load_date",
}
_ID = Column("_id", "_id", "text", nullable=False)
_ID_TYPE = Column("_id_type", "type of _id", "text", nullable=False)
_DOCUMENT = Column("document", "document", "jsonb", nullable=False)

_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The escaped NUL in JSON, and not a backslash before `u0000`."""

_OPTIONS: CodecOptions = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)
_RELAXED = json_util.JSONOptions(
    json_mode=json_util.JSONMode.RELAXED,
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
)
_CANONICAL = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL,
    tz_aware=True,
    uuid_representation=UuidRepresentation.STANDARD,
)


@contextmanager
def explained(connection: MongoConnection, asset: str) -> Iterator[None]:
    """Say what a MongoDB error means, with the asset and what to do."""
    try:
        yield
    except pymongo.errors.OperationFailure as error:
        if error.code in (13, 18):
            raise MissingGrant(
                f"{asset}: MongoDB refuses to read database {connection.database!r} ({error.code}). Grant the "
                f"user of {connection.prefix}_URI the role `read` on it."
            ) from None
        raise SourceLost(f"{asset}: MongoDB failed ({error.code}: {error.details}).") from None
    except pymongo.errors.PyMongoError as error:
        raise SourceLost(
            f"{asset}: MongoDB failed ({type(error).__name__}). Nothing of it was committed; run the load "
            f"again. If it persists, check the server and {connection.prefix}_URI."
        ) from None


def _id_text(value: Any) -> tuple[str, str]:
    """An `_id` as text and its type; the two together identify it, and `id_value` gives it back."""
    match value:
        case str():
            return value, "string"
        case bson.ObjectId():
            return str(value), "objectId"
        case int() if not isinstance(value, bool):
            return str(int(value)), "int"
    return json_util.dumps(value, json_options=_CANONICAL), _type_name(value)


def id_value(text: str, type_: str) -> Any:
    """The `_id` that `_id` and `_id_type` stand for."""
    match type_:
        case "string":
            return text
        case "objectId":
            return bson.ObjectId(text)
        case "int":
            return int(text)
    return json_util.loads(text, json_options=_CANONICAL)


def _type_name(value: Any) -> str:
    names = {
        bool: "bool",
        float: "double",
        bson.Decimal128: "decimal",
        datetime: "date",
        dict: "object",
    }
    return names.get(type(value), type(value).__name__)


def _json(value: Any) -> str:
    """A value as relaxed extended JSON, written as PostgreSQL prints it from jsonb."""

    def ordered(value: Any) -> Any:
        if isinstance(value, dict):
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return {key: ordered(value[key]) for key in keys}
        return [ordered(each) for each in value] if isinstance(value, list) else value

    plain = json.loads(json_util.dumps(value, json_options=_RELAXED))
    return json.dumps(ordered(plain), ensure_ascii=False)


def _fit(column: Column, value: Any) -> Any:
    """A value as its column's Arrow type takes it; `Unfit` if that would change it."""
    if value is None:
        return None
    kind = column.kind
    if kind is Kind.JSON:
        text = _json(value)
        if _NUL.search(text):
            raise Unfit("NUL character, which PostgreSQL's jsonb cannot hold")
        return text
    match kind, value:
        case Kind.BOOLEAN, bool():
            return value
        case _, bool():
            pass
        case Kind.TEXT, str():
            if "\0" in value:
                raise Unfit("NUL character, which PostgreSQL's text cannot hold")
            return value
        case Kind.TEXT, bson.ObjectId():
            return str(value)
        case Kind.INSTANT, datetime():
            return value
        case ((Kind.INTEGER | Kind.DOUBLE | Kind.DECIMAL), (int() | float() | bson.Decimal128())):
            return _number(column, value)
    raise Unfit(
        f"a value of type {_type_name(value)} does not fit column type {column.target_type}"
    )


def _number(column: Column, value: int | float | bson.Decimal128) -> int | float | Decimal:
    if column.kind is Kind.DOUBLE and isinstance(value, float):
        return value
    exact = value.to_decimal() if isinstance(value, bson.Decimal128) else Decimal(repr(value))
    if exact.is_finite():
        if (
            column.kind is Kind.INTEGER
            and exact == exact.to_integral_value()
            and abs(exact) < 1 << 63
        ):
            return int(exact)
        if column.kind is Kind.DOUBLE and Decimal(repr(float(exact))) == exact:
            return float(exact)
        if column.kind is Kind.DECIMAL and column.decimal:
            precision, scale = column.decimal
            exponent = exact.normalize().as_tuple().exponent
            if (
                isinstance(exponent, int)
                and -exponent <= scale
                and exact.adjusted() < precision - scale
            ):
                return exact
    raise Unfit(f"a number that does not fit column type {column.target_type} exactly")


class MongoReader:
    """Reads one database; documents as they are at the moment of reading."""

    def __init__(
        self, source: Source, connection: MongoConnection, client: pymongo.MongoClient
    ) -> None:
        self.source = source
        self.connection = connection
        self._database = client.get_database(connection.database, codec_options=_OPTIONS)
        self._sums: dict[str, Accumulator] = {}
        self._warnings: dict[str, list[str]] = {}
        self._reasons: dict[str, str] = {}
        self._gone: set[str] = set()
        self._spools: dict[str, Spool] = {}
        self._hurried: set[str] = set()

    def _collection(self, table: Table) -> Collection:
        """The collection. One that is followed is read where nothing is older than its events, nor rolled back any more."""
        collection = self._database[table.at_source]
        if table.strategy != "cdc" or self.forgets_events or table.name in self._reasons:
            return collection
        return collection.with_options(
            read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("majority")
        )

    def position(self, table: Table) -> str:
        """The present time, and what tells whether the collection changed: `time|documents|latest cursor`.

        For a table that follows its change stream, then also where that stands: `|token`.
        """
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        # First the stream: what comes later is in it.
        token = self.token(table) if table.strategy == "cdc" else None
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            collection = self._collection(table)
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
        """The columns known so far; `rows_of` and `all_rows` find more. Checks that the collection is there.

        One that is followed may be gone: then its stream says so.
        """
        if self.is_missing(table):
            if not known or table.strategy != "cdc" or self.forgets_events:
                raise self.missing(table)
            self._gone.add(table.name)
        return list(known) or [_ID, _ID_TYPE, _DOCUMENT]

    def is_missing(self, table: Table) -> bool:
        """Whether there is no such collection."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            return table.at_source not in self._database.list_collection_names()

    def was_missing(self, table: Table) -> bool:
        """Whether there was no such collection when `columns` was asked; asking nx-27017 for anything else makes it."""
        return table.name in self._gone

    def missing(self, table: Table) -> MissingTable:
        """What to say if there is no such collection."""
        return MissingTable(
            f"{self.source.schema}/{table.name}: MongoDB database `{self.connection.database}` has no collection `{table.at_source}`. "
            f"Create it, check {self.connection.prefix}_DATABASE, or take it out of the declaration of source "
            f"{self.source.name!r}."
        )

    # Change streams.

    @cached_property
    def forgets_events(self) -> bool:
        """Whether the server is nx-27017: it notes events only while it runs and somebody has asked, keeps the last thousand of a
        collection, gives ids as text and documents not as they were stored, and says nothing of it.
        """
        return self._server.get("process") == "nx_27017"

    @property
    def _server(self) -> dict[str, Any]:
        with explained(self.connection, self.source.schema):
            return self._database.client.admin.command("buildInfo")

    def has_restarted_since(self, position: str) -> bool:
        """Whether a server that forgets events was started after a position."""
        if not self.forgets_events:
            return False
        age = datetime.now(UTC) - datetime.fromisoformat(position.split("|")[0])
        return age.total_seconds() * 1000 > self._server["uptimeMillis"]

    def stream(self, table: Table, token: Token | None = None) -> Stream:
        """The collection's change stream, from a token or from now. `NoStream` if there is none."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            collection = self._collection(table)
            if self.forgets_events:
                return Stream(collection, token, is_exact=False)
            options = [
                each.get("options", {})
                for each in self._database.list_collections(filter={"name": table.at_source})
            ]
            images = options[0].get("changeStreamPreAndPostImages", {}) if options else {}
            return Stream(collection, token, has_images=bool(images.get("enabled")))

    def token(self, table: Table) -> Token | None:
        """Where the change stream stands now; None if there is none."""
        self._reasons.pop(table.name, None)
        if self.forgets_events and self.is_missing(table):
            return None  # it would make the collection
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
        """Why `token` found no stream the last time; None if it did."""
        return self._reasons.get(table.name)

    def has_changed_since(self, table: Table, token: Token) -> bool:
        """Whether something happened since a token; rather yes than no."""
        until = self.token(table)
        try:
            with (
                self.stream(table, token) as stream,
                explained(self.connection, f"{self.source.schema}/{table.name}"),
            ):
                return next(stream.events(until), None) is not None
        except NoStream:
            return True

    def key_of_event(self, id_: Any) -> tuple[str, str | None]:
        """The key that an event's `_id` stands for; type None: any, the server does not tell."""
        text, type_ = _id_text(id_)
        return (text, None) if self.forgets_events else (text, type_)

    def count(self, table: Table, *, is_exact: bool) -> int:
        """The number of documents: as the server remembers it, or counted."""
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            collection = self._collection(table)
            return (
                collection.count_documents({})
                if is_exact
                else collection.estimated_document_count()
            )

    def reset(self) -> None:
        """Nothing: cursors do not hold each other up."""

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
        """Every document: the columns they need, and the rows. All are read before the first row leaves, unless in a `hurry`."""
        self._sums[table.name] = Accumulator()
        spool = self._spools.pop(table.name, None)
        if not spool and table.name in self._hurried:
            self._hurried.remove(table.name)
            spool, documents = Spool(), _ahead(self._read(table, {}))
            spool.add(next(documents, b""))
            found, self._warnings[table.name] = _columns_for(columns, spool.types.counts)
            return found, self._summed(
                table, found, self._judged(table, columns, found, spool, documents)
            )
        if not spool:
            spool = Spool.of(self._read(table, {}))
        found, self._warnings[table.name] = _columns_for(columns, spool.types.counts)
        return found, self._summed(table, found, spool.rows(table, found))

    def hurry(self, table: Table) -> None:
        """Have the next `all_rows` take the columns that the first documents need, and let rows leave while others are read.

        If later documents need other columns, the batches end with `Misjudged`; asked again, `all_rows` gives the documents
        already read, with the right columns.
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
        """What is in the spool and what comes, as rows, as long as the columns suffice."""
        decoder = Decoder(columns)
        raw: bytes | None = spool.first
        is_misjudged = False
        while raw is not None:
            if not is_misjudged:
                yield _decoded(table, columns, decoder, raw)
            if (raw := next(documents, None)) is not None:
                spool.add(raw)
                needed, self._warnings[table.name] = _columns_for(known, spool.types.counts)
                is_misjudged |= needed != list(columns)
        if is_misjudged:
            self._spools[table.name] = spool
            raise Misjudged
        spool.close()

    def ranges(self, table: Table, columns: Sequence[Column], hands: int) -> list[str | None]:
        """Collections are read whole, over one connection."""
        return [None]

    def batches(
        self, table: Table, columns: Sequence[Column], where: str | None = None
    ) -> Iterator[Batch]:
        """Every document."""
        return self.all_rows(table, columns)[1]

    def _summed(
        self, table: Table, columns: Sequence[Column], batches: Iterable[Batch]
    ) -> Iterator[Batch]:
        for batch in batches:
            self._sums[table.name].add(columns, batch.rows)
            yield batch

    def rows_past(
        self, table: Table, columns: Sequence[Column], cursor_value: str
    ) -> Iterator[Batch]:
        """None: the comparison of all pairs finds new documents as well."""
        return iter(())

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """The documents with these keys: the columns they need, and the rows."""
        return self.rows_in(table, columns, self.documents(table, (id_value(*key) for key in keys)))

    def documents(self, table: Table, ids: Iterable[Any]) -> Iterator[bytes]:
        """The documents with these `_id`s, as BSON, some end to end."""
        some_ids = iter(ids)
        while some := list(islice(some_ids, _IDS_A_QUERY)):
            yield from self._read(table, {"_id": {"$in": some}})

    def _read(self, table: Table, condition: Mapping[str, Any]) -> Iterator[bytes]:
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            yield from self._collection(table).find_raw_batches(condition, batch_size=_BATCH_ROWS)

    def segments(self, table: Table, columns: Sequence[Column], rows: int) -> Segments:
        """All documents as one segment: MongoDB computes no digests that PostgreSQL computes too."""
        by_name = {c.name: c for c in columns}
        return Segments((by_name["_id"], by_name["_id_type"]), by_name[table.cursor or ""], 1)

    def digests(self, table: Table, segments: Segments) -> dict[int, tuple[str, ...]]:
        """A digest that equals none: the pairs are always compared."""
        return {0: ()}

    def pairs(self, table: Table, segments: Segments, differing: Sequence[int]) -> Iterator[Batch]:
        """Key and cursor of every document."""
        columns = [*segments.key, segments.cursor]
        with explained(self.connection, f"{self.source.schema}/{table.name}"):
            documents = iter(
                self._collection(table).find({}, {segments.cursor.name: 1}, batch_size=_BATCH_ROWS)
            )
            while some := list(islice(documents, _BATCH_ROWS)):
                yield _batch(table, columns, some)

    def checksums(
        self, table: Table, columns: Sequence[Column], without: Iterable[tuple[str, ...]]
    ) -> tuple[int, Checksums]:
        """Number and checksums of the documents that `all_rows` gave; rejected ones were never among them."""
        return self._sums[table.name].result(columns)

    def rows_in(
        self, table: Table, columns: Sequence[Column], documents: Iterable[bytes]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Documents in BSON, some end to end, as rows: the columns that they need, and the rows.

        They are read into a temporary file, to learn their types.
        """
        spool = Spool.of(documents)
        found, self._warnings[table.name] = _columns_for(columns, spool.types.counts)
        return found, spool.rows(table, found)


class Misjudged(Exception):
    """The documents need other columns than the first of them did."""


class Spool:
    """Documents in a temporary file, and the types of their fields."""

    def __init__(self) -> None:
        self.types = Types()
        self.first = b""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - `rows` closes it, after the last batch
        self._sizes: list[int] = []

    @classmethod
    def of(cls, documents: Iterable[bytes]) -> Spool:
        """All of some documents."""
        spool = cls()
        for raw in documents:
            spool.add(raw)
        return spool

    def add(self, raw: bytes) -> None:
        """Add documents that stand end to end."""
        self.types.add(raw)
        self._file.write(raw)
        if self._sizes and self._sizes[-1] + len(raw) <= _BATCH_BYTES:
            self._sizes[-1] += len(raw)
        else:
            self._sizes.append(len(raw))
        self.first = self.first or raw

    def rows(self, table: Table, columns: Sequence[Column]) -> Iterator[Batch]:
        """The documents as batches; the spool is gone afterwards."""
        with self._file:
            self._file.seek(0)
            decoder = Decoder(columns)
            for size in self._sizes:
                yield _decoded(table, columns, decoder, self._file.read(size))

    def close(self) -> None:
        """Give up what is in it."""
        self._file.close()


def _ahead(documents: Iterator[bytes]) -> Iterator[bytes]:
    """The same; the next ones are fetched while these are worked on."""
    with ThreadPoolExecutor(1, "softcart documents") as executor:
        fetched = executor.submit(next, documents, None)
        while (raw := fetched.result()) is not None:
            fetched = executor.submit(next, documents, None)
            yield raw


def _columns_for(
    known: Sequence[Column], types: Mapping[str, Mapping[str, int]]
) -> tuple[list[Column], list[str]]:
    """The columns that hold values of these types: the known ones, widened to numeric where needed, and new ones."""
    by_name = {column.name: column for column in known}
    warnings = []
    for name, counts in types.items():
        if name == "_id":
            continue
        if name in _OWN or not name or "\0" in name or len(name.encode()) > 63:
            warnings.append(
                f"field {name!r} has no column, as its name cannot be one; it is in `document`"
            )
            continue
        numbers = {type_: n for type_, n in counts.items() if type_ in _NUMBERS}
        if old := by_name.get(name):
            # A whole double, as JavaScript writes every whole number, is at home among integers as well.
            if numbers.keys() - {old.target_type, _WHOLE_DOUBLE} and widens(
                old.target_type, _NUMERIC
            ):
                by_name[name] = Column(name, _NUMERIC, _NUMERIC)
            continue
        types_of_numbers = {
            "double precision" if type_ == _WHOLE_DOUBLE else type_ for type_ in numbers
        }
        number = _NUMERIC if len(types_of_numbers) > 1 else next(iter(types_of_numbers), None)
        candidates = Counter({t: n for t, n in counts.items() if t not in _NUMBERS})
        if number:
            candidates[number] = sum(numbers.values())
        target = max(sorted(candidates), key=candidates.__getitem__)
        by_name[name] = Column(name, target, target)
    return list(by_name.values()), warnings


def _decoded(table: Table, columns: Sequence[Column], decoder: Decoder, raw: bytes) -> Batch:
    """Documents that stand end to end as a batch."""
    others = decoder.add(raw)
    rows = decoder.take()
    if not others:
        return Batch(rows)
    batch = _batch(table, columns, [_document(document) for document in others])
    return Batch(pa.concat_batches([rows, batch.rows]), batch.rejected)


def _document(raw: bytes) -> dict[str, Any] | bytes:
    """A document; itself if some text in it is none."""
    try:
        return bson.decode(raw, _OPTIONS)
    except bson.errors.InvalidBSON:
        return raw


def _batch(
    table: Table, columns: Sequence[Column], documents: Sequence[dict[str, Any] | bytes]
) -> Batch:
    """Documents as a batch; one that does not decode, or has a value that does not fit, is rejected whole."""
    rows, rejected = [], []
    for document in documents:
        if isinstance(document, bytes):
            lenient = bson.decode(
                document, _OPTIONS.with_options(unicode_decode_error_handler="replace")
            )
            text = json_util.dumps(lenient, json_options=_RELAXED)
            key = _id_text(lenient["_id"])
            rejected.append(
                Rejected(
                    key,
                    None,
                    "document",
                    "invalid UTF-8",
                    {"document": text, "bson": document.hex()},
                )
            )
            continue
        key = _id_text(document["_id"])
        own = {"_id": key[0], "_id_type": key[1], "document": document}
        row, reasons = [], {}
        for column in columns:
            try:
                row.append(
                    _fit(
                        column,
                        own.get(column.name) if column.name in own else document.get(column.name),
                    )
                )
            except Unfit as unfit:
                reasons[column.name] = str(unfit)
        if not reasons:
            rows.append(row)
            continue
        cursor = (
            document.get(table.cursor) if table.cursor and table.cursor not in reasons else None
        )
        if isinstance(cursor, datetime):
            cursor = cursor.strftime("%Y-%m-%d %H:%M:%S.%f")
        rejected.append(
            Rejected(
                None if "_id" in reasons else key,
                None if cursor is None else str(cursor),
                # The document too has the value that does not fit; the field says more.
                next(
                    name
                    for name in (*reasons, "document")
                    if name != "document" or len(reasons) == 1
                ),
                "; ".join(f"{name}: {reason}" for name, reason in reasons.items()),
                {"document": json_util.dumps(document, json_options=_RELAXED)},
            )
        )
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = [pa.array(v, c.arrow_type) for c, v in zip(columns, values, strict=True)]
    return Batch(pa.RecordBatch.from_arrays(arrays, names=[c.name for c in columns]), rejected)


def with_token(position: str, token: Token | None) -> str:
    """A position with another token, or with none."""
    if token_of(position):
        position = position.rpartition("|")[0]
    return (
        position
        if token is None
        else f"{position}|{json_util.dumps(token, json_options=_CANONICAL)}"
    )


def token_of(position: str) -> Token | None:
    """The resume token in a position, if it has one."""
    text = position.rpartition("|")[2]
    return json_util.loads(text, json_options=_CANONICAL) if text.startswith('{"_data"') else None


def is_apart(one: str, other: str) -> bool:
    """Whether number of documents or latest cursor are not the same in two positions."""
    return with_token(one, None).partition("|")[2] != with_token(other, None).partition("|")[2]


def changed_tables(
    source: Source, connection: MongoConnection, since: Mapping[str, str]
) -> tuple[str, dict[str, str]]:
    """The present time, and the collections that changed since their position.

    A change stream tells. Without one, the number of documents or the latest cursor does: a change that alters neither, as in a
    collection declared without cursor, is not seen.
    """
    with connection.connect() as client:
        reader = MongoReader(source, connection, client)
        now = {table.name: reader.position(table) for table in source.tables}
        changed = {
            table.name: now[table.name]
            for table in source.tables
            if _has_changed(reader, table, since.get(table.name, ""), now[table.name])
        }
    return max(now.values()).split("|", 1)[0], changed


def _has_changed(reader: MongoReader, table: Table, since: str, now: str) -> bool:
    before = token_of(since) if table.strategy == "cdc" else None
    if before and token_of(now) and not reader.forgets_events:
        return reader.has_changed_since(table, before)
    return is_apart(since, now) or (
        bool(before) and reader.has_changed_since(table, cast(Token, before))
    )
