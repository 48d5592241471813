"""Follows a DynamoDB table by its stream, with the engine's own merge.

The first load scans the table, and then applies what the stream has had since the scan began, of
each item the last version. So nothing is lost between the two, and raw is as the table was at one
moment. Every later load applies what happened since the last one. Rows and place commit together.

If the stream may have lost something, the load fails and says so: see `streams.check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Literal

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.connectors.dynamodb.columns import REMOVED_BY
from softcart_assets.ingestion.connectors.dynamodb.errors import explained
from softcart_assets.ingestion.connectors.dynamodb.positions import (
    Place,
    place_of,
    time_of,
    with_place,
)
from softcart_assets.ingestion.connectors.dynamodb.reader import DynamoReader
from softcart_assets.ingestion.connectors.dynamodb.rows import key_of
from softcart_assets.ingestion.connectors.dynamodb.streams import Event, Shard, Stream, check
from softcart_assets.ingestion.connectors.dynamodb.values import Item, key_value
from softcart_assets.ingestion.engine.table import Moved, Stated
from softcart_assets.ingestion.engine.versions import VersionedLoad
from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.sinks.sql import quote
from softcart_assets.ingestion.types import Column
from softcart_assets.lines.model import Table

_EVENTS_A_ROUND = 2_000
_LAST_ONES_OF = 20_000
"""After a scan, so many events are taken together. They have to fit into memory."""
_CLOCKS_DIFFER = timedelta(minutes=5)
"""The time of a record is approximate, and by DynamoDB's clock. The scan's beginning is by ours."""
EXPIRY = "expiry"
"""In `removed_by`: the item's time had come."""
REQUEST = "request"
"""In `removed_by`: a program has deleted the item."""

Key = tuple[str, ...]
"""The values of an item's key, as text."""


@dataclass(frozen=True)
class Version:
    """A version of an item. `item` None: deleted, or with `is_looked_up`, it has to be read now."""

    operation: Literal["insert", "update", "delete"]
    key: Item
    item: Item | None
    is_looked_up: bool
    removed_by: str | None
    committed_at: datetime | None


def lines_of(
    table: Table, events: Iterable[Event], *, last_only: bool = False
) -> dict[Key, list[Version]]:
    """Return the versions of each item, in their order. `last_only`: only the last one of each."""
    lines: dict[Key, list[Version]] = {}
    for event in events:
        line = lines.setdefault(key_of(table, event.key), [])
        is_new = event.operation == "insert"
        # Looking an item up twice would give the same.
        if line and line[-1].is_looked_up:
            is_new |= line.pop().operation == "insert" and event.operation != "delete"
        if last_only:
            line.clear()
        is_deletion = event.operation == "delete"
        line.append(
            Version(
                "insert" if is_new else event.operation,
                event.key,
                event.item,
                not is_deletion and event.item is None,
                (EXPIRY if event.is_expired else REQUEST) if is_deletion else None,
                event.committed_at,
            )
        )
    return lines


