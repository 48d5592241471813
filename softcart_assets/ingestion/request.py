"""What a load is asked for and what it returns.

`LoadRequest` comes from outside. `Call` adds what one run of it has opened. Each table's load
returns a `LoadResult`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import psycopg

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.readers import Reader
from softcart_assets.ingestion.workers import WorkerPool
from softcart_assets.lines.model import Source

Progress = Callable[[str, int, int | None], None]
"""Called with a table, its rows read so far and the number expected (None: unknown).

Several threads call it.
"""


@dataclass(frozen=True)
class LoadRequest:
    """Which tables to bring where, and how.

    `connection`: to the source, made by its connector. `full`: also compare every row of
    incremental tables, whatever their cursors say. `ask_after`: have the source compute its
    checksums at the position, if it did so longer ago than this. Zero: in any case. None: never.
    This takes the source seconds per million rows. It is asked sooner if nothing else tells what it
    has now, as after changes that are in no log. `released`: quarantine entries whose rows are read
    again. `tell` is called with a text whenever the load waits for somebody else. `restate`: write
    all rows of raw to the lake again.
    """

    source: Source
    connection: Any
    staging: PostgresConnection
    lake_uri: str
    full: bool = False
    ask_after: timedelta | None = timedelta(0)
    released: Sequence[int] = ()
    on_progress: Progress | None = None
    tell: Callable[[str], None] = lambda text: None
    restate: bool = False


@dataclass(frozen=True)
class Call:
    """What the tables of one run of a request share.

    `control` commits each statement by itself and holds the locks. `on_commit` is called before a
    table's commit with the load's connection, the table's name and the position. What it writes
    over that connection commits together with the table.
    """

    request: LoadRequest
    control: psycopg.Connection
    pool: WorkerPool[Reader]
    load_id: str
    on_commit: Callable[[psycopg.Connection, str, str], None] | None = None


@dataclass(frozen=True)
class LoadResult:
    """What a committed load of one table did.

    `columns`: per column its `name`, `source_type`, `target_type`, `nullable` and `privacy` (None:
    not classified). `quarantined`: the table's rows in quarantine after this load. `total`: current
    rows. `is_changed`: whether anything changed, including quarantine and columns. `asked_at` and
    `asked_position`: when and where the source last computed all its checksums.
    """

    table: str
    strategy: str
    load_id: str
    position: str
    inserted: int
    updated: int
    deleted: int
    quarantined: int
    total: int
    rows_read: int
    bytes_read: int
    seconds: float
    columns: list[dict[str, Any]]
    is_changed: bool
    asked_at: datetime | None = None
    asked_position: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def rows_per_second(self) -> float:
        """Rows read from the source per second."""
        return self.rows_read / self.seconds if self.seconds else 0.0


class Load(Protocol):
    """A way to load one table."""

    def run(self, reader: Reader) -> LoadResult:
        """Load and commit the table. A failure leaves nothing behind."""
