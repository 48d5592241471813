"""Encrypted connections to real servers that demand them, and passwords of any characters.

Managed servers such as RDS and Cloud SQL refuse plain text. A client that falls back to it without
a word would hand rows and passwords to whoever listens.
"""

from __future__ import annotations

import secrets
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pymongo
import pytest
import yaml
from psycopg import sql
from pymongo.uri_parser import parse_uri
from support.certificates import Authority
from support.ingestion import load_all, mysql_rows, raw_rows, run, source_of
from support.mysql97 import RealMySQL, Unavailable

from softcart_assets.connections import (
    MongoConnection,
    MySQLConnection,
    PostgresConnection,
    ServerUnreachable,
    SettingError,
    Tls,
)
from softcart_assets.dbt import DBT, PROJECT_DIR
from softcart_assets.ingestion.connectors.mysql.dump import Dump
from softcart_assets.ingestion.errors import IngestionError
from softcart_assets.lines.model import Source, Table
from softcart_assets.stack import Stack, doctor
from softcart_assets.stack.mysql import MySQL
from softcart_assets.stack.server import USER, Server, free_port

HOST = "127.0.0.1"
SAME_HOST = "127.1"
"""Another way to write that address, which no certificate has."""
PASSWORD = "pä ß'wörd\"€😀%:/@#"


