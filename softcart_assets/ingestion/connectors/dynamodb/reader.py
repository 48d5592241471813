"""Reads DynamoDB: items as typed rows, with columns found in the items themselves.

All items are read by a parallel scan, one segment for each reader that the engine asks for. A scan
is no snapshot. It holds each item as it was when its page was read, between the stated position and
the end of the scan, and two items need not have been like that at any one moment. Unless reads are
consistent, an item may even be some moments older than its page. Nobody can promise more: only a
stream, by strategy `cdc`, leads from there to one true state.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from softcart_assets.connections import DynamoConnection
from softcart_assets.ingestion.connectors.dynamodb.columns import (
    DOCUMENT,
    REMOVED_BY,
    columns_for,
    key_columns,
)
from softcart_assets.ingestion.connectors.dynamodb.errors import code_of, explained
from softcart_assets.ingestion.connectors.dynamodb.positions import Place, position_text
from softcart_assets.ingestion.connectors.dynamodb.rows import Spool
from softcart_assets.ingestion.connectors.dynamodb.streams import RECENT, Stream
from softcart_assets.ingestion.connectors.dynamodb.values import Item, key_value
from softcart_assets.ingestion.errors import MissingTable, SchemaChanged, SourceRefused
from softcart_assets.ingestion.proof.digest import Checksums
from softcart_assets.ingestion.proof.tally import Accumulator
from softcart_assets.ingestion.types import Batch, Column
from softcart_assets.lines.model import Source, Table

_KEYS_A_REQUEST = 100
"""DynamoDB's limit."""
_PAGES_AHEAD = 2
_ATTEMPTS = 10


class Budget:
    """Read capacity units that may be used in a second. Threads share it. `rate` 0: no limit."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def wait(self) -> None:
        """Wait until what has been used is paid for."""
        if self._rate:
            with self._lock:
                seconds = self._free_at - time.monotonic()
            if seconds > 0:
                time.sleep(seconds)

    def use(self, answer: Mapping[str, Any]) -> None:
        """Count what an answer says that it has used."""
        told = answer.get("ConsumedCapacity") or {}
        units = sum(each.get("CapacityUnits", 0) for each in _as_list(told))
        if self._rate:
            with self._lock:
                now = time.monotonic()
                self._free_at = max(self._free_at, now) + units / self._rate


def _as_list(told: Any) -> list[Mapping[str, Any]]:
    return list(told) if isinstance(told, list) else [told]


@contextmanager
def opened(
    source: Source, connection: DynamoConnection, segments: int = 1
) -> Iterator[list[DynamoReader]]:
    """Open the one reader of a region's tables, which reads by so many segments at once."""
    yield [DynamoReader(source, connection, segments)]


