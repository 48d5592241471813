"""What the log tells of rows before, next to those after."""

from __future__ import annotations

import json

import pyarrow as pa

from softcart_assets.ingestion.changes import DELETE, INSERT, UPDATE, Changes, Run
from softcart_assets.ingestion.position import Place, Position
from softcart_assets.ingestion.sinks.kafka.form import (
    BEFORE,
    HAS_BEFORE,
    Form,
    Origin,
    with_before,
)
from softcart_assets.ingestion.sinks.kafka.waiting import Waiting, piece_of
from softcart_assets.ingestion.types import Column, Rejected

COLUMNS = [Column("id", "int", "integer"), Column("n", "int", "integer")]
UNFIT = Rejected(("9",), None, "n", "out of range", {"id": "9"})


def place(number: int) -> Position:
    return Position(0, "binlog", 1, number)


def batch(*rows: tuple[int, int]) -> pa.RecordBatch:
    arrays = [pa.array(values, pa.int32()) for values in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, names=["id", "n"])


def changes(rejected: list[tuple[int, int, Rejected]], runs: list[Run], *before: int) -> Changes:
    """An insert and an update, then an update and a deletion."""
    operations = pa.array([INSERT, UPDATE, UPDATE, DELETE], pa.int8())
    rows = batch((1, 10), (2, 20), (3, 30), (4, 40))
    old = batch(*((each, -each) for each in before))
    return Changes("t", COLUMNS, rows, operations, rejected, runs, old)


def test_each_row_has_its_own_values_of_before() -> None:
    runs = [Run(2, place(1), 5, 1), Run(2, place(2), 5, 2)]
    found = with_before(changes([], runs, 2, 3, 4))
    assert found.column(HAS_BEFORE).to_pylist() == [False, True, True, True]
    assert found.column(f"{BEFORE}n").to_pylist() == [None, -2, -3, -4]


def test_rows_that_cannot_be_carried_move_no_values_to_others() -> None:
    # The log tells of row 9 before, and its values after cannot be carried.
    runs = [Run(3, place(1), 5, 2), Run(2, place(2), 5, 2)]
    found = with_before(changes([(1, UPDATE, UNFIT)], runs, 9, 2, 3, 4))
    assert found.column(HAS_BEFORE).to_pylist() == [False, False, True, True]
    assert found.column(f"{BEFORE}n").to_pylist() == [None, None, -3, -4]
    # Neither in the second transaction can the values before be carried.
    runs = [Run(2, place(1), 5, 1), Run(2, place(2), 5, 1)]
    found = with_before(changes([], runs, 2, 4))
    assert found.column(f"{BEFORE}n").to_pylist() == [None, -2, None, None]


def test_a_change_without_a_time_is_json() -> None:
    form = Form("x.t.rows", "x", "t", "rows", COLUMNS, ["id"])
    [message] = form.copied(batch((1, 10)), [Origin(place(1), 0, 0)])
    assert message.value
    told = json.loads(message.value)["payload"]
    assert (told["ts_ns"], told["source"]["ts_ns"]) == (0, 0)


def test_what_waits_comes_out_as_it_went_in() -> None:
    runs = [Run(3, place(1), 5, 2), Run(2, None, None, 2)]
    piece = piece_of(changes([(1, UPDATE, UNFIT)], runs, 9, 2, 3, 4))
    waiting = Waiting(piece, is_open=True)
    # In the file, and not in memory.
    assert waiting.piece.rows.get_total_buffer_size() < piece.rows.get_total_buffer_size()
    [found] = waiting.read(Place(place(7), None, ""), 6)
    assert found.rows.equals(piece.rows)
    assert found.operations.equals(piece.operations)
    assert [(run.changes, run.position, run.committed_at) for run in found.runs] == [
        (2, place(1), 5),
        (2, place(7), 6),
    ]
    assert found.rejected == [(UPDATE, UNFIT)]
