"""What a stream or run works on (`Job`), and how it is doing (`Status`)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.request import LoadRequest
from softcart_assets.ingestion.sinks import SinkMaker
from softcart_assets.lines.model import Source

FLUSH_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, math.inf)
"""The upper bounds, in seconds, of the buckets in which flushes are counted."""


@dataclass
class Status:
    """How a source's stream is doing. The loop writes it, any thread may read it.

    `position`: changes are committed up to here. `lag_seconds`: age of the oldest known change that
    is not in raw, 0 if there is none. `lag_bytes`: bytes of log between the position and its end
    (None: not known yet). `rows_per_second`: committed row changes, over the last seconds.
    `changes`: committed changes by table and operation. `flush_times`: number of flushes by bucket
    of seconds. `quarantined`: rows in quarantine, by table. `tables`: state of each table, with the
    reason if it stopped. `problem`: what stops the stream at the moment.
    """

    source: str
    position: str = ""
    committed_at: datetime | None = None
    lag_seconds: float = 0.0
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
    problem: str | None = None


@dataclass(frozen=True)
class Job:
    """Which source's log is brought where. `sinks`: further targets besides raw and the lake."""

    source: Source
    connection: MySQLConnection
    staging: PostgresConnection
    lake_uri: str
    status: Status
    sinks: Sequence[SinkMaker] = ()

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
            request.sinks,
        )

    @property
    def captured(self) -> list[str]:
        """The tables that are declared to be captured."""
        return [table.name for table in self.source.tables if table.strategy == "cdc"]
