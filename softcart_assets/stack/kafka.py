"""The local Kafka: one process that is broker and controller, and Connect with Debezium.

Both run from the pinned jars of `softcart_assets.jars`. They listen on loopback only and ask for no
password: whoever may use this machine may use them.
"""

from __future__ import annotations

import base64
import json
import random
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from softcart_assets.connections import KAFKA as KAFKA
from softcart_assets.stack.java import JavaServer, libraries
from softcart_assets.stack.server import free_port

if TYPE_CHECKING:
    from softcart_assets.connections import MySQLConnection

CONNECT = "SOFTCART_CONNECT"
"""The prefix of the settings of the local Connect."""
_SECONDS = 10
_LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.stdout.ref=STDOUT
appender.console.type=Console
appender.console.name=STDOUT
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
"""


class _OfKafka(JavaServer):
    """A server out of Kafka's jars."""

    product_name = "Kafka 4.4"
    remedy = "Install Java 17 and Maven."
    port_argument = "-Dsoftcart.port="
    jars: ClassVar[str]
    """The set of jars that it runs from."""

    def _java(self, main: str, *arguments: str) -> list[str]:
        """The command line of a program of Kafka's."""
        logging = self.home / "log4j2.properties"
        logging.write_text(_LOGGING)
        return [
            str(self.product[1]),
            *self.options,
            f"-Dlog4j2.configurationFile={logging.as_uri()}",
            *("-classpath", f"{libraries(self.jars)}/*"),
            main,
            *arguments,
        ]


