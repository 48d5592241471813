"""A stand-in for a MySQL server, which says what no real one can be made to say.

It knows the protocol well enough for a client to log in.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from softcart_assets.connections import MySQLConnection, Tls

OK = b"\0\0\0\2\0\0\0"
END = b"\xfe\0\0\2\0"
_CAPABILITIES = 0x0008_8208
"""A database in the login, the new protocol, safe passwords, login methods."""
_TLS = 0x0800


class Client:
    """The server's side of a connection. Packets have numbers, from 0 on for each command."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, number: int, *payloads: bytes) -> None:
        for index, payload in enumerate(payloads, number):
            self.connection.sendall(
                len(payload).to_bytes(3, "little") + bytes([index & 255]) + payload
            )

    def receive(self) -> bytes:
        """The next packet. Raises `EOFError` at the end of the connection."""
        return self._bytes(int.from_bytes(self._bytes(4)[:3], "little"))

    def _bytes(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            if not (more := self.connection.recv(count - len(data))):
                raise EOFError
            data += more
        return data

    def greet(self, *, has_tls: bool = False) -> None:
        flags = _CAPABILITIES | (_TLS if has_tls else 0)
        self.send(
            0,
            b"\x0a8.4.0\0"
            + struct.pack("<I", 7)
            + b"abcdefgh\0"
            + struct.pack("<HBHHB", flags & 0xFFFF, 45, 2, flags >> 16, 21)
            + bytes(10)
            + b"abcdefghijkl\0mysql_native_password\0",
        )

    def let_in(self) -> None:
        """Greet, and accept whoever comes."""
        self.greet()
        self.receive()
        self.send(2, OK)

    def hang_up(self) -> None:
        """As a server that is killed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()


def column(name: bytes) -> bytes:
    """The definition of a column of text."""
    texts = b"".join(bytes([len(text)]) + text for text in (b"def", b"", b"", b"", name, name))
    return texts + struct.pack("<BHIBHBxx", 12, 33, 100, 253, 0, 0)


@contextmanager
def impostor(
    serve: Callable[[Client, int], object], tls: Tls | None = None
) -> Iterator[MySQLConnection]:
    """The way to a server that treats each client, numbered from 0 on, as `serve` does."""
    listener = socket.create_server(("127.0.0.1", 0))
    clients: list[socket.socket] = []

    def talk(connection: socket.socket, number: int) -> None:
        with suppress(OSError, EOFError):
            serve(Client(connection), number)

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                clients.append(connection)
                arguments = (connection, len(clients) - 1)
                threading.Thread(target=talk, args=arguments, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        port = listener.getsockname()[1]
        yield MySQLConnection("SOFTCART_SHOP", "127.0.0.1", port, "user", "", "shop", tls)
    finally:
        for each in (listener, *clients):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
