"""The Spark session of a run, from dagster-pyspark."""

from __future__ import annotations

import os
from threading import Lock
from typing import Any

import dagster as dg
from dagster_pyspark import LazyPySparkResource
from dagster_spark.utils import flatten_dict
from pydantic import Field, PrivateAttr

from spark.metastore import metastore_server
from spark.session import build_session, default_lake_uri, stop_session
from spark.upgrade import has_old_database

_STARTING = Lock()
"""Held while a session starts, so that threads which ask at the same time share one session."""


class SparkResource(LazyPySparkResource):
    """Spark. There is one session per run. It starts when a step first needs it.

    The settings come from `spark.session`, so that a job under spark-submit has the same. The
    session has Hive only if there is something to tell it: a metastore server is told of what a run
    makes, and tables of an older installation are dropped. `spark.lake.read` needs no Hive.
    """

    spark_config: dict[str, Any] = Field(
        default={}, description="Settings of Spark that override those of spark.session."
    )

    _spark_session: Any = PrivateAttr(default=None)

    def _init_session(self) -> None:
        """Start the session unless it runs."""
        with _STARTING:
            if self._spark_session is None:
                settings = {name: str(value) for name, value in flatten_dict(self.spark_config)}  # type: ignore[no-untyped-call]
                hive = bool(metastore_server(os.environ)) or has_old_database(default_lake_uri())
                self._spark_session = build_session(
                    "softcart", hive=hive, archive_classes=True, settings=settings
                )

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Stop the session and its Java process."""
        if self._spark_session is not None:
            stop_session(self._spark_session)
            self._spark_session = None
