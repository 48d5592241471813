"""Other applications: the tokens by which they act for somebody."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from flask import g, redirect, request, url_for

from softcart_assets.inspire_app import tokens
from softcart_assets.inspire_app.accounts import NotAccepted
from softcart_assets.inspire_app.pages.base import Base, page, signed_in
from softcart_assets.inspire_app.storage.tokens import Tokens

_DAYS: Final = ("30", "90", "365")


class Apps(Base):
    """See the top of this module."""

    @signed_in
    def apps(self) -> Any:
        """Make tokens, and end them."""
        errors: dict[str, str] = {}
        made = ""
        with self.site.tables() as tables:
            kept = Tokens(tables)
            if request.method == "POST":
                self.limit(f"tokens {g.me.id}", 20, by_address=False)
                ended = request.form.get("end", "")
                if ended:
                    if ended.isascii() and ended.isdecimal() and len(ended) < 18:
                        kept.revoke(g.me.id, int(ended), self.now)
                    return redirect(url_for("pages.apps"), 303)
                name, scopes = request.form.get("name", "").strip(), request.form.getlist("scopes")
                days = request.form.get("days", "")
                errors = tokens.problems(name, scopes)
                if len(kept.every(g.me.id, self.now)) >= tokens.MOST:
                    errors["name"] = "You have many tokens. End one that you do not use."
                try:
                    # A token outlasts the session that makes it.
                    self.check_password()
                except NotAccepted as error:
                    errors |= error.errors
                if not errors:
                    made = tokens.new_token()
                    ends = self.now + timedelta(days=int(days) if days in _DAYS else 90)
                    digest = tokens.digest(made)
                    assert digest
                    kept.add(g.me.id, digest, name, scopes, self.now, ends)
            return page(
                "apps.html",
                errors,
                tokens=kept.every(g.me.id, self.now),
                scopes=tokens.SCOPES,
                days=_DAYS,
                made=made,
            )
