"""Who asks, how often, and how a session begins and ends: what all pages have in common."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import date, datetime
from functools import wraps
from typing import Any, Final
from zoneinfo import ZoneInfo

from flask import g, redirect, render_template, request, url_for
from flask import session as browser
from werkzeug.wrappers import Response

from softcart_assets.inspire_app.accounts import check_own_password
from softcart_assets.inspire_app.links import kept_form
from softcart_assets.inspire_app.second_factor import SIGN_IN_WITHIN
from softcart_assets.inspire_app.sessions import start
from softcart_assets.inspire_app.site import Site
from softcart_assets.inspire_app.storage.factors import Factors
from softcart_assets.inspire_app.storage.mysql import Person
from softcart_assets.web.problems import refuse

View = Callable[..., Any]

_SECRET: Final = "session"
_BEGAN: Final = "began"
"""Where the browser has when its session began, signed and exactly. DynamoDB has whole seconds."""
SIGN_IN: Final = "sign-in"
"""Where the browser has the secret of a sign-in that waits for a code."""

_FREE: Final = frozenset(
    f"pages.{each}"
    for each in (
        "second_factor",
        "sign_in",
        "code",
        "ask",
        "finish",
        "sign_out",
        "sign_out_everywhere",
        "export",
        "delete",
    )
)
"""What somebody may do who has no second factor yet where everybody needs one."""


def signed_in(view: View) -> View:
    """A view for people who are signed in."""

    @wraps(view)
    def guarded(*arguments: Any, **named: Any) -> Any:
        return view(*arguments, **named) if g.me else redirect(url_for("pages.sign_in"))

    return guarded


class Base:
    """The ground of all pages. `site`: what they work with."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def begin(self) -> Response | None:
        """Find out who asks. Returns an answer if they have to set up a second factor first."""
        g.me = g.session = None
        # What programs call and links to unsubscribe need no session, and work without DynamoDB.
        if request.blueprint not in (None, "pages") or request.endpoint == "pages.static":
            return None
        secret = browser.get(_SECRET)
        if not secret:
            return None
        now = self.site.clock()
        session = self.site.sessions.get(kept_form(secret))
        # The database deletes late: whether it is over is looked at here.
        if session is None or not session.is_valid(now):
            return None
        with self.site.tables() as tables:
            person = tables.person(session.user_id)
        # One of an older release began within a second.
        latest = session.started_at.replace(microsecond=999_999)
        began = datetime.fromisoformat(browser[_BEGAN]) if _BEGAN in browser else latest
        # One from before a new password or a sign-out everywhere may not have been found then.
        if person and began >= person.sessions_since:
            g.me, g.session = person, session
            self.site.sessions.viewed(session, session.seen(now))
            needs_one = self.site.settings.needs_second_factor and not person.has_second_factor
            if needs_one and request.endpoint not in _FREE:
                return redirect(url_for("pages.second_factor"), 303)
        return None

    def let_in(self, user_id: int, at: datetime) -> Response:
        """What follows a right password: a session, or first the question for a code. `at`: see
        `begin_session`.
        """
        secret = secrets.token_urlsafe(32)
        with self.site.tables() as tables:
            needs_code = Factors(tables).add_sign_in(
                kept_form(secret), user_id, at, at + SIGN_IN_WITHIN
            )
        if not needs_code:
            return self.begin_session(user_id, at)
        browser[SIGN_IN] = secret
        return redirect(url_for("pages.code"), 303)

    def begin_session(self, user_id: int, at: datetime) -> Response:
        """Sign somebody in, with a new session. What the browser had before is of no use then.

        `at`: a time before the first look at what lets the person in. The session begins then. So
        it is over at once if a new password, a second factor or a sign-out everywhere came between.
        """
        if g.session:
            self.site.sessions.replace(g.session.id)
        with self.site.tables() as tables:
            person = tables.person(user_id)
        if person is None:
            # Deleted at this moment.
            return redirect(url_for("pages.sign_in"), 303)
        secret, new = start(user_id, at)
        kind = device(request.user_agent.string)
        self.site.sessions.put(new, device=kind, time_zone=person.time_zone)
        browser.clear()
        browser.permanent = True
        browser[_SECRET], browser[_BEGAN] = secret, at.isoformat()
        return redirect(url_for("pages.today"), 303)

    def end_others(self) -> Response:
        """End all sessions of whoever asks but this one, which becomes another one."""
        self.site.end_sessions(g.me.id)
        g.session = None
        return self.begin_session(g.me.id, self.now)

    def end_session(self) -> None:
        """Sign out."""
        if g.session:
            self.site.sessions.sign_out(g.session.id, self.site.clock())
        browser.clear()

    def limit(self, what: str, per_minute: int, *, by_address: bool = True) -> None:
        """Count a request. Raises an `HTTPError` if there were too many."""
        key = f"{what} {request.remote_addr}" if by_address else what
        seconds = self.site.limits.hit(key, per_minute)
        if seconds:
            told = "That was too often. Wait a minute and try again."
            raise refuse(429, told, headers={"Retry-After": str(seconds)})

    def check_password(self) -> None:
        """Raises `NotAccepted` if the form has not the password of whoever asks."""
        self.limit(f"password {g.me.id}", 5, by_address=False)
        with self.site.tables() as tables:
            check_own_password(
                tables, self.site.passwords, g.me.id, request.form.get("password", "")
            )

    @property
    def now(self) -> datetime:
        """The time, in UTC."""
        return self.site.clock()

    @property
    def day(self) -> date:
        """The date on the clock of whoever asks."""
        return self.now.astimezone(zone_of(g.me)).date()


def zone_of(person: Person) -> ZoneInfo:
    """Somebody's time zone."""
    return ZoneInfo(person.time_zone)


def page(template: str, errors: dict[str, str] | None = None, **values: Any) -> Any:
    """A page. With errors, its status says so."""
    return render_template(template, errors=errors or {}, **values), 422 if errors else 200


def device(agent: str) -> str:
    """The kind of device that a browser runs on, as it says itself."""
    if re.search("iPad|Tablet", agent) or ("Android" in agent and "Mobile" not in agent):
        return "tablet"
    return "phone" if re.search("Mobi|iPhone", agent) else "computer"
