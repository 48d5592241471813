"""DynamoDB's positions: `time|items|bytes`, and with a stream the place in it: `|place`.

Items and bytes are DynamoDB's own figures, which it renews every six hours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime

START = ""
"""The place in a shard of which no record has been read yet."""
DONE = "done"
"""The place in a shard that is closed, and of which every record has been read."""


@dataclass(frozen=True)
class Place:
    """A place in a stream: of each of its shards, the number of the last record that was read.

    `since`: a scan has seen what is older. It may be behind the place all the same.
    """

    stream: str
    shards: dict[str, str] = field(default_factory=dict)
    since: datetime | None = None


def position_text(time: datetime, items: int, size: int, place: Place | None = None) -> str:
    """Return the text of a position."""
    return with_place(f"{time.isoformat(timespec='milliseconds')}|{items}|{size}", place)


def with_place(position: str, place: Place | None) -> str:
    """Return a position with another place in the stream, or without one."""
    position = position.partition("|{")[0]
    if place is None:
        return position
    told = {"stream": place.stream, "shards": place.shards}
    since = {"since": place.since.isoformat()} if place.since else {}
    return f"{position}|{json.dumps(told | since)}"


def place_of(position: str) -> Place | None:
    """Return the place in the stream, if the position has one."""
    _, mark, text = position.partition("|{")
    if not mark:
        return None
    found = json.loads("{" + text)
    since = found.get("since")
    return Place(found["stream"], found["shards"], since and datetime.fromisoformat(since))


def time_of(position: str) -> datetime:
    """Return when the position was stated."""
    return datetime.fromisoformat(position.partition("|")[0])


def figures_of(position: str) -> str:
    """Return the numbers of items and bytes, as text."""
    return with_place(position, None).partition("|")[2]
