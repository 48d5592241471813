"""A network that can fall silent: a proxy in front of a server, whose packets can be dropped."""

from __future__ import annotations

import ctypes
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
_RETURN_NOTHING = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A filter of one instruction, which keeps nothing of any packet."""


class Proxy:
    """Passes connections on to a server on this machine, until it falls silent.

    Silent is not closed. The kernel drops what arrives for the clients' connections before it
    confirms it, as if a cable were cut. Neither side learns anything. `silent_after`: fall silent
    as soon as so many bytes have passed.
    """

    def __init__(self, port: int, silent_after: float = float("inf")) -> None:
        self.target = port
        self.remaining = silent_after
        self.is_silent = False
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def fall_silent(self) -> None:
        """Drop all packets from now on, of new connections, too."""
        self.is_silent = True
        for each in (self._listener, *(client for client, _ in self._pairs)):
            drop_all(each)

    def speak(self) -> None:
        """Let packets pass again."""
        self.remaining = float("inf")
        for each in (self._listener, *(client for client, _ in self._pairs)):
            let_pass(each)
        self.is_silent = False

    def close(self) -> None:
        """End all connections."""
        self._listener.close()
        for pair in self._pairs:
            for each in pair:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            ask_often(client)
            server = socket.create_connection(("127.0.0.1", self.target))
            self._pairs.append((client, server))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, reading: socket.socket, writing: socket.socket) -> None:
        with suppress(OSError):
            while data := reading.recv(1 << 16):
                self.remaining -= len(data)
                if self.remaining < 0 and not self.is_silent:
                    self.fall_silent()
                # What is in the way when the network falls silent is not lost, only late.
                while self.is_silent:
                    time.sleep(0.05)
                writing.sendall(data)
        with suppress(OSError):
            writing.shutdown(socket.SHUT_WR)


def ask_often(connection: socket.socket) -> None:
    """Notice a client that is gone as the server would, for which the proxy stands."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        connection.setsockopt(socket.IPPROTO_TCP, option, 2)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 5)


def drop_all(connection: socket.socket) -> None:
    """Have the kernel drop what arrives, before it confirms it."""
    program = ctypes.create_string_buffer(_RETURN_NOTHING, len(_RETURN_NOTHING))
    pointer = struct.pack("HL", 1, ctypes.addressof(program))
    with suppress(OSError):  # closed meanwhile
        connection.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, pointer)


def let_pass(connection: socket.socket) -> None:
    """End what `drop_all` began."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


@contextmanager
def proxy_of(port: int, silent_after: float = float("inf")) -> Iterator[Proxy]:
    """A proxy of the server on this port, see `Proxy`."""
    proxy = Proxy(port, silent_after)
    try:
        yield proxy
    finally:
        proxy.close()
