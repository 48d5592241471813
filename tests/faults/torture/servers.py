"""Private servers of a torture, and everything that harms them: kills, and connections that are
cut, stalled or silent.

What is written to them, and what must be true afterwards, is not known here.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pymysql

from softcart_assets.connections import (
    METASTORE,
    MongoConnection,
    MySQLConnection,
    PostgresConnection,
    ServerUnreachable,
)
from softcart_assets.stack.metastore import Metastore
from softcart_assets.stack.mongo import Mongo
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.postgres import WAREHOUSES, Postgres
from softcart_assets.stack.server import Server, alive_after, free_port, port_is_free
from tests.support.mysql97 import RealMySQL
from tests.support.network import ask_often, drop_all, let_pass

SOURCE = "SOFTCART_TORTURE"
"""The prefix of the source's settings."""
DOCUMENTS = "SOFTCART_TORTURE_DOCUMENTS"
"""The prefix of the settings of the source with documents."""
READER = "torture_reader"
"""The reader's own account at the source, with just the privileges that `.env.example` asks for."""
GRANTS = (
    f"CREATE USER IF NOT EXISTS {READER}@'%' IDENTIFIED BY '{READER}'",
    f"GRANT SELECT, LOCK TABLES, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO {READER}@'%'",
)


class Proxy:
    """A TCP proxy on a loopback port whose connections can be cut off, at once or after some
    bytes, stalled, or silent.

    `target` gives the port to forward to, asked anew for each connection.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._clients: set[socket.socket] = set()
        self._left: int | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, after: int = 0) -> None:
        """Reset every connection: now, or as soon as the server has sent so many more bytes."""
        with self._lock:
            self._left = after or None
            victims = [] if after else list(self._open)
        for victim in victims:
            _reset(victim)

    def stall(self) -> None:
        """Keep the connections, let nothing through."""
        self._flowing.clear()

    def drop(self) -> None:
        """Drop all packets of the clients, those of new connections, too, and let nothing through
        to them.
        """
        self.stall()
        with self._lock:
            for each in (self._listener, *self._clients):
                drop_all(each)

    def flow(self) -> None:
        """End what `stall` or `drop` began, and forget a cut that was still to come."""
        with self._lock:
            for each in (self._listener, *self._clients):
                let_pass(each)
            self._left = None
        self._flowing.set()

    def close(self) -> None:
        """Cut off everything and listen no longer."""
        self.flow()
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target()), timeout=5)
                server.settimeout(None)
            except OSError:
                _reset(client)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ask_often(client)
            with self._lock:
                self._open |= {client, server}
                self._clients.add(client)
            for ends in ((client, server), (server, client)):
                threading.Thread(
                    target=self._forward, args=(*ends, ends[0] is server), daemon=True
                ).start()

    def _forward(self, source: socket.socket, target: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._flowing.wait()
                if is_answer and self._left is not None:
                    with self._lock:
                        end, self._left = self._left, self._left and self._left - len(data)
                    if end is not None and end <= len(data):
                        target.sendall(data[:end])
                        self.cut()
                        break
                target.sendall(data)
        with self._lock:
            self._open -= {source, target}
            self._clients -= {source, target}
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


class MariaDB(MySQL):
    """MariaDB, even where there is a MySQL as well."""

    def products(self) -> dict[str, Path]:
        """See `Server`."""
        return {name: program for name, program in super().products().items() if name == "MariaDB"}


class Servers:
    """A source and a target of their own under `home`, each also reachable through a proxy, as the
    reader reaches it.
    """

    def __init__(self, home: Path, *, is_mysql: bool = False) -> None:
        self.source: Server = (RealMySQL if is_mysql else MariaDB)(
            home, free_port(), "source", {SOURCE: "torture"}
        )
        self.target = Postgres(home, free_port(), "target", WAREHOUSES)
        self.documents = Mongo(home, free_port(), "documents", {DOCUMENTS: "torture"})
        self.metastore = Metastore(
            home,
            free_port(),
            "metastore",
            {METASTORE: "metastore"},
            postgres=self.target,
            lake=dict,
        )
        self.to_source = Proxy(lambda: self.source.port)
        self.to_target = Proxy(lambda: self.target.port)
        self.to_documents = Proxy(lambda: self.documents.port)

    def up(self) -> None:
        """Start what does not run. The servers of documents and of Hive start when a round needs
        them.
        """
        self.source.up()
        self.target.up()

    def down(self) -> None:
        """Stop all of them and the proxies."""
        for proxy in (self.to_source, self.to_target, self.to_documents):
            proxy.close()
        for server in (self.metastore, self.source, self.target, self.documents):
            server.down()

    def kill(self, server: Server) -> None:
        """End a server by SIGKILL."""
        if process := server.process():
            process.kill()
            alive_after([process], 30)
            # `up` takes another port while this one is still bound. MariaDB's `server_uid` depends
            # on the port, so that a mere restart would be a fail-over to another server.
            end = time.monotonic() + 30
            while not port_is_free(server.port) and time.monotonic() < end:
                time.sleep(0.02)

    def mysql(self, database: str) -> MySQLConnection:
        """The source, reached directly by its owner."""
        settings = self.source.environment(SOURCE)
        return MySQLConnection(
            SOURCE,
            "127.0.0.1",
            self.source.port,
            settings[f"{SOURCE}_USER"],
            settings[f"{SOURCE}_PASSWORD"],
            database,
        )

    def mysql_of_reader(self, database: str) -> MySQLConnection:
        """The source as the reader reaches it."""
        return replace(self.mysql(database), port=self.to_source.port, user=READER, password=READER)

    def mongo(self, database: str) -> MongoConnection:
        """The source with documents, reached directly."""
        return MongoConnection(
            DOCUMENTS, self.documents.environment(DOCUMENTS)[f"{DOCUMENTS}_URI"], database
        )

    def mongo_of_reader(self, database: str) -> MongoConnection:
        """The source with documents as the reader reaches it."""
        direct = self.mongo(database)
        near = direct.uri.replace(f":{self.documents.port}/", f":{self.to_documents.port}/")
        # The client watches the server by itself. So it does that every second.
        return replace(direct, uri=f"{near}&heartbeatFrequencyMS=1000")

    def postgres(self, database: str) -> PostgresConnection:
        """The target, reached directly."""
        settings = self.target.environment("SOFTCART_STAGING")
        return PostgresConnection(
            "SOFTCART_STAGING",
            "127.0.0.1",
            self.target.port,
            settings["SOFTCART_STAGING_USER"],
            settings["SOFTCART_STAGING_PASSWORD"],
            database,
        )

    def postgres_of_reader(self, database: str) -> PostgresConnection:
        """The target as the reader reaches it."""
        return replace(self.postgres(database), port=self.to_target.port)

    def kill_connections_at_source(self) -> int:
        """`KILL` every connection of the reader; how many."""
        killed = 0
        with (
            suppress(ServerUnreachable, pymysql.MySQLError),
            self.mysql("").connect() as connection,
        ):
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT id FROM information_schema.processlist WHERE user = %s", (READER,)
                )
                for (thread,) in cursor.fetchall():
                    with suppress(pymysql.MySQLError):
                        cursor.execute(f"KILL {thread}")
                        killed += 1
        return killed

    def kill_connections_at_target(self, database: str) -> int:
        """Terminate every session of the reader; how many."""
        with (
            suppress(ServerUnreachable, psycopg.Error),
            self.postgres("postgres").connect(autocommit=True) as session,
        ):
            row = session.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = %s AND application_name LIKE 'softcart%%'",
                (database,),
            ).fetchone()
            return row[0] if row else 0
        return 0
