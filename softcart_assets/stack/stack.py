"""The local stack as a whole: its servers, their ports and passwords, and the environment."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import yaml
from filelock import FileLock, Timeout

from softcart_assets.assembly import LINES
from softcart_assets.connections import (
    KAFKA,
    LOCAL_PREFIXES,
    METASTORE,
    PRODUCTION_MYSQL,
    SettingError,
    Tls,
    make_folder,
)
from softcart_assets.lines.model import Source
from softcart_assets.paths import local_lake
from softcart_assets.stack.dynamodb import DynamoDB
from softcart_assets.stack.hadoop import (
    DataNode,
    NameNode,
    NodeManager,
    ResourceManager,
    hadoop_environment,
)
from softcart_assets.stack.kafka import CONNECT, Connect, Kafka
from softcart_assets.stack.metastore import Metastore
from softcart_assets.stack.mongo import Mongo
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.postgres import WAREHOUSES, Postgres
from softcart_assets.stack.s3 import S3
from softcart_assets.stack.server import Server, StackError, free_port
from softcart_assets.stack.spark import (
    SparkMaster,
    SparkWorker,
    spark_environment,
    write_spark_settings,
)
from softcart_assets.stack.superset import SUPERSET, Superset
from softcart_assets.stores import LAKE, LAKE_PREFIX, is_s3

PRODUCTS: Mapping[str, type[Server]] = {"mysql": MySQL, "mongodb": Mongo, "dynamodb": DynamoDB}
"""The local server for each kind of source system. Sources of other kinds have none."""
HADOOP, SPARK = "hadoop", "spark"
_LAKE, _YARN = (LAKE_PREFIX, "lake"), ("SOFTCART_SPARK", "yarn")
_STANDALONE = ("SOFTCART_SPARK", "standalone")
_KAFKA = KAFKA, "kafka"
EXTRAS: Mapping[str, Mapping[type[Server], tuple[str, str]]] = {
    "production-mysql": {MySQL: (PRODUCTION_MYSQL, "production")},
    "s3-lake": {S3: (LAKE_PREFIX, "softcart")},
    # The lake is in HDFS, and Spark runs on YARN.
    HADOOP: {NameNode: _LAKE, DataNode: _LAKE, ResourceManager: _YARN, NodeManager: _YARN},
    # Spark runs on a cluster of its own, also beside Hadoop.
    SPARK: {SparkMaster: _STANDALONE, SparkWorker: _STANDALONE},
    "kafka": {Kafka: _KAFKA},
    # Debezium writes to Kafka.
    "debezium": {Kafka: _KAFKA, Connect: (CONNECT, "connect")},
    "superset": {Superset: (SUPERSET, "superset")},
}
"""What is there only for who asks: its servers, each with the prefix of its settings and its
database."""
_LAKES = {HADOOP, "s3-lake"}
"""Those with a lake, of which a home has one."""
_FOLDERS = ("files",)
"""The kinds of source systems that are a folder. A local one stands for the company's."""

AServer = TypeVar("AServer", bound=Server)

LOCK_SECONDS = 180

_ADDRESSES = ("HOST", "URI", "DIR", "REGION", "ENDPOINT", "MASTER", "BOOTSTRAP_SERVERS")
"""The ends of the settings of which one names a server or folder."""
_KEYS = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "TABLE_PREFIX")
_SETTINGS = (*_ADDRESSES, "PORT", "USER", "PASSWORD", "DATABASE", *_KEYS)
"""The ends of all settings that `env` may set."""


def _is_named(environment: Mapping[str, str | None], prefix: str) -> bool:
    return any(environment.get(f"{prefix}_{end}") for end in _ADDRESSES)


def _set_by_env() -> set[str]:
    """The prefixes that `env` has set in this environment, and nobody has changed since."""
    listed = (entry.partition(":") for entry in os.environ.get(LOCAL_PREFIXES, "").split())
    return {prefix for prefix, _, digest in listed if digest == _digest(os.environ, prefix)}


