"""The connections to all servers, and their settings in the environment.

The command line, the tests and the Dagster resources share these classes. They do not use Dagster.
`.env.example` explains the settings. A password never appears in a `repr`. A client library is
imported when a connection is opened, because it takes time and the settings do not need it.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import psycopg
    import pymongo
    import pymysql


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""The names of this machine that no packet leaves."""


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


PAGES_PORT = 3100
"""The usual port of `softcart serve pages`."""
CALL_CENTRE_PORT = 3200
"""The usual port of `softcart serve call-centre`."""


def address_of_page(name: str) -> str:
    """Where people open a page or an extract: below `SOFTCART_PAGES_URL`, or on this machine."""
    return f"{setting('SOFTCART_PAGES_URL', f'http://127.0.0.1:{PAGES_PORT}').rstrip('/')}/{name}"


def make_folder(path: Path, name: str, mode: int = 0o777) -> None:
    """Make the folder that the setting `name` asks for, if it is missing.

    Raises `SettingError` if it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        reason = None if os.access(path, os.W_OK | os.X_OK) else "it may not be written to"
    except OSError as error:
        reason = error.strerror or str(error)
    if reason:
        raise SettingError(
            f"The folder {path} ({name}) cannot be used: {reason}. Set {name} to a folder that "
            "you may write to."
        )


EXTRACTS = "SOFTCART_EXTRACTS_DIR"
"""The setting with the folder for extracts and dashboards."""

METASTORE = "SOFTCART_HIVE_METASTORE"
"""The prefix of the setting with the address of the Hive metastore."""

LOCAL_PREFIXES = "SOFTCART_LOCAL_PREFIXES"
"""The environment variable in which `stack` lists the prefixes that it set itself: `PREFIX:digest`.

In a shell that has evaluated `softcart env`, our own servers would otherwise look like servers that
the user has named. The digest is that of the settings: a server that is named later has another.
"""


def is_local(prefix: str) -> bool:
    """Whether the settings with this prefix are those of a server of the local stack."""
    entries = os.environ.get(LOCAL_PREFIXES, "").split()
    return prefix in (entry.partition(":")[0] for entry in entries)


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
_CONNECT_SECONDS = 10
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


class TablesMissing(RuntimeError):
    """A database is of an older release. The message says what is missing and what to do."""


@dataclass(frozen=True)
class Tls:
    """How a connection is encrypted and the server proves who it is. All files are in PEM format.

    Encryption without proof is not offered: whoever can read the packets can often redirect them.
    `ca`: the certificates of the authorities that are trusted, and no others. `cert`, `key`: the
    certificate with which we prove who we are, or empty. `verify_host`: whether the server's
    certificate must be for the host that we connect to.
    """

    ca: str
    cert: str = ""
    key: str = ""
    verify_host: bool = True

    @classmethod
    def from_env(cls, prefix: str) -> Tls | None:
        """Read `<prefix>_TLS_CA`, `_TLS_CERT`, `_TLS_KEY` and `_TLS_VERIFY_HOST`.

        None without a CA. Raises `SettingError` if the settings or the files are of no use.
        """
        names = [f"{prefix}_TLS_{suffix}" for suffix in ("CA", "CERT", "KEY")]
        ca, cert, key = (setting(name, "") for name in names)
        verify = setting(f"{prefix}_TLS_VERIFY_HOST", "yes")
        if verify not in ("yes", "no"):
            raise SettingError(f"{prefix}_TLS_VERIFY_HOST must be yes or no, not {verify!r}.")
        # A forgotten CA must not turn off what the other settings ask for.
        if bool(cert) != bool(key) or (not ca and (cert or verify == "no")):
            raise SettingError(
                f"{prefix}_TLS_CERT and {prefix}_TLS_KEY need each other. Both of them and "
                f"{prefix}_TLS_VERIFY_HOST need {prefix}_TLS_CA."
            )
        for name, file in zip(names, (ca, cert, key), strict=True):
            # dbt reads the same settings, but works in another folder.
            if file and not (Path(file).is_absolute() and Path(file).is_file()):
                raise SettingError(f"{name} must be the absolute path of a file, not {file!r}.")
        if not ca:
            return None
        found = cls(ca, cert, key, verify == "yes")
        try:
            found.context()
        except OSError as error:
            raise SettingError(
                f"The files of {', '.join(names)} cannot be used: {error}. They must be in PEM "
                "format, and the key without a passphrase."
            ) from None
        return found

    def context(self) -> ssl.SSLContext:
        """The same for Python's own TLS. Raises `OSError` if a file cannot be used."""
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.verify_host
        # Certificates that MySQL has made for itself do not follow the letter of the standard.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if self.cert:
            # Without a password here, a key with a passphrase would wait at the terminal for it.
            context.load_cert_chain(self.cert, self.key, password="")
        return context

    def libpq(self) -> dict[str, Any]:
        """The same as parameters of libpq. With these modes it never falls back to plain text."""
        mode = "verify-full" if self.verify_host else "verify-ca"
        client = {"sslcert": self.cert, "sslkey": self.key} if self.cert else {}
        return {"sslmode": mode, "sslrootcert": self.ca, **client}


