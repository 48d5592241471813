"""The Spark session: its settings, its start and its end.

`spark_conf` is the one place with the settings of Spark. Dagster's resource, spark-submit, the seed
data and the tests all start their session here. This module reads and writes no table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote

from pyspark.sql import SparkSession

from softcart_assets.paths import local_lake, softcart_home
from spark import class_data, lake, private
from spark.metastore import forget_locks, lock_metastore, metastore_server, metastore_settings

SETTINGS = {
    # Exactness: UTC, errors instead of silent NULLs, microseconds.
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    # Few, large tasks. Adaptive execution splits and joins them by size.
    "spark.sql.adaptive.enabled": "true",
    "spark.sql.shuffle.partitions": "16",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # The metastore's filter language refuses names that begin with an underscore, such as `_month`.
    # Spark filters these partitions itself.
    "spark.sql.hive.metastorePartitionPruning": "false",
    "spark.hadoop.hive.stats.autogather": "false",
    # Each task that writes holds a row group in memory. Parquet's default would be 128 MB.
    "spark.hadoop.parquet.block.size": str(32 << 20),
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
"""Settings of every session, whatever its master."""

LOCAL_SETTINGS = {
    # Loopback only, so that nothing of a local session can be reached from the network.
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    # Above so many folders, Spark would start a job of its own to list their files.
    "spark.sql.sources.parallelPartitionDiscovery.threshold": "10000",
}
"""Settings of sessions that run in this process."""


def default_lake_uri(environment: Mapping[str, str] = os.environ) -> str:
    """The lake's root: `SOFTCART_LAKE_URI`, by default `lake` in `SOFTCART_HOME`."""
    return environment.get("SOFTCART_LAKE_URI") or local_lake(softcart_home(environment))


def spark_conf(
    app_name: str,
    environment: Mapping[str, str],
    *,
    master: str | None = None,
    warehouse_uri: str | None = None,
    home: Path | None = None,
    hive: bool = True,
    submitted: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """All settings of a session, from these arguments alone.

    `hive=False`: a session without any metastore. `submitted`: the settings of spark-submit, which
    override ours. `environment` has the settings that the caller leaves out:

    - `SOFTCART_SPARK_MASTER`, by default `local[*]`
    - `SOFTCART_SPARK_MEMORY` of the driver, by default 2g
    - `SOFTCART_LAKE_URI`: its folder `warehouse` has the tables
    - `SOFTCART_HOME`: its folder `metastore` has the embedded Hive metastore
    - `SOFTCART_HIVE_METASTORE_URI` (thrift://…), which replaces the embedded one
    """
    home = (home or softcart_home(environment)).resolve()
    master = master or environment.get("SOFTCART_SPARK_MASTER") or "local[*]"
    warehouse = warehouse_uri or f"{default_lake_uri(environment).rstrip('/')}/warehouse"
    conf = SETTINGS | {
        "spark.app.name": app_name,
        "spark.master": master,
        "spark.driver.memory": environment.get("SOFTCART_SPARK_MEMORY") or "2g",
        "spark.driver.extraJavaOptions": _java_options(local=master.startswith("local")),
        "spark.sql.warehouse.dir": unquote(warehouse),
        "spark.sql.catalogImplementation": "hive" if hive else "in-memory",
    }
    if hive:
        conf |= metastore_settings(metastore_server(environment), home)
    conf |= submitted
    # Last, because spark-submit may have named the master.
    if conf["spark.master"].startswith("local"):
        conf |= LOCAL_SETTINGS
    return conf


def _java_options(local: bool) -> str:
    log_settings = Path(__file__).with_name("log4j2.properties").as_uri()
    options = [f"-Dlog4j2.configurationFile={log_settings}"]
    if local:
        # Local runs are short. Java's optimising compiler takes more processor time than it saves,
        # so it gets only what runs 20 times as often as by default. (Lake and aggregates of 1.5
        # million order lines: 136 seconds of CPU so, 184 by default. Smaller data save more.)
        thresholds = {
            "Invocation": 100_000,
            "MinInvocation": 12_000,
            "Compile": 300_000,
            "BackEdge": 800_000,
        }
        options += [f"-XX:Tier4{name}Threshold={value}" for name, value in thresholds.items()]
        options += ["-XX:+UseSerialGC"]  # the smallest footprint
    return " ".join(options)


def build_session(
    app_name: str,
    *,
    master: str | None = None,
    warehouse_uri: str | None = None,
    home: Path | None = None,
    hive: bool = True,
    archive_classes: bool = False,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> SparkSession:
    """Start the one session of this process with `spark_conf`. `stop_session` ends it.

    With Hive, the embedded metastore is told of the lake's tables, so that SQL finds them. Then
    this waits if another process uses that metastore. `archive_classes`: the end of the session
    writes Java's class-data archive if there is none. `settings` override all others.
    """
    conf = spark_conf(
        app_name,
        os.environ,
        master=master,
        warehouse_uri=warehouse_uri,
        home=home,
        hive=hive,
        submitted=private.submitted_settings(),
    )
    if conf["spark.master"].startswith("local") and not private.is_submitted():
        home = (home or softcart_home()).resolve()
        options = class_data.java_options(home, write=archive_classes)
        conf["spark.driver.extraJavaOptions"] += "".join(f" {option}" for option in options)
    _name_files_in_utf8()
    builder = SparkSession.builder
    for name, value in (conf | dict(settings)).items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    # The first SQL statement opens the metastore, so the lock comes before it.
    try:
        lock_metastore(session)
        if hive and not metastore_server(os.environ):
            root = warehouse_uri.rpartition("/")[0] if warehouse_uri else default_lake_uri()
            lake.register(session, root)
    except BaseException:
        stop_session(session)
        raise
    return session


def _name_files_in_utf8() -> None:
    """Let Java, which starts next, read and write file names as Python does.

    In the locale C, Python takes UTF-8 for file names. Java takes ASCII and finds no file whose
    path has an umlaut.
    """
    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        os.environ["LC_ALL"] = "C.UTF-8"


def stop_session(spark: SparkSession) -> None:
    """Stop the session and its Java process, which frees its memory and the metastore's lock.

    The end of the Python process does the same, however it ends. Only the archive is not kept then.
    """
    spark.stop()
    if private.end_java():
        forget_locks()
        class_data.keep()
