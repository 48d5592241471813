"""Positions of topics: the time, and behind it what has been read of the topic.

Also the places in the database's log, as Debezium tells them. Their text orders as the log does.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

BEFORE, AFTER = 0, 1
"""The parts of one change. One that moves a row to another key comes as a deletion and an insertion
at one place.
"""


def log_position(epoch: int, number: int, offset: int, row: int, part: int) -> str:
    """Return the text of a place in the database's log.

    `epoch`: how often a topic was begun from its start. `number`: the file's. `offset` and `row`:
    of the change in it.
    """
    return f"{epoch:04d}|{number:010d}|{offset:020d}|{row:010d}|{part}"


def epoch_of(text: str) -> int:
    """Return the epoch of a place in a log."""
    return int(text.partition("|")[0])


@dataclass
class Place:
    """What has been read of a topic.

    `id`: Kafka's own of the topic, another one if the topic was made anew. `epoch`: see
    `log_position`. `offsets`: per partition, that of the next message. `latest`: per partition, the
    last place in the database's log, and the latest time in microseconds, of a change that was not
    part of a snapshot. `log`: the name of the database's log files, without their numbers.
    `snapshot`: the place of the last snapshot, and `is_whole` whether all of it has come. `floor`:
    what lies before it does not count any more, as the table was emptied or copied anew there.
    """

    topic: str
    id: str
    epoch: int
    offsets: dict[str, int] = field(default_factory=dict)
    latest: dict[str, tuple[str, int]] = field(default_factory=dict)
    log: str | None = None
    snapshot: str | None = None
    is_whole: bool = False
    floor: str = ""


def position_text(place: Place | None) -> str:
    """Return the text of a position that is stated now."""
    return with_place(datetime.now(UTC).isoformat(timespec="milliseconds"), place)


def with_place(position: str, place: Place | None) -> str:
    """Return a position with another place in the topic, or without one."""
    time = position.partition("|")[0]
    return f"{time}|{json.dumps(asdict(place))}" if place else time


def place_of(position: str) -> Place | None:
    """Return the place in the topic, if the position has one."""
    text = position.partition("|")[2]
    if not text:
        return None
    found = Place(**json.loads(text))
    found.latest = {name: (at, time) for name, (at, time) in found.latest.items()}
    return found
