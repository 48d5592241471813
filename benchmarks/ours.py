"""What is measured of our own engine; each function runs in a process of its own, with its job as JSON in $JOB."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from benchmarks.equality import source_of
from benchmarks.tables import MadeTable
from softcart_assets.connections import MySQLConnection, PostgresConnection
from softcart_assets.ingestion import load, mysql
from softcart_assets.ingestion.crew import Crew
from softcart_assets.ingestion.lake import ChangeFiles
from softcart_assets.ingestion.postgres import copy_batches, quote
from softcart_assets.sources.model import Source, Table

SCHEMA = "raw_bench"


class Job:
    """The job's servers and the declaration of its tables."""

    def __init__(self) -> None:
        job = json.loads(os.environ["JOB"])
        self.mysql = MySQLConnection("SOFTCART_SHOP", **job["mysql"])
        self.postgres = PostgresConnection("SOFTCART_STAGING", **job["postgres"])
        self.lake = job["lake"]
        self.source: Source = source_of([MadeTable(**t) for t in job["tables"]], job["strategy"], job["cursor"])


def copy() -> None:
    """Every row into tables of the raw layer's types: only reading, converting and COPY."""
    _timed(lambda job: _copy(job, with_lake=False))


def copy_and_parquet() -> None:
    """The same, with the lake's Parquet files written in the same pass."""
    _timed(lambda job: _copy(job, with_lake=True))


def load_tables() -> None:
    """The load as assets do it: copy, primary key, Parquet, checksums at the source, bookkeeping."""
    _timed(lambda job: [f"{r.table}: {r.inserted} + {r.updated} - {r.deleted}" for r in _load(job)])


def _load(job: Job) -> list:
    return list(load(job.source, job.mysql, job.postgres, job.lake))


def _timed(work: Callable[[Job], object]) -> None:
    """Do the work and report how long it took, imports and start-up of Python left out."""
    job = Job()
    started = time.monotonic()
    print(work(job))
    print(json.dumps({"seconds": time.monotonic() - started}))


def _copy(job: Job, *, with_lake: bool) -> int:
    with job.postgres.connect() as session:
        session.execute(f"CREATE SCHEMA {SCHEMA}".encode())
    with mysql.snapshot(job.source, job.mysql, os.cpu_count() or 1) as readers, Crew(readers) as crew:
        tables = [crew.submit(partial(_copy_table, job, crew, with_lake, table)) for table in job.source.tables]
        return sum(table.result() for table in tables)


def _copy_table(job: Job, crew: Crew, with_lake: bool, table: Table, reader: mysql.MySQLReader) -> int:
    columns = reader.columns(table, ())
    name = f"{SCHEMA}.{quote(table.name)}"
    with job.postgres.connect() as session:
        definitions = ", ".join(f"{quote(c.name)} {c.target_type}" for c in columns)
        session.execute(f"CREATE TABLE {name} ({definitions})".encode())

    def copy_range(number: int, condition: str | None, reader: mysql.MySQLReader) -> int:
        rows = 0
        files = ChangeFiles(job.lake, "bench", table.name, "bench", datetime.now(UTC), "", number * 1000)
        with job.postgres.connect() as session:
            for batch in copy_batches(session, name, columns, reader.batches(table, columns, condition)):
                rows += len(batch.rows)
                if with_lake:
                    files.write(columns, batch.rows)
        files.close()
        return rows

    ranges = enumerate(reader.ranges(table, columns, crew.size))
    return sum(crew.share(reader, [partial(copy_range, number, condition) for number, condition in ranges]))
