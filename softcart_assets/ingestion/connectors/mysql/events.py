"""The binary log's events: those that are handed on, and the protocol's numbers of types."""

from __future__ import annotations

from dataclasses import dataclass, field

from softcart_assets.ingestion.changes import DELETE, INSERT, UPDATE
from softcart_assets.ingestion.connectors.mysql.gtid import Gtid
from softcart_assets.ingestion.connectors.mysql.schema import LogColumn
from softcart_assets.ingestion.position import Position


@dataclass(slots=True, eq=False)
class TableMap:
    """A table as it was when its rows were logged.

    The reader gives the same object as long as the definition stays, so it can be a dictionary's
    key. It is no event of its own: `Rows` carries it. `key`: indexes of the primary key's columns,
    in its order. `row_end`: the column that tells how long a row was current, if the table has
    system versioning. Then the log has rows of the past, too. `hidden`: columns that only the log
    has.
    """

    database: str
    table: str
    columns: tuple[LogColumn, ...]
    key: tuple[int, ...]
    row_end: str | None = None
    hidden: tuple[str, ...] = ()
    whole: set[bytes] = field(default_factory=set, repr=False)
    """Beginnings of bodies that were found to have complete images."""
    beginnings: tuple[int, int, int] = field(init=False, repr=False)
    """How long the beginning of a body is, by kind: number of columns and bitmaps."""

    def __post_init__(self) -> None:
        count = len(self.columns)
        number, bitmap = 1 if count < 251 else 3, (count + 7) // 8
        self.beginnings = number + bitmap, number + bitmap, number + 2 * bitmap

    @property
    def shown(self) -> list[LogColumn]:
        """The columns that the catalog has, too."""
        return [column for column in self.columns if column.name not in self.hidden]


@dataclass(slots=True)
class Rows:
    """Changed rows of one wanted table.

    `kind` is `INSERT`, `DELETE`, or `UPDATE` (images before and after alternate).

    `body` is the part of a rows event behind table id, flags and extra data, for either version of
    the event. It starts with the number of columns (a length-encoded integer) and ends with the
    last row's image. It is not compressed and has no checksum. Its bitmaps of present columns are
    complete.
    """

    table_map: TableMap
    kind: int
    body: bytes


@dataclass(slots=True)
class Statement:
    """A statement logged as text (mostly DDL), of any table. `database` was in use at that time."""

    database: str
    sql: str


@dataclass(slots=True)
class Unreadable:
    """Changes that the log does not tell completely.

    `tables`: the wanted tables that they may belong to. `what`: what the log lacks. `remedy`: what
    to do at the source, before these tables are read again.
    """

    tables: tuple[str, ...]
    what: str
    remedy: str


@dataclass(slots=True)
class Commit:
    """The end of a transaction or DDL statement. Everything since the last one is now part of the
    source, wanted or not.

    `position`: where it ends, in the epoch of the server that is read. `committed_at`: microseconds
    since 1970, on the server that committed it first.
    """

    position: Position
    gtid: Gtid | None
    committed_at: int


@dataclass(slots=True)
class Rollback:
    """Everything since the last `Commit` is void."""


@dataclass(slots=True)
class Idle:
    """There is nothing to read for a moment, between transactions.

    `position` may have moved over events that change nothing.

    `caught_up`: the server has said that this is the end of its log.
    """

    position: Position
    caught_up: bool


Event = Rows | Statement | Unreadable | Commit | Rollback | Idle


# Types of events. MariaDB's own start at 160.
QUERY, ROTATE, XID, EXECUTE_LOAD, TABLE_MAP, INCIDENT, HEARTBEAT = 2, 4, 16, 18, 19, 26, 27
FORMAT, GTID, ANONYMOUS_GTID, XA_PREPARE = 15, 33, 34, 38
PARTIAL_UPDATE, PAYLOAD, HEARTBEAT_V2, TAGGED_GTID = 39, 40, 41, 42
MARIADB_GTID, QUERY_COMPRESSED = 162, 165
ROWS = {23: INSERT, 24: UPDATE, 25: DELETE, 30: INSERT, 31: UPDATE, 32: DELETE}
ROWS_COMPRESSED = {166: INSERT, 167: UPDATE, 168: DELETE, 169: INSERT, 170: UPDATE, 171: DELETE}
FIRST_VERSION = {23, 24, 25, 166, 167, 168}
"""Rows events without extra data in front of the rows."""
WITHOUT_CHANGES = {3, 5, 9, 11, 13, 14, FORMAT, 17, 28, 29, 35, 36, 37, 160, 161, 163, 164}
"""Stop, variables for statements, blocks of LOAD DATA, ignorable, the text behind rows, previous
GTIDs, group replication's, MariaDB's annotations, checkpoints, GTID list, start of encryption."""
