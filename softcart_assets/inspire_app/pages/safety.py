"""What needs the password once more: number, password, and the sessions on other devices."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from flask import flash, g, redirect, request, url_for

from softcart_assets.inspire_app.accounts import (
    NotAccepted,
    change_password,
    confirmation,
)
from softcart_assets.inspire_app.pages.base import Base, page, signed_in, zone_of
from softcart_assets.inspire_app.people import phone_number

_TEXTS_A_DAY: Final = 3
"""Each costs money, and goes to a number that may be anybody's."""


class Safety(Base):
    """See the top of this module."""

    @signed_in
    def password(self) -> Any:
        """Choose another password. All other sessions end."""
        if request.method == "GET":
            return page("password.html")
        self.limit(f"password {g.me.id}", 5, by_address=False)
        form, me = request.form, g.me
        try:
            with self.site.tables() as tables:
                change_password(
                    tables,
                    self.site.passwords,
                    me.id,
                    me.email,
                    form.get("password", ""),
                    form.get("new", ""),
                    self.now,
                    self.site.is_leaked,
                )
        except NotAccepted as error:
            return page("password.html", error.errors)
        response = self.end_others()
        # Afterwards: a new session forgets what the browser had.
        flash("Your password is changed. You are signed out on all other devices.")
        return response

    @signed_in
    def phone(self) -> Any:
        """Keep another number."""
        if request.method == "GET":
            return page("phone.html", me=g.me)
        text = request.form.get("phone", "").strip()
        number = phone_number(text) if text else None
        try:
            self.check_password()
            if text and number is None:
                raise NotAccepted({"phone": "Write it with +, such as +44 7700 900123."})
        except NotAccepted as error:
            return page("phone.html", error.errors, me=g.me)
        with self.site.tables() as tables:

            def keep() -> None:
                tables.set_phone(g.me.id, number)
                if number:
                    tables.add_message(confirmation(g.me.id, number, self.now))

            if number and tables.numbers_asked(g.me.id, self.now) >= _TEXTS_A_DAY:
                told = "You have given several numbers today. Try again tomorrow."
                return page("phone.html", {"phone": told}, me=g.me)
            tables.atomically(keep)
        flash("Saved. Answer the message that we send there." if number else "Saved.")
        return redirect(url_for("pages.settings"), 303)

    @signed_in
    def sessions(self) -> Any:
        """Where somebody is signed in. Any of these sessions can be ended."""
        found = self.site.sessions.everything(g.me.id)
        errors: dict[str, str] = {}
        if request.method == "POST":
            try:
                self.check_password()
            except NotAccepted as error:
                errors = error.errors
            else:
                # Only those of whoever asks are in `found`.
                for id in found.keys() & set(request.form.getlist("session")):
                    self.site.sessions.sign_out(id, self.now)
                flash("They are signed out.")
                return redirect(url_for("pages.sessions"), 303)
        zone, now = zone_of(g.me), self.now.timestamp()
        shown = [
            {
                "id": id,
                "device": each["device"],
                "started": datetime.fromtimestamp(each["started_at"], UTC).astimezone(zone),
                "seen": datetime.fromtimestamp(each["seen_at"], UTC).astimezone(zone),
                "is_this": id == g.session.id,
            }
            for id, each in found.items()
            if each["expires_at"] > now
        ]
        return page("sessions.html", errors, sessions=shown)
