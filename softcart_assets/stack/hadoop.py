"""The local Hadoop: HDFS (NameNode, DataNode) and YARN (ResourceManager, NodeManager), one of each.

They run from the pinned jars of `softcart_assets.jars`. They listen on loopback only. As anywhere
without Kerberos, they believe everybody's name: whoever may use this machine may read the files,
and may have YARN run programs.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from softcart_assets.stack.java import HOST, LaterServer, libraries, replace_file
from softcart_assets.stack.xml import site_xml

_PACKAGE = "org.apache.hadoop"
_LOGGING = """\
log4j.rootLogger=INFO,console
log4j.appender.console=org.apache.log4j.ConsoleAppender
log4j.appender.console.target=System.err
log4j.appender.console.layout=org.apache.log4j.PatternLayout
log4j.appender.console.layout.ConversionPattern=%d{ISO8601} %p %c{2}: %m%n
"""


class HadoopServer(LaterServer):
    """One of the four. Clients find their settings in the folder `hadoop/conf` of the home."""

    product_name = "Hadoop 3.5"
    remedy = "Install Java 17 and Maven."
    address = "URI"
    main: ClassVar[str]
    """Its class under `org.apache.hadoop`."""

    def __init__(self, home: Path, port: int, password: str, databases: Mapping[str, str]) -> None:
        super().__init__(home, port, password, databases)
        self.root = home / "hadoop"

    @abstractmethod
    def settings(self) -> dict[str, dict[str, str]]:
        """What it adds to Hadoop's settings, by file."""

    def initialise(self, data: Path) -> None:
        """See `Server`."""
        data.mkdir(mode=0o700)

    def command(self) -> list[str]:
        """See `Server`."""
        java, *rest = self.java(self.main)
        return [java, self.data_argument, f"{self.port_argument}{self.port}", self.others, *rest]

    def java(self, main: str, *arguments: str) -> list[str]:
        """The command line of a program of Hadoop's, with its settings in place."""
        found = libraries("hadoop")
        self.write_settings(self.home / "conf")
        replace_file(self.home / "conf" / "log4j.properties", _LOGGING)
        (self.home / "tmp").mkdir(exist_ok=True)
        for name in ("hdfs", "datanode", "static"):
            # The jars have no pages, but the servers want their folders.
            (self.home / "pages" / "webapps" / name).mkdir(parents=True, exist_ok=True)
        return [
            str(self.product[1]),
            *self.options,
            f"-Djava.io.tmpdir={self.home}/tmp",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            # By their names only, because a colon in our path would end them.
            *("-classpath", f"conf:pages:{found}/*"),
            f"{_PACKAGE}.{main}",
            *arguments,
        ]

    def write_settings(self, folder: Path) -> None:
        """Put Hadoop's settings, as this server has them, into a folder."""
        for name, settings in self.settings().items():
            replace_file(folder / f"{name}.xml", site_xml(settings))

    def bean(self, port: int, name: str) -> dict[str, Any]:
        """What a server says of itself. Raises `ServerUnreachable`."""
        from softcart_assets.connections import ServerUnreachable

        found = self.ask(port, f"jmx?qry=Hadoop:{name}")["beans"]
        if not found:
            raise ServerUnreachable(f"{self.title} is not ready yet")
        return dict(found[0])


