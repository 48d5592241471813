"""The Spark session of a seed. It starts when a line first asks for it, and stops at the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from pyspark.sql import SparkSession

from spark.session import MASTER, build_session, stop_session

SHORT_SCALE = 10
"""Up to this scale, Java's optimising compiler takes more time than it saves.

At scale 4, the rows took 46 seconds of CPU without it, and 72 with it.
"""


@contextmanager
def spark_on_demand(
    scale: float, running: SparkSession | None = None, *, keep: bool = False
) -> Iterator[Callable[[], SparkSession]]:
    """Yields a function that returns the session. Any thread may call it.

    `running`: a session to use instead of a new one. It is not stopped. `keep`: do not stop a new
    one either if it runs where the jobs of this process run, because they go on with it.
    """
    started: list[SparkSession] = [running] if running else []
    lock = Lock()

    def session() -> SparkSession:
        with lock:
            if not started:
                started.append(_start(scale))
            return started[0]

    try:
        yield session
    finally:
        if started and not running and not (keep and _is_local()):
            stop_session(started[0])


def _is_local() -> bool:
    """Whether the jobs of this process run on this machine, by its settings."""
    return (os.environ.get(MASTER) or "local").startswith("local")


def _start(scale: float) -> SparkSession:
    """Start a session on this machine without Hive, which would cost seconds.

    The loader runs here and reads the files that Spark writes. Another machine's files it could not
    read.
    """
    session = build_session(
        "seed",
        master=None if _is_local() else "local[*]",
        hive=False,
        short=scale <= SHORT_SCALE,
    )
    # Warnings about large plans would tear the progress bars.
    session.sparkContext.setLogLevel("ERROR")
    return session