@dataclass(frozen=True)
class _SqlConnection:
    """A database of a server with accounts. Error texts name its settings by `prefix`."""

    product: ClassVar[str]
    default_port: ClassVar[str]

    prefix: str
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str
    tls: Tls | None = None

    @classmethod
    def from_env(cls, prefix: str) -> Self:
        """Read `<prefix>_HOST`, `_PORT`, `_USER`, `_PASSWORD`, `_DATABASE` and those of `Tls`."""
        return cls(
            prefix,
            setting(f"{prefix}_HOST"),
            _port(f"{prefix}_PORT", cls.default_port),
            setting(f"{prefix}_USER"),
            setting(f"{prefix}_PASSWORD"),
            setting(f"{prefix}_DATABASE"),
            Tls.from_env(prefix),
        )

    @property
    def exposure(self) -> str | None:
        """What is unsafe about the way to the server, and what to do. None: it is safe."""
        if self.tls and not self.tls.verify_host:
            return (
                f"whoever has a certificate of an authority in {self.prefix}_TLS_CA can pass for "
                f"{self.host}, because of {self.prefix}_TLS_VERIFY_HOST=no."
            )
        if self.tls or self.host in LOOPBACK:
            return None
        return (
            f"others on the way to {self.host} may read rows or pass for it. Set "
            f"{self.prefix}_TLS_CA to the certificates of the authority that vouches for the "
            "server."
        )

    def _unreachable(self, reason: object) -> ServerUnreachable:
        return ServerUnreachable(
            f"{self.product} database {self.database!r} at {self.host}:{self.port} cannot be used "
            f"as {self.user!r}: {reason}. Check {self.prefix}_HOST, _PORT, _USER, _PASSWORD, "
            "_DATABASE and, if the server demands TLS, _TLS_CA."
        )


