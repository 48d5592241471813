"""Bearer tokens: who may ask, for what, and how often.

A token is `softcart_<id>_<secret>`. The secret is 256 random bits. Only its SHA-256 is kept: nobody
can find a secret of that length by trying, so a slow hash would only cost time at each request.
"""

from __future__ import annotations

import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import psycopg
from psycopg.rows import class_row

from softcart_assets.connections import PostgresConnection
from softcart_assets.migrations import migrate

SCOPES = {
    "people:read": "Read everything about one person, whose number or key is known.",
    "people:search": "Find people by the beginning of their names.",
}
"""What a token may be for."""

KEPT_SECONDS = 2.0
"""So long a process may take a token for valid after it was revoked."""
UNKNOWN_PER_SECOND = 10
"""So often a process asks the database about tokens that it does not know."""

_FORM = re.compile(r"softcart_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class TokenError(RuntimeError):
    """A token cannot be made or revoked. The message says why."""


@dataclass(frozen=True)
class Token:
    """A token as it is kept. `purpose`: what people are looked up for with it."""

    id: str
    digest: bytes
    name: str
    scopes: list[str]
    purpose: str
    per_minute: int
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    @property
    def is_valid(self) -> bool:
        """Whether it may be used now."""
        return self.revoked_at is None and (
            self.expires_at is None or datetime.now(UTC) < self.expires_at
        )


def prepare(connection: psycopg.Connection) -> None:
    """Bring the tables of this package to this release."""
    migrate(connection, "serving", Path(__file__).parent / "migrations")


def create(
    staging: PostgresConnection,
    name: str,
    scopes: Collection[str],
    purpose: str,
    per_minute: int,
    expires_at: datetime | None = None,
) -> str:
    """Make a token and return it. It cannot be read again. Raises `TokenError`."""
    unknown = sorted(set(scopes) - SCOPES.keys())
    if unknown or not scopes:
        raise TokenError(
            f"There is no scope {', '.join(unknown) or 'given'}. Choose from {', '.join(SCOPES)}."
        )
    id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    with staging.connect() as connection:
        prepare(connection)
        connection.execute(
            "INSERT INTO serving.tokens (id, digest, name, scopes, purpose, per_minute, expires_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            (id, _digest(secret), name, sorted(scopes), purpose, per_minute, expires_at),
        )
    return f"softcart_{id}_{secret}"


def every(staging: PostgresConnection) -> list[Token]:
    """All tokens, the newest first, revoked ones too."""
    with staging.connect() as connection, connection.cursor(row_factory=class_row(Token)) as cursor:
        prepare(connection)
        return cursor.execute("SELECT * FROM serving.tokens ORDER BY created_at DESC").fetchall()


def revoke(staging: PostgresConnection, id: str) -> None:
    """End a token. Raises `TokenError` if there is none of that id that is not revoked yet."""
    with staging.connect() as connection:
        prepare(connection)
        found = connection.execute(
            "UPDATE serving.tokens SET revoked_at = now() WHERE id = %s AND revoked_at IS NULL",
            (id,),
        )
        if not found.rowcount:
            raise TokenError(f"There is no valid token {id!r}. `softcart tokens list` shows them.")


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()


class TooManyUnknown(RuntimeError):
    """So many unknown tokens were shown that the database is not asked about this one."""


class Tokens:
    """Finds valid tokens. It reads all of them, at most every `KEPT_SECONDS`.

    An unknown one may be new, so it makes them be read again, up to `UNKNOWN_PER_SECOND`. So
    whoever makes tokens up takes no connection from those who have one.

    `read`: returns the tokens that were not revoked.
    """

    def __init__(self, read: Callable[[], Iterable[Token]]) -> None:
        self._read = read
        self._found: dict[str, Token] = {}
        self._read_at = -math.inf
        self._unknown = 0, 0
        self._lock = threading.Lock()

    def by_id(self, id: str) -> Token | None:
        """The token of an id, if it is valid. Raises `TooManyUnknown`."""
        is_old = time.monotonic() > self._read_at + KEPT_SECONDS
        if is_old or id not in self._found:
            if not is_old and not self._may_read():
                raise TooManyUnknown("Too many tokens that nobody knows were shown. Ask again.")
            # Outside of the lock: if the database is slow, threads must not wait for each other.
            began = time.monotonic()
            found = {token.id: token for token in self._read()}
            with self._lock:
                if began > self._read_at:
                    self._found, self._read_at = found, began
        token = self._found.get(id)
        return token if token and token.is_valid else None

    def _may_read(self) -> bool:
        with self._lock:
            second, count = self._unknown
            now = int(time.monotonic())
            self._unknown = now, count + 1 if now == second else 1
            return self._unknown[1] <= UNKNOWN_PER_SECOND

    def of(self, text: str) -> Token | None:
        """The token that somebody shows, if it is valid. Raises `TooManyUnknown`."""
        form = _FORM.fullmatch(text)
        token = self.by_id(form[1]) if form else None
        # The comparison takes as long whatever is shown, so its time tells nothing.
        shown = _digest(form[2] if form else "")
        is_right = hmac.compare_digest(shown, token.digest if token else bytes(32))
        return token if token and is_right else None