class Files:
    """The certificates of the tests: a server's, ours, and an authority that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        trusted, foreign = Authority(folder, "trusted"), Authority(folder, "foreign")
        self.ca, self.foreign_ca = str(trusted.ca), str(foreign.ca)
        self.server = trusted.issue("server", HOST)
        self.elsewhere = trusted.issue("elsewhere", "db.example.com")
        self.client = trusted.issue("client")
        self.tls = Tls(self.ca)
        self.wrong_ca = Tls(self.foreign_ca)
        self.any_host = Tls(self.ca, verify_host=False)
        self.with_client = Tls(self.ca, *self.client)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


def _demanding(kind: type[MySQL], files: Files) -> type[MySQL]:
    class Demanding(kind):  # type: ignore[misc, valid-type]
        """A server that refuses plain text."""

        def command(self) -> list[str]:
            cert, key = files.server
            options = [f"--ssl-ca={files.ca}", f"--ssl-cert={cert}", f"--ssl-key={key}"]
            return [*super().command(), *options, "--require-secure-transport=ON"]

        def prepare(self) -> None:
            prefix, database = next(iter(self.databases.items()))
            server = MySQLConnection(
                prefix, HOST, self.port, USER, self.password, "", files.with_client
            )
            with server.connect() as session:
                session.query(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4")

    return Demanding


@contextmanager
def running(server: Server) -> Iterator[Server]:
    try:
        server.up()
        yield server
    finally:
        server.down()


@pytest.fixture(scope="module", params=["MariaDB", "MySQL 9.7"])
def demanding(
    request: pytest.FixtureRequest, files: Files, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MySQLConnection]:
    """A MySQL server that refuses plain text, as its owner would name it."""
    if request.param != "MariaDB":
        try:
            RealMySQL(Path(), 0, "", {}).products()
        except Unavailable as reason:
            pytest.skip(str(reason))
    kind = _demanding(MySQL if request.param == "MariaDB" else RealMySQL, files)
    home = tmp_path_factory.mktemp("mysql")
    server = kind(home, free_port(), secrets.token_urlsafe(18), {"SOFTCART_SHOP": "shop"})
    with running(server):
        yield MySQLConnection(
            "SOFTCART_SHOP", HOST, server.port, USER, server.password, "shop", files.tls
        )


def reader(connection: MySQLConnection) -> None:
    connection.connect().close()


def log(connection: MySQLConnection) -> None:
    Dump(connection, 1).close()


EITHER = pytest.mark.parametrize("opened", [reader, log])
"""Two connections: one reads tables, the other one the binary log."""


def refusal(opened: Callable[[Any], None], connection: Any) -> str:
    with pytest.raises((ServerUnreachable, IngestionError)) as refused:
        opened(connection)
    assert getattr(connection, "password", "hush") not in str(refused.value)
    return str(refused.value)


@EITHER
def test_mysql_is_used_if_it_proves_its_name(demanding: MySQLConnection, opened, files) -> None:
    opened(demanding)
    opened(replace(demanding, host=SAME_HOST, tls=files.any_host))
    assert "_TLS_CA" in refusal(opened, replace(demanding, host=SAME_HOST))
    for tls in (files.wrong_ca, replace(files.wrong_ca, verify_host=False)):
        told = refusal(opened, replace(demanding, tls=tls))
        assert "certificate" in told.lower()
        assert "SOFTCART_SHOP_HOST" in told
        assert "_TLS_CA" in told


@EITHER
@pytest.mark.parametrize("verify_host", [True, False])
def test_mysql_without_tls_is_refused_if_a_ca_is_set(
    mysql: MySQLConnection, opened, verify_host: bool, files: Files
) -> None:
    """There is no silent way back to plain text."""
    opened(mysql)
    told = refusal(opened, replace(mysql, tls=replace(files.tls, verify_host=verify_host)))
    assert "SSL" in told or "TLS" in told
    assert "_TLS_CA" in told


def test_a_server_that_demands_tls_says_which_setting_is_missing(
    demanding: MySQLConnection,
) -> None:
    """MySQL says why. MariaDB only denies access."""
    told = refusal(reader, replace(demanding, tls=None))
    assert "require_secure_transport" in told or "Access denied" in told
    assert "if the server demands TLS, _TLS_CA" in told


@EITHER
def test_a_client_certificate_for_mysql(demanding: MySQLConnection, opened, files: Files) -> None:
    run(
        demanding,
        "CREATE USER IF NOT EXISTS certified IDENTIFIED BY 'Q7-hushed' REQUIRE X509",
        "GRANT ALL ON *.* TO certified",
    )
    certified = replace(demanding, user="certified", password="Q7-hushed")
    opened(replace(certified, tls=files.with_client))
    assert "certified" in refusal(opened, replace(certified, database="shop")).replace("'", "")


def test_rows_and_changes_come_encrypted(
    demanding: MySQLConnection, postgres: PostgresConnection, lake: str
) -> None:
    """A snapshot, then the log, with events of more bytes than a TLS record has."""
    source = source_of(Table("facts", "", ("id",), "cdc", ()))
    run(
        demanding,
        "CREATE TABLE facts (id INT PRIMARY KEY, v LONGTEXT)",
        "INSERT INTO facts VALUES (1, REPEAT('ä', 100000)), (2, 'two')",
    )
    load_all(source, demanding, postgres, lake)
    run(
        demanding,
        "UPDATE facts SET v = REPEAT('ö', 9000000) WHERE id = 1",
        "INSERT INTO facts VALUES (3, REPEAT('€', 20000))",
        "DELETE FROM facts WHERE id = 2",
    )
    load_all(source, demanding, postgres, lake)
    assert raw_rows(postgres, "facts") == mysql_rows(demanding, "facts")


@contextmanager
def encrypted(
    port: int, files: Files, certificate: tuple[str, str], *, is_postgres: bool = False
) -> Iterator[int]:
    """A port that speaks TLS in front of a server's port. PostgreSQL's build here has no TLS.

    For PostgreSQL it demands a certificate from the client, and answers the request for TLS that
    comes before.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca)
    context.load_cert_chain(*certificate)
    context.verify_mode = ssl.CERT_REQUIRED if is_postgres else ssl.CERT_NONE

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), closing(source), closing(target):
            while data := source.recv(65536):
                target.sendall(data)

    def serve(plain: socket.socket) -> None:
        # Whoever does not like our certificate hangs up.
        with suppress(OSError):
            if is_postgres:
                plain.recv(8)
                plain.sendall(b"S")
            client = context.wrap_socket(plain, server_side=True)
            server = socket.create_connection((HOST, port))
            threading.Thread(target=pump, args=(server, client), daemon=True).start()
            pump(client, server)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def demanding_postgres(postgres: PostgresConnection, files: Files) -> Iterator[PostgresConnection]:
    """A database behind TLS that wants to see our certificate."""
    with encrypted(postgres.port, files, files.server, is_postgres=True) as port:
        yield replace(postgres, port=port, tls=files.with_client)


def staging_opened(connection: PostgresConnection) -> None:
    connection.connect().close()


def test_postgresql_is_used_if_it_proves_its_name(
    demanding_postgres: PostgresConnection, postgres: PostgresConnection, files: Files
) -> None:
    staging_opened(demanding_postgres)
    with encrypted(postgres.port, files, files.elsewhere, is_postgres=True) as port:
        other = replace(demanding_postgres, port=port)
        staging_opened(replace(other, tls=replace(files.with_client, verify_host=False)))
        assert "does not match host name" in refusal(staging_opened, other)
    for changed in (
        {"tls": files.wrong_ca},
        {"tls": replace(files.wrong_ca, verify_host=False)},
        {"tls": files.tls},  # without our certificate
        {"tls": None},
    ):
        told = refusal(staging_opened, replace(demanding_postgres, **changed))
        assert "SOFTCART_STAGING_HOST" in told
        assert "_TLS_CA" in told
    for tls in (files.tls, files.any_host):
        told = refusal(staging_opened, replace(postgres, tls=tls))
        assert "server does not support SSL" in told


