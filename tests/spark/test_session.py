"""The session: the embedded metastore's lock, and jobs under spark-submit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def test_a_second_process_waits_for_the_metastore_and_says_for_whom(spark, home: Path) -> None:
    program = (
        "import logging, pathlib, sys; logging.basicConfig(); from spark.session import build_session;"
        "build_session('second', home=pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(home / "spark")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as second:
        message = next(line for line in second.stderr or () if "metastore" in line)
        assert second.poll() is None
        second.kill()
    assert f"waiting for process {os.getpid()} " in message
    assert "SOFTCART_HIVE_METASTORE_URI" in message


def test_a_job_runs_under_spark_submit(tmp_path: Path) -> None:
    """On an empty lake it can only say what it misses; so far it gets with spark-submit's options and the job's module."""
    submit = shutil.which("spark-submit", path=Path(sys.executable).parent)
    assert submit
    environment = os.environ | {
        "SOFTCART_HOME": str(tmp_path),
        "PYTHONPATH": str(REPOSITORY),
        "PYSPARK_PYTHON": sys.executable,
    }
    script = REPOSITORY / "spark" / "jobs" / "shop" / "agg_rfm_by_customer.py"
    finished = subprocess.run(
        [submit, "--master", "local[1]", "--driver-memory", "512m", str(script)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode != 0
    assert (
        "aggregates.agg_rfm_by_customer needs lake_shop.orders, which does not exist"
        in finished.stdout
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [("spark.sql.session.timeZone", "UTC"), ("spark.sql.ansi.enabled", "true")],
)
def test_what_exactness_rests_on(spark, setting: str, value: str) -> None:
    assert spark.conf.get(setting) == value
