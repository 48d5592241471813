"""The screen for people at a desk: login, search, and a person's page that moves by itself."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from functools import wraps
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flask import (
    Blueprint,
    Response,
    current_app,
    g,
    redirect,
    render_template,
    request,
    session,
    stream_with_context,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from softcart_assets.pages.kit import theme
from softcart_assets.serving.asking import Answer
from softcart_assets.serving.service import Service
from softcart_assets.serving.tokens import SCOPES, Token, TooManyUnknown
from softcart_assets.web.live import OpenPages, Ticker, Unavailable
from softcart_assets.web.problems import refuse

_HERE = Path(__file__).parent
_STYLE = Path(theme.__file__).with_name("kit.css")

LIVE_SECONDS = 600.0
"""After this time a page asks anew, which is noted as a look-up of its own."""
OLD_MS = 10_000
"""An answer that is older than this comes with a warning."""

View = Callable[..., Any]


def blueprint(service: Service) -> Blueprint:
    """The routes of the screen."""
    desk = service.asking.desk
    routes = Blueprint("screen", __name__, template_folder=str(_HERE / "templates"))
    # A folder of templates belongs to a blueprint. This one has no routes.
    templates = Blueprint("desk", __name__, template_folder=str(desk.templates))
    routes.register_blueprint(templates, url_prefix="/desk")
    for name, text in (("grouped", _grouped), ("local", _local)):
        templates.add_app_template_filter(text, name)
    routes.context_processor(lambda: {"title": desk.title, "token": g.get("token")})
    routes.after_request(_private)
    screen = _Screen(service)
    routes.add_url_rule("/login", view_func=_login, endpoint="login")
    routes.add_url_rule("/login", view_func=screen.log_in, methods=["POST"])
    routes.add_url_rule("/logout", view_func=_log_out, endpoint="log_out", methods=["POST"])
    routes.add_url_rule("/", view_func=screen.guarded(screen.search), endpoint="search")
    # By POST: numbers and names stay out of the browser's history.
    routes.add_url_rule("/", view_func=screen.guarded(screen.find), methods=["POST"])
    person = "/people/<int:id>"
    routes.add_url_rule(person, view_func=screen.guarded(screen.person))
    routes.add_url_rule(f"{person}/events", view_func=screen.guarded(screen.events))
    routes.add_url_rule("/style.css", view_func=_style, endpoint="style")
    routes.add_url_rule("/desk.js", view_func=_script, endpoint="script")
    return routes


class _Screen:
    """The views that ask the database."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._ticker = Ticker(service.asking.positions)
        self._pages = OpenPages()

    def guarded(self, view: View) -> View:
        """A view for those who have logged in, and whose token is still valid."""

        @wraps(view)
        def called(**named: Any) -> Any:
            token = self._service.tokens.by_id(session.get("token", ""))
            if token is None:
                return redirect(url_for("screen.login"))
            self._service.count(token)
            g.token = token
            return view(**named)

        return called

    def log_in(self) -> Any:
        """Begin a session with a token."""
        token = self._service.tokens.of(request.form.get("token", "").strip())
        if token is None or not SCOPES.keys() <= set(token.scopes):
            return render_template("login.html", refused=True), 401
        # A session that somebody else has begun in this browser must not go on.
        session.clear()
        session.permanent = True
        session["token"] = token.id
        return redirect(url_for("screen.search"), 303)

    def search(self) -> str:
        """The search alone."""
        return render_template("search.html")

    def find(self) -> Any:
        """The person with a number, or the people with a name."""
        asking = self._service.asking
        # PostgreSQL's texts have no NUL.
        wanted = request.form.get("wanted", "").replace("\0", "").strip()
        digits = re.sub(r"[\s+()/-]", "", wanted)
        if re.fullmatch(asking.desk.number, digits):
            answer = asking.about("number", digits, g.token, "screen: number")
            if answer:
                return redirect(url_for("screen.person", id=answer.id), 303)
            return render_template("search.html", people=[])
        if len(wanted) < 3:
            return render_template("search.html", short=True)
        people = asking.named(wanted, g.token, "screen: name")
        return render_template("search.html", people=people, about=asking.desk.about, wanted=wanted)

    def person(self, id: int) -> str:
        """The page about a person."""
        parts = _parts(self._service, self._about(id, "screen: person"))
        return render_template("person.html", id=id, parts=parts)

    def events(self, id: int) -> Response:
        """The parts of a person's page that change, as server-sent events."""
        token: Token = g.token
        self._pages.enter(token.id)
        try:
            answer = self._about(id, "screen: live")
        except BaseException:
            self._pages.leave(token.id)
            raise
        moves = stream_with_context(_moves(self._service, self._ticker, token, answer))
        # A proxy must not wait until it has much of it.
        headers = {"X-Accel-Buffering": "no"}
        response = Response(moves, mimetype="text/event-stream", headers=headers)
        # Also if nobody has read any of it.
        response.call_on_close(lambda: self._pages.leave(token.id))
        return response

    def _about(self, id: int, resource: str) -> Answer:
        asking = self._service.asking
        # PostgreSQL has no larger keys.
        answer = asking.about("key", str(id), g.token, resource) if id < 2**63 else None
        if answer is None:
            raise refuse(404, "Nobody is known by that.")
        return answer


def _grouped(amount: str | None) -> str:
    """A decimal with its thousands apart, and all its digits."""
    return "unknown" if amount is None else f"{Decimal(amount):,f}"


def _local(at: str, zone: str) -> str:
    """A moment as clocks in a zone show it."""
    return f"{datetime.fromisoformat(at).astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M}"


def _login() -> str:
    return render_template("login.html")


def _log_out() -> AnyResponse:
    session.clear()
    return redirect(url_for("screen.login"), 303)


def _style() -> Response:
    files = (_STYLE, _HERE / "static" / "desk.css")
    return _static(theme.variables() + "".join(file.read_text() for file in files), "text/css")


def _script() -> Response:
    return _static((_HERE / "static" / "desk.js").read_text(), "text/javascript")


def _private(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _static(text: str, kind: str) -> Response:
    return Response(text, mimetype=kind, headers={"Cache-Control": "max-age=600"})


def _parts(service: Service, answer: Answer) -> dict[str, str]:
    """The parts of a person's page as HTML, by id."""
    content = answer.content()
    names = {"state": "state.html", **service.asking.desk.sections}
    return {id: render_template(name, answer=content, old_ms=OLD_MS) for id, name in names.items()}


def _moves(service: Service, ticker: Ticker, token: Token, answer: Answer) -> Iterator[str]:
    """Server-sent events: the parts of a page that have changed, as JSON."""
    shown: dict[str, str] = {}
    ends, tick = time.monotonic() + LIVE_SECONDS, 0
    found: Answer | None = answer
    while found and time.monotonic() < ends:
        parts = _parts(service, found)
        changed = {id: html for id, html in parts.items() if shown.get(id) != html}
        shown = parts
        yield f"data: {json.dumps(changed)}\n\n"
        tick = ticker.after(tick)
        try:
            found = service.asking.again(answer.id) if service.tokens.by_id(token.id) else None
        except (Unavailable, TooManyUnknown):
            current_app.logger.warning("The figures of a page cannot be read. It will ask again.")
            return
