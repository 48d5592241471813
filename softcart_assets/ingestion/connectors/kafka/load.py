"""Follows a topic in Debezium's format, with the engine's own merge.

Debezium sends changes again after a crash, and takes a broken snapshot anew from its beginning. So
each row remembers the place in the database's log at which it was last told. A change counts if it
lies behind that, whatever its offset is. So each change counts once.

The rows of a snapshot share a place. When a snapshot is whole, the rows that were told before its
place and that it did not tell again are gone: a snapshot that broke off may have told them.

Rows and offsets commit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from softcart_assets.ingestion.bookkeeping import LastLoad
from softcart_assets.ingestion.connectors.kafka.errors import again, purged
from softcart_assets.ingestion.connectors.kafka.messages import Message, Messages, Operation
from softcart_assets.ingestion.connectors.kafka.names import LOG_POSITION
from softcart_assets.ingestion.connectors.kafka.positions import (
    Place,
    epoch_of,
    log_position,
    place_of,
    with_place,
)
from softcart_assets.ingestion.connectors.kafka.reader import KafkaReader
from softcart_assets.ingestion.connectors.kafka.values import (
    OFFSET,
    POSITION_COLUMN,
    RowSchema,
    batch_of,
)
from softcart_assets.ingestion.engine.table import Moved
from softcart_assets.ingestion.engine.versions import VersionedLoad
from softcart_assets.ingestion.errors import SourceLost, SourceRefused
from softcart_assets.ingestion.request import Call
from softcart_assets.ingestion.sinks.raw import Counts
from softcart_assets.ingestion.sinks.sql import literal, quote
from softcart_assets.ingestion.types import Column, Rejected, Unfit
from softcart_assets.lines.model import Table

_MESSAGES_A_ROUND = 5_000
_TOLD = "coalesce(r._log_position, '') COLLATE \"C\""
"""SQL for the place at which a row of raw was told. Rows from before have none."""

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Version:
    """A version of a row: what a message says, at its place and offset."""

    operation: Operation
    message: Message
    at: str
    offset: str
    committed_at: datetime | None


class TopicLoad(VersionedLoad):
    """The load of the topic of one table."""

    reader: KafkaReader

    def __init__(self, call: Call, table: Table) -> None:
        super().__init__(call, table)
        self._place = Place("", "", 0)
        self._is_start = False

    def _move(self, columns: Sequence[Column], last: LastLoad | None) -> Moved:
        now = place_of(self.position)
        assert now
        # Rows need no place, which is long.
        self.position = self.quarantine.position = with_place(self.position, None)
        was_empty = self.raw.is_empty()
        if self.is_new:
            # Without a row: it makes the key.
            list(self.raw.fill(columns, [], self.position))
        before = place_of(last.position) if last else None
        self._is_start = bool(
            not before or before.topic != now.topic or self.call.request.full or was_empty
        )
        if self._is_start or not before:
            columns = self._begin(columns, now)
        else:
            self._check(before, now)
            self._place = before
            columns = self._reread_released(columns)
        columns = self._follow(columns, now.offsets)
        self.position = with_place(self.position, self._place)
        if self.is_new and not self.counts.inserted:
            # Of an empty table the lake gets a file with its columns, so that its readers find it.
            schema = pa.schema([(column.name, column.arrow_type) for column in columns])
            self._lake_files().write(columns, pa.RecordBatch.from_pylist([], schema=schema))
        return columns, None, "snapshot" if self._is_start else "cdc"

    # Where it begins.

    def _begin(self, columns: Sequence[Column], now: Place) -> Sequence[Column]:
        """Begin the topic at its start. Whatever raw has comes before everything in it."""
        self.must_count = True
        if gone := sorted(part for part, start in self.reader.starts.items() if start):
            raise purged(
                self.reader.connection,
                self.asset,
                f"partition {gone[0]} of {now.topic!r} begins at offset "
                f"{self.reader.starts[gone[0]]}, so the beginning is not kept any more",
            )
        columns, _ = self.raw.prepare([POSITION_COLUMN, *_without_own(columns)], columns)
        row = self.raw.connection.execute(
            f"SELECT max({_TOLD}) FROM {self.raw.name} r".encode()
        ).fetchone()
        epoch = epoch_of(row[0]) + 1 if row and row[0] else 0
        self._place = replace(now, epoch=epoch, offsets=dict.fromkeys(now.offsets, 0))
        return columns

    def _check(self, before: Place, now: Place) -> None:
        """Raise `PositionPurged` if messages behind the last load are gone."""
        if before.id != now.id:
            raise purged(self.reader.connection, self.asset, f"topic {now.topic!r} was made anew")
        for part, offset in before.offsets.items():
            start, end = self.reader.starts.get(part, 0), now.offsets.get(part, 0)
            if start > offset:
                raise purged(
                    self.reader.connection,
                    self.asset,
                    f"offsets {offset} to {start - 1} of partition {part} are not kept any more",
                )
            if end < offset:
                raise purged(
                    self.reader.connection,
                    self.asset,
                    f"partition {part} ends at {end}, and {offset} was read already",
                )

    # What the topic tells.

    def _follow(self, columns: Sequence[Column], until: Mapping[str, int]) -> Sequence[Column]:
        place = self._place
        reading = Messages(self.asset, place.topic, self.table.key)
        waiting: list[Version] = []
        for each in self.reader.messages(self.table, place.offsets, until):
            value = each.value()
            # Without a value: Debezium sends one behind each deletion, for compacted topics.
            if value is None or (message := reading.read(value)) is None:
                continue
            part, offset = str(each.partition()), each.offset()
            version = self._version(message, part, f"{part}:{offset}")
            if version is None:
                continue
            is_full = len(waiting) >= _MESSAGES_A_ROUND
            is_other = waiting and waiting[-1].message.schema is not message.schema
            if is_full or is_other or version.operation == "truncate":
                columns = self._take_all(columns, waiting)
                waiting = []
            if version.operation == "truncate":
                columns = self._remove_before(columns, version.at)
            else:
                waiting.append(version)
        columns = self._take_all(columns, waiting)
        place.offsets = {**place.offsets, **until}
        return self._end_snapshot(columns)

    def _version(self, message: Message, part: str, offset: str) -> Version | None:
        """Return the version, and note where the topic is. None: it does not count any more."""
        place = self._place
        at = log_position(place.epoch, message.number, message.offset, message.line, message.part)
        latest, time = place.latest.get(part, ("", 0))
        is_read = message.operation == "read"
        # What is sent again comes again with its time. Anything else that lies before what has come
        # already is of another log.
        is_behind = at < latest and (is_read or message.time > time)
        if is_behind or message.log != (place.log or message.log):
            raise SourceRefused(
                f"{self.asset}: at offset {offset}, Debezium goes on at {message.log}."
                f"{message.number:06d}:{message.offset} of the database's log, which lies before "
                f"what it has told already ({latest}): it follows another server, or the log "
                f"began anew. Nothing was committed. {again(self.reader.connection)}"
            )
        place.log = message.log
        if is_read:
            begin = log_position(place.epoch, message.number, message.offset, 0, 0)
            if begin > (place.snapshot or ""):
                place.snapshot, place.is_whole = begin, False
            place.is_whole |= message.is_last and begin == place.snapshot
        else:
            place.latest[part] = max(at, latest), max(message.time, time)
            # Debezium tells changes only when its snapshot is whole.
            place.is_whole |= at > (place.snapshot or at)
        if at < place.floor:
            return None
        moment = (
            None
            if is_read
            else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=message.time)
        )
        return Version(message.operation, message, at, offset, moment)

    def _end_snapshot(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Remove the rows that the last snapshot did not tell again, when it is whole."""
        place = self._place
        if place.snapshot is None:
            if self._is_start:
                self.warnings.append(
                    f"topic {place.topic!r} has no snapshot: rows from before its first message "
                    "are missing unless Debezium began with an empty table"
                )
                return self._remove_before(columns, log_position(place.epoch, 0, 0, 0, 0))
            return columns
        if not place.is_whole:
            if self._is_start:
                raise SourceLost(
                    f"{self.asset}: Debezium has not finished its snapshot in topic "
                    f"{place.topic!r}. Nothing was committed. Load again when it is whole. If it "
                    "broke off, Debezium begins it anew."
                )
            self.warnings.append("Debezium has not finished its new snapshot yet")
            return columns
        return (
            columns
            if place.floor >= place.snapshot
            else self._remove_before(columns, place.snapshot)
        )

    def _remove_before(self, columns: Sequence[Column], at: str) -> Sequence[Column]:
        """Mark the rows as deleted that were told before a place in the log."""
        self._place.floor = max(self._place.floor, at)
        self.raw.stage(columns)
        names = ", ".join(quote(column.name) for column in columns)
        values = ", ".join(
            literal(at) if column.name == LOG_POSITION else quote(column.name) for column in columns
        )
        done = self.raw.connection.execute(
            f"INSERT INTO pg_temp.changes ({names}, _deleted, _is_new) SELECT {values}, true, "
            f"false FROM {self.raw.name} r WHERE NOT _deleted AND {_TOLD} < {literal(at)}".encode()
        )
        self.merge(columns, Counts(deleted=done.rowcount))
        return columns

    # How versions come into raw.

    def _take_all(self, columns: Sequence[Column], versions: Sequence[Version]) -> Sequence[Column]:
        """Bring versions with one schema into raw, each row's in their order."""
        if not versions:
            return columns
        schema = versions[0].message.schema
        columns = self._prepared(columns, schema)
        lines: dict[Key, list[Version]] = {}
        for version in versions:
            try:
                key = schema.key(self.table.key, version.message.row)
            except Unfit as reason:
                self._refuse_key(version, str(reason))
                continue
            lines.setdefault(key, []).append(version)
        # One version of each row in a turn: a merge can take a row only once, and the history needs
        # every version.
        for turn in range(max(map(len, lines.values()), default=0)):
            self._take_versions(
                columns,
                schema,
                {key: line[turn] for key, line in lines.items() if turn < len(line)},
            )
        return columns

    def _prepared(self, columns: Sequence[Column], schema: RowSchema) -> Sequence[Column]:
        """Make raw fit the columns of some messages."""
        if columns == [POSITION_COLUMN, *schema.columns]:
            return columns
        known = {column.name for column in columns}
        added = [column.name for column in schema.columns if column.name not in known]
        columns, _ = self.raw.prepare([POSITION_COLUMN, *schema.columns], self.raw.columns())
        if filled := [name for name in added if name in schema.has_default]:
            self.warnings.append(
                f"column {', '.join(map(repr, filled))} is new and has a default: rows that have "
                "not changed since have NULL. Have Debezium take a new snapshot of the table"
            )
        return columns

    def _refuse_key(self, version: Version, reason: str) -> None:
        row = {name: None if v is None else str(v) for name, v in version.message.row.items()}
        self.quarantine.record(
            [Rejected(None, None, self.table.key[0], reason, row | {OFFSET: version.offset})]
        )

    def _take_versions(
        self, columns: Sequence[Column], schema: RowSchema, versions: Mapping[Key, Version]
    ) -> None:
        """Merge one version of each of some rows, unless raw has a later one."""
        self._touch(columns, versions.items())
        keys = list(versions)
        late = {keys[number] for number in self._overtaken()}
        versions = {key: version for key, version in versions.items() if key not in late}
        if not versions:
            return
        self.forget_rejected_of_touched(columns)
        rows = [
            (each.message.row, each.at, each.offset)
            for each in versions.values()
            if each.operation != "delete"
        ]
        self._taking = {_comparable(key): version for key, version in versions.items()}
        try:
            self._take_changes(columns, [batch_of(columns, schema, self.table.key, rows)])
            self.merge(columns, self.find_gone(columns))
        finally:
            self._taking = None
        self.close_gone()

    def _touch(self, columns: Sequence[Column], versions: Iterable[tuple[Key, Version]]) -> None:
        """Create the temporary table `touched` with the rows' keys."""
        types = {column.name: column.target_type for column in columns}
        keys = ", ".join(f"{quote(name)} {types[name]}" for name in self.raw.key)
        self.execute("DROP TABLE IF EXISTS pg_temp.touched")
        self.execute(
            f"CREATE TEMP TABLE touched ({keys}, _committed_at timestamptz, _told text, "
            "_number integer) ON COMMIT DROP"
        )
        with self.raw.connection.cursor() as cursor:
            with cursor.copy("COPY pg_temp.touched FROM STDIN") as copy:
                for number, (key, version) in enumerate(versions):
                    copy.write_row((*key, version.committed_at, version.at, number))
        self.execute("ANALYZE pg_temp.touched")

    def _overtaken(self) -> list[int]:
        """Forget the touched rows that raw has from the same place or a later one.

        Returns their numbers.
        """
        rows = self.raw.connection.execute(
            f"DELETE FROM pg_temp.touched t USING {self.raw.name} r WHERE "
            f"{self.raw.same_key('t', 'r')} AND {_TOLD} >= t._told RETURNING t._number".encode()
        )
        return [number for (number,) in rows]

    def _reread_released(self, columns: Sequence[Column]) -> Sequence[Column]:
        """Read the messages of quarantine entries again that are to be tried again."""
        if not self.call.request.released:
            return columns
        rows = self.raw.connection.execute(
            "SELECT row ->> %s FROM ingestion.quarantine WHERE source = %s AND table_name = %s AND "
            "closed_at IS NULL AND id = ANY(%s)",
            (OFFSET, self.source.name, self.table.name, list(self.call.request.released)),
        ).fetchall()
        reading = Messages(self.asset, self._place.topic, self.table.key)
        for text in filter(None, (text for (text,) in rows)):
            part, _, offset = text.partition(":")
            found = self.reader.message_at(self.table, part, int(offset))
            message = reading.read(found.value() or b"") if found else None
            if message is None:
                self.warnings.append(
                    f"the message at {text} of a row in quarantine is not kept any more"
                )
                continue
            at = log_position(
                self._place.epoch, message.number, message.offset, message.line, message.part
            )
            columns = self._take_all(columns, [Version(message.operation, message, at, text, None)])
        return columns

    def value_when_gone(self, column: Column) -> str:
        """Return SQL for the value that a deleted row has in a column."""
        return "t._told" if column.name == LOG_POSITION else super().value_when_gone(column)


def _without_own(columns: Sequence[Column]) -> list[Column]:
    return [column for column in columns if column.name != LOG_POSITION]


def _comparable(key: Key) -> Key:
    """Return a key as `VersionedLoad` looks versions up, with bytes as their text."""
    return tuple("\\x" + part.hex() if isinstance(part, bytes) else part for part in key)
