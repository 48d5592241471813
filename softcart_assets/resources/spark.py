"""The Spark session of a run, from dagster-pyspark."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock, Thread
from typing import Any

import dagster as dg
from dagster_pyspark import LazyPySparkResource
from dagster_spark.utils import flatten_dict
from pydantic import Field, PrivateAttr
from pyspark.sql import SparkSession

from softcart_assets.aggregates import rows_to_read
from softcart_assets.stores import lake_uri
from spark.jobs import JOBS
from spark.private import is_stopped
from spark.session import build_session, is_short, spark_conf, stop_session

SHORT_ROWS = 1_000_000
"""A session that reads no more rows is short, see `build_session`.

At scale 1, which has 214,000 rows, all aggregates took 33 to 37 seconds of CPU without Java's
optimising compiler, and 44 with it.
"""

_STARTING = Lock()
"""Held while a session starts, so that threads which ask at the same time share one session."""


class SparkResource(LazyPySparkResource):
    """Spark without Hive. There is one session per run with a step that may need it.

    It begins to start with the run, beside the steps that come first, unless the lake is still
    empty. Then it starts when a step needs it.

    The settings come from `spark.session`, so that a job under spark-submit has the same.
    """

    spark_config: dict[str, Any] = Field(
        default={}, description="Settings of Spark that override those of spark.session."
    )

    _spark_session: Any = PrivateAttr(default=None)
    _starter: Any = PrivateAttr(default=None)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Begin to start the session."""
        self._starter = Thread(target=self._start_early, daemon=True)
        self._starter.start()

    def _start_early(self) -> None:
        """Start the session if there are tables to read.

        Whatever is wrong, the step that needs the session meets it again, and shows it.
        """
        with suppress(Exception):
            # A cluster may let a session wait for hours, and the run's end waits for this thread.
            if not spark_conf("", os.environ)["spark.master"].startswith("local"):
                return
            rows = rows_to_read(JOBS.values(), lake_uri())
            if rows is not None:
                self.session_for(rows)

    def session_for(self, rows: int) -> SparkSession:
        """The session of the run. `rows`: how many the caller reads.

        A session that this process has already, such as a seed's, becomes the run's. One that its
        cluster has lost gives way to a new one, and a short one to a longer one. The lake may have
        grown since the run began, and nothing of the first session is in use between two
        aggregates.
        """
        short = rows <= SHORT_ROWS
        settings = {name: str(value) for name, value in flatten_dict(self.spark_config)}  # type: ignore[no-untyped-call]
        with _STARTING:
            session: SparkSession | None = self._spark_session
            while session is None or is_stopped(session) or (is_short(session) and not short):
                self._stop()
                self._spark_session = session = build_session(
                    "softcart", hive=False, short=short, archive_classes=True, settings=settings
                )
            return session

    def _init_session(self) -> None:
        """Start the session for whoever asks for it by the name that the library gives it."""
        self.session_for(0)

    def _stop(self) -> None:
        if self._spark_session is not None:
            stop_session(self._spark_session)
            self._spark_session = None

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop the session."""
        self._starter.join()
        self._stop()
