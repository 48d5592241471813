"""The Hive metastore of a session, and the lock on the embedded one.

The metastore knows the lake's tables and the folders of their files. By default it is a Derby
database inside Spark's Java process, which serves that process only. A second process would get an
error from Derby. With the lock, it waits and says so. `SOFTCART_HIVE_METASTORE_URI` names a
metastore server instead, which needs no lock.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from spark import private

log = logging.getLogger(__name__)

_SERVER = "spark.hadoop.hive.metastore.uris"
_DATABASE = "spark.hadoop.javax.jdo.option.ConnectionURL"
_DERBY = "jdbc:derby:"

_locks: dict[Path, Any] = {}
"""The locks that Java holds. Without a reference from Python, Java would collect and free them."""


def metastore_server(environment: Mapping[str, str]) -> str | None:
    """The address of the metastore server that the settings name. None: the embedded one."""
    return environment.get("SOFTCART_HIVE_METASTORE_URI") or None


def metastore_settings(server: str | None, home: Path) -> dict[str, str]:
    """The settings for the metastore server at `server`, or for the embedded one in `home`."""
    if server:
        return {_SERVER: server}
    return {_DATABASE: f"{_DERBY}{home / 'metastore'};create=true"}


def lock_metastore(spark: SparkSession) -> None:
    """Wait until no other process has the session's embedded metastore open, then keep it.

    Call it before the session's first SQL statement, which opens the metastore. It does nothing for
    a session with a metastore server, or without Hive.

    The Java process holds the lock, because it is the one that has the metastore open. A lock of
    the Python process would be free while Java is still shutting down after a kill.
    """
    conf = spark.sparkContext.getConf()
    database = conf.get(_DATABASE, "") or ""
    has_hive = conf.get("spark.sql.catalogImplementation") == "hive"
    if not has_hive or conf.get(_SERVER) or not database.startswith(_DERBY):
        return
    metastore = Path(database.removeprefix(_DERBY).partition(";")[0])
    if metastore in _locks:
        return
    metastore.parent.mkdir(parents=True, exist_ok=True)
    path = metastore.with_suffix(".lock")
    java = private.java(spark)
    file = java.io.RandomAccessFile(str(path), "rw")
    announced = False
    while not (lock := file.getChannel().tryLock()):
        if not announced:
            log.warning(
                "The embedded Hive metastore %s serves one process at a time. Waiting for process "
                "%s to end. A metastore server in SOFTCART_HIVE_METASTORE_URI serves several.",
                metastore,
                path.read_text(errors="replace").strip() or "(unknown)",
            )
            announced = True
        time.sleep(0.2)
    path.write_text(f"{os.getpid()}\n")
    # Derby writes its log into the working directory unless it is told where.
    java.lang.System.setProperty("derby.system.home", str(metastore.parent))
    java.lang.System.setProperty("derby.stream.error.file", str(metastore.with_suffix(".log")))
    _locks[metastore] = lock


def forget_locks() -> None:
    """Forget the locks of a Java process that has ended, which freed them."""
    _locks.clear()
