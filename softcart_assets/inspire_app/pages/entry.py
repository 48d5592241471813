"""The way in and out: a link by mail, a password, a code, and signing out."""

from __future__ import annotations

from datetime import date
from typing import Any

from flask import flash, g, redirect, request, url_for
from flask import session as browser

from softcart_assets.inspire_app import accounts
from softcart_assets.inspire_app.accounts import NotAccepted, Profile
from softcart_assets.inspire_app.links import Use, kept_form
from softcart_assets.inspire_app.pages.base import SIGN_IN, Base, page, signed_in
from softcart_assets.inspire_app.people import email_key
from softcart_assets.inspire_app.places import country_of, likely_zone, zones
from softcart_assets.inspire_app.second_factor import is_of_application, take_code
from softcart_assets.inspire_app.storage.factors import Factors


class Entry(Base):
    """See the top of this module."""

    def ask(self) -> Any:
        """Ask for a link: for a new account, or for a new password."""
        if request.method == "GET":
            return page("start.html")
        self.limit("ask", 5)
        try:
            with self.site.tables() as tables:
                accounts.ask_for_link(tables, request.form.get("email", ""), self.now)
        except NotAccepted as error:
            return page("start.html", error.errors)
        return page("sent.html", email=request.form["email"].strip())

    def finish(self, secret: str) -> Any:
        """Use a link."""
        self.limit("link", 30)
        with self.site.tables() as tables:
            link = accounts.opened(tables, secret, self.now)
            if link is None:
                return page("gone.html")[0], 410
            is_new = link.use is Use.CONFIRM
            errors: dict[str, str] = {}
            if request.method == "POST":
                try:
                    user_id = accounts.finish(
                        tables,
                        self.site.passwords,
                        secret,
                        request.form.get("password", ""),
                        profile_of_form() if is_new else None,
                        self.now,
                        self.site.is_leaked,
                    )
                except NotAccepted as error:
                    errors = error.errors
                else:
                    if user_id is None:
                        return page("gone.html")[0], 410
                    self.site.end_sessions(user_id)
                    # The link stands for the password, and not for the second factor.
                    response = self.let_in(user_id, self.now)
                    # Somebody new says what for.
                    if is_new:
                        response.headers["Location"] = url_for("pages.goals")
                    return response
        zone = likely_zone(request.headers.get("Accept-Language", ""))
        return page(
            "finish.html", errors, is_new=is_new, email=link.email, zones=zones(), zone=zone
        )

    def sign_in(self) -> Any:
        """Sign in by password."""
        if request.method == "GET":
            return page("sign_in.html")
        email, password = request.form.get("email", ""), request.form.get("password", "")
        self.limit("sign-in", 20)
        # One account may be tried from many addresses.
        self.limit(f"sign-in {kept_form(email_key(email) or '')}", 5, by_address=False)
        at = self.now
        with self.site.tables() as tables:
            user_id = accounts.sign_in(tables, self.site.passwords, email, password)
        if user_id is None:
            told = {"password": "Address and password do not fit together."}
            return page("sign_in.html", told)[0], 401
        return self.let_in(user_id, at)

    def code(self) -> Any:
        """The second step of signing in: a code, after the password."""
        digest, at = kept_form(browser.get(SIGN_IN, "")), self.now
        with self.site.tables() as tables:
            factors = Factors(tables)
            user_id = factors.signing_in(digest, at)
            if user_id is None:
                return redirect(url_for("pages.sign_in"), 303)
            if request.method == "GET":
                return page("code.html")
            field = "recovery" if "recovery" in request.form else "code"
            text = request.form.get(field, "")
            self.limit("code", 20)
            # Nobody who only tries keeps out the person with a recovery code.
            if is_of_application(text):
                self.limit(f"code {user_id}", 5, by_address=False)
            try:
                used = take_code(factors, self.site.vault, user_id, text, at)
            except NotAccepted as error:
                return page("code.html", {field: error.errors["code"]})[0], 401
            factors.end_sign_in(digest)
            left = factors.codes_left(user_id)
        response = self.begin_session(user_id, at)
        if used:
            codes = "code" if left == 1 else "codes"
            flash(f"You have {left} recovery {codes} left. Make other ones under Settings.")
        return response

    def sign_out(self) -> Any:
        """Sign out."""
        self.end_session()
        return redirect(url_for("pages.sign_in"), 303)

    @signed_in
    def sign_out_everywhere(self) -> Any:
        """End all sessions, on all devices."""
        self.site.end_sessions(g.me.id)
        return self.sign_out()


def profile_of_form() -> Profile:
    """What the form says about somebody. Raises `NotAccepted`."""
    form, born = request.form, None
    if form.get("birth_date"):
        try:
            born = date.fromisoformat(form["birth_date"])
        except ValueError:
            raise NotAccepted({"birth_date": "Write a date."}) from None
    zone = form.get("time_zone", "")
    return Profile(
        form.get("full_name", "").strip(),
        zone,
        form.get("region", "").strip(),
        # Nobody needs to be asked for a country beside a zone.
        country_of().get(zone, "").upper(),
        born,
    )
