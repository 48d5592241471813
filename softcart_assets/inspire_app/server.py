"""The application of one process, and the server that runs it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from apiflask import HTTPError
from flask import Response, render_template, request

from softcart_assets.inspire_app.settings import PREFIX, Settings
from softcart_assets.web import gunicorn
from softcart_assets.web.app import App
from softcart_assets.web.limits import Limits
from softcart_assets.web.problems import problem

THREADS = 16
"""Of a process."""

Clock = Callable[[], datetime]


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def make(settings: Settings, limits: Limits, clock: Clock = now) -> App:
    """The application. `limits`: shared by all processes."""
    app = App(
        __name__,
        title="Inspire",
        description="Workouts of the person whose token is shown.",
        cookie="softcart_inspire",
        secret=settings.secret,
        hosts=settings.hosts,
        scripts=False,
        error=_error,
    )
    # Links in mails lead here, and whoever is signed in should stay so. Forms have values of their
    # own against other sites.
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    # Programs get problem details. Each part for programs is a blueprint of its own.
    app.register_error_handler(404, lambda error: _error(HTTPError(404)))
    return app


def _error(error: HTTPError) -> Response:
    """A page for people, or problem details for programs."""
    if request.path.startswith(("/api/", "/hooks/")):
        return problem(error)
    page = render_template("error.html", error=error)
    return Response(page, error.status_code, dict(error.headers))


def serve(host: str, port: int, workers: int) -> None:
    """Serve until a signal. Raises `StackError`, `SettingError` and `ServerUnreachable`."""
    gunicorn.check_address(host, port, f"{PREFIX}_URL")
    settings = Settings.from_env(f"http://{host}:{port}")
    # All processes inherit it and count together.
    limits = Limits()
    gunicorn.serve(
        lambda: make(settings, limits), "inspire", host, port, workers=workers, threads=THREADS
    )
