"""A lake on S3 in Spark and in Hive. What needs no Java is in tests/integration/test_lake.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from softcart_assets import jars

# In a process of its own: the session of the other tests has no libraries of S3.
PROGRAM = """
import os, random, sys
from pathlib import Path
from softcart_assets.lake.hive import publish_all
from softcart_assets.stack import Stack
from spark.jobs import JOBS, aggregate_table, write_aggregate
from spark.lake import read
from spark.session import build_session, stop_session
from test_months import Shop

home, job = Path(sys.argv[1]), JOBS["agg_sales_by_category_month"]
stack = Stack(home / "stack", sources=())
try:
    os.environ |= stack.up(metastore=True, extras=["s3-lake"])
    lakes = {"here": (home / "lake").as_uri(), "s3": os.environ["SOFTCART_LAKE_URI"]}
    spark = build_session("s3", short=True)
    found = {}
    for place, lake in lakes.items():
        shop = Shop(lake, random.Random(1))
        shop.fill()
        shop.refresh()
        write_aggregate(spark, job, lake)
        found[place] = sorted(map(str, read(spark, aggregate_table(job, lake)).collect()))
    assert found["s3"] == found["here"]
    print("aggregate", len(found["s3"]))
    # Everybody on this machine can read command lines.
    key = os.environ["SOFTCART_LAKE_SECRET_ACCESS_KEY"].encode()
    java = spark.sparkContext._gateway.proc.pid
    assert key not in Path(f"/proc/{java}/cmdline").read_bytes()
    publish_all(os.environ["SOFTCART_HIVE_METASTORE_URI"], lakes["s3"])
    for table in ("lake_shop.orders", "lake_shop.orders_changes", f"aggregates.{job.name}"):
        print(table, *spark.sql(f"SELECT count(*) FROM {table}").first())
    stop_session(spark)
finally:
    stack.down()
"""


def test_numbers_on_s3_are_those_of_a_lake_on_this_machine(tmp_path: Path) -> None:
    try:
        jars.fetch("s3")
    except jars.JarsUnavailable as error:
        pytest.skip(str(error))
    kept = {k: v for k, v in os.environ.items() if not k.startswith("SOFTCART_") or "SPARK" in k}
    settings = {"SOFTCART_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env=kept | settings,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    aggregate, orders, changes, in_hive = (line.split()[1] for line in done.stdout.splitlines())
    assert int(aggregate) > 0
    assert (orders, changes, in_hive) == ("80", "80", aggregate)
