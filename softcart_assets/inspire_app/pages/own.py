"""What is somebody's own: settings, data, and the end of an account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, time
from typing import Any, Final

import simplejson
from bson.decimal128 import Decimal128
from flask import Response, flash, g, redirect, request, url_for

from softcart_assets.inspire_app.accounts import NotAccepted, check_profile
from softcart_assets.inspire_app.hours import QuietHours
from softcart_assets.inspire_app.outbox import Channel, Purpose
from softcart_assets.inspire_app.pages.base import Base, page, signed_in
from softcart_assets.inspire_app.pages.entry import profile_of_form
from softcart_assets.inspire_app.places import zones
from softcart_assets.inspire_app.preferences import (
    EQUIPMENT,
    EXPERIENCES,
    MOODS,
    Notifications,
)

WORDINGS: Final[Mapping[tuple[Channel, Purpose], str]] = {
    (Channel.EMAIL, Purpose.REMINDER): "Send me reminders of my workouts by e-mail.",
    (Channel.EMAIL, Purpose.QUOTE): "Send me a quote for the day by e-mail.",
    (Channel.EMAIL, Purpose.NEWS): "Send me news about Inspire by e-mail.",
    (Channel.SMS, Purpose.REMINDER): "Send me reminders of my workouts by SMS.",
    (Channel.SMS, Purpose.QUOTE): "Send me a quote for the day by SMS.",
}
"""What somebody can consent to, in the words that are kept with a consent."""

WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Own(Base):
    """See the top of this module."""

    def _settings(self, errors: dict[str, str] | None = None) -> Any:
        with self.site.tables() as tables:
            consents = tables.consents(g.me.id)
        return page(
            "settings.html",
            errors,
            me=g.me,
            likes=self.site.documents.preferences(g.me.id),
            consents=consents,
            wordings=WORDINGS,
            weekdays=WEEKDAYS,
            zones=zones(),
            experiences=EXPERIENCES,
            moods=MOODS,
            equipment=EQUIPMENT,
        )

    @signed_in
    def settings(self) -> Any:
        """All settings."""
        return self._settings()

    @signed_in
    def profile(self) -> Any:
        """Keep who somebody is."""
        try:
            wanted = profile_of_form()
            check_profile(wanted, self.now)
        except NotAccepted as error:
            return self._settings(error.errors)
        with self.site.tables() as tables:
            tables.change(g.me.id, wanted)
        return self._kept()

    @signed_in
    def training(self) -> Any:
        """Keep how somebody wants to train."""
        form = request.form
        likes = replace(
            self.site.documents.preferences(g.me.id),
            experience=_one(form.get("experience"), EXPERIENCES) or "new",
            mood=_one(form.get("mood"), MOODS),
            equipment=frozenset(form.getlist("equipment")) & frozenset(EQUIPMENT),
            rest_days=_days("rest_days"),
        )
        names = "experience", "mood", "equipment", "rest_days"
        self.site.documents.set_preferences(g.me.id, likes, self.now, *names)
        return self._kept()

    @signed_in
    def messages(self) -> Any:
        """Keep what may be sent to somebody, and when."""
        form = request.form
        wanted = {
            each: wording
            for each, wording in WORDINGS.items()
            if form.get(f"{each[0]}_{each[1]}") == "yes"
        }
        try:
            told = Notifications(
                frozenset(str(channel) for channel, _ in wanted),
                _time("reminder_at"),
                form.get("best_hour") == "yes",
                QuietHours(_time("quiet_from"), _time("quiet_until")),
                _days("days"),
            )
        except NotAccepted as error:
            return self._settings(error.errors)
        with self.site.tables() as tables:
            tables.atomically(lambda: tables.set_consents(g.me.id, wanted, self.now))
        likes = replace(self.site.documents.preferences(g.me.id), notifications=told)
        self.site.documents.set_preferences(g.me.id, likes, self.now, "notifications")
        return self._kept()

    def _kept(self) -> Any:
        flash("Saved.")
        return redirect(url_for("pages.settings"), 303)

    @signed_in
    def export(self) -> Response:
        """Everything about somebody, as JSON."""
        self.limit(f"export {g.me.id}", 5, by_address=False)
        with self.site.tables() as tables:
            rows = tables.everything(g.me.id)
        found = {
            "exported_at": self.now,
            **rows,
            **self.site.documents.everything(g.me.id),
            # Without their ids, by which they are found.
            "sessions": [*self.site.sessions.everything(g.me.id).values()],
        }
        text = simplejson.dumps(
            found, default=_json, use_decimal=True, ensure_ascii=False, indent=2
        )
        name = f"inspire-{self.day.isoformat()}.json"
        return Response(
            text,
            mimetype="application/json",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    @signed_in
    def delete(self) -> Any:
        """Delete an account, after its password was given once more."""
        if request.method == "GET":
            return page("delete.html")
        me = g.me
        try:
            self.check_password()
        except NotAccepted as error:
            return page("delete.html", error.errors)
        # If something fails before the account is gone, whoever signs in can try again.
        self.site.sessions.end_all(me.id, self.now)
        self.site.documents.erase(me.id)
        with self.site.tables() as tables:
            tables.atomically(lambda: tables.erase(me.id, self.now))
        # Another device or a program may have written something before that.
        self.site.documents.erase(me.id)
        self.end_session()
        g.me = None
        return page("deleted.html")


def _one(text: str | None, known: tuple[str, ...]) -> str:
    return text if text in known else ""


def _days(name: str) -> frozenset[int]:
    return frozenset(day for day in range(7) if str(day) in request.form.getlist(name))


def _time(name: str) -> time:
    try:
        return time.fromisoformat(request.form.get(name, "")).replace(second=0, microsecond=0)
    except ValueError:
        raise NotAccepted({name: "Write a time, such as 18:00."}) from None


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal128):
        return value.to_decimal()
    return str(value)
