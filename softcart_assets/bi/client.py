"""Talks to Superset's API, with the login of a user who may do everything there."""

from __future__ import annotations

import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from http.cookiejar import CookieJar
from typing import Any

_SECONDS = 300
_PAGE = 100
KINDS = ("dashboard", "chart", "dataset")
"""What Superset lists, the first ones made of the later ones."""


class SupersetError(RuntimeError):
    """Superset does not answer, or it refuses. The message says what it told."""


class Client:
    """A session with a Superset. `uri`: its address. Raises `SupersetError`."""

    def __init__(self, uri: str, user: str, password: str) -> None:
        self.uri = uri.rstrip("/")
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(CookieJar()), urllib.request.ProxyHandler({})
        )
        self._headers = {"Accept": "application/json", "Referer": self.uri}
        login = {"username": user, "password": password, "provider": "db", "refresh": False}
        token = self.ask("security/login", login)["access_token"]
        self._headers["Authorization"] = f"Bearer {token}"
        # Without it, requests that change something are refused.
        self._headers["X-CSRFToken"] = self.ask("security/csrf_token/")["result"]

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Ask the API, and return what it answers. With a body it is a POST."""
        content = None if body is None else json.dumps(body).encode()
        return self._send(path, content, "application/json", method)

    def upload(self, path: str, field: str, name: str, content: bytes) -> Any:
        """Send a file, as a form does."""
        line = secrets.token_hex(16)
        head = (
            f'--{line}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        form = head.encode() + content + f"\r\n--{line}--\r\n".encode()
        return self._send(path, form, f"multipart/form-data; boundary={line}", "POST")

    def listed(self, kind: str) -> list[dict[str, Any]]:
        """All that there is of a kind."""
        found: list[dict[str, Any]] = []
        while True:
            # Without an order, a page may have again what another one had.
            query = (
                f"(order_column:changed_on_delta_humanized,order_direction:asc,"
                f"page:{len(found) // _PAGE},page_size:{_PAGE})"
            )
            page = self.ask(f"{kind}/?q={urllib.parse.quote(query)}")["result"]
            found += page
            if len(page) < _PAGE:
                return found

    def _send(self, path: str, content: bytes | None, kind: str, method: str | None) -> Any:
        request = urllib.request.Request(
            f"{self.uri}/api/v1/{path}",
            data=content,
            headers=self._headers | {"Content-Type": kind},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace")[:2000]
            raise SupersetError(f"Superset refused {path} ({error.code}): {told}") from None
        except (OSError, ValueError) as error:
            raise SupersetError(f"Superset at {self.uri} does not answer: {error}") from None