class DynamoReader:
    """Reads the tables of one region. Items are as they are at the moment of reading."""

    def __init__(self, source: Source, connection: DynamoConnection, segments: int = 1) -> None:
        self.source = source
        self.connection = connection
        self._segments = max(segments, 1)
        self._client = connection.client()
        self._streams = connection.client("dynamodbstreams")
        self._budget = Budget(float(connection.rcu_per_second))
        self._sums: dict[str, Accumulator] = {}
        self._warnings: dict[str, list[str]] = {}

    def asset(self, table: Table) -> str:
        """Return the name of the table's asset, for messages."""
        return f"{self.source.schema}/{table.name}"

    def at_source(self, table: Table) -> str:
        """Return the table's name in DynamoDB."""
        return self.connection.table_prefix + table.at_source

    def described(self, table: Table) -> Mapping[str, Any]:
        """Return DynamoDB's description of the table. Raises `MissingTable`."""
        name = self.at_source(table)
        with explained(self.connection, self.asset(table)):
            try:
                found: Mapping[str, Any] = self._client.describe_table(TableName=name)["Table"]
                return found
            except ClientError as error:
                if code_of(error) != "ResourceNotFoundException":
                    raise
        raise MissingTable(
            f"{self.asset(table)}: DynamoDB has no table {name!r} in region "
            f"{self.connection.region}. Create it, check {self.connection.prefix}_REGION and "
            f"{self.connection.prefix}_TABLE_PREFIX, or take it out of the declaration of source "
            f"{self.source.name!r}."
        )

    def key_types(self, table: Table) -> dict[str, str]:
        """Return the attributes of the table's key, each with S, N or B, in the declared order.

        Raises `SchemaChanged` if another key is declared.
        """
        found = self.described(table)
        types = {
            each["AttributeName"]: each["AttributeType"] for each in found["AttributeDefinitions"]
        }
        names = [each["AttributeName"] for each in found["KeySchema"]]
        if {*names} != {*table.key}:
            raise SchemaChanged(
                f"{self.asset(table)}: the key of DynamoDB's table is {', '.join(names)}, not "
                f"{', '.join(table.key) or 'none'}. Declare key={tuple(names)!r}."
            )
        return {name: types[name] for name in table.key}

    def position(self, table: Table) -> str:
        """Return the present time and DynamoDB's figures: `time|items|bytes`.

        For a followed table, `|place` says which stream it has. Nothing of it has been read.
        """
        moment = datetime.now(UTC)
        found = self.described(table)
        place = None
        if table.strategy == "cdc":
            place = Place(self.stream_of(table, found))
        return position_text(
            moment, found.get("ItemCount", 0), found.get("TableSizeBytes", 0), place
        )

    def stream_of(self, table: Table, described: Mapping[str, Any] | None = None) -> str:
        """Return the name of the table's stream. Raises `SourceRefused` if it has none."""
        found = described or self.described(table)
        told = found.get("StreamSpecification") or {}
        if arn := found.get("LatestStreamArn") if told.get("StreamEnabled") else None:
            return str(arn)
        raise SourceRefused(
            f"{self.asset(table)}: DynamoDB's table {self.at_source(table)!r} has no stream, which "
            "the strategy 'cdc' needs. Turn it on, with the view type NEW_IMAGE or "
            "NEW_AND_OLD_IMAGES, or declare the strategy 'snapshot'."
        )

    def view_of(self, table: Table) -> str | None:
        """Return what the records of the table's stream hold. None: it has none."""
        return (self.described(table).get("StreamSpecification") or {}).get("StreamViewType")

    def try_out(self, table: Table) -> None:
        """Ask for a little of all that a load asks for, so that a missing privilege shows."""
        self.key_types(table)
        with explained(self.connection, self.asset(table)):
            self._client.scan(TableName=self.at_source(table), Limit=1)
        if table.strategy != "cdc":
            return
        stream = self.stream(table)
        with explained(self.connection, self.asset(table)):
            next(stream.events(datetime.now(UTC)), None)

    def time_to_live(self, table: Table) -> str | None:
        """Return the attribute with the time at which an item expires. None: items never do."""
        with explained(self.connection, self.asset(table)):
            told = self._client.describe_time_to_live(TableName=self.at_source(table))
        found = told["TimeToLiveDescription"]
        return found.get("AttributeName") if found["TimeToLiveStatus"] == "ENABLED" else None

    def stream(
        self, table: Table, place: Place | None = None, age: timedelta | None = None
    ) -> Stream:
        """Return the table's stream from a place. `age`: the time since the place was stated."""
        return Stream(
            self._streams,
            place.stream if place else self.stream_of(table),
            place,
            is_recent=age is not None and age <= RECENT,
        )

    def columns(self, table: Table, known: Sequence[Column]) -> list[Column]:
        """Return the columns known so far. `rows_in` and `all_rows` find more."""
        own = [*key_columns(self.key_types(table)), DOCUMENT]
        own += [REMOVED_BY] if table.strategy == "cdc" else []
        names = {column.name for column in known}
        return [*known, *(column for column in own if column.name not in names)]

    def reset(self) -> None:
        """Do nothing: requests do not block each other."""

    def warnings(self, table: Table) -> list[str]:
        """Attributes that have no column of their own, and why."""
        return self._warnings.get(table.name, [])

    def expected_rows(self, table: Table) -> int | None:
        """The number of items some hours ago."""
        return self.described(table).get("ItemCount") or None

    def all_rows(
        self, table: Table, columns: Sequence[Column]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Return the columns that the items need, and every item as rows."""
        self._sums[table.name] = Accumulator()
        self._warnings.pop(table.name, None)
        found, batches = self.rows_in(table, columns, self._scanned(table))
        return found, self._summed(table, found, batches)

    def rows_in(
        self, table: Table, columns: Sequence[Column], items: Iterable[Item]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Return the columns that these items need, and their rows.

        They are first written to a temporary file, to learn their types.
        """
        spool = Spool(items)
        found, warnings = columns_for(columns, spool.types)
        told = [*self.warnings(table), *warnings]
        self._warnings[table.name] = list(dict.fromkeys(told))
        return found, spool.rows(table, found)

    def rows_of(
        self, table: Table, columns: Sequence[Column], keys: Iterable[tuple[str, ...]]
    ) -> tuple[list[Column], Iterator[Batch]]:
        """Return the columns that the items with these keys need, and their rows."""
        types = self.key_types(table)
        wanted = (
            {name: key_value(text, types[name]) for name, text in zip(table.key, key, strict=True)}
            for key in keys
        )
        return self.rows_in(table, columns, self.items(table, wanted))

    def items(self, table: Table, keys: Iterable[Mapping[str, Any]]) -> Iterator[Item]:
        """Yield the items with these keys as they are now, read consistently."""
        name, waiting = self.at_source(table), iter(keys)
        while some := list(islice(waiting, _KEYS_A_REQUEST)):
            for attempt in range(_ATTEMPTS):
                self._budget.wait()
                with explained(self.connection, self.asset(table)):
                    answer = self._client.batch_get_item(
                        RequestItems={name: {"Keys": some, "ConsistentRead": True}},
                        ReturnConsumedCapacity="TOTAL",
                    )
                self._budget.use(answer)
                yield from answer["Responses"].get(name, [])
                some = answer.get("UnprocessedKeys", {}).get(name, {}).get("Keys", [])
                if not some:
                    break
                time.sleep(min(0.05 * 2**attempt, 5))
            else:
                raise SourceRefused(
                    f"{self.asset(table)}: DynamoDB did not answer for {len(some)} keys in "
                    f"{_ATTEMPTS} attempts. Nothing was committed. Give the table more capacity."
                )

    def _scanned(self, table: Table) -> Iterator[Item]:
        """Yield every item. All segments are read at once, a few pages ahead."""
        pages: queue.Queue[list[Item] | BaseException | None] = queue.Queue(
            self._segments * _PAGES_AHEAD
        )
        is_over = threading.Event()

        def hand_over(page: list[Item] | BaseException | None) -> None:
            while not is_over.is_set():
                try:
                    return pages.put(page, timeout=0.2)
                except queue.Full:
                    continue

        def read(segment: int) -> None:
            try:
                for page in self._segment(table, segment):
                    if is_over.is_set():
                        return
                    hand_over(page)
                hand_over(None)
            except BaseException as error:
                hand_over(error)

        threads = [
            threading.Thread(target=read, args=(n,), name=f"softcart scan {n}", daemon=True)
            for n in range(self._segments)
        ]
        for thread in threads:
            thread.start()
        try:
            open_segments = self._segments
            while open_segments:
                page = pages.get()
                if page is None:
                    open_segments -= 1
                elif isinstance(page, BaseException):
                    raise page
                else:
                    yield from page
        finally:
            is_over.set()
            for thread in threads:
                thread.join()

    def _segment(self, table: Table, segment: int) -> Iterator[list[Item]]:
        """Yield the pages of one segment."""
        more: dict[str, Any] = {}
        while True:
            self._budget.wait()
            with explained(self.connection, self.asset(table)):
                answer = self._client.scan(
                    TableName=self.at_source(table),
                    Segment=segment,
                    TotalSegments=self._segments,
                    # A followed table's changes are newer than what was read, never older.
                    ConsistentRead=table.strategy == "cdc"
                    or self.connection.is_consistent == "yes",
                    ReturnConsumedCapacity="TOTAL",
                    **more,
                )
            self._budget.use(answer)
            yield answer.get("Items", [])
            if not (last := answer.get("LastEvaluatedKey")):
                return
            more = {"ExclusiveStartKey": last}

    def _summed(
        self, table: Table, columns: Sequence[Column], batches: Iterable[Batch]
    ) -> Iterator[Batch]:
        for batch in batches:
            self._sums[table.name].add(columns, batch.rows)
            yield batch

    def tally(self, table: Table, columns: Sequence[Column]) -> tuple[int, Checksums]:
        """Return number and checksums of the items of the last `all_rows` that fitted."""
        return self._sums[table.name].result(columns)
