"""What we use of libraries although it is private: a new version that changes it fails here, by name."""

from __future__ import annotations

import inspect
import struct

import MySQLdb
import pymysql

from softcart_assets.ingestion.connectors.mysql import private


def test_pymysql_still_has_the_private_methods_that_read_a_binary_log() -> None:
    parameters = {
        name: list(inspect.signature(getattr(pymysql.connections.Connection, name)).parameters)
        for name in private.NAMES
    }
    assert parameters == {
        "_execute_command": ["self", "command", "sql"],
        "_read_ok_packet": ["self"],
        "_force_close": ["self"],
    }


def test_pymysql_still_keeps_its_socket_in_the_private_attribute_sock() -> None:
    connection = pymysql.connections.Connection(host="", defer_connect=True)
    assert connection._sock is None  # type: ignore[attr-defined]
    assert "self._sock = " in inspect.getsource(pymysql.connections.Connection.connect)


def test_mysqlclient_still_begins_its_connections_with_the_client_librarys_structure() -> None:
    """`codec/textrows.pyx` finds that structure right behind Python's own header of an object."""
    header = object.__basicsize__
    word = struct.calcsize("P")
    # MYSQL is by far the largest part: what mysqlclient adds of its own is some words behind it.
    assert MySQLdb._mysql.connection.__basicsize__ > header + 100 * word
    assert MySQLdb._mysql.connection.__mro__[1] is object
