"""What a stream or run works on (`Job`), and how it is doing (`Status`)."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from softcart_assets.connections import PostgresConnection
from softcart_assets.ingestion.request import LoadRequest
from softcart_assets.lines.model import Source

_QUIET_SECONDS = 5.0
"""The loop says more often than this that raw is complete, if it can."""
FLUSH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)
"""The upper bounds, in seconds, of the buckets in which flushes are counted."""


@dataclass
class Status:
    """How a source's stream is doing. The loop writes it, any thread may read it.

    `position`: changes are committed up to here. `pending`: times of the oldest change in each
    piece of the log that was read and is not committed. `complete_at`: raw has every change up to
    this time. `heard_at`: when the loop last went round (by the monotonic clock). `lag_bytes`:
    bytes of log between the position and its end (None: not known). `rows_per_second`: committed
    row changes, over the last seconds.
    `changes`: committed changes by table and operation. `flush_times`: number of flushes by bucket
    of seconds. `quarantined`: rows in quarantine, by table. `tables`: state of each table, with the
    reason if it does not go on. `not_read`: state and reason of tables that could not be read
    again. `problem`: what stops the stream at the moment.
    """

    source: str
    position: str = ""
    committed_at: datetime | None = None
    pending: deque[float] = field(default_factory=deque)
    complete_at: float = field(default_factory=time.time)
    heard_at: float = field(default_factory=time.monotonic)
    lag_bytes: int | None = None
    rows: int = 0
    rows_per_second: float = 0.0
    flushes: int = 0
    flush_seconds: float = 0.0
    flush_seconds_in_all: float = 0.0
    flush_times: Counter[float] = field(default_factory=Counter)
    changes: Counter[tuple[str, str]] = field(default_factory=Counter)
    reconnects: int = 0
    quarantined: dict[str, int] = field(default_factory=dict)
    tables: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    not_read: dict[str, tuple[str, str]] = field(default_factory=dict)
    problem: str | None = None

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest change that is not in raw, as far as is known. 0 if there is none."""
        now = time.time()
        with suppress(IndexError):  # the loop has just committed it
            return max(now - self.pending[0], 0.0)
        # Nobody reads the log, or nothing is committed: there may be changes of which we do not
        # know. A lag of 0 would hide that.
        silent = max(now - self.complete_at, 0.0)
        return silent if self.problem or silent > _QUIET_SECONDS else 0.0


@dataclass(frozen=True)
class Job:
    """Which source's log is brought where.

    `tell` is called with a text whenever somebody else is waited for.
    """

    source: Source
    connection: Any
    staging: PostgresConnection
    lake_uri: str
    status: Status
    tell: Callable[[str], None] = lambda text: None

    @classmethod
    def of(cls, request: LoadRequest, status: Status | None = None) -> Job:
        """Return the job of bringing up a request's captured tables."""
        source = request.source
        return cls(
            source,
            request.connection,
            request.staging,
            request.lake_uri,
            status or Status(source.name),
            request.tell,
        )

    @property
    def captured(self) -> list[str]:
        """The tables that are declared to be captured."""
        return [table.name for table in self.source.tables if table.strategy == "cdc"]
