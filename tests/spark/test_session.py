"""The session: its settings and its end, and jobs under spark-submit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spark.class_data import is_complete
from spark.session import LOCAL_SETTINGS, spark_conf

REPOSITORY = Path(__file__).parents[2]


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

    The first leaves an archive of Java's classes some seconds later. The next session uses it.
    """
    program = """
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import dagster as dg
from pyspark import SparkContext
from softcart_assets.resources.spark import SparkResource
from spark.class_data import is_complete

@dg.asset
def first(spark: SparkResource) -> None:
    with ThreadPoolExecutor(4) as threads:
        sessions = set(threads.map(lambda _: id(spark.spark_session), range(8)))
    assert len(sessions) == 1
    spark.spark_session.range(7).createOrReplaceTempView("seen")
    assert spark.spark_context.getConf().get("spark.app.name") == "softcart"
    assert spark.spark_context.getConf().get("spark.sql.shuffle.partitions") == "3"

@dg.asset(deps=[first])
def second(spark: SparkResource) -> None:
    assert spark.spark_session.table("seen").count() == 7

@dg.asset
def third(spark: SparkResource) -> None:
    assert spark.spark_session.range(7).count() == 7
    java = SparkContext._gateway.proc.pid
    assert str(archive) in Path(f"/proc/{java}/maps").read_text()

@dg.asset
def without(spark: SparkResource) -> None:
    assert SparkContext._gateway is None

resource = SparkResource(spark_config={"spark.sql": {"shuffle.partitions": 3}})
assert dg.materialize([without], resources={"spark": resource}).success
assert dg.materialize([first, second], resources={"spark": resource}).success
assert SparkContext._gateway is None
folder = Path(os.environ["SOFTCART_HOME"], "java")
deadline = time.monotonic() + 300
while not any(map(is_complete, folder.iterdir())):
    assert time.monotonic() < deadline
    time.sleep(0.1)
[archive] = folder.iterdir()
assert dg.materialize([third], resources={"spark": resource}).success
print("all of it")
"""
    environment = os.environ | {"SOFTCART_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    finished = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
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
    assert conf["spark.sql.catalogImplementation"] == "in-memory"
    assert conf.items() >= LOCAL_SETTINGS.items()


def test_only_a_short_session_has_no_optimising_compiler() -> None:
    options = {
        short: spark_conf("test", {}, short=short)["spark.driver.extraJavaOptions"].split()
        for short in (True, False)
    }
    assert "-XX:TieredStopAtLevel=1" in options[True]
    assert "-XX:TieredStopAtLevel=1" not in options[False]


@pytest.mark.parametrize("short", [True, False])
def test_java_knows_the_options_of_either_session(short: bool) -> None:
    """With an option that it does not know, it would not start. Other tests start short ones."""
    options = spark_conf("test", {}, short=short)["spark.driver.extraJavaOptions"].split()
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    assert java
    done = subprocess.run([java, *options, "-version"], capture_output=True, text=True)
    assert (done.returncode, "warning" in done.stderr.lower()) == (0, False), done.stderr


def test_an_archive_that_java_has_not_finished_is_not_used(tmp_path: Path) -> None:
    """Java writes the header last, so what a killed process leaves begins with zeros."""
    archive = tmp_path / "spark.jsa"
    assert not is_complete(archive)
    archive.write_bytes(bytes(8) + b"classes")
    assert not is_complete(archive)
    archive.write_bytes(bytes.fromhex("a8babff0") + b"classes")
    assert is_complete(archive)


def test_options_of_spark_submit_go_first_but_a_local_session_stays_on_loopback() -> None:
    submitted = {"spark.driver.memory": "9g", "spark.driver.host": "0.0.0.0"}
    conf = spark_conf("test", {}, submitted=submitted)
    assert conf["spark.driver.memory"] == "9g"
    assert conf["spark.driver.host"] == "127.0.0.1"
    conf = spark_conf("test", {}, submitted=submitted | {"spark.master": "spark://host:7077"})
    assert conf["spark.driver.host"] == "0.0.0.0"


def test_a_session_knows_the_tables_of_the_metastore_if_there_is_one() -> None:
    environment = {"SOFTCART_HIVE_METASTORE_URI": "thrift://host:9083"}
    conf = spark_conf("test", environment)
    assert conf["spark.hadoop.hive.metastore.uris"] == "thrift://host:9083"
    assert conf["spark.sql.catalogImplementation"] == "hive"
    without = spark_conf("test", environment, hive=False)
    assert without["spark.sql.catalogImplementation"] == "in-memory"
    assert not any("metastore.uris" in name for name in without)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("spark.sql.session.timeZone", "UTC"), ("spark.sql.ansi.enabled", "true")],
)
def test_what_exactness_rests_on(spark, setting: str, value: str) -> None:
    assert spark.conf.get(setting) == value
