"""What stands between the network and our webservers: Dagster's UI, and the pages.

Dagster asks nobody who they are, and answers any web page: it runs mutations that come by GET, from
every origin and for every host. A page that somebody opens in the same browser could start runs
with a configuration of its own. docs/decisions/16-who-may-use-the-ui.md has the reasons.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Collection, Iterable
from typing import Self
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from softcart_assets.connections import LOOPBACK, setting

USER = "softcart"
"""The name for the login, if there is one."""

GUESS_SECONDS = 1.0
"""So long the answer to a wrong password takes, and the next one comes after it."""

Refusal = tuple[int, str]
"""The status of an answer, and what is wrong with the request."""


class Guard:
    """An ASGI application that hands requests on to another one if its own pages send them.

    `hosts`: the names by which people reach it, besides those of this machine. `password`: what
    the browser asks for. Empty: nothing. `settings`: the names of the settings that have both.
    """

    def __init__(
        self, app: ASGIApp, hosts: Iterable[str], password: str, settings: tuple[str, str]
    ) -> None:
        self.app, self._settings = app, settings
        self._hosts = {host.lower() for host in (*LOOPBACK, *hosts)}
        credentials = f"{USER}:{password}".encode()
        self._login = b"basic " + base64.b64encode(credentials) if password else b""
        self._guesses = asyncio.Lock()

    @classmethod
    def by_settings(cls, app: ASGIApp, settings: tuple[str, str], *hosts: str) -> Self:
        """A guard with the hosts and the password in these two settings, and more hosts."""
        named = setting(settings[0], "").replace(",", " ").split()
        return cls(app, (*named, *hosts), setting(settings[1], ""), settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal and refusal[0] == 401 and "authorization" in Headers(scope=scope):
            # One guess at a time, whoever it comes from. Who knows the password does not wait.
            async with self._guesses:
                await asyncio.sleep(GUESS_SECONDS)
        if refusal is None:
            await self.app(scope, receive, _unframed(send) if scope["type"] == "http" else send)
        elif scope["type"] == "websocket":
            # Closed before it is accepted: the server answers the handshake with 403.
            await WebSocketClose(reason=refusal[1])(scope, receive, send)
        else:
            status, text = refusal
            headers = {"WWW-Authenticate": 'Basic realm="SoftCart", charset="UTF-8"'}
            answer = PlainTextResponse(f"{text}\n", status, headers if status == 401 else None)
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        found = _foreign_host(headers, self._hosts, self._settings[0]) or _foreign_page(
            scope, headers
        )
        if found is None and scope["type"] == "http":
            found = _unusual_graphql(scope, headers)
        if found is None and not self._is_logged_in(headers):
            found = 401, f"Log in as {USER} with the password in {self._settings[1]}."
        return found

    def _is_logged_in(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = f"{scheme.lower()} {token.strip()}".encode()
        # In a time that does not tell how much of the password was right.
        return not self._login or secrets.compare_digest(given, self._login)


def _foreign_host(headers: Headers, hosts: Collection[str], name: str) -> Refusal | None:
    """Whether the request is for another host.

    A page of evil.example can make that name lead to this machine. Its requests then come from
    the same origin, as the browser sees it, and only the name gives them away.
    """
    named = headers.getlist("host")
    if len(named) == 1 and _hostname(f"//{named[0]}") in hosts:
        return None
    return 421, (
        f"This server is not {', '.join(named) or 'without a name'}. If it is, add the name to "
        f"{name} and start the server again."
    )


def _foreign_page(scope: Scope, headers: Headers) -> Refusal | None:
    """Whether a page of another site has sent the request.

    Browsers say so in `Origin`, and all but old ones in `Sec-Fetch-Site`. Programs other than
    browsers send neither. They carry nobody's login and reach nothing that they could not reach
    without us.
    """
    site, origins = headers.get("sec-fetch-site"), headers.getlist("origin")
    is_link = (
        # Somebody follows a link to us. The other page does not see what comes.
        scope["type"] == "http"
        and scope["method"] == "GET"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
    # Scheme aside: a proxy before us may speak HTTPS with the browser, and HTTP with us.
    if any(_netloc(origin) != headers["host"] for origin in origins) or (
        site not in (None, "same-origin", "none") and not is_link
    ):
        return 403, "A page of another site has sent this. Only pages of this server may."
    return None


def _unusual_graphql(scope: Scope, headers: Headers) -> Refusal | None:
    """Whether a request runs GraphQL in a way that a page could use without asking first.

    Without a query, GET brings the playground, which is a page. A form of another site can send
    any body but JSON.
    """
    if not scope["path"].rstrip("/").endswith("/graphql"):
        return None
    if scope["method"] != "POST" and scope["query_string"]:
        return 405, "GraphQL is run by POST only."
    content = headers.get("content-type", "").partition(";")[0].strip().lower()
    if scope["method"] == "POST" and content != "application/json":
        return 415, "GraphQL comes as JSON: set Content-Type to application/json."
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # such as a bracket without an end
        return None


def _netloc(address: str) -> str | None:
    try:
        return urlsplit(address).netloc
    except ValueError:
        return None


def _unframed(send: Send) -> Send:
    """Send answers that no other site may show in a frame, where a click could be stolen."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "SAMEORIGIN"
        await send(message)

    return sending