class MySQLConnection(_SqlConnection):
    """A database of MySQL or MariaDB. Error texts name its settings by `prefix`."""

    product = "MySQL"
    default_port = "3306"

    def connect(
        self, *, answer_seconds: float = _ANSWER_SECONDS, **options: Any
    ) -> pymysql.Connection[Any]:
        """Open a connection: UTF-8 (four bytes), session time zone UTC.

        `answer_seconds`: the longest time that the server may take for an answer. Raises
        `ServerUnreachable`.
        """
        import pymysql

        # MySQL's own `utf8` lacks characters of four bytes. It also converts TIMESTAMP values to
        # the time zone of the session, so the zone must not depend on the server.
        try:
            client = pymysql.connect(
                host=self.host,
                port=self.port,
                user=self.user,
                # As bytes: pymysql would encode a text as Latin-1, and the servers expect UTF-8.
                password=self.password.encode(),
                database=self.database,
                charset="utf8mb4",
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_CONNECT_SECONDS,
                # Also that of the TLS handshake, which follows the first bytes that we write.
                write_timeout=_CONNECT_SECONDS,
                init_command="SET time_zone = '+00:00'",
                # With a context, pymysql refuses a server without TLS.
                ssl=self.tls.context() if self.tls else None,
                ssl_disabled=not self.tls,
                **options,
            )
        # The second comes from names that no host can have, such as db..example.com.
        except (pymysql.MySQLError, UnicodeError) as error:
            raise self._unreachable(error.args[-1]) from None
        # pymysql has no options for these: a server may take longer to answer than to let us in.
        client._read_timeout = client._write_timeout = answer_seconds  # type: ignore[attr-defined]
        _notice_silence(client._sock.fileno())  # type: ignore[attr-defined]
        return client

    def check_tables(self, names: Iterable[str], line: str, source: str) -> None:
        """Raise `TablesMissing` if the database lacks any of these tables.

        `line`, `source`: whose script `seed_data/<line>/<source>.sql` makes them. Raises
        `ServerUnreachable`.
        """
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
            )
            there = {name for (name,) in cursor.fetchall()}
        missing = [name for name in names if name not in there]
        if missing:
            raise TablesMissing(
                f"MySQL database {self.database!r} at {self.host}:{self.port} lacks "
                f"{', '.join(missing)}. Run the CREATE TABLE statements of "
                f"seed_data/{line}/{source}.sql for them. If its rows are made up, run "
                f"`softcart seed {line}` instead, with the --scale and --seed of before, so that "
                "nothing else changes."
            )


class PostgresConnection(_SqlConnection):
    """A database of PostgreSQL. Error texts name its settings by `prefix`."""

    product = "PostgreSQL"
    default_port = "5432"

    def parameters(self) -> dict[str, Any]:
        """What libpq needs to connect, for a pool of connections. The time zone is UTC.

        If either side falls silent, the other one gives the connection up after a minute.
        """
        probes = _probes()
        # The same for the server. Otherwise a session that we have lost would keep its locks for
        # hours, and we would wait for ourselves. But no limit for what we take in: we may read
        # slowly, if we write to a slow server.
        settings = {"timezone": "UTC"} | {f"tcp_keepalives_{k}": v for k, v in probes.items()}
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "connect_timeout": 10,
            "keepalives_idle": probes["idle"],
            "keepalives_interval": probes["interval"],
            "keepalives_count": probes["count"],
            "tcp_user_timeout": _SILENT_SECONDS * 1000,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            **(self.tls.libpq() if self.tls else {}),
        }

    def connect(self, **options: Any) -> psycopg.Connection:
        """Open a connection, see `parameters`. Raises `ServerUnreachable`."""
        import psycopg

        try:
            return psycopg.connect(**(self.parameters() | options))
        # psycopg looks names up itself, so there is the second one, too.
        except (psycopg.OperationalError, UnicodeError) as error:
            # libpq's message has several lines. This makes one of them.
            raise self._unreachable(" ".join(str(error).split())) from None


