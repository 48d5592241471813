"""Fresh databases, several of them, or copies of a prepared one."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

from softcart_assets import connections
from softcart_assets.connections import MongoConnection, MySQLConnection, PostgresConnection
from softcart_assets.stack import Stack
from softcart_assets.stack.server import USER


def without_fsync(stack: Stack) -> None:
    """Let a stack's PostgreSQL not wait for the disk, so that only a crash of the machine harms it.

    With each database that is dropped, PostgreSQL writes everything that changed to the disk.
    """
    [server] = [each for each in stack.servers() if each.name == "postgres"]
    address = ("127.0.0.1", server.port, USER, server.password, "postgres")
    with PostgresConnection("", *address).connect(autocommit=True) as session:
        for setting in ("fsync", "full_page_writes"):
            session.execute(f"ALTER SYSTEM SET {setting} = off".encode())
        session.execute("SELECT pg_reload_conf()")


def name_server(
    patch: pytest.MonkeyPatch, connection: MySQLConnection | PostgresConnection
) -> None:
    """Set the environment variables of the connection's prefix to this connection."""
    for field, value in asdict(connection).items():
        if field not in ("prefix", "tls"):
            patch.setenv(f"{connection.prefix}_{field.upper()}", str(value))


@contextmanager
def database(template: PostgresConnection | None = None) -> Iterator[PostgresConnection]:
    """A fresh database on the tests' staging server, dropped afterwards.

    It is empty, or a copy of `template`. Copying a database is faster than filling one again.
    """
    server, name = connections.staging(), _fresh_name()
    with server.connect(autocommit=True) as admin:
        copied = template.database if template else "template1"
        # By the log, PostgreSQL's usual way, it takes twice the processor time. Copying files has
        # to write everything that changed to the disk, but nobody waits for that here.
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {copied} STRATEGY file_copy".encode())
    yield replace(server, database=name)
    with server.connect(autocommit=True) as admin:
        # A failed test may leave connections open.
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def mysql_database(server: MySQLConnection) -> Iterator[MySQLConnection]:
    """A fresh, empty database on this server, dropped afterwards."""
    name = _fresh_name()
    with server.connect() as admin:
        admin.query(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield replace(server, database=name)
    with server.connect() as admin:
        admin.query(f"DROP DATABASE {name}")


@contextmanager
def mongo_database(server: MongoConnection) -> Iterator[MongoConnection]:
    """A fresh, empty database on this server, dropped afterwards."""
    connection = replace(server, database=_fresh_name())
    yield connection
    with connection.connect() as client:
        client.drop_database(connection.database)


def _fresh_name() -> str:
    return f"test_{secrets.token_hex(6)}"


def fingerprints(connection: PostgresConnection, relations: Iterable[str]) -> dict[str, tuple]:
    """Table or view, without its schema → the number of its rows, and a checksum of their text."""
    with connection.connect() as session:
        return {
            relation.rpartition(".")[2]: session.execute(
                f"SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {relation} "
                "t".encode()
            ).fetchone()
            or ()
            for relation in relations
        }
