"""A server of the demo that takes text messages as Twilio's API does, and shows all that came."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import NAMESPACE_URL, uuid4, uuid5

from softcart_assets.inspire_app.people import phone_number
from softcart_assets.inspire_app.receivers.kept import Arrived, Kept
from softcart_assets.inspire_app.senders.twilio import signature

_API: Final = re.compile(r"/2010-04-01/Accounts/[^/]+/Messages\.json")
_LARGEST: Final = 100_000
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:44rem;padding:1rem}"
    "article{border:1px solid #8886;border-radius:.5rem;margin:1rem 0;padding:.75rem 1rem}"
    "h1{line-height:1.15}h2{font-size:1rem;margin:0}p{margin:0}a{color:light-dark(#0b6b4a,#58cd9e)}"
    "body{overflow-wrap:anywhere}pre{font:inherit;white-space:pre-wrap}"
    "button{font:inherit;min-height:2.75rem;padding:.4rem 1rem}"
    ":root{color-scheme:light dark}"
)
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'"
    "; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, kept: Kept, app: str, token: str) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.kept, self.app, self.token = kept, app.rstrip("/"), token

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a sender that was killed has closed its connection."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """The page."""
        if not self._is_local():
            return
        if urlsplit(self.path).path != "/":
            self._answer(404, "text/plain", "There is nothing here.")
            return
        self._answer(200, "text/html; charset=utf-8", page(self.server.kept, self.server.app))

    def do_POST(self) -> None:
        """A text message, or an answer to one."""
        length = self.headers.get("Content-Length", "")
        if not self._is_local():
            return
        if not length.isdecimal() or int(length) > _LARGEST:
            self.close_connection = True
            self._answer(413, "text/plain", "The request is too long.")
            return
        body = self.rfile.read(int(length)).decode("utf-8", "replace")
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if _API.fullmatch(self.path):
            self._take(form)
        elif self.path == "/answer" and self.headers.get("Sec-Fetch-Site") == "same-origin":
            self._reply(form.get("phone", ""), form.get("text", ""))
        else:
            self._answer(404, "text/plain", "There is nothing here.")

    def _is_local(self) -> bool:
        # A page of the internet may have its own name lead here.
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host in ("127.0.0.1", "localhost"):
            return True
        self.close_connection = True
        self._answer(403, "text/plain", "This is for this machine only.")
        return False

    def _take(self, form: dict[str, str]) -> None:
        phone = phone_number(form.get("To", ""))
        if not self.headers.get("Authorization", "").startswith("Basic "):
            self._json(401, {"code": 20003, "message": "Authenticate", "status": 401})
        elif phone is None or not form.get("Body"):
            self._json(400, {"code": 21211, "message": "Invalid 'To'", "status": 400})
        else:
            key = self.headers.get("Idempotency-Key") or str(uuid4())
            name = f"SM{uuid5(NAMESPACE_URL, key).hex}"
            self.server.kept.add_once(name, phone, form["Body"])
            self._json(201, {"sid": name, "status": "queued", "to": form["To"]})

    def _reply(self, phone: str, text: str) -> None:
        url = f"{self.server.app}/hooks/twilio/incoming"
        form = {"From": f"+{phone}", "Body": text}
        signed = {"X-Twilio-Signature": signature(self.server.token, url, form)}
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, urlencode(form).encode(), signed), timeout=10
            ):
                told = "The answer was sent."
        except OSError as error:
            told = f"The application does not answer: {type(error).__name__}."
        self._answer(200, "text/html; charset=utf-8", _document(told, '<a href="/">Back</a>'))

    def _json(self, status: int, members: dict[str, Any]) -> None:
        self._answer(status, "application/json", json.dumps(members))

    def _answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": _POLICY,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request may have an address in it."""


def page(kept: Kept, app: str) -> str:
    """The page with all that came, the newest first. Only links to the application are links."""
    articles = "".join(_article(each, app) for each in kept)
    return _document(
        "What was sent",
        "<p>Nothing of it has left this machine. Reload the page for more.</p>"
        f"{articles or '<p>Nothing yet.</p>'}",
    )


def _document(title: str, content: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style><main><h1>{title}</h1>{content}</main></html>"
    )


def _article(arrived: Arrived, app: str) -> str:
    fields = dict(arrived.fields)
    receiver = arrived.receiver if arrived.is_mail else f"+{arrived.receiver}"
    lines = [f"To {receiver}, {arrived.at:%H:%M:%S} UTC"]
    lines += [f"{name}: {fields[name]}" for name in _SHOWN if name in fields]
    told = "<br>".join(map(escape, lines))
    title = arrived.subject if arrived.is_mail else "Text message"
    link = re.compile(rf"{re.escape(escape(app))}/[\w./?=%~-]*")
    text = link.sub(lambda found: f'<a href="{found[0]}">{found[0]}</a>', escape(arrived.text))
    answer = "" if arrived.is_mail else _ANSWER.replace("{}", escape(arrived.receiver))
    return f"<article><h2>{escape(title)}</h2><p>{told}</p><pre>{text}</pre>{answer}</article>"


_ANSWER: Final = (
    '<form method="post" action="/answer"><input type="hidden" name="phone" value="{}">'
    '<button name="text" value="YES">Answer YES</button> '
    '<button name="text" value="STOP">Answer STOP</button></form>'
)
_SHOWN: Final = ("From", "List-Unsubscribe", "List-Unsubscribe-Post")


@contextmanager
def listening(kept: Kept, port: int, app: str, token: str) -> Iterator[int]:
    """Serve on this machine while the block runs. Yields the port, a free one if `port` is 0.

    `app`: where the application is. `token`: signs answers to it. Raises `OSError` if the port is
    taken.
    """
    with _Server(port, kept, app, token) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
