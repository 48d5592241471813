"""The Spark session: the one place that says how Spark, the lake's warehouse folder and the Hive metastore are set.

Here belong session settings and the lock on the embedded metastore; no table is read or written here.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from urllib.parse import unquote

from py4j.java_gateway import JavaGateway, JavaObject
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.sql import SparkSession

log = logging.getLogger(__name__)

SETTINGS = {
    # Exactness: UTC, errors instead of silent NULLs, microseconds.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    # Few, large tasks; adaptive execution splits and joins them by size.
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.shuffle.partitions": "16",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # The metastore's own filter language has no names that begin with an underscore (`_month`): filter them here.
    "spark.sql.hive.metastorePartitionPruning": "false",
    "spark.hadoop.hive.stats.autogather": "false",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
"""Settings of every session, whatever its master."""

LOCAL_SETTINGS = {
    # Loopback only: nothing of a local session can be reached from the network.
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
}
"""Settings of sessions that run in this process."""

_metastore_locks: dict[Path, JavaObject] = {}
"""Locks on embedded metastores that this process's JVM holds; kept so that Java does not collect (and free) them."""


def softcart_home() -> Path:
    """The folder of everything that runs locally: `SOFTCART_HOME`, by default `.softcart` in the repository."""
    return Path(
        os.environ.get("SOFTCART_HOME") or Path(__file__).parents[1] / ".softcart"
    ).resolve()


def default_lake_uri() -> str:
    """The lake's root: `SOFTCART_LAKE_URI`, by default `lake` in `SOFTCART_HOME`."""
    return os.environ.get("SOFTCART_LAKE_URI") or (softcart_home() / "lake").as_uri()


def build_session(
    app_name: str,
    *,
    master: str | None = None,
    warehouse_uri: str | None = None,
    home: Path | None = None,
    hive: bool = True,
) -> SparkSession:
    """Start this process's one session; end it with `stop_session`.

    `master` defaults to `SOFTCART_SPARK_MASTER` or `local[*]`; `warehouse_uri` to `<SOFTCART_LAKE_URI>/warehouse`;
    `home` to `SOFTCART_HOME`. The driver gets `SOFTCART_SPARK_MEMORY` (default 2g). Hive's metastore is the one at
    `SOFTCART_HIVE_METASTORE_URI` (thrift://…), by default an embedded one in `<home>/metastore`, which serves one
    process at a time: a second one waits here for the first. `hive=False` gives a session without any metastore.
    Under spark-submit its options come first, then these settings.
    """
    home = (home or softcart_home()).resolve()
    metastore_uri = os.environ.get("SOFTCART_HIVE_METASTORE_URI")
    master = master or os.environ.get("SOFTCART_SPARK_MASTER") or "local[*]"
    settings = SETTINGS | {
        "spark.app.name": app_name,
        "spark.master": master,
        "spark.driver.memory": os.environ.get("SOFTCART_SPARK_MEMORY") or "2g",
        "spark.driver.extraJavaOptions": _java_options(local=master.startswith("local")),
        "spark.sql.warehouse.dir": unquote(
            warehouse_uri or f"{default_lake_uri().rstrip('/')}/warehouse"
        ),
        "spark.sql.catalogImplementation": "hive" if hive else "in-memory",
    }
    if metastore_uri:
        settings["spark.hadoop.hive.metastore.uris"] = metastore_uri
    elif hive:
        settings["spark.hadoop.javax.jdo.option.ConnectionURL"] = (
            f"jdbc:derby:{home / 'metastore'};create=true"
        )

    is_submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    if is_submitted:
        SparkContext._ensure_initialized()  # Java runs already; from now on SparkConf knows spark-submit's options
    conf = SparkConf()
    for name, value in settings.items():
        conf = conf.setIfMissing(name, value) if is_submitted else conf.set(name, value)
    if conf.get("spark.master", master).startswith("local"):
        conf.setAll(list(LOCAL_SETTINGS.items()))
    gateway = SparkContext._gateway or launch_gateway(conf)
    if hive and not metastore_uri:
        _lock_metastore(gateway, home / "metastore")
    SparkContext(conf=conf, gateway=gateway)
    return SparkSession.builder.getOrCreate()


def _java_options(local: bool) -> str:
    options = [
        f"-Dlog4j2.configurationFile={Path(__file__).with_name('log4j2.properties').as_uri()}"
    ]
    if local:
        # Local runs are short, and Java's optimising compiler takes more of the cores than the work that it makes
        # faster: it gets only what runs 20 times as often as by default. (Lake and aggregates of 1.5 million order
        # lines: 136 seconds of CPU so, 184 by default; the smaller the data, the more it saves.)
        thresholds = {
            "Invocation": 100_000,
            "MinInvocation": 12_000,
            "Compile": 300_000,
            "BackEdge": 800_000,
        }
        options += [f"-XX:Tier4{name}Threshold={value}" for name, value in thresholds.items()]
        options += ["-XX:+UseSerialGC"]  # the smallest footprint
    return " ".join(options)


def stop_session(spark: SparkSession) -> None:
    """Stop the session and its Java process, which gives back the memory and the embedded metastore's lock.

    The end of the Python process does the same, however it ends.
    """
    gateway = SparkContext._gateway
    spark.stop()
    if (
        gateway is None or "PYSPARK_GATEWAY_PORT" in os.environ
    ):  # spark-submit owns the Java process
        return
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
    SparkContext._gateway = SparkContext._jvm = None
    _metastore_locks.clear()


def _lock_metastore(gateway: JavaGateway, metastore: Path) -> None:
    """Wait until no other process has the embedded metastore open, then keep it for this one.

    The Java process, which opens the metastore, holds the lock itself: a lock of the Python process would be free while
    the Java process of a killed run is still shutting down.
    """
    if metastore in _metastore_locks:
        return
    metastore.parent.mkdir(parents=True, exist_ok=True)
    path = metastore.with_suffix(".lock")
    file = gateway.jvm.java.io.RandomAccessFile(str(path), "rw")
    announced = False
    while not (lock := file.getChannel().tryLock()):
        if not announced:
            log.warning(
                "The embedded Hive metastore %s serves one process at a time; waiting for process %s to end. "
                "A metastore server in SOFTCART_HIVE_METASTORE_URI serves several.",
                metastore,
                path.read_text(errors="replace").strip() or "(unknown)",
            )
            announced = True
        time.sleep(0.2)
    path.write_text(f"{os.getpid()}\n")
    gateway.jvm.java.lang.System.setProperty("derby.system.home", str(metastore.parent))
    gateway.jvm.java.lang.System.setProperty(
        "derby.stream.error.file", str(metastore.with_suffix(".log"))
    )
    _metastore_locks[metastore] = lock
