"""Running totals by Spark, for `benchmarks.ods`: run in a process of their own."""

from __future__ import annotations

import json
import os
import time

import psutil

from benchmarks import ours
from benchmarks.ods import with_totals
from benchmarks.rig import Failed
from softcart_assets.ingestion.sinks.ods.keeping import totals_of
from spark.session import build_session
from spark.totals import compare, counted, prepared, start


def count() -> None:
    """Count with Spark what is new in the lake, and compare. The time is that of its batch."""
    job = with_totals(ours.Job())
    # Spark's reader of the change log finds the warehouse in the environment.
    for name in ("host", "port", "user", "password", "database"):
        value = getattr(job.postgres, name)
        os.environ[f"{job.postgres.prefix}_{name.upper()}"] = str(value)
    session = prepared(build_session("bench", warehouse_uri=job.lake, hive=False))
    session.conf.set("spark.sql.shuffle.partitions", str(os.cpu_count() or 1))
    with job.postgres.connect() as connection:
        [table] = counted(connection, job.source, job.lake)
    started, computed = time.monotonic(), _cpu_seconds()
    start(session, job.postgres, table, None).awaitTermination()
    seconds, cpu_seconds = time.monotonic() - started, _cpu_seconds() - computed
    with job.postgres.connect() as connection:
        [total] = totals_of(connection, job.source, table.table)
        _, differing = compare(connection, total)
    if differing:
        raise Failed(f"{differing:,} rows of Spark's differ from ods")
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}))


def _cpu_seconds() -> float:
    """Processor seconds of this process, of Java, and of Spark's Python workers."""
    this = psutil.Process()
    times = [each.cpu_times() for each in (this, *this.children(recursive=True))]
    # Workers that ended count with the process that started them.
    ended = sum(each.children_user + each.children_system for each in times)
    return ended + sum(each.user + each.system for each in times)
