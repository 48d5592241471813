"""The transaction that is being read from a binary log, with what surrounds its rows."""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass, field

from softcart_assets.ingestion.connectors.mysql.events import TableMap, Unreadable
from softcart_assets.ingestion.connectors.mysql.gtid import Gtid

STANDALONE, _HAS_COMMIT_ID, PREPARED_XA, _COMPLETED_XA = 1, 2, 64, 128
"""Flags of MariaDB's GTID event."""


@dataclass(slots=True)
class Group:
    """The transaction, or the single statement, that is being read.

    `is_only`: only its rows are wanted, even if it is only prepared. Rows of the events numbered in
    `void` are left out. `tables`: by the ids in its rows events. None: nobody wants the table.
    `number`: of the present event in it. `is_explicit`: it ends with a COMMIT. `is_skipped`: its
    rows count later, or never. `ends`: the present event ends the group. `is_past`: it lies behind
    the wanted end.
    """

    is_only: bool = False
    void: Collection[range] = ()
    tables: dict[bytes, TableMap | Unreadable | None] = field(default_factory=dict)
    start: int = 0
    number: int = 0
    is_open: bool = False
    is_explicit: bool = False
    is_skipped: bool = False
    caught_up: bool = False
    alter_state: int = 0
    gtid: Gtid | None = None
    committed_at: int = 0
    savepoints: dict[str, int] = field(default_factory=dict)
    rolled_back: list[range] = field(default_factory=list)
    """Numbers of events that a rollback to a savepoint made void."""
    ends: bool = False
    is_past: bool = False


def is_in(number: int, ranges: Collection[range]) -> bool:
    """Return whether a number is in one of the ranges."""
    return any(number in each for each in ranges)


def xid_of(body: bytes) -> tuple[bool, str]:
    """Read an XA PREPARE event.

    Returns whether it commits in one phase, and the transaction's name as statements write it.
    """
    is_one_phase, number, first, second = struct.unpack_from("<BIII", body)
    name = body[13:]
    return bool(
        is_one_phase
    ), f"x'{name[:first].hex()}',x'{name[first : first + second].hex()}',{number}"


def extra_flags(body: bytes, flags: int) -> int:
    """Return the second byte of flags of MariaDB's GTID event, 0 if there is none."""
    at = 21 if flags & _HAS_COMMIT_ID else 13
    if flags & (PREPARED_XA | _COMPLETED_XA):
        at += 6 + body[at + 4] + body[at + 5]
    return body[at] if at < len(body) else 0
