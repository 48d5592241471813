"""All private interfaces of PySpark that this package uses.

PySpark offers no public way to reach its Java process or to end it before Python ends. When a new
version changes one of these names, `tests/spark/test_private.py` fails and says which.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

LITERAL_PATHS = {"__globPaths__": "false"}
"""The option of a reader or a table whose paths are no patterns.

Otherwise Spark finds nothing in a folder whose path has brackets.
"""


def is_submitted() -> bool:
    """Whether spark-submit started this Python process. It then owns the Java process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def submitted_settings() -> dict[str, str]:
    """The settings of spark-submit, empty in a process that it did not start."""
    if not is_submitted():
        return {}
    # Java runs already. Once Python is connected to it, a new SparkConf has spark-submit's options.
    SparkContext._ensure_initialized()
    return dict(SparkConf().getAll())


def set_hadoop(spark: SparkSession, settings: Mapping[str, str]) -> None:
    """Give settings to the Hadoop libraries of a session, without a command line."""
    for name, value in settings.items():
        spark.sparkContext._jsc.hadoopConfiguration().set(name, value)


def is_stopped(spark: SparkSession) -> bool:
    """Whether a session has ended, also by itself: its cluster may have lost it."""
    context = spark.sparkContext._jsc
    return context is None or bool(context.sc().isStopped())


def end_java(*, wait: bool) -> None:
    """End the Java process, unless spark-submit started it. `wait`: until it has ended.

    The next session starts a new one.
    """
    gateway = SparkContext._gateway
    if gateway is None or is_submitted():
        return
    gateway.shutdown()
    # Java ends when its standard input ends.
    gateway.proc.stdin.close()
    if wait:
        gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None
