"""The tokens of people in MySQL or MariaDB."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

from softcart_assets.inspire_app.storage.rows import Database, naive
from softcart_assets.inspire_app.tokens import Token

_IS_VALID: Final = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > %s)"


class Tokens:
    """The table `api_tokens`, by somebody's connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, digest: str, now: datetime) -> Token | None:
        """The valid token of a digest, if its person still has an account."""
        row = self._database._row(
            f"SELECT t.* FROM api_tokens AS t JOIN users AS u ON u.id = t.user_id "
            f"WHERE t.digest = %s AND u.state = 'active' AND {_IS_VALID}",
            (digest, naive(now)),
        )
        return _token(row) if row else None

    def every(self, user_id: int, now: datetime) -> list[Token]:
        """Somebody's valid tokens, the newest first."""
        rows = self._database._rows(
            f"SELECT * FROM api_tokens WHERE user_id = %s AND {_IS_VALID} ORDER BY id DESC",
            (user_id, naive(now)),
        )
        return [_token(row) for row in rows]

    def add(
        self,
        user_id: int,
        digest: str,
        name: str,
        scopes: Collection[str],
        now: datetime,
        expires_at: datetime | None,
    ) -> None:
        """Keep a new token."""
        self._database._execute(
            "INSERT INTO api_tokens (user_id, digest, name, scopes, created_at, expires_at) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (user_id, digest, name, " ".join(sorted(scopes)), naive(now), naive(expires_at)),
        )

    def revoke(self, user_id: int, id: int, now: datetime) -> None:
        """End one of somebody's tokens."""
        self._database._execute(
            "UPDATE api_tokens SET revoked_at = %s WHERE id = %s AND user_id = %s "
            "AND revoked_at IS NULL",
            (naive(now), id, user_id),
        )


def _token(row: Mapping[str, Any]) -> Token:
    return Token(
        row["id"],
        row["user_id"],
        row["name"],
        frozenset(row["scopes"].split()),
        row["created_at"],
        row["expires_at"],
    )
