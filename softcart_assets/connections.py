"""The connections to all servers, and their settings in the environment.

The command line, the tests and the Dagster resources share these classes. They do not use Dagster.
`.env.example` explains the settings. A password never appears in a `repr`. A client library is
imported when a connection is opened, because it takes time and the settings do not need it.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    import pymongo
    from MySQLdb.connections import Connection as MySQLClient


class SettingError(RuntimeError):
    """An environment variable is missing or cannot be used. The message names it."""


def setting(name: str, default: str | None = None) -> str:
    """The value of an environment variable. Raises `SettingError` without a value or default."""
    value = os.environ.get(name) or default
    if value is None:
        raise SettingError(
            f"{name} is not set. Set it in .env, which `.env.example` explains. Or run `softcart "
            "up`, which starts a local server and sets it."
        )
    return value


def _port(name: str, default: str) -> int:
    text = setting(name, default)
    if not text.isdigit():
        raise SettingError(f"{name} must be a port number, not {text!r}.")
    return int(text)


_SILENT_SECONDS = 60
"""A server that confirms nothing for so long counts as lost.

Without this, whoever waits for an answer that a silent network has swallowed waits for hours. A
server that takes nothing in for so long counts as lost, too.
"""
_ANSWER_SECONDS = 900
"""The longest time that MySQL may take for an answer. Some questions read a whole table."""


def _probes() -> dict[str, int]:
    """When the system asks an idle peer for a sign of life: idle seconds, interval, count."""
    return {"idle": _SILENT_SECONDS // 2, "interval": max(_SILENT_SECONDS // 6, 1), "count": 3}


def _notice_silence(descriptor: int) -> None:
    """Have the system break a connection whose peer is silent, even while it is waited for."""
    # A second descriptor of the same connection: closing it leaves the connection open.
    with socket.socket(fileno=os.dup(descriptor)) as connection:
        if connection.family == socket.AF_UNIX:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        probes = _probes()
        # Keepalives see a silent peer only if it owes us no confirmation. The last option sees the
        # rest.
        for option, value in {
            "TCP_KEEPIDLE": probes["idle"],
            "TCP_KEEPINTVL": probes["interval"],
            "TCP_KEEPCNT": probes["count"],
            "TCP_USER_TIMEOUT": _SILENT_SECONDS * 1000,
        }.items():
            if number := getattr(socket, option, None):  # not every system has all of them
                connection.setsockopt(socket.IPPROTO_TCP, number, value)


class ServerUnreachable(RuntimeError):
    """A server does not answer or refuses us. The message names the settings to look at."""


@dataclass(frozen=True)
class MySQLConnection:
    """A database of MySQL or MariaDB. Error texts name its settings by `prefix`."""

    prefix: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    @classmethod
    def from_env(cls, prefix: str) -> MySQLConnection:
        """Read `<prefix>_HOST`, `_PORT`, `_USER`, `_PASSWORD` and `_DATABASE`."""
        return cls(
            prefix,
            setting(f"{prefix}_HOST"),
            _port(f"{prefix}_PORT", "3306"),
            setting(f"{prefix}_USER"),
            setting(f"{prefix}_PASSWORD"),
            setting(f"{prefix}_DATABASE"),
        )

    def connect(self, **options: Any) -> MySQLClient:
        """Open a connection: UTF-8 (four bytes), session time zone UTC.

        Raises `ServerUnreachable`.
        """
        import MySQLdb

        # MySQL's own `utf8` lacks characters of four bytes. It also converts TIMESTAMP values to
        # the time zone of the session, so the zone must not depend on the server.
        try:
            connection = MySQLdb.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                passwd=self.password,
                db=self.database,
                charset="utf8mb4",
                connect_timeout=10,
                read_timeout=_ANSWER_SECONDS,
                write_timeout=_ANSWER_SECONDS,
                init_command="SET time_zone = '+00:00'",
                **options,
            )
            _notice_silence(connection.fileno())
            return connection
        except MySQLdb.OperationalError as error:
            raise ServerUnreachable(
                f"MySQL database {self.database!r} at {self.host}:{self.port} cannot be used as "
                f"{self.user!r}: "
                f"{error.args[-1]}. Check {self.prefix}_HOST, _PORT, _USER, _PASSWORD and "
                "_DATABASE."
            ) from None


@dataclass(frozen=True)
class PostgresConnection:
    """A database of PostgreSQL. Error texts name its settings by `prefix`."""

    prefix: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str

    @classmethod
    def from_env(cls, prefix: str) -> PostgresConnection:
        """Read `<prefix>_HOST`, `_PORT`, `_USER`, `_PASSWORD` and `_DATABASE`."""
        return cls(
            prefix,
            setting(f"{prefix}_HOST"),
            _port(f"{prefix}_PORT", "5432"),
            setting(f"{prefix}_USER"),
            setting(f"{prefix}_PASSWORD"),
            setting(f"{prefix}_DATABASE"),
        )

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a connection with time zone UTC. Raises `ServerUnreachable`.

        If either side falls silent, the other one gives the connection up after a minute.
        """
        import psycopg

        probes = _probes()
        # The same for the server. Otherwise a session that we have lost would keep its locks for
        # hours, and we would wait for ourselves. But no limit for what we take in: we may read
        # slowly, if we write to a slow server.
        settings = {"timezone": "UTC"} | {f"tcp_keepalives_{k}": v for k, v in probes.items()}
        try:
            return psycopg.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                password=self.password,
                dbname=self.database,
                connect_timeout=10,
                keepalives_idle=probes["idle"],
                keepalives_interval=probes["interval"],
                keepalives_count=probes["count"],
                tcp_user_timeout=_SILENT_SECONDS * 1000,
                options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
                **options,
            )
        except psycopg.OperationalError as error:
            # libpq's message has several lines. This makes one of them.
            raise ServerUnreachable(
                f"PostgreSQL database {self.database!r} at {self.host}:{self.port} cannot be used "
                f"as {self.user!r}: "
                f"{' '.join(str(error).split())}. "
                f"Check {self.prefix}_HOST, _PORT, _USER, _PASSWORD and _DATABASE."
            ) from None


