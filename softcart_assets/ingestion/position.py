"""Positions in a source's binary log: their text, and their order in Python and in PostgreSQL.

A position is stored as text, `binlog.000123:000000004567`, because people read it in tables and
error messages. Its text must not be ordered: the server's file numbers grow from six digits to
seven, and `1000000` sorts before `999999`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from psycopg import sql
from psycopg.types.string import StrDumperUnknown

# The name is greedy, as it may hold dots and digits itself (many logs are named after a host). The
# number is what follows the last dot.
_PATTERN = r"^(?:~([0-9]+) )?(.*)\.([0-9]+):([0-9]+)$"
"""Epoch, name, number, offset. Python and PostgreSQL read it alike."""


class Position(NamedTuple):
    """A place in a binary log. Positions order as the log does.

    `epoch`: how many servers, or logs that began anew, came before this one. Each new log starts at
    low numbers again, so the epoch comes first in the order. `name` and `number` make the file's
    name. `offset`: bytes from the file's start.
    """

    epoch: int
    name: str
    number: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position from its text."""
        # DOTALL, because PostgreSQL's `.` matches a line break as well, and both have to read
        # alike.
        match = re.fullmatch(_PATTERN, text, re.DOTALL)
        if match is None:
            raise ValueError(f"{text!r} is not a position in a binary log, such as binlog.000001:4")
        return cls(int(match[1] or 0), match[2], int(match[3]), int(match[4]))

    def __str__(self) -> str:
        prefix = f"~{self.epoch:04d} " if self.epoch else ""
        # Nothing may rely on the padding: zendesk/maxwell#2251 and apache/flink-cdc#4358 compared
        # file names as text and lost the log after file 999999.
        return f"{prefix}{self.name}.{self.number:06d}:{self.offset:012d}"

    @property
    def file(self) -> str:
        """The log file's name, as its server writes it."""
        return f"{self.name}.{self.number:06d}"

    def in_epoch(self, epoch: int) -> Position:
        """The same place of a server's log, in another epoch."""
        return self._replace(epoch=epoch)


NOWHERE = Position(0, "", 0, 0)
"""Before every other position."""


@dataclass
class Place:
    """A place in a source's log. `gtid` describes the same place for any server other than
    `server`.
    """

    position: Position
    gtid: str | None
    server: str


def latest(*texts: str) -> str:
    """Return the text of the latest position.

    A single text may belong to any kind of source, since nothing is compared.
    """
    return texts[0] if len(texts) == 1 else max(texts, key=Position.parse)


def ordered(text: sql.Composable) -> sql.Composed:
    """Return SQL that orders a position's text exactly as `Position` orders. Use it for
    comparisons, `ORDER BY`, `min` and `max`.

    Numbers are padded to the longest possible length. A character that no name contains follows the
    name. So a name that begins like another one is ordered as in Python.
    """
    return sql.SQL(
        # COLLATE "C": the database's own collation could ignore the dots and signs in a name.
        "((SELECT lpad(coalesce(m[1], ''), 10, '0') || m[2] || E'\\x01' || lpad(m[3], 20, '0')"
        " || lpad(m[4], 20, '0') FROM regexp_match({}, {}) AS m) COLLATE \"C\")"
    ).format(text, sql.Literal(_PATTERN))


class _Dumper(StrDumperUnknown):
    """Sends a position as its text. Without it, psycopg would take the tuple for a row."""

    def dump(self, obj: Position) -> bytes:  # type: ignore[override]
        return str(obj).encode()


psycopg.adapters.register_dumper(Position, _Dumper)
