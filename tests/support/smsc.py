"""A server that speaks SMPP 3.4: it takes text messages, puts their parts together, and sends."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections import defaultdict
from contextlib import suppress
from typing import Any

from smpplib.exceptions import UnknownCommandError
from smpplib.smpp import make_pdu, parse_pdu


class Smsc:
    """`status`: what it answers to every message. `texts`: those it took, by number."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.texts: dict[str, list[str]] = defaultdict(list)
        self.commands: list[str] = []
        self.open_requests: set[int] = set()
        self._parts: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
        self._sequence, self._taken = 0, 0
        self._connection: socket.socket | None = None
        smsc = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                smsc._serve(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"smpp://me:secret@127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Smsc:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._server.shutdown()
        self._server.server_close()

    def next_sequence(self) -> int:
        """See smpplib's client."""
        self._sequence += 1
        return self._sequence

    @property
    def sequence(self) -> int:
        """See smpplib's client."""
        return self._sequence

    def deliver(self, phone: str, text: bytes, esm_class: int = 0, data_coding: int = 0) -> None:
        """Send what a phone has written, or a receipt."""
        self._ask(
            make_pdu(
                "deliver_sm",
                client=self,
                source_addr_ton=1,
                source_addr=phone,
                destination_addr="4930123456",
                esm_class=esm_class,
                data_coding=data_coding,
                short_message=text,
            )
        )

    def ask(self) -> None:
        """Ask whether the connection still works."""
        self._ask(make_pdu("enquire_link", client=self))

    def hang_up(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _ask(self, pdu: Any) -> None:
        assert self._connection, "somebody is bound"
        self.open_requests.add(pdu.sequence)
        self._connection.sendall(pdu.generate())

    def _serve(self, connection: socket.socket) -> None:
        try:
            while head := connection.recv(4, socket.MSG_WAITALL):
                [length] = struct.unpack(">L", head)
                raw = head + connection.recv(length - 4, socket.MSG_WAITALL)
                pdu = parse_pdu(raw, client=self, allow_unknown_opt_params=True)
                self.commands.append(pdu.command)
                if pdu.is_response():
                    self.open_requests.discard(pdu.sequence)
                    continue
                answer = self._answer(pdu)
                answer.sequence = pdu.sequence
                if pdu.command.startswith("bind"):
                    self._connection = connection
                connection.sendall(answer.generate())
        except (OSError, struct.error, UnknownCommandError):
            pass

    def _answer(self, pdu: Any) -> Any:
        if pdu.command == "submit_sm":
            if self.status == 0:
                self._take(pdu)
            answer = make_pdu("submit_sm_resp", client=self, message_id=f"m{self._taken}")
            answer.status = self.status
            return answer
        answer = make_pdu(f"{pdu.command}_resp", client=self)
        if pdu.command.startswith("bind"):
            answer.system_id = "smsc"
            answer.status = 0 if pdu.password == b"secret" else 0x0E
        return answer

    def _take(self, pdu: Any) -> None:
        self._taken += 1
        phone, body = pdu.destination_addr.decode(), pdu.short_message
        whole = [body]
        if pdu.esm_class & 0x40:
            reference, count, number = body[3:6]
            found = self._parts[phone, reference]
            found[number] = body[6:]
            if len(found) < count:
                return
            whole = [found[each] for each in sorted(found)]
            del self._parts[phone, reference]
        self.texts[phone].append("".join(_decoded(each, pdu.data_coding) for each in whole))


_EXTENSION = dict(zip(b"\x14\x28\x29\x2f\x3c\x3d\x3e\x40\x65", "^{}\\[~]|€", strict=True))


def _decoded(body: bytes, coding: int) -> str:
    if coding == 8:
        return body.decode("utf-16-be")
    found, codes = [], iter(body)
    for code in codes:
        found.append(_EXTENSION[next(codes)] if code == 0x1B else chr(code))
    return "".join(found)
