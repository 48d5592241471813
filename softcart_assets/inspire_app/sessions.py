"""Sessions: who has signed in, on which device, and until when.

The browser has a secret, and the database has its digest. So nobody who reads the database can use
a session of it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from softcart_assets.inspire_app.links import kept_form

IDLE: Final = timedelta(days=14)
"""A session ends after so long without a request."""

LONGEST: Final = timedelta(days=90)
"""A session ends after so long in any case."""

_SEEN_AGAIN: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Session:
    """`id`: the digest of the browser's secret. The database deletes it some time after
    `expires_at`, so whoever reads one asks `is_valid`.
    """

    id: str
    user_id: int
    started_at: datetime
    seen_at: datetime
    expires_at: datetime

    def is_valid(self, now: datetime) -> bool:
        """Whether somebody with its secret is signed in."""
        return now < self.expires_at

    def seen(self, now: datetime) -> Session | None:
        """The session after a request. None: it was seen lately, and need not be written."""
        if now - self.seen_at < _SEEN_AGAIN:
            return None
        return replace(self, seen_at=now, expires_at=min(now + IDLE, self.started_at + LONGEST))


def start(user_id: int, now: datetime) -> tuple[str, Session]:
    """A new session and its secret for the browser. Every sign-in has its own."""
    secret = secrets.token_urlsafe(32)
    return secret, Session(kept_form(secret), user_id, now, now, now + IDLE)
