"""The application of one process: the API, its description, and the screen."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import simplejson
from apiflask import APIFlask, HTTPError
from flask import Response, g, render_template, request
from flask.json.provider import DefaultJSONProvider
from flask_wtf.csrf import CSRFError, CSRFProtect

from softcart_assets.serving import screen
from softcart_assets.serving.asking import Asking, Unavailable
from softcart_assets.serving.limits import Limits
from softcart_assets.serving.problems import Problem, problem, refuse
from softcart_assets.serving.service import Service
from softcart_assets.serving.tokens import TooManyUnknown

LOG = logging.getLogger("softcart.call_centre")

HERE = "127.0.0.1", "localhost"
"""The names of this machine by which it answers."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "img-src data:",
}


class _Exact(DefaultJSONProvider):
    """JSON with decimals as numbers, digit by digit."""

    def dumps(self, obj: Any, **options: Any) -> str:
        return str(simplejson.dumps(obj, use_decimal=True, ensure_ascii=False))


class _App(APIFlask):
    def log_exception(self, exc_info: Any) -> None:
        # Flask would tell the address. Ours never have a number in their path, but what is asked
        # for in vain may.
        self.logger.error("Exception in %s: %s", request.endpoint, g.instance, exc_info=exc_info)


def create_app(
    asking: Asking, limits: Limits, secret: bytes, hosts: Sequence[str] = ()
) -> APIFlask:
    """The application. `secret`: signs the sessions of all processes. `hosts`: the names by which
    people reach the proxy with TLS that stands before it.
    """
    desk = asking.desk
    title = f"SoftCart: {desk.title}"
    # Neither a folder of files nor pages about the API: these would load scripts from elsewhere.
    bare: dict[str, Any] = {"static_folder": None, "docs_path": None}
    app = _App(__name__, title=title, version="1", **bare)
    app.json = _Exact(app)
    app.config |= {
        "SECRET_KEY": secret,
        "TRUSTED_HOSTS": [*HERE, *hosts],
        # Browsers take a name with this prefix only by https, and from nobody but this very host.
        "SESSION_COOKIE_NAME": "__Host-softcart_desk" if hosts else "softcart_desk",
        "SESSION_COOKIE_SECURE": bool(hosts),
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_HTTPONLY": True,
        # A shift.
        "PERMANENT_SESSION_LIFETIME": 12 * 3600,
        "MAX_CONTENT_LENGTH": 100_000,
        "WTF_CSRF_TIME_LIMIT": None,
        # By https it would ask for a `Referer`, which our own policy keeps browsers from sending.
        # The forms' values belong to the session, and no other site gets at its cookie.
        "WTF_CSRF_SSL_STRICT": False,
        "AUTO_SERVERS": False,
        "HTTP_ERROR_SCHEMA": Problem,
        "VALIDATION_ERROR_SCHEMA": Problem,
        "DESCRIPTION": "Answers about people, each as of one moment of all sources. Every answer "
        "says how old it is. Amounts are decimals: texts in our own resources, numbers with all "
        "their digits in the standard ones. Read these without binary floats.",
    }
    app.error_processor(_error)
    # Before all else that may refuse a request.
    app.before_request(_begin)
    app.after_request(_end)
    service = Service(asking, limits)
    api = desk.api(service)
    app.register_blueprint(api)
    # Who asks the API shows a token, which no browser sends by itself.
    CSRFProtect(app).exempt(api)
    app.register_blueprint(screen.blueprint(service))
    app.errorhandler(Unavailable)(_unavailable)
    app.errorhandler(TooManyUnknown)(_too_many)
    app.errorhandler(CSRFError)(_old_page)
    app.spec_processor(_described)
    return app


def _begin() -> None:
    g.started = time.perf_counter()
    g.instance = f"urn:uuid:{uuid4()}"


def _end(response: Response) -> Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
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


def _error(error: HTTPError) -> Response:
    """A page for people, or problem details for programs."""
    if (request.blueprint or "").startswith("screen"):
        page = render_template("error.html", error=error)
        return Response(page, error.status_code, dict(error.headers))
    return problem(error)


def _unavailable(error: Unavailable) -> Response:
    return _error(refuse(503, str(error), headers={"Retry-After": "1"}))


def _too_many(error: TooManyUnknown) -> Response:
    return _error(refuse(429, str(error), headers={"Retry-After": "1"}))


def _old_page(_: CSRFError) -> Response:
    return _error(refuse(400, "The page is too old. Log in again."))


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
