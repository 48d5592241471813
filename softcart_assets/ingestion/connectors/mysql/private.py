"""Private parts of pymysql that we use because pymysql reads no binary log by itself.

All uses are here. `tests/unit/test_private_interfaces.py` fails if a new version changes one.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

import pymysql

NAMES = ("_execute_command", "_read_ok_packet", "_force_close")
"""The methods of `pymysql.connections.Connection` that are used here, besides its attribute
`_sock`."""


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