def _write(file: Path, settings: Mapping[str, object]) -> Path:
    file.write_text("".join(f"{name}={_shown(value)}\n" for name, value in settings.items()))
    return file


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class Kafka(_OfKafka):
    """A broker. It keeps what it has confirmed when it is killed, as long as the machine runs."""

    # Not as what users ask for: both are in one file.
    name = "broker"
    title = "Kafka"
    jars = "kafka"
    address = "BOOTSTRAP_SERVERS"

    def initialise(self, data: Path) -> None:
        """See `Server`."""
        properties = self._properties(data)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One in 64 begins with a hyphen, and would look like an option of its own.
        arguments = ("format", f"--cluster-id={cluster}", "-c", str(properties))
        self.run(self._java("kafka.tools.StorageTool", *arguments), cwd=self.home)

    def command(self) -> list[str]:
        """See `Server`."""
        java, *rest = self._java("kafka.Kafka", str(self._properties(self.data)))
        return [java, self.data_argument, f"{self.port_argument}{self.port}", *rest]

    def prepare(self) -> None:
        """See `Server`. Topics are made by who writes them."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        from softcart_assets.connections import ServerUnreachable

        settings: dict[str, Any] = {"bootstrap.servers": self.servers, "log_level": 0}
        try:
            AdminClient(settings).list_topics(timeout=_SECONDS)
        except KafkaException as error:
            raise ServerUnreachable(str(error.args[0].str())) from None

    @property
    def servers(self) -> str:
        """Where clients find it."""
        return f"127.0.0.1:{self.port}"

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return self.servers

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_BOOTSTRAP_SERVERS": self.servers}

    def _properties(self, data: Path) -> Path:
        # Nobody else asks the controller, so its port may be another one each time.
        controller = f"127.0.0.1:{free_port()}"
        one = dict.fromkeys(
            (
                "offsets.topic.replication.factor",
                "transaction.state.log.replication.factor",
                "transaction.state.log.min.isr",
                "share.coordinator.state.topic.replication.factor",
                "share.coordinator.state.topic.min.isr",
            ),
            1,
        )
        return _write(
            self.home / "server.properties",
            {
                "process.roles": "broker,controller",
                "node.id": 1,
                "controller.quorum.voters": f"1@{controller}",
                "listeners": f"PLAINTEXT://{self.servers},CONTROLLER://{controller}",
                "advertised.listeners": f"PLAINTEXT://{self.servers}",
                "controller.listener.names": "CONTROLLER",
                "inter.broker.listener.name": "PLAINTEXT",
                "log.dirs": data,
                **one,
                "offsets.topic.num.partitions": 4,
                "transaction.state.log.num.partitions": 4,
                # A client that was killed is noticed soon.
                "group.min.session.timeout.ms": 1000,
                "group.initial.rebalance.delay.ms": 0,
                "num.network.threads": 2,
                "num.io.threads": 2,
                "background.threads": 2,
                "log.cleaner.dedupe.buffer.size": 16 << 20,
            },
        )


class Connect(_OfKafka):
    """Kafka Connect with Debezium's connector for MySQL. It also starts the Kafka that it needs.

    What it was told to do is in Kafka, so it goes on after a kill.
    """

    name = "connect"
    title = "Kafka Connect"
    jars = "debezium"
    address = "URI"

    def __init__(
        self,
        home: Path,
        port: int,
        password: str,
        databases: Mapping[str, str],
        *,
        kafka: Kafka,
    ) -> None:
        super().__init__(home, port, password, databases)
        self._kafka = kafka

    def up(self) -> None:
        """See `Server`."""
        self._kafka.up()
        super().up()

    def initialise(self, data: Path) -> None:
        """See `Server`. All that it keeps is in Kafka."""
        data.mkdir()

    def command(self) -> list[str]:
        """See `Server`."""
        topics = {
            f"{name}.storage.topic": f"connect-{name}" for name in ("config", "offset", "status")
        }
        replicas = {
            f"{name}.storage.replication.factor": 1 for name in ("config", "offset", "status")
        }
        properties = _write(
            self.home / "connect.properties",
            {
                "bootstrap.servers": self._kafka.servers,
                "group.id": "softcart-connect",
                "listeners": self.url(CONNECT),
                "plugin.discovery": "service_load",
                # With their schemas, without which nobody can tell a decimal from bytes.
                "key.converter": "org.apache.kafka.connect.json.JsonConverter",
                "value.converter": "org.apache.kafka.connect.json.JsonConverter",
                # Otherwise it sends a column's default instead of NULL.
                "value.converter.replace.null.with.default": False,
                "key.converter.replace.null.with.default": False,
                **topics,
                **replicas,
                "offset.storage.partitions": 1,
                "status.storage.partitions": 1,
                "offset.flush.interval.ms": 1000,
                # There is one worker. After a kill, it need not wait for itself.
                "scheduled.rebalance.max.delay.ms": 0,
                "session.timeout.ms": 3000,
                "heartbeat.interval.ms": 1000,
            },
        )
        java, *rest = self._java("org.apache.kafka.connect.cli.ConnectDistributed", str(properties))
        return [java, self.data_argument, f"{self.port_argument}{self.port}", *rest]

    def prepare(self) -> None:
        """See `Server`."""
        self.ask("connectors")

    def follow(self, name: str, database: MySQLConnection) -> None:
        """Have Debezium follow a database. The topics' names begin with `name.database.`.

        Its settings are those with which every value arrives exactly. Raises `ServerUnreachable`.
        """
        settings = {
            "connector.class": "io.debezium.connector.mysql.MySqlConnector",
            "tasks.max": 1,
            "topic.prefix": name,
            "database.hostname": database.host,
            "database.port": database.port,
            "database.user": database.user,
            "database.password": database.password,
            "database.include.list": database.database,
            # As a replica, whose number nobody else may have.
            "database.server.id": random.randrange(1 << 24, 1 << 31),
            "database.ssl.mode": "preferred",
            "schema.history.internal.kafka.bootstrap.servers": self._kafka.servers,
            "schema.history.internal.kafka.topic": f"{name}.schema-history",
            "decimal.handling.mode": "precise",
            "bigint.unsigned.handling.mode": "precise",
            "time.precision.mode": "adaptive_time_microseconds",
            "include.schema.changes": False,
            "skipped.operations": "none",
            "topic.creation.default.replication.factor": 1,
            "topic.creation.default.partitions": 4,
            "topic.creation.default.cleanup.policy": "delete",
            "poll.interval.ms": 50,
        }
        self.ask(f"connectors/{name}/config", {k: _shown(v) for k, v in settings.items()}, "PUT")

    def ask(self, path: str, body: Any = None, method: str = "GET") -> Any:
        """Ask its API. Raises `ServerUnreachable`, with what it says."""
        from softcart_assets.connections import ServerUnreachable

        request = urllib.request.Request(
            f"{self.url(CONNECT)}/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise ServerUnreachable(f"{self.title}: {error.read().decode()}") from None
        except OSError as error:
            raise ServerUnreachable(f"{self.title} does not answer: {error}") from None
        return json.loads(text) if text else None

    def url(self, prefix: str) -> str:
        """See `Server`."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, prefix: str) -> dict[str, str]:
        """See `Server`."""
        return {f"{prefix}_URI": self.url(prefix)}
