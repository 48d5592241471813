"""The order of a stream's shards, its places, and when a place is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from softcart_assets.connections import DynamoConnection
from softcart_assets.ingestion.connectors.dynamodb.errors import explained
from softcart_assets.ingestion.connectors.dynamodb.followed import lines_of
from softcart_assets.ingestion.connectors.dynamodb.positions import (
    DONE,
    Place,
    place_of,
    position_text,
    time_of,
    with_place,
)
from softcart_assets.ingestion.connectors.dynamodb.reader import Budget
from softcart_assets.ingestion.connectors.dynamodb.streams import (
    Event,
    Shard,
    Stream,
    check,
    event_of,
    in_order,
)
from softcart_assets.ingestion.errors import (
    MissingGrant,
    PositionPurged,
    SourceLost,
    SourceRefused,
)
from softcart_assets.lines.model import NONE, Table
from softcart_assets.lines.model import Column as Declared

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
TABLE = Table("sessions", "", ("id",), "cdc", (Declared("id", NONE),))
EXPIRED = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}


class Server:
    """A stream as DynamoDB's client shows it. Each page has up to `page` records.

    `empty`: the number of empty pages before the first of them.
    """

    def __init__(
        self, shards: list[Shard], records: dict[str, list[Any]], page: int = 2, empty: int = 0
    ) -> None:
        self.shards, self.records, self.page, self.empty = shards, records, page, empty

    def describe_stream(self, **asked: Any) -> dict[str, Any]:
        names = [shard.id for shard in self.shards]
        start = names.index(asked["ExclusiveStartShardId"]) + 1 if len(asked) > 1 else 0
        some = self.shards[start : start + 2]
        told: dict[str, Any] = {
            "Shards": [
                {
                    "ShardId": shard.id,
                    **({"ParentShardId": shard.parent} if shard.parent else {}),
                    "SequenceNumberRange": {
                        "StartingSequenceNumber": "1",
                        **({"EndingSequenceNumber": "9"} if shard.is_closed else {}),
                    },
                }
                for shard in some
            ]
        }
        if start + 2 < len(self.shards):
            told["LastEvaluatedShardId"] = some[-1].id
        return {"StreamDescription": told}

    def get_shard_iterator(self, **asked: Any) -> dict[str, str]:
        shard = asked["ShardId"]
        start = 0
        if asked["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER":
            numbers = [r["dynamodb"]["SequenceNumber"] for r in self.records[shard]]
            if asked["SequenceNumber"] not in numbers:
                told = {"Error": {"Code": "TrimmedDataAccessException", "Message": "gone"}}
                raise ClientError(told, "GetShardIterator")
            start = numbers.index(asked["SequenceNumber"]) + 1
        return {"ShardIterator": f"{shard}/{start}/{self.empty}"}

    def get_records(self, ShardIterator: str, Limit: int) -> dict[str, Any]:
        shard, start, empty = ShardIterator.split("/")
        if int(empty):
            return {"Records": [], "NextShardIterator": f"{shard}/{start}/{int(empty) - 1}"}
        end = int(start) + self.page
        told: dict[str, Any] = {"Records": self.records[shard][int(start) : end]}
        is_closed = next(each.is_closed for each in self.shards if each.id == shard)
        if not is_closed or end < len(self.records[shard]):
            told["NextShardIterator"] = f"{shard}/{min(end, len(self.records[shard]))}/0"
        return told


def record(number: int, key: str = "a", name: str = "MODIFY", **more: Any) -> dict[str, Any]:
    return {
        "eventName": name,
        "dynamodb": {
            "Keys": {"id": {"S": key}},
            "NewImage": {"id": {"S": key}, "n": {"N": str(number)}},
            "SequenceNumber": f"{number:021}",
            "ApproximateCreationDateTime": NOW + timedelta(seconds=number),
        },
        **more,
    }


@st.composite
def families(draw: st.DrawFn) -> list[Shard]:
    """Shards whose parents may be listed, forgotten or none, in any order."""
    number = draw(st.integers(1, 12))
    parents = [
        draw(st.one_of(st.none(), st.just("gone"), st.integers(0, n - 1) if n else st.none()))
        for n in range(number)
    ]
    has_child = {each for each in parents if isinstance(each, int)}
    shards = [
        Shard(f"s{n}", f"s{p}" if isinstance(p, int) else p, n in has_child)
        for n, p in enumerate(parents)
    ]
    return list(draw(st.permutations(shards)))


@given(families())
def test_every_shard_comes_once_and_after_its_parent(shards: list[Shard]) -> None:
    ordered = in_order(shards)
    assert sorted(shard.id for shard in ordered) == sorted(shard.id for shard in shards)
    places = {shard.id: n for n, shard in enumerate(ordered)}
    assert all(
        places[shard.parent] < places[shard.id] for shard in shards if shard.parent in places
    )


@settings(max_examples=60)
@given(families(), st.data())
def test_each_event_comes_once_however_often_it_is_broken_off(
    shards: list[Shard], data: st.DataObject
) -> None:
    records: dict[str, list[Any]] = defaultdict(list)
    lineage: dict[str, list[int]] = {}
    for number, shard in enumerate(in_order(shards)):
        own = data.draw(st.integers(0, 5))
        records[shard.id] = [record(100 * number + n, shard.id) for n in range(own)]
        numbers = [100 * number + n for n in range(own)]
        lineage[shard.id] = [*lineage.get(shard.parent or "", []), *numbers]
    server = Server(shards, records)
    seen: list[int] = []
    place: Place | None = None
    for _ in range(data.draw(st.integers(0, 4))):
        stream = Stream(server, "arn", place)
        for count, event in enumerate(stream.events(NOW + timedelta(hours=1))):
            if count >= data.draw(st.integers(0, 5)):
                break  # not taken in: it comes again
            assert event.item
            seen.append(int(event.item["n"]["N"]))
        place = stream.place
    stream = Stream(server, "arn", place)
    seen += [int(e.item["n"]["N"]) for e in stream.events(NOW + timedelta(hours=1)) if e.item]
    everything = [n for each in records.values() for n in _numbers(each)]
    # An event before which a load was broken off is taken in again: not lost, in its order.
    assert set(seen) == set(everything)
    for line in lineage.values():
        firsts = [n for n in dict.fromkeys(seen) if n in set(line)]
        assert firsts == line
    assert all(at == DONE for s in shards if s.is_closed for at in [stream.shards[s.id]])


def _numbers(records: list[Any]) -> Iterator[int]:
    for each in records:
        yield int(each["dynamodb"]["NewImage"]["n"]["N"])


def test_a_child_waits_for_a_parent_that_is_not_read_to_its_end() -> None:
    shards = [Shard("s1", "s0", False), Shard("s0", None, True)]
    server = Server(shards, {"s0": [record(1), record(50)], "s1": [record(2)]})
    stream = Stream(server, "arn")
    assert len(list(stream.events(NOW + timedelta(seconds=10)))) == 1
    assert stream.shards == {"s0": f"{1:021}", "s1": ""}
    assert len(list(stream.events(NOW + timedelta(seconds=60)))) == 2


@pytest.mark.parametrize(("is_closed", "empty"), [(False, 19), (True, 400)])
def test_an_empty_page_is_not_the_end(is_closed: bool, empty: int) -> None:
    server = Server([Shard("s0", None, is_closed)], {"s0": [record(1), record(2)]}, empty=empty)
    assert len(list(Stream(server, "arn").events(NOW + timedelta(hours=1)))) == 2


def test_what_a_scan_has_seen_does_not_come_again() -> None:
    """Not in a later load either, which reads what was behind many empty pages."""
    server = Server([Shard("s0", None, False)], {"s0": [record(n) for n in range(9)]}, empty=99)
    stream = Stream(server, "arn", Place("arn", since=NOW + timedelta(seconds=5)))
    assert not list(stream.events(NOW + timedelta(hours=1)))
    assert stream.shards == {"s0": ""}
    server.empty = 0
    stream = Stream(server, "arn", place_of(position_text(NOW, 1, 1, stream.place)))
    found = [event.item for event in stream.events(NOW + timedelta(hours=1))]
    assert [item["n"]["N"] for item in found if item] == ["5", "6", "7", "8"]


def test_a_finished_shard_is_forgotten_once_it_is_not_listed() -> None:
    server = Server([Shard("s1", "s0", False)], {"s1": []})
    stream = Stream(server, "arn", Place("arn", {"s0": DONE}))
    assert not list(stream.events(NOW))
    assert stream.shards == {"s1": ""}


def test_a_quiet_shard_whose_records_are_gone_is_a_loss_only_if_nobody_looked_for_long() -> None:
    server = Server([Shard("s0", None, False)], {"s0": [record(7)]})
    place = Place("arn", {"s0": f"{3:021}"})
    (event,) = Stream(server, "arn", place, is_recent=True).events(NOW + timedelta(hours=1))
    assert event.item
    with (
        pytest.raises(PositionPurged, match="24 hours only"),
        explained(DynamoConnection("X", "eu"), "raw/sessions"),
    ):
        list(Stream(server, "arn", place).events(NOW + timedelta(hours=1)))


@pytest.mark.parametrize(
    ("place", "age", "why"),
    [
        (Place("other", {}), 1, "another stream"),
        (Place("arn", {"s1": "5"}), 30, "30 hours ago"),
        (Place("arn", {"s0": "5"}), 1, "shard s0 is gone"),
        (Place("arn", {"s0": ""}), 1, "shard s0 is gone"),
    ],
)
def test_a_place_that_the_stream_has_lost_is_told(place: Place, age: float, why: str) -> None:
    with pytest.raises(PositionPurged, match=why) as caught:
        check(place, "arn", [Shard("s1", "s0", False)], timedelta(hours=age), "raw/sessions")
    assert "24 hours" in str(caught.value)
    assert "--full" in str(caught.value)


def test_a_place_that_the_stream_has_is_fine() -> None:
    place = Place("arn", {"s0": DONE, "s1": "5"})
    check(place, "arn", [Shard("s1", "s0", False)], timedelta(hours=22), "raw/sessions")


@pytest.mark.parametrize(
    ("code", "operation", "kind"),
    [
        ("TrimmedDataAccessException", "GetRecords", PositionPurged),
        ("ResourceNotFoundException", "GetShardIterator", PositionPurged),
        ("ResourceNotFoundException", "Scan", SourceRefused),
        ("AccessDeniedException", "Scan", MissingGrant),
        ("ProvisionedThroughputExceededException", "Scan", SourceLost),
        ("ValidationException", "Scan", SourceRefused),
    ],
)
def test_what_becomes_of_an_error(code: str, operation: str, kind: type[Exception]) -> None:
    error = ClientError({"Error": {"Code": code, "Message": "text"}}, operation)
    with (
        pytest.raises(kind, match="raw/sessions"),
        explained(DynamoConnection("X", "eu"), "raw/sessions"),
    ):
        raise error


@pytest.mark.parametrize(
    ("who", "is_expired"),
    [
        (EXPIRED, True),
        ({"type": "Service", "principalId": "dynamodb.amazonaws.com"}, True),
        ({"Type": "Service", "PrincipalId": "replication.dynamodb.amazonaws.com"}, False),
        (None, False),
    ],
)
def test_an_expiry_is_told_from_a_sign_out(who: Any, is_expired: bool) -> None:
    event = event_of(record(1, name="REMOVE", userIdentity=who))
    assert (event.operation, event.item, event.is_expired) == ("delete", None, is_expired)
    ((version,),) = lines_of(TABLE, [event]).values()
    assert version.removed_by == ("expiry" if is_expired else "request")
    # Only a deletion is one.
    assert not event_of(record(1, userIdentity=EXPIRED)).is_expired


def _event(operation: Any, number: int | None) -> Event:
    item = None if number is None else {"id": {"S": "a"}, "n": {"N": str(number)}}
    return Event(operation, {"id": {"S": "a"}}, item, False, NOW)


def test_versions_keep_their_order_and_the_last_ones_are_the_last() -> None:
    events = [_event("insert", 1), _event("update", 2), _event("delete", None)]
    ((*line,),) = lines_of(TABLE, events).values()
    assert [version.operation for version in line] == ["insert", "update", "delete"]
    ((last,),) = lines_of(TABLE, events, last_only=True).values()
    assert (last.operation, last.is_looked_up) == ("delete", False)


def test_an_item_is_looked_up_once_for_several_events_without_images() -> None:
    events = [_event("insert", None), _event("update", None)]
    ((version,),) = lines_of(TABLE, events).values()
    assert (version.operation, version.is_looked_up) == ("insert", True)


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.datetimes(timezones=st.just(UTC), min_value=datetime(2000, 1, 1)),
    st.none() | st.datetimes(timezones=st.just(UTC)),
)
def test_a_position_says_time_and_place(
    shards: dict[str, str], time: datetime, since: datetime | None
) -> None:
    place = Place("arn:aws:dynamodb:eu:1:table/x|{/stream/2026", shards, since)
    time = time.replace(microsecond=0)
    text = position_text(time, 3, 400, place)
    assert place_of(text) == place
    assert time_of(text) == time
    assert place_of(with_place(text, None)) is None
    assert with_place(with_place(text, None), place) == text


def test_a_budget_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    monkeypatch.setattr("time.sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    budget = Budget(50)
    for _ in range(10):
        budget.wait()
        budget.use({"ConsumedCapacity": {"CapacityUnits": 100.0}})
    budget.wait()
    assert clock[0] == pytest.approx(20)
    free = Budget(0)
    free.use({"ConsumedCapacity": [{"CapacityUnits": 1e9}]})
    free.wait()
    assert clock[0] == pytest.approx(20)
