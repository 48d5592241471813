"""The second factor: turning it on and off, and new recovery codes."""

from __future__ import annotations

import re
from typing import Any

from flask import flash, g, redirect, request, url_for
from markupsafe import Markup

from softcart_assets.inspire_app import second_factor as factors
from softcart_assets.inspire_app.accounts import NotAccepted
from softcart_assets.inspire_app.pages.base import Base, page, signed_in
from softcart_assets.inspire_app.second_factor import Change, notice
from softcart_assets.inspire_app.storage.factors import Factors


class SecondFactor(Base):
    """See the top of this module."""

    @signed_in
    def second_factor(self) -> Any:
        """Turn it on, turn it off, make other recovery codes."""
        errors: dict[str, str] = {}
        if request.method == "POST":
            try:
                if g.me.has_second_factor:
                    return self._change()
                return self._turn_on() if request.form.get("sealed") else self._begin()
            except NotAccepted as error:
                errors = error.errors
        with self.site.tables() as tables:
            left = Factors(tables).codes_left(g.me.id)
        is_needed = self.site.settings.needs_second_factor
        return page("second_factor.html", errors, left=left, is_needed=is_needed)

    def _begin(self) -> Any:
        self.check_password()
        secret = factors.new_secret()
        return self._secret(secret, self.site.vault.seal(g.me.id, secret, self.now))

    def _secret(self, secret: str, sealed: str, errors: dict[str, str] | None = None) -> Any:
        address = factors.address(secret, g.me.email)
        return page(
            "set_up_factor.html",
            errors,
            # It comes from the library, and from nothing that somebody wrote.
            picture=Markup(factors.picture(address)),
            address=address,
            secret=" ".join(re.findall("....", secret)),
            # Nothing is kept before a code was right. The page has it meanwhile, encrypted.
            sealed=sealed,
        )

    def _turn_on(self) -> Any:
        self.limit(f"code {g.me.id}", 5, by_address=False)
        sealed = request.form["sealed"]
        secret = self.site.vault.opened(g.me.id, sealed, self.now, factors.SET_UP_WITHIN)
        if secret is None:
            raise NotAccepted({"password": "That took too long. Begin again."})
        step = factors.step_of(secret, request.form.get("code", ""), self.now)
        if step is None:
            told = "This is not the code. Look whether the clock of your phone is right."
            return self._secret(secret, sealed, {"code": told})
        codes = factors.new_recovery_codes()
        with self.site.tables() as tables:
            kept = Factors(tables)

            def turn_on() -> bool:
                is_new = kept.turn_on(g.me.id, sealed, step, self.now)
                if is_new:
                    self._set_codes(kept, codes, Change.ON)
                return is_new

            is_new = kept.atomically(turn_on)
        # Another device was faster.
        if not is_new:
            return redirect(url_for("pages.second_factor"), 303)
        return self._told(codes)

    def _change(self) -> Any:
        what = request.form.get("what", "")
        # Before a code is used up.
        if what not in ("codes", "off"):
            raise NotAccepted({"what": "Choose what you want."})
        self.check_password()
        code = request.form.get("code", "")
        # As at sign-in: nobody who only tries keeps out the person with a recovery code.
        if factors.is_of_application(code):
            self.limit(f"code {g.me.id}", 5, by_address=False)
        codes = factors.new_recovery_codes()
        with self.site.tables() as tables:
            kept = Factors(tables)
            factors.take_code(kept, self.site.vault, g.me.id, code, self.now)
            kept.atomically(lambda: self._write(kept, what, codes))
        if what == "codes":
            return self._told(codes)
        response = self.end_others()
        # Afterwards: a new session forgets what the browser had.
        flash("It is off. You are signed out on all other devices.")
        return response

    def _write(self, kept: Factors, what: str, codes: list[str]) -> None:
        if what == "codes":
            self._set_codes(kept, codes, Change.NEW_CODES)
        else:
            kept.turn_off(g.me.id)
            kept.add_message(notice(g.me.id, Change.OFF, self.now))

    def _set_codes(self, kept: Factors, codes: list[str], change: Change) -> None:
        kept.set_recovery_codes(g.me.id, factors.recovery_digests(codes), self.now)
        kept.add_message(notice(g.me.id, change, self.now))

    def _told(self, codes: list[str]) -> Any:
        self.end_others()
        return page("recovery_codes.html", codes=codes)
