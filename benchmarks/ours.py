"""The measured parts of our own engine.

Each public function runs in a process of its own, with its job as JSON in $JOB.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.equality import source_of
from benchmarks.tables import MadeTable
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion.capture import stream as follow_forever
from softcart_assets.ingestion.capture.follower import Follower
from softcart_assets.ingestion.capture.holding import hold
from softcart_assets.ingestion.capture.job import Job as CaptureJob
from softcart_assets.ingestion.capture.job import Status
from softcart_assets.ingestion.codec.logrows import RowsDecoder
from softcart_assets.ingestion.connectors.mysql import jsonb
from softcart_assets.ingestion.connectors.mysql.events import Rows
from softcart_assets.ingestion.connectors.mysql.log import BinaryLog
from softcart_assets.ingestion.connectors.mysql.reader import MySQLReader, snapshot
from softcart_assets.ingestion.load import LoadRequest, load
from softcart_assets.ingestion.position import Position
from softcart_assets.ingestion.sinks.copying import copy_batches
from softcart_assets.ingestion.sinks.lake import ChangeFiles
from softcart_assets.ingestion.sinks.sql import quote
from softcart_assets.ingestion.workers import WorkerPool
from softcart_assets.lines.model import Source, Table

SCHEMA = "raw_bench"


class Job:
    """The job of a process.

    `mysql`, `postgres` and `lake` are its servers, `source` declares its tables. `start` and `end`
    are positions in the log. `seconds`: how long to follow the log.
    """

    def __init__(self) -> None:
        job = json.loads(os.environ["JOB"])
        self.mysql = MySQLConnection("SOFTCART_BENCH", **job["mysql"])
        self.postgres = PostgresConnection("SOFTCART_STAGING", **job["postgres"])
        self.lake = job["lake"]
        self.source: Source = source_of(
            [MadeTable(**t) for t in job["tables"]], job["strategy"], job["cursor"]
        )
        self.start, self.end, self.seconds = (
            job.get("start", ""),
            job.get("end", ""),
            job.get("seconds", 0.0),
        )


def copy() -> None:
    """Copy every row into tables with the types of raw tables: read, convert and COPY only."""
    timed(lambda job: _copy(job, with_lake=False))


def copy_and_parquet() -> None:
    """Do the same, and write the lake's Parquet files in the same pass."""
    timed(lambda job: _copy(job, with_lake=True))


def load_tables() -> None:
    """Load as the assets do: copy, primary key, Parquet, bookkeeping, and checksums.

    The source computes the checksums. A later check compares raw with them.
    """
    timed(lambda job: load_request(job, timedelta(0)))


def load_without_checksums() -> None:
    """Load without the checksums that the source computes."""
    timed(lambda job: load_request(job, None))


def load_request(job: Job, ask_after: timedelta | None) -> list[str]:
    """Load the tables of a job."""
    results = load(LoadRequest(job.source, job.mysql, job.postgres, job.lake, ask_after=ask_after))
    return [f"{r.table}: {r.inserted} + {r.updated} - {r.deleted}, {r.warnings}" for r in results]


def timed(work: Callable[[Job], object]) -> None:
    """Do the work and report its time, without imports and the start-up of Python."""
    job = Job()
    started, computed = time.monotonic(), time.process_time()
    print(work(job))
    seconds = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - computed}
    print(json.dumps(seconds))


def _copy(job: Job, *, with_lake: bool) -> int:
    with job.postgres.connect() as session:
        session.execute(f"CREATE SCHEMA {SCHEMA}".encode())
    with (
        snapshot(job.source, job.mysql, os.cpu_count() or 1) as readers,
        WorkerPool(readers) as pool,
    ):
        tables = [
            pool.submit(partial(_copy_table, job, pool, with_lake, table))
            for table in job.source.tables
        ]
        return sum(table.result() for table in tables)


def _copy_table(
    job: Job, pool: WorkerPool[Any], with_lake: bool, table: Table, reader: MySQLReader
) -> int:
    columns = reader.columns(table, ())
    name = f"{SCHEMA}.{quote(table.name)}"
    with job.postgres.connect() as session:
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        session.execute(f"CREATE TABLE {name} ({definitions})".encode())

    def copy_range(number: int, condition: str | None, reader: MySQLReader) -> int:
        rows = 0
        files = ChangeFiles(
            job.lake, "bench", table.name, "bench", datetime.now(UTC), "", number * 1000
        )
        with job.postgres.connect() as session:
            for batch in copy_batches(
                session, name, columns, reader.batches(table, columns, condition)
            ):
                rows += len(batch.rows)
                if with_lake:
                    files.write(columns, batch.rows)
        files.close()
        return rows

    ranges = enumerate(reader.ranges(table, columns, pool.size))
    return sum(
        pool.share(reader, [partial(copy_range, number, condition) for number, condition in ranges])
    )


def read_log() -> None:
    """Decode the binary log between two positions into Arrow, and discard the result."""
    timed(_read_log)


def apply_log() -> None:
    """Apply the binary log up to a position: commit rows and position, write and list the change
    log.
    """
    timed(apply)


def stream_log() -> None:
    """Run the stream for `seconds`. A file `ready` appears when it follows the log."""
    timed(stream)


def _read_log(job: Job) -> int:
    table = job.source.tables[0]
    with snapshot(job.source, job.mysql, 1) as (reader, *_):
        columns = reader.columns(table, ())
    indexes = {column.name: index for index, column in enumerate(columns)}
    decoders: dict[int, RowsDecoder] = {}
    rows = 0
    with BinaryLog(
        "bench",
        job.mysql,
        {table.name: table.at_source},
        Position.parse(job.start),
        end=Position.parse(job.end),
    ) as log:
        for event in log:
            if isinstance(event, Rows):
                decoder = decoders.get(id(event.table_map))
                if decoder is None:
                    key = [indexes[name] for name in table.key]
                    decoder = RowsDecoder(event.table_map.columns, key, columns, jsonb.to_text)
                    decoders[id(event.table_map)] = decoder
                decoder.decode(event.body, event.kind)
                if len(decoder) >= 100_000:
                    rows += len(decoder.take()[0])
    return rows + sum(len(decoder.take()[0]) for decoder in decoders.values())


def apply(job: Job) -> None:
    """Apply the log up to the job's end."""
    capture = CaptureJob(job.source, job.mysql, job.postgres, job.lake, Status("bench"))
    with hold(capture) as holder, job.postgres.connect(autocommit=True) as control:
        follower = Follower(capture, holder, control)
        follower.follow(Position.parse(job.end))
        follower.finish()


def stream(job: Job) -> None:
    """Follow the log for the job's seconds."""
    stopped = threading.Event()
    threading.Timer(job.seconds, stopped.set).start()
    follow_forever(
        job.source,
        job.mysql,
        job.postgres,
        job.lake,
        stopped=stopped,
        on_report=lambda _: Path("ready").touch(),
    )
