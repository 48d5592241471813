"""The Spark session: its settings, its start and its end.

`spark_conf` is the one place with the settings of Spark. Dagster's resource, spark-submit, the seed
data and the tests all start their session here. This module reads and writes no table.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from pyspark.sql import SparkSession

from softcart_assets.connections import METASTORE, ServerUnreachable, SettingError
from softcart_assets.paths import local_lake, softcart_home
from softcart_assets.stores import LAKE, hadoop_jars, hadoop_keys, hadoop_settings, hadoop_uri
from spark import class_data, private

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
    # The state of a table says which folders are complete.
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
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

SHORT_SETTINGS = {
    # Results that Spark caches keep their number of tasks, however small these are.
    "spark.sql.shuffle.partitions": "2",
    # By default, each sum, sort and join of a task begins with some 64 MB, which Java must clear.
    "spark.buffer.pageSize": "1m",
}
"""Settings of a local session with little to compute."""

MASTER = "SOFTCART_SPARK_MASTER"
MEMORY = "SOFTCART_SPARK_MEMORY"
"""The settings of where Spark runs, and of the memory of its driver."""
DEFAULT_MEMORY = "2g"


def default_lake_uri(environment: Mapping[str, str] = os.environ) -> str:
    """The lake's root: `SOFTCART_LAKE_URI`, by default `lake` in `SOFTCART_HOME`."""
    return environment.get(LAKE) or local_lake(softcart_home(environment))


