"""Tokens by which other applications act for a person."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from softcart_assets.inspire_app.links import kept_form

SCOPES: Final = {
    "workouts:read": "Read your workouts, your days and your streak.",
    "workouts:write": "Log, import, change and delete workouts.",
    "profile:read": "Read your goals and settings.",
    "profile:write": "Change your goals and settings.",
}
"""What a token may be for, as people are told."""

LONGEST: Final = timedelta(days=366)
MOST: Final = 20
"""So many valid tokens somebody may have."""

_FORM: Final = re.compile(r"inspire_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Token:
    """A token as it is kept: its digest, and not the token."""

    id: int
    user_id: int
    name: str
    scopes: frozenset[str]
    created_at: datetime
    expires_at: datetime | None


def new_token() -> str:
    """A token of 256 random bits. It is told once."""
    return f"inspire_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str | None:
    """What the database keeps of a token. None: it has not the form of one."""
    return kept_form(token) if _FORM.fullmatch(token) else None


def problems(name: str, scopes: Collection[str]) -> dict[str, str]:
    """What is wrong with a token that somebody wants: field → what to do."""
    found = {}
    if not 1 <= len(name) <= 100 or not name.isprintable():
        found["name"] = "Give it a name, such as that of the application."
    if not scopes or set(scopes) - SCOPES.keys():
        found["scopes"] = "Choose what it may do."
    return found
