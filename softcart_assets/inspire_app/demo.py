"""The login of the demo: one of its made-up people gets a password."""

from __future__ import annotations

import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Final

from softcart_assets.inspire_app.site import Site
from softcart_assets.paths import softcart_home

_LATELY: Final = timedelta(days=30)


def _file() -> Path:
    return softcart_home() / "inspire_app.demo"


def give_login(site: Site) -> None:
    """Give a password to somebody who trains often, unless there is one of this home already."""
    with site.tables() as tables:
        kept = login()
        if kept and tables.password(tables.user_id(kept[0].casefold()) or 0):
            return
        people = tables.candidates()
        if not people:
            return
        since = (site.clock() - _LATELY).date()
        user_id, email = max(people, key=lambda each: len(site.documents.since(each[0], since)))
        password = "-".join(secrets.token_hex(3) for _ in range(3))
        tables.set_password(user_id, site.passwords.hash(password), site.clock())
    # Only the owner reads it, as the passwords of the servers.
    with open(os.open(_file(), os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "w") as file:
        file.write(f"{email}\n{password}\n")


def login() -> tuple[str, str] | None:
    """The address and the password. None: there is no login."""
    if not _file().is_file():
        return None
    email, password = _file().read_text().split()
    return email, password
