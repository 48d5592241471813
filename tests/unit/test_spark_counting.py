"""What Spark's workers do for running totals, without Spark: its states are dictionaries here."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import Row
from pyspark.sql.types import StructType
from support.lake import JANUARY, Loads

from softcart_assets.lake import LakeError, compact, discard, refresh_table
from softcart_assets.lake.schema import to_json
from spark.change_log import ChangeLog
from spark.counting import Events, LastVersions


class _State:
    """One value per key."""

    def __init__(self) -> None:
        self.values: dict[Any, tuple] = {}
        self.key: Any = None

    def getValueState(self, name: str, schema: str) -> _State:
        return self

    def get(self) -> tuple | None:
        return self.values.get(self.key)

    def update(self, value: tuple) -> None:
        self.values[self.key] = value


class _Operator:
    """Groups rows by a column and hands each group to a processor."""

    def __init__(self, processor: LastVersions | Events, by: str) -> None:
        self.processor, self.by, self.state = processor, by, _State()
        processor.init(self.state)  # type: ignore[arg-type]

    def __call__(self, rows: Iterable[Row]) -> list[Row]:
        groups: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            groups[row[self.by]].append(row)
        found = []
        for self.state.key, group in groups.items():
            found += self.processor.handleInputRows(self.state.key, iter(group), None)  # type: ignore[arg-type]
        return found


class _Counting:
    """Both operators, and the images that count by what they yielded."""

    def __init__(self) -> None:
        self.rows = _Operator(LastVersions(), "key")
        self.events = _Operator(Events([True]), "event")
        self.counted: Counter[str] = Counter()

    def take(self, versions: Iterable[Row]) -> None:
        for row in self.events(self.rows(versions)):
            self.counted[row.image] += row.sign

    @property
    def images(self) -> dict[str, int]:
        return {image: count for image, count in self.counted.items() if count}


def version(load: int, place: int, key: int, event: str | None, image: str) -> Row:
    """A version of a row. Without an event it is a deletion."""
    return Row(
        key=json.dumps([str(key)]),
        version=load,
        loaded_at=load,
        file=0,
        row=place,
        event=event,
        image=None if event is None else image,
    )


def expected(versions: Iterable[Row]) -> dict[str, int]:
    """The images that count, from all versions at once."""
    last: dict[str, Row] = {}
    for each in versions:
        if each.key not in last or (each.version, each.row) >= (
            last[each.key].version,
            last[each.key].row,
        ):
            last[each.key] = each
    events: dict[str, Row] = {}
    for each in last.values():
        if each.event is None:
            continue
        number = int(json.loads(each.key)[0])
        other = events.get(each.event)
        if other is None or number < int(json.loads(other.key)[0]):
            events[each.event] = each
    return dict(Counter(each.image for each in events.values()))


_CHANGES = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([None, "a", "b", "c"]), st.sampled_from("xyz")),
    max_size=8,
)


@given(loads=st.lists(_CHANGES, max_size=8), choices=st.randoms(use_true_random=False))
def test_batches_of_any_loads_count_what_is_there(loads: list, choices: Any) -> None:
    """Also if loads come again in larger files, and whatever is in a batch with what."""
    written = [
        [version(number, place, *change) for place, change in enumerate(load)]
        for number, load in enumerate(loads)
    ]
    counting = _Counting()
    taken: list[list[Row]] = []
    for load in written:
        taken.append(load)
        batch = list(load)
        # A compacted file has all rows of some loads, at other places.
        if choices.random() < 0.5:
            batch += [
                Row(**{**row.asDict(), "file": 0, "row": row.row + 100})
                for old in choices.sample(taken, choices.randint(0, len(taken)))
                for row in old
            ]
        choices.shuffle(batch)
        counting.take(batch)
        assert counting.images == expected(row for old in taken for row in old)


def test_nine_is_less_than_ten() -> None:
    counting = _Counting()
    counting.take([version(1, 0, 10, "a", "ten"), version(1, 1, 9, "a", "nine")])
    assert counting.images == {"nine": 1}
    counting.take([version(2, 0, 9, None, "")])
    assert counting.images == {"ten": 1}
    # An older version, which comes late, changes nothing.
    counting.take([version(1, 1, 9, "a", "nine")])
    assert counting.images == {"ten": 1}


@pytest.fixture
def loads(tmp_path: Path) -> Loads:
    return Loads((tmp_path / "the [lake]").as_uri(), "lake_shop")


class _Reader:
    """The reader of a query, which knows the list of committed files."""

    def __init__(
        self, loads: Loads, monkeypatch: pytest.MonkeyPatch, amount: pa.DataType | None = None
    ) -> None:
        columns = {
            "id": pa.decimal128(20, 0),
            "amount": amount or pa.decimal128(12, 2),
            "note": pa.string(),
            "_version": pa.int64(),
            "_file": pa.int32(),
            "_row": pa.int64(),
        }
        options = {
            "lake_uri": loads.table.lake_uri,
            "source": "shop",
            "table": "orders",
            "folder": "streams/x",
            "database": "",
        }
        types = StructType.fromJson(to_json(pa.schema(columns.items())))
        self.reader = ChangeLog(options).streamReader(types)
        monkeypatch.setattr(
            type(self.reader), "_listed", lambda _: [file.path for file in loads.files]
        )
        self.offset = self.reader.initialOffset()

    def latest(self) -> dict:
        return self.reader.latestOffset(self.offset, None)  # type: ignore[arg-type]

    def rows(self, until: dict) -> list[tuple]:
        parts = self.reader.partitions(self.offset, until)
        return [
            tuple(row.values())
            for part in parts
            for batch in self.reader.read(part)
            for row in batch.to_pylist()
        ]


def test_a_batch_has_whole_loads_and_can_be_repeated(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = _Reader(loads, monkeypatch)
    assert reader.latest() == {"offer": 0}
    assert reader.rows({"offer": 0}) == []
    loads.add((1, JANUARY, "1.10"), (2, JANUARY, "2.00"), parts=2)
    loads.add((9, JANUARY, "9.00"), committed=False)
    first = reader.latest()
    assert first == {"offer": 1}
    rows = reader.rows(first)
    assert [(int(row[0]), str(row[1]), *row[2:]) for row in rows] == [
        (1, "1.10", None, 1, 0, 0),
        (2, "2.00", None, 1, 1, 0),
    ]
    loads.add((3, JANUARY, "3.00"))
    # Another process goes on where this one was.
    again = _Reader(loads, monkeypatch)
    assert again.rows(first) == rows
    second = again.latest()
    assert second == {"offer": 2}
    again.offset = first
    assert [int(row[0]) for row in again.rows(second)] == [3]
    again.reader.commit(second)
    again.offset = second
    assert again.latest() == second
    assert again.rows(second) == []


def test_a_file_that_became_part_of_another_is_found_there(
    loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = _Reader(loads, monkeypatch)
    for number in range(1, 30):
        loads.add((number, JANUARY, "1.00"), loaded_at=None)
    until = reader.latest()
    refresh_table(loads.table, loads.files)
    exchanges = compact(loads.table, loads.files)
    assert exchanges
    gone = {file.path for each in exchanges for file in each.old}
    loads.files = [
        *(file for file in loads.files if file.path not in gone),
        *(each.new for each in exchanges),
    ]
    discard(loads.table, [file for each in exchanges for file in each.old])
    assert {int(row[0]) for row in reader.rows(until)} == set(range(1, 30))
    assert reader.latest() == {"offer": 2}


def test_a_column_with_another_type_is_told(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    loads.add((1, JANUARY, "1.15"))
    reader = _Reader(loads, monkeypatch, pa.decimal128(12, 1))
    with pytest.raises(LakeError, match="'amount' has values that"):
        reader.rows(reader.latest())