class NameNode(HadoopServer):
    """It has the names of HDFS' files. It also listens on the next port, for programs that ask."""

    name = "namenode"
    title = "HDFS NameNode"
    main = "hdfs.server.namenode.NameNode"
    ports = 2
    before = ()

    def settings(self) -> dict[str, dict[str, str]]:
        """See `HadoopServer`."""
        return {
            "core-site": {
                "fs.defaultFS": self.root_uri,
                "hadoop.tmp.dir": str(self.root / "tmp"),
                "ipc.client.connect.max.retries": "3",
                "ipc.client.connect.max.retries.on.timeouts": "3",
            },
            "hdfs-site": {
                "dfs.namenode.rpc-address": f"{HOST}:{self.port}",
                "dfs.namenode.http-address": f"{HOST}:{self.port + 1}",
                "dfs.namenode.name.dir": (self.data / "names").as_uri(),
                "dfs.replication": "1",
                # It knows all blocks as soon as the one DataNode has told it of them.
                "dfs.namenode.safemode.extension": "0",
                "dfs.namenode.datanode.registration.ip-hostname-check": "false",
                "dfs.namenode.heartbeat.recheck-interval": "10000",
                "dfs.heartbeat.interval": "1",
                # Web pages of others cannot send this header.
                "dfs.webhdfs.rest-csrf.enabled": "true",
                "dfs.client.block.write.replace-datanode-on-failure.policy": "NEVER",
            },
        }

    def initialise(self, data: Path) -> None:
        """See `Server`."""
        super().initialise(data)
        names = (data / "names").as_uri()
        arguments = (f"-Ddfs.namenode.name.dir={names}", "-format", "-nonInteractive")
        self.run(self.java(self.main, *arguments), cwd=self.home)

    def command(self) -> list[str]:
        """See `Server`. Clients get the settings, too."""
        self.write_settings(self.root / "conf")
        return super().command()

    def prepare(self) -> None:
        """See `Server`."""
        self.bean(self.port + 1, "service=NameNode,name=NameNodeInfo")

    @property
    def root_uri(self) -> str:
        """The root of its file system."""
        return f"hdfs://{HOST}:{self.port}"

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"{self.root_uri}/{self.databases[prefix]}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_URI": self.url(prefix)}


class _WithNameNode(HadoopServer):
    def __init__(self, *of: Any, namenode: NameNode, **named: Any) -> None:
        super().__init__(*of, **named)
        self.namenode = namenode

    @property
    def before(self) -> tuple[HadoopServer, ...]:
        """See `LaterServer`."""
        return (self.namenode,)


class DataNode(_WithNameNode):
    """It has the contents of HDFS' files. The next port is for programs that ask it."""

    name = "datanode"
    title = "HDFS DataNode"
    main = "hdfs.server.datanode.DataNode"
    ports = 3

    def settings(self) -> dict[str, dict[str, str]]:
        """See `HadoopServer`."""
        known = self.namenode.settings()
        known["hdfs-site"] |= {
            "dfs.datanode.data.dir": (self.data / "blocks").as_uri(),
            "dfs.datanode.address": f"{HOST}:{self.port}",
            "dfs.datanode.http.address": f"{HOST}:{self.port + 1}",
            "dfs.datanode.ipc.address": f"{HOST}:{self.port + 2}",
            "dfs.datanode.hostname": HOST,
        }
        return known

    def prepare(self) -> None:
        """See `Server`. Files can be written then."""
        from softcart_assets.connections import ServerUnreachable

        info = self.bean(self.port + 1, "service=DataNode,name=DataNodeInfo")
        # It is not there at first.
        told = json.loads(info.get("BPServiceActorInfo") or "[]")
        if [each["ActorState"] for each in told] != ["RUNNING"]:
            raise ServerUnreachable("the DataNode has not found the NameNode yet")
        info = self.bean(self.namenode.port + 1, "service=NameNode,name=NameNodeInfo")
        if info["Safemode"]:
            raise ServerUnreachable(f"the NameNode waits: {info['Safemode']}")
        if not json.loads(info["LiveNodes"]):
            raise ServerUnreachable("the NameNode does not know the DataNode yet")

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return self.namenode.url(prefix)

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return self.namenode.environment(prefix)


