"""Global transaction identities (GTIDs), by which a place in one server's log is found in
another's.
"""

from __future__ import annotations

import re
import struct
import uuid
from bisect import bisect_right
from typing import NamedTuple


class Gtid(NamedTuple):
    """A transaction's global identity: a source and a number.

    The source is `uuid` or `uuid:tag` on MySQL, and `domain-server` on MariaDB.
    """

    source: str
    number: int


class GtidSet:
    """The transactions that a server has, or that were read.

    MySQL states intervals by source. MariaDB states the last transaction of each domain.
    """

    def __init__(self, text: str = "") -> None:
        self._intervals: dict[str, list[list[int]]] = {}
        self._last: dict[str, Gtid] = {}
        for part in re.sub(r"\s", "", text).split(","):
            if ":" in part:
                server, *items = part.split(":")
                source = server = str(uuid.UUID(server))
                for item in items:
                    # Behind the uuid come intervals and tags. An interval belongs to the tag before
                    # it.
                    first, _, last = item.partition("-")
                    if first.isdigit():
                        self._add_interval(source, int(first), int(last or first))
                    else:
                        source = f"{server}:{item.lower()}"
            elif part:
                domain_server, _, number = part.rpartition("-")
                self.add(Gtid(domain_server, int(number)))

    def add(self, gtid: Gtid) -> None:
        """Add a transaction. Adding it again changes nothing."""
        source, number = gtid
        # A uuid has 36 characters, MariaDB's `domain-server` never as many.
        if len(source) < 36:
            self._last[source.partition("-")[0]] = gtid
            return
        intervals = self._intervals.get(source)
        # The usual case: numbers come in order, so the last interval grows.
        if intervals and intervals[-1][1] == number - 1:
            intervals[-1][1] = number
        else:
            self._add_interval(source, number, number)

    def _add_interval(self, source: str, first: int, last: int) -> None:
        intervals = self._intervals.setdefault(source, [])
        at = bisect_right(intervals, [first])
        if at and intervals[at - 1][1] >= first - 1:
            at -= 1
            first = intervals[at][0]
        end = at
        while end < len(intervals) and intervals[end][0] <= last + 1:
            last = max(last, intervals[end][1])
            end += 1
        intervals[at:end] = [[first, last]]

    def __bool__(self) -> bool:
        return bool(self._intervals or self._last)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GtidSet) and (self._intervals, self._last) == (
            other._intervals,
            other._last,
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        if self._last:
            return ",".join(
                f"{g.source}-{g.number}"
                for _, g in sorted(self._last.items(), key=lambda i: int(i[0]))
            )
        return ",".join(
            f"{source}:"
            + ":".join(
                str(first) if first == last else f"{first}-{last}" for first, last in intervals
            )
            for source, intervals in sorted(self._intervals.items())
        )

    def encoded(self) -> bytes:
        """Return MySQL's binary form, which COM_BINLOG_DUMP_GTID expects."""
        is_tagged = any(":" in source for source in self._intervals)
        count = len(self._intervals)
        # With tags, the format's number stands in the first and in the last byte of the count.
        data = [struct.pack("<Q", 1 << 56 | count << 8 | 1 if is_tagged else count)]
        for source, intervals in sorted(self._intervals.items()):
            server, _, tag = source.partition(":")
            data.append(uuid.UUID(server).bytes)
            if is_tagged:
                data += [bytes([len(tag) << 1]), tag.encode()]
            data.append(struct.pack("<Q", len(intervals)))
            # The binary form has the number behind the interval, the text has its last one.
            data += [struct.pack("<QQ", first, last + 1) for first, last in intervals]
        return b"".join(data)


def tagged_gtid(body: bytes) -> tuple[Gtid, int]:
    """Return GTID and commit time (microseconds) of MySQL's tagged GTID event.

    The event has numbered fields of variable length.
    """
    at = 0

    def number() -> int:
        nonlocal at
        # As many bytes follow as the first has ones at its end.
        more = (~body[at] & body[at] + 1).bit_length() - 1
        value = int.from_bytes(body[at : at + more + 1], "little") >> min(more + 1, 8)
        at += more + 1
        return value

    number(), number(), number()  # version, size, last field that may not be ignored
    server, tag, gno, times = b"", b"", 0, {}
    while at < len(body):
        match number():
            case 0:
                number()
            case 1:
                server = bytes(number() for _ in range(16))
            case 2:
                gno = number() >> 1  # signed
            case 3:
                length = number()
                tag = body[at : at + length]
                at += length
            case 6 | 7 as name:
                times[name] = number()
            case _:
                number()
    source = str(uuid.UUID(bytes=server)) + (f":{tag.decode()}" if tag else "")
    return Gtid(source, gno), times.get(7, times.get(6, 0))