def spark_conf(
    app_name: str,
    environment: Mapping[str, str],
    *,
    master: str | None = None,
    warehouse_uri: str | None = None,
    hive: bool = True,
    short: bool = False,
    libraries: Iterable[Path] = (),
    submitted: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """All settings of a session, from these arguments alone.

    `hive`: whether SQL finds the tables of the metastore, if there is one. `short`: see
    `build_session`. `libraries`: jars, beside those that the lake needs. `submitted`: the settings
    of spark-submit, which override ours. `environment` has the settings that the caller leaves out:

    - `SOFTCART_SPARK_MASTER`, by default `local[*]`
    - `SOFTCART_SPARK_MEMORY` of the driver, by default 2g
    - `SOFTCART_LAKE_URI`: its folder `warehouse` has the tables. For the others of S3 see `stores`
    - `SOFTCART_HIVE_METASTORE_URI` (thrift://…)

    Raises `SettingError` if the memory is no size, or if the lake lacks a setting or libraries.
    """
    master = master or environment.get(MASTER) or "local[*]"
    lake = default_lake_uri(environment)
    warehouse = warehouse_uri or f"{lake.rstrip('/')}/warehouse"
    metastore = environment.get(f"{METASTORE}_URI") if hive else None
    memory = environment.get(MEMORY) or DEFAULT_MEMORY
    # Java would end at once, and say nothing of the setting.
    if not re.fullmatch(r"\d+[kmgt]", memory, re.IGNORECASE):
        raise SettingError(f"{MEMORY} must be a size such as {DEFAULT_MEMORY}, not {memory!r}.")
    conf = SETTINGS | {
        "spark.app.name": app_name,
        "spark.master": master,
        "spark.driver.memory": memory,
        "spark.driver.extraJavaOptions": _java_options(master.startswith("local"), short),
        "spark.sql.warehouse.dir": hadoop_uri(warehouse),
        "spark.sql.catalogImplementation": "hive" if metastore else "in-memory",
    }
    conf |= {f"spark.hadoop.{name}": of for name, of in hadoop_settings(lake, environment).items()}
    if found := [*hadoop_jars(lake), *libraries]:
        conf["spark.jars"] = ",".join(map(str, found))
    if metastore:
        conf["spark.hadoop.hive.metastore.uris"] = metastore
    conf |= submitted
    # Last, because spark-submit may have named the master.
    if conf["spark.master"].startswith("local"):
        conf |= LOCAL_SETTINGS | (SHORT_SETTINGS if short else {})
    return conf


def _java_options(local: bool, short: bool) -> str:
    log_settings = Path(__file__).with_name("log4j2.properties").as_uri()
    options = [f"-Dlog4j2.configurationFile={log_settings}"]
    if local:
        options += ["-XX:+UseSerialGC"]  # the smallest footprint
        # Room for the classes and the first plans. Java would stop for each step of its growth.
        options += ["-XX:MetaspaceSize=256m", "-XX:NewSize=192m"]
        # Spark makes one method of all that is computed for a row. By default, Java never compiles
        # methods of that size, so much of the time would go into interpreting them.
        options += ["-XX:-DontCompileHugeMethods"]
    if local and short:
        # Without the optimising compiler, Java keeps too little room for compiled code.
        options += ["-XX:TieredStopAtLevel=1", "-XX:ReservedCodeCacheSize=240m"]
    elif local:
        # Java's optimising compiler takes more processor time than it saves, so it gets only what
        # runs 20 times as often as by default. (Lake and aggregates of 1.5 million order lines:
        # 136 seconds of CPU so, 184 by default.)
        thresholds = {
            "Invocation": 100_000,
            "MinInvocation": 12_000,
            "Compile": 300_000,
            "BackEdge": 800_000,
        }
        options += [f"-XX:Tier4{name}Threshold={value}" for name, value in thresholds.items()]
    return " ".join(options)


def build_session(
    app_name: str,
    *,
    master: str | None = None,
    warehouse_uri: str | None = None,
    hive: bool = True,
    short: bool = False,
    archive_classes: bool = False,
    libraries: Iterable[Path] = (),
    settings: Mapping[str, str] = MappingProxyType({}),
) -> SparkSession:
    """Start the one session of this process with `spark_conf`. `stop_session` ends it.

    If the process has a session, it is returned, and its Java stays as it is.

    The platform's own jobs read the lake without Hive. So they need no metastore, and save the
    seconds in which Spark loads its client. `short`: there is so little to compute that Java's
    optimising compiler would take more time than it saves, and few tasks are enough.
    `archive_classes`: the end of the session writes Java's class-data archive if there is none.
    `libraries`: jars, beside those that the lake needs. `settings` override all others. Raises
    `ServerUnreachable` if the cluster gives no session.
    """
    conf = spark_conf(
        app_name,
        os.environ,
        master=master,
        warehouse_uri=warehouse_uri,
        hive=hive,
        short=short,
        libraries=libraries,
        submitted=private.submitted_settings(),
    )
    if conf["spark.master"].startswith("local") and not private.is_submitted():
        options = class_data.java_options(softcart_home(), write=archive_classes)
        conf["spark.driver.extraJavaOptions"] += "".join(f" {option}" for option in options)
        # The Python of Spark's workers. The default is whichever is first in PATH.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # Spark's script starts a Java of its own, which composes the command line. It should be brief.
    os.environ.setdefault("SPARK_LAUNCHER_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    _name_files_in_utf8()
    builder = SparkSession.builder
    for name, value in (conf | dict(settings)).items():
        builder = builder.config(name, value)
    try:
        spark = builder.getOrCreate()
    except Exception as error:
        if conf["spark.master"].startswith("local"):
            raise
        # Java has the text of its errors.
        why = first_line(error)
        private.end_java(wait=False)
        raise ServerUnreachable(
            f"Spark on {conf['spark.master']} gives no session: {why}. Check that the cluster "
            f"runs, and {MASTER}."
        ) from None
    # Not before: Python hands over the settings of a session in Java's command line.
    private.set_hadoop(spark, hadoop_keys(default_lake_uri()))
    return spark


def first_line(error: Exception) -> str:
    """What an error says, without Java's stack, which has hundreds of lines."""
    text = str(getattr(error, "java_exception", error))
    return text.strip().partition("\n")[0].rstrip(".")


def is_short(spark: SparkSession) -> bool:
    """Whether a session was built as a short one. Only those on this machine can be."""
    return set(SHORT_SETTINGS.items()) <= set(spark.sparkContext.getConf().getAll())


def _name_files_in_utf8() -> None:
    """Let Java, which starts next, read and write file names as Python does.

    In the locale C, Python takes UTF-8 for file names. Java takes ASCII and finds no file whose
    path has an umlaut.
    """
    if os.environ.get("LC_ALL") in ("C", "POSIX"):
        os.environ["LC_ALL"] = "C.UTF-8"


def stop_session(spark: SparkSession) -> None:
    """Stop the session and its Java process, which frees its memory.

    The end of the Python process does the same, however it ends. A Java process that writes the
    class-data archive ends by itself, some seconds later.
    """
    options = spark.sparkContext.getConf().get("spark.driver.extraJavaOptions", "")
    spark.stop()
    private.end_java(wait=not class_data.is_written_with(options or ""))
