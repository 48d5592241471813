"""Reading the binary log of MySQL and MariaDB the way a replica does: packets, events, transactions, positions, GTIDs.

Here belongs what the replication protocol says. Values of rows stay the bytes that they are in the log; what becomes of
events is not decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from softcart_assets.ingestion.capture.schema import LogColumn

DELETE, INSERT, UPDATE = 0, 1, 2
"""The kinds of `Rows`, numbered like the codec's operations."""


class Gtid(NamedTuple):
    """A transaction's global identity: on MySQL a `uuid` or `uuid:tag` and its number, on MariaDB `domain-server` and its."""

    source: str
    number: int


@dataclass(slots=True, eq=False)
class TableMap:
    """A table as it was when rows of it were logged.

    The reader gives one and the same object for as long as the definition stays, so it serves as a dictionary's key.
    It is not an event of its own: `Rows` carries it. `key` has the indexes of the primary key's columns in its order.
    """

    database: str
    table: str
    columns: tuple[LogColumn, ...]
    key: tuple[int, ...]


@dataclass(slots=True)
class Rows:
    """Changed rows of one wanted table. `kind` is `INSERT`, `UPDATE` (images before and after alternate) or `DELETE`.

    `body` starts with the number of columns (a length-encoded integer) and ends with the last row's image: what follows
    the table id, flags and extra data of a rows event of either version, uncompressed, without checksum. Its bitmaps of
    present columns are complete.
    """

    table_map: TableMap
    kind: int
    body: bytes


@dataclass(slots=True)
class Statement:
    """A statement logged as text (DDL, mostly), of any table; `database` is the one that was in use."""

    database: str
    sql: str


@dataclass(slots=True)
class Commit:
    """The end of a transaction or DDL statement: everything since the last one is now part of the source, wanted or not.

    `position`: the end position, as `mysql.log_position` writes it, behind the prefix of a later server's log.
    `committed_at`: microseconds since 1970, of the server on which it was committed first.
    """

    position: str
    gtid: Gtid | None
    committed_at: int


@dataclass(slots=True)
class Rollback:
    """What came since the last `Commit` is void."""


@dataclass(slots=True)
class Idle:
    """Nothing to read for a moment, between transactions. `position` may have moved over events that change nothing.

    `caught_up`: the server has said that this is the end of its log.
    """

    position: str
    caught_up: bool


Event = Rows | Statement | Commit | Rollback | Idle
