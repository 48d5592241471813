"""The application of one process: the API, its description, and the screen."""

from __future__ import annotations

from collections.abc import Sequence

from apiflask import HTTPError
from flask import Response, render_template, request

from softcart_assets.serving import screen
from softcart_assets.serving.asking import Asking
from softcart_assets.serving.service import Service
from softcart_assets.serving.tokens import TooManyUnknown
from softcart_assets.web.app import App
from softcart_assets.web.limits import Limits
from softcart_assets.web.live import Unavailable
from softcart_assets.web.problems import problem, refuse


def create_app(asking: Asking, limits: Limits, secret: bytes, hosts: Sequence[str] = ()) -> App:
    """The application. `secret`, `hosts`: see `App`."""
    app = App(
        __name__,
        title=f"SoftCart: {asking.desk.title}",
        description="Answers about people, each as of one moment of all sources. Every answer "
        "says how old it is. Amounts are decimals: texts in our own resources, numbers with all "
        "their digits in the standard ones. Read these without binary floats.",
        cookie="softcart_desk",
        secret=secret,
        hosts=hosts,
        scripts=True,
        error=_error,
    )
    # A shift.
    app.config["PERMANENT_SESSION_LIFETIME"] = 12 * 3600
    service = Service(asking, limits)
    api = asking.desk.api(service)
    app.register_blueprint(api)
    # Who asks the API shows a token, which no browser sends by itself.
    app.csrf.exempt(api)
    app.register_blueprint(screen.blueprint(service))
    app.errorhandler(Unavailable)(_unavailable)
    app.errorhandler(TooManyUnknown)(_too_many)
    return app


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
