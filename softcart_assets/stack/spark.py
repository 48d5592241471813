"""The local Spark cluster, one master and one worker, and Spark's settings for it and for YARN.

The two servers run from the jars in the wheel `pyspark`. They listen on loopback only. They ask for
no password: whoever may use this machine may have them run programs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from softcart_assets.paths import REPOSITORY
from softcart_assets.stack.java import HOST, LaterServer, replace_file
from softcart_assets.stores import LAKE

_EXECUTOR_MEGABYTES = 1024
_CORES = 2


def _spark_home() -> Path:
    found = importlib.util.find_spec("pyspark")
    assert found
    assert found.origin
    return Path(found.origin).parent


class _SparkServer(LaterServer):
    """One of the two. The next port is for programs that ask."""

    product_name = "Spark 4.3"
    remedy = "Install Java 17."
    address = "MASTER"
    ports = 2
    main: ClassVar[str]
    """Its class under `org.apache.spark.deploy`."""

    def initialise(self, data: Path) -> None:
        """See `Server`."""
        data.mkdir(mode=0o700)

    def arguments(self) -> list[str]:
        """What it is told beside its address."""
        return []

    def command(self) -> list[str]:
        """See `Server`."""
        spark = _spark_home()
        return [
            # Spark takes from the environment where it is, and where its pages listen.
            *("/usr/bin/env", f"SPARK_HOME={spark}", f"SPARK_LOCAL_IP={HOST}"),
            # Its own scripts would set it, and executors do not start without it.
            "SPARK_SCALA_VERSION=2.13",
            *(str(self.product[1]), self.data_argument),
            *(f"{self.port_argument}{self.port}", self.others),
            *self.options,
            f"-Dlog4j2.configurationFile={_log_settings()}",
            # Its door for programs that submit jobs without Spark.
            "-Dspark.master.rest.enabled=false",
            "-Dspark.worker.cleanup.enabled=true",
            *("-classpath", f"{spark / 'jars'}/*"),
            f"org.apache.spark.deploy.{self.main}",
            *("--host", HOST, "--port", str(self.port), "--webui-port", str(self.port + 1)),
            *self.arguments(),
        ]


class SparkMaster(_SparkServer):
    """It hands out the workers' memory and cores."""

    # Not as what users ask for: both are in one file.
    name = "sparkmaster"
    title = "Spark master"
    main = "master.Master"
    before = ()

    def prepare(self) -> None:
        """See `Server`."""
        from softcart_assets.connections import ServerUnreachable

        status = self.state()["status"]
        if status != "ALIVE":
            raise ServerUnreachable(f"the master is {status}")

    def state(self) -> dict[str, Any]:
        """What it says of itself and its workers. Raises `ServerUnreachable`."""
        return dict(self.ask(self.port + 1, "json/"))

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"spark://{HOST}:{self.port}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_MASTER": self.url(prefix)}


class SparkWorker(_SparkServer):
    """It runs the executors."""

    name = "sparkworker"
    title = "Spark worker"
    main = "worker.Worker"

    def __init__(self, *of: Any, master: SparkMaster, **named: Any) -> None:
        super().__init__(*of, **named)
        self._master = master

    @property
    def before(self) -> tuple[LaterServer, ...]:
        """See `LaterServer`."""
        return (self._master,)

    def arguments(self) -> list[str]:
        """See `_SparkServer`."""
        memory = f"{_EXECUTOR_MEGABYTES * 2}m"
        work = str(self.data / "work")
        return ["-c", str(_CORES * 2), "-m", memory, "-d", work, self._master.url("")]

    def prepare(self) -> None:
        """See `Server`. Programs can be run then."""
        from softcart_assets.connections import ServerUnreachable

        known = self._master.state()["workers"]
        if not any(each["port"] == self.port and each["state"] == "ALIVE" for each in known):
            raise ServerUnreachable("the master does not know the worker yet")

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return self._master.url(prefix)

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return self._master.environment(prefix)


def spark_environment(home: Path) -> dict[str, str]:
    """Where programs find the settings of Spark on a home's cluster."""
    return {"SPARK_CONF_DIR": str(home / "spark-conf"), "PYSPARK_PYTHON": sys.executable}


def write_spark_settings(home: Path, environment: Mapping[str, str]) -> None:
    """Put Spark's settings in place: its executors are here, and have its jars already.

    In cluster mode on YARN, the driver gets its part of `environment` from them.
    """
    logging = f"-Dlog4j2.configurationFile={_log_settings()}"
    brief = "-XX:+UseSerialGC"
    settings = {
        "spark.yarn.jars": f"local:{_spark_home() / 'jars'}/*",
        "spark.executor.instances": "1",
        "spark.executor.cores": str(_CORES),
        "spark.cores.max": str(_CORES),
        "spark.executor.memory": f"{_EXECUTOR_MEGABYTES}m",
        "spark.executor.extraJavaOptions": f"{brief} -XX:-DontCompileHugeMethods {logging}",
        "spark.driver.extraJavaOptions": f"{brief} {logging}",
        "spark.driver.host": HOST,
        "spark.driver.bindAddress": HOST,
        "spark.executorEnv.SPARK_LOCAL_IP": HOST,
        "spark.yarn.am.memory": "256m",
        "spark.yarn.am.memoryOverhead": "128m",
        "spark.yarn.am.extraJavaOptions": f"{brief} -XX:TieredStopAtLevel=1 {logging}",
        "spark.yarn.maxAppAttempts": "1",
    }
    of_driver = {"SPARK_LOCAL_IP": HOST, "PYTHONPATH": str(REPOSITORY)}
    names = ("PYSPARK_PYTHON", "HADOOP_CONF_DIR", "SOFTCART_HOME", LAKE)
    of_driver |= {name: environment[name] for name in names if name in environment}
    settings |= {f"spark.yarn.appMasterEnv.{name}": of for name, of in of_driver.items()}
    lines = "".join(f"{name} {value}\n" for name, value in settings.items())
    replace_file(home / "spark-conf" / "spark-defaults.conf", lines)


def _log_settings() -> str:
    return (REPOSITORY / "spark" / "log4j2.properties").as_uri()
