"""What every application of ours begins with: its settings, headers, errors, and the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import uuid4

import simplejson
from apiflask import APIFlask, HTTPError
from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider
from flask.sessions import SecureCookieSessionInterface
from flask_wtf.csrf import CSRFError, CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix

from softcart_assets.web.problems import Problem, refuse

LOG = logging.getLogger("softcart.requests")

HERE = "127.0.0.1", "localhost"
"""The names of this machine by which it answers."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Addresses may have secrets in them.
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_ONLY_BY_TLS = "Strict-Transport-Security", "max-age=31536000"
"""Browsers that have come by https never come otherwise, for a year."""
POLICY = (
    "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'; img-src data:"
)

WITH_SCRIPTS = "; script-src 'self'; connect-src 'self'"
"""What a page with scripts of our own is allowed besides."""


class _Exact(DefaultJSONProvider):
    """JSON with decimals as numbers, digit by digit."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return str(simplejson.dumps(obj, use_decimal=True, ensure_ascii=False))


class _Sessions(SecureCookieSessionInterface):
    """The sessions of one application. Its signer is made once, and not for each request."""

    def __init__(self) -> None:
        self._signer: Any = None

    def get_signing_serializer(self, app: Flask) -> Any:
        """See `SecureCookieSessionInterface`."""
        if self._signer is None:
            self._signer = super().get_signing_serializer(app)
        return self._signer


class App(APIFlask):
    """An application whose browsers keep a session.

    `cookie`: the name of the browser's session. `secret`: signs the sessions of all processes.
    `hosts`: the names by which people reach the proxy with TLS that stands before it. `scripts`:
    whether its pages have scripts. `error`: makes the answer for an error. `proxies`: how many
    stand before the server. Each adds to `X-Forwarded-For` who asks it.
    """

    def __init__(
        self,
        name: str,
        *,
        title: str,
        description: str,
        cookie: str,
        secret: bytes,
        hosts: Sequence[str],
        scripts: bool,
        error: Callable[[HTTPError], Response],
        proxies: int = 0,
    ) -> None:
        # Neither a folder of files nor pages about the API: these would load scripts from
        # elsewhere.
        bare: dict[str, Any] = {"static_folder": None, "docs_path": None}
        super().__init__(name, title=title, version="1", **bare)
        if proxies:
            # What people themselves have put into the header comes before what these add.
            fixed = ProxyFix(self.wsgi_app, x_for=proxies, x_proto=0)
            self.wsgi_app = fixed  # type: ignore[method-assign]
        policy = POLICY + (WITH_SCRIPTS if scripts else "")
        self._headers = [*_HEADERS.items(), ("Content-Security-Policy", policy)]
        if hosts:
            self._headers.append(_ONLY_BY_TLS)
        self.json = _Exact(self)
        self.session_interface = _Sessions()
        self.config |= {
            "SECRET_KEY": secret,
            "TRUSTED_HOSTS": [*HERE, *hosts],
            # Browsers take a name with this prefix only by https, and from nobody but this host.
            "SESSION_COOKIE_NAME": f"__Host-{cookie}" if hosts else cookie,
            "SESSION_COOKIE_SECURE": bool(hosts),
            "SESSION_COOKIE_SAMESITE": "Strict",
            "SESSION_COOKIE_HTTPONLY": True,
            "MAX_CONTENT_LENGTH": 100_000,
            "WTF_CSRF_TIME_LIMIT": None,
            # By https it would ask for a `Referer`, which our own policy keeps browsers from
            # sending. The forms' values belong to the session, and no other site gets at its
            # cookie.
            "WTF_CSRF_SSL_STRICT": False,
            "AUTO_SERVERS": False,
            "HTTP_ERROR_SCHEMA": Problem,
            "VALIDATION_ERROR_SCHEMA": Problem,
            "DESCRIPTION": description,
        }
        self.error_processor(error)
        self.errorhandler(CSRFError)(lambda _: error(refuse(400, _OLD)))
        # Before all else that may refuse a request.
        self.before_request(_begin)
        self.after_request(self._end)
        self.csrf = CSRFProtect(self)
        self.spec_processor(_described)

    def log_exception(self, exc_info: Any) -> None:
        """See `Flask`, which would tell the address: what is asked for in vain may be in it."""
        self.logger.error("Exception in %s: %s", request.endpoint, g.instance, exc_info=exc_info)

    def _end(self, response: Response) -> Response:
        # To ask werkzeug for a header that is missing takes as long as to make an exception.
        there = {name.casefold() for name, _ in response.headers}
        for name, value in self._headers:
            if name.casefold() not in there:
                response.headers.add(name, value)
        # What was asked for stays out of the log: the rule of the address is enough.
        LOG.info(
            "%s %s %d %.1f ms %s%s",
            request.method,
            request.url_rule.rule if request.url_rule else "-",
            response.status_code,
            (time.perf_counter() - g.started) * 1000,
            g.get("token_id", "-"),
            f" {g.instance}" if response.status_code >= 400 else "",
        )
        return response


_OLD = "This page is too old. Load it again."


def _begin() -> None:
    g.started = time.perf_counter()
    g.instance = f"urn:uuid:{uuid4()}"


def _described(spec: dict[Any, Any] | str) -> dict[Any, Any] | str:
    """Say in the description that errors are problem details, and that bodies must be there."""
    assert isinstance(spec, dict), "the description is JSON"
    operations = [each for path in spec["paths"].values() for each in path.values()]
    for operation in (each for each in operations if isinstance(each, Mapping)):
        if "requestBody" in operation:
            operation["requestBody"]["required"] = True
        for status, response in operation.get("responses", {}).items():
            if int(status) >= 400 and "application/json" in response.get("content", {}):
                content = response["content"]
                content["application/problem+json"] = content.pop("application/json")
    return spec
