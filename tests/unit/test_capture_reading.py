"""What a thread that reads a log says about the age of what it has read."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from softcart_assets.ingestion.capture.reading import Piece, Reading
from softcart_assets.ingestion.connectors.mysql.events import Commit, Idle
from softcart_assets.ingestion.position import NOWHERE, Place


class Log(list[Any]):
    """A log of these events, which ends at the wanted position."""

    server = "s"

    def close(self) -> None:
        """There is nothing to close."""


def last_piece(*events: Commit | Idle) -> Piece:
    log: Any = Log(events)
    place = Place(NOWHERE, None, "s")
    reading = Reading(log, place, lambda _: None, lambda *_: None, {}, {}, 0.0, deque())
    reading.start()
    pieces = []
    while (piece := reading.pieces.get(timeout=10)) is not None:
        assert isinstance(piece, Piece)
        pieces.append(piece)
    reading.stop()
    return pieces[-1]


def test_a_clock_that_is_ahead_makes_nothing_younger_than_its_reading() -> None:
    """Of a source whose clock is ahead, or of a session that has set its time."""
    now = time.time()
    old, ahead = (Commit(NOWHERE, None, int((now + s) * 1_000_000)) for s in (-60, 60))
    assert last_piece(old).complete_at == old.committed_at / 1_000_000
    piece = last_piece(ahead)
    assert piece.complete_at is not None
    assert now <= piece.complete_at <= time.time()
    # What the source says is still what it says.
    assert piece.committed_at == ahead.committed_at


def test_only_the_end_of_a_log_says_that_everything_is_there() -> None:
    now = time.time()
    complete = last_piece(Idle(NOWHERE, caught_up=True)).complete_at
    assert complete is not None
    assert complete >= now
    assert last_piece(Idle(NOWHERE, caught_up=False)).complete_at is None
