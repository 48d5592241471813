"""Follows a MongoDB collection by its change stream, with the engine's own merge.

The first load notes a token of the stream, reads all documents, and then applies what happened
meanwhile. Every later load applies what happened since the last token. Rows and token commit
together.

An event with its document is one version of it. Otherwise the document is looked up by its `_id`.
This happens after the event, so the result is never older than the event.

If the stream cannot be read, the load does not fail. It compares keys and cursors, like an
incremental load, and warns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any, Literal, cast

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.connectors.mongodb.changestream import Event, NoStream, Token, Void
from softcart_assets.ingestion.connectors.mongodb.collection import CollectionLoad
from softcart_assets.ingestion.connectors.mongodb.errors import explained
from softcart_assets.ingestion.connectors.mongodb.positions import token_of, with_token
from softcart_assets.ingestion.connectors.mongodb.values import id_text, id_value
from softcart_assets.ingestion.engine.table import Moved, Stated
from softcart_assets.ingestion.engine.versions import VersionedLoad
from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Table

_EVENTS_A_ROUND = 10_000
_BYTES_A_ROUND = 32 << 20

Key = tuple[str, str]
"""An `_id` as text, and its type."""


@dataclass(frozen=True)
class _Version:
    """A version of a document.

    `document` None: the document was deleted, or with `is_looked_up`, it has to be read now.
    """

    operation: Literal["insert", "update", "delete"]
    id: Any
    document: bytes | None
    is_looked_up: bool
    committed_at: datetime | None


class FollowedLoad(VersionedLoad, CollectionLoad):
    """The load of one collection with strategy `cdc`."""

    def __init__(self, call: Call, table: Table) -> None:
        super().__init__(call, table)
        self._token: Token | None = None
        self._events = 0
        self._all_read_after: int | None = None
        """The number of events at the time when all documents were read. None: they were not."""
        self._documents: int | None = None

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        # Rows need no token, which is long.
        self._token = token_of(self.position)
        self.position = self.quarantine.position = with_token(self.position, None)
        columns, sums, how = self._moved(columns, last)
        self.position = with_token(self.position, self._token)
        return columns, sums, how

    def _moved(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        token = token_of(last.position) if last else None
        if reason := self.reader.why_no_stream(self.table):
            return self._compared(columns, last, reason)
        if not last or token is None or self.call.request.full or self.raw.is_empty():
            columns = self._caught_up(self._all(columns))
            return columns, self._sums(), "snapshot"
        try:
            self._token = token
            columns = self._follow(self._reread_released(columns))
        except NoStream as error:
            self._token = self.reader.token(self.table)
            return self._compared(columns, last, str(error))
        columns = self._caught_up(columns)
        return columns, self._sums(), "cdc"

    def _compared(self, columns: Sequence[Column], last: LastLoad | None, reason: str) -> Moved:
        """Compare keys and cursors, as an incremental load does, because the stream cannot be read.

        Perhaps the next load can read the stream from here on.
        """
        self.warnings.append(
            f"the change stream could not be used, keys and cursors were compared instead: {reason}"
        )
        is_comparable = any(column.name == self.table.cursor for column in columns)
        sums: Stated | None = None
        if last and is_comparable and not self.call.request.full and not self.raw.is_empty():
            columns, sums = self._incremental(columns, last.rows_total)
            how = "incremental"
        else:
            columns, how = self._all(columns), "snapshot"
        before = self._events
        if self._token:
            columns = self._caught_up(columns)
        return columns, sums if self._events == before else self._sums(), how

    def _all(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Read all documents and compare them with raw."""
        self._all_read_after = self._events
        self.forget_rejected(columns, "true")
        return self._full(columns)

    def _caught_up(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Follow the stream until it stands still, and count documents and rows.

        If the numbers differ, the stream has lost something. Then all documents are read.
        """
        # The server's own count is cheap, but may be wrong after a crash. A difference is counted
        # exactly before all documents are read for it.
        for is_exact in (False, True):
            self._documents = None
            for _ in range(3):
                # Counted before the stream is read: if no event comes afterwards, nothing changed
                # in between.
                documents = self.reader.count(self.table, is_exact=is_exact)
                before = self._events
                columns = self._follow(columns)
                if self._events == before:
                    break
            else:
                return columns  # writers do not pause: there is no number to compare with
            self._hold(columns)
            # Documents in quarantine are in the collection. Raw may have them as they were before.
            self._documents = documents - self.quarantine.open_entries()
            rows, _ = self.raw.checksums([], held=False)
            if rows == self._documents:
                return columns
        if not documents and self.reader.was_missing(self.table):
            raise self.reader.missing(self.table)
        self.warnings.append(
            f"the change stream led to {rows} documents where the collection has "
            f"{self._documents}: all documents were read and compared"
        )
        return self._all(columns)

    def _sums(self) -> Stated | None:
        """Return what the source says of itself at the position.

        If all documents were read there, their checksums. Otherwise only their number, if the
        collection stood still long enough to be counted.
        """
        if self._all_read_after == self._events:
            return None  # the reader has them
        # No checksums: those of another moment would not be comparable.
        return self._documents, None if self._documents is None else {}

    def _source_checksums(self, columns: Sequence[Column]) -> Stated:
        return (
            super()._source_checksums(columns)
            if self._all_read_after == self._events
            else (None, None)
        )

    def _follow(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Apply what the stream has from the token to the present."""
        # The end is fixed first. Otherwise the load of a busy collection would never end.
        until = self.reader.token(self.table)
        void = None
        with (
            explained(self.reader.connection, self.asset),
            self.reader.stream(self.table, self._token) as stream,
        ):
            for events in _portions(stream.events(until)):
                if isinstance(events[-1], Void):
                    void = events.pop()
                columns = self._apply(columns, cast(list[Event], events))
            self._token = stream.token
        if void:
            self._events += 1
            self.warnings.append(
                f"the collection is not the one it was ({void.operation}): all documents were read "
                "and compared"
            )
            # First the token, then the documents: what happens meanwhile comes again.
            self._token = self.reader.token(self.table)
            columns = self._all(columns)
        return columns

    def _apply(self, columns: Sequence[Column], events: Sequence[Event]) -> Sequence[Column]:
        """Bring events into raw, each document's versions in their order."""
        self._events += len(events)
        versions: dict[Key, list[_Version]] = {}
        for event in events:
            key = id_text(event.id)
            line = versions.setdefault(key, [])
            is_new = event.operation == "insert"
            if line and line[-1].is_looked_up:  # looking it up twice would give the same
                is_new |= line.pop().operation == "insert" and event.operation != "delete"
            line.append(
                _Version(
                    "insert" if is_new else event.operation,
                    event.id,
                    event.document,
                    event.operation != "delete" and event.document is None,
                    event.committed_at,
                )
            )
        # One version of each document in a turn: a merge can take a row only once, and the history
        # needs every version.
        for turn in range(max(map(len, versions.values()), default=0)):
            columns = self._take_versions(
                columns, {k: line[turn] for k, line in versions.items() if turn < len(line)}
            )
        return columns

    def _take_versions(
        self, columns: Sequence[Column], versions: Mapping[Key, _Version]
    ) -> Sequence[Column]:
        """Merge one version of each of some documents."""
        self._touch(versions)
        self.forget_rejected(
            columns,
            "EXISTS (SELECT FROM pg_temp.touched t WHERE t._id = key[1] AND t._id_type = key[2])",
        )
        documents = (
            version.document for version in versions.values() if version.document is not None
        )
        looked_up = [version.id for version in versions.values() if version.is_looked_up]
        found, batches = self.reader.rows_in(
            self.table, columns, chain(documents, self.reader.documents(self.table, looked_up))
        )
        columns, _ = self.raw.prepare(found, self.raw.columns())
        self._taking = versions
        try:
            self._take_changes(columns, batches)
            self.merge(columns, self.find_gone(columns))
        finally:
            self._taking = None
        self.close_gone()
        return columns

    def _reread_released(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Look up the documents of quarantine entries that are to be tried again."""
        if not self.call.request.released:
            return columns
        rows = self.raw.connection.execute(
            "SELECT key FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL"
            " AND key IS NOT NULL AND id = ANY(%s)",
            (self.source.name, self.table.name, list(self.call.request.released)),
        )
        keys = [tuple(key) for (key,) in rows]
        return self._take_versions(
            columns,
            {key: _Version("update", id_value(*key), None, True, None) for key in keys},
        )

    def _touch(self, versions: Mapping[Key, _Version]) -> None:
        """Create the temporary table `touched` with the documents' keys."""
        self.execute("DROP TABLE IF EXISTS pg_temp.touched")
        self.execute(
            "CREATE TEMP TABLE touched (_id text, _id_type text, _committed_at timestamptz) "
            "ON COMMIT DROP"
        )
        with self.raw.connection.cursor() as cursor:
            with cursor.copy("COPY pg_temp.touched FROM STDIN") as copy:
                for (text, type_), version in versions.items():
                    # A text with a NUL is in no row of raw.
                    if "\0" not in text:
                        copy.write_row((text, type_, version.committed_at))
        self.execute("CREATE INDEX ON pg_temp.touched (_id)")
        self.execute("ANALYZE pg_temp.touched")


def _portions(events: Iterable[Event | Void]) -> Iterator[list[Event | Void]]:
    """Yield the events in portions that fit into memory."""
    some: list[Event | Void] = []
    size = 0
    for event in events:
        some.append(event)
        size += len(event.document or b"") if isinstance(event, Event) else 0
        if len(some) >= _EVENTS_A_ROUND or size >= _BYTES_A_ROUND:
            yield some
            some, size = [], 0
    if some:
        yield some