def _digest(environment: Mapping[str, str], prefix: str) -> str:
    values = [environment.get(f"{prefix}_{end}") for end in _SETTINGS]
    return hashlib.sha256(repr(values).encode()).hexdigest()[:12]


def forget_local(named: Mapping[str, str | None]) -> None:
    """Remove from the environment what `env` has set for servers that these settings name."""
    for prefix in _set_by_env():
        if _is_named(named, prefix):
            for end in _SETTINGS:
                os.environ.pop(f"{prefix}_{end}", None)


class Stack:
    """Servers, lake and Dagster home in one directory. Stacks with different homes share nothing.

    A server has one database for each of the `sources` of its kind. Without such a source it is not
    started. If the environment names a server (`SOFTCART_STAGING_HOST` and so on, see
    `.env.example`), that server is used and no local one is started. `ignore_environment` starts
    local servers all the same.
    """

    def __init__(
        self,
        home: Path,
        *,
        sources: Sequence[Source] = LINES.sources,
        ignore_environment: bool = False,
    ) -> None:
        self.sources = sources
        # Processes are found by this path, so a link must not give it a second name.
        self.home = home.resolve()
        self._ignore_environment = ignore_environment
        self._asked: set[str] = set()

    def up(self, *, metastore: bool = False, extras: Iterable[str] = ()) -> dict[str, str]:
        """Start the servers that do not run, and return the environment (see `env`).

        The first start takes some seconds, later ones one second. If everything runs, it takes next
        to no time. `metastore`: also the Hive metastore, which only queries of people need. It
        takes some seconds more. `extras`: what of `EXTRAS` this home has from now on. Raises
        `StackError`.
        """
        self._make_home()
        with self._lock():
            self._ask_for(set(extras))
            servers = self.servers()
            # Before the start, because the data directories are made with these passwords. After
            # it again, because a server may have changed its port.
            self._save_state(servers)
            for folder in self.folders().values():
                folder.mkdir(parents=True, exist_ok=True)
            *needed, connect, superset, hive = servers
            with ThreadPoolExecutor(max_workers=len(needed)) as pool:
                list(pool.map(lambda server: server.up(), filter(self.local_prefixes, needed)))
            # What they need runs by then.
            for server in filter(self.local_prefixes, (connect, superset)):
                server.up()
            if metastore and self.local_prefixes(hive):
                hive.up()
            self._save_state(servers)
            self._write_dagster_yaml()
            environment = self.env()
            if self._asked & {HADOOP, SPARK}:
                write_spark_settings(self.home, environment)
        return environment

    def _ask_for(self, extras: set[str]) -> None:
        """Note what this home has from now on, too. Raises `StackError`."""
        known = self._state().keys()
        if len(_LAKES & (extras | known)) > 1:
            raise StackError(
                "A home has one lake, in HDFS (hadoop) or on S3 (s3-lake). Set SOFTCART_HOME to "
                "another folder for the other one."
            )
        lake = self.home / "lake"
        if _LAKES & (extras - known) and lake.exists():
            raise StackError(
                f"The lake of this home is in {lake}, and its tables are known to be there. For a "
                "lake elsewhere, set SOFTCART_HOME to another folder."
            )
        self._asked |= extras

    def _make_home(self) -> None:
        """Make the home, for its owner only: it holds the data and the passwords.

        Raises `StackError` if the folder cannot be made, or if others may read a folder that has
        other files. They may need it.
        """
        make_folder(self.home, "SOFTCART_HOME", mode=0o700)
        mode = self.home.stat().st_mode & 0o777
        if not mode & 0o077:
            return
        if not self._has_state() and any(self.home.iterdir()):
            raise StackError(
                f"Others may look into {self.home} (mode {mode:o}), and it has files of something "
                "else. Set SOFTCART_HOME to an empty folder, or run "
                f"`chmod 700 {shlex.quote(str(self.home))}`."
            )
        try:
            self.home.chmod(0o700)
        except PermissionError:
            raise StackError(
                f"Others may look into {self.home} (mode {mode:o}), and it belongs to another "
                "user. Set SOFTCART_HOME to a folder of your own."
            ) from None

    def delete(self) -> None:
        """Stop the servers and delete this home with everything in it.

        Raises `StackError` if the folder is not the home of a stack.
        """
        if not self.home.exists():
            return
        # SOFTCART_HOME may name any folder, by mistake even one with other data.
        if not self._has_state():
            raise StackError(f"{self.home} is not the home of a stack, so it is not deleted.")
        self.down()
        shutil.rmtree(self.home)

    def down(self) -> list[str]:
        """Stop the servers of this home and return the names of those that ran. Data stay."""
        servers = self.servers()
        # Servers run on when somebody removes their home. There is no file to lock then.
        lock = self._lock() if self.home.exists() else nullcontext()
        with lock, ThreadPoolExecutor(max_workers=len(servers)) as pool:
            return [
                server.title
                for server, ran in zip(servers, pool.map(Server.down, servers), strict=True)
                if ran
            ]

    def env(self) -> dict[str, str]:
        """The environment variables for this stack, without those that the user has set.

        Raises `StackError` if the stack was never started.
        """
        if not self._has_state():
            raise StackError(f"There is no stack in {self.home} yet. `softcart up` starts it.")
        prefixes = {
            prefix: server for server in self.servers() for prefix in self.local_prefixes(server)
        }
        env = {
            name: value
            for prefix, server in prefixes.items()
            for name, value in server.environment(prefix).items()
        }
        local = list(prefixes)
        for prefix, folder in self.folders().items():
            env[f"{prefix}_URI"] = folder.as_uri()
            local.append(prefix)
        if HADOOP in self._asked:
            env |= hadoop_environment(self.home)
        if self._asked & {HADOOP, SPARK}:
            env |= spark_environment(self.home)
        if LAKE_PREFIX not in prefixes and self._is_local(LAKE_PREFIX):
            env[LAKE] = local_lake(self.home)
            local.append(LAKE_PREFIX)
        if self._is_local("SOFTCART_EXTRACTS"):
            env["SOFTCART_EXTRACTS_DIR"] = str(self.home / "extracts")
            local.append("SOFTCART_EXTRACTS")
        return env | {
            LOCAL_PREFIXES: " ".join(f"{prefix}:{_digest(env, prefix)}" for prefix in local),
            "SOFTCART_HOME": str(self.home),
            # Always ours: another project's instance must not receive our runs.
            "DAGSTER_HOME": str(self.home / "dagster"),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }

    def folders(self) -> dict[str, Path]:
        """The folders of this home that stand for sources: prefix of the settings → folder."""
        return {
            source.env_prefix: self.home / "files" / source.name
            for source in self.sources
            if source.kind in _FOLDERS and self._is_local(source.env_prefix)
        }

    def pids(self) -> list[int]:
        """The process ids of the running servers of this home."""
        return [process.pid for server in self.servers() if (process := server.process())]

    def servers(self) -> tuple[Server, ...]:
        """Every server of this home, running or not, even if the environment replaces it."""
        state = self._state()
        self._asked |= {name for name in EXTRAS if name in state}

        def server(product: type[AServer], **more: Any) -> AServer:
            known = state.get(product.name) or {
                "port": free_port(product.ports),
                "password": secrets.token_urlsafe(18),
            }
            return product(self.home, **known, databases=self._databases(product), **more)

        # Also those that nothing uses now: one of them may still run from earlier settings.
        postgres, s3, kafka = server(Postgres), server(S3), server(Kafka)
        needed: tuple[Server, ...] = (server(MySQL), postgres, server(Mongo), server(DynamoDB))
        needed += (s3, kafka)
        stores: list[Server] = [s3]
        # Servers run on when somebody removes their home.
        if HADOOP in self._asked or not self.home.exists():
            namenode = server(NameNode)
            datanode = server(DataNode, namenode=namenode)
            resources = server(ResourceManager, namenode=namenode)
            needed += (namenode, datanode, resources)
            needed += (server(NodeManager, datanode=datanode, resources=resources),)
            stores.append(namenode)
        # Last, because jobs run there if both are here.
        if SPARK in self._asked or not self.home.exists():
            master = server(SparkMaster)
            needed += (master, server(SparkWorker, master=master))

        def lake() -> dict[str, str]:
            found = dict(os.environ)
            for store in stores:
                if self.local_prefixes(store):
                    found |= store.environment(LAKE_PREFIX)
            return found

        hive = server(Metastore, postgres=postgres, lake=lake)
        superset = server(Superset, postgres=postgres)
        return *needed, server(Connect, kafka=kafka), superset, hive

    def _databases(self, product: type[Server]) -> dict[str, str]:
        """The databases of this server: prefix of the settings → database."""
        if product is Postgres:
            return WAREHOUSES
        if product is Metastore:
            # It has no libraries for other file systems.
            uri = os.environ.get(LAKE, "file:")
            is_known = uri.startswith(("file:", "hdfs:")) or is_s3(uri)
            return {METASTORE: "metastore"} if is_known else {}
        extras = [EXTRAS[name][product] for name in self._asked if product in EXTRAS[name]]
        return {
            source.env_prefix: source.name
            for source in self.sources
            if PRODUCTS.get(source.kind) is product
        } | dict(sorted(extras))

    @property
    def _state_file(self) -> Path:
        return self.home / "stack.json"

    def _has_state(self) -> bool:
        """Whether this is the home of a stack. Raises `SettingError` if we may not look."""
        try:
            return self._state_file.exists()
        except OSError as error:
            raise SettingError(
                f"Nobody can look into {self.home} (SOFTCART_HOME): {error.strerror}. Set "
                "SOFTCART_HOME to a folder of your own."
            ) from None

    def _state(self) -> dict[str, Any]:
        return dict(json.loads(self._state_file.read_text())) if self._has_state() else {}

    def _save_state(self, servers: Iterable[Server]) -> None:
        """Keep ports and passwords, readable by the owner only.

        One step replaces the file, so it is never half written.
        """
        state: dict[str, Any] = {
            server.name: {"port": server.port, "password": server.password} for server in servers
        }
        state |= dict.fromkeys(self._asked, True)
        new = self._state_file.with_suffix(".new")
        # The mode counts only for a new file, and it must be right before the passwords are in it.
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_text(json.dumps(state, indent=2))
        new.replace(self._state_file)

    def _write_dagster_yaml(self) -> None:
        """Put Dagster's configuration in place, in one step because Dagster may be reading it."""
        target = self.home / "dagster" / "dagster.yaml"
        target.parent.mkdir(exist_ok=True)
        instance = yaml.safe_load(Path(__file__).with_name("dagster.yaml").read_text())
        if tls := Tls.from_env("SOFTCART_DAGSTER"):
            instance["storage"]["custom"]["config"]["postgres_db"]["params"] = tls.libpq()
        new = target.with_suffix(".new")
        new.write_text(yaml.safe_dump(instance, sort_keys=False))
        new.replace(target)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Held while servers start or stop, so that two commands do not do it at the same time."""
        lock = FileLock(self.home / "stack.lock")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise StackError(
                f"Another command has been starting or stopping the servers of {self.home} for "
                f"{LOCK_SECONDS} s. Wait for it or end it."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def local_prefixes(self, server: Server) -> list[str]:
        """The prefixes that this server is used for. The list is empty if the user's servers are
        used for all of them.
        """
        return [prefix for prefix in server.databases if self._is_local(prefix)]

    def _is_local(self, prefix: str) -> bool:
        """Whether this stack provides the server of that prefix, because the user names none."""
        return (
            self._ignore_environment or not _is_named(os.environ, prefix) or prefix in _set_by_env()
        )
