"""Tables and passwords of the fitness application, in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from softcart_assets.inspire_app.accounts import LINK_IS_GOOD_FOR, Link, Profile
from softcart_assets.inspire_app.links import Use, kept_form
from softcart_assets.inspire_app.outbox import Message

NOW = datetime(2026, 6, 15, 10, tzinfo=UTC)
GOOD = "correct horse battery"


class Memory:
    """The tables in memory. `calls`: what was asked, in order."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.links: dict[str, Link] = {}
        self.users: dict[str, int] = {}
        self.passwords: dict[int, str] = {}
        self.calls: list[str] = []

    def atomically(self, work: Callable[[], Any]) -> Any:
        self.calls.append("atomically")
        return work()

    def add_message(self, message: Message) -> None:
        self.calls.append("add_message")
        self.messages.setdefault(message.key, message)

    def link(self, digest: str) -> Link | None:
        return self.links.get(digest)

    def mark_used(self, digest: str, now: datetime) -> None:
        self.links[digest] = replace(self.links[digest], used_at=now)

    def user_id(self, key: str) -> int | None:
        self.calls.append("user_id")
        return self.users.get(key)

    def password(self, user_id: int) -> str | None:
        self.calls.append("password")
        return self.passwords.get(user_id)

    def add_user(self, email: str, key: str, profile: Profile, now: datetime) -> int:
        self.users[key] = len(self.users) + 1
        return self.users[key]

    def set_password(self, user_id: int, kept: str, now: datetime) -> None:
        self.passwords[user_id] = kept

    def end_tokens(self, user_id: int, now: datetime) -> None:
        self.calls.append("end_tokens")

    def send(self, secret: str, email: str, use: Use = Use.CONFIRM) -> None:
        digest = kept_form(secret)
        self.links[digest] = Link(digest, use, email, NOW + LINK_IS_GOOD_FOR)


class Plain:
    """Passwords that are not hashed. `verified`: how often a hash was worked out."""

    verified = 0

    def hash(self, password: str) -> str:
        return f"kept {password}"

    def verify(self, kept: str | None, password: str) -> bool:
        self.verified += 1
        return kept == f"kept {password}"