def test_dagster_and_dbt_use_the_same_settings(
    demanding_postgres: PostgresConnection,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SOFTCART_LOCAL_PREFIXES")
    for prefix in ("SOFTCART_STAGING", "SOFTCART_DAGSTER"):
        for name in ("host", "port", "user", "password", "database"):
            monkeypatch.setenv(f"{prefix}_{name.upper()}", str(getattr(demanding_postgres, name)))
        monkeypatch.setenv(f"{prefix}_TLS_CA", files.ca)
        monkeypatch.setenv(f"{prefix}_TLS_CERT", files.client[0])
        monkeypatch.setenv(f"{prefix}_TLS_KEY", files.client[1])
    stack = Stack(tmp_path / "home", sources=())
    stack.up()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))

    def dbt() -> subprocess.CompletedProcess[str]:
        command = [DBT, "debug", "--connection"]
        return subprocess.run(command, cwd=PROJECT_DIR, text=True, capture_output=True)

    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs() == []
    assert dbt().returncode == 0, dbt().stdout
    for name in ("STAGING", "DAGSTER"):
        monkeypatch.setenv(f"SOFTCART_{name}_TLS_CA", files.foreign_ca)
    assert "certificate verify failed" in dbt().stdout
    stack.up()
    written = yaml.safe_load((tmp_path / "home" / "dagster" / "dagster.yaml").read_text())
    assert written["storage"]["custom"]["config"]["postgres_db"]["params"] == {
        "sslmode": "verify-full",
        "sslrootcert": files.foreign_ca,
        "sslcert": files.client[0],
        "sslkey": files.client[1],
    }
    command = [sys.executable, "-c", "import dagster as dg; dg.DagsterInstance.get()"]
    failed = subprocess.run(command, text=True, capture_output=True)
    assert "certificate verify failed" in failed.stderr


def mongo_opened(connection: MongoConnection) -> None:
    connection.connect().close()


def test_mongodb_is_used_if_it_proves_its_name(
    stack: Stack, mongo: MongoConnection, files: Files
) -> None:
    [(_, plain)] = parse_uri(mongo.uri)["nodelist"]
    with encrypted(plain, files, files.server) as port:

        def named(host: str, port: int, options: str) -> MongoConnection:
            uri = mongo.uri.replace(f"{HOST}:{plain}", f"{host}:{port}")
            return replace(mongo, uri=f"{uri}&{options}&serverSelectionTimeoutMS=1500")

        mongo_opened(named(HOST, port, f"tlsCAFile={files.ca}"))
        mongo_opened(named(SAME_HOST, port, f"tlsCAFile={files.ca}&tlsAllowInvalidHostnames=true"))
        for wrong in (
            named(SAME_HOST, port, f"tlsCAFile={files.ca}"),
            named(HOST, port, f"tlsCAFile={files.foreign_ca}"),
            named(HOST, port, "tls=true"),
        ):
            told = refusal(mongo_opened, wrong)
            assert f"{mongo.prefix}_URI" in told
            assert "certificate verify failed" in told
        assert f"{mongo.prefix}_URI" in refusal(
            mongo_opened, named(HOST, plain, f"tlsCAFile={files.ca}&connectTimeoutMS=500")
        )
        assert (
            "no such file"
            in refusal(mongo_opened, named(HOST, port, "tlsCAFile=/nonesuch")).lower()
        )


@EITHER
def test_a_password_of_any_characters_for_mysql(demanding: MySQLConnection, opened) -> None:
    """PyMySQL/PyMySQL#804: a password beyond Latin-1 fails, and one within it is sent wrongly."""
    with closing(demanding.connect()) as session:
        for number, password in enumerate((PASSWORD, "café", "пароль")):
            literal = session.escape(password)
            session.query(f"CREATE USER IF NOT EXISTS u{number} IDENTIFIED BY {literal}")
            session.query(f"GRANT ALL ON *.* TO u{number}")
            opened(replace(demanding, user=f"u{number}", password=password))
            refusal(opened, replace(demanding, user=f"u{number}", password=f"{password}x"))