class ResourceManager(_WithNameNode):
    """It hands out YARN's memory and cores. The next four ports are for its other clients."""

    name = "resourcemanager"
    title = "YARN ResourceManager"
    main = "yarn.server.resourcemanager.ResourceManager"
    ports = 5

    def settings(self) -> dict[str, dict[str, str]]:
        """See `HadoopServer`."""
        names = ("", ".scheduler", ".resource-tracker", ".admin", ".webapp")
        return self.namenode.settings() | {
            "yarn-site": {
                f"yarn.resourcemanager{name}.address": f"{HOST}:{self.port + place}"
                for place, name in enumerate(names)
            }
            | {
                "yarn.resourcemanager.hostname": HOST,
                "yarn.resourcemanager.bind-host": HOST,
                "yarn.resourcemanager.nodemanagers.heartbeat-interval-ms": "200",
                "yarn.resourcemanager.am.max-attempts": "1",
                "yarn.resourcemanager.work-preserving-recovery.scheduling-wait-ms": "0",
                # By default, who asks it waits for 15 minutes.
                "yarn.resourcemanager.connect.max-wait.ms": "30000",
                "yarn.resourcemanager.connect.retry-interval.ms": "1000",
                # From so long a silence it learns that a NodeManager is gone.
                "yarn.nm.liveness-monitor.expiry-interval-ms": "60000",
                # Web pages of others cannot send this header.
                "yarn.resourcemanager.webapp.rest-csrf.enabled": "true",
                "yarn.scheduler.minimum-allocation-mb": "128",
                "yarn.scheduler.maximum-allocation-mb": str(_MEMORY),
            },
            "capacity-scheduler": {
                "yarn.scheduler.capacity.root.queues": "default",
                "yarn.scheduler.capacity.root.default.capacity": "100",
                "yarn.scheduler.capacity.maximum-am-resource-percent": "0.6",
            },
        }

    def command(self) -> list[str]:
        """See `Server`. Clients get the settings, too."""
        self.write_settings(self.root / "conf")
        return super().command()

    def prepare(self) -> None:
        """See `Server`."""
        from softcart_assets.connections import ServerUnreachable

        state = self.ask(self.port + 4, "ws/v1/cluster/info")["clusterInfo"]["state"]
        if state != "STARTED":
            raise ServerUnreachable(f"the ResourceManager is {state}")

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"http://{HOST}:{self.port + 4}/cluster"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_MASTER": "yarn"}


class NodeManager(HadoopServer):
    """It runs the programs that YARN is given, with the memory of this machine."""

    name = "nodemanager"
    title = "YARN NodeManager"
    main = "yarn.server.nodemanager.NodeManager"
    ports = 3

    def __init__(self, *of: Any, resources: ResourceManager, datanode: DataNode, **named: Any):
        super().__init__(*of, **named)
        self._resources, self._datanode = resources, datanode

    @property
    def before(self) -> tuple[HadoopServer, ...]:
        """See `LaterServer`."""
        return self._datanode, self._resources

    def settings(self) -> dict[str, dict[str, str]]:
        """See `HadoopServer`."""
        known = self._datanode.settings() | self._resources.settings()
        known["hdfs-site"] = self._datanode.settings()["hdfs-site"]
        java_home = self.product[1].resolve().parents[1]
        known["yarn-site"] |= {
            "yarn.nodemanager.hostname": HOST,
            "yarn.nodemanager.bind-host": HOST,
            "yarn.nodemanager.address": f"{HOST}:{self.port}",
            "yarn.nodemanager.localizer.address": f"{HOST}:{self.port + 1}",
            "yarn.nodemanager.webapp.address": f"{HOST}:{self.port + 2}",
            "yarn.nodemanager.local-dirs": str(self.data / "work"),
            "yarn.nodemanager.log-dirs": str(self.data / "logs"),
            "yarn.nodemanager.resource.memory-mb": str(_MEMORY),
            "yarn.nodemanager.resource.cpu-vcores": "4",
            # Java reserves more than it uses, and Python's workers share pages.
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.pmem-check-enabled": "false",
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.5",
            "yarn.nodemanager.admin-env": f"JAVA_HOME={java_home}",
        }
        return known

    def prepare(self) -> None:
        """See `Server`. Programs can be run then."""
        from softcart_assets.connections import ServerUnreachable

        port = self._resources.port + 4
        nodes = self.ask(port, "ws/v1/cluster/nodes?states=RUNNING")["nodes"] or {}
        ports = [int(node["id"].rpartition(":")[2]) for node in nodes.get("node", ())]
        if self.port not in ports:
            raise ServerUnreachable("the ResourceManager does not know the NodeManager yet")

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return self._resources.url(prefix)

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return self._resources.environment(prefix)


_MEMORY = 4096
"""Megabytes that YARN may hand out."""


def hadoop_environment(home: Path) -> dict[str, str]:
    """Where programs find the settings of a home's Hadoop."""
    return {"HADOOP_CONF_DIR": str(home / "hadoop" / "conf")}
