"""The application of one process, and the server that runs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from apiflask import HTTPError
from flask import Response, render_template, request
from werkzeug.exceptions import SecurityError

from softcart_assets.connections import MySQLConnection
from softcart_assets.inspire_app.api import routes as api_routes
from softcart_assets.inspire_app.hooks import HookSettings, create_hooks
from softcart_assets.inspire_app.pages import routes
from softcart_assets.inspire_app.providers import Providers
from softcart_assets.inspire_app.sender import Work, beside
from softcart_assets.inspire_app.sessions import LONGEST
from softcart_assets.inspire_app.settings import PREFIX, Settings
from softcart_assets.inspire_app.site import PEOPLE, Site, check_tables, open_site
from softcart_assets.inspire_app.storage.outbox import OutboxTable
from softcart_assets.web import gunicorn
from softcart_assets.web.app import App
from softcart_assets.web.limits import Limits
from softcart_assets.web.problems import problem

LOG: Final = logging.getLogger(__name__)

THREADS = 16
"""Of a process."""


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def make(site: Site) -> App:
    """The application."""
    app = App(
        __name__,
        title="Inspire",
        description="Workouts of the person whose token is shown.",
        cookie="softcart_inspire",
        secret=site.settings.secret,
        hosts=site.settings.hosts,
        scripts=False,
        error=_error,
        proxies=site.settings.proxies,
    )
    app.config |= {
        # Links in mails lead here, and whoever is signed in should stay so. Forms have values of
        # their own against other sites.
        "SESSION_COOKIE_SAMESITE": "Lax",
        # As long as a session in the database may be.
        "PERMANENT_SESSION_LIFETIME": LONGEST,
        "SEND_FILE_MAX_AGE_DEFAULT": 3600,
    }
    app.register_blueprint(routes.blueprint(site))
    # Programs call them, which have no page to take a form's value from.
    hooks = create_hooks(lambda: _outbox(site), _hook_settings(site), site.clock)
    app.csrf.exempt(hooks)
    app.register_blueprint(hooks)
    api = api_routes.routes(site)
    app.register_blueprint(api)
    # Who asks the API shows a token, which no browser sends by itself.
    app.csrf.exempt(api)
    return app


@contextmanager
def _outbox(site: Site) -> Iterator[OutboxTable]:
    with site.pool.connection() as connection:
        yield OutboxTable(
            connection, lambda user_id: site.documents.preferences(user_id).notifications
        )


def _hook_settings(site: Site) -> HookSettings:
    providers, settings = Providers.from_env(), site.settings
    token = providers.token(settings.secret)
    return HookSettings(settings.secret, settings.url, token, providers.hook_token)


def _error(error: HTTPError) -> Response:
    """A page for people, or problem details for programs."""
    is_for_programs = request.path.startswith(("/api/", "/hooks/"))
    # Whoever calls us by another name gets no links of ours.
    if is_for_programs or isinstance(request.routing_exception, SecurityError):
        return problem(error)
    page = render_template("error.html", error=error)
    return Response(page, error.status_code, dict(error.headers))


def serve(host: str, port: int, workers: int) -> None:
    """Serve until a signal. Raises `StackError`, `SettingError`, `ServerUnreachable` and
    `TablesMissing`.
    """
    gunicorn.check_address(host, port, f"{PREFIX}_URL")
    settings = Settings.from_env(f"http://{host}:{port}")
    if settings.is_public and not settings.proxies:
        LOG.warning(
            "%s_PROXIES is not set: limits per address hold for all people together.", PREFIX
        )
    # All processes inherit it and count together.
    limits = Limits()
    check_tables(MySQLConnection.from_env(PEOPLE))
    first = open_site(settings, limits, now)
    first.documents.prepare()
    first.close()
    with beside(Work.from_env(settings.url)):
        gunicorn.serve(
            lambda: make(open_site(settings, limits, now)),
            "inspire",
            host,
            port,
            workers=workers,
            threads=THREADS,
        )
