"""How the local MongoDB gets its first user."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from softcart_assets.stack import mongo
from softcart_assets.stack.mongo import Mongo
from softcart_assets.stack.server import StackError, free_port

SILENT = """
import signal, socketserver, struct, sys, bson

signal.signal(signal.SIGTERM, signal.SIG_IGN)
HELLO = bson.encode({"ok": 1, "isWritablePrimary": True, "minWireVersion": 0, "maxWireVersion": 21})

class Answers(socketserver.StreamRequestHandler):
    # It says hello, and answers nothing else.
    def handle(self):
        while head := self.rfile.read(16):
            size, request, _, operation = struct.unpack("<iiii", head)
            if b"ello" not in self.rfile.read(size - 16):
                continue
            old = operation == 2004
            body = (struct.pack("<iqii", 8, 0, 0, 1) if old else bytes(5)) + HELLO
            told = struct.pack("<iiii", 16 + len(body), 0, request, 1 if old else 2013)
            self.wfile.write(told + body)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

Server(("127.0.0.1", int(sys.argv[1])), Answers).serve_forever()
"""


def test_a_server_that_neither_answers_nor_ends_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Mongo(tmp_path, free_port(), "unchecked", {"X": "x"})
    server.home.mkdir()
    monkeypatch.setattr(mongo, "START_SECONDS", 3)
    monkeypatch.setattr(mongo, "STOP_SECONDS", 0.5)
    monkeypatch.setattr(
        Mongo, "_secantus", lambda _, data, port: [sys.executable, "-c", SILENT, str(port)]
    )
    with pytest.raises(StackError, match="MongoDB could not be set up"):
        server._make_user_of_secantus(tmp_path / "data")
