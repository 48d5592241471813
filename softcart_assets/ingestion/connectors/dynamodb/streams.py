"""DynamoDB Streams: what happened to a table's items in the last 24 hours.

A stream consists of shards. Every item's changes are in one shard, and after that shard is closed,
in a child of it. So children are read after their parents. Between other shards there is no order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from botocore.exceptions import ClientError

from softcart_assets.ingestion.connectors.dynamodb.errors import TRIMMED, code_of, purged
from softcart_assets.ingestion.connectors.dynamodb.positions import DONE, START, Place
from softcart_assets.ingestion.connectors.dynamodb.values import Item

KEPT = timedelta(hours=24)
"""So long DynamoDB keeps the records of a stream."""
RECENT = timedelta(hours=12)
"""A shard that nobody writes to has no record any more after 24 hours. That alone is no loss.

A shard is open for some hours. So what was not read at a place this young is not gone.
"""
SAFE = timedelta(hours=23)
"""A place that is older counts as lost. What a shard keeps goes while it is read."""
_QUIET_PAGES = 20
"""After so many empty pages, an open shard counts as read to its present end.

A page may be empty though records follow, and nothing tells it from the end. What is behind still
more empty pages is read when Amazon has closed the shard, which is some hours later.
"""
_RECORDS_A_PAGE = 1_000
_OPERATIONS: dict[str, Literal["insert", "update", "delete"]] = {
    "INSERT": "insert",
    "MODIFY": "update",
    "REMOVE": "delete",
}
_EXPIRY = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
"""Who removes an item whose time has come."""


@dataclass(frozen=True)
class Shard:
    """A part of a stream. `is_closed`: no record will be added."""

    id: str
    parent: str | None
    is_closed: bool


@dataclass(frozen=True)
class Event:
    """What happened to one item.

    `item`: the whole item as the event left it. None: it must be looked up, or is gone.
    `is_expired`: DynamoDB itself removed it, by its time to live.
    """

    operation: Literal["insert", "update", "delete"]
    key: Item
    item: Item | None
    is_expired: bool
    committed_at: datetime | None


def event_of(record: Mapping[str, Any]) -> Event:
    """Return the event of a record."""
    data = record["dynamodb"]
    operation = _OPERATIONS[record["eventName"]]
    who = record.get("userIdentity") or {}
    # The client's model spells the names in another way than the documentation's examples.
    told = {name[:1].lower() + name[1:]: value for name, value in who.items()}
    at = data.get("ApproximateCreationDateTime")
    return Event(
        operation,
        data["Keys"],
        data.get("NewImage") if operation != "delete" else None,
        operation == "delete" and told == _EXPIRY,
        at.astimezone(UTC) if isinstance(at, datetime) else None,
    )


def in_order(shards: Iterable[Shard]) -> list[Shard]:
    """Return the shards, each one after its parent if that is among them."""
    waiting = {shard.id: shard for shard in shards}
    ordered: list[Shard] = []
    for shard in [*waiting.values()]:
        line = []
        current: Shard | None = shard
        while current and current.id in waiting:
            line.append(waiting.pop(current.id))
            current = waiting.get(current.parent or "")
        ordered += reversed(line)
    return ordered


def check(place: Place, stream: str, shards: Sequence[Shard], age: timedelta, asset: str) -> None:
    """Raise `PositionPurged` if a stream may have lost what followed a place.

    `age`: the time since the place was stated.
    """
    if place.stream != stream:
        raise purged(asset, "the table has another stream now")
    if age > SAFE:
        hours = age / timedelta(hours=1)
        raise purged(asset, f"the last load was {hours:,.0f} hours ago")
    known = {shard.id for shard in shards}
    if gone := [id_ for id_, at in place.shards.items() if at != DONE and id_ not in known]:
        raise purged(asset, f"shard {gone[0]} is gone, and was not read to its end")


class Stream:
    """One table's stream, read from a place. `shards` is how far each shard has been read.

    `client`: a client of `dynamodbstreams`. `is_recent`: the place was stated within
    `RECENT`. Then a record that is gone had been read, and what followed it is still there.
    """

    def __init__(
        self, client: Any, arn: str, place: Place | None = None, *, is_recent: bool = False
    ) -> None:
        self._client = client
        self._is_recent = is_recent
        self.arn = arn
        self.shards = dict(place.shards) if place else {}
        self._since = place.since if place else None

    @property
    def place(self) -> Place:
        """The place behind the last event."""
        return Place(self.arn, dict(self.shards), self._since)

    def listed(self) -> list[Shard]:
        """Return the shards that the stream has now, parents before their children."""
        found: list[Shard] = []
        more: dict[str, str] = {}
        while True:
            page = self._client.describe_stream(StreamArn=self.arn, **more)["StreamDescription"]
            found += [
                Shard(
                    each["ShardId"],
                    each.get("ParentShardId"),
                    "EndingSequenceNumber" in each.get("SequenceNumberRange", {}),
                )
                for each in page["Shards"]
            ]
            if not (last := page.get("LastEvaluatedShardId")):
                return in_order(found)
            more = {"ExclusiveStartShardId": last}

    def events(self, until: datetime) -> Iterator[Event]:
        """Yield the events up to a moment, each shard's in order, and parents' before children's.

        When the next event is asked for, `place` stands behind the one before.
        """
        listed = self.listed()
        names = {shard.id for shard in listed}
        for shard in listed:
            at = self.shards.setdefault(shard.id, START)
            # An item's later changes must not come before its earlier ones.
            if at == DONE or self.shards.get(shard.parent or "", DONE) != DONE:
                continue
            yield from self._events_of(shard, at, until)
        for id_ in self.shards.keys() - names:
            if self.shards[id_] == DONE:
                del self.shards[id_]

    def _events_of(self, shard: Shard, at: str, until: datetime) -> Iterator[Event]:
        iterator = self._iterator(shard, at)
        quiet = 0
        while iterator:
            page = self._client.get_records(ShardIterator=iterator, Limit=_RECORDS_A_PAGE)
            for record in page["Records"]:
                event = event_of(record)
                # Otherwise the load of a busy table would never end.
                if event.committed_at and event.committed_at > until:
                    return
                is_seen = self._since and event.committed_at and event.committed_at < self._since
                if not is_seen:
                    yield event
                # Only afterwards: an event that was not taken in comes again.
                self.shards[shard.id] = record["dynamodb"]["SequenceNumber"]
            quiet = 0 if page["Records"] else quiet + 1
            iterator = page.get("NextShardIterator")
            # A closed shard is read to its end, however many of its pages are empty.
            if iterator and quiet >= _QUIET_PAGES and not shard.is_closed:
                return
        self.shards[shard.id] = DONE

    def _iterator(self, shard: Shard, at: str) -> str | None:
        where = (
            {"ShardIteratorType": "TRIM_HORIZON"}
            if at == START
            else {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": at}
        )
        try:
            answer = self._client.get_shard_iterator(StreamArn=self.arn, ShardId=shard.id, **where)
        except ClientError as error:
            if code_of(error) != TRIMMED or at == START or not self._is_recent:
                raise
            return self._iterator(shard, START)
        found: str | None = answer.get("ShardIterator")
        return found
