"""What Spark's workers do for running totals: they keep rows and events, and find what changed.

Every worker imports this module. So it imports little.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from pyspark.sql import Row
from pyspark.sql.streaming.stateful_processor import (
    StatefulProcessor,
    StatefulProcessorHandle,
    TimerValues,
    ValueState,
)


class LastVersions(StatefulProcessor):
    """Keeps the last version of each row. Yields what a row was, with sign -1, and what it is.

    `event` is what the row belongs to, and `image` the columns that count, as JSON.
    """

    STATE: ClassVar[str] = "version LONG, loaded_at LONG, event STRING, image STRING"
    OUT: ClassVar[str] = "event STRING, key STRING, sign INT, image STRING"

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Open the state."""
        self._state: ValueState = handle.getValueState("last", self.STATE)

    def handleInputRows(
        self, key: Any, rows: Iterator[Row], timerValues: TimerValues
    ) -> Iterator[Row]:
        """Take the versions of one row in a batch."""
        last = max(rows, key=lambda row: (row.version, row.loaded_at, row.file, row.row))
        before = self._state.get()
        # Without its place in a file: a compacted file is read again, and has other places.
        if before and (last.version, last.loaded_at) < (before[0], before[1]):
            return iter(())
        self._state.update((last.version, last.loaded_at, last.event, last.image))
        was = (before[2], before[3]) if before else (None, None)
        now = (last.event, last.image)
        if was == now:
            return iter(())
        return iter(
            [
                Row(event=event, key=last.key, sign=sign, image=image)
                for sign, (event, image) in ((-1, was), (1, now))
                if event is not None
            ]
        )

    def close(self) -> None:
        """Nothing is open."""


class Events(StatefulProcessor):
    """Keeps the rows of each event. Yields the row that counted, with sign -1, and the one that
    counts now.

    `numbers`: for each column of the key, whether it is a number.
    """

    STATE: ClassVar[str] = "rows STRING"
    OUT: ClassVar[str] = "sign INT, image STRING"

    def __init__(self, numbers: Sequence[bool]) -> None:
        self._numbers = numbers

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Open the state."""
        self._state: ValueState = handle.getValueState("rows", self.STATE)

    def handleInputRows(
        self, key: Any, rows: Iterator[Row], timerValues: TimerValues
    ) -> Iterator[Row]:
        """Take what a batch changes in the rows of one event."""
        state = self._state.get()
        members: dict[str, str] = json.loads(state[0]) if state else {}
        was = self._first(members)
        arrived = list(rows)
        for row in arrived:
            if row.sign < 0:
                members.pop(row.key, None)
        members |= {row.key: row.image for row in arrived if row.sign > 0}
        self._state.update((json.dumps(members),))
        now = self._first(members)
        if was == now:
            return iter(())
        return iter([Row(sign=sign, image=image) for sign, image in ((-1, was), (1, now)) if image])

    def _first(self, members: Mapping[str, str]) -> str | None:
        """The image of the row with the smallest key."""
        return members[min(members, key=self._order)] if members else None

    def _order(self, key: str) -> tuple[Decimal | str, ...]:
        values = zip(json.loads(key), self._numbers, strict=True)
        return tuple(Decimal(value) if is_number else value for value, is_number in values)

    def close(self) -> None:
        """Nothing is open."""