class FollowedLoad(VersionedLoad):
    """The load of one table with strategy `cdc`."""

    reader: DynamoReader

    def __init__(self, call: Call, table: Table) -> None:
        super().__init__(call, table)
        self._events = 0
        self._all_read_after: int | None = None
        """The number of events at the time when all items were read. None: they were not."""

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        now, began = place_of(self.position), time_of(self.position)
        assert now
        # Rows need no place, which is long.
        self.position = self.quarantine.position = with_place(self.position, None)
        before = place_of(last.position) if last else None
        if last and before and not self.call.request.full and not self.raw.is_empty():
            columns, place = self._followed(columns, now, before, began - time_of(last.position))
            how = "cdc"
        else:
            columns, place = self._begun(columns, now, began)
            how = "snapshot"
        self.position = with_place(self.position, place)
        # A scan's checksums are those of raw only if nothing was applied afterwards.
        return columns, None if self._is_as_read else (None, None), how

    @property
    def _is_as_read(self) -> bool:
        return self._all_read_after == self._events

    def _source_checksums(self, columns: Sequence[Column]) -> Stated:
        return super()._source_checksums(columns) if self._is_as_read else (None, None)

    def _begun(
        self, columns: Sequence[Column], now: Place, began: datetime
    ) -> tuple[Sequence[Column], Place]:
        """Scan all items, and apply what the stream has had since."""
        columns = self._full(columns)
        self._all_read_after = self._events
        with explained(self.reader.connection, self.asset):
            # The whole stream is read, and only what is young enough is taken. To begin at its
            # present end would need the scan to be shorter than an iterator lives.
            place = replace(now, since=began - _CLOCKS_DIFFER)
            stream = self.reader.stream(self.table, place)
            events = stream.events(datetime.now(UTC))
            # The last versions only: a record from before the scan would bring an item back to a
            # state that the scan no longer saw.
            while some := list(islice(events, _LAST_ONES_OF)):
                lines = lines_of(self.table, some, last_only=True)
                columns = self._take_lines(columns, lines)
        return columns, stream.place

    def _followed(
        self, columns: Sequence[Column], now: Place, before: Place, age: timedelta
    ) -> tuple[Sequence[Column], Place]:
        """Apply what the stream has had since the last load."""
        columns = self._reread_released(columns)
        with explained(self.reader.connection, self.asset):
            stream = self.reader.stream(self.table, before, age)
            check(before, now.stream, _listed(stream, now), age, self.asset)
            events = stream.events(datetime.now(UTC))
            while some := list(islice(events, _EVENTS_A_ROUND)):
                columns = self._take_lines(columns, lines_of(self.table, some))
        columns = self._take_unrecorded_expiries(columns)
        return columns, stream.place

    def _take_lines(
        self, columns: Sequence[Column], lines: Mapping[Key, Sequence[Version]]
    ) -> Sequence[Column]:
        """Bring versions into raw, each item's in their order."""
        before = (self.counts, self.quarantine.new, self.closed)
        # One version of each item in a turn: a merge can take a row only once, and the history
        # needs every version.
        for turn in range(max(map(len, lines.values()), default=0)):
            columns = self._take_versions(
                columns, {key: line[turn] for key, line in lines.items() if turn < len(line)}
            )
        # What a scan has seen already changes nothing.
        if (self.counts, self.quarantine.new, self.closed) != before:
            self._events += 1
        return columns

    def _take_versions(
        self, columns: Sequence[Column], versions: Mapping[Key, Version]
    ) -> Sequence[Column]:
        """Merge one version of each of some items."""
        self._touch(columns, versions)
        self.forget_rejected_of_touched(columns)
        looked_up = [version.key for version in versions.values() if version.is_looked_up]
        items = [version.item for version in versions.values() if version.item is not None]
        found, batches = self.reader.rows_in(
            self.table, columns, chain(items, self.reader.items(self.table, looked_up))
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
        """Look up the items of quarantine entries that are to be tried again."""
        if not self.call.request.released:
            return columns
        rows = self.raw.connection.execute(
            "SELECT key FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL AND key IS NOT NULL AND id = ANY(%s)",
            (self.source.name, self.table.name, list(self.call.request.released)),
        )
        return self._look_up(columns, [tuple(key) for (key,) in rows], None)

    def _look_up(
        self, columns: Sequence[Column], keys: Sequence[Key], removed_by: str | None
    ) -> Sequence[Column]:
        """Read some items as they are now. `removed_by`: how those that are gone went."""
        if not keys:
            return columns
        types = self.reader.key_types(self.table)
        versions = {
            key: Version(
                "update",
                {
                    name: key_value(text, types[name])
                    for name, text in zip(self.table.key, key, strict=True)
                },
                None,
                True,
                removed_by,
                None,
            )
            for key in keys
        }
        return self._take_lines(columns, {key: [version] for key, version in versions.items()})

    def _take_unrecorded_expiries(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Look up the items whose time has come, at a server that expires without a record.

        Amazon's own writes a record, so it is not asked.
        """
        if not self.reader.connection.endpoint:
            return columns
        attribute = self.reader.time_to_live(self.table)
        if not any(
            column.name == attribute and (column.target_type == "bigint" or column.decimal)
            for column in columns
        ):
            return columns
        names = ", ".join(f"r.{quote(name)}::text" for name in self.table.key)
        rows = self.raw.connection.execute(
            f"SELECT {names} FROM {self.raw.name} r WHERE NOT r._deleted AND "
            f"r.{quote(str(attribute))} <= extract(epoch FROM clock_timestamp())".encode()
        ).fetchall()
        return self._look_up(columns, [tuple(row) for row in rows], EXPIRY)

    def _touch(self, columns: Sequence[Column], versions: Mapping[Key, Version]) -> None:
        """Create the temporary table `touched` with the items' keys."""
        types = {column.name: column.target_type for column in columns}
        keys = ", ".join(f"{quote(name)} {types[name]}" for name in self.table.key)
        self.execute("DROP TABLE IF EXISTS pg_temp.touched")
        self.execute(
            f"CREATE TEMP TABLE touched ({keys}, _committed_at timestamptz, _removed_by text) "
            "ON COMMIT DROP"
        )
        with self.raw.connection.cursor() as cursor:
            with cursor.copy("COPY pg_temp.touched FROM STDIN") as copy:
                for key, version in versions.items():
                    # A text with a NUL is in no row of raw.
                    if not any("\0" in text for text in key):
                        copy.write_row((*key, version.committed_at, version.removed_by))
        self.execute(f"CREATE INDEX ON pg_temp.touched ({self.keys()})")
        self.execute("ANALYZE pg_temp.touched")

    def value_when_gone(self, column: Column) -> str:
        """Return SQL for the value that a deleted item has in a column."""
        return (
            "t._removed_by" if column.name == REMOVED_BY.name else super().value_when_gone(column)
        )


def _listed(stream: Stream, now: Place) -> list[Shard]:
    """Return the stream's shards. None if it is not the table's stream any more."""
    return stream.listed() if stream.arn == now.stream else []