@dataclass(frozen=True)
class Db2Connection(_SqlConnection):
    """A schema of a Db2 database. Error texts name its settings by `prefix`."""

    product = "Db2"
    default_port = "50000"

    schema: str = "PRODUCTION"

    @classmethod
    def from_env(cls, prefix: str) -> Self:
        """Read `<prefix>_SCHEMA`, too. Raises `SettingError`."""
        found = replace(super().from_env(prefix), schema=setting(f"{prefix}_SCHEMA", "PRODUCTION"))
        for name in ("host", "user", "password", "database", "schema"):
            # The driver's text of settings has no way to write it.
            if ";" in getattr(found, name):
                raise SettingError(f"{prefix}_{name.upper()} must not contain a semicolon.")
        if found.tls and found.tls.cert:
            raise SettingError(
                f"SoftCart shows Db2 no certificate of its own. Leave out {prefix}_TLS_CERT and "
                f"{prefix}_TLS_KEY."
            )
        return found

    def parameters(self) -> str:
        """What IBM's driver needs to connect."""
        tls = self.tls
        parts = {
            "DATABASE": self.database,
            "HOSTNAME": self.host,
            "PORT": str(self.port),
            "PROTOCOL": "TCPIP",
            "UID": self.user,
            "PWD": self.password,
            "CURRENTSCHEMA": self.schema.upper(),
            "CONNECTTIMEOUT": str(_CONNECT_SECONDS),
        }
        if tls:
            check = "Basic" if tls.verify_host else "OFF"
            parts |= {"SECURITY": "SSL", "SSLSERVERCERTIFICATE": tls.ca}
            parts |= {"SSLCLIENTHOSTNAMEVALIDATION": check}
        return "".join(f"{name}={value};" for name, value in parts.items())

    def unreachable(self, error: Exception) -> ServerUnreachable:
        """The error for a connection that the driver could not open."""
        return self._unreachable(" ".join(str(error).split()))


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

    @property
    def exposure(self) -> str | None:
        """What is unsafe about the way to the server, and what to do. None: it is safe."""
        from pymongo.uri_parser import parse_uri

        address = parse_uri(self.uri)
        options, hosts = address["options"], [host for host, _ in address["nodelist"]]
        # Each of these asks for TLS, and the last three of them do away with the proof.
        trusting = ("tlsInsecure", "tlsAllowInvalidCertificates", "tlsAllowInvalidHostnames")
        asked = any(options.get(name) for name in ("tls", "tlsCAFile", "tlsCertificateKeyFile"))
        if set(hosts) <= {*LOOPBACK} or (asked and not any(map(options.get, trusting))):
            return None
        return (
            f"others on the way to {', '.join(hosts)} may read rows or pass for it. Add "
            f"tls=true&tlsCAFile=… to {self.prefix}_URI, and none of {', '.join(trusting)}."
        )

    def connect(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Open a client and check that the server answers. Times are in UTC.

        Raises `ServerUnreachable`.
        """
        import pymongo

        # The second is shorter, so that the error tells what was waited for: a server without TLS
        # may keep silent.
        patience: dict[str, Any] = {"serverSelectionTimeoutMS": 10_000, "connectTimeoutMS": 5_000}
        # The client would prefer ours to those of the URI. Parsing the whole URI would look up the
        # servers' names once more.
        own = {name.lower() for name, _ in parse_qsl(self.uri.partition("?")[2])}
        try:
            with ExitStack() as failed:
                client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
                    self.uri,
                    tz_aware=True,
                    **{name: value for name, value in patience.items() if name.lower() not in own},
                )
                # Its threads would look for the server for as long as the process runs.
                failed.callback(client.close)
                # The client connects at its first command only. Without one, a wrong address would
                # show up as an error in the middle of the work.
                client.admin.command("ping")
                failed.pop_all()
                return client
        except pymongo.errors.InvalidURI:
            # Its text may show a part of the password.
            raise SettingError(
                f"{self.prefix}_URI is not a MongoDB URI. In user and password, write characters "
                "such as @ : / % with a percent sign and their number (%40 for @)."
            ) from None
        except pymongo.errors.ConnectionFailure as error:
            # The first of many lines: the rest describes every server of the replica set.
            reason = str(error).partition(", Timeout:")[0]
            raise ServerUnreachable(
                f"MongoDB database {self.database!r} cannot be used: {reason}. "
                f"Check {self.prefix}_URI and {self.prefix}_DATABASE."
            ) from None
        except (pymongo.errors.PyMongoError, OSError) as error:
            text = f" ({error})" if isinstance(error, OSError) else ""
            raise ServerUnreachable(
                f"MongoDB database {self.database!r} cannot be used: {type(error).__name__}{text}. "
                f"Check {self.prefix}_URI and {self.prefix}_DATABASE."
            ) from None


@dataclass(frozen=True)
class DynamoConnection:
    """The tables of DynamoDB in one region. Error texts name its settings by `prefix`.

    `endpoint` empty: Amazon's own service. `access_key` empty: boto3 looks for credentials itself
    (environment, shared files, the machine's role). `rcu_per_second`: read capacity units that a
    load may use in a second, 0: any number. `read_units`, `write_units`: the capacity of new
    tables, 0 for both: on demand.
    """

    prefix: str
    region: str
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    table_prefix: str = ""
    is_consistent: str = "no"
    rcu_per_second: str = "0"
    read_units: str = "0"
    write_units: str = "0"

    @classmethod
    def from_env(cls, prefix: str) -> DynamoConnection:
        """Read `<prefix>_REGION` and the other settings. Raises `SettingError`."""
        found = cls(
            prefix,
            setting(f"{prefix}_REGION"),
            setting(f"{prefix}_ENDPOINT", ""),
            setting(f"{prefix}_ACCESS_KEY_ID", ""),
            setting(f"{prefix}_SECRET_ACCESS_KEY", ""),
            setting(f"{prefix}_TABLE_PREFIX", ""),
            setting(f"{prefix}_CONSISTENT_READS", "no"),
            setting(f"{prefix}_RCU_PER_SECOND", "0"),
            setting(f"{prefix}_READ_UNITS", "0"),
            setting(f"{prefix}_WRITE_UNITS", "0"),
        )
        if found.is_consistent not in ("yes", "no"):
            raise SettingError(
                f"{prefix}_CONSISTENT_READS must be yes or no, not {found.is_consistent!r}."
            )
        for name in ("RCU_PER_SECOND", "READ_UNITS", "WRITE_UNITS"):
            value: str = getattr(found, name.lower())
            if not value.isdecimal():
                raise SettingError(f"{prefix}_{name} must be a whole number, not {value!r}.")
        return found

    @property
    def exposure(self) -> str | None:
        """What is unsafe about the way to the server, and what to do. None: it is safe."""
        address = urlsplit(self.endpoint)
        if address.scheme != "http" or address.hostname in LOOPBACK:
            return None
        return (
            f"others on the way to {address.hostname} may read rows or pass for it. Set "
            f"{self.prefix}_ENDPOINT to an address with https."
        )

    def client(self, service: str = "dynamodb", *, answer_seconds: float | None = None) -> Any:
        """Return a client of `dynamodb` or `dynamodbstreams`. Threads may share it.

        `answer_seconds`: somebody waits, so an attempt takes no longer, and there are two. Without
        it, it is as patient as a load.

        Raises `SettingError` if the settings cannot be used. Nothing is sent yet.
        """
        import boto3
        from botocore.config import Config

        keys = {}
        if self.access_key:
            keys = {
                "aws_access_key_id": self.access_key,
                "aws_secret_access_key": self.secret_key,
            }
        try:
            # A session of its own: the usual one is shared by all threads and must not be.
            return boto3.session.Session(**keys).client(
                service,
                region_name=self.region,
                endpoint_url=self.endpoint or None,
                config=Config(
                    connect_timeout=answer_seconds or _CONNECT_SECONDS,
                    read_timeout=answer_seconds or _SILENT_SECONDS,
                    tcp_keepalive=True,
                    max_pool_connections=32,
                    # Throttled requests are repeated, by loads ever more slowly.
                    retries={"mode": "standard", "total_max_attempts": 2}
                    if answer_seconds
                    else {"mode": "adaptive", "max_attempts": 8},
                ),
            )
        except ValueError as error:
            raise SettingError(
                f"The settings {self.prefix}_… of DynamoDB cannot be used: {error}"
            ) from None


@dataclass(frozen=True)
class KafkaConnection:
    """The topics of a Kafka whose names begin with `topic_prefix`. Error texts name its settings by
    `prefix`.

    `servers`: some of the brokers, as `host:port`, separated by commas. `user` empty: no login.
    """

    prefix: str
    servers: str
    topic_prefix: str
    user: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = "SCRAM-SHA-512"
    tls: Tls | None = None

    @classmethod
    def from_env(cls, prefix: str, topic_prefix: str | None = None) -> KafkaConnection:
        """Read `<prefix>_BOOTSTRAP_SERVERS` and the other settings. Raises `SettingError`.

        `topic_prefix`: that of the topics if the settings name none.
        """
        return cls(
            prefix,
            setting(f"{prefix}_BOOTSTRAP_SERVERS"),
            setting(f"{prefix}_TOPIC_PREFIX", topic_prefix),
            setting(f"{prefix}_USER", ""),
            setting(f"{prefix}_PASSWORD", ""),
            setting(f"{prefix}_SASL_MECHANISM", "SCRAM-SHA-512"),
            Tls.from_env(prefix),
        )

    @property
    def exposure(self) -> str | None:
        """What is unsafe about the way to the server, and what to do. None: it is safe."""
        hosts = {each.strip().rpartition(":")[0] for each in self.servers.split(",")}
        if self.tls or not (far := sorted(hosts - {*LOOPBACK, "[::1]"})):
            return None
        return (
            f"others on the way to {', '.join(far)} may read rows or pass for it. Set "
            f"{self.prefix}_TLS_CA."
        )

    def settings(self) -> dict[str, Any]:
        """Return the settings of a client, in the names of its library."""
        found: dict[str, Any] = {
            "bootstrap.servers": self.servers,
            # It would write to our standard error.
            "log_level": 0,
            "error_cb": lambda error: None,
            # Brokers may ask clients for figures about themselves.
            "enable.metrics.push": False,
            "socket.timeout.ms": _SILENT_SECONDS * 1000,
            "socket.connection.setup.timeout.ms": _CONNECT_SECONDS * 1000,
        }
        if self.tls:
            found["ssl.ca.location"] = self.tls.ca
            if self.tls.cert:
                found["ssl.certificate.location"] = self.tls.cert
                found["ssl.key.location"] = self.tls.key
            if not self.tls.verify_host:
                found["ssl.endpoint.identification.algorithm"] = "none"
        if self.user:
            found["sasl.mechanism"] = self.mechanism
            found["sasl.username"] = self.user
            found["sasl.password"] = self.password
        transport = "SSL" if self.tls else "PLAINTEXT"
        found["security.protocol"] = f"SASL_{transport}" if self.user else transport
        return found


KAFKA = "SOFTCART_KAFKA"
"""The prefix of the settings of the Kafka that a stream writes to."""


def kafka() -> KafkaConnection:
    """The Kafka that a stream writes to. The local one, if the stack has it."""
    return KafkaConnection.from_env(KAFKA, "softcart.")


def kafka_partitions() -> int:
    """The number of partitions of a new topic, -1 for as many as the broker says.

    Raises `SettingError`.
    """
    text = setting(f"{KAFKA}_PARTITIONS", "-1")
    if text != "-1" and not (text.isdecimal() and int(text)):
        raise SettingError(f"{KAFKA}_PARTITIONS must be a number from 1 on, not {text!r}.")
    return int(text)


def staging() -> PostgresConnection:
    """The staging warehouse."""
    return PostgresConnection.from_env("SOFTCART_STAGING")


def production() -> PostgresConnection:
    """The production warehouse."""
    return PostgresConnection.from_env("SOFTCART_PRODUCTION")


PRODUCTION_MYSQL = "SOFTCART_PRODUCTION_MYSQL"
"""The prefix of the settings of a MySQL server that gets what production holds."""
PRODUCTION_MYSQL_LINES = "SOFTCART_PRODUCTION_MYSQL_LINES"
"""The setting with the lines of business whose tables it gets. Empty: all of them."""
PRODUCTION_MYSQL_READER = "SOFTCART_PRODUCTION_MYSQL_READER"
"""The setting with the role that may read there what is not personal."""
PRODUCTION_DB2 = "SOFTCART_PRODUCTION_DB2"
"""The prefix of the same settings of a Db2 server."""
PRODUCTION_DB2_LINES = "SOFTCART_PRODUCTION_DB2_LINES"
PRODUCTION_DB2_READER = "SOFTCART_PRODUCTION_DB2_READER"
PRODUCTION_DB2_SCHEMA = "SOFTCART_PRODUCTION_DB2_SCHEMA"
"""Those of its settings that not every server has."""


def has_production_mysql() -> bool:
    """Whether published tables go into MySQL, too."""
    return bool(setting(f"{PRODUCTION_MYSQL}_HOST", ""))