@dataclass(frozen=True)
class MongoConnection:
    """A database of MongoDB. Error texts name its settings by `prefix`."""

    prefix: str
    uri: str = field(repr=False)
    database: str

    @classmethod
    def from_env(cls, prefix: str) -> MongoConnection:
        """Read `<prefix>_URI` and `<prefix>_DATABASE`."""
        return cls(prefix, setting(f"{prefix}_URI"), setting(f"{prefix}_DATABASE"))

    def connect(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Open a client and check that the server answers. Times are in UTC.

        Raises `ServerUnreachable`.
        """
        import pymongo

        try:
            client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
                self.uri, tz_aware=True, serverSelectionTimeoutMS=10_000
            )
            # The client connects at its first command only. Without one, a wrong address would
            # show up as an error in the middle of the work.
            client.admin.command("ping")
        except pymongo.errors.PyMongoError as error:
            raise ServerUnreachable(
                f"MongoDB database {self.database!r} cannot be used: {type(error).__name__}. "
                f"Check {self.prefix}_URI and {self.prefix}_DATABASE."
            ) from None
        return client


def staging() -> PostgresConnection:
    """The staging warehouse."""
    return PostgresConnection.from_env("SOFTCART_STAGING")


def production() -> PostgresConnection:
    """The production warehouse."""
    return PostgresConnection.from_env("SOFTCART_PRODUCTION")


def lake_uri() -> str:
    """The lake's root: `file:///…`, `hdfs://…` or `s3a://…`."""
    return setting("SOFTCART_LAKE_URI").rstrip("/")