def test_a_password_of_any_characters_for_postgresql(
    postgres: PostgresConnection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For psycopg, for Dagster's storage and for dbt."""
    with postgres.connect(autocommit=True) as session:
        role = f"r{secrets.token_hex(4)}"
        created = sql.SQL("CREATE ROLE {} LOGIN SUPERUSER PASSWORD {}")
        session.execute(created.format(sql.Identifier(role), sql.Literal(PASSWORD)))
    named = replace(postgres, user=role, password=PASSWORD)
    try:
        staging_opened(named)
        for prefix in ("SOFTCART_STAGING", "SOFTCART_DAGSTER"):
            for name in ("host", "port", "user", "password", "database"):
                monkeypatch.setenv(f"{prefix}_{name.upper()}", str(getattr(named, name)))
        with dg.DagsterInstance.get() as instance:
            assert instance.get_runs() == []
        command = [DBT, "debug", "--connection"]
        done = subprocess.run(command, cwd=PROJECT_DIR, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout
    finally:
        with postgres.connect(autocommit=True) as session:
            session.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


def test_a_password_of_any_characters_for_mongodb() -> None:
    uri = f"mongodb://softcart:{quote(PASSWORD, safe='')}@{HOST}:1/"
    with pymongo.MongoClient(uri, connect=False) as client:
        credentials = client.options.pool_options._credentials
    assert credentials.password == PASSWORD
    connection = MongoConnection("SOFTCART_PAPERS", f"mongodb://softcart:{PASSWORD}@{HOST}/", "d")
    with pytest.raises(SettingError, match=r"SOFTCART_PAPERS_URI.*%40") as refused:
        connection.connect()
    assert "wörd" not in str(refused.value)


def test_the_doctor_tells_what_is_not_protected(
    demanding: MySQLConnection, files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SOFTCART_LOCAL_PREFIXES", raising=False)
    source = Source("t", "mysql", "", (), prefix="SOFTCART_SHOP")
    for name in ("host", "port", "user", "password", "database"):
        monkeypatch.setenv(f"SOFTCART_SHOP_{name.upper()}", str(getattr(demanding, name)))

    def found() -> str:
        return "\n".join(
            f"{each.level} {each.text}"
            for each in doctor.examine(Stack(tmp_path, sources=[source]))
            if "SOFTCART_SHOP" in each.text
        )

    assert "blocks SOFTCART_SHOP: MySQL" in found()
    monkeypatch.setenv("SOFTCART_SHOP_TLS_CA", files.ca)
    assert "ok SOFTCART_SHOP: softcart reaches MySQL" in found()
    assert "others on the way" not in found()
    monkeypatch.setenv("SOFTCART_SHOP_TLS_VERIFY_HOST", "no")
    assert "note SOFTCART_SHOP: whoever has a certificate" in found()
    assert (
        "others on the way to db.example.com"
        in replace(demanding, host="db.example.com", tls=None).exposure
    )  # type: ignore[operator]
    for uri, exposed in {
        "mongodb://127.0.0.1:1,localhost/": False,
        "mongodb://db.example.com/": True,
        "mongodb://db.example.com/?tls=true": False,
        "mongodb://db.example.com/?ssl=true": False,
        f"mongodb://db.example.com/?tlsCAFile={files.ca}": False,
        "mongodb://127.0.0.1,db.example.com/?tlsInsecure=true&tls=true": True,
    }.items():
        assert bool(MongoConnection("X", uri, "d").exposure) is exposed, uri


def test_settings_that_cannot_be_meant_are_refused(
    files: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    for settings, told in (
        ({"CA": "/nonesuch.pem"}, "X_TLS_CA must be the absolute path of a file"),
        ({"CA": "README.md"}, "X_TLS_CA must be the absolute path of a file"),
        ({"CA": str(garbage)}, "X_TLS_CA, X_TLS_CERT, X_TLS_KEY cannot be used"),
        ({"CERT": files.client[0], "KEY": files.client[1]}, "need X_TLS_CA"),
        ({"CA": files.ca, "CERT": files.client[0]}, "need each other"),
        ({"CA": files.ca, "CERT": files.client[0], "KEY": files.server[1]}, "cannot be used"),
        ({"VERIFY_HOST": "no"}, "need X_TLS_CA"),
        ({"CA": files.ca, "VERIFY_HOST": "false"}, "must be yes or no"),
    ):
        with monkeypatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(f"X_TLS_{name}", value)
            with pytest.raises(SettingError, match=told):
                Tls.from_env("X")
    assert Tls.from_env("X") is None
