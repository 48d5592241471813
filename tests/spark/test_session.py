"""The session: the embedded metastore's lock, and jobs under spark-submit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spark.session import LOCAL_SETTINGS, spark_conf

REPOSITORY = Path(__file__).parents[2]


def test_a_second_process_waits_for_the_metastore_and_says_for_whom(spark, home: Path) -> None:
    program = (
        "import logging, pathlib, sys; logging.basicConfig(); from spark.session import "
        "build_session;"
        "build_session('second', home=pathlib.Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", program, str(home / "spark")]
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as second:
        message = next(line for line in second.stderr or () if "metastore" in line)
        assert second.poll() is None
        second.kill()
    assert f"Waiting for process {os.getpid()} " in message
    assert "SOFTCART_HIVE_METASTORE_URI" in message


def test_a_job_runs_under_spark_submit(tmp_path: Path) -> None:
    """On an empty lake it can only say what it misses; so far it gets with spark-submit's options
    and the job's module.
    """
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


def test_a_run_of_dagster_has_one_session_and_gives_back_all_of_it(tmp_path: Path) -> None:
    """Threads that ask at once get one session. After the run Java is gone.

    It leaves an archive of Java's classes, and the next session uses it. A session has Hive, and
    the lock on its metastore, only while a lake has tables of an older installation.
    """
    program = """
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import dagster as dg
from pyspark import SparkContext
from softcart_assets.resources.spark import SparkResource
from spark import metastore, private

home = Path(os.environ["SOFTCART_HOME"])

@dg.asset
def first(spark: SparkResource) -> None:
    with ThreadPoolExecutor(4) as threads:
        sessions = set(threads.map(lambda _: id(spark.spark_session), range(8)))
    assert len(sessions) == 1
    assert not metastore._locks
    spark.spark_session.range(7).createTempView("seen")
    assert spark.spark_context.getConf().get("spark.app.name") == "softcart"
    assert spark.spark_context.getConf().get("spark.sql.shuffle.partitions") == "3"

@dg.asset(deps=[first])
def second(spark: SparkResource) -> None:
    assert spark.spark_session.table("seen").count() == 7

@dg.asset
def without(spark: SparkResource) -> None:
    assert SparkContext._gateway is None

@dg.asset
def upgraded(spark: SparkResource) -> None:
    spark.spark_session.sql("CREATE TABLE seen AS SELECT 7 AS n")
    assert len(metastore._locks) == 1
    java = private.java(spark.spark_session).lang.ProcessHandle.current().pid()
    assert str(archive) in Path(f"/proc/{java}/maps").read_text()

resource = SparkResource(spark_config={"spark.sql": {"shuffle.partitions": 3}})
assert dg.materialize([without], resources={"spark": resource}).success
assert dg.materialize([first, second], resources={"spark": resource}).success
assert SparkContext._gateway is None
[archive] = (home / "java").iterdir()
(home / "lake" / "warehouse" / "lake.db").mkdir(parents=True)
assert dg.materialize([upgraded], resources={"spark": resource}).success
assert SparkContext._gateway is None
assert not metastore._locks
print("all of it")
"""
    home = tmp_path / "a home"
    environment = os.environ | {"SOFTCART_HOME": str(home), "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Java says nothing about the archive, whether it writes it or uses it.
    assert finished.stdout.strip() == "all of it", finished.stderr


def test_settings_depend_on_nothing_but_the_arguments(tmp_path: Path) -> None:
    environment = {
        "SOFTCART_HOME": str(tmp_path),
        "SOFTCART_SPARK_MASTER": "local[3]",
        "SOFTCART_SPARK_MEMORY": "5g",
        "SOFTCART_LAKE_URI": "file:///a%20lake/",
    }
    conf = spark_conf("test", environment)
    assert conf["spark.master"] == "local[3]"
    assert conf["spark.driver.memory"] == "5g"
    assert conf["spark.sql.warehouse.dir"] == "file:///a lake/warehouse"
    assert conf["spark.hadoop.javax.jdo.option.ConnectionURL"] == (
        f"jdbc:derby:{tmp_path / 'metastore'};create=true"
    )
    assert conf.items() >= LOCAL_SETTINGS.items()


def test_options_of_spark_submit_go_first_but_a_local_session_stays_on_loopback() -> None:
    submitted = {"spark.driver.memory": "9g", "spark.driver.host": "0.0.0.0"}
    conf = spark_conf("test", {}, submitted=submitted)
    assert conf["spark.driver.memory"] == "9g"
    assert conf["spark.driver.host"] == "127.0.0.1"
    conf = spark_conf("test", {}, submitted=submitted | {"spark.master": "spark://host:7077"})
    assert conf["spark.driver.host"] == "0.0.0.0"


def test_a_metastore_server_replaces_the_embedded_one() -> None:
    conf = spark_conf("test", {"SOFTCART_HIVE_METASTORE_URI": "thrift://host:9083"})
    assert conf["spark.hadoop.hive.metastore.uris"] == "thrift://host:9083"
    assert "spark.hadoop.javax.jdo.option.ConnectionURL" not in conf
    without = spark_conf("test", {"SOFTCART_HIVE_METASTORE_URI": "thrift://host:9083"}, hive=False)
    assert not any("metastore.uris" in name or "javax.jdo" in name for name in without)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("spark.sql.session.timeZone", "UTC"), ("spark.sql.ansi.enabled", "true")],
)
def test_what_exactness_rests_on(spark, setting: str, value: str) -> None:
    assert spark.conf.get(setting) == value
