"""The settings of the application, from the environment."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import NamedTemporaryFile
from typing import Final
from urllib.parse import urlsplit

from softcart_assets.connections import LOOPBACK, SettingError, setting
from softcart_assets.paths import softcart_home

PORT: Final = 8091
"""The usual port of `softcart serve inspire`."""

PREFIX: Final = "SOFTCART_INSPIRE_APP"

_SECRET: Final = f"{PREFIX}_SECRET"
_SHORTEST_SECRET: Final = 32
_PROXIES: Final = f"{PREFIX}_PROXIES"
_SECOND_FACTOR: Final = f"{PREFIX}_SECOND_FACTOR"


@dataclass(frozen=True)
class Settings:
    """`secret`: signs sessions and links. `url`: where people find the application. `proxies`: how
    many stand before it, see `App`. `needs_second_factor`: nobody goes on without one.
    """

    secret: bytes = field(repr=False)
    url: str
    proxies: int = 0
    needs_second_factor: bool = False

    @classmethod
    def from_env(cls, url: str = f"http://127.0.0.1:{PORT}") -> Settings:
        """Read them. `url`: if none is set. Raises `SettingError`."""
        found = setting(f"{PREFIX}_URL", url).rstrip("/")
        parts = urlsplit(found)
        is_safe = parts.scheme == "https" or parts.hostname in LOOPBACK
        if not (is_safe and parts.hostname and not parts.path):
            raise SettingError(f"{PREFIX}_URL must be https://<name>, and not {found!r}.")
        secret = os.environ.get(_SECRET) or _own_secret()
        if len(secret) < _SHORTEST_SECRET:
            raise SettingError(f"{_SECRET} must have at least {_SHORTEST_SECRET} characters.")
        proxies = setting(_PROXIES, "0")
        if not re.fullmatch("[0-9]", proxies):
            raise SettingError(f"{_PROXIES} must be a number from 0 to 9, and not {proxies!r}.")
        wanted = setting(_SECOND_FACTOR, "optional")
        if wanted not in ("optional", "required"):
            raise SettingError(f"{_SECOND_FACTOR} must be optional or required, not {wanted!r}.")
        return cls(secret.encode(), found, int(proxies), wanted == "required")

    @property
    def is_public(self) -> bool:
        """Whether browsers come by https. Then they send cookies by no other way."""
        return self.url.startswith("https:")

    @property
    def hosts(self) -> list[str]:
        """The name by which people reach the proxy with TLS before the server."""
        return [urlsplit(self.url).hostname or ""] if self.is_public else []


def _own_secret() -> str:
    """The secret of this machine's stack, made at the first start."""
    path = softcart_home() / "inspire_app.secret"
    # It is whole as soon as it is there: another process may begin, too, and this one may end.
    with NamedTemporaryFile("w", dir=path.parent, prefix=path.name) as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        with suppress(FileExistsError):
            os.link(file.name, path)
    return path.read_text()
