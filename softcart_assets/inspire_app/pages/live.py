"""What somebody and their clubs do, as it happens: server-sent events over the running totals."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import simplejson
from flask import Response, current_app, g, render_template, stream_with_context

from softcart_assets.inspire_app import goals as weeks
from softcart_assets.inspire_app.clubs import Joined, joined, teams
from softcart_assets.inspire_app.pages.base import Base, signed_in
from softcart_assets.inspire_app.site import Site
from softcart_assets.inspire_app.streaks import streak
from softcart_assets.web.app import POLICY, WITH_SCRIPTS
from softcart_assets.web.live import OpenPages, Ticker, Unavailable

_LIVE_SECONDS: Final = 60.0
"""After this time a page asks anew: its session may be over."""
_EVERY_SECONDS: Final = 0.2
_PAGES: Final = 8
_PAGES_OF_A_PERSON: Final = 2
_LONGEST_STREAK: Final = timedelta(days=1000)


class Live(Base):
    """See the top of this module."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._ticker = Ticker(site.totals.stands, _EVERY_SECONDS)
        self._open = OpenPages(_PAGES, _PAGES_OF_A_PERSON)

    @signed_in
    def live(self) -> Response:
        """Today, the week, the streak and the challenges of clubs, by the running totals."""
        try:
            figures = self._figures(self._asked())
        except Unavailable as error:
            figures = f'<p class="error" role="alert">{error}</p>'
        response = current_app.make_response(render_template("live.html", figures=figures))
        response.headers["Content-Security-Policy"] = POLICY + WITH_SCRIPTS
        return response

    @signed_in
    def live_events(self) -> Response:
        """The same, as events: as soon as it is different."""
        owner, asked = str(g.me.id), self._asked()
        self._open.enter(owner)
        response = Response(
            stream_with_context(self._moves(asked)),
            mimetype="text/event-stream",
            # A proxy must not wait until it has much of it.
            headers={"X-Accel-Buffering": "no"},
        )
        # Also if nobody has read any of it.
        response.call_on_close(lambda: self._open.leave(owner))
        return response

    def _asked(self) -> tuple[int, frozenset[int], Joined]:
        """Whose totals: the person, rest days, challenges."""
        with self.site.tables() as tables:
            challenges = joined(tables, g.me.id, self.day)
        return g.me.id, self.site.documents.preferences(g.me.id).rest_days, challenges

    def _moves(self, asked: tuple[Any, ...]) -> Iterator[str]:
        shown, tick, ends = "", 0, time.monotonic() + _LIVE_SECONDS
        while time.monotonic() < ends:
            try:
                found = self._figures(asked)
            except Unavailable:
                # The browser asks again after a while.
                return
            # A line of comment shows whether the browser is still there.
            yield f"data: {simplejson.dumps(found)}\n\n" if found != shown else ":\n\n"
            shown, tick = found, self._ticker.after(tick)

    def _figures(self, asked: tuple[Any, ...]) -> str:
        user_id, rest_days, challenges = asked
        day = self.day
        days = self.site.totals.days(user_id, day - _LONGEST_STREAK)
        week = [each for each in days if weeks.monday(day) <= each.day <= day]
        return render_template(
            "live_figures.html",
            parts=[("Today", [each for each in week if each.day == day]), ("This week", week)],
            streak=streak({each.day for each in days}, day, rest_days),
            teams=teams(self.site, challenges, user_id, day),
        )
