"""Positions in a binary log: their text, and an order that is the log's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.positions import POSITIONS

from softcart_assets.ingestion.position import NOWHERE, Position, latest


@given(POSITIONS)
def test_the_text_says_all(position: Position) -> None:
    assert Position.parse(str(position)) == position


@given(st.lists(POSITIONS, min_size=3, max_size=3))
def test_the_order_is_total(positions: list[Position]) -> None:
    one, two, three = positions
    assert (one < two) + (one == two) + (one > two) == 1
    assert sorted([three, one, two]) == sorted([two, three, one])
    assert one > NOWHERE or one == NOWHERE


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("binlog.999999:000000000004", "binlog.1000000:000000000004"),
        ("binlog.000009:000000000004", "binlog.000010:000000000004"),
        ("binlog.000001:999999999999", "binlog.000001:1000000000000"),
        ("binlog.000001:5000000000000", "binlog.000002:000000000004"),
        ("binlog.1000000:000000000004", "~0001 binlog.000001:000000000004"),
        ("~0002 binlog.000009:000000000004", "~0010 binlog.000001:000000000004"),
        ("~9999 binlog.000001:000000000004", "~10000 binlog.000001:000000000004"),
        ("mysql-bin.000001:000000000004", "mysql-bin.000001:000000000005"),
    ],
)
def test_positions_order_as_the_log_does(earlier: str, later: str) -> None:
    assert Position.parse(earlier) < Position.parse(later)
    assert latest(earlier, later) == latest(later, earlier) == later


def test_parts() -> None:
    position = Position.parse("~0003 a.b:c.000012:000000000345")
    assert position == Position(3, "a.b:c", 12, 345)
    assert position.file == "a.b:c.000012"
    assert str(position.in_epoch(0)) == "a.b:c.000012:000000000345"
    assert Position.parse("binlog.1000000:4").file == "binlog.1000000"


@pytest.mark.parametrize("text", ["", "binlog", "binlog.000001", "binlog:4", "2026-01-01|5|x"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a position"):
        Position.parse(text)
    # A position of another kind of source needs no comparison as long as it is alone.
    assert latest(text) == text
