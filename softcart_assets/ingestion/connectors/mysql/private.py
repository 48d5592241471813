"""Private parts of pymysql that we use because it reads no binary log, and rows one by one.

All uses are here. `tests/unit/test_private_interfaces.py` fails if a new version changes one.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pymysql
from pymysql.constants import CR

NAMES = ("_execute_command", "_read_ok_packet", "_force_close")
"""The methods of `pymysql.connections.Connection` that are used here, besides its attributes
`_sock`, `_rfile` and `_result`."""


def send_command(db: pymysql.Connection[Any], command: int, data: bytes) -> None:
    """Send a command of the protocol, such as the one that asks for the binary log."""
    db._execute_command(command, data)  # type: ignore[attr-defined]


def read_ok(db: pymysql.Connection[Any]) -> None:
    """Read the server's OK packet."""
    db._read_ok_packet()  # type: ignore[attr-defined]


def socket_of(db: pymysql.Connection[Any]) -> socket.socket:
    """The socket, for reading large packets without a copy in between."""
    found: socket.socket = db._sock  # type: ignore[attr-defined]
    return found


def hang_up(db: pymysql.Connection[Any]) -> None:
    """Close a connection, even while another thread reads from it."""
    with suppress(Exception):
        # A TLS socket's own `shutdown` also drops its TLS state. The other thread would then
        # take encrypted bytes for the log.
        socket.socket.shutdown(socket_of(db), socket.SHUT_RDWR)
    db._force_close()  # type: ignore[attr-defined]


def take_rows(db: pymysql.Connection[Any]) -> Callable[[memoryview], int]:
    """Take over the rows of a query that was just sent with `db.query(sql, unbuffered=True)`.

    Returns what receives them, for `TextReader`. It raises `pymysql.OperationalError` if the
    connection is lost.
    """
    # Otherwise pymysql would read off what it believes to be unread.
    db._result.unbuffered_active = False  # type: ignore[attr-defined]
    first, connection = db._rfile, socket_of(db)  # type: ignore[attr-defined]

    def receive(buffer: memoryview) -> int:
        nonlocal first
        try:
            if first:
                # With the definitions of the columns, pymysql may have received rows as well.
                received = first.read1(len(buffer))
                buffer[: len(received)] = received
                first, count = None, len(received)
            else:
                count = connection.recv_into(buffer)
        except ValueError:
            reason = "the connection was closed before all rows were read"
        except OSError as error:
            reason = str(error)
        else:
            if count:
                return count
            reason = "the server closed it before all rows were sent"
        hang_up(db)
        raise pymysql.OperationalError(CR.CR_SERVER_LOST, reason)

    return receive
