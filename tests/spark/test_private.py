"""The private interfaces of PySpark that `spark.private` uses. A test's name says which one
changed.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from pyspark import SparkContext

from spark import private


def test_spark_context_keeps_its_gateway(spark) -> None:
    assert SparkContext._gateway is not None
    assert SparkContext._jvm is not None
    assert spark.sparkContext._jvm is SparkContext._jvm


def test_spark_context_connects_to_java_without_a_context() -> None:
    assert callable(SparkContext._ensure_initialized)


def test_the_gateway_knows_its_java_process_and_can_end_it(spark) -> None:
    gateway = SparkContext._gateway
    assert isinstance(gateway.proc, subprocess.Popen)
    assert gateway.proc.stdin is not None
    assert callable(gateway.shutdown)


def test_paths_are_taken_literally(spark, tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/a [b] {{c}}"
    spark.range(3).write.parquet(folder)
    assert spark.read.options(**private.LITERAL_PATHS).parquet(folder).count() == 3
